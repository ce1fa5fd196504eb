//! How much of the log waits to be flushed, where this process does not read it.
//!
//! A process that holds a partition's tail counts its bytes. One that only appends knows where its own records went and how
//! long they were, and reads now and then how far the partition is flushed; the bytes between are records times their mean
//! length. In an outage of the catalog the last answer stays, so the estimate grows with what is written, as the tail does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nacre_log::FlushedThrough;
use nacre_types::{Offset, PartitionId};

use crate::node::Node;
use crate::tail::flushed_through_record;

/// How often it is read how far partitions are flushed that this process appends to.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The newest record's part in the mean length: one in so many.
const MEAN_OF: u64 = 16;

/// What one process that only appends knows of each partition.
#[derive(Debug)]
pub(crate) struct Backlog(Vec<Estimate>);

#[derive(Debug, Default)]
struct Estimate {
    /// The offset after the newest record that is known.
    end: AtomicU64,
    /// Everything below is flushed.
    flushed: AtomicU64,
    /// Mean bytes of a record.
    record_bytes: AtomicU64,
    /// What waited when it was last looked.
    seen_bytes: AtomicU64,
    /// How fast it grew while nothing was flushed, in bytes a second.
    growth: AtomicU64,
}

impl Backlog {
    /// Nothing known, of so many partitions.
    pub(crate) fn new(partitions: u32) -> Self {
        Self((0..partitions).map(|_| Estimate::default()).collect())
    }

    /// A record of `bytes` was appended before `next`.
    pub(crate) fn appended(&self, partition: PartitionId, next: Offset, bytes: u64) {
        let Some(known) = self.0.get(partition.0 as usize) else { return };
        known.end.fetch_max(next.0, Ordering::Relaxed);
        let mean = known.record_bytes.load(Ordering::Relaxed);
        let mean = if mean == 0 { bytes } else { mean - mean / MEAN_OF + bytes / MEAN_OF };
        known.record_bytes.store(mean.max(1), Ordering::Relaxed);
    }

    /// Everything below `offset` is flushed.
    pub(crate) fn flushed(&self, partition: PartitionId, offset: Offset) {
        if let Some(known) = self.0.get(partition.0 as usize) {
            known.flushed.fetch_max(offset.0, Ordering::Relaxed);
        }
    }

    /// Bytes that wait, roughly; 0 where nothing was appended, or nobody has looked yet.
    pub(crate) fn bytes(&self, partition: PartitionId) -> u64 {
        let Some(known) = self.0.get(partition.0 as usize) else { return 0 };
        let records = known.end.load(Ordering::Relaxed).saturating_sub(known.flushed.load(Ordering::Relaxed));
        records.saturating_mul(known.record_bytes.load(Ordering::Relaxed))
    }

    /// The offset after the newest record that this process appended; `None` where it appended none.
    pub(crate) fn end(&self, partition: PartitionId) -> Option<Offset> {
        let end = self.0.get(partition.0 as usize)?.end.load(Ordering::Relaxed);
        (end > 0).then_some(Offset(end))
    }

    /// `bytes` wait now, `after` the last look.
    fn looked(&self, partition: PartitionId, bytes: u64, after: Duration) {
        let Some(known) = self.0.get(partition.0 as usize) else { return };
        let before = known.seen_bytes.swap(bytes, Ordering::Relaxed);
        // Less than before: something was flushed, which says nothing about what came in.
        if bytes >= before && !after.is_zero() {
            let now = ((bytes - before) as f64 / after.as_secs_f64()) as u64;
            let old = known.growth.load(Ordering::Relaxed);
            known.growth.store(if old == 0 { now } else { (3 * old + now) / 4 }, Ordering::Relaxed);
        }
    }

    /// In how many seconds `at_most` bytes will wait if nothing is flushed from now on; `None` where nothing comes in.
    pub(crate) fn seconds_until(&self, partition: PartitionId, bytes: u64, at_most: u64) -> Option<u64> {
        let growth = self.0.get(partition.0 as usize)?.growth.load(Ordering::Relaxed);
        at_most.saturating_sub(bytes).checked_div(growth)
    }

    /// Whether it is worth a look how far the partition is flushed.
    fn waits(&self, partition: PartitionId) -> bool {
        self.bytes(partition) > 0
    }
}

/// Reads how far the partitions are flushed that this process appends to and does not hold, and how fast all grow.
pub(crate) async fn look(node: Arc<Node>) {
    let shared = &node.shared;
    let shutdown = shared.ctx.tasks.shutdown_token();
    let mut looked_at = shared.ctx.clock.monotonic();
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let partitions = || (0..node.partitions()).map(PartitionId);
        let now = shared.ctx.clock.monotonic();
        for partition in partitions() {
            shared.backlog.looked(partition, shared.waiting_bytes(partition), now.saturating_sub(looked_at));
        }
        looked_at = now;
        for partition in partitions().filter(|&it| shared.tails.get(it).is_err() && shared.backlog.waits(it))
        {
            match shared.catalog.record(&flushed_through_record(partition)).await {
                Ok(Some((bytes, _))) => match FlushedThrough::decode(&bytes) {
                    Ok(flushed) => shared.backlog.flushed(partition, flushed.position.offset),
                    Err(error) => {
                        tracing::error!(%partition, %error, "how far it is flushed is not readable")
                    }
                },
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%partition, %error, "it is not known how far the partition is flushed");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_what_was_appended_and_is_not_flushed() {
        let (backlog, partition) = (Backlog::new(2), PartitionId(1));
        assert_eq!(backlog.bytes(partition), 0);
        for offset in 0..100 {
            backlog.appended(partition, Offset(offset + 1), 1_000);
        }
        assert_eq!(backlog.bytes(partition), 100_000);
        backlog.flushed(partition, Offset(90));
        assert_eq!(backlog.bytes(partition), 10_000);
        backlog.flushed(partition, Offset(40));
        assert_eq!(backlog.bytes(partition), 10_000, "it only grows");
        backlog.flushed(partition, Offset(200));
        assert_eq!((backlog.bytes(partition), backlog.bytes(PartitionId(7))), (0, 0));
    }

    #[test]
    fn the_time_until_a_tail_is_full_follows_how_fast_it_grows() {
        let (backlog, partition, second) = (Backlog::new(1), PartitionId(0), Duration::from_secs(1));
        assert_eq!(backlog.seconds_until(partition, 0, 1_000), None, "nothing comes in");
        for bytes in [100, 200, 300] {
            backlog.looked(partition, bytes, second);
        }
        assert_eq!(backlog.seconds_until(partition, 300, 1_000), Some(7));
        backlog.looked(partition, 0, second);
        assert_eq!(backlog.seconds_until(partition, 0, 1_000), Some(10), "a flush is no growth");
        assert_eq!(backlog.seconds_until(partition, 2_000, 1_000), Some(0));
    }

    #[test]
    fn the_mean_follows_what_is_written() {
        let (backlog, partition) = (Backlog::new(1), PartitionId(0));
        backlog.appended(partition, Offset(1), 10_000);
        for offset in 1..200 {
            backlog.appended(partition, Offset(offset + 1), 100);
        }
        let mean = backlog.bytes(partition) / 200;
        assert!((50..300).contains(&mean), "{mean}");
    }
}
