//! Fields of a document as key, version, value, expiry and deletion.

use bytes::Bytes;
use nacre_types::{Key, KeyPart, KeyPartType, KeySchema, civil, limits, tuple};
use serde_json::Value;

use crate::declaration::{Mapping, MessagePart, Unit, ValueSpec};
use crate::doc::{self, Doc};
use crate::{EPOCH_BITS, Fault, ID_BITS, Message, SourceRow, fault};

/// What a format found in a message.
pub(crate) struct Row<'a> {
    pub(crate) doc: &'a Doc,
    pub(crate) envelope: &'a Doc,
    pub(crate) is_delete: bool,
    /// The message's bytes, where they are the document as it is.
    pub(crate) raw: Option<&'a Bytes>,
}

fn find<'a>(doc: &'a Doc, envelope: &'a Doc, field: &str) -> Option<&'a Doc> {
    match field.strip_prefix('@') {
        Some(field) => envelope.get(field),
        None => doc.get(field),
    }
}

/// The row of a document.
pub(crate) fn row(
    mapping: &Mapping,
    schema: &KeySchema,
    message: &Message,
    row: &Row<'_>,
) -> Result<SourceRow, Fault> {
    let key = key(mapping, schema, row.doc, row.envelope)?;
    let version = version(mapping, message, row)?;
    if row.is_delete || is_deleted(mapping, row)? {
        return Ok(SourceRow { key, version, expires_at: None, value: None });
    }
    let value = value(mapping, row)?;
    if value.len() > limits::VALUE_BYTES {
        return fault(format!("its value has {} bytes; the limit is {}", value.len(), limits::VALUE_BYTES));
    }
    let expires_at = match (&mapping.expires_at, mapping.ttl_seconds) {
        (Some(expires), _) => match find(row.doc, row.envelope, &expires.field) {
            None | Some(Doc::Null) => None,
            Some(doc) => Some(moment(doc, expires.unit, &expires.field)?),
        },
        (None, Some(ttl)) => {
            let ttl = i64::try_from(ttl).unwrap_or(i64::MAX).saturating_mul(1_000_000);
            Some(version.saturating_add(ttl))
        }
        (None, None) => None,
    };
    Ok(SourceRow { key, version, expires_at, value: Some(value) })
}

/// The key of a document.
pub(crate) fn key(mapping: &Mapping, schema: &KeySchema, doc: &Doc, envelope: &Doc) -> Result<Bytes, Fault> {
    let field = |field: &String| match find(doc, envelope, field) {
        None | Some(Doc::Null) => fault(format!("its key field {field} is missing or null")),
        Some(doc) => Ok(doc),
    };
    match schema {
        KeySchema::Bytes => {
            let Some(name) = mapping.key.first() else { return fault("the mapping names no key") };
            let bytes = match field(name)? {
                Doc::Text(text) => Bytes::from(text.clone().into_bytes()),
                Doc::Bytes(bytes) => Bytes::from(bytes.clone()),
                Doc::Int(number) => Bytes::from(number.to_string().into_bytes()),
                _ => return fault(format!("its key field {name} is neither text, bytes nor an integer")),
            };
            Key::check(&bytes).map_err(|error| Fault(error.detail().to_owned()))?;
            Ok(bytes)
        }
        KeySchema::Parts(parts) => {
            let mut packed = Vec::with_capacity(parts.len());
            for (part, name) in parts.iter().zip(&mapping.key) {
                packed.push(key_part(part, field(name)?, name)?);
            }
            tuple::pack_key(parts, &packed)
                .map(Key::into_bytes)
                .map_err(|error| Fault(error.detail().to_owned()))
        }
    }
}

fn key_part(part: &KeyPart, doc: &Doc, name: &str) -> Result<tuple::Part, Fault> {
    let wrong = || Fault(format!("its key field {name} is no {}", tuple::kind_name(part.kind)));
    let from_json = |value: Value| tuple::part_from_json(part, &value).map_err(|_| wrong());
    match (part.kind, doc) {
        (KeyPartType::Bytes, Doc::Bytes(bytes)) => Ok(tuple::Part::Bytes(bytes.clone().into())),
        (KeyPartType::Uuid, Doc::Bytes(bytes)) => {
            <[u8; 16]>::try_from(&bytes[..]).map(tuple::Part::Uuid).map_err(|_| wrong())
        }
        (KeyPartType::Date, Doc::Date(days)) => {
            i32::try_from(*days).map(tuple::Part::Date).map_err(|_| wrong())
        }
        (KeyPartType::Timestamp, Doc::Moment(micros)) => Ok(tuple::Part::Timestamp(*micros)),
        (KeyPartType::Int64 | KeyPartType::Timestamp, Doc::Int(number)) => {
            from_json(Value::from(i64::try_from(*number).map_err(|_| wrong())?))
        }
        (KeyPartType::String, Doc::Int(number)) => Ok(tuple::Part::String(number.to_string())),
        (_, Doc::Text(text)) => from_json(Value::String(text.clone())),
        _ => Err(wrong()),
    }
}

/// The key of a message without a value, as the document that its fields are looked up in.
pub(crate) fn key_as_document(mapping: &Mapping, message: &Message) -> Result<Doc, Fault> {
    let Some(bytes) = &message.key else { return fault("it has neither key nor value") };
    if let Ok(doc @ Doc::Object(_)) = Doc::json(bytes) {
        return Ok(crate::debezium::unwrapped(doc));
    }
    match &mapping.key[..] {
        [name] => {
            let part = match std::str::from_utf8(bytes) {
                Ok(text) => Doc::Text(text.to_owned()),
                Err(_) => Doc::Bytes(bytes.to_vec()),
            };
            // A field whose name looks like a path is found by its whole name first.
            Ok(Doc::Object(vec![(name.trim_start_matches(['@', '/']).to_owned(), part)]))
        }
        _ => fault("it has no value, and its key is no JSON object with the fields of the key"),
    }
}

fn integer(doc: &Doc) -> Option<i64> {
    match doc {
        Doc::Int(number) => i64::try_from(*number).ok(),
        Doc::Text(text) => text.parse().ok(),
        _ => None,
    }
}

/// A moment in microseconds, or a number.
fn moment(doc: &Doc, unit: Unit, field: &str) -> Result<i64, Fault> {
    let wrong = || Fault(format!("its field {field} is neither an integer nor a moment (RFC 3339)"));
    match doc {
        Doc::Moment(micros) => return Ok(*micros),
        Doc::Date(days) => return days.checked_mul(86_400_000_000).ok_or_else(wrong),
        Doc::Text(text) if unit != Unit::Number => {
            if let Some(micros) = civil::parse_timestamp(text) {
                return Ok(micros);
            }
        }
        _ => {}
    }
    let number = integer(doc).ok_or_else(wrong)?;
    let by = match unit {
        Unit::Micros | Unit::Number => 1,
        Unit::Millis => 1_000,
        Unit::Seconds => 1_000_000,
    };
    number.checked_mul(by).ok_or_else(|| Fault(format!("its field {field} is too large for its unit")))
}

fn version(mapping: &Mapping, message: &Message, row: &Row<'_>) -> Result<i64, Fault> {
    let spec = &mapping.version;
    let find = |field: &str| match find(row.doc, row.envelope, field) {
        None | Some(Doc::Null) => fault(format!("its version field {field} is missing or null")),
        Some(doc) => Ok(doc),
    };
    if let (Some(epoch), Some(id)) = (&spec.epoch, &spec.id) {
        let number = |field: &str, bits: u32| {
            let number =
                integer(find(field)?).ok_or_else(|| Fault(format!("its field {field} is no integer")))?;
            if number < 0 || number >> bits != 0 {
                return fault(format!("its field {field} is not from 0 to 2^{bits} - 1"));
            }
            Ok(number)
        };
        return Ok(number(epoch, EPOCH_BITS)? << ID_BITS | number(id, ID_BITS)?);
    }
    if let (Some(field), Some(unit)) = (&spec.field, spec.unit) {
        return moment(find(field)?, unit, field);
    }
    match spec.message {
        Some(MessagePart::Offset) => {
            i64::try_from(message.offset).map_err(|_| Fault("its offset is no version".to_owned()))
        }
        Some(MessagePart::Timestamp) => {
            message.timestamp_micros.map_or_else(|| fault("it has no timestamp"), Ok)
        }
        None => fault("the mapping says no version"),
    }
}

fn is_deleted(mapping: &Mapping, row: &Row<'_>) -> Result<bool, Fault> {
    let Some(rule) = &mapping.delete else { return Ok(false) };
    if let Some(field) = &rule.null {
        return Ok(find(row.doc, row.envelope, field).is_none_or(Doc::is_null));
    }
    let Some(field) = &rule.field else { return Ok(false) };
    let found = find(row.doc, row.envelope, field);
    Ok(match (&rule.equals, found) {
        (_, None | Some(Doc::Null)) => false,
        (None, Some(Doc::Bool(is))) => *is,
        (None, Some(_)) => {
            return fault(format!("its field {field} is no boolean; say mapping.delete.equals"));
        }
        (Some(Value::Bool(wanted)), Some(Doc::Bool(is))) => wanted == is,
        (Some(Value::String(wanted)), Some(Doc::Text(is))) => wanted == is,
        (Some(Value::Number(wanted)), Some(Doc::Int(is))) => {
            wanted.as_i64().is_some_and(|wanted| i128::from(wanted) == *is)
        }
        _ => false,
    })
}

fn value(mapping: &Mapping, row: &Row<'_>) -> Result<Bytes, Fault> {
    let mut out = Vec::new();
    match &mapping.value {
        ValueSpec::Document => match row.raw {
            Some(raw) => return Ok(raw.clone()),
            None => row.doc.write(&mut out),
        },
        ValueSpec::Field(field) => match find(row.doc, row.envelope, field) {
            None | Some(Doc::Null) => {
                return fault(format!(
                    "its value field {field} is missing or null; if that deletes say mapping.delete {{\"null\": \"{field}\"}}"
                ));
            }
            Some(Doc::Text(text)) => out.extend_from_slice(text.as_bytes()),
            Some(Doc::Bytes(bytes)) => out.extend_from_slice(bytes),
            Some(doc) => doc.write(&mut out),
        },
        ValueSpec::Pack(fields) => {
            let named = fields.iter().map(|field| {
                (field.trim_start_matches('@'), find(row.doc, row.envelope, field).unwrap_or(&Doc::Null))
            });
            doc::write_object(&mut out, named);
        }
    }
    Ok(out.into())
}
