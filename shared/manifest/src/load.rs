//! Loads and their floors, as the manifest keeps them.

use bytes::Bytes;
use nacre_types::{JobId, LoadId, Place, Rank, Seq};

/// What a load does with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoadMode {
    /// Its rows join the table.
    Merge,
    /// Everything that ranks below (its version, loaded, its commit) and is not its own disappears.
    Replace,
}

/// How far the caller asked a pinned load to go; a loader that takes over after a crash goes on to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoadGoal {
    /// Stop at prepared.
    Prepare,
    /// Prepare and commit.
    Commit,
}

/// How far a load has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoadState {
    /// Begun; the producer writes its files.
    Open,
    /// The list of files is pinned: validating and preparing.
    Pinned,
    /// Its segments are in the manifest and shown only in a preview.
    Prepared,
    /// Visible.
    Committed,
    /// Refused by its guards or its files. Final.
    Failed,
    /// Given up by the caller. Final.
    Cancelled,
    /// Undone. Its segments stay, for pinned editions, until it is forgotten.
    Reverted,
}

impl LoadState {
    /// Whether its job may still bring segments or commit: open, pinned or prepared.
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Open | Self::Pinned | Self::Prepared)
    }

    /// The word that answers carry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Pinned => "validating",
            Self::Prepared => "prepared",
            Self::Committed => "committed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Reverted => "reverted",
        }
    }
}

/// Numbers of segments, rows and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Totals {
    /// Segments.
    pub segments: u64,
    /// Rows, tombstones and rows that another hides among them.
    pub rows: u64,
    /// Bytes of the segments' objects.
    pub bytes: u64,
}

/// One bulk load of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Its id.
    pub id: LoadId,
    /// The job that its objects are named by; open as long as the load is under way.
    pub job: JobId,
    /// Merge or replace.
    pub mode: LoadMode,
    /// The version that rows without one carry, and a replace's floor. `None` only for a merge whose rows all have one.
    pub version: Option<i64>,
    /// The log's time when it began, in microseconds: lateness is judged against it.
    pub begun_at_micros: i64,
    /// The table's `max_lateness` when it began, in microseconds.
    pub lateness_micros: Option<i64>,
    /// When it was opened, by the clock of who opened it, in microseconds.
    pub opened_at_micros: i64,
    /// The edit that opened it.
    pub opened: Seq,
    /// Hash of the idempotency key.
    pub idempotency: Option<u128>,
    /// Hash of the body of the request that began it: the same key with another body is a conflict.
    pub body_hash: u128,
    /// The body of the request that began it, as JSON; opaque here.
    pub body: Bytes,
    /// How far it is.
    pub state: LoadState,
    /// How far it is to go, once pinned.
    pub goal: LoadGoal,
    /// Why it failed, was cancelled or reverted.
    pub reason: Option<String>,
    /// The object that lists the pinned files.
    pub files_path: Option<String>,
    /// The object that reports on each file.
    pub report_path: Option<String>,
    /// Rows that its prepare brought.
    pub rows: u64,
    /// Tombstones among them.
    pub tombstones: u64,
    /// Bytes of the segments that its prepare brought.
    pub bytes: u64,
    /// Rows that were hidden from the start, as its loader counted them.
    pub rows_hidden: u64,
    /// Lowest version of its rows; `None` = no rows, or not yet prepared.
    pub lowest_version: Option<i64>,
    /// Smallest and largest key of its rows.
    pub keys: Option<(Bytes, Bytes)>,
    /// What of it still stands alone as [`crate::Layer::Loaded`].
    pub live: Totals,
    /// The edit that committed it.
    pub commit: Option<Seq>,
    /// When it was committed, in microseconds.
    pub committed_at_micros: Option<i64>,
    /// Whether its undo window has ended.
    pub sealed: bool,
    /// The edit that reverted it.
    pub reverted: Option<Seq>,
    /// When it was reverted, in microseconds.
    pub reverted_at_micros: Option<i64>,
}

impl Load {
    /// Whether it was part of the table at `edition`: committed by then and not reverted by then.
    pub fn counts_at(&self, edition: Seq) -> bool {
        self.commit.is_some_and(|commit| commit <= edition)
            && self.reverted.is_none_or(|reverted| reverted > edition)
    }

    /// Whether it is committed and can still be reverted.
    pub fn is_unsealed(&self) -> bool {
        self.state == LoadState::Committed && !self.sealed
    }

    /// The floor that it sets if its commit is `commit`; `None` for a merge.
    pub(crate) fn floor(&self, commit: Seq) -> Option<Floor> {
        let (LoadMode::Replace, Some(version)) = (self.mode, self.version) else { return None };
        Some(Floor {
            version,
            commit,
            load: self.id,
            sealed: self.sealed,
            lowest_version: self.lowest_version,
        })
    }
}

/// The rank below which a replace load hides everything that is not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Floor {
    /// The load's version.
    pub version: i64,
    /// The edit that committed the load.
    pub commit: Seq,
    /// The load.
    pub load: LoadId,
    /// Whether rows may be dropped on its account.
    pub sealed: bool,
    /// Lowest version of the load's own rows; `None` = it has none.
    pub lowest_version: Option<i64>,
}

impl Floor {
    /// The rank of the floor.
    pub fn rank(&self) -> Rank {
        Rank { version: self.version, place: self.place(), index: 0 }
    }

    /// The place of the load's own rows.
    pub fn place(&self) -> Place {
        Place::loaded(self.commit)
    }

    /// Whether it hides a row: one that ranks below it and is not of its own load.
    pub fn hides(&self, version: i64, place: Place) -> bool {
        place != self.place() && (version, place) < (self.version, self.place())
    }
}
