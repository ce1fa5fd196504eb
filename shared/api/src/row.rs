//! Bodies that carry rows. Each request has two types: one that borrows from the body, which the server reads, and one
//! that owns, which clients write and `openapi.json` describes; a test holds them together. Answers are written by hand
//! ([`RowOut`]) and read through the owning types.

use crate::json::{push_i64, push_key};
use crate::key::{JsonKey, KeyIn, key_from_json};
use crate::number::I64;
use crate::value::{ValueShape, from_base64};
use bytes::Bytes;
use nacre_types::object::objects;
use nacre_types::{Error, Key, KeySchema, Result, limits};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use utoipa::ToSchema;

/// A string of a request, borrowed where nothing in it was escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Any)
    }
}

/// One row of a page, of versions, or of an answer to a get in JSON.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Row)]
pub struct RowOut {
    /// Its key; left out among the versions of one key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<JsonKey>,
    /// The value, where it is UTF-8. Exactly one of the three is there, none for `fields=key`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<String>,
    /// The value in standard base64.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value_base64: Option<String>,
    /// The value, which is JSON itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<serde_json::Value>)]
    pub value_json: Option<Box<RawValue>>,
    /// Its version.
    pub version: I64,
    /// When it expires, in microseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<I64>,
}

impl RowOut {
    /// Writes a row.
    ///
    /// # Errors
    /// `Invalid` where the value has not the form that `shape` forces.
    pub fn push(
        out: &mut Vec<u8>,
        key: &[u8],
        schema: &KeySchema,
        value: &[u8],
        shape: &ValueShape,
        version: i64,
        expires_at: Option<i64>,
    ) -> Result<()> {
        out.extend_from_slice(b"{\"key\":");
        push_key(out, key, schema);
        shape.push(out, value)?;
        push_version(out, version, expires_at);
        out.push(b'}');
        Ok(())
    }

    /// The bytes of the value, whichever form it came in.
    pub fn value_bytes(&self) -> Option<Bytes> {
        match (&self.value, &self.value_base64, &self.value_json) {
            (Some(text), _, _) => Some(Bytes::copy_from_slice(text.as_bytes())),
            (_, Some(text), _) => from_base64(text).map(Bytes::from),
            (_, _, Some(json)) => Some(Bytes::copy_from_slice(json.get().as_bytes())),
            _ => None,
        }
    }
}

fn push_version(out: &mut Vec<u8>, version: i64, expires_at: Option<i64>) {
    out.extend_from_slice(b",\"version\":");
    push_i64(out, version);
    if let Some(expires_at) = expires_at {
        out.extend_from_slice(b",\"expires_at\":");
        push_i64(out, expires_at);
    }
}

/// A page of a scan, or the versions of a key.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RowsPage {
    /// The rows, in the order asked for.
    pub rows: Vec<RowOut>,
    /// Gives the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_page_token: Option<String>,
    /// The edition that every page of this scan answers from.
    pub edition: I64,
}

/// `POST .../rows:get`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GetBody {
    /// The key.
    pub key: JsonKey,
}

/// [`GetBody`] as the server reads it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetIn<'a> {
    /// The key.
    #[serde(borrow)]
    pub key: KeyIn<'a>,
}

/// `POST .../rows:batchGet`. In NDJSON one `{"key": ..}` per line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchGetBody {
    /// At most 1,000 keys.
    pub keys: Vec<JsonKey>,
    /// Whether the rest is answered where a key is unavailable; otherwise it fails the call.
    #[serde(default)]
    pub partial: bool,
}

/// [`BatchGetBody`] as the server reads it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchGetIn<'a> {
    /// The keys.
    #[serde(borrow)]
    pub keys: Vec<KeyIn<'a>>,
    /// Whether the rest is answered where a key is unavailable.
    #[serde(default)]
    pub partial: bool,
}

/// What became of a key of a batchGet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadStatus {
    /// The row is here.
    Found,
    /// There is none.
    Absent,
    /// It could not be read now.
    Unavailable,
    /// The answer is full; ask for it again in another batch.
    TooLarge,
    /// Reads of this key are blocked.
    Blocked,
}

impl ReadStatus {
    /// The word in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Absent => "absent",
            Self::Unavailable => "unavailable",
            Self::TooLarge => "too_large",
            Self::Blocked => "blocked",
        }
    }
}

/// One key of an answer to a batchGet.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct GotRow {
    /// The key as this API spells it.
    pub key: JsonKey,
    /// What became of it.
    pub status: ReadStatus,
    /// The value, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<String>,
    /// The value in standard base64.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value_base64: Option<String>,
    /// The value, which is JSON itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<serde_json::Value>)]
    pub value_json: Option<Box<RawValue>>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<I64>,
    /// When it expires, in microseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<I64>,
}

impl GotRow {
    /// Writes a row that was found.
    ///
    /// # Errors
    /// `Invalid` where the value has not the form that `shape` forces.
    pub fn push_found(
        out: &mut Vec<u8>,
        key: &[u8],
        schema: &KeySchema,
        value: &[u8],
        shape: &ValueShape,
        version: i64,
        expires_at: Option<i64>,
    ) -> Result<()> {
        Self::push_head(out, key, schema, ReadStatus::Found);
        shape.push(out, value)?;
        push_version(out, version, expires_at);
        out.push(b'}');
        Ok(())
    }

    /// Writes a key without a row.
    pub fn push_status(out: &mut Vec<u8>, key: &[u8], schema: &KeySchema, status: ReadStatus) {
        Self::push_head(out, key, schema, status);
        out.push(b'}');
    }

    fn push_head(out: &mut Vec<u8>, key: &[u8], schema: &KeySchema, status: ReadStatus) {
        out.extend_from_slice(b"{\"key\":");
        push_key(out, key, schema);
        out.extend_from_slice(b",\"status\":\"");
        out.extend_from_slice(status.name().as_bytes());
        out.push(b'"');
    }
}

/// The answer to a batchGet: order and length as asked.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BatchGetAnswer {
    /// One per key.
    pub rows: Vec<GotRow>,
    /// The edition that all of them answer from.
    pub edition: I64,
}

/// `POST /v1/namespaces/{ns}:batchGet`: keys of several tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamespaceBatchGetBody {
    /// At most 1,000.
    pub gets: Vec<NamespaceGet>,
    /// Whether the rest is answered where a key is unavailable.
    #[serde(default)]
    pub partial: bool,
}

/// One key of a namespace's batchGet. With any of `since`, `until` and `limit` it asks for versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamespaceGet {
    /// The table.
    pub table: String,
    /// The key.
    pub key: JsonKey,
    /// Smallest version, inclusive.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<I64>,
    /// Largest version, inclusive.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<I64>,
    /// Most versions.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<u64>)]
    pub limit: Option<u32>,
}

/// [`NamespaceBatchGetBody`] as the server reads it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceBatchGetIn<'a> {
    /// The keys.
    #[serde(borrow, deserialize_with = "objects")]
    pub gets: Vec<NamespaceGetIn<'a>>,
    /// Whether the rest is answered where a key is unavailable.
    #[serde(default)]
    pub partial: bool,
}

/// [`NamespaceGet`] as the server reads it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceGetIn<'a> {
    /// The table.
    #[serde(borrow)]
    pub table: Text<'a>,
    /// The key.
    #[serde(borrow)]
    pub key: KeyIn<'a>,
    /// Smallest version.
    #[serde(default)]
    pub since: Option<I64>,
    /// Largest version.
    #[serde(default)]
    pub until: Option<I64>,
    /// Most versions.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// One answer of a namespace's batchGet: a row, or its versions.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum NamespaceGot {
    /// The versions of a key, newest first.
    Versions {
        /// The rows.
        versions: Vec<RowOut>,
    },
    /// A row.
    Row(GotRow),
}

/// The answer to a namespace's batchGet.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct NamespaceBatchGetAnswer {
    /// One per key asked for, in that order.
    pub rows: Vec<NamespaceGot>,
    /// The edition of each table that answered.
    pub editions: BTreeMap<String, I64>,
}

/// `POST .../rows:batchWrite`. In NDJSON one row per line. The same key twice: the later one wins.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchWriteBody {
    /// At most 10,000 rows and 8 MiB.
    pub rows: Vec<BatchWriteRow>,
}

/// One row to write: a key and exactly one of `value`, `value_base64`, `value_json` and `delete`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchWriteRow {
    /// The key.
    pub key: JsonKey,
    /// The value as text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<String>,
    /// The value in base64.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value_base64: Option<String>,
    /// The value as JSON; it is stored as it stands here.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<serde_json::Value>)]
    pub value_json: Option<Box<RawValue>>,
    /// `true` writes a tombstone.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub delete: bool,
    /// The version; without one the log gives it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<I64>,
    /// When it expires, in microseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<I64>,
}

/// [`BatchWriteBody`] as the server reads it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchWriteIn<'a> {
    /// The rows.
    #[serde(borrow, deserialize_with = "objects")]
    pub rows: Vec<RowIn<'a>>,
}

/// [`BatchWriteRow`] as the server reads it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowIn<'a> {
    #[serde(borrow)]
    key: KeyIn<'a>,
    #[serde(borrow, default)]
    value: Option<Text<'a>>,
    #[serde(borrow, default)]
    value_base64: Option<Text<'a>>,
    #[serde(borrow, default)]
    value_json: Option<&'a RawValue>,
    #[serde(default)]
    delete: bool,
    #[serde(default)]
    version: Option<I64>,
    #[serde(default)]
    expires_at: Option<I64>,
}

/// A row to write, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteIn {
    /// The key.
    pub key: Key,
    /// `None` = a tombstone.
    pub value: Option<Bytes>,
    /// `None` = the log gives one.
    pub version: Option<i64>,
    /// The row's own expiry.
    pub expires_at: Option<i64>,
}

impl RowIn<'_> {
    /// Checks the row and takes it out of the body.
    ///
    /// # Errors
    /// `Invalid`: a wrong key, not exactly one value, a value that is too long or no base64.
    pub fn check(self, schema: &KeySchema) -> Result<WriteIn> {
        let key = key_from_json(&self.key, schema)?;
        let forms =
            [self.value.is_some(), self.value_base64.is_some(), self.value_json.is_some(), self.delete];
        if forms.iter().filter(|&&given| given).count() != 1 {
            return Err(Error::invalid(
                "a row has exactly one of value, value_base64, value_json and \"delete\": true",
            )
            .with_code("row-value"));
        }
        let value: Option<Bytes> = match (self.value, self.value_base64, self.value_json) {
            (Some(Text(text)), _, _) => Some(Bytes::from(text.into_owned())),
            (_, Some(Text(text)), _) => Some(
                from_base64(&text)
                    .ok_or_else(|| Error::invalid("value_base64 is not base64").with_code("row-value"))?
                    .into(),
            ),
            (_, _, Some(json)) => Some(Bytes::copy_from_slice(json.get().as_bytes())),
            _ => None,
        };
        check_value(value.as_deref())?;
        Ok(WriteIn {
            key,
            value,
            version: self.version.map(|number| number.0),
            expires_at: self.expires_at.map(|number| number.0),
        })
    }
}

/// Checks the length of a value.
///
/// # Errors
/// `Invalid` (`value-too-large`) naming the limit.
pub fn check_value(value: Option<&[u8]>) -> Result<()> {
    match value {
        Some(value) if value.len() > limits::VALUE_BYTES => Err(Error::invalid(format!(
            "the value has {} bytes; the limit value_bytes is {}",
            value.len(),
            limits::VALUE_BYTES
        ))
        .with_code("value-too-large")),
        _ => Ok(()),
    }
}

/// What became of a row of a batchWrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WriteStatus {
    /// Durable.
    Ok,
    /// Wrong; not applied.
    Invalid,
    /// A quota was hit; not applied.
    Throttled,
    /// The server sheds load; not applied.
    Overloaded,
    /// A part that is needed does not answer; not applied.
    Unavailable,
    /// It may have been applied, or may yet be.
    Unknown,
}

impl WriteStatus {
    /// The word in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Invalid => "invalid",
            Self::Throttled => "throttled",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
        }
    }

    /// What an error of a row is told as.
    pub fn of(error: &Error) -> Self {
        use nacre_types::ErrorKind;
        match error.kind() {
            ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Conflict => Self::Invalid,
            ErrorKind::Unauthorized | ErrorKind::Forbidden => Self::Invalid,
            ErrorKind::Throttled => Self::Throttled,
            ErrorKind::Overloaded => Self::Overloaded,
            ErrorKind::Unavailable => Self::Unavailable,
            // A bug or damage says nothing about what the log holds.
            ErrorKind::Unknown | ErrorKind::Corrupt | ErrorKind::Internal => Self::Unknown,
        }
    }
}

/// One row of an answer to a batchWrite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WrittenRow {
    /// What became of it.
    pub status: WriteStatus,
    /// Its own version, or the one that the log gave, if whoever answers knows it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<I64>,
    /// What is wrong: code and detail.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

impl WrittenRow {
    /// A durable row.
    pub fn push_ok(out: &mut Vec<u8>, version: Option<i64>) {
        out.extend_from_slice(b"{\"status\":\"ok\"");
        if let Some(version) = version {
            push_version(out, version, None);
        }
        out.push(b'}');
    }

    /// A row that failed.
    pub fn push_error(out: &mut Vec<u8>, error: &Error) {
        out.extend_from_slice(b"{\"status\":\"");
        out.extend_from_slice(WriteStatus::of(error).name().as_bytes());
        out.extend_from_slice(b"\",\"error\":");
        crate::json::push_str(out, &error.to_string());
        out.push(b'}');
    }
}

/// The answer to a batchWrite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BatchWriteAnswer {
    /// One per row, in the order given.
    pub rows: Vec<WrittenRow>,
    /// Reaches every row that is durable; also in the header `nacre-token`.
    pub token: String,
}

#[cfg(test)]
#[path = "row/tests.rs"]
mod tests;
