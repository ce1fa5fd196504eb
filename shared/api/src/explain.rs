//! The body that explains an answer.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::number::I64;

/// `GET .../rows/{key}:explain`: every row of the key in falling rank, and why it is or is not the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainBody {
    /// The rows.
    pub rows: Vec<ExplainedRowBody>,
    /// The edition.
    pub edition: I64,
    /// Sequence of the table's last edit.
    pub manifest: I64,
}

/// One row of a key, wherever it lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedRowBody {
    /// Its version.
    pub version: I64,
    /// Whether it is a tombstone.
    pub tombstone: bool,
    /// Its own expiry.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<I64>,
    /// Length of its value.
    pub value_bytes: u64,
    /// Where it lies.
    pub place: PlaceBody,
    /// Whether it is visible.
    pub visible: bool,
    /// Why, or why not.
    pub reason: String,
}

/// Where a row lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PlaceBody {
    /// In the log and in memory.
    Tail {
        /// The partition.
        partition: u32,
        /// The record.
        offset: u64,
        /// The row of the record.
        index: u32,
    },
    /// In a segment.
    Segment {
        /// The segment.
        segment: String,
        /// Its block.
        block: u32,
        /// The load, where it is one's.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        load: Option<String>,
    },
}
