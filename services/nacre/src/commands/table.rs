//! `nacre table create|list|describe|update|drop`

use super::common::{Asker, consistency, consistency_name, show_key, table_ref};
use super::namespace;
use crate::output::{Grid, note, pairs};
use crate::units::{self, Span, SpanOrNone, TableArgument};
use clap::{Args, Subcommand};
use nacre_api::{CreateTableBody, JsonKey, TableDescription};
use nacre_types::{Consistency, Error, KeySchema, NamespaceName, Result, VersionKind};
use serde_json::{Map, Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a table; one that is there already and equal is no error
    Create(Box<Create>),
    /// List the tables of a namespace
    List {
        /// The namespace
        #[arg(value_parser = namespace::name, default_value = "default")]
        namespace: NamespaceName,
    },
    /// Show a table: its settings, and what is in it
    Describe {
        /// The table
        table: TableArgument,
    },
    /// Change settings of a table
    Update(Update),
    /// Drop a table
    Drop {
        /// The table
        table: TableArgument,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The table
    table: TableArgument,
    /// What keys are: bytes, or typed parts, as in user:int64,day:date (string, bytes, int64, uuid, date, timestamp)
    #[arg(long, value_name = "bytes|NAME:TYPE,..", value_parser = key_schema)]
    key: Option<KeySchema>,
    /// Rows expire so long after their version, as in 30d
    #[arg(long, value_name = "SPAN")]
    ttl: Option<Span>,
    /// How many versions of a key stay visible; 0 = all
    #[arg(long, value_name = "N")]
    max_versions: Option<u32>,
    /// What versions are: time or number
    #[arg(long, value_name = "KIND", value_parser = version_kind)]
    version_kind: Option<VersionKind>,
    /// Rows older than this are refused, which lets tombstones go
    #[arg(long, value_name = "SPAN")]
    max_lateness: Option<Span>,
    /// Consistency of reads that say none: eventual, session or strong
    #[arg(long, value_name = "CONSISTENCY", value_parser = consistency)]
    consistency: Option<Consistency>,
    /// How long a load can be reverted
    #[arg(long, value_name = "SPAN")]
    undo_window: Option<Span>,
    /// The content type that values are answered with
    #[arg(long, value_name = "TYPE")]
    value_content_type: Option<String>,
    /// A file with the source to declare: a Kafka topic of someone else, its format and mapping, as JSON
    #[arg(long, value_name = "FILE")]
    source: Option<std::path::PathBuf>,
    /// The first key of one more shard, again and again; typed keys as the JSON array of their parts
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    split_at: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// The table
    table: TableArgument,
    /// Rows expire so long after their version, as in 30d; none = never
    #[arg(long, value_name = "SPAN|none")]
    ttl: Option<SpanOrNone>,
    /// How many versions of a key stay visible; it can only be lowered
    #[arg(long, value_name = "N")]
    max_versions: Option<u32>,
    /// Rows older than this are refused; none = no limit
    #[arg(long, value_name = "SPAN|none")]
    max_lateness: Option<SpanOrNone>,
    /// Consistency of reads that say none: eventual, session or strong
    #[arg(long, value_name = "CONSISTENCY", value_parser = consistency)]
    consistency: Option<Consistency>,
    /// How long a load can be reverted
    #[arg(long, value_name = "SPAN")]
    undo_window: Option<Span>,
    /// The content type that values are answered with
    #[arg(long, value_name = "TYPE|none")]
    value_content_type: Option<String>,
    /// A file with the source to declare, or what of it changes, as JSON; none = remove it
    #[arg(long, value_name = "FILE|none")]
    source: Option<std::path::PathBuf>,
}

/// `bytes`, or `name:type,name:type`.
fn key_schema(text: &str) -> Result<KeySchema, String> {
    let expected = "expected bytes, or parts such as user:int64,day:date";
    if text == "bytes" {
        return Ok(KeySchema::Bytes);
    }
    let parts: Option<Vec<Value>> = text
        .split(',')
        .map(|part| part.split_once(':').map(|(name, kind)| json!({"name": name, "type": kind})))
        .collect();
    let parts = parts.ok_or_else(|| expected.to_owned())?;
    serde_json::from_value(Value::Array(parts))
        .map_err(|_| format!("{expected}; the types are string, bytes, int64, uuid, date and timestamp"))
}

fn version_kind(text: &str) -> Result<VersionKind, String> {
    match text {
        "time" => Ok(VersionKind::Time),
        "number" => Ok(VersionKind::Number),
        _ => Err("expected time or number".to_owned()),
    }
}

pub(crate) async fn run(command: &Command, asker: &Asker) -> Result<()> {
    match command {
        Command::Create(create) => {
            let made = asker.client.create_table(&table_ref(&create.table), &create.body()?).await?;
            let how = if made.new { "was made" } else { "was there already, and equal" };
            note(&format!("{} {how}", create.table));
            asker.out.result(&made.thing, describe)
        }
        Command::List { namespace } => {
            let all = asker.client.tables(namespace).await?;
            asker.out.result(&all, |all| {
                let mut grid = Grid::new(&["table", "id"]);
                for one in all {
                    grid.row([one.name.clone(), one.table_id.clone()]);
                }
                grid.text()
            })
        }
        Command::Describe { table } => {
            asker.out.result(&asker.client.table(&table_ref(table)).await?, describe)
        }
        Command::Update(update) => {
            let described = asker.client.update_table(&table_ref(&update.table), &update.patch()?).await?;
            asker.out.result(&described, describe)
        }
        Command::Drop { table } => {
            asker.client.drop_table(&table_ref(table)).await?;
            asker.out.result(&json!({"dropped": table.to_string()}), |_| format!("{table} was dropped"))
        }
    }
}

impl Create {
    fn body(&self) -> Result<CreateTableBody> {
        let typed = matches!(self.key, Some(KeySchema::Parts(_)));
        let split_at: Result<Vec<JsonKey>> = self.split_at.iter().map(|key| json_key(key, typed)).collect();
        Ok(CreateTableBody {
            key: self.key.clone(),
            ttl_seconds: self.ttl.map(|span| span.0),
            max_versions: self.max_versions,
            version_kind: self.version_kind,
            max_lateness_seconds: self.max_lateness.map(|span| span.0),
            consistency: self.consistency,
            undo_window_seconds: self.undo_window.map(|span| span.0),
            value_content_type: self.value_content_type.clone(),
            split_at: split_at?,
            source: self.source.as_deref().map(read_source).transpose()?,
        })
    }
}

/// A declaration in a file.
fn read_source(path: &std::path::Path) -> Result<Value> {
    let wrong = |why: String| {
        Error::invalid(format!("--source {}: {why}", path.display())).with_code("source-invalid")
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| wrong(format!("no JSON: {error}")))
}

/// A key in JSON: of typed keys an array of parts, a text alone being the only part.
fn json_key(text: &str, typed: bool) -> Result<JsonKey> {
    if !typed || !text.starts_with('[') {
        return Ok(JsonKey::Text(text.to_owned()));
    }
    serde_json::from_str(text).map(JsonKey::Parts).map_err(|error| {
        Error::invalid(format!("--split-at {text}: not a JSON array of parts: {error}"))
            .with_code("key-parts")
    })
}

impl Update {
    /// The merge patch: what was said, and null for what is taken away.
    fn patch(&self) -> Result<Value> {
        let mut members = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                members.insert(name.to_owned(), value);
            }
        };
        set("ttl_seconds", self.ttl.map(|span| json!(span.seconds())));
        set("max_versions", self.max_versions.map(|number| json!(number)));
        set("max_lateness_seconds", self.max_lateness.map(|span| json!(span.seconds())));
        set("consistency", self.consistency.map(|consistency| json!(consistency)));
        set("undo_window_seconds", self.undo_window.map(|span| json!(span.0)));
        let content_type = self.value_content_type.as_deref();
        set(
            "value_content_type",
            content_type.map(|text| if text == "none" { Value::Null } else { json!(text) }),
        );
        match self.source.as_deref() {
            None => {}
            Some(path) if path == std::path::Path::new("none") => {
                members.insert("source".to_owned(), Value::Null);
            }
            Some(path) => {
                members.insert("source".to_owned(), read_source(path)?);
            }
        }
        if members.is_empty() {
            return Err(Error::invalid("say what to change, as in --ttl 30d").with_code("nothing-to-change"));
        }
        Ok(Value::Object(members))
    }
}

fn describe(described: &TableDescription) -> String {
    let settings = &described.settings;
    let span = |seconds: Option<u64>| seconds.map_or("none".to_owned(), show_span);
    let key = match &settings.key {
        None => "bytes (not declared yet)".to_owned(),
        Some(KeySchema::Bytes) => "bytes".to_owned(),
        Some(KeySchema::Parts(parts)) => {
            let parts: Vec<String> = parts
                .iter()
                .map(|part| format!("{}:{}", part.name, nacre_types::tuple::kind_name(part.kind)))
                .collect();
            parts.join(",")
        }
    };
    let shards: Vec<String> = described
        .shards
        .iter()
        .map(|shard| shard.start.as_ref().map_or("(start)".to_owned(), show_key))
        .collect();
    let mut shown = vec![
        ("table", format!("{}/{}", described.namespace, described.name)),
        ("id", described.table_id.clone()),
        ("key", key),
        ("ttl", span(settings.ttl_seconds)),
        ("max versions", settings.max_versions.to_string()),
        (
            "versions are",
            match settings.version_kind {
                VersionKind::Time => "time".to_owned(),
                VersionKind::Number => "numbers".to_owned(),
            },
        ),
        ("max lateness", span(settings.max_lateness_seconds)),
        ("consistency", consistency_name(settings.consistency).to_owned()),
        ("undo window", show_span(settings.undo_window_seconds)),
        ("content type", settings.value_content_type.clone().unwrap_or_else(|| "-".to_owned())),
        ("rows", format!("{} (an estimate)", units::count(described.rows))),
        ("tombstones", units::count(described.tombstones)),
        ("segments", format!("{}, {}", units::count(described.segments), units::bytes(described.bytes))),
        (
            "not yet in one",
            format!("{} rows, {}", units::count(described.tail_rows), units::bytes(described.tail_bytes)),
        ),
        ("loads", described.loads.to_string()),
        ("age of data", described.data_age_seconds.map_or("-".to_owned(), |age| format!("{age:.1} s"))),
        ("edition", described.edition.0.to_string()),
        ("manifest", described.manifest.0.to_string()),
        ("shards at", shards.join(" ")),
    ];
    if let Some(source) = &described.source {
        shown.extend(describe_source(source));
    }
    pairs(&shown)
}

/// What a source says of itself, a line for its topic and one for each partition.
fn describe_source(source: &Value) -> Vec<(&'static str, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut lines = vec![
        ("source", format!("{} of topic {}", text(&source["format"]), text(&source["kafka"]["topic"]))),
        ("backfill load", text(&source["backfill_load"])),
    ];
    for part in source["partitions"].as_array().into_iter().flatten() {
        let mut line = format!(
            "{}: applied below {}, {} behind",
            part["partition"],
            part["applied_offset"],
            part["lag_rows"].as_u64().map_or("-".to_owned(), units::count)
        );
        if let Some(why) = part["stopped"].as_str() {
            line = format!("{line}; STOPPED: {why}");
        }
        lines.push(("partition", line));
    }
    lines
}

/// The largest unit that says a span exactly.
fn show_span(seconds: u64) -> String {
    for (unit, size) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
        if seconds >= size && seconds.is_multiple_of(size) {
            return format!("{}{unit}", seconds / size);
        }
    }
    format!("{seconds}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_bytes_or_typed_parts() {
        assert_eq!(key_schema("bytes"), Ok(KeySchema::Bytes));
        let KeySchema::Parts(parts) = key_schema("user:int64,day:date").unwrap() else { panic!("no parts") };
        assert_eq!((parts.len(), parts[1].name.as_str()), (2, "day"));
        for bad in ["", "user", "user:float", ":"] {
            assert!(key_schema(bad).is_err(), "{bad}");
        }
        assert_eq!(json_key("[1]", true).unwrap(), JsonKey::Parts(vec![json!(1)]));
        assert_eq!(json_key("[1]", false).unwrap(), JsonKey::Text("[1]".into()));
        assert!(json_key("[1", true).is_err());
    }

    #[test]
    fn spans_are_shown_in_the_unit_that_says_them_exactly() {
        assert_eq!([0, 59, 60, 90, 7_200, 2_592_000].map(show_span), ["0s", "59s", "1m", "90s", "2h", "30d"]);
    }
}
