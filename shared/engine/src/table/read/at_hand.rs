//! What a read can have without waiting, and the list of what it lacks.
//!
//! Deciding a get is pure: it walks over what is at hand and either answers or says which indexes and blocks it needs.
//! Whoever drives it fetches those, all at once, and asks again; what was fetched stays at hand for the rest of the
//! request, whether the cache keeps it or not, so every round comes further. A warm get never waits, and so has no need
//! of a future, of a view of its own, or of anything else that is counted.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use nacre_cache::{BlockCache, CachedBlock, CachedIndex, CachedRows};
use nacre_types::SegmentId;
use smallvec::SmallVec;

use crate::Source;
use crate::view::Few;

/// How often a get asks the cache for an index that it remembers.
const CACHE_SEES_ONE_IN: u64 = 64;
/// Of so many warm gets one is counted, to know what is hot: counting takes a cache line.
const COUNTED_ONE_IN: u32 = 8;

/// What a request has fetched so far.
#[derive(Default)]
pub(super) struct Fetched {
    indexes: HashMap<SegmentId, CachedIndex>,
    blocks: HashMap<(SegmentId, u32), CachedBlock>,
}

impl Fetched {
    pub(super) fn keep_index(&mut self, segment: SegmentId, index: CachedIndex) {
        self.indexes.insert(segment, index);
    }

    pub(super) fn keep_block(&mut self, segment: SegmentId, number: u32, block: CachedBlock) {
        self.blocks.insert((segment, number), block);
    }
}

/// A block that may have rows of a key.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) segment: SegmentId,
    pub(super) index: &'a CachedIndex,
    pub(super) number: u32,
    pub(super) key: &'a [u8],
    /// The key's.
    pub(super) hash: u64,
}

/// What has to be fetched before a read can go on.
pub(super) enum Lack {
    Index(SegmentId),
    Block(SegmentId, CachedIndex, u32),
}

impl Lack {
    /// Tells one from another.
    pub(super) fn key(&self) -> (SegmentId, Option<u32>) {
        match self {
            Self::Index(segment) => (*segment, None),
            Self::Block(segment, _, number) => (*segment, Some(*number)),
        }
    }
}

/// What is at hand for one attempt, and what the attempt has found out.
pub(super) struct AtHand<'r> {
    cache: &'r BlockCache,
    fetched: Option<&'r Fetched>,
    /// What was not there.
    pub(super) lacks: SmallVec<[Lack; 1]>,
    /// The slowest place that was looked into.
    pub(super) source: Source,
    /// Segments whose filter did not exclude the key.
    pub(super) segments: u32,
    /// Whether this attempt counts for what is hot.
    counts: bool,
}

impl<'r> AtHand<'r> {
    pub(super) fn new(cache: &'r BlockCache, fetched: Option<&'r Fetched>) -> Self {
        Self { cache, fetched, lacks: SmallVec::new(), source: Source::None, segments: 0, counts: true }
    }

    /// As [`AtHand::new`], for a warm get that began at `began`: its nanoseconds say whether it is counted.
    pub(super) fn of_warm_get(cache: &'r BlockCache, began: Duration) -> Self {
        let counts = began.subsec_nanos().is_multiple_of(COUNTED_ONE_IN);
        Self { counts, ..Self::new(cache, None) }
    }

    /// Row `at` of a block was an answer, or part of one.
    #[inline]
    pub(super) fn touch(&self, of: &Block<'_>, rows: &CachedRows, at: usize) {
        if self.counts
            && let CachedRows::Block(block) = rows
        {
            of.index.touch(of.number, at);
            self.cache.keep_rows(of.segment, of.number, block, of.key, of.hash);
        }
    }

    /// The index of a segment, or `None` and a lack. `few` remembers it for the next get: asking the cache costs as
    /// much as the rest of looking into a segment, and a table has many. `hash` is the key's.
    #[inline]
    pub(super) fn index(&mut self, id: SegmentId, few: Option<&Few>, hash: u64) -> Option<CachedIndex> {
        // The cache must see that an index is in use, or it would evict the ones that are asked most.
        let is_remembered = !hash.is_multiple_of(CACHE_SEES_ONE_IN);
        if let Some(few) = few.filter(|_| is_remembered)
            && let Some(held) = few.index.load().upgrade()
        {
            return Some(held);
        }
        let fetched = self.fetched.and_then(|fetched| fetched.indexes.get(&id).cloned());
        let held = fetched.or_else(|| self.cache.index_cached(id));
        match (&held, few) {
            (Some(held), Some(few)) if is_remembered => few.index.store(Arc::downgrade(held)),
            (Some(_), _) => {}
            (None, _) => self.lacks.push(Lack::Index(id)),
        }
        held
    }

    /// What a block has of a key, or `None` and a lack.
    #[inline]
    pub(super) fn rows(&mut self, of: &Block<'_>) -> Option<CachedRows> {
        let Block { segment, index, number, key, hash } = *of;
        let fetched = self.fetched.and_then(|fetched| fetched.blocks.get(&(segment, number)).cloned());
        let held = match fetched {
            Some(block) => Some(CachedRows::Block(block)),
            None => self.cache.rows_cached(segment, number, key, hash),
        };
        match held {
            Some(_) => self.source = self.source.max(Source::Memory),
            None => self.lacks.push(Lack::Block(segment, index.clone(), number)),
        }
        held
    }

    /// Looked into the tail.
    pub(super) fn saw_tail(&mut self) {
        self.source = self.source.max(Source::Tail);
    }
}
