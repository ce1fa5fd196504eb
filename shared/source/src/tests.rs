mod declarations;
mod envelopes;
mod formats;
mod hostile;

use crate::{Declaration, Decoder, Message, SourceRow};
use nacre_types::{KeySchema, TableSettings, VersionKind};
use serde_json::{Value, json};

/// A decoder for a table whose versions are numbers.
fn decoder(declaration: Value) -> Decoder {
    let numbers = TableSettings { version_kind: VersionKind::Number, ..TableSettings::default() };
    decoder_of(declaration, &numbers)
}

fn decoder_of(declaration: Value, settings: &TableSettings) -> Decoder {
    Decoder::new(&Declaration::parse(&declaration).unwrap(), settings).unwrap()
}

fn typed(parts: Value) -> TableSettings {
    let key: KeySchema = serde_json::from_value(parts).unwrap();
    TableSettings { key: Some(key), version_kind: VersionKind::Number, ..TableSettings::default() }
}

fn message(value: impl AsRef<[u8]>) -> Message {
    Message {
        offset: 7,
        timestamp_micros: Some(1_700_000_000_123_000),
        key: None,
        value: Some(value.as_ref().to_vec().into()),
    }
}

fn put(key: &str, version: i64, value: &str) -> SourceRow {
    SourceRow { key: key.to_owned().into(), version, expires_at: None, value: Some(value.to_owned().into()) }
}

fn gone(key: &str, version: i64) -> SourceRow {
    SourceRow { key: key.to_owned().into(), version, expires_at: None, value: None }
}

fn json_source(mapping: Value) -> Value {
    json!({"kafka": {"topic": "t"}, "format": "json", "mapping": mapping})
}
