//! Bodies about loads.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{RefOr, Schema};

use crate::number::{I64, count, count_or_null};
use nacre_types::object::{object, object_or_null};

/// How the rows of a load meet those that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = LoadMode)]
pub enum LoadModeBody {
    /// They join them.
    Merge,
    /// They take their place.
    Replace,
}

/// A load's version: a number, or `"now"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadVersionBody {
    /// This one.
    At(i64),
    /// The log's time when the load begins.
    Now,
}

impl Serialize for LoadVersionBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::At(version) => I64(*version).serialize(serializer),
            Self::Now => serializer.serialize_str("now"),
        }
    }
}

impl<'de> Deserialize<'de> for LoadVersionBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Wire {
            Number(I64),
            Text(String),
        }
        match Wire::deserialize(deserializer) {
            Ok(Wire::Number(I64(version))) => Ok(Self::At(version)),
            Ok(Wire::Text(text)) if text == "now" => Ok(Self::Now),
            _ => Err(serde::de::Error::custom(
                "version: expected an integer (microseconds since the epoch) or \"now\"",
            )),
        }
    }
}

impl utoipa::PartialSchema for LoadVersionBody {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .item(I64::schema())
            .item(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["now"])))
            .into()
    }
}

impl ToSchema for LoadVersionBody {
    fn name() -> std::borrow::Cow<'static, str> {
        "LoadVersion".into()
    }
}

/// Files that lie elsewhere: one of both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = LoadSource)]
pub enum LoadSourceBody {
    /// These.
    Files(Vec<String>),
    /// Every Parquet file below this URL.
    Prefix(String),
}

/// Which columns of the files are what; the native names are `key`, `value`, `version` and `expires_at`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LoadColumns)]
pub struct ColumnsBody {
    /// The key columns, in order.
    pub key: Vec<String>,
    /// The value column.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<String>,
    /// The columns packed as one JSON object, instead of `value`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pack: Option<Vec<String>>,
    /// The version column.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    /// The expiry column.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<String>,
    /// The column that is true for tombstones.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub delete: Option<String>,
}

/// What stops a bad job before anyone sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = LoadGuards)]
pub struct GuardsBody {
    /// Fewer rows fail the load.
    #[serde(deserialize_with = "count")]
    pub min_rows: u64,
    /// A replace that leaves less than 100 minus this percent of the table's rows fails.
    #[schema(maximum = 100)]
    pub max_shrink_percent: u8,
    /// More tombstones among the rows fail the load.
    #[schema(maximum = 100)]
    pub max_tombstone_percent: u8,
    /// A replace by nothing is meant.
    pub allow_empty: bool,
    /// A replace below a committed floor is meant.
    pub allow_older: bool,
}

impl Default for GuardsBody {
    fn default() -> Self {
        Self {
            min_rows: 0,
            max_shrink_percent: 50,
            max_tombstone_percent: 10,
            allow_empty: false,
            allow_older: false,
        }
    }
}

/// One key and version twice with different values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = OnDuplicate)]
pub enum OnDuplicateBody {
    /// Fails the load.
    #[default]
    Fail,
    /// Any of them may win.
    Any,
}

/// `POST .../loads`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BeginLoad)]
pub struct BeginLoadBody {
    /// Merge or replace.
    pub mode: LoadModeBody,
    /// May be left out only where `columns.version` names a column.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<LoadVersionBody>,
    /// Where the files lie, if not in the staging place.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<LoadSourceBody>,
    /// Which columns are what.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "object_or_null")]
    pub columns: Option<ColumnsBody>,
    /// What stops a bad job.
    #[serde(default, deserialize_with = "object")]
    pub guards: GuardsBody,
    /// What to do about one key and version twice with different values.
    #[serde(default)]
    pub on_duplicate: OnDuplicateBody,
}

/// `POST .../loads/{id}:commit` and `:prepare`; the body may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = CommitLoad)]
pub struct CommitLoadBody {
    /// Exactly these files; otherwise one listing of the staging place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<String>>,
    /// How many rows they have, if the caller knows it; another number fails the load.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "count_or_null")]
    pub rows: Option<u64>,
}

/// Where a load stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = LoadState)]
pub enum LoadStateBody {
    /// Files may be written.
    Open,
    /// Files are pinned and being checked.
    Validating,
    /// Files are being adopted or rewritten.
    Preparing,
    /// Complete, not visible; `?load=id` previews it.
    Prepared,
    /// Visible.
    Committed,
    /// Given up; `errors` says why.
    Failed,
    /// Cancelled by its caller.
    Cancelled,
    /// Was visible and is not any more.
    Reverted,
}

/// How far a load has come.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = LoadProgress)]
pub struct LoadProgressBody {
    /// Files pinned.
    pub files: u64,
    /// Files done.
    pub files_done: u64,
    /// Rows read so far.
    pub rows: u64,
    /// Bytes of the pinned files.
    pub bytes: u64,
    /// Bytes that were written anew.
    pub bytes_moved: u64,
    /// Files adopted.
    pub adopted_files: u64,
    /// Files rewritten.
    pub rewritten_files: u64,
    /// Seconds spent per phase.
    pub seconds: BTreeMap<String, f64>,
}

/// Something wrong with a file of a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = LoadError)]
pub struct LoadErrorBody {
    /// The file; empty where the load as a whole is meant.
    pub file: String,
    /// The row, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub row: Option<u64>,
    /// The column.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub column: Option<String>,
    /// What is wrong and what would be right.
    pub detail: String,
}

/// A load described.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Load)]
pub struct LoadBody {
    /// Its id.
    pub load_id: String,
    /// Where it stands.
    pub state: LoadStateBody,
    /// Merge or replace.
    pub mode: LoadModeBody,
    /// Its version; absent where a column gives each row's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<I64>,
    /// When it began, in microseconds of the log's time.
    pub begun_at: I64,
    /// Where to write files.
    pub staging_url: String,
    /// How far it has come.
    pub progress: LoadProgressBody,
    /// Rows of a merge that a floor hides.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rows_hidden: Option<u64>,
    /// Until when it can be reverted, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revertible_until: Option<I64>,
    /// The edition that shows it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub edition: Option<I64>,
    /// Reads that carry it see the load.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<String>,
    /// At most 1,000.
    pub errors: Vec<LoadErrorBody>,
    /// How many errors there were.
    pub error_count: u64,
}

/// `GET .../loads`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Loads)]
pub struct LoadsBody {
    /// The loads, newest first.
    pub loads: Vec<LoadBody>,
    /// Gives the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_page_token: Option<String>,
}

/// What became of a file of a load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = LoadFile)]
pub struct LoadFileBody {
    /// Its name.
    pub file: String,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// adopted, copied, rewritten or skipped.
    pub outcome: String,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// What would make it adoptable.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
}

/// `GET .../loads/{id}/files`.
pub type LoadFilesBody = Vec<LoadFileBody>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_begins_with_what_the_documentation_shows() {
        let body: BeginLoadBody = crate::from_json(
            br#"{"mode":"replace","version":"now","source":{"prefix":"s3://b/p"},"columns":{"key":["a","b"],"pack":["c"]},"guards":{"max_shrink_percent":10},"on_duplicate":"any"}"#,
        )
        .unwrap();
        assert_eq!(body.version, Some(LoadVersionBody::Now));
        assert_eq!((body.guards.max_shrink_percent, body.guards.max_tombstone_percent), (10, 10));
        assert_eq!(body.source, Some(LoadSourceBody::Prefix("s3://b/p".into())));
        for (text, version) in [("5", 5), ("\"5\"", 5), ("\"-9223372036854775808\"", i64::MIN)] {
            let read: LoadVersionBody = serde_json::from_str(text).unwrap();
            assert_eq!(read, LoadVersionBody::At(version));
        }
        for bad in [
            r#"{"mode":"append"}"#,
            r#"{"mode":"merge","version":"later"}"#,
            r#"{"mode":"merge","versoin":1}"#,
        ] {
            assert!(crate::from_json::<BeginLoadBody>(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(crate::from_json::<CommitLoadBody>(b"{}").is_ok());
    }
}
