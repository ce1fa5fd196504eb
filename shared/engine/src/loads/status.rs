//! What a loader tells the world while it works: a record of the catalog per load, and the objects that a load leaves.
//!
//! The record `loads/<load id>`, a load's board, is replaced by every loader that works on the load: with each claim, and
//! now and then besides. Nothing rests on it but what people see and who does what; what is done is said by the results of
//! units, and the truth about a load is in the table log.

use std::collections::BTreeMap;

use nacre_catalog::RecordTag;
use nacre_store::{ObjectMeta, ObjectPath};
use nacre_types::{Error, LoadId, Result};
use serde::{Deserialize, Serialize};

use crate::{LoadError, LoadFile, LoadProgress};

/// Name of the record that a loader writes its progress to.
pub(crate) fn status_record(load: LoadId) -> String {
    format!("loads/{load}")
}

/// Name of the record that lists loads with work to do, so that a loader that starts finds them.
pub(crate) const UNDER_WAY: &str = "loads-under-way";

/// What a loader has done so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadStatus {
    /// Whether validation is over.
    pub preparing: bool,
    /// The counters.
    pub progress: LoadProgress,
    /// What each process that has ever worked on the load has in hand now, by process id: names that loaders give.
    pub claims: BTreeMap<String, Vec<String>>,
}

/// A load's record, to be replaced if it is unchanged.
#[derive(Debug, Clone, Default)]
pub struct LoadBoard {
    /// What it says.
    pub status: LoadStatus,
    pub(super) tag: Option<RecordTag>,
}

/// A pinned file of a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedFile {
    /// What its producer calls it: the path below the staging place or the source.
    pub name: String,
    /// Its path in the store.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its etag when it was pinned.
    pub etag: String,
    /// Its version id, on a versioned bucket.
    pub version_id: Option<String>,
    /// Whether it lies in the load's own staging place.
    pub staged: bool,
}

impl PinnedFile {
    pub(crate) fn of(name: String, meta: &ObjectMeta, staged: bool) -> Self {
        Self {
            name,
            path: meta.path.as_str().to_owned(),
            bytes: meta.size,
            etag: meta.tag.etag.clone(),
            version_id: meta.tag.version_id.clone(),
            staged,
        }
    }
}

/// The object that a pinned load's `files_path` names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedFiles {
    /// The files, by name.
    pub files: Vec<PinnedFile>,
    /// Files that were left out: hidden names and empty objects.
    pub skipped: Vec<LoadFile>,
    /// How many rows the caller says there are.
    pub rows: Option<u64>,
}

/// The object that a finished load's `report_path` names.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadReport {
    /// What became of each file.
    pub files: Vec<LoadFile>,
    /// What is wrong, at most 1,000.
    pub errors: Vec<LoadError>,
    /// How many errors there were.
    pub error_count: u64,
    /// The counters at the end.
    pub progress: LoadProgress,
}

/// Objects of loads are JSON behind a version byte and a CRC-32, like records.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<bytes::Bytes> {
    crate::names::encode(value)
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    crate::names::decode(bytes, what)
}

/// The name of a staged file: one or more segments, `name=value/` folders among them.
///
/// # Errors
/// `Invalid` (`file-name`).
pub fn check_file_name(name: &str) -> Result<()> {
    let wrong = |why: &str| {
        Error::invalid(format!("the file name {name:?} {why}; use [A-Za-z0-9._=% -] and '/' between folders"))
            .with_code("file-name")
    };
    if name.is_empty() || name.len() > 512 {
        return Err(wrong("is empty or longer than 512 bytes"));
    }
    for part in name.split('/') {
        if part.is_empty() || part.starts_with(['.', '_']) {
            return Err(wrong("has a part that is empty or begins with '.' or '_'"));
        }
        if !part.bytes().all(ObjectPath::allows) {
            return Err(wrong("has a character that is not allowed"));
        }
    }
    ObjectPath::new(name).map(drop).map_err(|_| wrong("cannot be a path"))
}

/// Whether a load passes over a file: hidden names (`_SUCCESS`, `.crc`) and empty objects.
pub(crate) fn is_skipped(name: &str, bytes: u64) -> Option<&'static str> {
    if name.split('/').any(|part| part.starts_with(['.', '_'])) {
        Some("its name begins with '.' or '_'")
    } else if bytes == 0 {
        Some("it is empty")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_cannot_leave_their_folder() {
        for good in ["a.parquet", "day=2024-01-01/part-0.parquet", "A_b", "ts=2024-01-01 00%3A00/x"] {
            assert!(check_file_name(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", ".a", "_SUCCESS", "a ", "ä", "a\0", "%2e%2e/a"]
        {
            assert_eq!(check_file_name(bad).unwrap_err().code(), "file-name", "{bad:?}");
        }
    }

    #[test]
    fn hidden_and_empty_files_are_skipped() {
        assert!(is_skipped("_SUCCESS", 0).is_some() && is_skipped("x/.part.crc", 9).is_some());
        assert!(is_skipped("x/part", 0).is_some() && is_skipped("x/part", 1).is_none());
    }
}
