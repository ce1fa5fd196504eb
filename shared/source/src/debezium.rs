//! Debezium's envelopes: `op`, `before`, `after`, `source`, with or without Kafka Connect's `{schema, payload}` around.

use crate::doc::Doc;
use crate::{Fault, fault};

/// What an envelope says about a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    /// The envelope, for fields behind an `@`.
    pub(crate) envelope: Doc,
    /// The row after, or before where it was deleted.
    pub(crate) row: Doc,
    /// The row before, where it was changed.
    pub(crate) before: Option<Doc>,
    pub(crate) is_delete: bool,
}

/// Takes Connect's wrapper away.
pub(crate) fn unwrapped(doc: Doc) -> Doc {
    match doc {
        Doc::Object(mut fields)
            if fields.len() == 2 && fields.iter().all(|(name, _)| name == "schema" || name == "payload") =>
        {
            let at = fields.iter().position(|(name, _)| name == "payload");
            at.map_or(Doc::Null, |at| fields.swap_remove(at).1)
        }
        other => other,
    }
}

/// The change that an envelope says; `None` where it is about no row. `key`: the message's key as a document.
pub(crate) fn change(envelope: Doc, key: Option<Doc>) -> Result<Option<Change>, Fault> {
    let mut envelope = unwrapped(envelope);
    let op = match envelope.get("op") {
        Some(Doc::Text(op)) => op.clone(),
        _ => return fault("it has no op: is this Debezium's envelope? (unwrapped records are format json)"),
    };
    let mut part = |name: &str| match &mut envelope {
        Doc::Object(fields) => fields
            .iter_mut()
            .find(|(known, _)| known == name)
            .map(|(_, doc)| std::mem::replace(doc, Doc::Null))
            .filter(|doc| !doc.is_null()),
        _ => None,
    };
    let (before, after) = (part("before"), part("after"));
    let (row, before, is_delete) = match (&*op, before, after) {
        ("c" | "r", _, Some(after)) => (after, None, false),
        ("u", before, Some(after)) => (after, before, false),
        ("d", Some(before), _) => (before, None, true),
        // Without a replica identity there is nothing before, but the message's key says which row it was.
        ("d", None, _) => match key.map(unwrapped) {
            Some(key @ Doc::Object(_)) => (key, None, true),
            _ => return fault("op is d, and neither before nor the message's key says which row"),
        },
        ("m", ..) => return Ok(None),
        ("t", ..) => {
            return fault(
                "op is t: the table was truncated there, and a source deletes rows by their keys only",
            );
        }
        ("c" | "r" | "u", _, None) => return fault(format!("op is {op}, and after is missing")),
        _ => return fault("op is none of c, r, u, d, t and m"),
    };
    Ok(Some(Change { envelope, row, before, is_delete }))
}
