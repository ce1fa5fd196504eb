//! The rows of a whole segment in order, for merges: read ahead in GETs of about a megabyte, past the cache.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use nacre_manifest::{Location, Segment, segment_path};
use nacre_segment::{Block, SegmentIndex, decode_block};
use nacre_store::{GetOptions, ObjectPath, ObjectTag};
use nacre_types::{Place, Result, TableId};

use crate::rows::merge::{RowSource, RowView};
use crate::shared::Shared;

const READ_BYTES: u64 = 1 << 20;
const READ_BLOCKS: u32 = 256;

/// The rows of a segment. Lives on a thread that may block: it waits for the store by itself.
pub struct SegmentRows {
    reader: Reader,
    blocks: VecDeque<Block>,
    at: usize,
    base: Place,
}

struct Reader {
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
    path: ObjectPath,
    tag: Option<ObjectTag>,
    index: Arc<SegmentIndex>,
    next: u32,
    /// Of one GET.
    bytes: u64,
}

impl SegmentRows {
    /// Opens the segment; rows without a place of their own have `base`.
    pub(crate) async fn open(
        shared: &Arc<Shared>,
        table: TableId,
        segment: &Segment,
        base: Place,
    ) -> Result<Self> {
        let path = ObjectPath::new(&segment_path(table, segment))?;
        let tag = match &segment.location {
            Location::Adopted { tag, version_id, .. } => {
                Some(ObjectTag { etag: tag.clone(), version_id: version_id.clone() })
            }
            _ => None,
        };
        let index = Arc::new(read_index(shared, table, segment).await?);
        let runtime = tokio::runtime::Handle::current();
        let reader = Reader { shared: shared.clone(), runtime, path, tag, index, next: 0, bytes: READ_BYTES };
        Ok(Self { reader, blocks: VecDeque::new(), at: 0, base })
    }

    /// Reads about `bytes` at a time instead of a megabyte: for merges of so many segments that their windows count.
    pub fn reading(mut self, bytes: u64) -> Self {
        self.reader.bytes = bytes.clamp(1, READ_BYTES);
        self
    }

    /// The same rows again, from the beginning; what was opened is shared.
    pub fn again(&self) -> Self {
        let Reader { shared, runtime, path, tag, index, bytes, .. } = &self.reader;
        let reader = Reader {
            shared: shared.clone(),
            runtime: runtime.clone(),
            path: path.clone(),
            tag: tag.clone(),
            index: index.clone(),
            next: 0,
            bytes: *bytes,
        };
        Self { reader, blocks: VecDeque::new(), at: 0, base: self.base }
    }

    /// Up to `count` keys, in order, with about as many rows between each two of them.
    pub fn sample_keys(&self, count: u32) -> Vec<Bytes> {
        let blocks = self.reader.index.block_count();
        let step = blocks.div_ceil(count.max(1)).max(1) as usize;
        (0..blocks).step_by(step).filter_map(|block| self.reader.index.block_first_key(block)).collect()
    }

    /// Reads the first rows. Call it on the thread that will use the rows.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub fn start(mut self) -> Result<Self> {
        self.fill()?;
        Ok(self)
    }

    /// As [`SegmentRows::start`], from the first row behind `key` on.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub fn start_behind(mut self, key: &[u8]) -> Result<Self> {
        self.reader.next = self.reader.index.blocks_from(key);
        self.fill()?;
        while self.peek().is_some_and(|row| row.key <= key) {
            self.advance()?;
        }
        Ok(self)
    }

    fn fill(&mut self) -> Result<()> {
        if self.blocks.is_empty() && self.reader.next < self.reader.index.block_count() {
            let runtime = self.reader.runtime.clone();
            let blocks = runtime.block_on(self.reader.read())?;
            self.blocks.extend(blocks);
        }
        Ok(())
    }
}

/// The index of a segment, past the cache.
pub(crate) async fn read_index(shared: &Shared, table: TableId, segment: &Segment) -> Result<SegmentIndex> {
    let path = match &segment.location {
        Location::Adopted { index_path, .. } => ObjectPath::new(index_path)?,
        _ => ObjectPath::new(&segment_path(table, segment))?,
    };
    let range = segment.index.offset..segment.index.offset.saturating_add(segment.index.length);
    let bytes = shared.store.get(&path, GetOptions::range(range)).await?.bytes;
    SegmentIndex::decode(bytes).map_err(|e| e.context(format!("index of {path}")))
}

impl Reader {
    async fn read(&mut self) -> Result<Vec<Block>> {
        let asked = Ahead { first: self.next, blocks: READ_BLOCKS, bytes: self.bytes };
        let blocks = read_ahead(&self.shared, &self.path, self.tag.as_ref(), &self.index, asked).await?;
        self.next += blocks.len() as u32;
        Ok(blocks)
    }
}

/// Which blocks to read at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ahead {
    pub(crate) first: u32,
    /// Most blocks.
    pub(crate) blocks: u32,
    /// Most bytes, unless the first block alone has more.
    pub(crate) bytes: u64,
}

/// Reads a block and those behind it by one GET for each run of their pages; at least the first, if there is one.
pub(crate) async fn read_ahead(
    shared: &Shared,
    path: &ObjectPath,
    tag: Option<&ObjectTag>,
    index: &SegmentIndex,
    asked: Ahead,
) -> Result<Vec<Block>> {
    let end = index.block_count().min(asked.first.saturating_add(asked.blocks));
    let mut plans = Vec::new();
    let mut spans: Vec<std::ops::Range<u64>> = Vec::new();
    for number in asked.first..end {
        let plan = index.fetch_plan(number);
        let widened: Vec<_> = match spans.is_empty() {
            true => plan.to_vec(),
            false => spans.iter().zip(&plan).map(|(a, b)| a.start.min(b.start)..a.end.max(b.end)).collect(),
        };
        let bytes: u64 = widened.iter().map(|range| range.end - range.start).sum();
        if !plans.is_empty() && (bytes > asked.bytes || widened.len() != plan.len()) {
            break;
        }
        spans = widened;
        plans.push(plan);
    }
    let mut fetched = Vec::with_capacity(spans.len());
    for span in &spans {
        let options = GetOptions { if_tag: tag.cloned(), ..GetOptions::range(span.clone()) };
        fetched.push(shared.store.get(path, options).await?.bytes);
    }
    let mut blocks = Vec::with_capacity(plans.len());
    for (number, plan) in (asked.first..).zip(plans) {
        let parts: Vec<Bytes> = plan
            .iter()
            .zip(&spans)
            .zip(&fetched)
            .map(|((part, span), bytes)| {
                bytes.slice((part.start - span.start) as usize..(part.end - span.start) as usize)
            })
            .collect();
        let block = decode_block(index, number, &parts);
        blocks.push(block.map_err(|e| e.context(format!("block {number} of {path}")))?);
    }
    Ok(blocks)
}

impl RowSource for SegmentRows {
    fn peek(&self) -> Option<RowView<'_>> {
        self.blocks.front().map(|block| {
            let row = block.row(self.at);
            RowView {
                key: row.key,
                version: row.version,
                place: row.place.unwrap_or(self.base),
                index: 0,
                expires_at: row.expires_at,
                value: row.value,
            }
        })
    }

    fn advance(&mut self) -> Result<()> {
        self.at += 1;
        if self.blocks.front().is_some_and(|block| self.at >= block.len()) {
            self.blocks.pop_front();
            self.at = 0;
            self.fill()?;
        }
        Ok(())
    }
}
