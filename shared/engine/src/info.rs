//! What tables, namespaces and loads look like from outside.

use bytes::Bytes;
use nacre_types::{
    Consistency, Generation, LoadId, Offset, PartitionId, SegmentId, Seq, ShardId, TableId, TableName,
    TableSettings,
};
use serde::{Deserialize, Serialize};

use crate::token::SessionToken;

/// Whether something was made now or was there already, equal to what was asked for.
#[derive(Debug, Clone)]
pub enum Created<T> {
    /// Made now.
    New(T),
    /// There already, and equal.
    Same(T),
}

impl<T> Created<T> {
    /// The thing, new or not.
    pub fn into_inner(self) -> T {
        match self {
            Self::New(inner) | Self::Same(inner) => inner,
        }
    }
}

/// The settings of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NamespaceSettings {
    /// Consistency of reads of its tables that say none themselves.
    pub consistency: Option<Consistency>,
    /// Quotas by name (reserved: stored and shown, not enforced yet).
    pub quotas: std::collections::BTreeMap<String, u64>,
}

/// A table in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSummary {
    /// Its name.
    pub name: TableName,
    /// Its id.
    pub id: TableId,
}

/// A shard in a description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardInfo {
    /// Its id.
    pub id: ShardId,
    /// Its first key; empty = from the beginning. It ends where the next one starts.
    pub start: Bytes,
    /// The partition of the log that its writes go to.
    pub partition: PartitionId,
    /// Generation of that assignment.
    pub generation: Generation,
}

/// A table described.
#[derive(Debug, Clone)]
pub struct TableInfo {
    /// Its id.
    pub id: TableId,
    /// Its settings.
    pub settings: TableSettings,
    /// Sequence of the last edit that committed or reverted a load.
    pub edition: Seq,
    /// Sequence of the last edit.
    pub manifest: Seq,
    /// Its shards in key order.
    pub shards: Vec<ShardInfo>,
    /// Number of segments.
    pub segments: u64,
    /// Rows in segments and in the tail: an estimate, several versions of a key and tombstones count.
    pub rows_estimate: u64,
    /// Tombstones in segments.
    pub tombstones: u64,
    /// Bytes of the segments.
    pub bytes: u64,
    /// Rows in the tail.
    pub tail_rows: u64,
    /// Bytes of rows in the tail.
    pub tail_bytes: u64,
    /// Loads that are open or can still be reverted.
    pub loads: u64,
    /// Newest version in the table, in microseconds; `None` for an empty one.
    pub newest_version: Option<i64>,
}

/// How the rows of a load meet those that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadMode {
    /// They join them.
    Merge,
    /// They take their place.
    Replace,
}

/// Where a load stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadState {
    /// Files may be written.
    Open,
    /// Files are pinned and being checked.
    Validating,
    /// Files are being adopted or rewritten.
    Preparing,
    /// Complete, not visible; it can be previewed.
    Prepared,
    /// Visible.
    Committed,
    /// Given up; the errors say why.
    Failed,
    /// Cancelled by its caller.
    Cancelled,
    /// Was visible and is not any more.
    Reverted,
}

/// The request that begins a load, already checked for form. It is stored with the load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginLoad {
    /// Merge or replace.
    pub mode: LoadMode,
    /// The load's version; `None` only where `columns.version` names one.
    pub version: Option<LoadVersion>,
    /// Where the files lie, if not in the staging place.
    #[serde(default)]
    pub source: Option<LoadSource>,
    /// Which columns are what; `None` = the native names.
    #[serde(default)]
    pub columns: Option<LoadColumnNames>,
    /// What stops a bad job.
    #[serde(default)]
    pub guards: Guards,
    /// What to do about one key and version twice with different values.
    #[serde(default)]
    pub on_duplicate: OnDuplicate,
}

/// The version of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadVersion {
    /// This one.
    At(i64),
    /// The smallest log time over the table's partitions when the load begins.
    Now,
}

impl Serialize for LoadVersion {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::At(version) => serializer.serialize_i64(*version),
            Self::Now => serializer.serialize_str("now"),
        }
    }
}

impl<'de> Deserialize<'de> for LoadVersion {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Wire {
            Number(i64),
            Text(String),
        }
        let wrong = || {
            serde::de::Error::custom("version: expected an integer (microseconds since the epoch) or \"now\"")
        };
        match Wire::deserialize(deserializer).map_err(|_| wrong())? {
            Wire::Number(version) => Ok(Self::At(version)),
            Wire::Text(text) if text == "now" => Ok(Self::Now),
            Wire::Text(text) => text.parse().map(Self::At).map_err(|_| wrong()),
        }
    }
}

/// Files of a load that lie elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadSource {
    /// These.
    Files(Vec<String>),
    /// Every Parquet file below this.
    Prefix(String),
}

/// Which columns of the files are what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadColumnNames {
    /// The key columns, in order.
    pub key: Vec<String>,
    /// The value column.
    #[serde(default)]
    pub value: Option<String>,
    /// The columns packed as one JSON object, instead of `value`.
    #[serde(default)]
    pub pack: Option<Vec<String>>,
    /// The version column.
    #[serde(default)]
    pub version: Option<String>,
    /// The expiry column.
    #[serde(default)]
    pub expires_at: Option<String>,
    /// The column that is true for tombstones.
    #[serde(default)]
    pub delete: Option<String>,
}

/// What stops a bad job before anyone sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guards {
    /// Fewer rows fail the load.
    pub min_rows: u64,
    /// A replace that leaves less than 100 minus this percent of the table's rows fails.
    pub max_shrink_percent: u8,
    /// More tombstones among the rows fail the load.
    pub max_tombstone_percent: u8,
    /// A replace by nothing is meant.
    pub allow_empty: bool,
    /// A replace below a committed floor is meant.
    pub allow_older: bool,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            min_rows: 0,
            max_shrink_percent: 50,
            max_tombstone_percent: 10,
            allow_empty: false,
            allow_older: false,
        }
    }
}

/// One key and version twice with different values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDuplicate {
    /// Fails the load.
    #[default]
    Fail,
    /// Any of them may win.
    Any,
}

/// How far a load has come.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadProgress {
    /// Files pinned.
    pub files: u64,
    /// Files done.
    pub files_done: u64,
    /// Rows read so far.
    pub rows: u64,
    /// Bytes of the pinned files.
    pub bytes: u64,
    /// Bytes that were written anew.
    pub bytes_moved: u64,
    /// Files adopted.
    pub adopted_files: u64,
    /// Files rewritten.
    pub rewritten_files: u64,
    /// Seconds spent per phase.
    pub seconds: std::collections::BTreeMap<String, f64>,
}

/// Something wrong with a file of a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadError {
    /// The file; empty where the load as a whole is meant.
    pub file: String,
    /// The row, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub row: Option<u64>,
    /// The column.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub column: Option<String>,
    /// What is wrong and what would be right.
    pub detail: String,
}

/// What became of a file of a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadFile {
    /// Its name.
    pub file: String,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// adopted, copied, rewritten or skipped.
    pub outcome: String,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// What would make it adoptable.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
}

/// A load described.
#[derive(Debug, Clone)]
pub struct LoadInfo {
    /// Its id.
    pub id: LoadId,
    /// Where it stands.
    pub state: LoadState,
    /// Merge or replace.
    pub mode: LoadMode,
    /// Its version; `None` where a column gives each row's.
    pub version: Option<i64>,
    /// When it began, in microseconds of the log's time.
    pub begun_at_micros: i64,
    /// Where to write files.
    pub staging_url: String,
    /// How far it has come.
    pub progress: LoadProgress,
    /// Rows of a merge that a floor hides.
    pub rows_hidden: Option<u64>,
    /// Until when it can be reverted, in microseconds.
    pub revertible_until_micros: Option<i64>,
    /// The edition that shows it.
    pub edition: Option<Seq>,
    /// Reads that carry it see the load.
    pub token: Option<SessionToken>,
    /// What is wrong; at most 1,000.
    pub errors: Vec<LoadError>,
    /// How many errors there were.
    pub error_count: u64,
}

/// One row of a key, wherever it lies, and whether it is the answer.
#[derive(Debug, Clone)]
pub struct ExplainedRow {
    /// Its version.
    pub version: i64,
    /// Whether it is a tombstone.
    pub tombstone: bool,
    /// Its own expiry.
    pub expires_at: Option<i64>,
    /// Length of its value.
    pub value_bytes: u64,
    /// Where it lies.
    pub place: RowPlace,
    /// Whether it is visible.
    pub visible: bool,
    /// Why, or why not, in a sentence.
    pub reason: String,
}

/// Where a row lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowPlace {
    /// In the log and in memory.
    Tail {
        /// The partition.
        partition: PartitionId,
        /// The record.
        offset: Offset,
        /// The row of the record.
        index: u32,
    },
    /// In a segment.
    Segment {
        /// The segment.
        segment: SegmentId,
        /// The block of it.
        block: u32,
        /// The load, where it is one's.
        load: Option<LoadId>,
    },
}

/// Every row of a key and why it is or is not the answer, in falling rank.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The rows.
    pub rows: Vec<ExplainedRow>,
    /// The edition.
    pub edition: Seq,
    /// The manifest.
    pub manifest: Seq,
}
