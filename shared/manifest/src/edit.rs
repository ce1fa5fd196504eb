//! Edits: what one atomic append to a table log says.

use crate::{DeclareSource, LoadGoal, LoadMode, Segment, Shard};
use bytes::Bytes;
use nacre_types::{Generation, JobId, LoadId, Offset, PartitionId, SegmentId, ShardId, TableSettings};

/// One atomic change of a table: all of its changes, applied in order, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The changes, in order; each sees what those before it did.
    pub changes: Vec<Change>,
    /// When the edit was made, by the clock of who made it, in microseconds since the epoch.
    pub at_micros: i64,
}

impl Edit {
    /// An edit of one change.
    pub fn one(change: Change, at_micros: i64) -> Self {
        Self { changes: vec![change], at_micros }
    }
}

/// What dropping rows was planned under. Every edit whose outputs may hold fewer rows than its inputs carries one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DropGuard {
    /// The moment that expiry was judged at: the smallest of the partitions' log times, the store's date and one's own
    /// clock, less a margin.
    pub now_micros: i64,
    /// [`crate::Manifest::settings_number`] of the settings that it was planned under.
    pub settings: u64,
    /// Tombstones with a version below this were dropped by lateness; `None` = none were. At most
    /// [`crate::Manifest::late_drop_limit`].
    pub late_below: Option<i64>,
}

/// What kind of work a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// Merges segments.
    Compaction,
    /// Removes expired rows.
    Expiry,
    /// Removes keys for good.
    Erasure,
}

/// Rows of the log, or of a source's topic, that are now in segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flush {
    /// The partition.
    pub partition: PartitionId,
    /// The generation of the ranges that the rows are of.
    pub generation: Generation,
    /// Must be the table's covered offset of the partition: that alone fences two owners.
    pub from: Offset,
    /// The new covered offset: every row of the table below it is in a segment.
    pub to: Offset,
    /// The segments, with disjoint key ranges, all [`crate::Layer::Streamed`] from `from` to `to` and named by `from`;
    /// none where the table had no rows there.
    pub segments: Vec<Segment>,
    /// Set where rows were left out of the segments.
    pub drops: Option<DropGuard>,
}

/// A load begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenLoad {
    /// Its id, newly minted.
    pub load: LoadId,
    /// The job that its objects are named by, newly minted.
    pub job: JobId,
    /// Merge or replace.
    pub mode: LoadMode,
    /// See [`crate::Load::version`].
    pub version: Option<i64>,
    /// The smallest log time over the table's partitions when it began, in microseconds.
    pub begun_at_micros: i64,
    /// Hash of the idempotency key.
    pub idempotency: Option<u128>,
    /// Hash of the request's body.
    pub body_hash: u128,
    /// The request's body.
    pub body: Bytes,
}

/// A load's layer arrives; it is not shown yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrepareLoad {
    /// The load, pinned.
    pub load: LoadId,
    /// The load's job: its native segments are named by it.
    pub job: JobId,
    /// Its segments, all [`crate::Layer::Loaded`] of this load. Their rows, tombstones, bytes, keys and lowest version
    /// become the load's.
    pub segments: Vec<Segment>,
    /// Rows of a merge that are hidden from the start.
    pub rows_hidden: u64,
    /// The object that reports on each file.
    pub report_path: Option<String>,
}

/// Segments are replaced by others with the same visible rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compact {
    /// An open job; the outputs are named by it.
    pub job: JobId,
    /// The segments that go; all must still be there.
    pub inputs: Vec<SegmentId>,
    /// The segments that come, with disjoint key ranges; see [`crate::Manifest::merged_layer`].
    pub outputs: Vec<Segment>,
    /// Set where rows were dropped: the outputs hold fewer than the inputs.
    pub drops: Option<DropGuard>,
}

/// New settings of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSettings {
    /// All of them.
    pub settings: TableSettings,
    /// The largest log time over the table's partitions, in microseconds.
    pub log_time_micros: i64,
    /// The offsets from which a changed `max_lateness` holds: every row at or behind them was judged by the new limit or
    /// a stricter one. [`SetSettings::NOT_YET`] where other writers may still judge by the old one, for as long as they
    /// may use what they know of the table; a later edit that leaves the limit as it is then says the offsets. Offset 0
    /// where the limit is raised: the old one was stricter.
    pub lateness_from: Vec<(PartitionId, Offset)>,
}

impl SetSettings {
    /// No offset yet.
    pub const NOT_YET: Offset = Offset(u64::MAX);
}

/// A shard becomes two; both keep its partition and generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitShard {
    /// The shard; it keeps its id and the keys below `at`.
    pub shard: ShardId,
    /// First key of the new shard, strictly inside the old one.
    pub at: Bytes,
    /// The new shard's id: [`crate::Manifest::next_shard_id`].
    pub new: ShardId,
}

/// One change. Its kind has a stable ordinal in the encoding; ordinals of kinds that are gone are never used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The table begins to be: only ever the first change of the first edit.
    CreateTable {
        /// Its settings.
        settings: TableSettings,
        /// Its shards, in key order, the first from the empty key.
        shards: Vec<Shard>,
    },
    /// See [`SetSettings`].
    SetSettings(SetSettings),
    /// See [`Flush`].
    Flush(Flush),
    /// See [`OpenLoad`].
    OpenLoad(OpenLoad),
    /// The load's files are pinned: open → pinned. Again with the same list it only raises the goal.
    PinLoad {
        /// The load.
        load: LoadId,
        /// The object that lists the files.
        files_path: String,
        /// How far to go.
        goal: LoadGoal,
    },
    /// See [`PrepareLoad`]: pinned → prepared.
    PrepareLoad(PrepareLoad),
    /// Prepared → committed; a replace's floor is set. At most one in an edit, since the edit's sequence number is the
    /// place of the load's rows.
    CommitLoad {
        /// The load.
        load: LoadId,
        /// Commit a replace although its version is below that of a floor.
        insist: bool,
    },
    /// Open, pinned or prepared → failed; its segments go.
    FailLoad {
        /// The load.
        load: LoadId,
        /// Why, in a sentence.
        reason: String,
        /// The object that reports on each file.
        report_path: Option<String>,
    },
    /// Open, pinned or prepared → cancelled; its segments go.
    CancelLoad {
        /// The load.
        load: LoadId,
        /// Why, in a sentence.
        reason: String,
    },
    /// Committed and not sealed → reverted; the floor goes, the segments stay until it is forgotten.
    RevertLoad {
        /// The load.
        load: LoadId,
        /// Why, in a sentence.
        reason: String,
    },
    /// The load's undo window ends. Refused while the load is younger than a page token's life.
    SealLoad {
        /// The load.
        load: LoadId,
    },
    /// A load's entry goes: one that failed or was cancelled, one whose revert is older than a page token's life (its
    /// segments go too), or a sealed one of which nothing stands alone any more (its floor stays).
    ForgetLoad {
        /// The load.
        load: LoadId,
    },
    /// A job may bring segments from now on.
    OpenJob {
        /// Newly minted.
        job: JobId,
        /// What it does.
        kind: JobKind,
    },
    /// A job is over; its unreferenced objects are garbage.
    CloseJob {
        /// An open job.
        job: JobId,
    },
    /// See [`Compact`].
    Compact(Compact),
    /// Whole segments leave unread: every row is past `version + ttl` or at or below `expired_below`, or hidden by one
    /// sealed floor.
    Expire {
        /// The segments.
        segments: Vec<SegmentId>,
        /// What was judged.
        drops: DropGuard,
    },
    /// A sealed floor that a later sealed one makes idle goes.
    DropFloor {
        /// The load that set it.
        load: LoadId,
    },
    /// See [`SplitShard`].
    SplitShard(SplitShard),
    /// The table is dropped: no load begins or commits, settings stay; what the log still has is flushed as before.
    DropTable,
    /// A dropped table is there again.
    UndropTable,
    /// A restore raises the epoch.
    RaiseEpoch {
        /// Larger than the manifest's.
        epoch: u64,
    },
    /// See [`DeclareSource`].
    DeclareSource(DeclareSource),
    /// The source's topic got more partitions.
    GrowSource {
        /// Where each of them begins.
        starts: Vec<Offset>,
    },
    /// The table has no source any more; what came of it stays.
    RemoveSource,
}
