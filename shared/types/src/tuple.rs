//! FoundationDB's tuple encoding of typed keys: several parts become one byte string whose unsigned order is the order
//! of the parts, and every leading run of parts is a range of keys.
//!
//! ```text
//! bytes      0x01, the bytes with each 0x00 written as 0x00 0xFF, 0x00
//! string     0x02, the UTF-8 bytes likewise, 0x00
//! int64      0x14 + n, then the n bytes of the number, big-endian, as few as possible         n > 0: positive
//!            0x14 alone is zero; 0x14 - n, then n bytes of (2^8n - 1 + number)                 negative
//! date       int64: days since 1970-01-01          timestamp   int64: microseconds since 1970-01-01T00:00:00Z
//! uuid       0x30, its 16 bytes
//! ```
//!
//! Source: FoundationDB, `design/tuple.md`. Of its types these are the ones whose order is plain in every language;
//! nulls, floats and decimals are left out on purpose. A value has exactly one encoding: [`unpack`] refuses what
//! [`pack`] would not have written, so equal parts are equal keys. `docs/keys.md` holds the test vectors.

mod text;

pub use text::{encode_base64, part_from_json, part_from_text, part_to_json, parts_from_json, parts_to_json};

use crate::{Error, Key, KeyPart, KeyPartType, KeyRange, Result};
use bytes::Bytes;

const BYTES: u8 = 0x01;
const STRING: u8 = 0x02;
const ZERO: u8 = 0x14;
const UUID: u8 = 0x30;

/// One part of a typed key, owned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Part {
    /// UTF-8 text.
    String(String),
    /// Bytes.
    Bytes(Bytes),
    /// A signed 64-bit number.
    Int64(i64),
    /// A UUID's 16 bytes.
    Uuid([u8; 16]),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since 1970-01-01T00:00:00Z.
    Timestamp(i64),
}

impl Part {
    /// The type of this part.
    pub fn kind(&self) -> KeyPartType {
        match self {
            Self::String(_) => KeyPartType::String,
            Self::Bytes(_) => KeyPartType::Bytes,
            Self::Int64(_) => KeyPartType::Int64,
            Self::Uuid(_) => KeyPartType::Uuid,
            Self::Date(_) => KeyPartType::Date,
            Self::Timestamp(_) => KeyPartType::Timestamp,
        }
    }

    /// Appends the part's encoding to `out`.
    pub fn push(&self, out: &mut Vec<u8>) {
        match self {
            Self::String(text) => push_string(out, text),
            Self::Bytes(bytes) => push_bytes(out, bytes),
            Self::Int64(number) | Self::Timestamp(number) => push_int64(out, *number),
            Self::Uuid(bytes) => push_uuid(out, bytes),
            Self::Date(days) => push_int64(out, i64::from(*days)),
        }
    }
}

/// The word that a table's settings use for `kind`.
pub fn kind_name(kind: KeyPartType) -> &'static str {
    match kind {
        KeyPartType::String => "string",
        KeyPartType::Bytes => "bytes",
        KeyPartType::Int64 => "int64",
        KeyPartType::Uuid => "uuid",
        KeyPartType::Date => "date",
        KeyPartType::Timestamp => "timestamp",
    }
}

/// Appends a `bytes` part.
pub fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(BYTES);
    push_escaped(out, bytes);
}

/// Appends a `string` part.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(STRING);
    push_escaped(out, text.as_bytes());
}

fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&b| b == 0) {
        let (head, tail) = rest.split_at(at + 1);
        out.extend_from_slice(head);
        out.push(0xFF);
        rest = tail;
    }
    out.extend_from_slice(rest);
    out.push(0);
}

/// Appends an `int64` part (also a `date`'s days and a `timestamp`'s microseconds).
pub fn push_int64(out: &mut Vec<u8>, number: i64) {
    let magnitude = number.unsigned_abs();
    let length = 8 - magnitude.leading_zeros() as usize / 8;
    if number >= 0 {
        out.push(ZERO + length as u8);
        out.extend_from_slice(&magnitude.to_be_bytes()[8 - length..]);
    } else {
        // 2^8n - 1 + number is the complement of the magnitude in n bytes.
        out.push(ZERO - length as u8);
        out.extend_from_slice(&(!magnitude).to_be_bytes()[8 - length..]);
    }
}

/// Appends a `uuid` part.
pub fn push_uuid(out: &mut Vec<u8>, uuid: &[u8; 16]) {
    out.push(UUID);
    out.extend_from_slice(uuid);
}

/// Packs `parts`, whatever their types.
pub fn pack(parts: &[Part]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 * parts.len());
    for part in parts {
        part.push(&mut out);
    }
    out
}

/// Packs `parts` into a key after checking them against `schema`.
///
/// # Errors
/// `Invalid`: `key-parts` for another number or other types of parts, `key-too-long` beyond 2 KiB once packed.
pub fn pack_key(schema: &[KeyPart], parts: &[Part]) -> Result<Key> {
    check(schema, parts)?;
    if parts.len() != schema.len() {
        return Err(parts_error(schema, &format!("has {} parts", parts.len())));
    }
    Key::new(pack(parts))
}

/// The keys whose leading parts are `parts`: all of them where there is no part, one key where there are all.
///
/// This is not the range of all byte strings that begin with the packed parts: `("a")` is `02 61 00`, and so begins
/// the packed `("a\0")`, `02 61 00 FF 00`, as well. What follows a whole part is a type code, and those are below 0xFF.
///
/// # Errors
/// `Invalid` (`key-parts`) for more parts than the schema has, or other types.
pub fn prefix(schema: &[KeyPart], parts: &[Part]) -> Result<KeyRange> {
    check(schema, parts)?;
    if parts.is_empty() {
        return Ok(KeyRange::all());
    }
    let start = pack(parts);
    let mut end = start.clone();
    end.push(0xFF);
    Ok(KeyRange { start: start.into(), end: Some(end.into()) })
}

fn check(schema: &[KeyPart], parts: &[Part]) -> Result<()> {
    if parts.len() > schema.len() {
        return Err(parts_error(schema, &format!("has {} parts", parts.len())));
    }
    for (expected, part) in schema.iter().zip(parts) {
        if expected.kind != part.kind() {
            return Err(parts_error(
                schema,
                &format!("has a {} for {:?}", kind_name(part.kind()), expected.name),
            ));
        }
    }
    Ok(())
}

pub(crate) fn parts_error(schema: &[KeyPart], what: &str) -> Error {
    let expected: Vec<String> =
        schema.iter().map(|part| format!("{} {}", part.name, kind_name(part.kind))).collect();
    Error::invalid(format!("the key {what}; this table's keys are ({})", expected.join(", ")))
        .with_code("key-parts")
}

/// Takes a packed key apart.
///
/// # Errors
/// `Invalid` (`key-parts`) where `key` is not what [`pack`] makes of parts of these types.
pub fn unpack(schema: &[KeyPart], key: &[u8]) -> Result<Vec<Part>> {
    let mut rest = key;
    let mut parts = Vec::with_capacity(schema.len());
    for part in schema {
        parts.push(take(part.kind, &mut rest).ok_or_else(|| {
            parts_error(
                schema,
                &format!(
                    "is not a packed one: no {} at byte {}",
                    kind_name(part.kind),
                    key.len() - rest.len()
                ),
            )
        })?);
    }
    if rest.is_empty() {
        Ok(parts)
    } else {
        Err(parts_error(schema, &format!("has {} bytes behind its last part", rest.len())))
    }
}

/// Whether `key` is a packed key of `schema`, without building its parts.
pub fn is_packed(schema: &[KeyPart], key: &[u8]) -> bool {
    let mut rest = key;
    schema.iter().all(|part| skip(part.kind, &mut rest).is_some()) && rest.is_empty()
}

fn take(kind: KeyPartType, rest: &mut &[u8]) -> Option<Part> {
    match kind {
        KeyPartType::String => {
            String::from_utf8(unescape(take_escaped(STRING, rest)?)).ok().map(Part::String)
        }
        KeyPartType::Bytes => Some(Part::Bytes(unescape(take_escaped(BYTES, rest)?).into())),
        KeyPartType::Int64 => take_int64(rest).map(Part::Int64),
        KeyPartType::Timestamp => take_int64(rest).map(Part::Timestamp),
        KeyPartType::Date => i32::try_from(take_int64(rest)?).ok().map(Part::Date),
        KeyPartType::Uuid => take_uuid(rest).map(Part::Uuid),
    }
}

fn skip(kind: KeyPartType, rest: &mut &[u8]) -> Option<()> {
    match kind {
        KeyPartType::String => {
            let raw = take_escaped(STRING, rest)?;
            // An escaped zero stands between two characters: what UTF-8 says of the pieces it says of the whole.
            raw.split(|&b| b == 0)
                .enumerate()
                .all(|(nth, piece)| {
                    std::str::from_utf8(if nth == 0 { piece } else { piece.get(1..).unwrap_or_default() })
                        .is_ok()
                })
                .then_some(())
        }
        KeyPartType::Bytes => take_escaped(BYTES, rest).map(drop),
        KeyPartType::Int64 | KeyPartType::Timestamp => take_int64(rest).map(drop),
        KeyPartType::Date => i32::try_from(take_int64(rest)?).ok().map(drop),
        KeyPartType::Uuid => take_uuid(rest).map(drop),
    }
}

/// The still escaped body of a string or bytes part, without its terminator.
fn take_escaped<'a>(code: u8, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let body = rest.strip_prefix(&[code])?;
    let mut from = 0;
    loop {
        let zero = from + body.get(from..)?.iter().position(|&b| b == 0)?;
        if body.get(zero + 1) == Some(&0xFF) {
            from = zero + 2;
        } else {
            let (part, after) = body.split_at(zero);
            *rest = after.get(1..)?;
            return Some(part);
        }
    }
}

fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.iter().position(|&b| b == 0) {
        out.extend_from_slice(&rest[..=at]);
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

fn take_int64(rest: &mut &[u8]) -> Option<i64> {
    let (&code, body) = rest.split_first()?;
    let length = usize::from(code.abs_diff(ZERO));
    if length > 8 || body.len() < length {
        return None;
    }
    let (digits, after) = body.split_at(length);
    let number = digits.iter().fold(0u64, |number, &digit| number << 8 | u64::from(digit));
    let all_ones = if length == 8 { u64::MAX } else { (1u64 << (8 * length)) - 1 };
    let magnitude = if code >= ZERO { number } else { all_ones - number };
    // As few bytes as possible: the first one counts.
    if length > 0 && magnitude >> (8 * (length - 1)) == 0 {
        return None;
    }
    let value = if code >= ZERO {
        i64::try_from(magnitude).ok()?
    } else if magnitude == 1 << 63 {
        i64::MIN
    } else {
        -i64::try_from(magnitude).ok()?
    };
    *rest = after;
    Some(value)
}

fn take_uuid(rest: &mut &[u8]) -> Option<[u8; 16]> {
    let body = rest.strip_prefix(&[UUID])?;
    let (uuid, after) = body.split_first_chunk::<16>()?;
    *rest = after;
    Some(*uuid)
}

#[cfg(test)]
mod tests;
