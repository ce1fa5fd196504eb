//! Keys: bytes ordered by unsigned comparison.

use crate::{Error, Result, limits};
use bytes::Bytes;
use std::fmt;

/// A key: 1 byte to 2 KiB, ordered by unsigned comparison.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// Checks the length.
    ///
    /// # Errors
    /// `Invalid` (`key-empty`, `key-too-long`).
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self> {
        let bytes = bytes.into();
        Self::check(&bytes)?;
        Ok(Self(bytes))
    }

    /// Checks that `bytes` may be a key.
    ///
    /// # Errors
    /// `Invalid` (`key-empty`, `key-too-long`).
    pub fn check(bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Err(Error::invalid("the key is empty; a key has 1 to 2048 bytes").with_code("key-empty"));
        }
        if bytes.len() > limits::KEY_BYTES {
            return Err(Error::invalid(format!(
                "the key has {} bytes; the limit key_bytes is {}",
                bytes.len(),
                limits::KEY_BYTES
            ))
            .with_code("key-too-long"));
        }
        Ok(())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, shared.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl std::ops::Deref for Key {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::borrow::Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(b\"{}\")", self.0.escape_ascii())
    }
}

/// A contiguous range of keys: `start` inclusive, `end` exclusive, `None` = unbounded. An empty `start` is the same as
/// none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct KeyRange {
    /// First key of the range; empty = from the beginning.
    pub start: Bytes,
    /// First key after the range; `None` = to the end.
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self::default()
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { start: Bytes::copy_from_slice(prefix), end: successor(prefix) }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.end.as_ref().is_none_or(|end| key < &end[..])
    }

    /// Whether the range and the closed interval `[min, max]` share a key.
    pub fn overlaps(&self, min: &[u8], max: &[u8]) -> bool {
        max >= &self.start[..] && self.end.as_ref().is_none_or(|end| min < &end[..])
    }

    /// Whether no key can lie in it.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end[..] <= self.start[..])
    }

    /// What both ranges hold.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let start = self.start.clone().max(other.start.clone());
        let end = match (&self.end, &other.end) {
            (Some(a), Some(b)) => Some(a.min(b).clone()),
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        Self { start, end }
    }
}

/// The smallest byte string that is larger than everything that begins with `prefix`; `None` where there is none (an
/// empty prefix, or 0xFF throughout).
pub fn successor(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|&b| b != 0xFF)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_lengths_are_checked() {
        assert_eq!(Key::new(&b""[..]).unwrap_err().code(), "key-empty");
        assert!(Key::new(vec![0; 2048]).is_ok());
        let error = Key::new(vec![0; 2049]).unwrap_err();
        assert_eq!(error.code(), "key-too-long");
        assert!(error.detail().contains("2049") && error.detail().contains("key_bytes"));
    }

    #[test]
    fn successor_skips_trailing_ff() {
        assert_eq!(successor(b"a\xFF\xFF").as_deref(), Some(&b"b"[..]));
        assert_eq!(successor(b"\xFF\xFF"), None);
        assert_eq!(successor(b""), None);
    }

    #[test]
    fn prefix_range_holds_exactly_the_prefixed() {
        let range = KeyRange::prefix(b"ab");
        assert!(
            range.contains(b"ab")
                && range.contains(b"ab\xFF\xFF")
                && !range.contains(b"ac")
                && !range.contains(b"aa")
        );
        assert!(
            range.overlaps(b"aa", b"ab") && !range.overlaps(b"aa", b"aa\xFF") && !range.overlaps(b"ac", b"b")
        );
    }
}
