//! Where a file's bytes come from.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use nacre_engine::PinnedFile;
use nacre_segment::foreign::ReadAt;
use nacre_store::{GetOptions, ObjectPath, ObjectStore, ObjectTag};
use nacre_types::{Error, ErrorKind, Result};

use crate::Decode;
use crate::child::{Spawn, SpawnFile};
use crate::decode::Opened;

/// The slowest that a file may be read at in a child, in bytes of the file per CPU second, beyond its first seconds.
const CHILD_BYTES_PER_SECOND: u64 = 8 << 20;

/// The tag that a pinned file must have.
pub(crate) fn tag(file: &PinnedFile) -> ObjectTag {
    ObjectTag { etag: file.etag.clone(), version_id: file.version_id.clone() }
}

/// Opens a pinned file for reading on a thread that may block.
///
/// # Errors
/// `Invalid` (`load-file-changed`) where it is gone or is not what was pinned.
pub(crate) async fn open(store: &Arc<dyn ObjectStore>, file: &PinnedFile, decode: &Decode) -> Result<Opened> {
    let path = ObjectPath::new(&file.path)?;
    check_unchanged(store, file).await?;
    let local = store.local_path(&path);
    let through_the_store = || {
        let runtime = tokio::runtime::Handle::current();
        StoreFile { store: store.clone(), path, tag: tag(file), length: file.bytes, runtime }
    };
    Ok(match (decode, local) {
        (Decode::Child { program, memory_bytes, seconds }, local) => Opened::Child(Spawn {
            program: program.clone(),
            file: local.map_or_else(|| SpawnFile::Asked(Arc::new(through_the_store())), SpawnFile::Here),
            memory_bytes: *memory_bytes,
            // Honest work grows with the file.
            seconds: seconds.saturating_add(file.bytes / CHILD_BYTES_PER_SECOND),
        }),
        (Decode::InProcess, Some(local)) => Opened::Here(Arc::new(
            std::fs::File::open(&local)
                .map_err(|e| Error::unavailable(format!("{}: {e}", file.name)).with_code("load-file"))?,
        )),
        (Decode::InProcess, None) => Opened::Here(Arc::new(through_the_store())),
    })
}

/// Checks that the file is still what was pinned.
///
/// # Errors
/// `Invalid` (`load-file-changed`).
pub(crate) async fn check_unchanged(store: &Arc<dyn ObjectStore>, file: &PinnedFile) -> Result<()> {
    let changed = |what: &str| {
        Error::invalid(format!(
            "the file {what} after the load's files were pinned; load again and leave it alone"
        ))
        .with_code("load-file-changed")
    };
    match store.head(&ObjectPath::new(&file.path)?).await {
        Ok(meta) if is_pinned(&meta.tag, file) && meta.size == file.bytes => Ok(()),
        Ok(_) => Err(changed("was changed")),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(changed("was removed")),
        Err(error) => Err(error),
    }
}

/// A file that was pinned by a listing is known by its etag alone: listings do not tell version ids.
fn is_pinned(found: &ObjectTag, file: &PinnedFile) -> bool {
    found.etag == file.etag && (file.version_id.is_none() || found.version_id == file.version_id)
}

struct StoreFile {
    store: Arc<dyn ObjectStore>,
    path: ObjectPath,
    tag: ObjectTag,
    length: u64,
    runtime: tokio::runtime::Handle,
}

impl ReadAt for StoreFile {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, range: Range<u64>) -> Result<Bytes> {
        if range.start > range.end || range.end > self.length {
            return Err(Error::corrupt(format!(
                "bytes {}..{} lie beyond the end of the file of {} bytes",
                range.start, range.end, self.length
            ))
            .with_code("parquet-truncated"));
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let options = GetOptions { if_tag: Some(self.tag.clone()), ..GetOptions::range(range) };
        Ok(self.runtime.block_on(self.store.get(&self.path, options))?.bytes)
    }

    fn small_reads_are_cheap(&self) -> bool {
        false
    }
}

/// The columns that a file's folders give: `day=2024-01-01/part-0.parquet` has `day`. Hive and Spark write `%3A` for a
/// colon in them, and so on for whatever a file system may not like.
pub(crate) fn folder_columns(name: &str) -> Vec<(String, String)> {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    parts
        .into_iter()
        .filter_map(|part| part.split_once('='))
        .map(|(name, value)| (percent_decoded(name), percent_decoded(value)))
        .collect()
}

/// `%XX` as the byte it stands for; anything else, and what would be no UTF-8, as it stands.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digit = |at: usize| tail.get(at).and_then(|&b| char::from(b).to_digit(16));
        if let (b'%', Some(high), Some(low)) = (*first, digit(0), digit(1)) {
            bytes.push((high * 16 + low) as u8);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_give_columns_and_file_names_do_not() {
        let columns = folder_columns("x/day=2024-01-01/hour=3/a=b.parquet");
        assert_eq!(columns, [("day".into(), "2024-01-01".into()), ("hour".into(), "3".into())]);
        assert!(folder_columns("a=b.parquet").is_empty());
    }

    #[test]
    fn a_version_counts_where_it_was_pinned() {
        let file = |version_id: Option<&str>| PinnedFile {
            name: "f".into(),
            path: "f".into(),
            bytes: 1,
            etag: "e".into(),
            version_id: version_id.map(str::to_owned),
            staged: true,
        };
        let found = |etag: &str, version: Option<&str>| ObjectTag {
            etag: etag.into(),
            version_id: version.map(str::to_owned),
        };
        // A listing told no version.
        assert!(is_pinned(&found("e", Some("v1")), &file(None)) && is_pinned(&found("e", None), &file(None)));
        assert!(is_pinned(&found("e", Some("v1")), &file(Some("v1"))));
        assert!(!is_pinned(&found("e", Some("v2")), &file(Some("v1"))));
        assert!(!is_pinned(&found("e", None), &file(Some("v1"))));
        assert!(!is_pinned(&found("other", Some("v1")), &file(None)));
    }

    #[test]
    fn folder_names_are_percent_decoded() {
        let columns = folder_columns("a%20b=10%3A30%2f/x");
        assert_eq!(columns, [("a b".into(), "10:30/".into())]);
        for kept in ["100%", "%", "%4", "%zz", "%ff"] {
            assert_eq!(percent_decoded(kept), kept);
        }
    }
}
