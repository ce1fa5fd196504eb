//! The rows of the sample files: what row i must be.

use bytes::Bytes;
use nacre_segment::foreign::ReadAt;
use std::path::PathBuf;
use std::sync::Arc;

pub(super) const ROWS: u64 = 5_000;

/// Keys were the first 16 bytes of a hash of i, which no crate here computes: the version says which i it is.
pub(super) fn check(
    key: &[u8],
    version: i64,
    expires_at: Option<i64>,
    value: Option<&[u8]>,
    tombstones: bool,
) -> u64 {
    let i = (version - 1_700_000_000_000_000) as u64;
    assert!(i < ROWS, "version {version}");
    assert_eq!(key.len(), 16);
    let text = i.to_string().repeat(10);
    let is_tombstone = tombstones && i.is_multiple_of(97);
    assert_eq!(value, (!is_tombstone).then_some(text.as_bytes()), "row {i}");
    let expires = (tombstones && i.is_multiple_of(5)).then_some(version + 86_400_000_000);
    assert_eq!(expires_at, expires, "row {i}");
    i
}

pub(super) struct Sample {
    pub(super) name: String,
    pub(super) bytes: Bytes,
}

impl Sample {
    pub(super) fn file(&self) -> Arc<dyn ReadAt> {
        Arc::new(self.bytes.clone())
    }

    pub(super) fn is_sorted(&self) -> bool {
        !self.name.contains("unsorted")
    }

    pub(super) fn has_tombstones(&self) -> bool {
        self.name.contains("tombstones")
    }
}

pub(super) fn sample(name: &str) -> Sample {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name);
    Sample { name: name.to_owned(), bytes: std::fs::read(path).unwrap().into() }
}

pub(super) fn samples() -> Vec<Sample> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".parquet"))
        .collect();
    names.sort();
    assert!(names.len() >= 31, "{} samples", names.len());
    names.iter().map(|name| sample(name)).collect()
}
