//! The log over an object store.

use crate::{AppendOutcome, Attempts, EncodedRecord, Log, LogPosition, Tail, WriteSearch};
use async_trait::async_trait;
use nacre_runtime::Context;
use nacre_store::{ObjectPath, ObjectStore};
use nacre_types::{LogIncarnation, PartitionId, Result, WriteId};
use std::sync::Arc;
use std::time::Duration;

/// How a log over an object store behaves.
#[derive(Debug, Clone)]
pub struct ObjectLogConfig {
    /// How many partitions. Every process of a log must say the same.
    pub partitions: u32,
    /// Which log this is; from the store's identity.
    pub incarnation: LogIncarnation,
    /// A chunk is closed when it holds this many bytes. More: fewer requests under load; less: a chunk takes less time.
    pub max_chunk_bytes: usize,
    /// Appends that wait for a chunk hold at most this many bytes per partition; beyond it they are `Overloaded`.
    pub max_queued_bytes: usize,
    /// Chunks that are kept in memory for this process's own tails, in bytes per partition.
    pub window_bytes: usize,
    /// How far this process's clock may be from the store's own date before it does not append any more.
    pub clock_skew_bound: Duration,
    /// After this long a request that has not been answered is given up (a put: repeated with the same bytes).
    pub attempt_timeout: Duration,
    /// How often a waiting tail looks for chunks of other processes.
    pub poll_every: Duration,
    /// After this long without news a waiting tail only polls the beacon.
    pub idle_after: Duration,
    /// How often the beacon is polled then. Every poll is a request: a second costs about a dollar a month on S3.
    pub idle_poll_every: Duration,
}

impl Default for ObjectLogConfig {
    /// For a local directory or memory, where a poll costs nothing.
    fn default() -> Self {
        Self {
            partitions: 1,
            incarnation: LogIncarnation(0),
            max_chunk_bytes: 8 << 20,
            max_queued_bytes: 64 << 20,
            window_bytes: 64 << 20,
            clock_skew_bound: Duration::from_secs(60),
            attempt_timeout: Duration::from_secs(5),
            poll_every: Duration::from_millis(20),
            idle_after: Duration::from_secs(10),
            idle_poll_every: Duration::from_millis(30),
        }
    }
}

impl ObjectLogConfig {
    /// For a store whose requests cost time and money.
    pub fn remote() -> Self {
        Self {
            poll_every: Duration::from_millis(100),
            idle_poll_every: Duration::from_secs(1),
            ..Self::default()
        }
    }
}

/// A log over an object store.
#[derive(Debug)]
pub struct ObjectLog {}

impl ObjectLog {
    /// The log under `prefix` of the store; nothing is read or written before it is used.
    ///
    /// # Errors
    /// `Invalid` (`log-config`).
    pub fn open(
        store: Arc<dyn ObjectStore>,
        prefix: &ObjectPath,
        ctx: &Context,
        config: ObjectLogConfig,
    ) -> Result<Self> {
        let _ = (store, prefix, ctx, config);
        todo!()
    }
}

#[async_trait]
impl Log for ObjectLog {
    fn partitions(&self) -> u32 {
        todo!()
    }
    async fn append(&self, _: PartitionId, _: EncodedRecord, _: Duration) -> AppendOutcome {
        todo!()
    }
    async fn tail(&self, _: PartitionId, _: LogPosition) -> Result<Box<dyn Tail>> {
        todo!()
    }
    async fn end(&self, _: PartitionId) -> Result<LogPosition> {
        todo!()
    }
    async fn trim(&self, _: PartitionId, _: &LogPosition) -> Result<()> {
        todo!()
    }
    async fn log_time(&self, _: PartitionId) -> Result<i64> {
        todo!()
    }
    async fn find_write(&self, _: PartitionId, _: WriteId, _: Attempts, _: Duration) -> Result<WriteSearch> {
        todo!()
    }
    async fn repeat(&self, _: PartitionId, _: EncodedRecord, _: Attempts, _: Duration) -> AppendOutcome {
        todo!()
    }
}
