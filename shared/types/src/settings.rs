//! The settings of a table, as the table log holds them and the API shows them.

use crate::{Error, Result, limits};
use serde::{Deserialize, Serialize};

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// What the node has.
    #[default]
    Eventual,
    /// The client's token is reached before answering.
    Session,
    /// Everything acknowledged before the request arrived.
    Strong,
}

/// What versions of a table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionKind {
    /// Microseconds since the epoch; one more than 24 h ahead of the log's time is invalid.
    #[default]
    Time,
    /// Any number.
    Number,
}

/// The type of one part of a typed key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyPartType {
    /// UTF-8 text.
    String,
    /// Bytes.
    Bytes,
    /// A signed 64-bit number.
    Int64,
    /// A UUID.
    Uuid,
    /// A day; packed as days since the epoch.
    Date,
    /// A moment; packed as microseconds since the epoch.
    Timestamp,
}

/// One part of a typed key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPart {
    /// The part's name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: KeyPartType,
}

/// What keys of a table are: plain bytes, or typed parts packed by the tuple encoding.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum KeySchema {
    /// Plain bytes.
    #[default]
    Bytes,
    /// Typed parts, at least one.
    Parts(Vec<KeyPart>),
}

impl Serialize for KeySchema {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bytes => serializer.serialize_str("bytes"),
            Self::Parts(parts) => parts.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for KeySchema {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Wire {
            Word(String),
            Parts(#[serde(deserialize_with = "crate::object::objects")] Vec<KeyPart>),
        }
        match Wire::deserialize(deserializer) {
            Ok(Wire::Word(word)) if word == "bytes" => Ok(Self::Bytes),
            Ok(Wire::Parts(parts)) if !parts.is_empty() => Ok(Self::Parts(parts)),
            _ => Err(D::Error::custom(
                "key: expected \"bytes\" or a non-empty list of {\"name\", \"type\": \"string|bytes|int64|uuid|date|timestamp\"}",
            )),
        }
    }
}

/// The settings of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TableSettings {
    /// What keys are. `None` until the first load or the creator declares it: bytes so far.
    pub key: Option<KeySchema>,
    /// Rows expire this long after their version.
    pub ttl_seconds: Option<u64>,
    /// How many versions of a key stay visible; 0 = all.
    pub max_versions: u32,
    /// What versions are.
    pub version_kind: VersionKind,
    /// Rows older than the log's time less this are refused; lets tombstones go.
    pub max_lateness_seconds: Option<u64>,
    /// Consistency of a read that says none.
    pub consistency: Consistency,
    /// How long a load can be reverted.
    pub undo_window_seconds: u64,
    /// The content type that a value is answered with.
    pub value_content_type: Option<String>,
}

impl Default for TableSettings {
    fn default() -> Self {
        Self {
            key: None,
            ttl_seconds: None,
            max_versions: 1,
            version_kind: VersionKind::Time,
            max_lateness_seconds: None,
            consistency: Consistency::Eventual,
            undo_window_seconds: 86_400,
            value_content_type: None,
        }
    }
}

impl TableSettings {
    /// The table's ttl in microseconds.
    pub fn ttl_micros(&self) -> Option<i64> {
        self.ttl_seconds.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000))
    }

    /// The undo window in microseconds.
    pub fn undo_window_micros(&self) -> i64 {
        i64::try_from(self.undo_window_seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000)
    }

    /// The key schema in force.
    pub fn key_schema(&self) -> KeySchema {
        self.key.clone().unwrap_or_default()
    }

    /// Checks a writer's version where it enters: not more than 24 h ahead of `log_time`, and, with a ttl, not from
    /// before 2000.
    ///
    /// # Errors
    /// `Invalid` (`version-ahead`, `version-too-small`).
    pub fn check_version(&self, version: i64, log_time: i64) -> Result<()> {
        if self.version_kind == VersionKind::Number {
            return Ok(());
        }
        if version > log_time.saturating_add(limits::VERSION_AHEAD_MICROS) {
            return Err(Error::invalid(format!(
                "version {version} is more than 24 h ahead of the log's time {log_time}; versions are microseconds \
                 since the epoch (or set version_kind to \"number\")"
            ))
            .with_code("version-ahead"));
        }
        if self.ttl_seconds.is_some() && version < limits::VERSION_TTL_MIN {
            return Err(Error::invalid(format!(
                "version {version} lies before the year 2000 and the table has a ttl; versions are microseconds since \
                 the epoch, not milliseconds or seconds"
            ))
            .with_code("version-too-small"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_judged_where_they_enter() {
        let settings = TableSettings { ttl_seconds: Some(10), ..TableSettings::default() };
        let now = 1_700_000_000_000_000;
        assert!(settings.check_version(now + limits::VERSION_AHEAD_MICROS, now).is_ok());
        assert_eq!(
            settings.check_version(now + limits::VERSION_AHEAD_MICROS + 1, now).unwrap_err().code(),
            "version-ahead"
        );
        assert_eq!(settings.check_version(now / 1_000, now).unwrap_err().code(), "version-too-small");
        let number = TableSettings { version_kind: VersionKind::Number, ..settings };
        assert!(number.check_version(i64::MAX, now).is_ok());
    }

    #[test]
    fn key_schemas_have_two_spellings() {
        let parts: KeySchema = serde_json::from_str(r#"[{"name":"a","type":"int64"}]"#).unwrap();
        assert_eq!(serde_json::to_string(&parts).unwrap(), r#"[{"name":"a","type":"int64"}]"#);
        assert_eq!(serde_json::from_str::<KeySchema>("\"bytes\"").unwrap(), KeySchema::Bytes);
        assert!(serde_json::from_str::<KeySchema>("[]").is_err());
        assert!(serde_json::from_str::<KeySchema>(r#"[["a","int64"]]"#).is_err());
    }
}
