//! The open row group: its column chunks, and the blocks that wait for their place in the file.

use super::chunk::Chunk;
use super::failed;
use crate::codec::Compressor;
use crate::index::{BlockPages, Column, IndexBuilder};
use crate::row::{SegmentRow, WriterSettings};
use bytes::Bytes;
use nacre_types::{Result, successor};
use parquet::basic::{BoundaryOrder, Encoding, Type as Physical};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder};
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnDescPtr;
use std::io;

/// Bounds in statistics are cut to this many bytes.
const BOUND_BYTES: usize = 64;

/// The open row group.
#[derive(Debug)]
pub(super) struct Group {
    compressor: Compressor,
    compression: crate::Codec,
    /// By [`Column`] ordinal, without the place if there is none.
    chunks: Vec<Chunk>,
    blocks: Vec<OpenBlock>,
    rows: u64,
    raw_bytes: usize,
    open_rows: u32,
    open_bytes: usize,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
}

/// A block whose pages are encoded and whose place in the file is not known yet.
#[derive(Debug)]
struct OpenBlock {
    rows: u32,
    largest_page: u32,
    checksum: u32,
    /// Bounds of the keys, cut to 64 bytes.
    min_key: Vec<u8>,
    max_key: Vec<u8>,
    min_is_exact: bool,
    max_is_exact: bool,
}

impl Group {
    pub(super) fn new(settings: &WriterSettings) -> Result<Self> {
        let columns = if settings.with_place { 5 } else { 4 };
        Ok(Self {
            compressor: Compressor::new(settings.compression)?,
            compression: settings.compression,
            chunks: (0..columns).map(|column| Chunk::new(column >= Column::ExpiresAt as usize)).collect(),
            blocks: Vec::new(),
            rows: 0,
            raw_bytes: 0,
            open_rows: 0,
            open_bytes: 0,
            first_key: Vec::new(),
            last_key: Vec::new(),
        })
    }

    /// Whether the open block must end before a row of this size.
    #[inline]
    pub(super) fn block_is_full(&self, settings: &WriterSettings, row_bytes: usize) -> bool {
        self.open_rows >= settings.rows_per_page
            || (self.open_rows > 0 && self.open_bytes + row_bytes > settings.page_bytes as usize)
    }

    /// Whether the group, whose last block has ended, must end before a row of this size.
    pub(super) fn is_full(&self, settings: &WriterSettings, row_bytes: usize) -> bool {
        // Blocks that ended early may leave fewer rows than a whole block to the group's limit.
        let rows = self.rows + u64::from(settings.rows_per_page);
        self.rows > 0
            && (rows > u64::from(settings.rows_per_group)
                || self.raw_bytes + row_bytes > settings.group_bytes as usize)
    }

    #[inline]
    pub(super) fn push(&mut self, row: &SegmentRow<'_>) {
        if let [key, version, expires, value, rest @ ..] = &mut self.chunks[..] {
            key.push_bytes(row.key);
            version.push_i64(row.version);
            match row.expires_at {
                Some(expires_at) => expires.push_i64(expires_at),
                None => expires.push_null(),
            }
            match row.value {
                Some(bytes) => value.push_bytes(bytes),
                None => value.push_null(),
            }
            if let [places] = rest {
                match row.place {
                    Some(place) => places.push_i64(place.to_i64()),
                    None => places.push_null(),
                }
            }
        }
        if self.open_rows == 0 {
            self.first_key.clear();
            self.first_key.extend_from_slice(row.key);
        }
        self.open_rows += 1;
        self.open_bytes += row.key.len() + row.value.map_or(0, <[u8]>::len);
    }

    /// Encodes the pages of the open block.
    pub(super) fn end_block(&mut self, index: &mut IndexBuilder) -> Result<()> {
        index.end_rows()?;
        self.last_key.clear();
        self.last_key.extend_from_slice(index.last_key());
        let mut largest_page = 0;
        let mut checksum = crc32fast::Hasher::new();
        for chunk in &mut self.chunks {
            largest_page = largest_page.max(chunk.end_page(self.open_rows, &mut self.compressor)?);
            checksum.update(chunk.last_page());
        }
        self.blocks.push(OpenBlock {
            rows: self.open_rows,
            largest_page,
            checksum: checksum.finalize(),
            min_key: lower_bound(&self.first_key),
            max_key: upper_bound(&self.last_key),
            min_is_exact: self.first_key.len() <= BOUND_BYTES,
            max_is_exact: self.last_key.len() <= BOUND_BYTES,
        });
        self.rows += u64::from(self.open_rows);
        self.raw_bytes += self.open_bytes;
        self.open_rows = 0;
        self.open_bytes = 0;
        Ok(())
    }

    /// Bytes encoded and not yet written, and those of the open block before compression.
    pub(super) fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.data.len() as u64).sum::<u64>() + self.open_bytes as u64
    }

    /// Writes the group, whose last block has ended, and tells the index where its pages lie.
    pub(super) fn write<W: io::Write + Send>(
        &mut self,
        file: &mut SerializedFileWriter<W>,
        index: &mut IndexBuilder,
    ) -> Result<()> {
        let mut base = file.bytes_written() as u64;
        let descriptors = file.schema_descr().columns().to_vec();
        let mut pages = vec![BlockPages::default(); self.blocks.len()];
        let mut group = file.next_row_group().map_err(failed)?;
        for (column, (chunk, descriptor)) in self.chunks.iter_mut().zip(descriptors).enumerate() {
            for (block, page) in pages.iter_mut().zip(&chunk.pages) {
                let mut page = *page;
                page.offset += base;
                if let Some(place) = block.pages.get_mut(column) {
                    *place = Some(page);
                }
            }
            base += chunk.data.len() as u64;
            let keys = (column == Column::Key as usize).then_some(&self.blocks[..]);
            let close = close(chunk, descriptor, self.compression, &self.blocks, self.rows, keys)?;
            let capacity = chunk.data.len();
            let data = Bytes::from(std::mem::replace(&mut chunk.data, Vec::with_capacity(capacity)));
            group.append_column(&data, close).map_err(failed)?;
            chunk.pages.clear();
            chunk.uncompressed = 0;
        }
        group.close().map_err(failed)?;
        for (block, pages) in self.blocks.drain(..).zip(pages) {
            let (largest_page, checksum) = (block.largest_page, Some(block.checksum));
            index.place_block(&BlockPages { largest_page, checksum, ..pages })?;
        }
        self.rows = 0;
        self.raw_bytes = 0;
        Ok(())
    }
}

/// What parquet wants to know of a chunk whose bytes begin at offset 0 of a buffer.
fn close(
    chunk: &Chunk,
    descriptor: ColumnDescPtr,
    compression: crate::Codec,
    blocks: &[OpenBlock],
    rows: u64,
    keys: Option<&[OpenBlock]>,
) -> Result<ColumnCloseResult> {
    let bytes = chunk.data.len();
    let mut metadata = ColumnChunkMetaData::builder(descriptor)
        .set_encodings(vec![Encoding::PLAIN, Encoding::RLE])
        .set_compression(super::compression(compression)?)
        .set_total_compressed_size(bytes as i64)
        .set_total_uncompressed_size(chunk.uncompressed as i64)
        .set_num_values(rows as i64)
        .set_data_page_offset(0);
    let mut offsets = OffsetIndexBuilder::new();
    for (page, block) in chunk.pages.iter().zip(blocks) {
        offsets.append_offset_and_size(page.offset as i64, page.length as i32);
        offsets.append_row_count(i64::from(block.rows));
    }
    let mut column_index = None;
    if let Some(blocks) = keys {
        let mut builder = ColumnIndexBuilder::new(Physical::BYTE_ARRAY);
        for block in blocks {
            builder.append(false, block.min_key.clone(), block.max_key.clone(), 0, None);
        }
        builder.set_boundary_order(BoundaryOrder::ASCENDING);
        column_index = Some(builder.build().map_err(failed)?);
        if let (Some(first), Some(last)) = (blocks.first(), blocks.last()) {
            metadata = metadata.set_statistics(statistics(first, last));
        }
    }
    Ok(ColumnCloseResult {
        bytes_written: bytes as u64,
        rows_written: rows,
        metadata: metadata.build().map_err(failed)?,
        bloom_filter: None,
        column_index,
        offset_index: Some(offsets.build()),
    })
}

fn statistics(first: &OpenBlock, last: &OpenBlock) -> Statistics {
    let bounds = ValueStatistics::new(
        Some(ByteArray::from(first.min_key.clone())),
        Some(ByteArray::from(last.max_key.clone())),
        None,
        Some(0),
        false,
    );
    Statistics::ByteArray(bounds.with_min_is_exact(first.min_is_exact).with_max_is_exact(last.max_is_exact))
}

/// A bound that is not above `key`.
fn lower_bound(key: &[u8]) -> Vec<u8> {
    key.get(..BOUND_BYTES).unwrap_or(key).to_vec()
}

/// A bound that is not below `key`: cut, then raised, or whole where it cannot be raised.
fn upper_bound(key: &[u8]) -> Vec<u8> {
    match key.get(..BOUND_BYTES) {
        Some(cut) if cut.len() < key.len() => {
            successor(cut).map_or_else(|| key.to_vec(), |bound| bound.to_vec())
        }
        _ => key.to_vec(),
    }
}
