//! Writing JSON by hand where an answer has thousands of rows: no intermediate values, no per-row allocation.

use nacre_types::{KeySchema, tuple};
use std::io::Write as _;

/// Writes a JSON string.
pub fn push_str(out: &mut Vec<u8>, text: &str) {
    // Writing to a Vec cannot fail, nor can a string fail to serialise.
    let _ = serde_json::to_writer(&mut *out, text);
}

/// Writes an integer: a number up to 2^53, a string beyond.
pub fn push_i64(out: &mut Vec<u8>, number: i64) {
    let exact = number.unsigned_abs() <= crate::number::EXACT;
    if !exact {
        out.push(b'"');
    }
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    if !exact {
        out.push(b'"');
    }
}

/// Writes a key: a string where its bytes are UTF-8, else `{"base64": ".."}`; the parts of a typed one. Bytes that are
/// no packed key of the schema (a table that was filled before it was declared) are written as bytes.
pub fn push_key(out: &mut Vec<u8>, key: &[u8], schema: &KeySchema) {
    if let KeySchema::Parts(parts) = schema
        && let Ok(parts) = tuple::unpack(parts, key)
    {
        let _ = serde_json::to_writer(&mut *out, &tuple::parts_to_json(&parts));
        return;
    }
    match (schema, std::str::from_utf8(key)) {
        (KeySchema::Bytes, Ok(text)) => push_str(out, text),
        _ => {
            let text = base64::display::Base64Display::new(key, &base64::engine::general_purpose::STANDARD);
            let _ = write!(out, "{{\"base64\":\"{text}\"}}");
        }
    }
}

/// Writes a JSON text that is known to be valid without the white space between its tokens, so that it fits on a line.
pub fn push_compact(out: &mut Vec<u8>, json: &[u8]) {
    if !json.iter().any(u8::is_ascii_whitespace) {
        out.extend_from_slice(json);
        return;
    }
    let (mut in_string, mut escaped) = (false, false);
    for &byte in json {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            in_string = byte == b'"';
        }
        out.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(serde_json::Value::from),
            "[ \\\\\"\n\ta-c]{0,8}".prop_map(serde_json::Value::from),
            Just(serde_json::Value::Null),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                proptest::collection::btree_map("[a-c \"\\\\]{0,3}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn compact_text_means_the_same(value in json()) {
            let mut out = Vec::new();
            push_compact(&mut out, serde_json::to_string_pretty(&value).unwrap().as_bytes());
            prop_assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&value).unwrap());
        }

        #[test]
        fn integers_are_written_as_the_type_writes_them(number: i64) {
            let mut out = Vec::new();
            push_i64(&mut out, number);
            prop_assert_eq!(out, serde_json::to_vec(&crate::I64(number)).unwrap());
        }
    }
}
