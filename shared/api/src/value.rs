//! Values in their spellings: UTF-8, base64 or JSON; and projections of JSON values.

use base64::Engine as _;
use nacre_types::{Error, Result};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

use crate::json::{push_compact, push_str};

/// How the values of an answer are spelt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ValueEncoding {
    /// `value` where a value is UTF-8, else `value_base64`.
    #[default]
    Auto,
    /// `value`; one that is not UTF-8 is an error.
    Utf8,
    /// `value_base64`.
    Base64,
    /// `value_json`; one that is not JSON is an error.
    Json,
}

impl ValueEncoding {
    /// The value of `value_encoding`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            "utf8" => Some(Self::Utf8),
            "base64" => Some(Self::Base64),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// `fields=a,b`: which fields of a JSON object are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Projection(Vec<String>);

/// Most fields of a projection.
const FIELDS: usize = 64;

impl Projection {
    /// Reads a comma-separated list.
    ///
    /// # Errors
    /// `Invalid` (`fields-invalid`): empty names, more than 64.
    pub fn parse(text: &str) -> Result<Self> {
        let names: Vec<String> = text.split(',').take(FIELDS + 1).map(str::to_owned).collect();
        if names.len() > FIELDS || names.iter().any(String::is_empty) {
            return Err(Error::invalid(
                "fields: expected 1 to 64 names of top-level fields, separated by commas",
            )
            .with_code("fields-invalid"));
        }
        Ok(Self(names))
    }

    /// The list as it was given.
    pub fn to_text(&self) -> String {
        self.0.join(",")
    }

    /// Writes the named fields of `value`, in the order asked for; those it lacks are left out.
    ///
    /// # Errors
    /// `Invalid` (`value-not-json`) where `value` is no JSON object.
    pub fn push(&self, out: &mut Vec<u8>, value: &[u8]) -> Result<()> {
        let Picked(found) = serde_json::from_slice(value).map_err(|_| {
            Error::invalid(
                "fields: the value is not a JSON object, so it has no fields; read it without `fields`",
            )
            .with_code("value-not-json")
        })?;
        out.push(b'{');
        let mut first = true;
        for name in &self.0 {
            // The last of a repeated name counts, as in every JSON parser.
            let Some((_, raw)) = found.iter().rev().find(|(other, _)| other == name) else { continue };
            if !first {
                out.push(b',');
            }
            first = false;
            push_str(out, name);
            out.push(b':');
            push_compact(out, raw.get().as_bytes());
        }
        out.push(b'}');
        Ok(())
    }
}

/// The fields of a JSON object, unparsed.
struct Picked<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Picked<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Picked<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Picked<'de>, A::Error> {
                let mut found = Vec::new();
                while let Some(crate::row::Text(name)) = fields.next_key()? {
                    found.push((name, fields.next_value()?));
                }
                Ok(Picked(found))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// What of a value an answer carries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ValueShape {
    /// How it is spelt.
    pub encoding: ValueEncoding,
    /// Which fields.
    pub projection: Option<Projection>,
    /// Nothing of it: `fields=key`.
    pub keys_only: bool,
}

impl ValueShape {
    /// From `value_encoding` and `fields`. `key_is_field`: whether `fields=key` alone means that no value is wanted (a
    /// scan) instead of a field called key.
    ///
    /// # Errors
    /// `Invalid` (`fields-invalid`) for fields of values that are not to be JSON.
    pub fn new(encoding: Option<ValueEncoding>, fields: Option<&str>, key_is_field: bool) -> Result<Self> {
        let keys_only = key_is_field && fields == Some("key");
        let projection = if keys_only { None } else { fields.map(Projection::parse).transpose()? };
        if projection.is_some() && !matches!(encoding, None | Some(ValueEncoding::Auto | ValueEncoding::Json))
        {
            return Err(Error::invalid(
                "fields picks from JSON values; it goes with value_encoding=json or none",
            )
            .with_code("fields-invalid"));
        }
        Ok(Self { encoding: encoding.unwrap_or_default(), projection, keys_only })
    }

    /// Writes `,"value":"..."` (or its sibling), or nothing where only keys are wanted.
    ///
    /// # Errors
    /// `Invalid` (`value-not-utf8`, `value-not-json`) where the value has not the form that was forced.
    pub fn push(&self, out: &mut Vec<u8>, value: &[u8]) -> Result<()> {
        if self.keys_only {
            return Ok(());
        }
        if let Some(projection) = &self.projection {
            out.extend_from_slice(b",\"value_json\":");
            return projection.push(out, value);
        }
        match (self.encoding, std::str::from_utf8(value)) {
            (ValueEncoding::Auto | ValueEncoding::Utf8, Ok(text)) => {
                out.extend_from_slice(b",\"value\":");
                push_str(out, text);
            }
            (ValueEncoding::Auto | ValueEncoding::Base64, _) => {
                out.extend_from_slice(b",\"value_base64\":\"");
                push_base64(out, value);
                out.push(b'"');
            }
            (ValueEncoding::Utf8, Err(_)) => {
                return Err(Error::invalid(
                    "value_encoding=utf8, but the value is not UTF-8; leave it out or ask for base64",
                )
                .with_code("value-not-utf8"));
            }
            (ValueEncoding::Json, _) => {
                let raw: &RawValue = serde_json::from_slice(value).map_err(|_| {
                    Error::invalid(
                        "value_encoding=json, but the value is not JSON; leave it out or ask for base64",
                    )
                    .with_code("value-not-json")
                })?;
                out.extend_from_slice(b",\"value_json\":");
                push_compact(out, raw.get().as_bytes());
            }
        }
        Ok(())
    }
}

fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let at = out.len();
    out.resize(at + bytes.len().div_ceil(3) * 4, 0);
    // The buffer is exactly as long as the text, so this cannot fail.
    let room = out.get_mut(at..).unwrap_or_default();
    let _ = base64::engine::general_purpose::STANDARD.encode_slice(bytes, room);
}

/// Standard or URL-safe base64, padded or not.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    use base64::alphabet;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    if text.contains(['-', '_']) { URL_SAFE.decode(text).ok() } else { STANDARD.decode(text).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spelt(shape: &ValueShape, value: &[u8]) -> Result<String> {
        let mut out = Vec::new();
        shape.push(&mut out, value)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn forced(encoding: ValueEncoding) -> ValueShape {
        ValueShape { encoding, ..ValueShape::default() }
    }

    #[test]
    fn a_value_is_text_where_it_can_be_and_base64_elsewhere() {
        let auto = ValueShape::default();
        assert_eq!(spelt(&auto, "a\"é".as_bytes()).unwrap(), ",\"value\":\"a\\\"é\"");
        assert_eq!(spelt(&auto, b"\xFF").unwrap(), ",\"value_base64\":\"/w==\"");
        assert_eq!(spelt(&forced(ValueEncoding::Base64), b"a").unwrap(), ",\"value_base64\":\"YQ==\"");
        assert_eq!(
            spelt(&forced(ValueEncoding::Json), b" {\"a\": [1,\n \"b c\"]} ").unwrap(),
            ",\"value_json\":{\"a\":[1,\"b c\"]}"
        );
        assert_eq!(spelt(&forced(ValueEncoding::Json), b"a").unwrap_err().code(), "value-not-json");
        assert_eq!(spelt(&forced(ValueEncoding::Utf8), b"\xFF").unwrap_err().code(), "value-not-utf8");
    }

    #[test]
    fn fields_pick_from_json_objects_in_the_order_asked_for() {
        let shape = ValueShape::new(None, Some("b,a,absent"), true).unwrap();
        assert_eq!(
            spelt(&shape, b"{\"a\": 1, \"c\": 2, \"b\": {\"x\" : null}}").unwrap(),
            ",\"value_json\":{\"b\":{\"x\":null},\"a\":1}"
        );
        assert_eq!(spelt(&shape, b"[]").unwrap_err().code(), "value-not-json");
        assert_eq!(spelt(&shape, b"\xFF").unwrap_err().code(), "value-not-json");
        assert!(ValueShape::new(None, Some("key"), true).unwrap().keys_only);
        assert!(!ValueShape::new(None, Some("key"), false).unwrap().keys_only);
        assert!(ValueShape::new(Some(ValueEncoding::Base64), Some("a"), true).is_err());
        assert!(ValueShape::new(None, Some("a,,b"), true).is_err());
        assert!(ValueShape::new(None, Some(&"a,".repeat(70)), true).is_err());
    }

    proptest! {
        #[test]
        fn base64_is_read_back(value: Vec<u8>) {
            let text = spelt(&forced(ValueEncoding::Base64), &value).unwrap();
            let inner = text.strip_prefix(",\"value_base64\":\"").unwrap().strip_suffix('"').unwrap();
            prop_assert_eq!(from_base64(inner).unwrap(), value.clone());
            prop_assert_eq!(from_base64(&inner.replace('+', "-").replace('/', "_").replace('=', "")).unwrap(), value);
        }
    }
}
