//! Decoded blocks.
use bytes::Bytes;
use nacre_types::{Place, Result};
use std::ops::Range;

/// A decoded block.
#[derive(Clone)]
pub struct Block {
    bytes: Bytes,
}

/// One row of a block, borrowed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRef<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The version.
    pub version: i64,
    /// The row's own place, where the segment has them.
    pub place: Option<Place>,
    /// The row's own expiry.
    pub expires_at: Option<i64>,
    /// `None` = a tombstone.
    pub value: Option<&'a [u8]>,
}

#[allow(clippy::len_without_is_empty, reason = "a block is never empty")]
impl Block {
    /// Rows, at least one.
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Row `i`.
    ///
    /// # Panics
    /// When `i` is not below [`Block::len`].
    pub fn row(&self, i: usize) -> RowRef<'_> {
        let _ = i;
        todo!()
    }
    /// Key of row `i`.
    ///
    /// # Panics
    /// When `i` is not below [`Block::len`].
    pub fn key(&self, i: usize) -> &[u8] {
        let _ = i;
        todo!()
    }
    /// The value of row `i` as a slice that keeps the block alive; nothing is copied. `None` = a tombstone.
    ///
    /// # Panics
    /// When `i` is not below [`Block::len`].
    pub fn value_bytes(&self, i: usize) -> Option<Bytes> {
        let _ = i;
        todo!()
    }
    /// The key of row `i` as a slice that keeps the block alive.
    ///
    /// # Panics
    /// When `i` is not below [`Block::len`].
    pub fn key_bytes(&self, i: usize) -> Bytes {
        let _ = i;
        todo!()
    }
    /// The rows of `key`, in falling rank; empty (at the place where they would be) if there are none.
    pub fn find(&self, key: &[u8]) -> Range<usize> {
        let _ = key;
        todo!()
    }
    /// The first row whose key is not below `key`; `len()` if there is none.
    pub fn lower_bound(&self, key: &[u8]) -> usize {
        let _ = key;
        todo!()
    }
    /// The whole block as it lies in memory; [`Block::from_bytes`] takes it back.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }
    /// Takes bytes of [`Block::as_bytes`] back. Lengths and offsets are checked, contents are not: whoever stores
    /// blocks checks its own checksum.
    ///
    /// # Errors
    /// `Corrupt` (`block-image`).
    pub fn from_bytes(bytes: Bytes) -> Result<Self> {
        let _ = bytes;
        todo!()
    }
    /// Bytes that it occupies.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}
