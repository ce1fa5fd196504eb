//! A row.

use crate::Key;
use bytes::Bytes;

/// A row as a writer gave it or a reader gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its key.
    pub key: Key,
    /// i64 microseconds since the epoch (or a number, where the table says so).
    pub version: i64,
    /// `None` = a tombstone.
    pub value: Option<Bytes>,
    /// When it expires, in microseconds since the epoch: the row's own, not yet shortened by the table's ttl.
    pub expires_at: Option<i64>,
}
