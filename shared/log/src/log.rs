//! The trait: an ordered, durable stream of records per partition.

use crate::{EncodedRecord, LogPosition, Record};
use async_trait::async_trait;
use nacre_types::{Error, Offset, PartitionId, Result, WriteId};
use std::fmt;
use std::time::Duration;

/// What became of one append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppendOutcome {
    /// It is durable, at this place; every reader sees it there, once.
    Appended(Appended),
    /// It certainly is not in the log and never will be.
    NotAppended(Error),
    /// It may be in the log, or may come to be. [`Log::repeat`] can find out; nothing else may append it again.
    Unknown,
}

/// The place of a record in its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its offset.
    pub offset: Offset,
    /// The version of its rows that brought none; `None` = not known here, because it follows from everything before
    /// it in the partition, which this process does not read.
    pub version: Option<i64>,
    /// When it was appended by the log's time, microseconds since the epoch.
    pub append_time: i64,
}

/// A record as a reader gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamped {
    /// Its offset.
    pub offset: Offset,
    /// When it was appended by the log's time, microseconds since the epoch. Over an object store it never falls from
    /// record to record; on Kafka it may, when a partition's leader changes, by what two brokers' clocks differ.
    pub append_time: i64,
    /// The version of its rows that brought none: `max(append_time, clock + 1)`. The clock becomes that version if the
    /// record holds such a row, and stays otherwise; every reader computes the same.
    pub version: i64,
    /// What was appended.
    pub record: Record,
}

/// Some records in order, and where the reader stands after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailBatch {
    /// At least one.
    pub records: Vec<Stamped>,
    /// After the last of them.
    pub next: LogPosition,
}

/// What a reader learns next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TailStep {
    /// Records.
    Batch(TailBatch),
    /// The log was trimmed past the reader: read `flushed_through` again, then fresh manifests, and begin there. The
    /// tail stays where it is.
    Restart,
}

/// When the attempts that a repeat follows began and when they were over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// When the first began, microseconds since the epoch by its process's clock.
    pub first: i64,
    /// When the delivery time-out of the last one had passed, by the log's time: with a margin for the clock of the
    /// process that made it.
    pub over: i64,
}

/// What the log knows of a write id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteSearch {
    /// It is in the log.
    Found(Appended),
    /// It is not there, and no earlier attempt can put it before `searched`.
    NotFound {
        /// Everything before it was searched.
        searched: LogPosition,
    },
    /// Part of what had to be searched is trimmed: nobody will ever know.
    Trimmed,
    /// An earlier attempt may still be under way: ask again later.
    Open,
}

/// An ordered, durable stream of records per partition; every part of every process sees the same order, offsets and
/// versions.
///
/// Dropping a future of any of these is as good as a crash at that place: an append may or may not have happened.
#[async_trait]
pub trait Log: fmt::Debug + Send + Sync + 'static {
    /// How many partitions there are; their ids count from 0.
    fn partitions(&self) -> u32;

    /// Appends one record. Appends that wait together go out together; those of one partition that were begun one after
    /// the other's answer keep that order. Answers within about `deadline` (monotonic, from now).
    async fn append(
        &self,
        partition: PartitionId,
        record: EncodedRecord,
        deadline: Duration,
    ) -> AppendOutcome;

    /// Reads on from a position that this log gave out, for ever.
    ///
    /// # Errors
    /// `Conflict` (`log-incarnation`) for a position of another log; `Invalid` (`partition-unknown`).
    async fn tail(&self, partition: PartitionId, from: LogPosition) -> Result<Box<dyn Tail>>;

    /// After the last durable record: read from the store after the call began, never remembered.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    async fn end(&self, partition: PartitionId) -> Result<LogPosition>;

    /// At or after the end of everything that any process was acknowledged before this was called: what a strong read
    /// reaches. [`Log::end`] where one answer of the store proves that; else it may append a marker, which all share who
    /// wait for one.
    ///
    /// # Errors
    /// As [`Log::end`].
    async fn strong_end(&self, partition: PartitionId) -> Result<LogPosition> {
        self.end(partition).await
    }

    /// Forgets what lies before `through`, which must be a position that this log gave out and that a committed
    /// `flushed_through` names. May be repeated and may be done by several processes at once.
    ///
    /// # Errors
    /// `Unavailable`, `Unknown` (do it again), `Corrupt`; `Invalid` (`trim-beyond-end`).
    async fn trim(&self, partition: PartitionId, through: &LogPosition) -> Result<()>;

    /// A recent log time: the later of the last known record's and one's own clock.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    async fn log_time(&self, partition: PartitionId) -> Result<i64>;

    /// Looks for a record that earlier attempts may have appended. Appends a marker if the log's own time has not
    /// passed `attempts.over` yet; answers [`WriteSearch::Open`] where that needs longer than `deadline`.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    async fn find_write(
        &self,
        partition: PartitionId,
        write_id: WriteId,
        attempts: Attempts,
        deadline: Duration,
    ) -> Result<WriteSearch>;

    /// Appends a record unless an earlier attempt of the same write id did: searches, then appends while watching for
    /// the id in whatever is appended in between. `Unknown` where it cannot be known; never `NotAppended`, which would
    /// speak for the earlier attempts too.
    async fn repeat(
        &self,
        partition: PartitionId,
        record: EncodedRecord,
        attempts: Attempts,
        deadline: Duration,
    ) -> AppendOutcome;
}

/// One reader of one partition.
#[async_trait]
pub trait Tail: Send + fmt::Debug {
    /// The next records; waits for them. May be dropped and called again: nothing is lost or read twice.
    ///
    /// # Errors
    /// `Unavailable` (call again); `Corrupt` (stop, loudly).
    async fn next(&mut self) -> Result<TailStep>;
}
