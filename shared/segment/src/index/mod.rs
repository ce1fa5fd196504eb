//! The index of a segment.
mod builder;

pub use builder::{BlockPages, Column, ColumnLayout, IndexBuilder, Layout, PageSpan};

use bytes::Bytes;
use nacre_types::Result;
use smallvec::SmallVec;
use std::ops::Range;

/// The hash by which the filter knows a key: a get hashes its key once and asks every segment's filter.
pub fn key_hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// The index of one segment: first keys and page ranges of its blocks, and a filter over its keys.
#[derive(Clone)]
pub struct SegmentIndex {
    bytes: Bytes,
}

impl SegmentIndex {
    /// Takes an encoded index. Nothing is copied: give it bytes that hold nothing else.
    ///
    /// # Errors
    /// `Corrupt` (`index-corrupt`), `Invalid` (`newer-format`).
    pub fn decode(bytes: Bytes) -> Result<Self> {
        let _ = bytes;
        todo!()
    }
    /// The bytes that [`SegmentIndex::decode`] takes; shared, not copied.
    pub fn encode(&self) -> Bytes {
        self.bytes.clone()
    }
    /// Blocks, at least one.
    pub fn block_count(&self) -> u32 {
        todo!()
    }
    /// Rows of the segment.
    pub fn rows(&self) -> u64 {
        todo!()
    }
    /// Rows of block `n`; 0 beyond the end.
    pub fn block_rows(&self, n: u32) -> u32 {
        let _ = n;
        todo!()
    }
    /// How the columns are stored.
    pub fn layout(&self) -> &Layout {
        todo!()
    }
    /// Whether a key with this [`key_hash`] may be in the segment. `false` is certain.
    pub fn may_contain(&self, hash: u64) -> bool {
        let _ = hash;
        todo!()
    }
    /// The blocks that may hold rows of `key`: none, one, or several neighbours when many versions span blocks.
    pub fn blocks_of(&self, key: &[u8]) -> Range<u32> {
        let _ = key;
        todo!()
    }
    /// The first block that may hold a key not below `start`; a scan goes on from it to [`SegmentIndex::block_count`].
    pub fn blocks_from(&self, start: &[u8]) -> u32 {
        let _ = start;
        todo!()
    }
    /// The first key of block `n`, exact; `None` beyond the end.
    pub fn block_first_key(&self, n: u32) -> Option<Bytes> {
        let _ = n;
        todo!()
    }
    /// The byte ranges of the segment's object to GET for block `n`, in rising order: one for a native segment, for an
    /// adopted one up to one per column and dictionary. Empty beyond the end.
    pub fn fetch_plan(&self, n: u32) -> SmallVec<[Range<u64>; 1]> {
        let _ = n;
        todo!()
    }
    /// Bytes of memory that it occupies.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.len()
    }
}
