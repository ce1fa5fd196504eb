//! Thrift's two protocols, read into values. Bounded: every value takes at least a byte or is counted, lists grow as they
//! are read and not as they say, and nesting ends at [`crate::MAX_DEPTH`].

use crate::{MAX_DEPTH, MAX_VALUES};

/// A value of any type. Sets are lists.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Struct(Vec<(i16, Value)>),
}

pub(super) struct Reader<'a> {
    rest: &'a [u8],
    depth: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, depth: 0, values: 0 }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let number = self.varint()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn count(&mut self, count: usize) -> Option<usize> {
        self.values = self.values.checked_add(count)?;
        (self.values <= MAX_VALUES && count <= self.rest.len()).then_some(count)
    }

    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.depth += 1;
        let found = if self.depth <= MAX_DEPTH { read(self) } else { None };
        self.depth -= 1;
        found
    }
}

/// TBinaryProtocol: big-endian numbers of full width.
impl Reader<'_> {
    pub(super) fn binary_struct(&mut self) -> Option<Value> {
        self.nested(|reader| {
            let mut fields = Vec::new();
            loop {
                let kind = reader.byte()?;
                if kind == 0 {
                    return Some(Value::Struct(fields));
                }
                reader.count(1)?;
                let id = i16::from_be_bytes(reader.array()?);
                fields.push((id, reader.binary(kind)?));
            }
        })
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(i32::from_be_bytes(self.array()?)).ok()
    }

    fn binary(&mut self, kind: u8) -> Option<Value> {
        Some(match kind {
            2 => match self.byte()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return None,
            },
            3 => Value::Int(i64::from(self.byte()? as i8)),
            4 => Value::Double(f64::from_be_bytes(self.array()?)),
            6 => Value::Int(i16::from_be_bytes(self.array()?).into()),
            8 => Value::Int(i32::from_be_bytes(self.array()?).into()),
            10 => Value::Int(i64::from_be_bytes(self.array()?)),
            11 => {
                let length = self.length()?;
                Value::Bytes(self.take(length)?.to_vec())
            }
            12 => self.binary_struct()?,
            13 => {
                let (key, value) = (self.byte()?, self.byte()?);
                let length = self.length()?;
                let count = self.count(length)?;
                return self.nested(|reader| {
                    let mut pairs = Vec::new();
                    for _ in 0..count {
                        pairs.push((reader.binary(key)?, reader.binary(value)?));
                    }
                    Some(Value::Map(pairs))
                });
            }
            14 | 15 => {
                let kind = self.byte()?;
                let length = self.length()?;
                let count = self.count(length)?;
                return self.nested(|reader| {
                    let mut items = Vec::new();
                    for _ in 0..count {
                        items.push(reader.binary(kind)?);
                    }
                    Some(Value::List(items))
                });
            }
            16 => Value::Bytes(self.take(16)?.to_vec()),
            _ => return None,
        })
    }
}

/// TCompactProtocol: varints, and types and ids of fields in one byte where they fit.
impl Reader<'_> {
    pub(super) fn compact_struct(&mut self) -> Option<Value> {
        self.nested(|reader| {
            let mut fields = Vec::new();
            let mut last = 0i16;
            loop {
                let head = reader.byte()?;
                if head == 0 {
                    return Some(Value::Struct(fields));
                }
                reader.count(1)?;
                let id = match head >> 4 {
                    0 => i16::try_from(reader.zigzag()?).ok()?,
                    more => last.checked_add(i16::from(more))?,
                };
                last = id;
                let value = match head & 0x0F {
                    // A field's boolean is its type.
                    1 => Value::Bool(true),
                    2 => Value::Bool(false),
                    kind => reader.compact(kind)?,
                };
                fields.push((id, value));
            }
        })
    }

    fn size(&mut self) -> Option<usize> {
        usize::try_from(self.varint()?).ok()
    }

    fn compact(&mut self, kind: u8) -> Option<Value> {
        Some(match kind {
            // In a list it is a byte of its own.
            1 | 2 => match self.byte()? {
                1 => Value::Bool(true),
                0 | 2 => Value::Bool(false),
                _ => return None,
            },
            3 => Value::Int(i64::from(self.byte()? as i8)),
            4..=6 => Value::Int(self.zigzag()?),
            7 => Value::Double(f64::from_le_bytes(self.array()?)),
            8 => {
                let length = self.size()?;
                Value::Bytes(self.take(length)?.to_vec())
            }
            9 | 10 => {
                let head = self.byte()?;
                let length = match head >> 4 {
                    15 => self.size()?,
                    short => usize::from(short),
                };
                let count = self.count(length)?;
                return self.nested(|reader| {
                    let mut items = Vec::new();
                    for _ in 0..count {
                        items.push(reader.compact(head & 0x0F)?);
                    }
                    Some(Value::List(items))
                });
            }
            11 => {
                let length = self.size()?;
                if length == 0 {
                    return Some(Value::Map(Vec::new()));
                }
                let kinds = self.byte()?;
                let count = self.count(length)?;
                return self.nested(|reader| {
                    let mut pairs = Vec::new();
                    for _ in 0..count {
                        pairs.push((reader.compact(kinds >> 4)?, reader.compact(kinds & 0x0F)?));
                    }
                    Some(Value::Map(pairs))
                });
            }
            12 => self.compact_struct()?,
            13 => Value::Bytes(self.take(16)?.to_vec()),
            _ => return None,
        })
    }
}
