//! Pages of a column chunk: their headers, and a list of them made from the offset index or from the headers.

use super::footer::{Footer, corrupt};
use super::{Caps, ReadAt, thrift};
use nacre_types::Result;
use parquet::basic::Encoding;
use parquet::file::metadata::ColumnChunkMetaData;
use std::ops::Range;

/// What a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageKind {
    Dictionary,
    V1,
    V2,
    /// An index page: never written in practice, skipped.
    Other,
}

/// A page header whose sizes were checked against the caps.
#[derive(Debug, Clone)]
pub(super) struct PageHeader {
    pub(super) kind: PageKind,
    pub(super) header_length: u32,
    pub(super) compressed: u32,
    pub(super) uncompressed: u32,
    pub(super) crc: Option<u32>,
    /// Values, nulls included.
    pub(super) values: u32,
    pub(super) encoding: Encoding,
    pub(super) definition_encoding: Encoding,
    pub(super) repetition_encoding: Encoding,
    /// Of v2 pages alone: nulls, rows, bytes of both kinds of levels, and whether the values are compressed.
    pub(super) nulls: u32,
    pub(super) rows: u32,
    pub(super) definition_length: u32,
    pub(super) repetition_length: u32,
    pub(super) is_compressed: bool,
}

impl PageHeader {
    /// Header and body.
    pub(super) fn total_length(&self) -> u64 {
        u64::from(self.header_length) + u64::from(self.compressed)
    }
}

fn encoding(number: i32) -> Result<Encoding> {
    Ok(match number {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        3 => Encoding::RLE,
        #[expect(deprecated, reason = "old files have it")]
        4 => Encoding::BIT_PACKED,
        5 => Encoding::DELTA_BINARY_PACKED,
        6 => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        7 => Encoding::DELTA_BYTE_ARRAY,
        8 => Encoding::RLE_DICTIONARY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        _ => return Err(corrupt(format!("a page of the unknown encoding {number}"))),
    })
}

/// Parses the header at the beginning of `bytes`; `None` where they end within it.
fn parse_header(bytes: &[u8], caps: &Caps) -> Result<Option<PageHeader>> {
    let (raw, length) = match thrift::page_header(bytes) {
        Ok(parsed) => parsed,
        Err(thrift::Broken::Short) => return Ok(None),
        Err(broken) => return Err(nacre_types::Error::from(broken).context("page header")),
    };
    let number = |what: &str, number: i32| {
        u32::try_from(number).map_err(|_| corrupt(format!("a page header with {number} as its {what}")))
    };
    let kind = match (raw.kind, raw.body) {
        (0, Some(0)) => PageKind::V1,
        (2, Some(2)) => PageKind::Dictionary,
        (3, Some(3)) => PageKind::V2,
        (1, _) => PageKind::Other,
        _ => return Err(corrupt(format!("a page of the unknown kind {}", raw.kind))),
    };
    let v1 = kind == PageKind::V1;
    let header = PageHeader {
        kind,
        header_length: length as u32,
        compressed: number("compressed size", raw.compressed_size)?,
        uncompressed: number("uncompressed size", raw.uncompressed_size)?,
        crc: raw.crc,
        values: number("number of values", raw.num_values)?,
        encoding: encoding(raw.encoding)?,
        definition_encoding: if v1 { encoding(raw.definition_encoding)? } else { Encoding::RLE },
        repetition_encoding: if v1 { encoding(raw.repetition_encoding)? } else { Encoding::RLE },
        nulls: number("number of nulls", raw.num_nulls)?,
        rows: number("number of rows", raw.num_rows)?,
        definition_length: number("length of levels", raw.definition_length)?,
        repetition_length: number("length of levels", raw.repetition_length)?,
        is_compressed: raw.is_compressed,
    };
    caps.check_page(u64::from(header.compressed), u64::from(header.uncompressed))?;
    Caps::check("page_values", "a page's number of values", u64::from(header.values), caps.page_values)?;
    let levels = u64::from(header.definition_length) + u64::from(header.repetition_length);
    if levels > u64::from(header.uncompressed) || levels > u64::from(header.compressed) {
        return Err(corrupt(format!(
            "a page of {} bytes with {levels} bytes of levels",
            header.uncompressed
        )));
    }
    Ok(Some(header))
}

/// Reads the header of the page at `at`, whose chunk ends at `end`.
pub(super) fn read_header(file: &dyn ReadAt, at: u64, end: u64, caps: &Caps) -> Result<PageHeader> {
    read_header_in(&mut |range| file.read_at(range), at, end, caps)
}

/// Likewise, through a buffer of the caller's.
pub(super) fn read_header_in(
    read: &mut dyn FnMut(Range<u64>) -> Result<bytes::Bytes>,
    at: u64,
    end: u64,
    caps: &Caps,
) -> Result<PageHeader> {
    let mut window = 256u64;
    loop {
        let stop = at.saturating_add(window).min(end);
        let bytes = read(at..stop)?;
        if let Some(header) = parse_header(&bytes, caps)? {
            if at + header.total_length() > end {
                return Err(corrupt(format!("the page at byte {at} reaches beyond its column chunk")));
            }
            return Ok(header);
        }
        if stop == end {
            return Err(corrupt(format!("the page header at byte {at} ends beyond its column chunk")));
        }
        Caps::check("page_header_bytes", "a page header's length", window * 4, caps.page_header_bytes)?;
        window *= 4;
    }
}

/// One data page of a flat column.
#[derive(Debug, Clone)]
pub(super) struct PageEntry {
    pub(super) offset: u64,
    /// Header and body.
    pub(super) length: u32,
    /// First row within the row group.
    pub(super) first_row: u64,
    pub(super) rows: u64,
    /// `None` where only the offset index was read.
    pub(super) header: Option<PageHeader>,
}

/// The pages of one chunk of a flat column.
#[derive(Debug, Default)]
pub(super) struct ChunkPages {
    pub(super) dictionary: Option<(Range<u64>, PageHeader)>,
    pub(super) pages: Vec<PageEntry>,
    pub(super) from_index: bool,
}

/// Lists the pages of a chunk whose column is flat (no repetition: a value is a row). `headers`: read every page's
/// header even where an offset index says where the pages are.
///
/// The offset index is a claim. It is used where it is consistent (the pages follow each other without a gap and fill
/// the chunk, the rows rise and end with the group's), otherwise it is ignored and the headers are walked.
pub(super) fn pages_of(
    file: &dyn ReadAt,
    footer: &Footer,
    chunk: &ColumnChunkMetaData,
    group_rows: u64,
    caps: &Caps,
    headers: bool,
) -> Result<ChunkPages> {
    let range = footer.chunk_range(chunk)?;
    if let Some(mut pages) = from_offset_index(file, footer, chunk, &range, group_rows, caps)? {
        if headers {
            for page in &mut pages.pages {
                let header = read_header(file, page.offset, page.offset + u64::from(page.length), caps)?;
                if header.total_length() != u64::from(page.length) || u64::from(header.values) != page.rows {
                    return walk(file, range, group_rows, caps);
                }
                page.header = Some(header);
            }
        }
        return Ok(pages);
    }
    walk(file, range, group_rows, caps)
}

fn from_offset_index(
    file: &dyn ReadAt,
    footer: &Footer,
    chunk: &ColumnChunkMetaData,
    range: &Range<u64>,
    group_rows: u64,
    caps: &Caps,
) -> Result<Option<ChunkPages>> {
    let place = chunk.offset_index_offset().zip(chunk.offset_index_length());
    let Some((offset, length)) =
        place.and_then(|(o, l)| Some((u64::try_from(o).ok()?, u64::try_from(l).ok()?)))
    else {
        return Ok(None);
    };
    let span = offset..offset.saturating_add(length);
    if length == 0 || span.end > footer.data_end || length > caps.footer_bytes {
        return Ok(None);
    }
    let Ok(locations) = thrift::offset_index(&file.read_at(span)?, caps.pages) else { return Ok(None) };
    let mut pages = ChunkPages { from_index: true, ..ChunkPages::default() };
    let mut next = match locations.first() {
        Some(first) if first.offset as u64 > range.start => {
            // What lies before the first data page is the dictionary.
            let first = first.offset as u64;
            if first > range.end {
                return Ok(None);
            }
            let header = read_header(file, range.start, first, caps)?;
            if header.kind != PageKind::Dictionary || range.start + header.total_length() != first {
                return Ok(None);
            }
            pages.dictionary = Some((range.start..first, header));
            first
        }
        Some(_) => range.start,
        None => return Ok(None),
    };
    for (at, location) in locations.iter().enumerate() {
        let first_row = location.first_row as u64;
        let end_row = locations.get(at + 1).map_or(group_rows, |after| after.first_row as u64);
        let Ok(length) = u32::try_from(location.size) else { return Ok(None) };
        if location.offset as u64 != next
            || end_row <= first_row
            || end_row > group_rows
            || (at == 0 && first_row != 0)
        {
            return Ok(None);
        }
        pages.pages.push(PageEntry {
            offset: next,
            length,
            first_row,
            rows: end_row - first_row,
            header: None,
        });
        next += u64::from(length);
    }
    Ok((next == range.end).then_some(pages))
}

fn walk(file: &dyn ReadAt, range: Range<u64>, group_rows: u64, caps: &Caps) -> Result<ChunkPages> {
    let mut pages = ChunkPages::default();
    let (mut at, mut row) = (range.start, 0u64);
    while row < group_rows {
        if at >= range.end {
            return Err(corrupt(format!("a column chunk ends at row {row} of {group_rows}")));
        }
        let header = read_header(file, at, range.end, caps)?;
        let next = at + header.total_length();
        match header.kind {
            PageKind::Other => {}
            PageKind::Dictionary if at == range.start => pages.dictionary = Some((at..next, header)),
            PageKind::Dictionary => return Err(corrupt("a dictionary page behind data pages")),
            PageKind::V1 | PageKind::V2 => {
                let rows = u64::from(header.values);
                if header.kind == PageKind::V2 && header.rows != header.values {
                    return Err(corrupt("a page of a flat column with more values than rows"));
                }
                Caps::check("pages", "the number of pages", pages.pages.len() as u64 + 1, caps.pages)?;
                pages.pages.push(PageEntry {
                    offset: at,
                    length: u32::try_from(next - at).unwrap_or(u32::MAX),
                    first_row: row,
                    rows,
                    header: Some(header),
                });
                row += rows;
            }
        }
        at = next;
    }
    if row != group_rows {
        return Err(corrupt(format!("a column chunk has {row} rows in a row group of {group_rows}")));
    }
    Ok(pages)
}
