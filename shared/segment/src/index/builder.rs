//! Building an index, for native and for adopted files.
use super::format::{self, COLUMNS, Header};
use super::keys::KeysBuilder;
use super::{SegmentIndex, key_hash};
use crate::{Codec, filter};
use bytes::Bytes;
use nacre_types::{Error, Key, Result};
use std::cmp::Ordering;

/// Most rows of a block.
pub(crate) const BLOCK_ROWS: usize = 1_024;

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

impl Column {
    /// The name in the file's schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Version => "version",
            Self::ExpiresAt => "expires_at",
            Self::Value => "value",
            Self::Place => "rank",
        }
    }
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

impl Layout {
    /// How this column is stored, if it is there.
    pub fn column(&self, column: Column) -> Option<ColumnLayout> {
        self.columns.get(column as usize).copied().flatten()
    }
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
    keys: KeysBuilder,
    hashes: Vec<u64>,
    last_key: Vec<u8>,
    open_rows: u32,
    rows: u64,
    /// Per block.
    block_rows: Vec<u16>,
    /// Per block: whether its first key is the last one of the block before.
    continues: Vec<bool>,
    /// Per placed block and column of the layout: where its page ends, from the run's base.
    ends: Vec<u32>,
    checksums: Vec<u32>,
    runs: Vec<Run>,
    placed: u32,
    largest_page: u32,
}

/// Neighbouring blocks whose pages follow each other without a gap in every column.
#[derive(Debug)]
struct Run {
    first_block: u32,
    bases: [u64; COLUMNS],
    dictionaries: [Option<PageSpan>; COLUMNS],
}

impl IndexBuilder {
    /// Starts an index.
    ///
    /// # Errors
    /// `Invalid` (`index-layout`) when key or value are missing.
    pub fn new(layout: Layout) -> Result<Self> {
        if layout.column(Column::Key).is_none() || layout.column(Column::Value).is_none() {
            return Err(wrong_layout("a segment has at least the columns key and value"));
        }
        Ok(Self {
            layout,
            keys: KeysBuilder::default(),
            hashes: Vec::new(),
            last_key: Vec::new(),
            open_rows: 0,
            rows: 0,
            block_rows: Vec::new(),
            continues: Vec::new(),
            ends: Vec::new(),
            checksums: Vec::new(),
            runs: Vec::new(),
            placed: 0,
            largest_page: 0,
        })
    }

    /// Names the key of the next row; answers whether it differs from the one before. Keys must rise or repeat.
    ///
    /// # Errors
    /// `Invalid` (`rows-out-of-order`, `key-empty`, `key-too-long`); nothing has changed then.
    pub fn push_key(&mut self, key: &[u8]) -> Result<bool> {
        Key::check(key)?;
        // The empty key before the first row is below every key.
        let order = key.cmp(&self.last_key[..]);
        if order == Ordering::Less {
            return Err(Error::invalid(format!(
                "row {}: key {:?} comes after {:?}; keys must rise by unsigned bytes",
                self.rows,
                shown(key),
                shown(&self.last_key)
            ))
            .with_code("rows-out-of-order"));
        }
        let new = order == Ordering::Greater;
        if self.open_rows == 0 {
            self.keys.push(key);
            self.continues.push(!new);
        }
        if new {
            self.hashes.push(key_hash(key));
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
        }
        self.open_rows += 1;
        self.rows += 1;
        Ok(new)
    }

    /// Ends a block: the keys pushed since the last one (1 to 1,024) are its rows, and `pages` hold them.
    ///
    /// # Errors
    /// `Invalid` (`index-layout`) when the pages do not fit the layout, when the block has no or too many rows, or
    /// when some blocks bring a checksum and others do not.
    pub fn end_block(&mut self, pages: &BlockPages) -> Result<()> {
        self.end_rows()?;
        self.place_block(pages)
    }

    /// The first half of [`IndexBuilder::end_block`], for a writer that learns only later where the pages will lie.
    pub(crate) fn end_rows(&mut self) -> Result<()> {
        match u16::try_from(self.open_rows) {
            Ok(rows) if rows > 0 && usize::from(rows) <= BLOCK_ROWS => self.block_rows.push(rows),
            _ => return Err(wrong_layout(&format!("a block of {} rows; 1 to 1024 fit", self.open_rows))),
        }
        self.open_rows = 0;
        Ok(())
    }

    /// The second half: where the pages of the first block that has no place yet lie.
    pub(crate) fn place_block(&mut self, pages: &BlockPages) -> Result<()> {
        if self.placed as usize >= self.block_rows.len() {
            return Err(wrong_layout("more blocks placed than ended"));
        }
        if self.placed > 0 && pages.checksum.is_some() == self.checksums.is_empty() {
            return Err(wrong_layout("either all blocks bring a checksum or none does"));
        }
        for (column, page) in self.layout.columns.iter().zip(&pages.pages) {
            if column.is_some() != page.is_some_and(|page| page.length > 0) {
                return Err(wrong_layout("every column of the layout has one page in every block"));
            }
        }
        let start = self.ends.len();
        if !self.extend_run(pages) {
            self.ends.truncate(start);
            let bases = pages.pages.map(|page| page.map_or(0, |page| page.offset));
            self.runs.push(Run { first_block: self.placed, bases, dictionaries: pages.dictionaries });
            self.ends.extend(pages.pages.iter().flatten().map(|page| page.length));
        }
        self.checksums.extend(pages.checksum);
        self.largest_page = self.largest_page.max(pages.largest_page);
        self.placed += 1;
        Ok(())
    }

    /// Appends the block's page ends to the last run; `false` if it does not follow it.
    fn extend_run(&mut self, pages: &BlockPages) -> bool {
        let Some(run) = self.runs.last() else { return false };
        if run.dictionaries != pages.dictionaries {
            return false;
        }
        let columns = self.layout.columns.iter().flatten().count();
        let before = self.ends.len() - columns;
        let present = (0..COLUMNS).filter(|c| self.layout.columns[*c].is_some());
        for (i, column) in present.enumerate() {
            let (Some(page), Some(end)) = (pages.pages[column], self.ends.get(before + i).copied()) else {
                return false;
            };
            let follows = run.bases[column] + u64::from(end) == page.offset;
            let Some(end) = end.checked_add(page.length).filter(|_| follows) else { return false };
            self.ends.push(end);
        }
        true
    }

    /// Rows pushed since the last block ended.
    pub fn open_rows(&self) -> u32 {
        self.open_rows
    }

    /// Rows pushed.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The last key pushed; empty before the first.
    pub fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// The index.
    ///
    /// # Errors
    /// `Invalid` (`index-layout`) without blocks, with rows that no block holds, or with a page beyond the largest that
    /// is ever decoded; `Invalid` (`segment-too-big`) when the index would pass 4 GiB.
    pub fn finish(self) -> Result<SegmentIndex> {
        let blocks = self.placed as usize;
        if blocks == 0 || self.open_rows > 0 || blocks != self.block_rows.len() {
            return Err(wrong_layout(&format!(
                "{blocks} blocks have pages, {} were ended, {} rows are in none",
                self.block_rows.len(),
                self.open_rows
            )));
        }
        if self.largest_page > format::LARGEST_PAGE {
            return Err(wrong_layout(&format!(
                "a page of {} bytes; blocks are decoded from pages of at most {}",
                self.largest_page,
                format::LARGEST_PAGE
            )));
        }
        let with_dictionaries = self.runs.iter().any(|run| run.dictionaries.iter().any(Option::is_some));
        let filter = filter::build(self.hashes)?;
        let too_big = |_| Error::invalid("the index would pass 4 GiB").with_code("segment-too-big");
        let header = Header {
            checksums: !self.checksums.is_empty(),
            dictionaries: with_dictionaries,
            blocks: self.placed,
            rows: self.rows,
            largest_page: self.largest_page,
            runs: u32::try_from(self.runs.len()).map_err(too_big)?,
            key_bytes: u32::try_from(self.keys.data.len()).map_err(too_big)?,
            shards: filter.shards,
            filter_bytes: u32::try_from(filter.fingerprints.len()).map_err(too_big)?,
            layout: self.layout,
        };
        let mut out = Vec::with_capacity(header.sections()?.total);
        header.write(&mut out);
        for restart in &self.keys.restarts {
            out.extend_from_slice(&restart.to_le_bytes());
        }
        for rows in &self.block_rows {
            out.extend_from_slice(&rows.to_le_bytes());
        }
        for end in self.ends.iter().chain(&self.checksums) {
            out.extend_from_slice(&end.to_le_bytes());
        }
        for eight in self.continues.chunks(8) {
            out.push(eight.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit)));
        }
        for run in &self.runs {
            out.extend_from_slice(&run.first_block.to_le_bytes());
            let present = header.layout.columns.iter().zip(&run.bases).filter(|(column, _)| column.is_some());
            for (_, base) in present {
                out.extend_from_slice(&base.to_le_bytes());
            }
            let present =
                header.layout.columns.iter().zip(&run.dictionaries).filter(|(column, _)| column.is_some());
            for (_, dictionary) in present.filter(|_| with_dictionaries) {
                let span = dictionary.unwrap_or(PageSpan { offset: 0, length: 0 });
                out.extend_from_slice(&span.offset.to_le_bytes());
                out.extend_from_slice(&span.length.to_le_bytes());
            }
        }
        out.extend_from_slice(&self.keys.data);
        out.extend_from_slice(&filter.descriptors);
        out.extend_from_slice(&filter.fingerprints);
        let checksum = crc32fast::hash(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        SegmentIndex::decode(Bytes::from(out))
    }
}

fn wrong_layout(detail: &str) -> Error {
    Error::invalid(detail).with_code("index-layout")
}

/// The beginning of a key, for a message.
pub(crate) fn shown(key: &[u8]) -> String {
    let cut = key.get(..64).unwrap_or(key);
    format!("{}{}", cut.escape_ascii(), if cut.len() < key.len() { "…" } else { "" })
}
