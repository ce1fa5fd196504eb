//! The bytes of a table's settings.

use super::wire::{In, Out};
use nacre_types::{Consistency, KeyPart, KeyPartType, KeySchema, TableSettings, VersionKind};

pub(super) fn write_settings(out: &mut Out, settings: &TableSettings) {
    out.option(settings.key.as_ref(), write_key);
    out.option(settings.ttl_seconds, Out::varint);
    out.varint(settings.max_versions.into());
    out.u8(match settings.version_kind {
        VersionKind::Time => 0,
        VersionKind::Number => 1,
    });
    out.option(settings.max_lateness_seconds, Out::varint);
    out.u8(match settings.consistency {
        Consistency::Eventual => 0,
        Consistency::Session => 1,
        Consistency::Strong => 2,
    });
    out.varint(settings.undo_window_seconds);
    out.option(settings.value_content_type.as_deref(), |out, text| out.bytes(text.as_bytes()));
}

pub(super) fn read_settings(input: &mut In<'_>) -> TableSettings {
    TableSettings {
        key: input.option(read_key),
        ttl_seconds: input.option(In::varint),
        max_versions: input.number(),
        version_kind: match input.u8() {
            0 => VersionKind::Time,
            1 => VersionKind::Number,
            _ => failed(input),
        },
        max_lateness_seconds: input.option(In::varint),
        consistency: match input.u8() {
            0 => Consistency::Eventual,
            1 => Consistency::Session,
            2 => Consistency::Strong,
            _ => failed(input),
        },
        undo_window_seconds: input.varint(),
        value_content_type: input.option(In::text),
    }
}

fn failed<T: Default>(input: &mut In<'_>) -> T {
    input.fail();
    T::default()
}

/// No parts = plain bytes.
fn write_key(out: &mut Out, key: &KeySchema) {
    let parts = match key {
        KeySchema::Bytes => &[][..],
        KeySchema::Parts(parts) => parts,
    };
    out.len(parts.len());
    for part in parts {
        out.bytes(part.name.as_bytes());
        out.u8(match part.kind {
            KeyPartType::String => 0,
            KeyPartType::Bytes => 1,
            KeyPartType::Int64 => 2,
            KeyPartType::Uuid => 3,
            KeyPartType::Date => 4,
            KeyPartType::Timestamp => 5,
        });
    }
}

fn read_key(input: &mut In<'_>) -> KeySchema {
    let parts = input.list(2, |input| {
        let name = input.text();
        let kind = match input.u8() {
            0 => KeyPartType::String,
            1 => KeyPartType::Bytes,
            2 => KeyPartType::Int64,
            3 => KeyPartType::Uuid,
            4 => KeyPartType::Date,
            5 => KeyPartType::Timestamp,
            _ => {
                input.fail();
                KeyPartType::Bytes
            }
        };
        KeyPart { name, kind }
    });
    if parts.is_empty() { KeySchema::Bytes } else { KeySchema::Parts(parts) }
}
