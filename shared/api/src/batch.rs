//! The compact binary form of batches, `application/vnd.nacre.batch`: for clients that count microseconds. Its layout
//! is written down in `docs/batch.md`, with bytes; golden files hold both to it.
//!
//! Zero-copy: parsing takes slices of the body, which the rows then share. No checksum (TCP and TLS have theirs, and
//! nothing of this is stored); lengths must add up to the body exactly. Every count and length is checked against what
//! is there before anything is allocated for it.

use bytes::{Buf, Bytes};
use nacre_types::{Error, Key, Result, limits};

use crate::row::{ReadStatus, WriteIn, WriteStatus, check_value};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.nacre.batch";

const MAGIC: [u8; 3] = *b"nbf";
const FORMAT: u8 = 1;
const HEAD: usize = 10;

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    GetRequest = 1,
    GetAnswer = 2,
    WriteRequest = 3,
    WriteAnswer = 4,
}

const PARTIAL: u8 = 1;
const HAS_VERSION: u8 = 1;
const HAS_EXPIRY: u8 = 2;
const DELETE: u8 = 4;

/// Writes a request for `keys`.
pub fn get_request<'k>(keys: impl ExactSizeIterator<Item = &'k [u8]>, partial: bool) -> Vec<u8> {
    let mut out = head(Kind::GetRequest, if partial { PARTIAL } else { 0 }, keys.len());
    for key in keys {
        push_short(&mut out, key);
    }
    out
}

/// Reads a request for keys: they, and whether it is `partial`.
///
/// # Errors
/// `Invalid`: `batch-invalid`, `batch-too-large`, `key-empty`, `key-too-long`.
pub fn parse_get_request(body: Bytes) -> Result<(Vec<Key>, bool)> {
    let mut input = Input { body };
    let (flags, count) =
        input.head(Kind::GetRequest, PARTIAL, 2, limits::BATCH_GET_KEYS, "batch_get_keys")?;
    let mut keys = Vec::with_capacity(count);
    for _ in 0..count {
        keys.push(Key::new(input.short("a key")?)?);
    }
    input.end()?;
    Ok((keys, flags & PARTIAL != 0))
}

/// One key of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// What became of it.
    pub status: ReadStatus,
    /// Version, own expiry and value of a row that was found.
    pub row: Option<(i64, Option<i64>, Bytes)>,
}

/// Begins the answer to a get of `count` keys; [`push_got`] adds each.
pub fn get_answer(count: usize, edition: u64, capacity: usize) -> Vec<u8> {
    let mut out = head(Kind::GetAnswer, 0, count);
    out.reserve(capacity);
    out.extend_from_slice(&edition.to_le_bytes());
    out
}

/// Adds one key: what became of it, and the row if it was found.
pub fn push_got(out: &mut Vec<u8>, status: ReadStatus, row: Option<(i64, Option<i64>, &[u8])>) {
    let expiry = row.is_some_and(|(_, expires_at, _)| expires_at.is_some());
    out.extend_from_slice(&[read_ordinal(status), if expiry { HAS_EXPIRY } else { 0 }]);
    if let Some((version, expires_at, value)) = row {
        out.extend_from_slice(&version.to_le_bytes());
        if let Some(expires_at) = expires_at {
            out.extend_from_slice(&expires_at.to_le_bytes());
        }
        push_long(out, value);
    }
}

/// Reads an answer to a get: one per key, and the edition.
///
/// # Errors
/// `Invalid` (`batch-invalid`).
pub fn parse_get_answer(body: Bytes) -> Result<(Vec<Got>, u64)> {
    let mut input = Input { body };
    let (_, count) = input.head(Kind::GetAnswer, 0, 2, limits::BATCH_GET_KEYS, "batch_get_keys")?;
    let edition = input.u64("the edition")?;
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        let status = read_status(input.u8("a status")?).ok_or_else(|| invalid("a status is not known"))?;
        let flags = input.flags(HAS_EXPIRY)?;
        let row = if status == ReadStatus::Found {
            let version = input.i64("a version")?;
            let expires_at = if flags & HAS_EXPIRY != 0 { Some(input.i64("an expiry")?) } else { None };
            Some((version, expires_at, input.long("a value")?))
        } else {
            None
        };
        rows.push(Got { status, row });
    }
    input.end()?;
    Ok((rows, edition))
}

/// Writes a request that writes `rows`.
pub fn write_request(rows: &[WriteIn]) -> Vec<u8> {
    let mut out = head(Kind::WriteRequest, 0, rows.len());
    for row in rows {
        let flags = if row.version.is_some() { HAS_VERSION } else { 0 }
            | if row.expires_at.is_some() { HAS_EXPIRY } else { 0 }
            | if row.value.is_none() { DELETE } else { 0 };
        out.push(flags);
        push_short(&mut out, &row.key);
        for number in [row.version, row.expires_at].into_iter().flatten() {
            out.extend_from_slice(&number.to_le_bytes());
        }
        if let Some(value) = &row.value {
            push_long(&mut out, value);
        }
    }
    out
}

/// Reads a request that writes rows. Keys and values share `body`.
///
/// # Errors
/// `Invalid`: `batch-invalid`, `batch-too-large`, `key-empty`, `key-too-long`, `value-too-large`.
pub fn parse_write_request(body: Bytes) -> Result<Vec<WriteIn>> {
    let mut input = Input { body };
    let (_, count) = input.head(Kind::WriteRequest, 0, 3, limits::BATCH_WRITE_ROWS, "batch_write_rows")?;
    let mut rows = Vec::with_capacity(count);
    for nth in 0..count {
        let flags = input.flags(HAS_VERSION | HAS_EXPIRY | DELETE)?;
        let key = Key::new(input.short("a key")?).map_err(|error| error.context(format!("row {nth}")))?;
        let version = if flags & HAS_VERSION != 0 { Some(input.i64("a version")?) } else { None };
        let expires_at = if flags & HAS_EXPIRY != 0 { Some(input.i64("an expiry")?) } else { None };
        let value = if flags & DELETE == 0 { Some(input.long("a value")?) } else { None };
        check_value(value.as_deref()).map_err(|error| error.context(format!("row {nth}")))?;
        rows.push(WriteIn { key, value, version, expires_at });
    }
    input.end()?;
    Ok(rows)
}

/// What became of a row of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrote {
    /// In a word.
    pub status: WriteStatus,
    /// Its own version, or the one that the log gave.
    pub version: Option<i64>,
    /// What is wrong: code and detail.
    pub error: Option<String>,
}

/// Begins the answer to a write of `count` rows; [`push_wrote`] adds each.
pub fn write_answer(count: usize, token: &str) -> Vec<u8> {
    let mut out = head(Kind::WriteAnswer, 0, count);
    push_short(&mut out, token.as_bytes());
    out.reserve(count * 10);
    out
}

/// Adds one row of an answer: its version, if that is known, or its error.
pub fn push_wrote(out: &mut Vec<u8>, outcome: Result<Option<i64>, &Error>) {
    match outcome {
        Ok(None) => out.extend_from_slice(&[write_ordinal(WriteStatus::Ok), 0]),
        Ok(Some(version)) => {
            out.extend_from_slice(&[write_ordinal(WriteStatus::Ok), HAS_VERSION]);
            out.extend_from_slice(&version.to_le_bytes());
        }
        Err(error) => {
            out.extend_from_slice(&[write_ordinal(WriteStatus::of(error)), 0]);
            push_short(out, error.to_string().as_bytes());
        }
    }
}

/// Reads an answer to a write: one per row, and the token.
///
/// # Errors
/// `Invalid` (`batch-invalid`).
pub fn parse_write_answer(body: Bytes) -> Result<(Vec<Wrote>, String)> {
    let mut input = Input { body };
    let (_, count) = input.head(Kind::WriteAnswer, 0, 2, limits::BATCH_WRITE_ROWS, "batch_write_rows")?;
    let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
    let token = text(input.short("the token")?);
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        let status = write_status(input.u8("a status")?).ok_or_else(|| invalid("a status is not known"))?;
        let flags = input.flags(HAS_VERSION)?;
        let version = if flags & HAS_VERSION != 0 { Some(input.i64("a version")?) } else { None };
        let error = if status == WriteStatus::Ok { None } else { Some(text(input.short("an error")?)) };
        rows.push(Wrote { status, version, error });
    }
    input.end()?;
    Ok((rows, token))
}

/// Stable numbers: a new status gets the next one, none changes.
fn read_ordinal(status: ReadStatus) -> u8 {
    match status {
        ReadStatus::Found => 0,
        ReadStatus::Absent => 1,
        ReadStatus::Unavailable => 2,
        ReadStatus::TooLarge => 3,
        ReadStatus::Blocked => 4,
    }
}

fn read_status(ordinal: u8) -> Option<ReadStatus> {
    use ReadStatus::*;
    [Found, Absent, Unavailable, TooLarge, Blocked]
        .into_iter()
        .find(|&status| read_ordinal(status) == ordinal)
}

/// Stable numbers: a new status gets the next one, none changes.
fn write_ordinal(status: WriteStatus) -> u8 {
    match status {
        WriteStatus::Ok => 0,
        WriteStatus::Invalid => 1,
        WriteStatus::Throttled => 2,
        WriteStatus::Overloaded => 3,
        WriteStatus::Unavailable => 4,
        WriteStatus::Unknown => 5,
    }
}

fn write_status(ordinal: u8) -> Option<WriteStatus> {
    use WriteStatus::*;
    [Ok, Invalid, Throttled, Overloaded, Unavailable, Unknown]
        .into_iter()
        .find(|&status| write_ordinal(status) == ordinal)
}

fn head(kind: Kind, flags: u8, count: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + 32 * count);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[FORMAT, kind as u8, flags]);
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
    out
}

/// At most 65,535 bytes: keys and tokens are shorter, and an error's text is cut.
fn push_short(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = bytes.get(..usize::from(u16::MAX)).unwrap_or(bytes);
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Values, at most 1 MiB.
fn push_long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn invalid(detail: &str) -> Error {
    Error::invalid(format!(
        "the binary batch is damaged or of another kind: {detail}; its layout is in docs/batch.md"
    ))
    .with_code("batch-invalid")
}

/// What is left of a body.
struct Input {
    body: Bytes,
}

impl Input {
    /// Flags and count. `least` is what an item has at least, so that a count cannot claim more than the body holds.
    fn head(
        &mut self,
        kind: Kind,
        known_flags: u8,
        least: usize,
        most: usize,
        limit: &str,
    ) -> Result<(u8, usize)> {
        if self.take(3, "the head")? != MAGIC[..] {
            return Err(invalid("it does not begin with \"nbf\""));
        }
        let version = self.u8("the head")?;
        if version != FORMAT {
            return Err(invalid(&format!("its version is {version}, and this server speaks {FORMAT}")));
        }
        let found = self.u8("the head")?;
        if found != kind as u8 {
            return Err(invalid(&format!("its kind is {found}, expected {} ({kind:?})", kind as u8)));
        }
        let flags = self.flags(known_flags)?;
        let count = self.u32("the count")? as usize;
        if count > most {
            return Err(Error::invalid(format!("the batch has {count} items; the limit {limit} is {most}"))
                .with_code("batch-too-large"));
        }
        if count.saturating_mul(least) > self.body.len() {
            return Err(invalid("its count is more than its body can hold"));
        }
        Ok((flags, count))
    }

    fn take(&mut self, length: usize, what: &str) -> Result<Bytes> {
        if self.body.len() < length {
            return Err(invalid(&format!("it ends within {what}")));
        }
        Ok(self.body.split_to(length))
    }

    fn u8(&mut self, what: &str) -> Result<u8> {
        self.body.try_get_u8().map_err(|_| invalid(&format!("it ends within {what}")))
    }

    fn flags(&mut self, known: u8) -> Result<u8> {
        let flags = self.u8("flags")?;
        if flags & !known != 0 { Err(invalid("an unknown flag is set")) } else { Ok(flags) }
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        self.body.try_get_u32_le().map_err(|_| invalid(&format!("it ends within {what}")))
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        self.body.try_get_u64_le().map_err(|_| invalid(&format!("it ends within {what}")))
    }

    fn i64(&mut self, what: &str) -> Result<i64> {
        self.body.try_get_i64_le().map_err(|_| invalid(&format!("it ends within {what}")))
    }

    fn short(&mut self, what: &str) -> Result<Bytes> {
        let length = self.body.try_get_u16_le().map_err(|_| invalid(&format!("it ends within {what}")))?;
        self.take(usize::from(length), what)
    }

    fn long(&mut self, what: &str) -> Result<Bytes> {
        let length = self.u32(what)? as usize;
        self.take(length, what)
    }

    fn end(&self) -> Result<()> {
        if self.body.is_empty() { Ok(()) } else { Err(invalid("there are bytes behind its last item")) }
    }
}

#[cfg(test)]
#[path = "batch/tests.rs"]
mod tests;
