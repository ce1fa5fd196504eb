//! A decoded document: what all formats become.

use nacre_types::packed::{write_float, write_integer};
use nacre_types::{civil, tuple};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A value. Objects keep the order of their fields.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Doc {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// Days since 1970-01-01.
    Date(i64),
    /// Microseconds since 1970-01-01T00:00:00Z.
    Moment(i64),
    List(Vec<Doc>),
    Object(Vec<(String, Doc)>),
}

impl Doc {
    /// Reads JSON.
    pub(crate) fn json(bytes: &[u8]) -> Result<Self, String> {
        if json_values(bytes) > crate::MAX_VALUES {
            return Err(format!("it has more than {} values", crate::MAX_VALUES));
        }
        serde_json::from_slice(bytes).map_err(|error| {
            // Its own words may quote the message.
            format!("it is no JSON (line {}, column {})", error.line(), error.column())
        })
    }

    /// The value at a path: dotted, or a JSON pointer.
    pub(crate) fn get(&self, path: &str) -> Option<&Self> {
        match path.strip_prefix('/') {
            Some(pointer) => pointer
                .split('/')
                .try_fold(self, |doc, step| doc.step(&step.replace("~1", "/").replace("~0", "~"))),
            // A field whose name has dots is itself before it is a path.
            None => self.step(path).or_else(|| path.split('.').try_fold(self, |doc, step| doc.step(step))),
        }
    }

    fn step(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields.iter().rev().find(|(known, _)| known == name).map(|(_, doc)| doc),
            Self::List(items) => items.get(name.parse::<usize>().ok()?),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Appends it as JSON, as `docs/values.md` fixes it.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Int(number) => write_integer(out, *number),
            Self::Float(number) => {
                write_float(out, *number, format!("{number:?}"), |text| text.parse() == Ok(*number));
            }
            Self::Text(text) => write_text(out, text),
            Self::Bytes(bytes) => write_text(out, &tuple::encode_base64(bytes)),
            Self::Date(days) => {
                let mut text = String::new();
                civil::push_date(&mut text, *days);
                write_text(out, &text);
            }
            Self::Moment(micros) => {
                let mut text = String::new();
                civil::push_timestamp(&mut text, *micros);
                write_text(out, &text);
            }
            Self::List(items) => {
                out.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Self::Object(fields) => {
                write_object(out, fields.iter().map(|(name, value)| (&**name, value)));
            }
        }
    }
}

/// How many values JSON has, nearly: each but the first follows a comma or opens a list or an object.
fn json_values(bytes: &[u8]) -> usize {
    let (mut count, mut in_text, mut escaped) = (1, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => count += 1,
            _ => {}
        }
    }
    count
}

/// Appends a JSON object.
pub(crate) fn write_object<'a>(out: &mut Vec<u8>, fields: impl Iterator<Item = (&'a str, &'a Doc)>) {
    out.push(b'{');
    for (at, (name, value)) in fields.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_text(out, name);
        out.push(b':');
        value.write(out);
    }
    out.push(b'}');
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    // Into memory, and strings have no shape that could be refused.
    drop(serde_json::to_writer(out, text));
}

impl<'de> Deserialize<'de> for Doc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Doc;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Doc, E> {
                Ok(Doc::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Doc, E> {
                Ok(Doc::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Doc, E> {
                Ok(Doc::Int(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Doc, E> {
                Ok(Doc::Int(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Doc, E> {
                Ok(Doc::Float(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Doc, E> {
                Ok(Doc::Text(value.to_owned()))
            }
            fn visit_string<E>(self, value: String) -> Result<Doc, E> {
                Ok(Doc::Text(value))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Doc, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Doc::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Doc, A::Error> {
                let mut object = Vec::new();
                while let Some(field) = fields.next_entry()? {
                    object.push(field);
                }
                Ok(Doc::Object(object))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
