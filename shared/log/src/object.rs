//! The log over an object store.
//!
//! # What is stored, and who may write it
//!
//! ```text
//! <prefix>/<incarnation>/<partition>/chunks/<n>   put if absent; chunk n+1 names chunk n's id, end offset and clock
//! <prefix>/<incarnation>/<partition>/boundary     replaced with if-match, only grows, never deleted: the last trimmed chunk
//! <prefix>/<incarnation>/beacon                   a hint for idle readers
//! ```
//! Any process may do any of it; there is no owner and no lease. The conditional put of chunk *n+1* is the commit point
//! of its records. Nothing here compares clocks or waits for time to pass to be correct.
//!
//! # True chunks
//!
//! Chunks are trimmed, so a name can come free, and a process that slept can create it again. A chunk found at *n*, or
//! its absence, is **true** only if the boundary, read afterwards, lies below *n*: then the name had never been deleted
//! at the time of the first read. Of true chunks these hold: each number has one; they have no gap up to the end; a
//! chunk that was true once stays true for whoever holds it, also when it is trimmed later. So what is in memory
//! (`window`) needs no second look, and everything from the store does.
//!
//! # Appending (`append`, `settle`)
//!
//! 1. Know the end: chunk *n*, true, and recently followed by nothing.
//! 2. Build chunk *n+1* of everything that waits: base offset, clock and id of *n*, time = own clock or *n*'s time.
//! 3. Put it if absent, the same bytes at the same number again and again until the outcome is known.
//! 4. "Stored": read the boundary. Below *n+1*: **won**. Else **unknown**: perhaps this was chunk *n+1* all along, was
//!    read, flushed and trimmed, and the answer is late; perhaps the name was created again. The rows are appended
//!    nowhere else.
//! 5. "Already exists": read what is there, then the boundary. Below: own id = **won**, another's = **lost**, and no
//!    request of ours that is still under way can change that, for the name is taken until it is trimmed, and after
//!    that nobody believes it. Not below: **unknown**. (If every answer had been a first-hand "already exists" it would be
//!    certain that it is not in the log. But a library underneath may have repeated a request whose answer was lost, and
//!    then "already exists" is one's own; so that exception is not made use of.)
//! 6. Lost: the rows go into the chunk after the winner; a repeat first looks for its write id in the winner.
//!
//! # Crash cases
//!
//! - *After a put was sent:* it may land now, later or never. If it lands on the true number it is in the log, once:
//!   only this chunk holds its rows. If it lands below the boundary it is garbage. The caller was told nothing or
//!   unknown.
//! - *Between put and boundary:* as above; what is stored and true is read by everyone, acknowledged or not.
//! - *A caller dropped while its record waits:* it goes into no chunk. *In a chunk:* the chunk goes on without it.
//! - *The driver's runtime ends:* callers answer unknown; the next driver knows nothing and begins with the store.
//! - *Between raising the boundary and deleting:* chunks below stay as garbage; the next trim deletes them, the boundary
//!   record says from where.
//!
//! # Trimming (`trim`)
//!
//! The boundary is raised, durably, before the first chunk is deleted. The other way about, a reader could find a chunk
//! absent, see the old boundary, and take a hole for the end; an appender would fill the hole.
//!
//! # Why not just…
//!
//! - *…list the chunks?* A listing may lag and is never the truth; the end is found by names that exist or do not.
//! - *…check the boundary before the put?* It says nothing about the time of the put.
//! - *…let a retry take the next number after a time-out?* The first request is still under way: the rows come twice.
//! - *…never delete?* Chunks are the whole traffic; edits are small and are never deleted for that reason.
//! - *…give each process its own chunks and merge?* Then the order, and with it every version, depends on the merger.

mod append;
mod beacon;
mod end;
mod partition;
mod paths;
mod poll;
mod read;
mod search;
mod settle;
mod skew;
mod tail;
mod trim;
mod window;

use self::beacon::Beacon;
use self::partition::Partition;
use self::paths::Paths;
use self::skew::Skew;
use self::tail::ObjectTail;
use crate::position::FIRST_CHUNK;
use crate::{AppendOutcome, Attempts, EncodedRecord, Log, LogPosition, Tail, WriteSearch};
use async_trait::async_trait;
use nacre_runtime::Context;
use nacre_store::{ObjectPath, ObjectStore};
use nacre_types::{Error, LogIncarnation, PartitionId, Result, WriteId};
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
    #[doc(hidden)]
    #[cfg(any(test, feature = "testing"))]
    pub planted_bug: Option<PlantedBug>,
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
            #[cfg(any(test, feature = "testing"))]
            planted_bug: None,
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

/// A mistake that a test plants, to see that the suite finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub enum PlantedBug {
    /// An appender does not read the boundary after a create.
    BelieveCreates,
    /// An appender does not read the boundary after reading the winner.
    BelieveWinners,
    /// A reader does not read the boundary after a chunk or an absence.
    BelieveReads,
    /// "Already exists" is taken for another's, unread.
    TakeExistsForAnothers,
    /// An unknown put is taken for a failed one.
    MoveOnAfterUnknown,
    /// Chunks are deleted before the boundary is raised.
    DeleteBeforeBoundary,
    /// A repeat does not look for its id in the chunks that beat it.
    NotLookForRepeats,
}

/// A log over an object store.
#[derive(Debug)]
pub struct ObjectLog {
    config: ObjectLogConfig,
    partitions: Vec<Arc<Partition>>,
}

impl ObjectLog {
    /// The log under `prefix` of the store; nothing is read or written before it is used. Dropped, it takes no appends
    /// any more; what waits is refused.
    ///
    /// # Errors
    /// `Invalid` (`log-config`).
    pub fn open(
        store: Arc<dyn ObjectStore>,
        prefix: &ObjectPath,
        ctx: &Context,
        config: ObjectLogConfig,
    ) -> Result<Self> {
        if config.partitions == 0 || config.poll_every.is_zero() || config.attempt_timeout.is_zero() {
            return Err(Error::invalid("a log has at least one partition, and times that are not zero")
                .with_code("log-config"));
        }
        let timeout = config.attempt_timeout;
        let beacon = Arc::new(Beacon::new(
            store.clone(),
            ctx.clone(),
            Paths::beacon(prefix, config.incarnation)?,
            config.idle_poll_every / 2,
            timeout,
        ));
        let skew = Arc::new(Skew::new(store.clone(), ctx.clone(), config.clock_skew_bound, timeout));
        let mut partitions = Vec::new();
        for id in (0..config.partitions).map(PartitionId) {
            let paths = Paths::new(prefix, config.incarnation, id)?;
            let (store, ctx, config) = (store.clone(), ctx.clone(), config.clone());
            partitions.push(Arc::new(Partition::new(
                id,
                store,
                ctx,
                config,
                paths,
                beacon.clone(),
                skew.clone(),
            )));
        }
        Ok(Self { config, partitions })
    }

    fn partition(&self, id: PartitionId) -> Result<&Arc<Partition>> {
        let found = usize::try_from(id.0).ok().and_then(|index| self.partitions.get(index));
        found.ok_or_else(|| {
            Error::invalid(format!("partition {id}: the log has {} partitions", self.partitions.len()))
                .with_code("partition-unknown")
        })
    }

    fn check_position(&self, position: &LogPosition) -> Result<()> {
        if position.incarnation == self.config.incarnation && position.chunk >= FIRST_CHUNK {
            return Ok(());
        }
        Err(Error::conflict(format!(
            "a position of log incarnation {}, chunk {}; this is incarnation {}: positions of another log mean nothing",
            position.incarnation, position.chunk, self.config.incarnation
        ))
        .with_code("log-incarnation"))
    }

    /// Deletes up to `limit` chunks at or below the boundary that crashes or sleepers left behind; answers how many.
    /// For the garbage collector, now and then.
    ///
    /// # Errors
    /// `Unavailable`, `Unknown` (do it again), `Corrupt`.
    pub async fn sweep(&self, partition: PartitionId, limit: usize) -> Result<usize> {
        self.partition(partition)?.sweep(limit).await
    }
}

impl Drop for ObjectLog {
    fn drop(&mut self) {
        for partition in &self.partitions {
            partition.queue.close();
        }
    }
}

#[async_trait]
impl Log for ObjectLog {
    fn partitions(&self) -> u32 {
        self.config.partitions
    }

    async fn append(
        &self,
        partition: PartitionId,
        record: EncodedRecord,
        deadline: Duration,
    ) -> AppendOutcome {
        match self.partition(partition) {
            Ok(partition) => partition.append(record, deadline, None).await,
            Err(error) => AppendOutcome::NotAppended(error),
        }
    }

    async fn tail(&self, partition: PartitionId, from: LogPosition) -> Result<Box<dyn Tail>> {
        self.check_position(&from)?;
        Ok(Box::new(ObjectTail::new(self.partition(partition)?.clone(), from)))
    }

    async fn end(&self, partition: PartitionId) -> Result<LogPosition> {
        self.partition(partition)?.end().await
    }

    async fn trim(&self, partition: PartitionId, through: &LogPosition) -> Result<()> {
        self.check_position(through)?;
        self.partition(partition)?.trim(through).await
    }

    async fn log_time(&self, partition: PartitionId) -> Result<i64> {
        let partition = self.partition(partition)?;
        let tip = match partition.tip() {
            Some(tip) => tip,
            None => partition.find_end().await?,
        };
        Ok(tip.time.max(partition.ctx.clock.now_micros()))
    }

    async fn find_write(
        &self,
        partition: PartitionId,
        write_id: WriteId,
        attempts: Attempts,
        deadline: Duration,
    ) -> Result<WriteSearch> {
        self.partition(partition)?.find_write(write_id, attempts, deadline).await
    }

    async fn repeat(
        &self,
        partition: PartitionId,
        record: EncodedRecord,
        attempts: Attempts,
        deadline: Duration,
    ) -> AppendOutcome {
        match self.partition(partition) {
            Ok(partition) => partition.repeat(record, attempts, deadline).await,
            Err(error) => AppendOutcome::NotAppended(error),
        }
    }
}
