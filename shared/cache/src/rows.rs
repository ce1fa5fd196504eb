//! Rows that are asked for, each key's by themselves.
//!
//! A block is what the store serves at once; a key is what is asked for. Where hot keys lie anywhere, a block that is held
//! for the sake of one of them holds a hundred others that nobody asks for, and a memory of a tenth of the data answers
//! less than half of what its hottest rows alone would. So what a get found in a block is cut out and held by itself, in a
//! memory of its own. Both are looked into: hot keys side by side are better off in their block, and a scan reads blocks.
//!
//! An entry is all rows of one key in one block, so it is as immutable as the block. It is found by the key's hash, and the
//! key is compared: a collision is a miss. An entry that is not there says nothing; absence is the block's to tell.
//!
//! The map is quick_cache's: S3-FIFO like the blocks', and it tells what it holds. What is hot is worth knowing when other
//! segments are about to answer for the same keys (`nacre_engine`'s warming).

use crate::key::{BlockKey, KeyHasher};
use crate::metrics::{Striped, TierStats};
use bytes::Bytes;
use nacre_segment::Block;
use nacre_types::SegmentId;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};
use std::hash::{Hash, Hasher};
use std::ops::Range;

/// Bytes of bookkeeping of an entry: its key, its place in the map and in the queue, and the count of who holds its bytes.
const ENTRY_OVERHEAD: usize = 136;
/// Memory is cut into shards of about this size, each with a lock of its own.
const SHARD_BYTES: usize = 1 << 20;
const SHARDS_MAX: usize = 64;
/// The part of a shard that one key may take.
const LARGEST_SHARE: u64 = 8;
/// What an entry is guessed to weigh: half as many keys as would fit are remembered after they have gone.
const ENTRY_GUESS: usize = 512;

/// The rows of a key in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RowsKey {
    block: BlockKey,
    hash: u64,
}

impl Hash for RowsKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.block.spread() ^ self.hash);
    }
}

#[derive(Debug, Clone)]
struct Weigh;

impl Weighter<RowsKey, Bytes> for Weigh {
    fn weight(&self, _: &RowsKey, rows: &Bytes) -> u64 {
        (rows.len() + ENTRY_OVERHEAD) as u64
    }
}

/// Rows in memory.
pub(crate) struct Rows {
    /// `None` = no memory is given to them.
    held: Option<Cache<RowsKey, Bytes, Weigh, KeyHasher>>,
    hits: Striped,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Rows {
    pub(crate) fn new(memory_bytes: usize) -> Self {
        let options = OptionsBuilder::new()
            .shards((memory_bytes / SHARD_BYTES).clamp(1, SHARDS_MAX))
            .estimated_items_capacity(memory_bytes / ENTRY_GUESS)
            .weight_capacity(memory_bytes as u64)
            .build()
            .ok()
            .filter(|_| memory_bytes > 0);
        let held = options.map(|options| {
            Cache::with_options(options, Weigh, KeyHasher::default(), DefaultLifecycle::default())
        });
        Self { held, hits: Striped::default() }
    }

    /// Gives rows so much memory from now on; none was given, and none is.
    pub(crate) fn resize(&self, memory_bytes: u64) {
        // Asked for whenever an index comes: what changes little is not worth the locks.
        if let Some(held) =
            self.held.as_ref().filter(|held| held.capacity().abs_diff(memory_bytes) > memory_bytes / 64)
        {
            held.set_capacity(memory_bytes);
        }
    }

    /// The rows of `key`, whose hash is `hash`, in a block.
    #[inline]
    pub(crate) fn get(&self, block: BlockKey, hash: u64, key: &[u8]) -> Option<Block> {
        let bytes = self.held.as_ref()?.get(&RowsKey { block, hash })?;
        // Lengths of one row or a few: cheaper than to hold them.
        let rows = Block::from_bytes(bytes).ok().filter(|rows| rows.key(0) == key)?;
        self.hits.add(hash);
        Some(rows)
    }

    /// Holds `rows` of a block, which are all that it has of one key.
    pub(crate) fn insert(&self, block: BlockKey, hash: u64, whole: &Block, rows: Range<usize>) {
        let Some(held) = &self.held else { return };
        let Some(cut) = whole.cut(rows) else { return };
        let bytes = cut.as_bytes().clone();
        if (bytes.len() + ENTRY_OVERHEAD) as u64 <= held.shard_capacity() / LARGEST_SHARE {
            held.insert(RowsKey { block, hash }, bytes);
        }
    }

    /// Keys whose rows are held, and the segment of each; where there are more than `most`, some of them.
    pub(crate) fn keys(&self, most: usize) -> impl Iterator<Item = (SegmentId, Bytes)> {
        let step = self.held.as_ref().map_or(1, |held| held.len().div_ceil(most.max(1))).max(1);
        self.held
            .iter()
            .flat_map(Cache::iter)
            .step_by(step)
            .filter_map(|(at, bytes)| Some((at.block.segment, Block::from_bytes(bytes).ok()?.key_bytes(0))))
    }

    /// Lets go of the rows of some segments.
    pub(crate) fn forget(&self, is_gone: impl Fn(SegmentId) -> bool) {
        if let Some(held) = &self.held {
            held.retain(|at, _| !is_gone(at.block.segment));
        }
    }

    pub(crate) fn stats(&self) -> TierStats {
        let of =
            |count: fn(&Cache<RowsKey, Bytes, Weigh, KeyHasher>) -> u64| self.held.as_ref().map_or(0, count);
        TierStats {
            memory_hits: self.hits.sum(),
            entries: of(|held| held.len() as u64),
            memory_bytes: of(Cache::weight),
            memory_capacity: of(Cache::capacity),
            ..TierStats::default()
        }
    }
}
