//! Where a file's bytes come from.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use nacre_engine::PinnedFile;
use nacre_segment::foreign::ReadAt;
use nacre_store::{GetOptions, ObjectPath, ObjectStore, ObjectTag};
use nacre_types::{Error, ErrorKind, Result};

/// The tag that a pinned file must have.
pub(crate) fn tag(file: &PinnedFile) -> ObjectTag {
    ObjectTag { etag: file.etag.clone(), version_id: file.version_id.clone() }
}

/// Opens a pinned file for reading on a thread that may block.
///
/// # Errors
/// `Invalid` (`load-file-changed`) where it is gone or is not what was pinned.
pub(crate) async fn open(store: &Arc<dyn ObjectStore>, file: &PinnedFile) -> Result<Arc<dyn ReadAt>> {
    let path = ObjectPath::new(&file.path)?;
    check_unchanged(store, file).await?;
    if let Some(local) = store.local_path(&path) {
        let opened = std::fs::File::open(&local)
            .map_err(|e| Error::unavailable(format!("{}: {e}", file.name)).with_code("load-file"))?;
        return Ok(Arc::new(opened));
    }
    let runtime = tokio::runtime::Handle::current();
    Ok(Arc::new(StoreFile { store: store.clone(), path, tag: tag(file), length: file.bytes, runtime }))
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
        Ok(meta) if meta.tag == tag(file) && meta.size == file.bytes => Ok(()),
        Ok(_) => Err(changed("was changed")),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(changed("was removed")),
        Err(error) => Err(error),
    }
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
        let options = GetOptions { range: Some(range), if_tag: Some(self.tag.clone()) };
        Ok(self.runtime.block_on(self.store.get(&self.path, options))?.bytes)
    }

    fn small_reads_are_cheap(&self) -> bool {
        false
    }
}

/// The columns that a file's folders give: `day=2024-01-01/part-0.parquet` has `day`.
pub(crate) fn folder_columns(name: &str) -> Vec<(String, String)> {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    parts
        .into_iter()
        .filter_map(|part| part.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
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
}
