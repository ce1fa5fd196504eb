//! The named limits. `GET /v1/limits` answers them, and an error names the one that was hit.

/// Longest key, in bytes.
pub const KEY_BYTES: usize = 2048;
/// Longest value, in bytes.
pub const VALUE_BYTES: usize = 1 << 20;
/// Most keys in one batchGet.
pub const BATCH_GET_KEYS: usize = 1_000;
/// Most rows in one batchWrite.
pub const BATCH_WRITE_ROWS: usize = 10_000;
/// Longest body of a batchWrite, in bytes.
pub const BATCH_WRITE_BYTES: usize = 8 << 20;
/// Most rows bytes in one page of a scan.
pub const PAGE_BYTES: usize = 4 << 20;
/// Most rows in one page of a scan.
pub const PAGE_ROWS: usize = 10_000;
/// Rows in one page of a scan unless `page_size` says otherwise.
pub const PAGE_ROWS_DEFAULT: usize = 1_000;
/// Longest name of a namespace or table.
pub const NAME_BYTES: usize = 128;
/// How long a page token pins its edition, in microseconds.
pub const PAGE_TOKEN_MICROS: i64 = 15 * 60 * 1_000_000;
/// Most unsealed loads over a range (reverted ones not counted).
pub const UNSEALED_LOADS: usize = 8;
/// How long a load stays open unless it is committed or cancelled, in microseconds.
pub const OPEN_LOAD_MICROS: i64 = 7 * 24 * 3600 * 1_000_000;
/// Most errors that a load's description lists.
pub const LOAD_ERRORS: usize = 1_000;
/// Most files of one load.
pub const LOAD_FILES: usize = 100_000;
/// How far a version may lie ahead of the log's time, in microseconds.
pub const VERSION_AHEAD_MICROS: i64 = 24 * 3600 * 1_000_000;
/// The smallest version that a row with a ttl may have: the year 2000, in microseconds. Less is probably milliseconds.
pub const VERSION_TTL_MIN: i64 = 946_684_800_000_000;
/// Longest query string and path, in bytes.
pub const URI_BYTES: usize = 16 << 10;
/// Most bytes of a request's headers.
pub const HEADER_BYTES: usize = 32 << 10;
