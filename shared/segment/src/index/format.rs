//! The index as bytes, version 1. All numbers little-endian.
//!
//! ```text
//!  0  magic "NCIX"
//!  4  version u8 = 1
//!  5  flags u8: 1 = block checksums, 2 = dictionaries
//!  6  zero u16
//!  8  blocks u32            12  runs u32
//! 16  rows u64              24  default version i64
//! 32  largest page u32      36  key bytes u32
//! 40  filter shards u32     44  filter bytes u32
//! 48  five columns, each: present u8, optional u8, codec u8, zero u8, fixed length u32
//! 88  restarts              u32 per 16 blocks: offset of an entry in the key bytes
//!     block rows            u16 per block
//!     page ends             u32 per block and present column, from the run's base
//!     block checksums       u32 per block (flag 1): CRC-32 of the data pages with headers, in column order
//!     continues             bit per block: its first key is the last key of the block before
//!     runs                  first block u32, base u64 per present column;
//!                           with flag 2 also offset u64 and length u32 of the dictionary page per present column
//!     keys                  see keys.rs
//!     filter                see ../filter.rs
//!     CRC-32 (IEEE) of all before, u32
//! ```
//!
//! It is used as it lies: decoding checks it once and remembers where the sections begin, so that an index costs its
//! bytes in memory and eight more a block ([`super::keys::Heads`]). A page's range is (end of the page before in its run, or the base) to its own end:
//! four bytes a page for files of any size. About 0.3 bytes a row for keys of 16 bytes and blocks of 128 rows, and 1.2
//! for the filter.

use super::{Column, ColumnLayout, Layout};
use crate::Codec;
use crate::error::corrupt_index;
use nacre_types::{Error, Result};
use std::ops::Range;

pub(super) const COLUMNS: usize = 5;
pub(super) const MAGIC: &[u8; 4] = b"NCIX";
pub(super) const VERSION: u8 = 1;
pub(super) const HEADER: usize = 88;
/// No page that claims more is ever decompressed, whatever an index says.
pub(crate) const LARGEST_PAGE: u32 = 64 << 20;

const CHECKSUMS: u8 = 1;
const DICTIONARIES: u8 = 2;

/// The fixed part.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) checksums: bool,
    pub(super) dictionaries: bool,
    pub(super) blocks: u32,
    pub(super) rows: u64,
    pub(super) largest_page: u32,
    pub(super) runs: u32,
    pub(super) key_bytes: u32,
    pub(super) shards: u32,
    pub(super) filter_bytes: u32,
    pub(super) layout: Layout,
}

/// Where the sections begin.
#[derive(Debug, Clone)]
pub(super) struct Sections {
    pub(super) restarts: Range<usize>,
    pub(super) rows: Range<usize>,
    pub(super) ends: Range<usize>,
    pub(super) checksums: Range<usize>,
    pub(super) continues: Range<usize>,
    pub(super) runs: Range<usize>,
    pub(super) keys: Range<usize>,
    pub(super) descriptors: Range<usize>,
    pub(super) fingerprints: Range<usize>,
    /// Length with the checksum.
    pub(super) total: usize,
}

impl Header {
    /// Columns that are there.
    pub(super) fn columns(&self) -> usize {
        self.layout.columns.iter().flatten().count()
    }

    /// Bytes of one run.
    pub(super) fn run_bytes(&self) -> usize {
        4 + self.columns() * if self.dictionaries { 20 } else { 8 }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        let flags = (u8::from(self.checksums) * CHECKSUMS) | (u8::from(self.dictionaries) * DICTIONARIES);
        out.extend_from_slice(&[VERSION, flags, 0, 0]);
        out.extend_from_slice(&self.blocks.to_le_bytes());
        out.extend_from_slice(&self.runs.to_le_bytes());
        out.extend_from_slice(&self.rows.to_le_bytes());
        out.extend_from_slice(&self.layout.default_version.to_le_bytes());
        for number in [self.largest_page, self.key_bytes, self.shards, self.filter_bytes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for column in &self.layout.columns {
            let (codec, fixed) = column.map_or((0, 0), |c| (c.codec as u8, c.fixed_length));
            let optional = column.is_some_and(|c| c.optional);
            out.extend_from_slice(&[u8::from(column.is_some()), u8::from(optional), codec, 0]);
            out.extend_from_slice(&fixed.to_le_bytes());
        }
    }

    /// Parses the fixed part; the checksum was verified.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let fixed: &[u8; HEADER] = bytes.first_chunk().ok_or_else(|| corrupt_index("it is cut off"))?;
        let u32_at = |at: usize| fixed[at..].first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
        let u64_at = |at: usize| fixed[at..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        if !fixed.starts_with(MAGIC) {
            return Err(corrupt_index("it does not begin with NCIX"));
        }
        if fixed[4] != VERSION || fixed[5] & !(CHECKSUMS | DICTIONARIES) != 0 {
            return Err(Error::invalid(format!(
                "segment index of version {} with flags {:#x}: written by a newer nacre; upgrade this one",
                fixed[4], fixed[5]
            ))
            .with_code("newer-format"));
        }
        let mut columns = [None; COLUMNS];
        for (i, column) in columns.iter_mut().enumerate() {
            let at = 48 + 8 * i;
            let codec = Codec::from_ordinal(fixed[at + 2]).ok_or_else(|| {
                Error::invalid(format!(
                    "segment index: codec {} is unknown; upgrade this nacre",
                    fixed[at + 2]
                ))
                .with_code("newer-format")
            })?;
            *column = (fixed[at] != 0).then(|| ColumnLayout {
                optional: fixed[at + 1] != 0,
                codec,
                fixed_length: u32_at(at + 4),
            });
        }
        let layout = Layout { columns, default_version: u64_at(24) as i64 };
        if layout.column(Column::Key).is_none() || layout.column(Column::Value).is_none() {
            return Err(corrupt_index("it has no key or no value column"));
        }
        Ok(Self {
            checksums: fixed[5] & CHECKSUMS != 0,
            dictionaries: fixed[5] & DICTIONARIES != 0,
            blocks: u32_at(8),
            runs: u32_at(12),
            rows: u64_at(16),
            largest_page: u32_at(32).min(LARGEST_PAGE),
            key_bytes: u32_at(36),
            shards: u32_at(40),
            filter_bytes: u32_at(44),
            layout,
        })
    }

    /// Where the sections of an index with this header begin.
    pub(super) fn sections(&self) -> Result<Sections> {
        let (blocks, columns) = (u64::from(self.blocks), self.columns() as u64);
        let mut at = HEADER as u64;
        // No product of two of these comes near 2^64.
        let mut section = |length: u64| {
            let start = at;
            at = at.saturating_add(length);
            start as usize..at as usize
        };
        let sections = Sections {
            restarts: section(blocks.div_ceil(super::keys::RESTART as u64) * 4),
            rows: section(blocks * 2),
            ends: section(blocks * 4 * columns),
            checksums: section(if self.checksums { blocks * 4 } else { 0 }),
            continues: section(blocks.div_ceil(8)),
            runs: section(u64::from(self.runs) * self.run_bytes() as u64),
            keys: section(u64::from(self.key_bytes)),
            descriptors: section(u64::from(self.shards) * crate::filter::DESCRIPTOR as u64),
            fingerprints: section(u64::from(self.filter_bytes)),
            total: 0,
        };
        match u32::try_from(at.saturating_add(4)) {
            Ok(total) => Ok(Sections { total: total as usize, ..sections }),
            Err(_) => Err(Error::invalid("the index would pass 4 GiB").with_code("segment-too-big")),
        }
    }
}
