//! Avro's binary encoding, read by a schema. Every value is counted, those of no bytes too.

use super::schema::{Schema, Type};
use crate::doc::Doc;
use crate::{MAX_DEPTH, MAX_VALUES};

/// Reads one value, to the last byte.
pub(super) fn read(schema: &Schema, bytes: &[u8]) -> Option<Doc> {
    let mut reader = Reader { schema, rest: bytes, depth: 0, values: 0 };
    let doc = reader.value(schema.root()?)?;
    reader.rest.is_empty().then_some(doc)
}

struct Reader<'a> {
    schema: &'a Schema,
    rest: &'a [u8],
    depth: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn long(&mut self) -> Option<i64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.take(1)? else { return None };
            number |= u64::from(byte & 0x7F).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        None
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.long()?).ok()?;
        self.take(length)
    }

    fn text(&mut self) -> Option<String> {
        std::str::from_utf8(self.bytes()?).ok().map(str::to_owned)
    }

    fn at(&mut self, at: usize) -> Option<Doc> {
        let kind = self.schema.get(at)?;
        self.value(kind)
    }

    fn value(&mut self, kind: &'a Type) -> Option<Doc> {
        self.values += 1;
        self.depth += 1;
        if self.values > MAX_VALUES || self.depth > MAX_DEPTH {
            return None;
        }
        let doc = self.read(kind);
        self.depth -= 1;
        doc
    }

    fn read(&mut self, kind: &'a Type) -> Option<Doc> {
        Some(match kind {
            Type::Null => Doc::Null,
            Type::Boolean => match self.take(1)? {
                [0] => Doc::Bool(false),
                [1] => Doc::Bool(true),
                _ => return None,
            },
            Type::Int => Doc::Int(i32::try_from(self.long()?).ok()?.into()),
            Type::Long => Doc::Int(self.long()?.into()),
            Type::Float => Doc::Float(f32::from_le_bytes(self.take(4)?.try_into().ok()?).into()),
            Type::Double => Doc::Float(f64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            Type::Bytes => Doc::Bytes(self.bytes()?.to_vec()),
            Type::Text => Doc::Text(self.text()?),
            Type::Date => Doc::Date(self.long()?),
            Type::Millis => Doc::Moment(self.long()?.checked_mul(1_000)?),
            Type::Micros => Doc::Moment(self.long()?),
            Type::Fixed(size) => Doc::Bytes(self.take(*size)?.to_vec()),
            Type::Decimal { size, scale } => {
                let bytes = match size {
                    Some(size) => self.take(*size)?,
                    None => self.bytes()?,
                };
                decimal(bytes, *scale)?
            }
            Type::Enum(symbols) => Doc::Text(symbols.get(usize::try_from(self.long()?).ok()?)?.clone()),
            Type::Union(branches) => {
                let branch = *branches.get(usize::try_from(self.long()?).ok()?)?;
                self.at(branch)?
            }
            Type::Record(fields) => {
                let mut object = Vec::new();
                for (name, kind) in fields {
                    object.push((name.clone(), self.at(*kind)?));
                }
                Doc::Object(object)
            }
            Type::Array(items) => {
                let mut list = Vec::new();
                while let Some(count) = self.block()? {
                    for _ in 0..count {
                        list.push(self.at(*items)?);
                    }
                }
                Doc::List(list)
            }
            Type::Map(values) => {
                let mut object = Vec::new();
                while let Some(count) = self.block()? {
                    for _ in 0..count {
                        object.push((self.text()?, self.at(*values)?));
                    }
                }
                Doc::Object(object)
            }
        })
    }

    /// How many items the next block has; `Some(None)` = there is no more block.
    fn block(&mut self) -> Option<Option<u64>> {
        let count = self.long()?;
        if count < 0 {
            // Its length in bytes, for who passes over it.
            self.long()?;
        }
        let count = count.unsigned_abs();
        Some((count > 0).then_some(count))
    }
}

/// As text with all its digits: no reader rounds it.
fn decimal(bytes: &[u8], scale: u32) -> Option<Doc> {
    if bytes.len() > 16 {
        return None;
    }
    let start = if bytes.first().is_some_and(|byte| *byte >= 0x80) { -1i128 } else { 0 };
    let unscaled = bytes.iter().fold(start, |number, byte| number << 8 | i128::from(*byte));
    let scale = scale as usize;
    let digits = format!("{:0width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at_checked(digits.len().checked_sub(scale)?)?;
    let sign = if unscaled < 0 { "-" } else { "" };
    let point = if scale == 0 { "" } else { "." };
    Some(Doc::Text(format!("{sign}{whole}{point}{fraction}")))
}
