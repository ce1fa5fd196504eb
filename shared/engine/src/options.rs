//! What a reader or writer asks for, and what it is told besides the rows.

use bytes::Bytes;
use nacre_types::{Consistency, Key, KeyRange, LoadId, Seq, WriteId};
use std::time::Duration;

use crate::token::SessionToken;

/// How a read is to be answered.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// How fresh; `None` = as the table says.
    pub consistency: Option<Consistency>,
    /// The largest version that may answer.
    pub as_of: i64,
    /// The one moment at which expiry is judged for the whole request, in microseconds since the epoch.
    pub now_micros: i64,
    /// What must have been reached for `session`.
    pub session: Option<SessionToken>,
    /// Bounds the age of what `eventual` answers from.
    pub max_staleness: Option<Duration>,
    /// How long the answer may take.
    pub deadline: Duration,
    /// Answer as of this edition (a page token pins it).
    pub edition: Option<Seq>,
    /// Answer as if this prepared load were committed.
    pub preview: Option<LoadId>,
}

impl ReadOptions {
    /// What the node has, at `now_micros`, within 10 seconds.
    pub fn at(now_micros: i64) -> Self {
        Self {
            consistency: None,
            as_of: i64::MAX,
            now_micros,
            session: None,
            max_staleness: None,
            deadline: Duration::from_secs(10),
            edition: None,
            preview: None,
        }
    }
}

/// The slowest place that had to be asked for an answer, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Source {
    /// Nothing was read: filters and bounds said that the key is absent.
    #[default]
    None,
    /// Rows in memory that no segment holds yet.
    Tail,
    /// Decoded blocks in memory.
    Memory,
    /// Blocks on the local disk.
    Disk,
    /// The object store.
    Store,
}

impl Source {
    /// The word that answers carry.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tail => "tail",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Store => "store",
        }
    }
}

/// What an answer cost and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Receipt {
    /// The slowest place that was asked.
    pub source: Source,
    /// GETs sent to the object store.
    pub store_gets: u32,
    /// Bytes they brought.
    pub store_bytes: u64,
    /// Segments whose filter did not exclude the key.
    pub segments: u32,
    /// The edition that was answered from.
    pub edition: Seq,
    /// Time spent in the node, in nanoseconds.
    pub node_nanos: u64,
}

impl Receipt {
    /// Adds the cost of a part of the same answer.
    pub fn add(&mut self, other: &Self) {
        self.source = self.source.max(other.source);
        self.store_gets += other.store_gets;
        self.store_bytes += other.store_bytes;
        self.segments += other.segments;
        self.edition = other.edition;
        self.node_nanos += other.node_nanos;
    }
}

/// A visible row, without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its version.
    pub version: i64,
    /// Its value.
    pub value: Bytes,
    /// When it will expire, all told, in microseconds since the epoch.
    pub expires_at: Option<i64>,
}

/// Why there is no visible row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Absence {
    /// There is no row.
    Row,
    /// A tombstone hides what there was.
    Tombstone,
    /// The row has expired.
    Expired,
}

/// The answer to a get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The first visible row.
    Found(Found),
    /// There is none.
    Absent(Absence),
}

/// What a scan wants.
#[derive(Debug, Clone)]
pub struct ScanRequest {
    /// The keys.
    pub range: KeyRange,
    /// From the last key to the first.
    pub reverse: bool,
    /// Leave out rows with a smaller version.
    pub since: Option<i64>,
    /// Leave out rows with a larger version. Unlike `as_of`, this picks among the answers of the scan.
    pub until: Option<i64>,
    /// End the page after this many rows.
    pub max_rows: usize,
    /// End the page after about this many bytes of keys and values; it holds at least one row.
    pub max_bytes: usize,
    /// Answer keys with empty values.
    pub keys_only: bool,
}

/// One page of a scan.
#[derive(Debug, Clone, Default)]
pub struct ScanPage {
    /// The rows, in the order asked for.
    pub rows: Vec<(Bytes, Found)>,
    /// Where the next page goes on: forwards its first key (inclusive `start`), backwards the `end` (exclusive).
    /// `None` = nothing more.
    pub next: Option<Bytes>,
}

/// One row to write.
#[derive(Debug, Clone)]
pub struct WriteRow {
    /// Its key.
    pub key: Key,
    /// `None` = a tombstone.
    pub value: Option<Bytes>,
    /// `None` = the log gives one.
    pub version: Option<i64>,
    /// The row's own expiry, in microseconds since the epoch.
    pub expires_at: Option<i64>,
}

/// How a write is to be done.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// How long it may take; past it the outcome is unknown.
    pub deadline: Duration,
    /// The id that makes an unversioned write repeatable (from an `Idempotency-Key`).
    pub write_id: Option<WriteId>,
    /// When it was first attempted, in microseconds since the epoch: this is a repeat.
    pub first_attempt_micros: Option<i64>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(10), write_id: None, first_attempt_micros: None }
    }
}

/// What became of one row of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowOutcome {
    /// Durable, with this version.
    Ok {
        /// The row's own version, or the one that the log gave; `None` where only those know it who read the log.
        version: Option<i64>,
    },
    /// Not applied, or unknown: the error's kind says which.
    Failed(nacre_types::Error),
}

/// The answer to a write.
#[derive(Debug, Clone)]
pub struct Written {
    /// One outcome per row, in the order given.
    pub outcomes: Vec<RowOutcome>,
    /// Reaches every row that is durable.
    pub token: SessionToken,
}
