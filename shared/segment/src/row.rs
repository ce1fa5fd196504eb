//! What goes into a segment and what is said about it.

use crate::Codec;
use bytes::Bytes;
use nacre_types::Place;

/// One row as a writer gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentRow<'a> {
    /// 1 to 2,048 bytes.
    pub key: &'a [u8],
    /// i64 microseconds since the epoch, or a number where the table says so.
    pub version: i64,
    /// Written as the `rank` column if the segment has one; `None` = the place of the whole segment.
    pub place: Option<Place>,
    /// The row's own expiry in microseconds since the epoch.
    pub expires_at: Option<i64>,
    /// `None` = a tombstone.
    pub value: Option<&'a [u8]>,
}

/// How a segment is laid out. The defaults are the measured ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterSettings {
    /// Most rows of a block, 1 to 1,024. More: smaller index, more to decode for one lookup.
    pub rows_per_page: u32,
    /// Most rows of a row group, a multiple of `rows_per_page`. A cold get fetches about one row group; more rows make
    /// that GET bigger and scans by other engines faster.
    pub rows_per_group: u32,
    /// A block is also closed before its keys and values pass this many bytes, so that large values do not make blocks
    /// that no cache holds. A single larger row has a block of its own.
    pub page_bytes: u32,
    /// A row group is also closed before its keys and values pass this many bytes: the bound of a cold get's GET.
    pub group_bytes: u32,
    /// Codec of all pages.
    pub compression: Codec,
    /// Whether to write the `rank` column.
    pub with_place: bool,
}

impl Default for WriterSettings {
    fn default() -> Self {
        Self {
            rows_per_page: 128,
            rows_per_group: 1_280,
            page_bytes: 256 << 10,
            group_bytes: 1 << 20,
            compression: Codec::Lz4Raw,
            with_place: false,
        }
    }
}

/// Where the index lies in its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct IndexSpan {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

impl IndexSpan {
    /// As a byte range.
    pub fn range(self) -> std::ops::Range<u64> {
        self.offset..self.offset.saturating_add(self.length)
    }
}

/// What the manifest says of a finished segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Rows, tombstones included.
    pub rows: u64,
    /// Rows without a value.
    pub tombstones: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Bytes of keys, values and fixed columns before compression.
    pub raw_bytes: u64,
    /// Smallest key, exact.
    pub min_key: Bytes,
    /// Largest key, exact.
    pub max_key: Bytes,
    /// Smallest version.
    pub min_version: i64,
    /// Largest version.
    pub max_version: i64,
    /// Latest expiry; `None` = some row has none.
    pub max_expires_at: Option<i64>,
    /// Where the index lies in the file (for an adopted file: in its index object, from 0).
    pub index: IndexSpan,
    /// Whether rows carry their own place.
    pub with_place: bool,
}
