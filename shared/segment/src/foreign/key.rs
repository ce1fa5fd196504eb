//! Keys of the rows at hand, packed where they are typed.

use super::columns::Source;
use super::leaf::{Leaf, LeafType};
use nacre_types::tuple::{Part, part_from_text, push_bytes, push_int64, push_string, push_uuid};
use nacre_types::{KeyPart, KeyPartType};

/// Why a row has no key: the column and what is wrong with it.
pub(super) struct NoKey {
    pub(super) column: String,
    pub(super) detail: String,
}

/// Appends the packed key of row `row` to `out`.
pub(super) fn pack_row(
    parts: &[(KeyPart, Source<Part>)],
    leaves: &[Leaf],
    row: usize,
    out: &mut Vec<u8>,
) -> Result<(), NoKey> {
    for (part, source) in parts {
        match source {
            Source::Constant(constant) => constant.push(out),
            Source::Leaf(place) => {
                let Some(leaf) = leaves.get(*place) else { continue };
                let Some(slot) = leaf.slot(row) else {
                    return Err(NoKey { column: leaf.name(), detail: "a null in the key".to_owned() });
                };
                push(part, leaf, slot, out).map_err(|detail| NoKey { column: leaf.name(), detail })?;
            }
        }
    }
    Ok(())
}

fn push(part: &KeyPart, leaf: &Leaf, slot: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let bytes = || leaf.bytes(slot).ok_or_else(|| "no bytes".to_owned());
    let text =
        || std::str::from_utf8(leaf.bytes(slot).unwrap_or_default()).map_err(|_| "not UTF-8".to_owned());
    match part.kind {
        KeyPartType::String => push_string(out, text()?),
        KeyPartType::Bytes => push_bytes(out, bytes()?),
        KeyPartType::Int64 => {
            let number = leaf.integer(slot).unwrap_or_default();
            push_int64(out, i64::try_from(number).map_err(|_| format!("{number} does not fit an int64"))?);
        }
        KeyPartType::Uuid if leaf.kind == LeafType::Text => {
            part_from_text(part, text()?).map_err(|error| error.detail().to_owned())?.push(out);
        }
        KeyPartType::Uuid => {
            push_uuid(out, bytes()?.try_into().map_err(|_| "a UUID that has not 16 bytes".to_owned())?);
        }
        KeyPartType::Date => push_int64(out, leaf.integer(slot).unwrap_or_default() as i64),
        KeyPartType::Timestamp => {
            let nanos = leaf.moment_nanos(slot).unwrap_or_default();
            if nanos % 1_000 != 0 {
                return Err(format!("{nanos} ns are no whole microseconds, which a key's timestamp has"));
            }
            push_int64(
                out,
                i64::try_from(nanos / 1_000).map_err(|_| "the timestamp lies outside an int64".to_owned())?,
            );
        }
    }
    Ok(())
}
