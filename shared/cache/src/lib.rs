//! The cache of a node: decoded blocks in memory, their bytes on a local disk, the indexes of segments and single rows that
//! are asked for beside them.
//!
//! Keys are (segment, block). A segment is immutable and its id is never reused, so nothing is ever invalidated and a
//! disk from before a restart can be believed as far as its checksums go. What falls out of memory goes to the disk; what
//! falls off the disk is read from the store again. Losing all of it costs time, never an answer.
//!
//! Memory is foyer's cache with S3-FIFO, whose hits take a shared lock and two counters, no list moves. The disk is
//! foyer's block engine. One fetch is under way per block, whoever asks (see [`flight`]): no task is spawned for it, so a
//! simulator that replays a seed sees the same order every time as long as there is no disk. foyer's disk engine does
//! spawn its own tasks on the runtime in which [`BlockCache::open`] ran.

mod flight;
mod index;
mod key;
mod metrics;
mod rows;
mod tier;

pub use index::{HeldIndex, HotBlock};
pub use key::BlockKey;
pub use metrics::{CacheStats, DiskStats, TierStats};
pub use tier::{Cached, Source};

use bytes::Bytes;
use nacre_runtime::Context;
use nacre_segment::{Block, SegmentIndex};
use nacre_types::{Error, Result, SegmentId};
use rows::Rows;
use std::future::Future;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use tier::{Disk, Tier};

/// The smallest disk that a cache takes, in bytes.
pub const DISK_BYTES_MIN: u64 = 64 << 20;
/// The indexes get one in this many of the disk's bytes.
const DISK_INDEX_SHARE: u64 = 16;
/// The least that the indexes get of the disk, in bytes.
const DISK_INDEX_MIN: u64 = 16 << 20;

/// How big a cache may be, and where.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// For decoded blocks in memory, in bytes.
    pub memory_bytes: usize,
    /// For rows of single keys in memory, in bytes; 0 = none are held. They have what indexes leave of theirs besides.
    pub row_bytes: usize,
    /// For indexes in memory, in bytes.
    pub index_bytes: usize,
    /// The disk tier, if there is one.
    pub disk: Option<DiskConfig>,
}

/// A directory of the local disk.
#[derive(Debug, Clone)]
pub struct DiskConfig {
    /// The directory, made if it is not there. One process at a time; what it holds is only a cache.
    pub dir: PathBuf,
    /// How many bytes it may take, at least [`DISK_BYTES_MIN`].
    pub bytes: u64,
}

/// A block that is held by the cache; it stays alive while this does.
pub type CachedBlock = Cached<Block>;
/// Rows of a key: in the block that holds them, or by themselves.
#[derive(Debug, Clone)]
pub enum CachedRows {
    /// A whole block.
    Block(CachedBlock),
    /// All that a block has of one key.
    OfKey(Block),
}

impl Deref for CachedRows {
    type Target = Block;
    #[inline]
    fn deref(&self) -> &Block {
        match self {
            Self::Block(block) => block,
            Self::OfKey(rows) => rows,
        }
    }
}

/// An index. The cache counts its bytes while it holds it; one that was evicted lives on only with its readers.
pub type CachedIndex = Arc<HeldIndex>;

/// The blocks, rows and indexes that a process holds.
#[derive(Debug)]
pub struct BlockCache {
    blocks: Tier<Block>,
    rows: Rows,
    row_bytes: u64,
    indexes: Tier<CachedIndex>,
}

impl BlockCache {
    /// Opens the cache, and finds again what a directory held before. Runs inside a tokio runtime.
    ///
    /// # Errors
    /// `Invalid` (`cache-disk-small`) for a disk below [`DISK_BYTES_MIN`]; `Unavailable` (`cache-disk`) when the
    /// directory cannot be used.
    pub async fn open(config: CacheConfig, ctx: &Context) -> Result<Self> {
        let begun = ctx.clock.monotonic();
        let (mut block_disk, mut index_disk) = (None, None);
        if let Some(disk) = &config.disk {
            if disk.bytes < DISK_BYTES_MIN {
                return Err(Error::invalid(format!(
                    "the cache's disk has {} bytes; it needs at least {DISK_BYTES_MIN}",
                    disk.bytes
                ))
                .with_code("cache-disk-small"));
            }
            let for_indexes = (disk.bytes / DISK_INDEX_SHARE).max(DISK_INDEX_MIN);
            index_disk = Some(Disk { dir: disk.dir.join("indexes"), bytes: for_indexes });
            block_disk = Some(Disk { dir: disk.dir.join("blocks"), bytes: disk.bytes - for_indexes });
        }
        let blocks = Tier::open("blocks", config.memory_bytes, block_disk).await?;
        let indexes = Tier::open("indexes", config.index_bytes, index_disk).await?;
        if config.disk.is_some() {
            let took = ctx.clock.monotonic().saturating_sub(begun);
            tracing::info!(milliseconds = took.as_millis() as u64, "opened the cache's disk");
        }
        let cache =
            Self { blocks, rows: Rows::new(config.row_bytes), row_bytes: config.row_bytes as u64, indexes };
        cache.lend_to_rows();
        Ok(cache)
    }

    /// The block, if memory holds it. Never waits: the path of a warm read.
    #[inline]
    pub fn get_cached(&self, segment: SegmentId, block: u32) -> Option<CachedBlock> {
        self.blocks.get(BlockKey { segment, block })
    }

    /// What a block has of `key`, whose hash ([`nacre_segment::key_hash`]) is `hash`, if memory holds that or the block.
    /// Never waits.
    #[inline]
    pub fn rows_cached(&self, segment: SegmentId, block: u32, key: &[u8], hash: u64) -> Option<CachedRows> {
        // The rows first: a block is not kept for the sake of one that has its own place.
        let at = BlockKey { segment, block };
        match self.rows.get(at, hash, key) {
            Some(rows) => Some(CachedRows::OfKey(rows)),
            None => self.blocks.get(at).map(CachedRows::Block),
        }
    }

    /// Holds what a block has of `key` by itself: it was asked for.
    pub fn keep_rows(&self, segment: SegmentId, number: u32, block: &Block, key: &[u8], hash: u64) {
        self.rows.insert(BlockKey { segment, block: number }, hash, block, block.find(key));
    }

    /// Lets go of the rows of segments that nobody will ask again: others need not wait for their turn to go.
    pub fn forget_rows(&self, is_gone: impl Fn(SegmentId) -> bool) {
        self.rows.forget(is_gone);
    }

    /// Keys whose rows are held by themselves, and the segment of each; where there are more than `most`, some of them.
    pub fn keys_of_rows(&self, most: usize) -> impl Iterator<Item = (SegmentId, Bytes)> {
        self.rows.keys(most)
    }

    /// The block from memory, else from the disk, else by `fetch`, and where it came from. Of those who ask for one
    /// block at the same time one looks, the others wait for its outcome, be it a block or an error. Dropping the
    /// future of the one who looks hands the work to one of the others, so a deadline belongs around this call, not
    /// into `fetch`: an error of `fetch` is everyone's.
    ///
    /// # Errors
    /// Those of `fetch`. A disk that fails is a miss.
    pub async fn get_or_fetch<F, Fut>(
        &self,
        segment: SegmentId,
        block: u32,
        fetch: F,
    ) -> Result<(CachedBlock, Source)>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Block>>,
    {
        self.blocks.get_or_fetch(BlockKey { segment, block }, fetch).await
    }

    /// Puts a block in that was fetched with others: by a scan, a warm-up.
    pub fn insert(&self, segment: SegmentId, block: u32, value: Block) -> CachedBlock {
        self.blocks.insert(BlockKey { segment, block }, value)
    }

    /// The index of a segment, if memory holds it.
    #[inline]
    pub fn index_cached(&self, segment: SegmentId) -> Option<CachedIndex> {
        self.indexes.get(BlockKey { segment, block: 0 }).map(|held| Arc::clone(&held))
    }

    /// The index of a segment, as [`BlockCache::get_or_fetch`] gets a block.
    ///
    /// # Errors
    /// Those of `fetch`.
    pub async fn index_or_fetch<F, Fut>(&self, segment: SegmentId, fetch: F) -> Result<(CachedIndex, Source)>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<SegmentIndex>>,
    {
        let fetch = || async { fetch().await.map(|index| Arc::new(HeldIndex::new(index))) };
        let (held, source) = self.indexes.get_or_fetch(BlockKey { segment, block: 0 }, fetch).await?;
        if source != Source::Memory {
            self.lend_to_rows();
        }
        Ok((Arc::clone(&held), source))
    }

    /// Puts an index in, for example of a segment that was just written.
    pub fn insert_index(&self, segment: SegmentId, index: SegmentIndex) -> CachedIndex {
        let held =
            Arc::clone(&self.indexes.insert(BlockKey { segment, block: 0 }, Arc::new(HeldIndex::new(index))));
        self.lend_to_rows();
        held
    }

    /// Rows have the memory that indexes do not take: a node of few large tables needs little for indexes, one of many
    /// small ones all that is meant for them.
    fn lend_to_rows(&self) {
        self.rows.resize(self.row_bytes + self.indexes.memory_left());
    }

    /// What was found where, what it occupies and what the disk dropped.
    pub fn stats(&self) -> CacheStats {
        CacheStats { blocks: self.blocks.stats(), rows: self.rows.stats(), indexes: self.indexes.stats() }
    }

    /// Writes what memory holds to the disk, so that the next [`BlockCache::open`] finds it, and stops using the disk.
    /// Without a disk it does nothing. Reads go on, from memory and by their `fetch`.
    ///
    /// # Errors
    /// `Unavailable` (`cache-disk`). Nothing is lost by it but warmth.
    pub async fn close(&self) -> Result<()> {
        let indexes = self.indexes.close().await;
        self.blocks.close().await.and(indexes)
    }
}
