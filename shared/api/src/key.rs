//! Keys in their spellings: percent-encoded or base64url in a path or query; a string, `{"base64": ".."}` or an array
//! of parts in JSON.

use base64::Engine as _;
use bytes::Bytes;
use nacre_types::{Error, Key, KeyPart, KeyRange, KeySchema, Result, tuple};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use utoipa::ToSchema;

use crate::query::percent_decode;

/// How a key stands in a path or query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyEncoding {
    /// Percent-encoded: its bytes; for typed keys a JSON array, or with one part its text.
    #[default]
    Text,
    /// `key_encoding=base64url`: the raw bytes of either.
    Base64Url,
}

impl KeyEncoding {
    /// The value of `key_encoding`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "base64url" => Some(Self::Base64Url),
            _ => None,
        }
    }
}

/// The key of a path segment. Allocates only where something had to be decoded.
///
/// # Errors
/// `Invalid`: `percent-encoding`, `key-encoding`, `key-parts`, `key-empty`, `key-too-long`.
pub fn key_from_text<'a>(raw: &'a str, encoding: KeyEncoding, schema: &KeySchema) -> Result<Cow<'a, [u8]>> {
    key_from_bytes(percent_decode(raw, false)?, encoding, schema)
}

/// The key of decoded text, as a query parameter gives it.
///
/// # Errors
/// As [`key_from_text`].
pub fn key_from_bytes<'a>(
    text: Cow<'a, [u8]>,
    encoding: KeyEncoding,
    schema: &KeySchema,
) -> Result<Cow<'a, [u8]>> {
    let key = match (encoding, schema) {
        (KeyEncoding::Text, KeySchema::Bytes) => text,
        (KeyEncoding::Text, KeySchema::Parts(parts)) => {
            return Ok(Cow::Owned(
                tuple::pack_key(parts, &parts_from_text(parts, &text)?)?.into_bytes().into(),
            ));
        }
        (KeyEncoding::Base64Url, KeySchema::Bytes) => Cow::Owned(from_base64url(&text)?),
        (KeyEncoding::Base64Url, KeySchema::Parts(parts)) => {
            let raw = from_base64url(&text)?;
            tuple::unpack(parts, &raw)?;
            Cow::Owned(raw)
        }
    };
    Key::check(&key)?;
    Ok(key)
}

/// The keys that begin with a `prefix` parameter: bytes, or leading parts.
///
/// # Errors
/// As [`key_from_text`].
pub fn prefix_from_text(text: &[u8], encoding: KeyEncoding, schema: &KeySchema) -> Result<KeyRange> {
    let prefix = match (encoding, schema) {
        (KeyEncoding::Text, KeySchema::Parts(parts)) => {
            return tuple::prefix(parts, &parts_from_text(parts, text)?);
        }
        (KeyEncoding::Text, KeySchema::Bytes) => Cow::Borrowed(text),
        (KeyEncoding::Base64Url, _) => Cow::Owned(from_base64url(text)?),
    };
    check_bound(&prefix)?;
    Ok(KeyRange::prefix(&prefix))
}

/// A `start` or `end` parameter: bytes, or leading parts, which stand before every key that they lead.
///
/// # Errors
/// As [`key_from_text`].
pub fn bound_from_text(text: &[u8], encoding: KeyEncoding, schema: &KeySchema) -> Result<Bytes> {
    let bound = match (encoding, schema) {
        (KeyEncoding::Text, KeySchema::Parts(parts)) => tuple::pack(&parts_from_text(parts, text)?),
        (KeyEncoding::Text, KeySchema::Bytes) => text.to_vec(),
        (KeyEncoding::Base64Url, _) => from_base64url(text)?,
    };
    check_bound(&bound)?;
    Ok(bound.into())
}

/// A bound may be empty, and no longer than a key.
fn check_bound(bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() { Ok(()) } else { Key::check(bytes) }
}

/// A JSON array of parts; or, where it does not begin with `[`, the text of the first part.
fn parts_from_text(schema: &[KeyPart], text: &[u8]) -> Result<Vec<tuple::Part>> {
    let shown = || {
        Error::invalid(
            "the typed key is neither a JSON array of its parts, such as [42,\"a\"], nor the text of its only part",
        )
        .with_code("key-parts")
    };
    if text.first() == Some(&b'[') {
        let value: Value = serde_json::from_slice(text).map_err(|_| shown())?;
        return tuple::parts_from_json(schema, &value);
    }
    let (Some(first), false) = (schema.first(), text.is_empty()) else { return Ok(Vec::new()) };
    if first.kind == nacre_types::KeyPartType::Bytes {
        return Ok(vec![tuple::Part::Bytes(Bytes::copy_from_slice(text))]);
    }
    let text = std::str::from_utf8(text).map_err(|_| shown())?;
    Ok(vec![tuple::part_from_text(first, text)?])
}

fn from_base64url(text: &[u8]) -> Result<Vec<u8>> {
    // Producers disagree about padding; the alphabet is what tells the two base64s apart.
    let trimmed = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(trimmed).map_err(|_| {
        Error::invalid("key_encoding=base64url, but the key is not base64url (A-Z a-z 0-9 - _)")
            .with_code("key-encoding")
    })
}

/// A key as it stands in a JSON request: borrowed from the body where nothing was escaped.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyIn<'a> {
    /// A string.
    Text(Cow<'a, str>),
    /// `{"base64": ".."}`.
    Base64(Cow<'a, str>),
    /// `[42, "a"]`.
    Parts(Vec<Value>),
}

impl<'de: 'a, 'a> Deserialize<'de> for KeyIn<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = KeyIn<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key: a string, {\"base64\": \"..\"} or an array of parts")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<KeyIn<'de>, E> {
                Ok(KeyIn::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<KeyIn<'de>, E> {
                Ok(KeyIn::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<KeyIn<'de>, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = items.next_element()? {
                    parts.push(part);
                }
                Ok(KeyIn::Parts(parts))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<KeyIn<'de>, A::Error> {
                use serde::de::Error as _;
                let wrong = || A::Error::custom("a key that is an object has exactly one field, \"base64\"");
                let name: Option<crate::row::Text<'de>> = fields.next_key()?;
                if name.is_none_or(|name| name.0 != "base64") {
                    return Err(wrong());
                }
                let text: crate::row::Text<'de> = fields.next_value()?;
                if fields.next_key::<serde::de::IgnoredAny>()?.is_some() {
                    return Err(wrong());
                }
                Ok(KeyIn::Base64(text.0))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// The key that a JSON form means under a table's schema. A string is the bytes of a `bytes` key, or the only part of
/// a typed one.
///
/// # Errors
/// `Invalid`: `key-encoding`, `key-parts`, `key-empty`, `key-too-long`.
pub fn key_from_json(key: &KeyIn<'_>, schema: &KeySchema) -> Result<Key> {
    match (schema, key) {
        (KeySchema::Bytes, KeyIn::Text(text)) => Key::new(Bytes::copy_from_slice(text.as_bytes())),
        (KeySchema::Bytes, KeyIn::Parts(_)) => Err(Error::invalid(
            "the key is an array, but this table's keys are plain bytes: a string or {\"base64\": \"..\"}",
        )
        .with_code("key-parts")),
        (KeySchema::Parts(schema), KeyIn::Parts(parts)) => {
            // Wrapped rather than copied: the array is the parser's own.
            let parts = tuple::parts_from_json(schema, &Value::Array(parts.clone()))?;
            tuple::pack_key(schema, &parts)
        }
        (KeySchema::Parts(schema), KeyIn::Text(text)) => {
            let parts = match schema.as_slice() {
                [only] => vec![tuple::part_from_text(only, text)?],
                _ => tuple::parts_from_json(schema, &Value::String(text.to_string()))?,
            };
            tuple::pack_key(schema, &parts)
        }
        (_, KeyIn::Base64(text)) => {
            let bytes = crate::value::from_base64(text).ok_or_else(|| {
                Error::invalid("the key's \"base64\" is not base64").with_code("key-encoding")
            })?;
            if let KeySchema::Parts(schema) = schema {
                tuple::unpack(schema, &bytes)?;
            }
            Key::new(bytes)
        }
    }
}

/// A key as a client holds it: what requests send and answers give.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum JsonKey {
    /// UTF-8 bytes.
    Text(String),
    /// Any bytes.
    Base64 {
        /// Standard base64.
        base64: String,
    },
    /// The parts of a typed key.
    #[schema(value_type = Vec<Value>)]
    Parts(Vec<Value>),
}

impl JsonKey {
    /// The shortest form of plain bytes.
    pub fn from_bytes(key: &[u8]) -> Self {
        match std::str::from_utf8(key) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64 { base64: base64::engine::general_purpose::STANDARD.encode(key) },
        }
    }

    /// The bytes of a key that is no typed one; `None` for parts and for damaged base64.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Text(text) => Some(text.clone().into_bytes()),
            Self::Base64 { base64 } => crate::value::from_base64(base64),
            Self::Parts(_) => None,
        }
    }
}

#[cfg(test)]
#[path = "key/tests.rs"]
mod tests;
