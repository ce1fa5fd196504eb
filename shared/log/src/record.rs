//! What is appended: one record of rows of one table, or a small sign between processes.
//!
//! ```text
//! version 1 | kind | flags | table 16 | generation u16 | write id 16 | count u32 | body | crc32
//! rows:   count × { flags u8, key length u16, [value length u32], [version i64], [expires_at i64], key, [value] }
//! notice: sequence u64        marker, fence: nothing
//! ```
//! Numbers are little-endian, ids are their big-endian bytes. A record is checked whole when it is decoded; its rows are
//! slices of it and are read without further errors.

use crate::codec::{self, CRC_BYTES, corrupt};
use bytes::{Buf, Bytes};
use nacre_types::{Error, Generation, Key, Result, Seq, TableId, WriteId, limits};

#[cfg(test)]
mod tests;

const WHAT: &str = "log record";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 41;
const KIND_ROWS: u8 = 0;
const KIND_NOTICE: u8 = 1;
const KIND_MARKER: u8 = 2;
const KIND_FENCE: u8 = 3;
/// In a record's flags: it holds a row without a version, so the log gives one.
const GIVES_VERSION: u8 = 1;
const ROW_DELETE: u8 = 1;
const ROW_VERSION: u8 = 2;
const ROW_EXPIRES: u8 = 4;

/// Longest record, in bytes: a full batch and its framing, several times over.
pub const MAX_RECORD_BYTES: usize = 32 << 20;

/// What a row does to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Gives it a value.
    Put,
    /// A tombstone.
    Delete,
}

/// One row of a record. Key and value are slices of the bytes that were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordRow {
    /// Put or delete.
    pub op: Op,
    /// 1 to 2,048 bytes.
    pub key: Bytes,
    /// Empty for a delete.
    pub value: Bytes,
    /// The writer's own version; `None` = the log gives one.
    pub version: Option<i64>,
    /// The row's own expiry, microseconds since the epoch.
    pub expires_at: Option<i64>,
}

/// A decoded record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose rows; 0 for a marker.
    pub table: TableId,
    /// Generation of the assignment of the rows' range to this partition.
    pub generation: Generation,
    /// By which a repeat finds it. Minted anew for every record that is not a repeat.
    pub write_id: WriteId,
    /// What it holds.
    pub kind: RecordKind,
}

/// What a record holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordKind {
    /// Rows of the table.
    Rows(Rows),
    /// An edit of the table was committed at `seq`: a hint to read it.
    Notice {
        /// Sequence number of the edit.
        seq: Seq,
    },
    /// Nothing but its place; the write id is its name.
    Marker,
    /// Reserved for moving a range to another partition.
    Fence,
}

/// The checked rows of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    bytes: Bytes,
    count: u32,
}

impl Rows {
    /// How many.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Record {
    /// Checks the whole record: version, checksum, every length, every key.
    ///
    /// # Errors
    /// `Corrupt` (`log-corrupt`; `newer-format` for a version, kind or flag that this program does not know).
    pub fn decode(bytes: Bytes) -> Result<Self> {
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(corrupt(
                WHAT,
                format_args!("{} bytes; the limit is {MAX_RECORD_BYTES}", bytes.len()),
            ));
        }
        let mut reader = codec::unseal(WHAT, VERSION, &bytes)?;
        let (kind, flags) = (reader.get_u8()?, reader.get_u8()?);
        if flags & !GIVES_VERSION != 0 {
            return Err(newer(format_args!("flags {flags:#x}")));
        }
        let table = TableId(reader.get_u128()?);
        let generation = Generation(reader.get_u16_le()?);
        let write_id = WriteId(reader.get_u128()?);
        let count = reader.get_u32_le()?;
        let mut gives_version = false;
        let kind = match kind {
            KIND_ROWS => {
                let body = reader.bytes(reader.remaining())?;
                gives_version = check_rows(&body, count)?;
                RecordKind::Rows(Rows { bytes: body, count })
            }
            KIND_NOTICE if count == 0 => RecordKind::Notice { seq: Seq(reader.get_u64_le()?) },
            KIND_MARKER if count == 0 => RecordKind::Marker,
            KIND_FENCE if count == 0 => RecordKind::Fence,
            KIND_NOTICE..=KIND_FENCE => return Err(corrupt(WHAT, "a row count where no rows belong")),
            unknown => return Err(newer(format_args!("kind {unknown}"))),
        };
        if gives_version != (flags & GIVES_VERSION != 0) {
            return Err(corrupt(WHAT, "its flag about rows without a version does not fit its rows"));
        }
        reader.finish()?;
        Ok(Self { table, generation, write_id, kind })
    }

    /// The rows in order; none for a notice, marker or fence.
    pub fn rows(&self) -> RowIter<'_> {
        match &self.kind {
            RecordKind::Rows(rows) => RowIter { bytes: Some(&rows.bytes), at: 0, left: rows.count },
            _ => RowIter { bytes: None, at: 0, left: 0 },
        }
    }
}

fn newer(what: std::fmt::Arguments<'_>) -> Error {
    Error::corrupt(format!("{WHAT}: {what} is not known to this program; a newer one wrote it"))
        .with_code("newer-format")
}

/// Where the parts of a row lie: offsets into the body.
struct RowPlace {
    flags: u8,
    version: Option<i64>,
    expires_at: Option<i64>,
    key: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
}

/// Takes one row apart; `None` where the bytes do not suffice.
fn row_at(body: &[u8], at: usize) -> Option<RowPlace> {
    let mut rest = body.get(at..)?;
    let flags = rest.try_get_u8().ok()?;
    let key_len = usize::from(rest.try_get_u16_le().ok()?);
    let value_len =
        if flags & ROW_DELETE == 0 { usize::try_from(rest.try_get_u32_le().ok()?).ok()? } else { 0 };
    let mut optional = |bit: u8| -> Option<Option<i64>> {
        if flags & bit == 0 { Some(None) } else { rest.try_get_i64_le().ok().map(Some) }
    };
    let (version, expires_at) = (optional(ROW_VERSION)?, optional(ROW_EXPIRES)?);
    let key_at = body.len() - rest.len();
    if rest.len().checked_sub(key_len)? < value_len {
        return None;
    }
    let value_at = key_at + key_len;
    Some(RowPlace {
        flags,
        version,
        expires_at,
        key: key_at..value_at,
        value: value_at..value_at + value_len,
    })
}

/// Checks `count` rows; answers whether one has no version.
fn check_rows(body: &Bytes, count: u32) -> Result<bool> {
    let (mut at, mut gives_version) = (0, false);
    for index in 0..count {
        let Some(row) = row_at(body, at) else {
            return Err(corrupt(WHAT, format_args!("row {index} of {count} is cut short")));
        };
        if row.flags & !(ROW_DELETE | ROW_VERSION | ROW_EXPIRES) != 0 {
            return Err(newer(format_args!("row flags {:#x}", row.flags)));
        }
        if row.key.is_empty() || row.key.len() > limits::KEY_BYTES {
            return Err(corrupt(WHAT, format_args!("row {index} has a key of {} bytes", row.key.len())));
        }
        gives_version |= row.version.is_none();
        at = row.value.end;
    }
    if at != body.len() {
        return Err(corrupt(WHAT, format_args!("{} bytes after the last row", body.len() - at)));
    }
    Ok(gives_version)
}

/// Iterates over the rows of a record.
#[derive(Debug, Clone)]
pub struct RowIter<'a> {
    bytes: Option<&'a Bytes>,
    at: usize,
    left: u32,
}

impl Iterator for RowIter<'_> {
    type Item = RecordRow;

    fn next(&mut self) -> Option<RecordRow> {
        self.left = self.left.checked_sub(1)?;
        let bytes = self.bytes?;
        let row = row_at(bytes, self.at)?;
        self.at = row.value.end;
        Some(RecordRow {
            op: if row.flags & ROW_DELETE == 0 { Op::Put } else { Op::Delete },
            key: bytes.slice(row.key),
            value: bytes.slice(row.value),
            version: row.version,
            expires_at: row.expires_at,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for RowIter<'_> {}

/// A record as it is stored; well formed by construction. Clones share the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedRecord(Bytes);

impl EncodedRecord {
    /// Checks bytes from outside as [`Record::decode`] does.
    ///
    /// # Errors
    /// As [`Record::decode`].
    pub fn from_bytes(bytes: Bytes) -> Result<Self> {
        Record::decode(bytes.clone())?;
        Ok(Self(bytes))
    }

    /// A hint that an edit of `table` was committed at `seq`.
    pub fn notice(write_id: WriteId, table: TableId, seq: Seq) -> Self {
        let mut out = header(KIND_NOTICE, table, Generation(0), write_id, 64);
        out.extend_from_slice(&seq.0.to_le_bytes());
        codec::seal(&mut out, 0);
        Self(out.into())
    }

    /// A record that is nothing but its place in the log; `id` names it.
    pub fn marker(id: WriteId) -> Self {
        let mut out = header(KIND_MARKER, TableId(0), Generation(0), id, 64);
        codec::seal(&mut out, 0);
        Self(out.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// How many bytes.
    #[expect(clippy::len_without_is_empty, reason = "a record is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the log gives this record's rows a version: the partition's clock advances with it.
    pub fn gives_version(&self) -> bool {
        gives_version(&self.0)
    }

    /// By which a repeat finds it.
    pub fn write_id(&self) -> WriteId {
        write_id(&self.0)
    }
}

/// Whether a stored record advances the clock, from its header alone.
pub(crate) fn gives_version(record: &[u8]) -> bool {
    record.get(2).is_some_and(|flags| flags & GIVES_VERSION != 0)
}

/// The write id of a stored record, from its header alone.
pub(crate) fn write_id(record: &[u8]) -> WriteId {
    let bytes = record.get(21..37).and_then(|slice| slice.try_into().ok()).unwrap_or_default();
    WriteId::from_bytes(bytes)
}

/// Fewest bytes that a stored record can have.
pub(crate) const MIN_RECORD_BYTES: usize = HEADER_BYTES + CRC_BYTES;

fn header(kind: u8, table: TableId, generation: Generation, write_id: WriteId, capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity.max(MIN_RECORD_BYTES));
    out.extend_from_slice(&[VERSION, kind, 0]);
    out.extend_from_slice(&table.to_bytes());
    out.extend_from_slice(&generation.0.to_le_bytes());
    out.extend_from_slice(&write_id.to_bytes());
    out.extend_from_slice(&[0; 4]);
    debug_assert_eq!(out.len(), HEADER_BYTES);
    out
}

/// Builds a record of rows.
#[derive(Debug)]
pub struct RecordBuilder {
    out: Vec<u8>,
    count: u32,
    gives_version: bool,
}

impl RecordBuilder {
    /// An empty record.
    pub fn new(table: TableId, generation: Generation, write_id: WriteId) -> Self {
        Self::with_capacity(table, generation, write_id, 0)
    }

    /// An empty record with room for `bytes` of rows.
    pub fn with_capacity(table: TableId, generation: Generation, write_id: WriteId, bytes: usize) -> Self {
        let out = header(KIND_ROWS, table, generation, write_id, bytes + MIN_RECORD_BYTES);
        Self { out, count: 0, gives_version: false }
    }

    /// Appends a row; a delete's value is not kept.
    ///
    /// # Errors
    /// `Invalid` (`key-empty`, `key-too-long`, `value-too-long`, `record-too-long`); the record is as before.
    pub fn push(
        &mut self,
        op: Op,
        key: &[u8],
        value: &[u8],
        version: Option<i64>,
        expires_at: Option<i64>,
    ) -> Result<()> {
        Key::check(key)?;
        let value = if op == Op::Delete { &[] } else { value };
        if value.len() > limits::VALUE_BYTES {
            return Err(Error::invalid(format!(
                "the value has {} bytes; the limit value_bytes is {}",
                value.len(),
                limits::VALUE_BYTES
            ))
            .with_code("value-too-long"));
        }
        if self.out.len() + key.len() + value.len() + 23 + CRC_BYTES > MAX_RECORD_BYTES {
            return Err(Error::invalid(format!("a record holds at most {MAX_RECORD_BYTES} bytes"))
                .with_code("record-too-long"));
        }
        let delete = if op == Op::Delete { ROW_DELETE } else { 0 };
        let versioned = if version.is_some() { ROW_VERSION } else { 0 };
        let expires = if expires_at.is_some() { ROW_EXPIRES } else { 0 };
        self.out.push(delete | versioned | expires);
        // Both lengths were checked against far smaller limits.
        self.out.extend_from_slice(&(key.len() as u16).to_le_bytes());
        if op == Op::Put {
            self.out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        }
        for number in [version, expires_at].into_iter().flatten() {
            self.out.extend_from_slice(&number.to_le_bytes());
        }
        self.out.extend_from_slice(key);
        self.out.extend_from_slice(value);
        self.count += 1;
        self.gives_version |= version.is_none();
        Ok(())
    }

    /// How many rows so far.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no row yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The record as it is stored.
    pub fn finish(mut self) -> EncodedRecord {
        let flags = if self.gives_version { GIVES_VERSION } else { 0 };
        if let Some(byte) = self.out.get_mut(2) {
            *byte = flags;
        }
        if let Some(count) = self.out.get_mut(37..HEADER_BYTES) {
            count.copy_from_slice(&self.count.to_le_bytes());
        }
        codec::seal(&mut self.out, 0);
        EncodedRecord(self.out.into())
    }
}
