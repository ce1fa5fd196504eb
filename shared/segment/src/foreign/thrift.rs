//! Thrift's compact protocol, as much of it as page headers and offset indexes need, and a walk over a whole footer
//! that bounds what decoding it can allocate.
//!
//! Source: Apache Thrift, `doc/specs/thrift-compact-protocol.md`. Nothing here allocates by a length that the bytes
//! claim.

use nacre_types::{Error, Result};

/// Nesting beyond this is no Parquet structure.
const MAX_DEPTH: u32 = 32;

const STOP: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

/// A position in thrift bytes.
pub(super) struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Why reading stopped early.
pub(super) enum Broken {
    /// The bytes ended; more of them might help.
    Short,
    /// They are no thrift.
    Wrong,
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        let what = match broken {
            Broken::Short => "ends too early",
            Broken::Wrong => "is not what the Parquet format says",
        };
        Self::corrupt(format!("a thrift structure {what}")).with_code("parquet-corrupt")
    }
}

type Read<T> = std::result::Result<T, Broken>;

impl<'a> Thrift<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    fn byte(&mut self) -> Read<u8> {
        let byte = *self.bytes.get(self.at).ok_or(Broken::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn advance(&mut self, length: u64) -> Read<()> {
        let left = (self.bytes.len() - self.at) as u64;
        if length > left {
            return Err(Broken::Short);
        }
        self.at += length as usize;
        Ok(())
    }

    fn varint(&mut self) -> Read<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Broken::Wrong)
    }

    fn zigzag(&mut self) -> Read<i64> {
        let number = self.varint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// The next field's id and type; `None` at the end of the structure. `last` is the id before it.
    fn field(&mut self, last: &mut i16) -> Read<Option<(i16, u8)>> {
        let head = self.byte()?;
        let kind = head & 0x0F;
        if kind == STOP {
            return Ok(None);
        }
        let delta = head >> 4;
        let id = if delta == 0 {
            i16::try_from(self.zigzag()?).map_err(|_| Broken::Wrong)?
        } else {
            last.checked_add(i16::from(delta)).ok_or(Broken::Wrong)?
        };
        *last = id;
        Ok(Some((id, kind)))
    }

    fn list(&mut self) -> Read<(u64, u8)> {
        let head = self.byte()?;
        let size = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        Ok((size, head & 0x0F))
    }

    fn i32_of(&mut self, kind: u8) -> Read<i32> {
        i32::try_from(self.i64_of(kind)?).map_err(|_| Broken::Wrong)
    }

    fn i64_of(&mut self, kind: u8) -> Read<i64> {
        if matches!(kind, I16 | I32 | I64) { self.zigzag() } else { Err(Broken::Wrong) }
    }

    /// Skips a value of type `kind`; in a list a boolean takes a byte. Counts structures and list elements.
    fn skip(&mut self, kind: u8, in_list: bool, depth: u32, counted: &mut u64) -> Read<()> {
        if depth == 0 {
            return Err(Broken::Wrong);
        }
        match kind {
            TRUE | FALSE if !in_list => Ok(()),
            TRUE | FALSE | BYTE => self.advance(1),
            I16 | I32 | I64 => self.varint().map(drop),
            DOUBLE => self.advance(8),
            UUID => self.advance(16),
            BINARY => {
                let length = self.varint()?;
                self.advance(length)
            }
            LIST | SET => {
                let (size, element) = self.list()?;
                // An element has at least one byte.
                if size > (self.bytes.len() - self.at) as u64 {
                    return Err(Broken::Short);
                }
                for _ in 0..size {
                    self.skip(element, true, depth - 1, counted)?;
                }
                *counted += size;
                Ok(())
            }
            MAP => {
                let size = self.varint()?;
                if size == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                if size > (self.bytes.len() - self.at) as u64 {
                    return Err(Broken::Short);
                }
                for _ in 0..size {
                    self.skip(kinds >> 4, true, depth - 1, counted)?;
                    self.skip(kinds & 0x0F, true, depth - 1, counted)?;
                }
                *counted += size;
                Ok(())
            }
            STRUCT => {
                *counted += 1;
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    self.skip(kind, false, depth - 1, counted)?;
                }
                Ok(())
            }
            _ => Err(Broken::Wrong),
        }
    }
}

/// Walks one whole structure, and gives how many structures and list elements are in it.
pub(super) fn count_structs(bytes: &[u8]) -> Result<u64> {
    let mut counted = 0;
    Thrift::new(bytes).skip(STRUCT, false, MAX_DEPTH, &mut counted)?;
    Ok(counted)
}

/// A page header, as the bytes say it: not yet checked against anything.
#[derive(Debug, Default, Clone)]
pub(super) struct RawPageHeader {
    pub(super) kind: i32,
    pub(super) uncompressed_size: i32,
    pub(super) compressed_size: i32,
    pub(super) crc: Option<u32>,
    pub(super) num_values: i32,
    pub(super) encoding: i32,
    pub(super) definition_encoding: i32,
    pub(super) repetition_encoding: i32,
    pub(super) num_nulls: i32,
    pub(super) num_rows: i32,
    pub(super) definition_length: i32,
    pub(super) repetition_length: i32,
    pub(super) is_compressed: bool,
    /// Which of the four kinds of header was inside: 0 v1, 1 index, 2 dictionary, 3 v2, as in `PageType`.
    pub(super) body: Option<i32>,
}

/// Reads a page header at the beginning of `bytes`, and gives its length.
pub(super) fn page_header(bytes: &[u8]) -> Read<(RawPageHeader, usize)> {
    let mut thrift = Thrift::new(bytes);
    let mut header = RawPageHeader { is_compressed: true, ..RawPageHeader::default() };
    let mut last = 0;
    while let Some((id, kind)) = thrift.field(&mut last)? {
        match id {
            1 => header.kind = thrift.i32_of(kind)?,
            2 => header.uncompressed_size = thrift.i32_of(kind)?,
            3 => header.compressed_size = thrift.i32_of(kind)?,
            4 => header.crc = Some(thrift.i32_of(kind)? as u32),
            5 | 7 | 8 if kind == STRUCT => {
                header.body = Some(if id == 5 { 0 } else { i32::from(id) - 5 });
                page_header_body(&mut thrift, id, &mut header)?;
            }
            _ => thrift.skip(kind, false, MAX_DEPTH, &mut 0)?,
        }
    }
    Ok((header, thrift.position()))
}

fn page_header_body(thrift: &mut Thrift<'_>, which: i16, header: &mut RawPageHeader) -> Read<()> {
    let mut last = 0;
    while let Some((id, kind)) = thrift.field(&mut last)? {
        match (which, id) {
            (_, 1) => header.num_values = thrift.i32_of(kind)?,
            (5 | 7, 2) => header.encoding = thrift.i32_of(kind)?,
            (5, 3) => header.definition_encoding = thrift.i32_of(kind)?,
            (5, 4) => header.repetition_encoding = thrift.i32_of(kind)?,
            (8, 2) => header.num_nulls = thrift.i32_of(kind)?,
            (8, 3) => header.num_rows = thrift.i32_of(kind)?,
            (8, 4) => header.encoding = thrift.i32_of(kind)?,
            (8, 5) => header.definition_length = thrift.i32_of(kind)?,
            (8, 6) => header.repetition_length = thrift.i32_of(kind)?,
            (8, 7) if matches!(kind, TRUE | FALSE) => header.is_compressed = kind == TRUE,
            _ => thrift.skip(kind, false, MAX_DEPTH, &mut 0)?,
        }
    }
    Ok(())
}

/// One entry of an offset index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawLocation {
    pub(super) offset: i64,
    /// Header included.
    pub(super) size: i32,
    pub(super) first_row: i64,
}

/// Reads an offset index of at most `most` pages.
pub(super) fn offset_index(bytes: &[u8], most: u64) -> Result<Vec<RawLocation>> {
    let mut thrift = Thrift::new(bytes);
    let mut locations = Vec::new();
    let mut last = 0;
    while let Some((id, kind)) = thrift.field(&mut last)? {
        if id != 1 || kind != LIST {
            thrift.skip(kind, false, MAX_DEPTH, &mut 0)?;
            continue;
        }
        let (size, element) = thrift.list()?;
        super::Caps::check("pages", "the number of pages in an offset index", size, most)?;
        if element != STRUCT {
            return Err(Broken::Wrong.into());
        }
        for _ in 0..size {
            let mut location = RawLocation { offset: -1, size: -1, first_row: -1 };
            let mut last = 0;
            while let Some((id, kind)) = thrift.field(&mut last)? {
                match id {
                    1 => location.offset = thrift.i64_of(kind)?,
                    2 => location.size = thrift.i32_of(kind)?,
                    3 => location.first_row = thrift.i64_of(kind)?,
                    _ => thrift.skip(kind, false, MAX_DEPTH, &mut 0)?,
                }
            }
            locations.push(location);
        }
    }
    Ok(locations)
}
