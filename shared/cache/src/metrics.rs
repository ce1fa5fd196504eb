//! What the cache counts.

use mixtrics::metrics::{
    BoxedCounter, BoxedCounterVec, BoxedGaugeVec, BoxedHistogramVec, CounterOps, CounterVecOps, RegistryOps,
};
use mixtrics::registry::noop::NoopMetricsRegistry;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a [`crate::BlockCache`] counted since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Blocks.
    pub blocks: TierStats,
    /// Rows of single keys. They come out of blocks, so only hits, entries and bytes are counted.
    pub rows: TierStats,
    /// Indexes.
    pub indexes: TierStats,
}

/// What was found where, and what it occupies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TierStats {
    /// Found in memory.
    pub memory_hits: u64,
    /// Found on the disk.
    pub disk_hits: u64,
    /// Fetched from the store.
    pub store_fetches: u64,
    /// Waited for what another caller was getting.
    pub shared: u64,
    /// Fetches that failed.
    pub failures: u64,
    /// Fetches and disk reads under way now.
    pub in_flight: u64,
    /// Entries in memory.
    pub entries: u64,
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Bytes that memory may take.
    pub memory_capacity: u64,
    /// The disk; all zeros without one.
    pub disk: DiskStats,
}

/// What the disk did, and what it silently left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskStats {
    /// Bytes written.
    pub written_bytes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Entries that were dropped because the queue before the disk was full: it is too slow for what memory evicts.
    pub dropped_queue: u64,
    /// Entries that were dropped because a write buffer was full, or they did not fit one.
    pub dropped_buffer: u64,
    /// Reads or writes refused by a throttle.
    pub throttled: u64,
    /// Reads that failed or whose checksum was wrong; each became a miss.
    pub errors: u64,
}

/// Counters of one thing in several cache lines, so that threads that hit do not take them from each other.
#[derive(Debug, Default)]
pub(crate) struct Striped([Line; 16]);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line(AtomicU64);

impl Striped {
    /// Adds one; `spread` picks the line, any bits that differ between keys do.
    #[inline]
    pub(crate) fn add(&self, spread: u64) {
        self.0[(spread & 15) as usize].0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|line| line.0.load(Ordering::Relaxed)).sum()
    }
}

/// The few of foyer's counters that say what its disk left out. Everything else it measures goes nowhere: its counters of
/// hits are one shared cache line each, on the hottest path there is.
#[derive(Debug, Clone, Default)]
pub(crate) struct DiskCounters(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    queue: AtomicU64,
    buffer: AtomicU64,
    throttled: AtomicU64,
    errors: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
enum Which {
    Queue,
    Buffer,
    Throttled,
    Errors,
}

#[derive(Debug)]
struct Counter(Arc<Counters>, Which);

#[derive(Debug)]
struct Family {
    counters: DiskCounters,
    name: Cow<'static, str>,
}

impl DiskCounters {
    fn cell(counters: &Counters, which: Which) -> &AtomicU64 {
        match which {
            Which::Queue => &counters.queue,
            Which::Buffer => &counters.buffer,
            Which::Throttled => &counters.throttled,
            Which::Errors => &counters.errors,
        }
    }

    pub(crate) fn count_error(&self) {
        self.0.errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, written_bytes: u64, read_bytes: u64) -> DiskStats {
        let of = |which| Self::cell(&self.0, which).load(Ordering::Relaxed);
        DiskStats {
            written_bytes,
            read_bytes,
            dropped_queue: of(Which::Queue),
            dropped_buffer: of(Which::Buffer),
            throttled: of(Which::Throttled),
            errors: of(Which::Errors),
        }
    }
}

impl CounterOps for Counter {
    fn increase(&self, by: u64) {
        DiskCounters::cell(&self.0, self.1).fetch_add(by, Ordering::Relaxed);
    }
}

impl CounterVecOps for Family {
    fn counter(&self, labels: &[Cow<'static, str>]) -> BoxedCounter {
        // Names and labels are foyer 0.22's; `tests/it` sees one of them move.
        let which = match (&*self.name, labels.last().map_or("", |label| &**label)) {
            ("foyer_storage_inner_op_total", "channel_overflow") => Which::Queue,
            ("foyer_storage_inner_op_total", "buffer_overflow") => Which::Buffer,
            ("foyer_storage_op_total", "throttled") => Which::Throttled,
            ("foyer_storage_op_total", "error") => Which::Errors,
            _ => return Box::new(NoopMetricsRegistry),
        };
        Box::new(Counter(Arc::clone(&self.counters.0), which))
    }
}

impl RegistryOps for DiskCounters {
    fn register_counter_vec(
        &self,
        name: Cow<'static, str>,
        _: Cow<'static, str>,
        _: &'static [&'static str],
    ) -> BoxedCounterVec {
        Box::new(Family { counters: self.clone(), name })
    }

    fn register_gauge_vec(
        &self,
        _: Cow<'static, str>,
        _: Cow<'static, str>,
        _: &'static [&'static str],
    ) -> BoxedGaugeVec {
        Box::new(NoopMetricsRegistry)
    }

    fn register_histogram_vec(
        &self,
        _: Cow<'static, str>,
        _: Cow<'static, str>,
        _: &'static [&'static str],
    ) -> BoxedHistogramVec {
        Box::new(NoopMetricsRegistry)
    }

    fn register_histogram_vec_with_buckets(
        &self,
        _: Cow<'static, str>,
        _: Cow<'static, str>,
        _: &'static [&'static str],
        _: Vec<f64>,
    ) -> BoxedHistogramVec {
        Box::new(NoopMetricsRegistry)
    }
}
