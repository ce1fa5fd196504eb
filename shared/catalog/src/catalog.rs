//! The trait that every catalog implements, and its words.

use async_trait::async_trait;
use bytes::Bytes;
use nacre_types::{CommitId, Error, Result, Seq, TableId};
use std::fmt;

/// An edit as the catalog keeps it: what it says is the manifest's affair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedEdit {
    /// Names this attempt, for ever: the same bytes are put again under the same id until the outcome is known.
    pub commit_id: CommitId,
    /// The commit id of the edit before it; `CommitId(0)` for the first.
    pub predecessor: CommitId,
    /// The encoded edit.
    pub body: Bytes,
}

/// What became of one attempt to append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Append {
    /// It is edit number so and so, durable.
    Committed(Seq),
    /// Another's edit was read at that sequence: this one is certainly not there and never will be.
    Conflict {
        /// The log stands at least here.
        now_at: Seq,
    },
    /// It may be there, or may still come. Put the same bytes at the same sequence again; clean nothing up.
    Unknown,
}

/// The code of an edit that was covered by a snapshot and is gone. A reader (`Conflict`) starts from the snapshot that
/// the head names. An appender (`Unknown`) will never learn what became of its edit, unless the manifest there tells; but
/// nothing of it is under way any more, so it may go on from there. It deletes nothing.
pub const EDITS_GONE: &str = "edits-gone";

/// Where opening a table begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogHead {
    /// A recent snapshot of the manifest; `None` = read from the first edit.
    pub snapshot: Option<SnapshotRef>,
}

/// A snapshot of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRef {
    /// The last edit that it holds.
    pub seq: Seq,
    /// That edit's commit id.
    pub commit_id: CommitId,
    /// The object's path.
    pub path: String,
}

/// Identifies the bytes of a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RecordTag(pub(crate) String);

/// What became of one attempt to put a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordPut {
    /// The record holds the bytes, durable, under this tag.
    Stored(RecordTag),
    /// The record holds another's bytes; these will not come. Read it again and decide.
    Conflict,
    /// They may be there, or may still come.
    Unknown,
}

/// What was asked of a catalog that is billed by itself, since the start.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CatalogCounts {
    /// Requests that were sent, by operation.
    pub requests: Vec<(&'static str, u64)>,
    /// Read units that they took, as the service told.
    pub read_units: f64,
    /// Write units, likewise. What a write took that failed is not told.
    pub write_units: f64,
}

/// Table logs and records, shared by every process of a store.
#[async_trait]
pub trait Catalog: fmt::Debug + Send + Sync + 'static {
    /// One attempt to make `edit` number `expected + 1` of the table's log. Atomic: of several appenders at one
    /// sequence exactly one commits. An own edit (by commit id) that is found there is `Committed`; only another's that
    /// was read there is `Conflict`.
    ///
    /// # Errors
    /// `Unavailable`: this attempt had no effect and will have none (an earlier one with the same edit may). `Invalid`
    /// (`append-beyond-end`) where the log does not reach `expected`. Corrupt bytes at that sequence are `Corrupt`.
    /// `Unknown` ([`EDITS_GONE`]) where the log has passed that sequence and does not hold its edit any more.
    async fn append(&self, table: TableId, expected: Seq, edit: &EncodedEdit) -> Result<Append>;

    /// The edits after `after`, in order, without gaps, at most `limit`. Fewer than `limit` = the log's end was seen
    /// after this call began; an empty answer = the log stands at `after`.
    ///
    /// # Errors
    /// `Corrupt` (`edit-corrupt`, `edit-missing`, `table-log-forked`, `table-log-behind`); `Unavailable`; `Conflict`
    /// ([`EDITS_GONE`]) where one of them was covered by a snapshot and is gone.
    async fn read(&self, table: TableId, after: Seq, limit: usize) -> Result<Vec<(Seq, EncodedEdit)>>;

    /// Where opening the table begins. May lag.
    ///
    /// # Errors
    /// `Corrupt`, `Unavailable`.
    async fn head(&self, table: TableId) -> Result<LogHead>;

    /// Names a newer snapshot; one that is not newer changes nothing. A hint: nothing rests on it having happened.
    ///
    /// # Errors
    /// `Unavailable`, `Unknown`.
    async fn set_head(&self, table: TableId, snapshot: SnapshotRef) -> Result<()>;

    /// A record and its tag; `None` = it was never put. Names are `[a-z0-9_-]+` between slashes. Records are never
    /// deleted.
    ///
    /// # Errors
    /// `Invalid` (`record-name`), `Corrupt` (`record-corrupt`), `Unavailable`.
    async fn record(&self, name: &str) -> Result<Option<(Bytes, RecordTag)>>;

    /// One attempt to replace the record whose tag is `expected` (`None` = that was never put). Tags never repeat:
    /// bytes that come back come back under another tag.
    ///
    /// # Errors
    /// `Unavailable`: certainly had no effect. `Invalid` (`record-name`).
    async fn put_record(&self, name: &str, expected: Option<&RecordTag>, bytes: Bytes) -> Result<RecordPut>;

    /// What was asked of it; `None` where it is part of the object store, which counts for itself.
    fn request_counts(&self) -> Option<CatalogCounts> {
        None
    }
}

/// Whether `name` has the form of a record's.
///
/// # Errors
/// `Invalid` (`record-name`).
pub(crate) fn check_record_name(name: &str) -> Result<()> {
    let fits = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
    };
    if name.split('/').all(fits) {
        return Ok(());
    }
    Err(Error::invalid(format!("record name {name:?}: expected [a-z0-9_-]+ between slashes"))
        .with_code("record-name"))
}
