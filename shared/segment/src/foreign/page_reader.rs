//! Pages of one column chunk for the parquet crate's column readers: read in order through a small window, checked
//! against the caps before they are decompressed, and against their own claims before they are decoded.

use super::footer::corrupt;
use super::pages::{PageHeader, PageKind, read_header_in};
use super::{Caps, ReadAt, codec, delta};
use bytes::Bytes;
use nacre_types::{Error, Result};
use parquet::basic::{Compression, Encoding, Type as PhysicalType};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::schema::types::ColumnDescPtr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Pages of one chunk, in order.
pub(super) struct CheckedPages {
    file: Arc<dyn ReadAt>,
    caps: Arc<Caps>,
    column: ColumnDescPtr,
    compression: Compression,
    at: u64,
    end: u64,
    /// Values that the chunk claims and that were not given yet.
    values_left: u64,
    window: Window,
    /// Values of the pages given since the owner last set it to zero: what bounds a row of a repeated column.
    since_reset: Arc<AtomicU64>,
    dictionary_allowed: bool,
}

/// Bytes read ahead.
struct Window {
    start: u64,
    bytes: Bytes,
    /// How much to read at once.
    size: u64,
}

impl Window {
    fn read(&mut self, file: &dyn ReadAt, range: Range<u64>, end: u64) -> Result<Bytes> {
        let held = self.start..self.start + self.bytes.len() as u64;
        if range.start < held.start || range.end > held.end {
            let stop = range.end.max(range.start.saturating_add(self.size)).min(end.max(range.end));
            self.bytes = file.read_at(range.start..stop)?;
            self.start = range.start;
        }
        let from = (range.start - self.start) as usize;
        let to = (range.end - self.start) as usize;
        if to > self.bytes.len() {
            return Err(corrupt("a read gave fewer bytes than asked for"));
        }
        Ok(self.bytes.slice(from..to))
    }
}

impl CheckedPages {
    /// The pages in `range` of a chunk that claims `values` values.
    #[expect(clippy::too_many_arguments, reason = "one call; each says one thing of the chunk")]
    pub(super) fn new(
        file: Arc<dyn ReadAt>,
        caps: Arc<Caps>,
        column: ColumnDescPtr,
        compression: Compression,
        range: Range<u64>,
        values: u64,
        read_ahead: u64,
        since_reset: Arc<AtomicU64>,
    ) -> Self {
        let window = Window { start: range.start, bytes: Bytes::new(), size: read_ahead };
        Self {
            file,
            caps,
            column,
            compression,
            at: range.start,
            end: range.end,
            values_left: values,
            window,
            since_reset,
            dictionary_allowed: true,
        }
    }

    fn next_page(&mut self) -> Result<Option<Page>> {
        while self.values_left > 0 && self.at < self.end {
            let (file, end) = (&*self.file, self.end);
            let window = &mut self.window;
            let header =
                read_header_in(&mut |range| window.read(file, range, end), self.at, end, &self.caps)?;
            let body_at = self.at + u64::from(header.header_length);
            let next = self.at + header.total_length();
            if header.kind == PageKind::Other {
                self.at = next;
                continue;
            }
            let body = self.window.read(file, body_at..next, end)?;
            self.at = next;
            return self.page(&header, &body).map(Some);
        }
        Ok(None)
    }

    fn page(&mut self, header: &PageHeader, body: &Bytes) -> Result<Page> {
        if header.crc.is_some_and(|crc| crc != crc32fast::hash(body)) {
            return Err(corrupt("a page's checksum does not match its bytes"));
        }
        let buf = decompress_page(self.compression, header, body)?;
        if header.kind == PageKind::Dictionary {
            return self.dictionary(header, buf);
        }
        let values = u64::from(header.values);
        self.values_left = self.values_left.saturating_sub(values);
        self.dictionary_allowed = false;
        let since = self.since_reset.fetch_add(values, Ordering::Relaxed) + values;
        if self.column.max_rep_level() > 0 {
            // A row may go on over any number of pages; everything between two resets is in memory at once.
            let most = self.caps.row_values.max(self.caps.page_values);
            Caps::check("row_values", "the number of values in a few rows of a list", since, most)?;
        }
        self.check_values(header, &buf)?;
        Ok(match header.kind {
            PageKind::V2 => Page::DataPageV2 {
                buf,
                num_values: header.values,
                encoding: header.encoding,
                num_nulls: header.nulls,
                num_rows: header.rows,
                def_levels_byte_len: header.definition_length,
                rep_levels_byte_len: header.repetition_length,
                is_compressed: header.is_compressed,
                statistics: None,
            },
            _ => Page::DataPage {
                buf,
                num_values: header.values,
                encoding: header.encoding,
                def_level_encoding: header.definition_encoding,
                rep_level_encoding: header.repetition_encoding,
                statistics: None,
            },
        })
    }

    fn dictionary(&mut self, header: &PageHeader, buf: Bytes) -> Result<Page> {
        if !std::mem::take(&mut self.dictionary_allowed) {
            return Err(corrupt("a second dictionary page, or one behind data pages"));
        }
        if !matches!(header.encoding, Encoding::PLAIN | Encoding::PLAIN_DICTIONARY) {
            return Err(corrupt(format!("a dictionary in the encoding {}", header.encoding)));
        }
        // The decoder allocates by the number of entries: they must be there.
        let least = match self.column.physical_type() {
            PhysicalType::BOOLEAN => return Err(corrupt("a dictionary of booleans")),
            PhysicalType::INT32 | PhysicalType::FLOAT | PhysicalType::BYTE_ARRAY => 4,
            PhysicalType::INT64 | PhysicalType::DOUBLE => 8,
            PhysicalType::INT96 => 12,
            PhysicalType::FIXED_LEN_BYTE_ARRAY => self.column.type_length().max(1) as u64,
        };
        if u64::from(header.values).saturating_mul(least) > buf.len() as u64 {
            return Err(corrupt(format!("a dictionary of {} entries in {} bytes", header.values, buf.len())));
        }
        Ok(Page::DictionaryPage {
            buf,
            num_values: header.values,
            encoding: header.encoding,
            is_sorted: false,
        })
    }

    /// Checks what the decoders allocate by.
    fn check_values(&self, header: &PageHeader, buf: &[u8]) -> Result<()> {
        if header.kind == PageKind::V2 && header.nulls > header.values {
            return Err(corrupt(format!("a page of {} values with {} nulls", header.values, header.nulls)));
        }
        if !matches!(
            header.encoding,
            Encoding::DELTA_BINARY_PACKED | Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY
        ) {
            return Ok(());
        }
        let values = values_of(&self.column, header, buf)?;
        if values.is_empty() {
            return Ok(());
        }
        let most = u64::from(header.values);
        match header.encoding {
            Encoding::DELTA_BINARY_PACKED => delta::check_packed(values, most),
            Encoding::DELTA_LENGTH_BYTE_ARRAY => delta::check_lengths(values, most),
            _ => delta::check_prefixes(values, most, self.caps.page_bytes),
        }
    }
}

/// The body of a page, decompressed to the size that its checked header said.
fn decompress_page(compression: Compression, header: &PageHeader, body: &Bytes) -> Result<Bytes> {
    let length = header.uncompressed as usize;
    let levels = (header.definition_length + header.repetition_length) as usize;
    if compression == Compression::UNCOMPRESSED || !header.is_compressed {
        if body.len() != length {
            return Err(corrupt(format!(
                "an uncompressed page of {} bytes that claims {length}",
                body.len()
            )));
        }
        return Ok(body.clone());
    }
    let (plain, packed) =
        body.split_at_checked(levels).ok_or_else(|| corrupt("a page shorter than its levels"))?;
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(plain);
    if length > levels {
        codec::decompress(compression, packed, length - levels, &mut out)?;
    }
    Ok(out.into())
}

/// Where the values begin, behind the levels.
fn values_of<'a>(column: &ColumnDescPtr, header: &PageHeader, buf: &'a [u8]) -> Result<&'a [u8]> {
    let short = || corrupt("a page shorter than its levels");
    if header.kind == PageKind::V2 {
        let levels = (header.definition_length + header.repetition_length) as usize;
        return buf.get(levels..).ok_or_else(short);
    }
    let mut rest = buf;
    let bits = |level: i16| usize::try_from(16 - (level as u16).leading_zeros()).unwrap_or(16);
    for (level, encoding) in [
        (column.max_rep_level(), header.repetition_encoding),
        (column.max_def_level(), header.definition_encoding),
    ] {
        if level == 0 {
            continue;
        }
        let length = if encoding == Encoding::RLE {
            let (length, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
            rest = after;
            u32::from_le_bytes(*length) as usize
        } else {
            (header.values as usize * bits(level)).div_ceil(8)
        };
        rest = rest.get(length..).ok_or_else(short)?;
    }
    Ok(rest)
}

fn to_parquet(error: Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl Iterator for CheckedPages {
    type Item = parquet::errors::Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> parquet::errors::Result<Option<Page>> {
        self.next_page().map_err(to_parquet)
    }

    /// Only asked at the end of a page of a repeated column, whether a row may go on in the next.
    fn peek_next_page(&mut self) -> parquet::errors::Result<Option<PageMetadata>> {
        let mut at = self.at;
        while self.values_left > 0 && at < self.end {
            let (file, end) = (&*self.file, self.end);
            let window = &mut self.window;
            let header = read_header_in(&mut |range| window.read(file, range, end), at, end, &self.caps)
                .map_err(to_parquet)?;
            if header.kind == PageKind::Other {
                at += header.total_length();
                continue;
            }
            return Ok(Some(PageMetadata {
                num_rows: (header.kind == PageKind::V2).then_some(header.rows as usize),
                num_levels: Some(header.values as usize),
                is_dict: header.kind == PageKind::Dictionary,
            }));
        }
        Ok(None)
    }

    fn skip_next_page(&mut self) -> parquet::errors::Result<()> {
        Err(ParquetError::NYI("rows are never skipped".into()))
    }
}
