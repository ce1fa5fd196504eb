//! The words of a declaration, and its checks. The JSON that the API takes is the JSON that the table log holds.

use nacre_types::{Error, KeySchema, Result, TableSettings, VersionKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

use crate::avro;

/// Where a table's rows come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// The topic.
    pub kafka: KafkaSpec,
    /// What its messages are.
    pub format: Format,
    /// For `avro`, and for `debezium` whose envelopes are Avro.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avro: Option<AvroSpec>,
    /// For `thrift`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thrift: Option<ThriftSpec>,
    /// Which fields are what.
    pub mapping: Mapping,
    /// Where to begin when the source is declared.
    #[serde(default)]
    pub start: Start,
    /// What to do with a message that cannot be understood.
    #[serde(default)]
    pub on_error: OnError,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSpec {
    /// `host:port`, with commas between; left out: the brokers of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brokers: Option<String>,
    /// The topic's name.
    pub topic: String,
}

/// What the messages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object each.
    Json,
    /// Avro, bare or in Confluent's wire format.
    Avro,
    /// Mutations as SpinalTap writes them.
    Thrift,
    /// Debezium's envelopes, in JSON or Avro.
    Debezium,
}

/// The schemas of Avro messages: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvroSpec {
    /// The one schema of messages without a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// Schemas by their id in a registry: messages begin with a zero byte and the id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schemas: BTreeMap<String, Value>,
}

/// Thrift's encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TBinaryProtocol.
    #[default]
    Binary,
    /// TCompactProtocol.
    Compact,
}

/// How a mutation's columns are encoded inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnEncoding {
    /// UTF-8 text; what is not UTF-8 stays bytes.
    #[default]
    Text,
    /// Java's object serialization of strings, boxed numbers and byte arrays.
    Java,
}

/// How mutations are encoded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThriftSpec {
    /// Thrift's encoding.
    pub protocol: Protocol,
    /// The columns' encoding.
    pub columns: ColumnEncoding,
}

/// Which fields are what. A field is a dotted path (`user.id`) or a JSON pointer (`/user/id`); behind an `@` it is looked
/// up in the envelope around the row instead (`@source.lsn`, `@binlog_header.id`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// One field for keys that are bytes, else one for each part, in order.
    pub key: Vec<String>,
    /// What the value is.
    #[serde(default)]
    pub value: ValueSpec,
    /// The version: there is no order without one.
    pub version: VersionSpec,
    /// Which messages delete. Deletions of an envelope need no rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete: Option<DeleteRule>,
    /// A moment at which the row expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<ExpirySpec>,
    /// The row expires so long after its version, which must be a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

/// What the value of a row is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueSpec {
    /// The whole row as a JSON object; for `json`, the message's bytes as they are.
    #[default]
    Document,
    /// One field: text and bytes as they are, anything else as JSON.
    Field(String),
    /// A JSON object of these fields, packed as loads pack columns.
    Pack(Vec<String>),
}

/// The unit of a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Microseconds since the epoch.
    Micros,
    /// Milliseconds since the epoch.
    Millis,
    /// Seconds since the epoch.
    Seconds,
    /// No time: any number.
    Number,
}

/// What of the message around the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessagePart {
    /// Kafka's time of it.
    Timestamp,
    /// Its place in its partition: right only where all messages of a key are in one partition.
    Offset,
}

/// The version: exactly one of `field` (with `unit`), `epoch` with `id`, and `message`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VersionSpec {
    /// A number, or a moment as text (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Its unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    /// Raised with each change of the leader; the upper [`crate::EPOCH_BITS`] bits of the version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// Raised with each change under one leader; the lower [`crate::ID_BITS`] bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Something that Kafka knows of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<MessagePart>,
}

/// A moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpirySpec {
    /// The field; null or missing is never.
    pub field: String,
    /// Its unit; not `number`.
    pub unit: Unit,
}

/// Which messages delete: exactly one of `field` (true, or what `equals` says), `null` and `null_value`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeleteRule {
    /// This field …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// … is this text, number or boolean; `true` where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub equals: Option<Value>,
    /// This field is null or missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub null: Option<String>,
    /// The message has no value (Kafka's tombstone): its key is the row's key, as one text or a JSON object of the fields.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub null_value: bool,
}

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// At the first message that is there.
    #[default]
    Earliest,
    /// Behind the last.
    Latest,
    /// At these offsets, for every partition.
    #[serde(untagged)]
    Offsets(BTreeMap<String, u64>),
}

/// What to do with a message that cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// Nothing of the partition behind it is applied until somebody has looked.
    #[default]
    Stop,
    /// It is counted and passed over.
    Skip,
}

fn invalid(field: &str, what: impl std::fmt::Display) -> Error {
    Error::invalid(format!("source.{field}: {what}")).with_code("source-invalid")
}

impl Declaration {
    /// Reads a declaration.
    ///
    /// # Errors
    /// `Invalid` (`source-invalid`) naming the field.
    pub fn parse(value: &Value) -> Result<Self> {
        let fields = value.as_object().ok_or_else(|| {
            Error::invalid("source: expected an object with kafka, format and mapping")
                .with_code("source-invalid")
        })?;
        // One by one, so that an error says in which part it is.
        for (name, part) in fields {
            let read = match &**name {
                "kafka" => serde_json::from_value::<KafkaSpec>(part.clone()).map(drop),
                "format" => serde_json::from_value::<Format>(part.clone()).map(drop),
                "avro" => serde_json::from_value::<Option<AvroSpec>>(part.clone()).map(drop),
                "thrift" => serde_json::from_value::<Option<ThriftSpec>>(part.clone()).map(drop),
                "mapping" => read_mapping(part)?,
                "start" => serde_json::from_value::<Start>(part.clone()).map(drop),
                "on_error" => serde_json::from_value::<OnError>(part.clone()).map(drop),
                _ => Ok(()),
            };
            read.map_err(|error| invalid(name, hint(name, &error)))?;
        }
        serde_json::from_value(value.clone())
            .map_err(|error| Error::invalid(format!("source: {error}")).with_code("source-invalid"))
    }

    /// Whether it can be a source of a table with these settings.
    ///
    /// # Errors
    /// `Invalid` (`source-invalid`) naming the field and what would be right.
    pub fn check(&self, settings: &TableSettings) -> Result<()> {
        self.check_kafka()?;
        self.check_format()?;
        self.mapping.check(settings, self.format)?;
        if settings.max_lateness_seconds.is_some() {
            return Err(invalid(
                "kafka",
                "the table sets max_lateness_seconds, and nobody refuses a topic's late rows; remove it first",
            ));
        }
        if let Start::Offsets(offsets) = &self.start {
            for (partition, offset) in offsets {
                if partition.parse::<u32>().is_err() {
                    return Err(invalid("start", format!("{partition:?} is no number of a partition")));
                }
                if *offset >= 1 << 48 {
                    return Err(invalid("start", format!("offset {offset} is not below 2^48")));
                }
            }
        }
        Ok(())
    }

    fn check_kafka(&self) -> Result<()> {
        let topic = &self.kafka.topic;
        let fits = (1..=249).contains(&topic.len())
            && !matches!(&**topic, "." | "..")
            && topic.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if !fits {
            return Err(invalid("kafka.topic", format!("{topic:?} is no name of a topic")));
        }
        if let Some(brokers) = &self.kafka.brokers {
            let is_broker = |broker: &str| {
                broker.rsplit_once(':').is_some_and(|(host, port)| {
                    !host.is_empty()
                        && host.bytes().all(|b| {
                            b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'[' | b']' | b':')
                        })
                        && port.parse::<u16>().is_ok_and(|port| port > 0)
                })
            };
            if !brokers.split(',').all(is_broker) {
                return Err(invalid(
                    "kafka.brokers",
                    "expected host:port, with commas between; users and passwords are the operator's settings",
                ));
            }
        }
        Ok(())
    }

    fn check_format(&self) -> Result<()> {
        match (self.format, &self.avro, &self.thrift) {
            (Format::Avro, None, _) => {
                Err(invalid("avro", "say the schema, or schemas by their id in the registry"))
            }
            (Format::Json | Format::Thrift, Some(_), _) => {
                Err(invalid("avro", "only for format avro or debezium"))
            }
            (Format::Json | Format::Avro | Format::Debezium, _, Some(_)) => {
                Err(invalid("thrift", "only for format thrift"))
            }
            (_, Some(spec), _) => avro::Schemas::parse(spec).map(drop).map_err(|why| invalid("avro", why)),
            _ => Ok(()),
        }
    }
}

fn read_mapping(part: &Value) -> Result<std::result::Result<(), serde_json::Error>> {
    for (name, value) in part.as_object().into_iter().flatten() {
        let read = match &**name {
            "key" => serde_json::from_value::<Vec<String>>(value.clone()).map(drop),
            "value" => serde_json::from_value::<ValueSpec>(value.clone()).map(drop),
            "version" => serde_json::from_value::<VersionSpec>(value.clone()).map(drop),
            "delete" => serde_json::from_value::<Option<DeleteRule>>(value.clone()).map(drop),
            "expires_at" => serde_json::from_value::<Option<ExpirySpec>>(value.clone()).map(drop),
            _ => Ok(()),
        };
        read.map_err(|error| invalid(&format!("mapping.{name}"), hint(name, &error)))?;
    }
    Ok(serde_json::from_value::<Mapping>(part.clone()).map(drop))
}

fn hint(name: &str, error: &serde_json::Error) -> String {
    let right = match name {
        "value" => "\"document\", {\"field\": \"..\"} or {\"pack\": [\"..\"]}",
        "start" => "\"earliest\", \"latest\" or an offset for each partition, {\"0\": 12}",
        "key" => "a list of fields",
        _ => return error.to_string(),
    };
    format!("{error}; expected {right}")
}

impl Mapping {
    fn check(&self, settings: &TableSettings, format: Format) -> Result<()> {
        let parts = match settings.key_schema() {
            KeySchema::Bytes => 1,
            KeySchema::Parts(parts) => parts.len(),
        };
        if self.key.len() != parts {
            return Err(invalid(
                "mapping.key",
                format!("{} fields, and keys of the table have {parts}; name as many", self.key.len()),
            ));
        }
        if let ValueSpec::Pack(fields) = &self.value
            && fields.is_empty()
        {
            return Err(invalid("mapping.value.pack", "name at least one field"));
        }
        for (name, field) in self.fields() {
            if field.is_empty() || field == "@" || field.len() > 1_024 {
                return Err(invalid(
                    name,
                    "a field is a path of 1 to 1024 bytes, such as user.id or /user/id",
                ));
            }
        }
        let is_time = self.check_version(settings)?;
        if let Some(expires) = &self.expires_at
            && expires.unit == Unit::Number
        {
            return Err(invalid("mapping.expires_at.unit", "expected micros, millis or seconds"));
        }
        match self.ttl_seconds {
            Some(0) => {
                return Err(invalid("mapping.ttl_seconds", "0 would expire every row at once; leave it out"));
            }
            Some(_) if !is_time => {
                return Err(invalid("mapping.ttl_seconds", "a ttl counts from a version that is a time"));
            }
            Some(_) if self.expires_at.is_some() => {
                return Err(invalid("mapping.ttl_seconds", "say ttl_seconds or expires_at, not both"));
            }
            _ => {}
        }
        let Some(rule) = &self.delete else { return Ok(()) };
        let forms = [rule.field.is_some(), rule.null.is_some(), rule.null_value];
        if forms.iter().filter(|form| **form).count() != 1 || (rule.equals.is_some() && rule.field.is_none())
        {
            return Err(invalid(
                "mapping.delete",
                "say one of {\"field\": .., \"equals\": ..}, {\"null\": field} and {\"null_value\": true}",
            ));
        }
        if rule.equals.as_ref().is_some_and(|value| value.is_array() || value.is_object() || value.is_null())
        {
            return Err(invalid("mapping.delete.equals", "expected a text, a number or a boolean"));
        }
        if rule.null_value && !matches!(format, Format::Json | Format::Avro) {
            return Err(invalid(
                "mapping.delete.null_value",
                "envelopes say their deletions themselves; a message without a value is passed over",
            ));
        }
        if rule.null_value && self.version.message.is_none() {
            return Err(invalid(
                "mapping.version",
                "a message without a value has no field; with delete.null_value say {\"message\": \"timestamp\"} or \
                 {\"message\": \"offset\"}",
            ));
        }
        Ok(())
    }

    /// Answers whether versions are times.
    fn check_version(&self, settings: &TableSettings) -> Result<bool> {
        let version = &self.version;
        let is_time = match version {
            VersionSpec { field: Some(_), unit: Some(unit), epoch: None, id: None, message: None } => {
                *unit != Unit::Number
            }
            VersionSpec { field: Some(_), unit: None, .. } => {
                return Err(invalid("mapping.version.unit", "expected micros, millis, seconds or number"));
            }
            VersionSpec { field: None, unit: None, epoch: Some(_), id: Some(_), message: None } => false,
            VersionSpec { field: None, unit: None, epoch: None, id: None, message: Some(part) } => {
                *part == MessagePart::Timestamp
            }
            _ => {
                return Err(invalid(
                    "mapping.version",
                    "say one of {\"field\": .., \"unit\": ..}, {\"epoch\": .., \"id\": ..} and {\"message\": ..}",
                ));
            }
        };
        if !is_time && settings.version_kind != VersionKind::Number {
            return Err(invalid(
                "mapping.version",
                "these versions are no times; the table needs version_kind \"number\"",
            ));
        }
        if is_time && settings.version_kind == VersionKind::Number && self.ttl_seconds.is_some() {
            return Err(invalid("mapping.ttl_seconds", "the table's version_kind is \"number\""));
        }
        Ok(is_time)
    }

    /// The fields that are named, and by what.
    fn fields(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let packed = match &self.value {
            ValueSpec::Document => &[][..],
            ValueSpec::Field(field) => std::slice::from_ref(field),
            ValueSpec::Pack(fields) => fields,
        };
        let version = [&self.version.field, &self.version.epoch, &self.version.id];
        let rules = self.delete.iter().flat_map(|rule| [&rule.field, &rule.null]);
        self.key
            .iter()
            .map(|field| ("mapping.key", field))
            .chain(packed.iter().map(|field| ("mapping.value", field)))
            .chain(version.into_iter().flatten().map(|field| ("mapping.version", field)))
            .chain(rules.flatten().map(|field| ("mapping.delete", field)))
            .chain(self.expires_at.iter().map(|expires| ("mapping.expires_at.field", &expires.field)))
    }
}
