//! Indexes and blocks of segments: from memory, from disk, or by one ranged GET each.

use std::sync::Arc;

use futures::stream::{FuturesUnordered, StreamExt as _};
use hashbrown::HashSet;
use nacre_cache::{CachedBlock, CachedIndex};
use nacre_manifest::{Location, Manifest, SegmentRef, segment_path};
use nacre_segment::{SegmentIndex, decode_block};
use nacre_store::{GetOptions, ObjectPath, ObjectTag};
use nacre_types::{Error, ErrorKind, Result, SegmentId, TableId};

use super::at_hand::{AtHand, Fetched, Lack};
use crate::segment_rows::{Ahead, read_ahead};
use crate::shared::Shared;
use crate::{Receipt, Source};

/// How far a scan reads ahead at once: about a row group of the native layout, several of small ones.
const AHEAD_BLOCKS: u32 = 40;
const AHEAD_BYTES: u64 = 512 << 10;
/// How much one request has under way at once.
const FETCHES_AT_ONCE: usize = 64;

/// Reads of one request go through one of these: it knows the table and keeps the receipt.
pub(crate) struct Fetcher<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) table: TableId,
    pub(crate) receipt: Receipt,
}

impl Fetcher<'_> {
    /// Asks `attempt` until nothing is lacking, and fetches what is, in between.
    ///
    /// # Errors
    /// Those of [`Fetcher::index`] and [`Fetcher::block`].
    pub(super) async fn until_answered<T>(
        &mut self,
        manifest: &Manifest,
        mut attempt: impl FnMut(&mut AtHand<'_>) -> Option<T>,
    ) -> Result<T> {
        let mut fetched = Fetched::default();
        loop {
            let mut at_hand = AtHand::new(&self.shared.cache, Some(&fetched));
            let answer = attempt(&mut at_hand);
            self.receipt.source = self.receipt.source.max(at_hand.source);
            self.receipt.segments += at_hand.segments;
            if let Some(answer) = answer {
                return Ok(answer);
            }
            let lacks = at_hand.lacks;
            self.fetch(manifest, lacks, &mut fetched).await?;
        }
    }

    /// Fetches what is lacking, side by side.
    async fn fetch(
        &mut self,
        manifest: &Manifest,
        lacks: impl IntoIterator<Item = Lack>,
        fetched: &mut Fetched,
    ) -> Result<()> {
        let (shared, table) = (self.shared, self.table);
        let mut seen = HashSet::new();
        let mut waiting = lacks.into_iter().filter(|lack| seen.insert(lack.key()));
        let mut under_way: FuturesUnordered<_> = waiting
            .by_ref()
            .take(FETCHES_AT_ONCE)
            .map(|lack| fetch_one(shared, table, manifest, lack))
            .collect();
        while let Some(one) = under_way.next().await {
            let (key, held, receipt) = one?;
            self.receipt.add(&receipt);
            match (key, held) {
                ((segment, Some(number)), Held::Block(block)) => fetched.keep_block(segment, number, block),
                ((segment, _), Held::Index(index)) => fetched.keep_index(segment, index),
                ((_, None), Held::Block(_)) => {}
            }
            under_way.extend(waiting.next().map(|lack| fetch_one(shared, table, manifest, lack)));
        }
        Ok(())
    }

    /// The index of a segment.
    ///
    /// # Errors
    /// `Unavailable` (`segment-gone`) where the object is not there any more; `Corrupt`.
    pub(crate) async fn index(&mut self, segment: &SegmentRef<'_>) -> Result<CachedIndex> {
        let id = segment.id();
        if let Some(index) = self.shared.cache.index_cached(id) {
            return Ok(index);
        }
        let whole = segment.to_segment();
        let (path, tag) = match &whole.location {
            Location::Adopted { index_path, .. } => (index_path.clone(), None),
            _ => (segment_path(self.table, &whole), None),
        };
        let range = whole.index.offset..whole.index.offset.saturating_add(whole.index.length);
        let shared = self.shared.clone();
        let length = whole.index.length;
        let (index, source) = self
            .shared
            .cache
            .index_or_fetch(id, move || async move {
                shared.metrics.index_gets.inc();
                let bytes = get_range(&shared, &path, tag, range).await?;
                SegmentIndex::decode(bytes).map_err(|e| e.context(format!("index of {path}")))
            })
            .await?;
        self.count(source, length);
        Ok(index)
    }

    /// A decoded block of a segment.
    ///
    /// # Errors
    /// `Unavailable` (`segment-gone`); `Corrupt`.
    pub(crate) async fn block(
        &mut self,
        segment: &SegmentRef<'_>,
        index: &CachedIndex,
        block: u32,
    ) -> Result<CachedBlock> {
        let id = segment.id();
        if let Some(found) = self.shared.cache.get_cached(id, block) {
            self.receipt.source = self.receipt.source.max(Source::Memory);
            return Ok(found);
        }
        let whole = segment.to_segment();
        let path = segment_path(self.table, &whole);
        let tag = match whole.location {
            Location::Adopted { tag, version_id, .. } => Some(ObjectTag { etag: tag, version_id }),
            _ => None,
        };
        let (shared, index) = (self.shared.clone(), index.clone());
        let plan = index.fetch_plan(block);
        let bytes: u64 = plan.iter().map(|range| range.end - range.start).sum();
        let gets = plan.len() as u32;
        let (found, source) = self
            .shared
            .cache
            .get_or_fetch(id, block, move || async move {
                let mut fetched = Vec::with_capacity(plan.len());
                for range in plan {
                    shared.metrics.block_gets.inc();
                    fetched.push(get_range(&shared, &path, tag.clone(), range).await?);
                }
                decode_block(&index, block, &fetched)
                    .map_err(|e| e.context(format!("block {block} of {path}")))
            })
            .await?;
        if source == nacre_cache::Source::Store {
            self.receipt.store_gets += gets - 1;
        }
        self.count(source, bytes);
        Ok(found)
    }

    /// As [`Fetcher::block`], for one who will go on to the blocks behind it: a miss brings them too, by the same GET.
    ///
    /// # Errors
    /// Those of [`Fetcher::block`].
    pub(crate) async fn block_of_run(
        &mut self,
        segment: &SegmentRef<'_>,
        index: &CachedIndex,
        block: u32,
    ) -> Result<CachedBlock> {
        if let Some(found) = self.shared.cache.get_cached(segment.id(), block) {
            self.receipt.source = self.receipt.source.max(Source::Memory);
            return Ok(found);
        }
        let whole = segment.to_segment();
        let path = ObjectPath::new(&segment_path(self.table, &whole))?;
        let tag = match whole.location {
            Location::Adopted { tag, version_id, .. } => Some(ObjectTag { etag: tag, version_id }),
            _ => None,
        };
        let asked = Ahead { first: block, blocks: AHEAD_BLOCKS, bytes: AHEAD_BYTES };
        let blocks =
            read_ahead(self.shared, &path, tag.as_ref(), index, asked).await.map_err(|e| gone(e, &path))?;
        let gets = index.fetch_plan(block).len() as u32;
        self.shared.metrics.block_gets.inc_by(u64::from(gets));
        self.receipt.store_gets += gets.saturating_sub(1);
        let mut first = None;
        let mut bytes = 0;
        for (number, read) in (block..).zip(blocks) {
            bytes += read.size() as u64;
            let held = self.shared.cache.insert(segment.id(), number, read);
            first.get_or_insert(held);
        }
        self.count(nacre_cache::Source::Store, bytes);
        first.ok_or_else(|| Error::internal(format!("block {block} of {path} is beyond its end")))
    }

    fn count(&mut self, source: nacre_cache::Source, bytes: u64) {
        let source = match source {
            nacre_cache::Source::Memory => Source::Memory,
            nacre_cache::Source::Disk => Source::Disk,
            nacre_cache::Source::Store => {
                self.receipt.store_gets += 1;
                self.receipt.store_bytes += bytes;
                self.shared.metrics.store_bytes.inc_by(bytes);
                Source::Store
            }
        };
        self.receipt.source = self.receipt.source.max(source);
    }
}

enum Held {
    Index(CachedIndex),
    Block(CachedBlock),
}

async fn fetch_one(
    shared: &Arc<Shared>,
    table: TableId,
    manifest: &Manifest,
    lack: Lack,
) -> Result<((SegmentId, Option<u32>), Held, Receipt)> {
    let mut fetcher = Fetcher { shared, table, receipt: Receipt::default() };
    let key = lack.key();
    let segment = manifest
        .segment_ref(key.0)
        .ok_or_else(|| Error::internal(format!("segment {} is not in the view it was found in", key.0)))?;
    let held = match &lack {
        Lack::Index(_) => Held::Index(fetcher.index(&segment).await?),
        Lack::Block(_, index, number) => Held::Block(fetcher.block(&segment, index, *number).await?),
    };
    Ok((key, held, fetcher.receipt))
}

async fn get_range(
    shared: &Shared,
    path: &str,
    if_tag: Option<ObjectTag>,
    range: std::ops::Range<u64>,
) -> Result<bytes::Bytes> {
    let path = ObjectPath::new(path)?;
    let copies = shared.config.read_copies.saturating_sub(1);
    match shared.store.get(&path, GetOptions { range: Some(range), if_tag, copies }).await {
        Ok(object) => Ok(object.bytes),
        Err(error) => Err(gone(error, &path)),
    }
}

/// An object that is not there means *my manifest is old*: whoever asks reads the table log again. Never an absence.
fn gone(error: Error, path: &ObjectPath) -> Error {
    if error.kind() == ErrorKind::NotFound {
        return Error::unavailable(format!("segment object {path} is gone")).with_code("segment-gone");
    }
    error
}
