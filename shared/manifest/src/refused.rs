//! Why an edit does not hold.

use crate::LoadState;
use nacre_types::{Error, JobId, LoadId, Offset, PartitionId, SegmentId, Seq};
use std::fmt;

/// An edit that does not hold against a manifest. An expected outcome: the work is redone against the new state, or
/// given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The cause, for programs.
    pub reason: RefusedReason,
    /// A sentence that names what is wrong and what would be right.
    pub detail: String,
}

/// The cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedReason {
    /// The edit's sequence number is not the next one.
    WrongSeq {
        /// The number that would be right.
        expected: Seq,
    },
    /// No state allows it: a bug of who made it.
    Malformed,
    /// The table has not been created.
    NoTable,
    /// The table was created before.
    TableExists,
    /// The table is dropped.
    TableDropped,
    /// The table is not dropped.
    NotDropped,
    /// The flush does not begin at the covered offset: another has flushed meanwhile.
    NotCovered {
        /// The covered offset.
        covered: Offset,
    },
    /// The table has no such partition.
    UnknownPartition(PartitionId),
    /// The job is not open: it was closed, or never was.
    JobNotOpen(JobId),
    /// A job of this id is open.
    JobExists(JobId),
    /// A segment of this id is there.
    SegmentExists(SegmentId),
    /// A segment that was to be replaced is not there any more.
    InputGone(SegmentId),
    /// A segment that is no input overlaps and has rows between those of the inputs.
    NotContiguous {
        /// That segment.
        between: SegmentId,
    },
    /// An unsealed load's segments were to be merged with others, or changed on account of it.
    Unsealed(LoadId),
    /// An output needs a `rank` column, since its rows could not be told apart from what a floor hides.
    PlacesMissing(SegmentId),
    /// The ttl or the lateness changed since the drop was planned, or the drop exceeds what they allow now.
    SettingsChanged,
    /// The segment may not leave unread: a row may not have expired and no sealed floor hides all of it.
    NotExpired(SegmentId),
    /// There is no such load.
    NoLoad(LoadId),
    /// A load of this id is there.
    LoadExists(LoadId),
    /// The load that the idempotency key names; the caller answers with it.
    SameKey(LoadId),
    /// The load is in another state.
    LoadState {
        /// That state.
        state: LoadState,
    },
    /// The load is sealed.
    Sealed(LoadId),
    /// A page token may still need what would go.
    TooYoung {
        /// When it may be tried again, in microseconds since the epoch.
        until_micros: i64,
    },
    /// A replace's version is below a committed floor.
    BelowFloor {
        /// The load that set the floor.
        load: LoadId,
        /// Its version.
        version: i64,
    },
    /// Too many unsealed loads over a range: seal the oldest in the same edit, before the commit.
    TooManyUnsealed {
        /// The oldest.
        oldest: LoadId,
        /// When it may be sealed, in microseconds since the epoch.
        sealable_at_micros: i64,
    },
    /// The load began at a log time from before a lateness that tombstones were dropped by.
    BegunTooEarly,
    /// Settings that may not follow the ones in force.
    SettingsInvalid,
    /// The floor may not go yet.
    FloorNeeded(LoadId),
    /// The shard is not there, or the key does not lie inside it, or the id is not the next.
    ShardChanged,
    /// The table has no source, or another one.
    NoSource,
    /// The table's sources had as many partitions as can be told apart.
    SourceFull,
}

impl RefusedReason {
    /// The stable code that an [`Error`] made of it carries.
    pub fn code(self) -> &'static str {
        match self {
            Self::WrongSeq { .. } => "edit-out-of-order",
            Self::Malformed => "edit-malformed",
            Self::NoTable => "table-not-found",
            Self::TableExists => "table-exists",
            Self::TableDropped => "table-dropped",
            Self::NotDropped => "table-not-dropped",
            Self::NotCovered { .. } => "flush-not-covered",
            Self::UnknownPartition(_) => "partition-unknown",
            Self::JobNotOpen(_) => "job-not-open",
            Self::JobExists(_) => "job-exists",
            Self::SegmentExists(_) => "segment-exists",
            Self::InputGone(_) => "segment-gone",
            Self::NotContiguous { .. } => "compaction-not-contiguous",
            Self::Unsealed(_) => "load-unsealed",
            Self::PlacesMissing(_) => "places-missing",
            Self::SettingsChanged => "settings-changed",
            Self::NotExpired(_) => "segment-not-expired",
            Self::NoLoad(_) => "load-not-found",
            Self::LoadExists(_) => "load-exists",
            Self::SameKey(_) => "idempotency-key-used",
            Self::LoadState { .. } => "load-state",
            Self::Sealed(_) => "load-sealed",
            Self::TooYoung { .. } => "too-young",
            Self::BelowFloor { .. } => "load-below-floor",
            Self::TooManyUnsealed { .. } => "too-many-unsealed-loads",
            Self::BegunTooEarly => "load-begun-too-early",
            Self::SettingsInvalid => "settings-invalid",
            Self::FloorNeeded(_) => "floor-needed",
            Self::ShardChanged => "shard-changed",
            Self::NoSource => "source-changed",
            Self::SourceFull => "source-partitions-used",
        }
    }
}

impl Refused {
    pub(crate) fn new(reason: RefusedReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.code(), self.detail)
    }
}

impl std::error::Error for Refused {}

impl From<Refused> for Error {
    /// As an API call answers it. A reader that finds a *committed* edit refused makes it `Corrupt` instead.
    fn from(refused: Refused) -> Self {
        let error = match refused.reason {
            RefusedReason::NoTable | RefusedReason::NoLoad(_) => Self::not_found(refused.detail),
            RefusedReason::Malformed | RefusedReason::WrongSeq { .. } => Self::internal(refused.detail),
            RefusedReason::SettingsInvalid => Self::invalid(refused.detail),
            RefusedReason::TooYoung { .. } | RefusedReason::TooManyUnsealed { .. } => {
                Self::throttled(refused.detail)
            }
            _ => Self::conflict(refused.detail),
        };
        error.with_code(refused.reason.code())
    }
}
