//! The index of a segment: first keys and page ranges of its blocks, and a filter over its keys.
//!
//! With the manifest's entry it is all that serving needs: it says which block may hold a key, which bytes of the object
//! to fetch for it, how they are compressed, and what their checksum is. In a native segment it lies in the file, an
//! adopted file has it in an object of its own; the bytes are the same.

mod builder;
mod format;
mod keys;
pub(crate) use builder::{BLOCK_ROWS, shown};
pub use builder::{BlockPages, Column, ColumnLayout, IndexBuilder, Layout, PageSpan};

use crate::error::corrupt_index;
use crate::filter;
use bytes::Bytes;
use format::{COLUMNS, Header, Sections};
pub(crate) use keys::common;
use keys::{Heads, Keys};
use nacre_types::{Result, limits};
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::Arc;

/// Ranges of one block that lie no further apart than this are fetched by one GET. An object store's first byte takes
/// about as long as this many bytes; a GET more costs money, bytes within a region do not. A native block always lies
/// within it, because the writer bounds its row groups.
pub(crate) const FETCH_GAP: u64 = (1 << 20) + (64 << 10);

/// The hash by which the filter knows a key: a get hashes its key once and asks every segment's filter.
#[inline]
pub fn key_hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// The index of one segment. Clones share its bytes.
#[derive(Clone)]
pub struct SegmentIndex {
    bytes: Bytes,
    header: Header,
    sections: Sections,
    heads: Arc<Heads>,
}

/// Where one block's pages lie.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BlockSpans {
    pub(crate) pages: [Option<PageSpan>; COLUMNS],
    pub(crate) dictionaries: [Option<PageSpan>; COLUMNS],
}

impl SegmentIndex {
    /// Takes an encoded index. Nothing is copied: give it bytes that hold nothing else.
    ///
    /// # Errors
    /// `Corrupt` (`index-corrupt`), `Invalid` (`newer-format`).
    pub fn decode(bytes: Bytes) -> Result<Self> {
        if !bytes.starts_with(format::MAGIC) {
            return Err(corrupt_index("it does not begin with NCIX"));
        }
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or_else(|| corrupt_index("it is cut off"))?;
        if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
            return Err(corrupt_index(format!("the checksum of its {} bytes is wrong", bytes.len())));
        }
        let header = Header::read(body)?;
        let sections = header.sections().map_err(|e| corrupt_index(e.detail()))?;
        if sections.total != bytes.len() {
            return Err(corrupt_index(format!("{} bytes instead of {}", bytes.len(), sections.total)));
        }
        let (restarts, data) = (bytes.get(sections.restarts.clone()), bytes.get(sections.keys.clone()));
        let restarts = restarts.unwrap_or_default().as_chunks::<4>().0;
        let keys = Keys { restarts, data: data.unwrap_or_default(), count: header.blocks as usize };
        let heads = keys.check(limits::KEY_BYTES).ok_or_else(|| corrupt_index("its keys do not rise"))?;
        let index = Self { bytes, header, sections, heads: Arc::new(heads) };
        index.check()?;
        Ok(index)
    }

    /// What lookups rely on, beyond the checksum: an index that was encoded wrongly should not be found out by a reader.
    fn check(&self) -> Result<()> {
        let n = self.header.blocks;
        if n == 0 || self.header.runs == 0 || self.header.shards == 0 {
            return Err(corrupt_index("it has no blocks, runs or filter"));
        }
        let rows = self.u16s(&self.sections.rows).iter().map(|b| u16::from_le_bytes(*b));
        let mut sum = 0_u64;
        for rows in rows {
            if rows == 0 || usize::from(rows) > BLOCK_ROWS {
                return Err(corrupt_index(format!("a block of {rows} rows; 1 to 1024 fit")));
            }
            sum += u64::from(rows);
        }
        if sum != self.header.rows {
            return Err(corrupt_index(format!("blocks of {sum} rows, {} in all", self.header.rows)));
        }
        let mut last = None;
        for run in 0..self.header.runs as usize {
            let first = self.run_first_block(run);
            if last.is_none() != (first == 0) || last.is_some_and(|last| first <= last) || first >= n {
                return Err(corrupt_index("its runs are out of order"));
            }
            last = Some(first);
        }
        for block in 0..n {
            if self.spans(block).is_none() {
                return Err(corrupt_index(format!("the pages of block {block} lie nowhere")));
            }
        }
        Ok(())
    }

    /// The bytes that [`SegmentIndex::decode`] takes; shared, not copied.
    pub fn encode(&self) -> Bytes {
        self.bytes.clone()
    }

    /// Blocks, at least one.
    pub fn block_count(&self) -> u32 {
        self.header.blocks
    }

    /// Rows of the segment.
    pub fn rows(&self) -> u64 {
        self.header.rows
    }

    /// Rows of block `n`; 0 beyond the end.
    pub fn block_rows(&self, n: u32) -> u32 {
        let rows = self.u16s(&self.sections.rows).get(n as usize);
        rows.map_or(0, |b| u32::from(u16::from_le_bytes(*b)))
    }

    /// How the columns are stored.
    pub fn layout(&self) -> &Layout {
        &self.header.layout
    }

    /// The largest page that may be decompressed, in bytes.
    pub(crate) fn largest_page(&self) -> u32 {
        self.header.largest_page
    }

    /// The checksum of block `n`, where blocks have them.
    pub(crate) fn checksum(&self, n: u32) -> Option<u32> {
        self.u32s(&self.sections.checksums).get(n as usize).map(|b| u32::from_le_bytes(*b))
    }

    /// Whether a key with this [`key_hash`] may be in the segment. `false` is certain.
    #[inline]
    pub fn may_contain(&self, hash: u64) -> bool {
        filter::may_contain(
            self.section(&self.sections.descriptors),
            self.section(&self.sections.fingerprints),
            self.header.shards,
            hash,
        )
    }

    /// The blocks that may hold rows of `key`: none, one, or several neighbours when many versions span blocks.
    pub fn blocks_of(&self, key: &[u8]) -> Range<u32> {
        let keys = self.keys();
        let (first, equal) = self.heads.lower_bound(&keys, key);
        if equal {
            first as u32 - u32::from(self.continues(first))..keys.upper_bound(key) as u32
        } else {
            first.saturating_sub(1) as u32..first as u32
        }
    }

    /// The first block that may hold a key not below `start`; a scan goes on from it to [`SegmentIndex::block_count`].
    pub fn blocks_from(&self, start: &[u8]) -> u32 {
        let (first, equal) = self.heads.lower_bound(&self.keys(), start);
        let back = if equal { self.continues(first) } else { first > 0 };
        (first - usize::from(back)) as u32
    }

    /// The first key of block `n`, exact; `None` beyond the end.
    pub fn block_first_key(&self, n: u32) -> Option<Bytes> {
        self.keys().get(n as usize).map(Bytes::from)
    }

    /// The byte ranges of the segment's object to GET for block `n`, in rising order: one for a native segment, for an
    /// adopted one up to one per column and dictionary. Empty beyond the end.
    pub fn fetch_plan(&self, n: u32) -> SmallVec<[Range<u64>; 1]> {
        let spans = self.spans(n).unwrap_or_default();
        let mut pages: SmallVec<[Range<u64>; 2 * COLUMNS]> = spans
            .pages
            .iter()
            .chain(&spans.dictionaries)
            .flatten()
            .map(|page| page.offset..page.offset.saturating_add(u64::from(page.length)))
            .collect();
        pages.sort_unstable_by_key(|range| range.start);
        let mut plan = SmallVec::<[Range<u64>; 1]>::new();
        for page in pages {
            match plan.last_mut() {
                Some(last) if page.start <= last.end.saturating_add(FETCH_GAP) => {
                    last.end = last.end.max(page.end)
                }
                _ => plan.push(page),
            }
        }
        plan
    }

    /// Bytes of memory that it occupies.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.len() + size_of::<Self>() + self.heads.heap_bytes()
    }

    /// Where the pages of block `n` lie.
    pub(crate) fn spans(&self, n: u32) -> Option<BlockSpans> {
        let columns = self.header.columns();
        let ends = self.u32s(&self.sections.ends);
        let at = n as usize * columns;
        let own = ends.get(at..at + columns)?;
        let run = self.run_of(n)?;
        let starts = if self.run_first_block(run) == n { None } else { Some(ends.get(at - columns..at)?) };
        let run_at = self.sections.runs.start + run * self.header.run_bytes() + 4;
        let present = self.header.layout.columns.iter().enumerate().filter(|(_, c)| c.is_some());
        let mut spans = BlockSpans::default();
        for (i, (column, _)) in present.enumerate() {
            let base = self.u64_at(run_at + 8 * i)?;
            let start = starts.and_then(|starts| starts.get(i)).map_or(0, |b| u32::from_le_bytes(*b));
            let length = u32::from_le_bytes(*own.get(i)?).checked_sub(start).filter(|length| *length > 0)?;
            spans.pages[column] = Some(PageSpan { offset: base.checked_add(u64::from(start))?, length });
            if self.header.dictionaries {
                let at = run_at + 8 * columns + 12 * i;
                let length = u32::from_le_bytes(*self.bytes.get(at + 8..)?.first_chunk()?);
                spans.dictionaries[column] =
                    (length > 0).then_some(PageSpan { offset: self.u64_at(at)?, length });
            }
        }
        Some(spans)
    }

    /// The run that block `n` belongs to.
    fn run_of(&self, n: u32) -> Option<usize> {
        let (mut low, mut high) = (0, self.header.runs as usize);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.run_first_block(middle) <= n {
                low = middle;
            } else {
                high = middle;
            }
        }
        (high > low).then_some(low)
    }

    fn run_first_block(&self, run: usize) -> u32 {
        let at = self.sections.runs.start + run * self.header.run_bytes();
        let number = self.bytes.get(at..).and_then(|rest| rest.first_chunk());
        number.map_or(u32::MAX, |b| u32::from_le_bytes(*b))
    }

    fn continues(&self, n: usize) -> bool {
        n > 0
            && self.section(&self.sections.continues).get(n / 8).is_some_and(|byte| byte >> (n % 8) & 1 == 1)
    }

    fn keys(&self) -> Keys<'_> {
        Keys {
            restarts: self.u32s(&self.sections.restarts),
            data: self.section(&self.sections.keys),
            count: self.header.blocks as usize,
        }
    }

    fn u64_at(&self, at: usize) -> Option<u64> {
        self.bytes.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b))
    }

    fn u32s(&self, section: &Range<usize>) -> &[[u8; 4]] {
        self.section(section).as_chunks::<4>().0
    }

    fn u16s(&self, section: &Range<usize>) -> &[[u8; 2]] {
        self.section(section).as_chunks::<2>().0
    }

    fn section(&self, section: &Range<usize>) -> &[u8] {
        self.bytes.get(section.clone()).unwrap_or_default()
    }
}

impl std::fmt::Debug for SegmentIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentIndex")
            .field("blocks", &self.header.blocks)
            .field("rows", &self.header.rows)
            .field("layout", &self.header.layout)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}
