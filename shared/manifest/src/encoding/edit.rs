//! The bytes of an edit.
//!
//! ```text
//! edit = version  at_micros  count  (ordinal length content)*  crc
//! ```

use super::wire::{In, Out};
use super::{VERSION, changes, newer};
use crate::Edit;
use bytes::Bytes;
use nacre_types::{Error, Result};

impl Edit {
    /// The bytes of the edit: the body of an appended edit.
    pub fn encode(&self) -> Bytes {
        let mut out = Out::default();
        out.u8(VERSION);
        out.zigzag(self.at_micros);
        out.len(self.changes.len());
        for change in &self.changes {
            let mut content = Out::default();
            changes::write(&mut content, change);
            out.varint(changes::ordinal(change));
            out.bytes(&content.0);
        }
        out.sealed()
    }

    /// Reads an edit.
    ///
    /// # Errors
    /// `Corrupt` (`edit-corrupt`); `Corrupt` with code `newer-format` for a version or kind of change that this
    /// program does not know: the reader of the table stops, it never skips.
    pub fn decode(bytes: &Bytes) -> Result<Self> {
        let corrupt = |what: &str| {
            Error::corrupt(format!("an edit of {} bytes: {what}", bytes.len())).with_code("edit-corrupt")
        };
        let mut input = In::unsealed(bytes).ok_or_else(|| corrupt("the checksum does not match"))?;
        match input.u8() {
            VERSION => {}
            0 => return Err(corrupt("format version 0 was never written")),
            version => return Err(newer(format_args!("format version {version} of an edit"))),
        }
        let at_micros = input.zigzag();
        let count = input.count(2);
        let mut list = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            let ordinal = input.varint();
            let mut content = In::new(input.bytes());
            if !input.is_ok() {
                break;
            }
            let change = changes::read(ordinal, &mut content)
                .ok_or_else(|| newer(format_args!("a change of kind {ordinal}")))?;
            if !content.is_done() {
                return Err(corrupt(&format!("its change of kind {ordinal} does not parse")));
            }
            list.push(change);
        }
        if !input.is_done() {
            return Err(corrupt("it does not parse"));
        }
        Ok(Self { changes: list, at_micros })
    }
}
