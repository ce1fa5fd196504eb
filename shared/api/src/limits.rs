//! The body of `GET /v1/limits`.

use nacre_types::limits as named;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The named limits; an error that hits one names it so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Limits {
    /// Longest key, in bytes.
    pub key_bytes: u64,
    /// Longest value, in bytes.
    pub value_bytes: u64,
    /// Most keys of a batchGet.
    pub batch_get_keys: u64,
    /// Most rows of a batchWrite.
    pub batch_write_rows: u64,
    /// Longest body of a batchWrite, in bytes.
    pub batch_write_bytes: u64,
    /// Most bytes of keys and values in one page.
    pub page_bytes: u64,
    /// Most rows in one page.
    pub page_rows: u64,
    /// Rows in one page unless `page_size` says otherwise.
    pub page_rows_default: u64,
    /// How long a page token lives, counted from its scan's first page, in seconds.
    pub page_token_seconds: u64,
    /// Longest name of a namespace or table.
    pub name_bytes: u64,
    /// The pattern of names.
    pub name_pattern: String,
    /// Longest path with query, in bytes.
    pub uri_bytes: u64,
    /// Most bytes of a request's headers.
    pub header_bytes: u64,
    /// Longest JSON body that is not a batch, in bytes.
    pub body_bytes: u64,
    /// Longest file put through the API, in bytes.
    pub load_file_bytes: u64,
    /// Most files of one load.
    pub load_files: u64,
    /// Most errors that a load's description lists.
    pub load_errors: u64,
    /// Most loads over a range that can still be reverted.
    pub unsealed_loads: u64,
    /// How long a load stays open, in seconds.
    pub open_load_seconds: u64,
    /// How far a version may lie ahead of the log's time, in seconds.
    pub version_ahead_seconds: u64,
    /// Time for a request that says none, in milliseconds.
    pub deadline_ms_default: u64,
    /// Longest time that `nacre-deadline-ms` may ask for, in milliseconds.
    pub deadline_ms: u64,
}

/// The limits of [`nacre_types::limits`], and those that the server was started with.
pub fn limits(body_bytes: u64, load_file_bytes: u64, deadline_ms_default: u64, deadline_ms: u64) -> Limits {
    let seconds = |micros: i64| micros.unsigned_abs() / 1_000_000;
    Limits {
        key_bytes: named::KEY_BYTES as u64,
        value_bytes: named::VALUE_BYTES as u64,
        batch_get_keys: named::BATCH_GET_KEYS as u64,
        batch_write_rows: named::BATCH_WRITE_ROWS as u64,
        batch_write_bytes: named::BATCH_WRITE_BYTES as u64,
        page_bytes: named::PAGE_BYTES as u64,
        page_rows: named::PAGE_ROWS as u64,
        page_rows_default: named::PAGE_ROWS_DEFAULT as u64,
        page_token_seconds: seconds(named::PAGE_TOKEN_MICROS),
        name_bytes: named::NAME_BYTES as u64,
        name_pattern: "[a-z0-9][a-z0-9_-]{0,127}".to_owned(),
        uri_bytes: named::URI_BYTES as u64,
        header_bytes: named::HEADER_BYTES as u64,
        body_bytes,
        load_file_bytes,
        load_files: named::LOAD_FILES as u64,
        load_errors: named::LOAD_ERRORS as u64,
        unsealed_loads: named::UNSEALED_LOADS as u64,
        open_load_seconds: seconds(named::OPEN_LOAD_MICROS),
        version_ahead_seconds: seconds(named::VERSION_AHEAD_MICROS),
        deadline_ms_default,
        deadline_ms,
    }
}
