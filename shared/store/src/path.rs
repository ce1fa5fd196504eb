//! Names of objects.

use nacre_types::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// The name of an object: relative, segments of `[A-Za-z0-9._=% -]+` between slashes, none beginning with a dot, none
/// beginning or ending with a space, none that would be `.` or `..` if somebody decoded its `%2e`.
///
/// A `%` is a character like any other here, and nobody decodes a path: Hive and Spark write `ts=2024-01-01 10%3A00` as
/// the name of a folder, and this is its name. What the folder stands for is decoded once, by who reads columns of it.
///
/// Names are minted by nacre (user keys and table names never become paths) or listed by a store under a staging
/// place, so a name outside of the alphabet is a stranger's and is refused rather than escaped. A leading dot is kept
/// for what a store itself needs (`.tmp`, `.locks`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectPath(Arc<str>);

/// Longest path in bytes; S3 allows 1,024 with the root's prefix.
const PATH_BYTES: usize = 900;
/// Longest segment in bytes: what file systems allow, less room for a suffix.
const SEGMENT_BYTES: usize = 240;

impl ObjectPath {
    /// Checks the form.
    ///
    /// # Errors
    /// `Invalid` (`object-path`).
    pub fn new(text: &str) -> Result<Self> {
        let segment_fits = |segment: &str| {
            !segment.is_empty()
                && !segment.starts_with('.')
                && segment.trim_matches(' ').len() == segment.len()
                && segment.len() <= SEGMENT_BYTES
                && segment.bytes().all(is_allowed)
                && !is_dots_in_disguise(segment)
        };
        if text.len() <= PATH_BYTES && text.split('/').all(segment_fits) {
            return Ok(Self(text.into()));
        }
        let shown: String = text.chars().take(120).collect();
        Err(Error::invalid(format!(
            "object path {shown:?}: expected segments of [A-Za-z0-9._=% -]+ between slashes, none empty or beginning \
             with a dot, at most {PATH_BYTES} bytes in all"
        ))
        .with_code("object-path"))
    }

    /// This path, a slash, and `rest`.
    ///
    /// # Errors
    /// `Invalid` (`object-path`).
    pub fn join(&self, rest: &str) -> Result<Self> {
        Self::new(&format!("{}/{rest}", self.0))
    }

    /// Whether a segment of a path may hold the character.
    pub fn allows(byte: u8) -> bool {
        is_allowed(byte)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'=' | b'-' | b'%' | b' ')
}

/// Whether the segment is a dot or two once `%2e` is read as a dot, however often: no store reads it so, and none that
/// will come shall get the chance.
fn is_dots_in_disguise(segment: &str) -> bool {
    let mut text = segment.to_ascii_lowercase();
    while text.contains('%') {
        let decoded = text.replace("%25", "%").replace("%2e", ".");
        if decoded == text {
            break;
        }
        text = decoded;
    }
    matches!(&text[..], "." | "..")
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_cannot_leave_their_root_nor_name_what_a_store_keeps_for_itself() {
        for good in [
            "a",
            "a/b",
            "tables/0f/x.parquet",
            "day=2024-01-01/part-0.parquet",
            "a..b",
            "ts=2024-01-01 00%3A00/x",
            "up=%2E%2E%2F/x",
            "%",
        ] {
            assert_eq!(ObjectPath::new(good).unwrap().as_str(), good);
        }
        let long = "x/".repeat(450) + "x";
        let wide = "x".repeat(241);
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            "..",
            "a/../b",
            ".tmp/x",
            "a/.b",
            " a",
            "a /b",
            "a/ ",
            "a\0",
            "ä",
            "a\\b",
            &long,
            &wide,
            "%2e",
            "a/%2E%2e/b",
            ".%2e",
            "%252e%252E",
            "%25252e",
        ] {
            assert_eq!(ObjectPath::new(bad).unwrap_err().code(), "object-path", "{bad}");
        }
        assert!(ObjectPath::new("a").unwrap().join("../b").is_err());
        assert_eq!(ObjectPath::new("a").unwrap().join("b/c").unwrap().as_str(), "a/b/c");
    }
}
