//! Bodies about namespaces and tables.

use nacre_types::{Consistency, Error, KeyPart, KeySchema, Result, TableSettings, VersionKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

use crate::key::JsonKey;
use crate::number::{I64, counts};

/// The consistency of reads that say none.
#[derive(ToSchema)]
#[schema(as = Consistency, rename_all = "lowercase")]
#[allow(dead_code)]
enum ConsistencyWord {
    Eventual,
    Session,
    Strong,
}

/// What versions are.
#[derive(ToSchema)]
#[schema(as = VersionKind, rename_all = "lowercase")]
#[allow(dead_code)]
enum VersionKindWord {
    Time,
    Number,
}

/// `"bytes"`, or the typed parts of a key.
#[derive(ToSchema)]
#[schema(as = KeySchema)]
#[serde(untagged)]
#[allow(dead_code)]
enum KeySchemaForm {
    Word(BytesWord),
    Parts(Vec<KeyPartForm>),
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code)]
enum BytesWord {
    Bytes,
}

/// One part of a typed key.
#[derive(ToSchema)]
#[schema(as = KeyPart)]
#[allow(dead_code)]
struct KeyPartForm {
    /// Its name.
    name: String,
    /// Its type.
    #[schema(rename = "type")]
    kind: KeyPartTypeWord,
}

#[derive(ToSchema)]
#[schema(as = KeyPartType, rename_all = "lowercase")]
#[allow(dead_code)]
enum KeyPartTypeWord {
    String,
    Bytes,
    Int64,
    Uuid,
    Date,
    Timestamp,
}

/// `PUT /v1/namespaces/{ns}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NamespaceBody {
    /// Consistency of reads of its tables that say none themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ConsistencyWord>)]
    pub consistency: Option<Consistency>,
    /// Quotas by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "counts")]
    pub quotas: BTreeMap<String, u64>,
}

/// A namespace described.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamespaceDescription {
    /// Its name.
    pub name: String,
    /// Consistency of reads of its tables that say none themselves.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<ConsistencyWord>)]
    pub consistency: Option<Consistency>,
    /// Quotas by name.
    #[serde(default)]
    pub quotas: BTreeMap<String, u64>,
}

/// `GET /v1/namespaces`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamespacesBody {
    /// Their names.
    pub namespaces: Vec<NamespaceSummary>,
    /// Gives the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_page_token: Option<String>,
}

/// A namespace in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamespaceSummary {
    /// Its name.
    pub name: String,
}

/// `GET /v1/namespaces/{ns}/tables`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TablesBody {
    /// The tables.
    pub tables: Vec<TableSummaryBody>,
    /// Gives the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_page_token: Option<String>,
}

/// A table in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TableSummaryBody {
    /// Its name.
    pub name: String,
    /// Its id, for ever: a name that is dropped and created again names another table.
    pub table_id: String,
}

/// The settings of a table, as answers show them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = TableSettings)]
pub struct TableSettingsBody {
    /// What keys are; absent until the creator or the first load declares it, bytes so far.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<KeySchemaForm>)]
    pub key: Option<KeySchema>,
    /// Rows expire this long after their version.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ttl_seconds: Option<u64>,
    /// How many versions of a key stay visible; 0 = all.
    #[schema(value_type = u64)]
    pub max_versions: u32,
    /// What versions are.
    #[schema(value_type = VersionKindWord)]
    pub version_kind: VersionKind,
    /// Rows older than the log's time less this are refused; lets tombstones go.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub max_lateness_seconds: Option<u64>,
    /// Consistency of a read that says none.
    #[schema(value_type = ConsistencyWord)]
    pub consistency: Consistency,
    /// How long a load can be reverted.
    pub undo_window_seconds: u64,
    /// The content type that a value is answered with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value_content_type: Option<String>,
}

impl From<TableSettings> for TableSettingsBody {
    fn from(settings: TableSettings) -> Self {
        let TableSettings {
            key,
            ttl_seconds,
            max_versions,
            version_kind,
            max_lateness_seconds,
            consistency,
            undo_window_seconds,
            value_content_type,
        } = settings;
        Self {
            key,
            ttl_seconds,
            max_versions,
            version_kind,
            max_lateness_seconds,
            consistency,
            undo_window_seconds,
            value_content_type,
        }
    }
}

/// `PUT .../tables/{table}`. What is left out has its default.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CreateTableBody {
    /// What keys are: `"bytes"` (the default), or typed parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<KeySchemaForm>)]
    pub key: Option<KeySchema>,
    /// Rows expire this long after their version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// How many versions of a key stay visible; 0 = all; 1 unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub max_versions: Option<u32>,
    /// What versions are: `"time"` (the default) or `"number"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<VersionKindWord>)]
    pub version_kind: Option<VersionKind>,
    /// Rows older than the log's time less this are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lateness_seconds: Option<u64>,
    /// Consistency of a read that says none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ConsistencyWord>)]
    pub consistency: Option<Consistency>,
    /// How long a load can be reverted; a day unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo_window_seconds: Option<u64>,
    /// The content type that a value is answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_content_type: Option<String>,
    /// First keys of the shards but the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub split_at: Vec<JsonKey>,
    /// A Kafka topic of someone else that the rows come from: `kafka`, `format`, `mapping`, `start`, `on_error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub source: Option<Value>,
}

impl CreateTableBody {
    /// The settings that it asks for; `consistency` is the namespace's default.
    ///
    /// # Errors
    /// `Invalid` (`settings-invalid`) naming the field.
    pub fn settings(&self, consistency: Option<Consistency>) -> Result<TableSettings> {
        let default = TableSettings::default();
        let settings = TableSettings {
            key: self.key.clone(),
            ttl_seconds: self.ttl_seconds,
            max_versions: self.max_versions.unwrap_or(default.max_versions),
            version_kind: self.version_kind.unwrap_or(default.version_kind),
            max_lateness_seconds: self.max_lateness_seconds,
            consistency: self.consistency.or(consistency).unwrap_or(default.consistency),
            undo_window_seconds: self.undo_window_seconds.unwrap_or(default.undo_window_seconds),
            value_content_type: self.value_content_type.clone(),
        };
        check_settings(&settings)?;
        Ok(settings)
    }
}

/// `PATCH .../tables/{table}`: what is named changes, and null brings the default back. It describes what
/// [`merge_patch`] reads.
#[derive(ToSchema)]
#[schema(as = TableSettingsPatch)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
pub struct TableSettingsPatch {
    #[schema(value_type = Option<KeySchemaForm>)]
    key: Option<KeySchema>,
    ttl_seconds: Option<u64>,
    #[schema(value_type = Option<u64>)]
    max_versions: Option<u32>,
    #[schema(value_type = Option<VersionKindWord>)]
    version_kind: Option<VersionKind>,
    max_lateness_seconds: Option<u64>,
    #[schema(value_type = Option<ConsistencyWord>)]
    consistency: Option<Consistency>,
    undo_window_seconds: Option<u64>,
    value_content_type: Option<String>,
    /// Merged with the source that is declared; null removes it.
    #[schema(value_type = Option<Object>)]
    source: Option<Value>,
}

/// What a merge patch says of a table's source.
#[derive(Debug, Clone, PartialEq)]
pub enum SourcePatch {
    /// Nothing.
    Untouched,
    /// There is to be none.
    Removed,
    /// These parts of it change.
    Changed(Value),
}

/// Takes the part of a merge patch away that is about the source; the rest is `None` where it says nothing else.
///
/// # Errors
/// `Invalid` (`settings-invalid`, `json-invalid`) for anything but a JSON object.
pub fn take_source(patch: &[u8]) -> Result<(SourcePatch, Option<Vec<u8>>)> {
    let Value::Object(mut patch) = crate::from_json::<Value>(patch)? else {
        return Err(invalid("a merge patch is a JSON object"));
    };
    let source = match patch.remove("source") {
        None => SourcePatch::Untouched,
        Some(Value::Null) => SourcePatch::Removed,
        Some(changed) => SourcePatch::Changed(changed),
    };
    // A patch of nothing else leaves the settings alone.
    let is_all = source != SourcePatch::Untouched && patch.is_empty();
    let rest = (!is_all).then(|| Value::Object(patch).to_string().into_bytes());
    Ok((source, rest))
}

/// `held` after a merge patch of any depth (RFC 7396).
#[must_use]
pub fn merged(held: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let Value::Object(mut members) =
        (if held.is_object() { held } else { Value::Object(Default::default()) })
    else {
        return Value::Null;
    };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(name);
        } else {
            let held = members.remove(name).unwrap_or(Value::Null);
            members.insert(name.clone(), merged(held, value));
        }
    }
    Value::Object(members)
}

/// The settings after a merge patch (RFC 7396): members replace, `null` brings the default back; `consistency` is the
/// namespace's.
///
/// # Errors
/// `Invalid` (`settings-invalid`) for anything but an object of known fields and right values.
pub fn merge_patch(
    settings: &TableSettings,
    patch: &[u8],
    consistency: Option<Consistency>,
) -> Result<TableSettings> {
    let Value::Object(patch) = crate::from_json::<Value>(patch)? else {
        return Err(invalid("a merge patch is a JSON object"));
    };
    let current = serde_json::to_value(settings).map_err(|error| Error::internal(error.to_string()))?;
    let Value::Object(mut members) = current else { return Err(Error::internal("settings are no object")) };
    for (name, value) in patch {
        if let (true, "consistency", Some(default)) = (value.is_null(), &*name, consistency) {
            let default =
                serde_json::to_value(default).map_err(|error| Error::internal(error.to_string()))?;
            members.insert(name, default);
        } else if value.is_null() {
            // The default stands in for what is missing; an unknown name is refused below only if it stays.
            if members.remove(&name).is_none() {
                return Err(invalid(&format!("unknown field {name:?}")));
            }
        } else {
            members.insert(name, value);
        }
    }
    let patched: TableSettings =
        serde_json::from_value(Value::Object(members)).map_err(|error| invalid(&error.to_string()))?;
    check_settings(&patched)?;
    Ok(patched)
}

fn invalid(detail: &str) -> Error {
    Error::invalid(format!("the table's settings: {detail}")).with_code("settings-invalid")
}

/// A century: microseconds of it are far from overflowing, and more is a mistake of units.
const MOST_SECONDS: u64 = 100 * 366 * 86_400;
const MOST_KEY_PARTS: usize = 16;

fn check_settings(settings: &TableSettings) -> Result<()> {
    for (name, seconds) in [
        ("ttl_seconds", settings.ttl_seconds),
        ("max_lateness_seconds", settings.max_lateness_seconds),
        ("undo_window_seconds", Some(settings.undo_window_seconds)),
    ] {
        let least = u64::from(name != "undo_window_seconds");
        if let Some(seconds) = seconds.filter(|seconds| !(least..=MOST_SECONDS).contains(seconds)) {
            return Err(invalid(&format!("{name} is {seconds}; expected {least} to {MOST_SECONDS}")));
        }
    }
    if let Some(KeySchema::Parts(parts)) = &settings.key {
        check_parts(parts)?;
    }
    if let Some(text) = &settings.value_content_type
        && (text.is_empty() || text.len() > 255 || http::HeaderValue::from_str(text).is_err())
    {
        return Err(invalid("value_content_type is not a media type such as \"application/json\""));
    }
    Ok(())
}

fn check_parts(parts: &[KeyPart]) -> Result<()> {
    if parts.len() > MOST_KEY_PARTS {
        return Err(invalid(&format!("key has {} parts; the most is {MOST_KEY_PARTS}", parts.len())));
    }
    let mut names = BTreeSet::new();
    for part in parts {
        if part.name.is_empty() || part.name.len() > 255 || !names.insert(&part.name) {
            return Err(invalid("key: every part has a name of its own, 1 to 255 bytes long"));
        }
    }
    Ok(())
}

/// A shard in a description.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ShardBody {
    /// Its id.
    pub id: u32,
    /// Its first key; absent = from the beginning. It ends where the next one starts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start: Option<JsonKey>,
    /// The partition of the log that its writes go to.
    pub partition: u32,
}

/// `GET .../tables/{table}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TableDescription {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its id, for ever.
    pub table_id: String,
    /// Its settings.
    #[serde(flatten)]
    pub settings: TableSettingsBody,
    /// Sequence of the last edit that committed or reverted a load.
    pub edition: I64,
    /// Sequence of the last edit.
    pub manifest: I64,
    /// Its shards in key order.
    pub shards: Vec<ShardBody>,
    /// Number of segments.
    pub segments: u64,
    /// An estimate: every version and tombstone counts, in segments and in the tail.
    pub rows: u64,
    /// Says that `rows` is an estimate.
    pub rows_are_estimated: bool,
    /// Tombstones in segments.
    pub tombstones: u64,
    /// Bytes of the segments.
    pub bytes: u64,
    /// Rows that no segment holds yet.
    pub tail_rows: u64,
    /// Their bytes.
    pub tail_bytes: u64,
    /// Loads that are open or can still be reverted.
    pub loads: u64,
    /// Now less the newest version; absent for an empty table and where versions are numbers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data_age_seconds: Option<f64>,
    /// Its source, where it has one: the declaration, `backfill_load`, and per partition of the topic how far it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<Object>)]
    pub source: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_table_body_leaves_out_has_its_default() {
        let body: CreateTableBody = crate::from_json(b"{}").unwrap();
        assert_eq!(body.settings(None).unwrap(), TableSettings::default());
        let body: CreateTableBody =
            crate::from_json(br#"{"key":[{"name":"a","type":"int64"}],"ttl_seconds":5,"max_versions":0,"split_at":[[7],["9"]]}"#)
                .unwrap();
        let settings = body.settings(Some(Consistency::Strong)).unwrap();
        assert_eq!((settings.ttl_seconds, settings.max_versions), (Some(5), 0));
        assert_eq!((settings.consistency, body.split_at.len()), (Consistency::Strong, 2));
        assert!(crate::from_json::<CreateTableBody>(br#"{"ttl":5}"#).is_err());
    }

    #[test]
    fn settings_that_cannot_be_meant_are_refused_by_name() {
        for (body, name) in [
            (r#"{"ttl_seconds":0}"#, "ttl_seconds"),
            (r#"{"ttl_seconds":1700000000000000}"#, "ttl_seconds"),
            (r#"{"value_content_type":"a\nb"}"#, "value_content_type"),
            (r#"{"key":[{"name":"a","type":"int64"},{"name":"a","type":"uuid"}]}"#, "key"),
        ] {
            let error =
                crate::from_json::<CreateTableBody>(body.as_bytes()).unwrap().settings(None).unwrap_err();
            assert!(error.code() == "settings-invalid" && error.detail().contains(name), "{error}");
        }
    }

    #[test]
    fn a_merge_patch_changes_what_it_names_and_null_brings_the_default_back() {
        let settings = TableSettings { ttl_seconds: Some(9), max_versions: 3, ..TableSettings::default() };
        let patched =
            merge_patch(&settings, br#"{"ttl_seconds":null,"consistency":"strong"}"#, None).unwrap();
        assert_eq!(
            patched,
            TableSettings { ttl_seconds: None, consistency: Consistency::Strong, ..settings.clone() }
        );
        assert_eq!(merge_patch(&settings, br#"{"max_versions":null}"#, None).unwrap().max_versions, 1);
        assert_eq!(merge_patch(&settings, b"{}", None).unwrap(), settings);
        let strong = Some(Consistency::Strong);
        let back = merge_patch(&settings, br#"{"consistency":null}"#, strong).unwrap();
        assert_eq!(back.consistency, Consistency::Strong, "the namespace's default");
        for bad in ["[]", "{\"ttl\":1}", "{\"ttl\":null}", "{\"max_versions\":-1}", "{\"split_at\":[]}", "x"]
        {
            assert!(merge_patch(&settings, bad.as_bytes(), None).is_err(), "{bad}");
        }
    }
}
