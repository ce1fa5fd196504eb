//! Building an index, for native and for adopted files.
use super::SegmentIndex;
use crate::Codec;
use nacre_types::Result;

/// The columns of a segment, in the order of its schema and of [`Layout::columns`]. The ordinals are persisted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Column {
    /// `key BINARY required`.
    Key = 0,
    /// `version INT64 required`; may be missing in an adopted file: [`Layout::default_version`].
    Version = 1,
    /// `expires_at INT64 optional`; may be missing in an adopted file: never.
    ExpiresAt = 2,
    /// `value BINARY optional`.
    Value = 3,
    /// `rank INT64 optional`, where rows carry their own place.
    Place = 4,
}

/// How one column is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnLayout {
    /// Declared optional: its pages begin with definition levels (0 = null, 1 = there).
    pub optional: bool,
    /// Codec of its pages.
    pub codec: Codec,
    /// Bytes of a value where the physical type is FIXED_LEN_BYTE_ARRAY; 0 = BYTE_ARRAY (key, value) or INT64.
    pub fixed_length: u32,
}

/// How the columns of a file are stored. A key or version declared optional is fine; a null in it is Corrupt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// By [`Column`] ordinal; `None` = the file has no such column. Key and value must be there.
    pub columns: [Option<ColumnLayout>; 5],
    /// The version of every row where the version column is missing.
    pub default_version: i64,
}

/// Where a page lies in the file, header included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageSpan {
    /// First byte.
    pub offset: u64,
    /// Bytes, header included.
    pub length: u32,
}

/// The pages of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockPages {
    /// One data page per column of the layout, by [`Column`] ordinal.
    pub pages: [Option<PageSpan>; 5],
    /// The dictionary page of the column's row group, where the data page refers to one.
    pub dictionaries: [Option<PageSpan>; 5],
    /// The largest uncompressed page of the block, dictionaries included: what their headers say.
    pub largest_page: u32,
    /// CRC-32 (IEEE) over all data pages of the block with their headers, in column order; `None` where the value
    /// pages were not read: then the pages' own checksums are checked where they have them.
    pub checksum: Option<u32>,
}

/// Builds the index of a file, block by block.
#[derive(Debug)]
pub struct IndexBuilder {
    layout: Layout,
}

impl IndexBuilder {
    /// Starts an index. `checksums`: whether every block will bring one.
    ///
    /// # Errors
    /// `Invalid` (`index-layout`) when key or value are missing.
    pub fn new(layout: Layout) -> Result<Self> {
        Ok(Self { layout })
    }
    /// Names the key of the next row. Keys must rise or repeat.
    ///
    /// # Errors
    /// `Invalid` (`rows-out-of-order`, `key-empty`, `key-too-long`).
    pub fn push_key(&mut self, key: &[u8]) -> Result<()> {
        let _ = (key, &self.layout);
        todo!()
    }
    /// Ends a block: the keys pushed since the last one (1 to 1,024) are its rows, and `pages` hold them.
    ///
    /// # Errors
    /// `Invalid` (`index-layout`) when the pages do not fit the layout or the block has no or too many rows.
    pub fn end_block(&mut self, pages: &BlockPages) -> Result<()> {
        let _ = pages;
        todo!()
    }
    /// Rows pushed since the last block ended.
    pub fn open_rows(&self) -> u32 {
        todo!()
    }
    /// The last key pushed; empty before the first.
    pub fn last_key(&self) -> &[u8] {
        todo!()
    }
    /// The index.
    ///
    /// # Errors
    /// `Invalid` (`index-layout`) without blocks, or with rows that no block holds.
    pub fn finish(self) -> Result<SegmentIndex> {
        todo!()
    }
}
