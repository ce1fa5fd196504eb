//! Parts of typed keys as JSON and as text, the forms of the HTTP API and the command line.

use super::{Part, kind_name, parts_error};
use crate::{Error, KeyPart, KeyPartType, Result, civil};
use serde_json::Value;

/// Integers up to this magnitude are JSON numbers, larger ones strings: what a double holds exactly.
const EXACT: u64 = 1 << 53;

/// The parts of a key given as a JSON array, `[42, "a"]`; fewer parts than the schema has are a prefix.
///
/// # Errors
/// `Invalid` (`key-parts`): not an array, too many parts, or one of the wrong type.
pub fn parts_from_json(schema: &[KeyPart], value: &Value) -> Result<Vec<Part>> {
    let Value::Array(items) = value else {
        return Err(parts_error(schema, "is not a JSON array"));
    };
    if items.len() > schema.len() {
        return Err(parts_error(schema, &format!("has {} parts", items.len())));
    }
    schema.iter().zip(items).map(|(part, item)| part_from_json(part, item)).collect()
}

/// One part from JSON: a string for `string`, `uuid`, `date` (`2024-02-29`) and `timestamp` (RFC 3339);
/// `{"base64": ".."}` or a string for `bytes`; a number or its decimal text for `int64`, and for `timestamp` also its
/// microseconds as a number.
///
/// # Errors
/// `Invalid` (`key-parts`).
pub fn part_from_json(part: &KeyPart, value: &Value) -> Result<Part> {
    match (part.kind, value) {
        (KeyPartType::Bytes, Value::Object(object)) => match object.get("base64") {
            Some(Value::String(text)) if object.len() == 1 => {
                decode_base64(text).map(|bytes| Part::Bytes(bytes.into())).ok_or_else(|| wrong(part, text))
            }
            _ => Err(wrong(part, &value.to_string())),
        },
        (KeyPartType::Int64, Value::Number(number)) => {
            number.as_i64().map(Part::Int64).ok_or_else(|| wrong(part, &number.to_string()))
        }
        (KeyPartType::Timestamp, Value::Number(number)) => {
            number.as_i64().map(Part::Timestamp).ok_or_else(|| wrong(part, &number.to_string()))
        }
        (_, Value::String(text)) => part_from_text(part, text),
        _ => Err(wrong(part, &value.to_string())),
    }
}

/// One part from text, as it stands in a path or behind `name=` in a folder.
///
/// # Errors
/// `Invalid` (`key-parts`).
pub fn part_from_text(part: &KeyPart, text: &str) -> Result<Part> {
    let parsed = match part.kind {
        KeyPartType::String => Some(Part::String(text.to_owned())),
        KeyPartType::Bytes => Some(Part::Bytes(text.as_bytes().to_vec().into())),
        KeyPartType::Int64 => text.parse().ok().map(Part::Int64),
        KeyPartType::Uuid => parse_uuid(text).map(Part::Uuid),
        KeyPartType::Date => {
            civil::parse_date(text).and_then(|days| i32::try_from(days).ok()).map(Part::Date)
        }
        KeyPartType::Timestamp => {
            civil::parse_timestamp(text).or_else(|| text.parse().ok()).map(Part::Timestamp)
        }
    };
    parsed.ok_or_else(|| wrong(part, text))
}

/// The parts as a JSON array; see [`part_to_json`].
pub fn parts_to_json(parts: &[Part]) -> Value {
    Value::Array(parts.iter().map(part_to_json).collect())
}

/// One part as JSON: numbers beyond 2^53 as strings, bytes as `{"base64": ".."}`, dates and moments as RFC 3339.
/// [`part_from_json`] reads it back.
pub fn part_to_json(part: &Part) -> Value {
    let mut text = String::new();
    match part {
        Part::String(string) => text.push_str(string),
        Part::Bytes(bytes) => return serde_json::json!({ "base64": encode_base64(bytes) }),
        Part::Int64(number) if number.unsigned_abs() <= EXACT => return Value::from(*number),
        Part::Int64(number) => text = number.to_string(),
        Part::Uuid(uuid) => {
            for (at, byte) in uuid.iter().enumerate() {
                if matches!(at, 4 | 6 | 8 | 10) {
                    text.push('-');
                }
                text.push_str(&format!("{byte:02x}"));
            }
        }
        Part::Date(days) => civil::push_date(&mut text, i64::from(*days)),
        Part::Timestamp(micros) => civil::push_timestamp(&mut text, *micros),
    }
    Value::String(text)
}

fn wrong(part: &KeyPart, found: &str) -> Error {
    let form = match part.kind {
        KeyPartType::String => "a string",
        KeyPartType::Bytes => "{\"base64\": \"..\"} or a string",
        KeyPartType::Int64 => "a whole number from -2^63 to 2^63 - 1, as a number or a string",
        KeyPartType::Uuid => "a UUID such as \"123e4567-e89b-12d3-a456-426614174000\"",
        KeyPartType::Date => "a date such as \"2024-02-29\"",
        KeyPartType::Timestamp => {
            "an RFC 3339 moment such as \"2024-02-29T12:34:56Z\", or microseconds since the epoch"
        }
    };
    let found: String = found.chars().take(80).collect();
    Error::invalid(format!(
        "the key's part {:?} ({}) cannot be {found:?}: expected {form}",
        part.name,
        kind_name(part.kind)
    ))
    .with_code("key-parts")
}

/// Hex digits with or without hyphens in their usual places.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let bytes = text.as_bytes();
    let hyphens = [8, 13, 18, 23];
    let mut digits = Vec::with_capacity(32);
    match bytes.len() {
        32 => digits.extend_from_slice(bytes),
        36 if hyphens.iter().all(|&at| bytes.get(at) == Some(&b'-')) => {
            digits.extend(
                bytes.iter().enumerate().filter(|(at, _)| !hyphens.contains(at)).map(|(_, &byte)| byte),
            );
        }
        _ => return None,
    }
    let mut uuid = [0; 16];
    for (byte, pair) in uuid.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| pair.get(at).and_then(|&b| char::from(b).to_digit(16));
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(uuid)
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 of RFC 4648 with padding; written out so that this crate needs no codec.
pub fn encode_base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number =
            group.iter().fold(0u32, |number, &b| number << 8 | u32::from(b)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            if digit <= group.len() {
                out.push(char::from(BASE64[(number >> (18 - 6 * digit) & 63) as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// Accepts both alphabets of RFC 4648 (`+/` and `-_`), with or without padding.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    if text.len() - digits.len() > 2 || digits.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let mut number = 0u32;
        for &digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            number = number << 6 | u32::from(value);
        }
        number <<= 6 * (4 - group.len());
        let whole = number.to_be_bytes();
        out.extend_from_slice(whole.get(1..group.len())?);
    }
    Some(out)
}
