//! From fetched bytes to a block.
//!
//! 1. Every page is cut out of what was fetched; where the index has a checksum of the block it must be theirs. It
//!    covers the page headers too, and it is the index's: pages of another block or object, whole in themselves, fail.
//!    Where there is none (adopted files: nobody read the value pages) a page's own checksum counts.
//! 2. Headers are parsed; what they claim is compared with the index (rows) and with its bounds (sizes).
//! 3. Pages are decompressed, each into one buffer, and their values located in it.
//! 4. The block is put together: keys and values are copied once, here.
//! 5. Its first key must be the index's, and the keys of a block without a checksum must be in order.

use crate::block::{Block, Parts};
use crate::encoding::{self, Span};
use crate::error::corrupt_page;
use crate::index::{BlockSpans, Column, ColumnLayout, PageSpan, SegmentIndex, shown};
use crate::page::{self, Encoding, PageHeader, PageKind};
use bytes::Bytes;
use nacre_types::{Error, Result, limits};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::ops::Range;

/// Decodes block number `block` of the segment with this index from what [`SegmentIndex::fetch_plan`] asked for, one
/// `Bytes` per range.
///
/// # Errors
/// `Corrupt` (`page-corrupt`, `block-corrupt`), naming block and column; `Internal` when `fetched` is not what the plan
/// asked for.
pub fn decode_block(index: &SegmentIndex, block: u32, fetched: &[Bytes]) -> Result<Block> {
    let spans = index
        .spans(block)
        .ok_or_else(|| Error::internal(format!("block {block} of {} does not exist", index.block_count())))?;
    let plan = index.fetch_plan(block);
    if plan.len() != fetched.len() || plan.iter().zip(fetched).any(|(p, f)| p.end - p.start != f.len() as u64)
    {
        return Err(Error::internal(format!(
            "block {block}: what was fetched is not what fetch_plan asks for"
        )));
    }
    let decoder = Decoder { index, block, spans, plan, fetched };
    decoder.verify()?;
    decoder.decode()
}

struct Decoder<'a> {
    index: &'a SegmentIndex,
    block: u32,
    spans: BlockSpans,
    plan: SmallVec<[Range<u64>; 1]>,
    fetched: &'a [Bytes],
}

/// A byte-array column: where each row's value lies in `data`.
struct ByteColumn<'a> {
    data: Cow<'a, [u8]>,
    spans: Vec<Span>,
}

/// A column of numbers, one per row, and which rows have one: `None` = all.
type Numbers = (Vec<i64>, Option<Vec<u32>>);

/// The part of a page that holds the values, and which rows have one.
struct Values<'a> {
    data: Cow<'a, [u8]>,
    /// Where the values begin in `data`.
    start: usize,
    encoding: Encoding,
    /// Rows that are not null; `None` = all.
    defined: Option<Vec<u32>>,
    /// How many rows are not null.
    count: usize,
}

impl Values<'_> {
    fn bytes(&self) -> &[u8] {
        self.data.get(self.start..).unwrap_or_default()
    }
}

impl<'a> Decoder<'a> {
    fn rows(&self) -> usize {
        self.index.block_rows(self.block) as usize
    }

    /// Says in an error where it happened.
    #[cold]
    fn locate(&self, column: Column, error: Error) -> Error {
        error.context(format_args!("block {}, column {}", self.block, column.name()))
    }

    /// Compares the block's checksum, where the index has it.
    fn verify(&self) -> Result<()> {
        let Some(expected) = self.index.checksum(self.block) else { return Ok(()) };
        let mut hasher = crc32fast::Hasher::new();
        for page in self.spans.pages.iter().flatten() {
            hasher.update(self.cut(*page)?);
        }
        let got = hasher.finalize();
        if got == expected {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "block {}: its pages have checksum {got:#010x}, the index says {expected:#010x}",
            self.block
        ))
        .with_code("block-corrupt"))
    }

    fn cut(&self, page: PageSpan) -> Result<&'a [u8]> {
        let found = self.plan.iter().zip(self.fetched).find_map(|(range, bytes)| {
            let start = page.offset.checked_sub(range.start)?;
            bytes.get(start as usize..(start + u64::from(page.length)) as usize)
        });
        found.ok_or_else(|| Error::internal(format!("block {}: a page was not fetched", self.block)))
    }

    fn decode(&self) -> Result<Block> {
        let rows = self.rows();
        let keys = self.byte_column(Column::Key)?;
        let values = self.byte_column(Column::Value)?;
        let versions = match self.i64_column(Column::Version)? {
            Some((versions, None)) => versions,
            Some((_, Some(_))) => {
                return Err(self.locate(Column::Version, corrupt_page("a row has no version")));
            }
            None => vec![self.index.layout().default_version; rows],
        };
        let expires = self.i64_column(Column::ExpiresAt)?.map(optional_numbers);
        let expires = expires.filter(|e| e.iter().any(Option::is_some));
        let places = self.i64_column(Column::Place)?.map(|column| {
            optional_numbers(column).into_iter().map(|place| place.unwrap_or(-1)).collect::<Vec<_>>()
        });
        let key_slices = self.key_slices(&keys)?;
        let value_slices: Vec<_> =
            values.spans.iter().map(|span| (!span.is_null()).then(|| span.of(&values.data))).collect();
        let parts = Parts {
            keys: &key_slices,
            versions: &versions,
            expires_at: expires.as_deref(),
            places: places.as_deref(),
            values: &value_slices,
        };
        parts.build().map_err(|e| e.context(format_args!("block {}", self.block)))
    }

    /// The keys, their lengths and their order checked.
    fn key_slices<'k>(&self, keys: &'k ByteColumn<'_>) -> Result<Vec<&'k [u8]>> {
        let slices: Vec<&[u8]> = keys.spans.iter().map(|span| span.of(&keys.data)).collect();
        let wrong = |detail: String| Err(self.locate(Column::Key, corrupt_page(detail)));
        if let Some(key) = slices.iter().find(|key| key.is_empty() || key.len() > limits::KEY_BYTES) {
            return wrong(format!("a key of {} bytes; keys have 1 to {}", key.len(), limits::KEY_BYTES));
        }
        let expected = self.index.block_first_key(self.block).unwrap_or_default();
        let first = slices.first().copied().unwrap_or_default();
        if first != expected {
            return wrong(format!(
                "its first key is {:?}, the index says {:?}",
                shown(first),
                shown(&expected)
            ));
        }
        // What matches the writer's checksum is in the writer's order.
        if self.index.checksum(self.block).is_none() && !slices.is_sorted() {
            return wrong("its keys are not in order".into());
        }
        Ok(slices)
    }

    /// A column of byte arrays; the key and the value are always there.
    fn byte_column(&self, column: Column) -> Result<ByteColumn<'a>> {
        let layout = self.index.layout().column(column);
        let layout = layout.ok_or_else(|| Error::internal("a segment without keys or values"))?;
        self.decode_bytes(column, layout).map_err(|e| self.locate(column, e))
    }

    fn decode_bytes(&self, column: Column, layout: ColumnLayout) -> Result<ByteColumn<'a>> {
        let values = self.values(column, layout)?;
        let rows = self.rows();
        let mut spans = Vec::with_capacity(rows);
        let mut data = None;
        match values.encoding {
            Encoding::Plain => {
                encoding::plain_bytes(values.bytes(), values.count, layout.fixed_length, &mut spans)?
            }
            Encoding::PlainDictionary | Encoding::RleDictionary => {
                let dictionary = self.dictionary(column, layout)?;
                let entries = Self::dictionary_spans(&dictionary, layout.fixed_length)?;
                for index in indexes(&values)? {
                    spans.push(*entries.get(index as usize).ok_or_else(|| beyond(index, entries.len()))?);
                }
                data = Some(dictionary.0);
            }
            Encoding::DeltaLengthByteArray => {
                encoding::delta_length_bytes(values.bytes(), values.count, &mut spans)?;
            }
            Encoding::DeltaByteArray => {
                let most = match column {
                    Column::Key => values.count * limits::KEY_BYTES,
                    _ => crate::block::LARGEST_BLOCK,
                };
                let mut whole = Vec::new();
                encoding::delta_bytes(values.bytes(), values.count, most, &mut spans, &mut whole)?;
                data = Some(Cow::Owned(whole));
            }
            other => return Err(not_taken(other)),
        }
        let in_page = data.is_none();
        if let Some(defined) = &values.defined {
            spans = spread(&spans, defined, Span::NULL);
        }
        if column == Column::Key && values.defined.is_some() {
            return Err(corrupt_page("a key is null"));
        }
        if in_page && values.start > 0 {
            for span in spans.iter_mut().filter(|span| !span.is_null()) {
                span.start += values.start as u32;
            }
        }
        Ok(ByteColumn { data: data.unwrap_or(values.data), spans })
    }

    /// A column of numbers: one per row, and which rows have one (`None` = all); `None` if the file has no such column.
    fn i64_column(&self, column: Column) -> Result<Option<Numbers>> {
        let Some(layout) = self.index.layout().column(column) else { return Ok(None) };
        self.decode_i64(column, layout).map(Some).map_err(|e| self.locate(column, e))
    }

    fn decode_i64(&self, column: Column, layout: ColumnLayout) -> Result<Numbers> {
        let values = self.values(column, layout)?;
        let mut numbers = Vec::with_capacity(self.rows());
        match values.encoding {
            Encoding::Plain => encoding::plain_i64(values.bytes(), values.count, &mut numbers)?,
            Encoding::DeltaBinaryPacked => {
                encoding::delta_i64(values.bytes(), values.count, &mut numbers)?;
            }
            Encoding::PlainDictionary | Encoding::RleDictionary => {
                let (data, count) = self.dictionary(column, layout)?;
                let mut entries = Vec::new();
                encoding::plain_i64(&data, count, &mut entries)?;
                for index in indexes(&values)? {
                    numbers.push(*entries.get(index as usize).ok_or_else(|| beyond(index, entries.len()))?);
                }
            }
            other => return Err(not_taken(other)),
        }
        if let Some(defined) = &values.defined {
            numbers = spread(&numbers, defined, 0);
        }
        Ok((numbers, values.defined))
    }

    /// Parses and decompresses the data page of a column.
    fn values(&self, column: Column, layout: ColumnLayout) -> Result<Values<'a>> {
        let span = self.spans.pages.get(column as usize).copied().flatten();
        let page = self.cut(span.ok_or_else(|| Error::internal("a column without a page"))?)?;
        let (header, body) = self.open(page)?;
        let rows = self.rows();
        if header.values as usize != rows {
            return Err(corrupt_page(format!("the page has {} rows, the index says {rows}", header.values)));
        }
        match header.kind {
            PageKind::Data { encoding, definition_encoding } => {
                let data = layout.codec.decompress(body, header.uncompressed as usize)?;
                let mut start = 0;
                let mut defined = None;
                if layout.optional {
                    let length = data.first_chunk().map(|b| u32::from_le_bytes(*b) as usize);
                    let levels = length.and_then(|length| data.get(4..)?.get(..length));
                    let levels = levels.ok_or_else(|| corrupt_page("the page ends within its levels"))?;
                    if definition_encoding != Encoding::Rle {
                        return Err(corrupt_page("its definition levels are not RLE"));
                    }
                    defined = read_levels(levels, rows)?;
                    start = 4 + levels.len();
                }
                let count = defined.as_ref().map_or(rows, |d| count_defined(d));
                Ok(Values { data, start, encoding, defined, count })
            }
            PageKind::DataV2 {
                encoding,
                nulls,
                rows: v2_rows,
                definition_bytes,
                repetition_bytes,
                compressed,
            } => {
                let levels = definition_bytes as usize;
                if v2_rows as usize != rows || repetition_bytes != 0 || nulls as usize > rows {
                    return Err(corrupt_page("a v2 page whose rows are not its values"));
                }
                let uncompressed = (header.uncompressed as usize).checked_sub(levels);
                let (levels, body) = body
                    .split_at_checked(levels)
                    .ok_or_else(|| corrupt_page("the page ends within its levels"))?;
                let uncompressed =
                    uncompressed.ok_or_else(|| corrupt_page("a v2 page smaller than its levels"))?;
                // Writers store no body at all, not even an empty compressed one, where all values are null.
                let codec = if compressed && !(body.is_empty() && uncompressed == 0) {
                    layout.codec
                } else {
                    crate::Codec::None
                };
                let data = codec.decompress(body, uncompressed)?;
                let defined = if layout.optional { read_levels(levels, rows)? } else { None };
                let count = defined.as_ref().map_or(rows, |d| count_defined(d));
                if count + nulls as usize != rows {
                    return Err(corrupt_page(format!("a v2 page of {nulls} nulls has {}", rows - count)));
                }
                Ok(Values { data, start: 0, encoding, defined, count })
            }
            PageKind::Dictionary { .. } | PageKind::Index => Err(corrupt_page("it is not a data page")),
        }
    }

    /// Parses a page's header and checks sizes and its own checksum; answers header and body.
    fn open<'p>(&self, page: &'p [u8]) -> Result<(PageHeader, &'p [u8])> {
        let (header, length) = page::parse_header(page)?;
        let body = page.get(length..).unwrap_or_default();
        if body.len() != header.compressed as usize {
            return Err(corrupt_page(format!(
                "the header claims {} bytes, the index leaves {}",
                header.compressed,
                body.len()
            )));
        }
        let most = self.index.largest_page();
        if header.uncompressed > most {
            return Err(corrupt_page(format!(
                "the header claims {} uncompressed bytes; the largest page of the segment has {most}",
                header.uncompressed
            )));
        }
        // Where the index has a checksum of the block, that one was compared.
        if let Some(expected) = header.crc.filter(|_| self.index.checksum(self.block).is_none()) {
            let got = crc32fast::hash(body);
            if got != expected {
                return Err(corrupt_page(format!("checksum {got:#010x}, its header says {expected:#010x}")));
            }
        }
        Ok((header, body))
    }

    /// The dictionary of the column's row group, decompressed, and how many entries it has.
    fn dictionary(&self, column: Column, layout: ColumnLayout) -> Result<(Cow<'a, [u8]>, usize)> {
        let span = self.spans.dictionaries.get(column as usize).copied().flatten();
        let span =
            span.ok_or_else(|| corrupt_page("the page refers to a dictionary that the index does not know"))?;
        let (header, body) = self.open(self.cut(span)?)?;
        match header.kind {
            PageKind::Dictionary { encoding: Encoding::Plain | Encoding::PlainDictionary } => {}
            _ => return Err(corrupt_page("its dictionary page is not a plain one")),
        }
        let data = layout.codec.decompress(body, header.uncompressed as usize)?;
        // Every entry takes at least its length or one byte, so that this bounds what is allocated for them.
        if header.values as usize > data.len() {
            return Err(corrupt_page(format!(
                "{} dictionary entries in {} bytes",
                header.values,
                data.len()
            )));
        }
        Ok((data, header.values as usize))
    }

    fn dictionary_spans(dictionary: &(Cow<'_, [u8]>, usize), fixed: u32) -> Result<Vec<Span>> {
        let mut entries = Vec::new();
        encoding::plain_bytes(&dictionary.0, dictionary.1, fixed, &mut entries)?;
        Ok(entries)
    }
}

/// Dictionary indexes: a byte of bit width, then the hybrid.
fn indexes(values: &Values<'_>) -> Result<Vec<u32>> {
    let mut out = Vec::with_capacity(values.count);
    if let Some((width, packed)) = values.bytes().split_first() {
        encoding::hybrid(packed, u32::from(*width), values.count, &mut out)?;
    } else if values.count > 0 {
        return Err(corrupt_page("the page ends before its dictionary indexes"));
    }
    Ok(out)
}

/// Definition levels of an optional flat column; `None` = all rows have a value.
fn read_levels(levels: &[u8], rows: usize) -> Result<Option<Vec<u32>>> {
    let mut out = Vec::with_capacity(rows);
    encoding::hybrid(levels, 1, rows, &mut out)?;
    Ok(out.contains(&0).then_some(out))
}

fn count_defined(levels: &[u32]) -> usize {
    levels.iter().filter(|level| **level != 0).count()
}

/// Puts the values of the rows that have one at their rows.
fn spread<T: Copy>(values: &[T], defined: &[u32], null: T) -> Vec<T> {
    let mut values = values.iter().copied();
    defined.iter().map(|level| if *level == 0 { null } else { values.next().unwrap_or(null) }).collect()
}

fn optional_numbers((numbers, defined): Numbers) -> Vec<Option<i64>> {
    match defined {
        None => numbers.into_iter().map(Some).collect(),
        Some(defined) => {
            numbers.into_iter().zip(defined).map(|(n, level)| (level != 0).then_some(n)).collect()
        }
    }
}

#[cold]
fn beyond(index: u32, entries: usize) -> Error {
    corrupt_page(format!("dictionary index {index} of {entries} entries"))
}

#[cold]
fn not_taken(encoding: Encoding) -> Error {
    corrupt_page(format!("its encoding {encoding:?} is none that is served"))
}
