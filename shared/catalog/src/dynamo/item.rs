//! Items as DynamoDB keeps them, and their bytes.
//!
//! ```text
//! pk "table/<table id>"  sk <sequence>  edit: B (an edit's frame)  or  edit_far: B       expires_at: N, once covered
//! pk "table/<table id>"  sk 0           log_seq: N, log_commit: B (16)   where the log stands
//!                                       snap_seq: N, snap_ref: B (a head's frame)   a snapshot; swept_seq: N
//! pk "record/<name>"     sk 0           write_id: B (16), record: B (a record's frame)  or  record_far: B
//! pk "catalog"           sk 0           catalog_id: S, store_id: S
//! pk "probe/<id>"        sk 0, 1        as edits and heads, expires_at: N
//! ```
//!
//! Every item has `format_version: N`, which is 1. The frames are those that an object store's catalog keeps, with
//! their own version and checksum (`envelope`). A frame that is too big for an item lies in the store, and `.._far`
//! holds another frame that names it: path (length 4), length 8, CRC-32 4.

#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use nacre_store::frame::{FrameReader, FrameWriter};
use nacre_types::{CommitId, Error, Result, Seq};
use serde_json::{Map, Value, json};

use crate::SnapshotRef;
use crate::envelope::{decode_head, encode_head};

const FORMAT: u64 = 1;
/// Of the frame of what lies in the store.
const FAR_VERSION: u8 = 1;

/// The attributes of an item, each a value with its type's letter.
pub(super) type Item = Map<String, Value>;

pub(super) fn text(text: &str) -> Value {
    json!({ "S": text })
}

pub(super) fn number(number: u64) -> Value {
    json!({ "N": number.to_string() })
}

pub(super) fn binary(bytes: &[u8]) -> Value {
    json!({ "B": STANDARD.encode(bytes) })
}

/// An item's key.
pub(super) fn key(pk: &str, sk: u64) -> Value {
    json!({ "pk": text(pk), "sk": number(sk) })
}

/// The value of `format_version`.
pub(super) fn format() -> Value {
    number(FORMAT)
}

/// The item of an answer; `None` = there is none.
pub(super) fn item_of<'a>(answer: &'a Value, name: &str) -> Option<&'a Item> {
    answer.get(name)?.as_object().filter(|item| !item.is_empty())
}

/// Where a frame lies that is too big for an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Far {
    pub(super) path: String,
    pub(super) length: u64,
    pub(super) crc: u32,
}

impl Far {
    pub(super) fn of(path: &str, frame: &[u8]) -> Self {
        Self { path: path.to_owned(), length: frame.len() as u64, crc: crc32fast::hash(frame) }
    }

    fn encode(&self) -> Bytes {
        FrameWriter::new(FAR_VERSION, self.path.len() + 32)
            .bytes(self.path.as_bytes())
            .u64(self.length)
            .u32(self.crc)
            .finish()
    }

    fn decode(bytes: Bytes, what: &str, code: &'static str) -> Result<Self> {
        let mut frame = FrameReader::open(bytes, FAR_VERSION, what, code)?;
        let far = Self { path: frame.text()?, length: frame.u64()?, crc: frame.u32()? };
        frame.finish()?;
        Ok(far)
    }
}

/// A frame, in the item or in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kept {
    Here(Bytes),
    Far(Far),
}

impl Kept {
    /// The attribute `name` or `<name>_far`.
    fn attribute(&self, name: &str) -> (String, Value) {
        match self {
            Self::Here(frame) => (name.to_owned(), binary(frame)),
            Self::Far(far) => (format!("{name}_far"), binary(&far.encode())),
        }
    }
}

/// The item of edit `seq`.
pub(super) fn edit_item(pk: &str, seq: Seq, kept: &Kept) -> Value {
    let mut item = json!({ "pk": text(pk), "sk": number(seq.0), "format_version": format() });
    let (name, value) = kept.attribute("edit");
    item[name] = value;
    item
}

/// The item of a record.
pub(super) fn record_item(pk: &str, write_id: u128, kept: &Kept) -> Value {
    let mut item = json!({
        "pk": text(pk),
        "sk": number(0),
        "format_version": format(),
        "write_id": binary(&write_id.to_be_bytes()),
    });
    let (name, value) = kept.attribute("record");
    item[name] = value;
    item
}

/// The head of a table's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The last edit; `None` = there is none.
    pub(super) last: Option<(Seq, CommitId)>,
    pub(super) snapshot: Option<SnapshotRef>,
    /// Edits up to here were given their `expires_at`.
    pub(super) swept: Seq,
}

impl Head {
    /// Where the log stands.
    pub(super) fn stands(&self) -> Seq {
        self.last.map_or(Seq(0), |(seq, _)| seq)
    }

    /// The commit id of the last edit; that of no edit where there is none.
    pub(super) fn commit_id(&self) -> CommitId {
        self.last.map_or(CommitId(0), |(_, commit_id)| commit_id)
    }

    /// Whether a snapshot holds edit `seq`, so that the edit itself may be gone.
    pub(super) fn covers(&self, seq: Seq) -> bool {
        self.snapshot.as_ref().is_some_and(|snapshot| snapshot.seq >= seq)
    }
}

/// An item that is being read.
pub(super) struct Fields<'a> {
    item: &'a Item,
    what: String,
    code: &'static str,
}

impl<'a> Fields<'a> {
    /// Checks the format. `what` names the item in errors, `code` is their code.
    ///
    /// # Errors
    /// `Corrupt` with `code`, or `newer-format`.
    pub(super) fn open(item: &'a Item, what: impl Into<String>, code: &'static str) -> Result<Self> {
        let this = Self { item, what: what.into(), code };
        match this.number("format_version")? {
            Some(FORMAT) => Ok(this),
            Some(other) => Err(Error::corrupt(format!(
                "{}: format version {other}; this program knows version {FORMAT}",
                this.what
            ))
            .with_code("newer-format")),
            None => Err(this.corrupt("attribute format_version is missing")),
        }
    }

    /// An error of this item.
    pub(super) fn corrupt(&self, why: &str) -> Error {
        Error::corrupt(format!("{}: {why}", self.what)).with_code(self.code)
    }

    fn typed(&self, name: &str, letter: &str) -> Result<Option<&'a str>> {
        match self.item.get(name) {
            None => Ok(None),
            Some(value) => match value.get(letter).and_then(Value::as_str) {
                Some(text) => Ok(Some(text)),
                None => Err(self.corrupt(&format!("attribute {name} is not of type {letter}"))),
            },
        }
    }

    fn missing(&self, name: &str) -> Error {
        self.corrupt(&format!("attribute {name} is missing"))
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>> {
        Ok(self.typed(name, "S")?.map(str::to_owned))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>> {
        let parse = |text: &str| {
            text.parse().map_err(|_| self.corrupt(&format!("attribute {name} is no whole number from 0 on")))
        };
        self.typed(name, "N")?.map(parse).transpose()
    }

    pub(super) fn binary(&self, name: &str) -> Result<Option<Bytes>> {
        let decode = |text: &str| {
            STANDARD
                .decode(text)
                .map(Bytes::from)
                .map_err(|_| self.corrupt(&format!("attribute {name} is not in base64")))
        };
        self.typed(name, "B")?.map(decode).transpose()
    }

    fn id(&self, name: &str) -> Result<Option<u128>> {
        let Some(bytes) = self.binary(name)? else { return Ok(None) };
        let id = <[u8; 16]>::try_from(&bytes[..]);
        id.map(|id| Some(u128::from_be_bytes(id)))
            .map_err(|_| self.corrupt(&format!("attribute {name} has {} bytes, not 16", bytes.len())))
    }

    fn kept(&self, name: &str) -> Result<Kept> {
        if let Some(frame) = self.binary(name)? {
            return Ok(Kept::Here(frame));
        }
        let far = format!("{name}_far");
        let bytes = self.binary(&far)?.ok_or_else(|| self.missing(name))?;
        Ok(Kept::Far(Far::decode(bytes, &self.what, self.code)?))
    }

    /// The sequence in the key.
    fn sk(&self) -> Result<Seq> {
        Ok(Seq(self.number("sk")?.ok_or_else(|| self.missing("sk"))?))
    }

    /// As an edit: its sequence, and where its frame is.
    pub(super) fn edit(&self) -> Result<(Seq, Kept)> {
        Ok((self.sk()?, self.kept("edit")?))
    }

    /// As a record: its write id, and where its frame is.
    pub(super) fn record(&self) -> Result<(u128, Kept)> {
        let write_id = self.id("write_id")?.ok_or_else(|| self.missing("write_id"))?;
        Ok((write_id, self.kept("record")?))
    }

    /// As the head of a table's log.
    pub(super) fn head(&self) -> Result<Head> {
        let last = match (self.number("log_seq")?, self.id("log_commit")?) {
            (None, None) => None,
            (Some(seq), Some(commit_id)) => Some((Seq(seq), CommitId(commit_id))),
            (None, Some(_)) => return Err(self.missing("log_seq")),
            (Some(_), None) => return Err(self.missing("log_commit")),
        };
        let snapshot = self.binary("snap_ref")?.map(|bytes| decode_head(&self.what, bytes)).transpose()?;
        if snapshot.as_ref().map(|snapshot| snapshot.seq.0) != self.number("snap_seq")? {
            return Err(self.corrupt("attributes snap_seq and snap_ref name different snapshots"));
        }
        Ok(Head { last, snapshot, swept: Seq(self.number("swept_seq")?.unwrap_or(0)) })
    }
}

/// The values of a head's snapshot: `snap_seq` and `snap_ref`.
pub(super) fn snapshot_values(snapshot: &SnapshotRef) -> (Value, Value) {
    (number(snapshot.seq.0), binary(&encode_head(snapshot)))
}
