//! Errors of a node, as its callers see them.

use nacre_store::frame::{FrameReader, FrameWriter};
use nacre_types::{Error, ErrorKind, Result};

const KINDS: [ErrorKind; 11] = [
    ErrorKind::Invalid,
    ErrorKind::NotFound,
    ErrorKind::Conflict,
    ErrorKind::Unauthorized,
    ErrorKind::Forbidden,
    ErrorKind::Throttled,
    ErrorKind::Overloaded,
    ErrorKind::Unavailable,
    ErrorKind::Unknown,
    ErrorKind::Corrupt,
    ErrorKind::Internal,
];

/// The codes that reads of the engine have, and those that this crate decides by. Any other is told as the kind's own.
const CODES: [&str; 16] = [
    "edition-ahead",
    "edition-gone",
    "key-empty",
    "key-too-long",
    "load-not-prepared",
    "newer-format",
    "not-held",
    "object-changed",
    "segment-gone",
    "stale",
    "starting",
    "table-not-found",
    "token-invalid",
    "token-other-log",
    "token-other-table",
    "node-leaving",
];

const NO_HINT: u64 = u64::MAX;

pub(super) fn encode(frame: FrameWriter, error: &Error) -> FrameWriter {
    let kind = KINDS.iter().position(|kind| *kind == error.kind()).unwrap_or(KINDS.len() - 1);
    frame
        .u32(kind as u32)
        .bytes(error.code().as_bytes())
        .bytes(error.detail().as_bytes())
        .u64(error.retry_after_ms().unwrap_or(NO_HINT))
}

pub(super) fn decode(frame: &mut FrameReader) -> Result<Error> {
    let kind = frame.u32()?;
    let (code, detail, hint) = (frame.text()?, frame.text()?, frame.u64()?);
    // A kind that a newer node has: nothing is known but that it did not answer.
    let kind = KINDS.get(kind as usize).copied().unwrap_or(ErrorKind::Unavailable);
    let mut error = Error::new(kind, detail);
    if let Some(code) = CODES.iter().find(|known| **known == code) {
        error = error.with_code(code);
    }
    if hint != NO_HINT {
        error = error.with_retry_after_ms(hint);
    }
    Ok(error)
}
