//! Writing segments.
//!
//! Pages are encoded here and handed to parquet's [`SerializedFileWriter`] as whole column chunks
//! (`append_column`); row group metadata, page indexes and footer are its work. Encoding them here is no luxury: the
//! crate's column writers write no page checksums, cut pages by limits that are checked per batch and per column (a
//! block must have the same rows in every column, and must end early where values are large), and copy every key and
//! value into an object of its own.
//!
//! A row group is buffered encoded, column by column, because Parquet lays a group out by columns and its pages' places
//! are known only when the group ends. So a writer holds about [`WriterSettings::group_bytes`], the index so far (about
//! 10 bytes a row while it is built) and what the crate keeps of every group for the footer (2 KB).
//!
//! The bytes are a function of rows and settings: no clock, no randomness, nothing of the machine.

mod chunk;
mod group;
use crate::index::{BLOCK_ROWS, Column, ColumnLayout, IndexBuilder, Layout, shown};
use crate::row::{IndexSpan, SegmentRow, SegmentSummary, WriterSettings};
use bytes::Bytes;
use group::Group;
use nacre_types::{Error, Place, Result, limits};
use parquet::basic::{Compression, Repetition, Type as Physical, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use std::cmp::Reverse;
use std::io;
use std::sync::Arc;

/// Writes one segment.
pub struct SegmentWriter<W: io::Write + Send> {
    file: SerializedFileWriter<Counted<W>>,
    settings: WriterSettings,
    index: IndexBuilder,
    group: Group,
    /// Version and place of the last row.
    last_rank: (i64, Option<Place>),
    tombstones: u64,
    raw_bytes: u64,
    min_key: Bytes,
    min_version: i64,
    max_version: i64,
    /// `None` once a row had none.
    max_expires_at: Option<i64>,
}

impl<W: io::Write + Send> SegmentWriter<W> {
    /// Starts a file in `inner`.
    ///
    /// # Errors
    /// `Invalid` (`segment-settings`), `Unavailable` (`segment-write`) when `inner` fails.
    pub fn new(inner: W, settings: WriterSettings) -> Result<Self> {
        check(&settings)?;
        let schema = Arc::new(schema(settings.with_place)?);
        let column = |optional| Some(ColumnLayout { optional, codec: settings.compression, fixed_length: 0 });
        let place = if settings.with_place { column(true) } else { None };
        let layout = Layout {
            columns: [column(false), column(false), column(true), column(true), place],
            default_version: 0,
        };
        let inner = Counted { inner, bytes: 0 };
        let file =
            SerializedFileWriter::new(inner, schema, Arc::new(properties(&settings)?)).map_err(failed)?;
        Ok(Self {
            group: Group::new(&settings)?,
            file,
            index: IndexBuilder::new(layout)?,
            last_rank: (0, None),
            tombstones: 0,
            raw_bytes: 0,
            min_key: Bytes::new(),
            min_version: i64::MAX,
            max_version: i64::MIN,
            max_expires_at: Some(i64::MIN),
            settings,
        })
    }

    /// Appends one row: key ascending, then version descending, then place descending; equal ones are allowed.
    ///
    /// # Errors
    /// `Invalid` (`rows-out-of-order`, `key-empty`, `key-too-long`, `value-too-long`): the row was not taken, the writer
    /// goes on. `Unavailable` (`segment-write`): the file is lost.
    pub fn push(&mut self, row: &SegmentRow<'_>) -> Result<()> {
        let value_bytes = row.value.map_or(0, <[u8]>::len);
        if value_bytes > limits::VALUE_BYTES {
            return Err(Error::invalid(format!(
                "the value has {value_bytes} bytes; the limit value_bytes is {}",
                limits::VALUE_BYTES
            ))
            .with_code("value-too-long"));
        }
        let rank = (row.version, if self.settings.with_place { row.place } else { None });
        if row.key == self.index.last_key() && Reverse(rank) < Reverse(self.last_rank) {
            return Err(Error::invalid(format!(
                "row {}: {rank:?} of key {:?} comes after {:?}; rows of a key fall by version, then place",
                self.index.rows(),
                shown(row.key),
                self.last_rank
            ))
            .with_code("rows-out-of-order"));
        }
        // Before the row is named to the index, so that it is the first of the next block.
        let row_bytes = row.key.len() + value_bytes;
        if self.group.block_is_full(&self.settings, row_bytes) {
            nacre_types::Key::check(row.key)?;
            self.group.end_block(&mut self.index)?;
            if self.group.is_full(&self.settings, row_bytes) {
                self.group.write(&mut self.file, &mut self.index)?;
            }
        }
        self.index.push_key(row.key)?;
        self.group.push(row);
        self.last_rank = rank;
        self.tombstones += u64::from(row.value.is_none());
        self.raw_bytes += (row_bytes + 16) as u64;
        if self.min_key.is_empty() {
            self.min_key = Bytes::copy_from_slice(row.key);
        }
        self.min_version = self.min_version.min(row.version);
        self.max_version = self.max_version.max(row.version);
        self.max_expires_at = self.max_expires_at.zip(row.expires_at).map(|(a, b)| a.max(b));
        Ok(())
    }

    /// Rows taken so far.
    pub fn rows(&self) -> u64 {
        self.index.rows()
    }

    /// Bytes written so far, and buffered ones of the open row group as they will be written: what a caller compares
    /// with the size at which it starts another segment. The index (about 1.5 bytes a row) and the footer come on top.
    pub fn bytes_written(&self) -> u64 {
        self.file.bytes_written() as u64 + self.group.bytes()
    }

    /// Writes the rest, the index and the footer.
    ///
    /// # Errors
    /// `Invalid` (`segment-empty`) without rows, `Unavailable` (`segment-write`) when the writer fails.
    pub fn finish(mut self) -> Result<(W, SegmentSummary)> {
        let rows = self.index.rows();
        if rows == 0 {
            return Err(Error::invalid("a segment has at least one row").with_code("segment-empty"));
        }
        if self.index.open_rows() > 0 {
            self.group.end_block(&mut self.index)?;
        }
        self.group.write(&mut self.file, &mut self.index)?;
        let max_key = Bytes::copy_from_slice(self.index.last_key());
        let index = self.index.finish()?.encode();
        let span = IndexSpan { offset: self.file.bytes_written() as u64, length: index.len() as u64 };
        self.file.write_all(&index).map_err(|e| failed(e.into()))?;
        // For tools that have the file and no manifest.
        let value = format!("{}+{}", span.offset, span.length);
        self.file.append_key_value_metadata(KeyValue::new("nacre.index".to_owned(), value));
        let mut file = self.file.into_inner().map_err(failed)?;
        io::Write::flush(&mut file).map_err(|e| failed(e.into()))?;
        let summary = SegmentSummary {
            rows,
            tombstones: self.tombstones,
            bytes: file.bytes,
            raw_bytes: self.raw_bytes,
            min_key: self.min_key,
            max_key,
            min_version: self.min_version,
            max_version: self.max_version,
            max_expires_at: self.max_expires_at,
            index: span,
            with_place: self.settings.with_place,
        };
        Ok((file.inner, summary))
    }
}

impl<W: io::Write + Send> std::fmt::Debug for SegmentWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentWriter")
            .field("rows", &self.index.rows())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

fn check(settings: &WriterSettings) -> Result<()> {
    let wrong = |detail: String| Err(Error::invalid(detail).with_code("segment-settings"));
    let page = settings.rows_per_page;
    if page == 0 || page as usize > BLOCK_ROWS {
        return wrong(format!("rows_per_page is {page}; 1 to {BLOCK_ROWS} fit"));
    }
    if settings.rows_per_group < page || !settings.rows_per_group.is_multiple_of(page) {
        return wrong(format!(
            "rows_per_group is {}, no multiple of rows_per_page {page}",
            settings.rows_per_group
        ));
    }
    // The gap that a fetch plan bridges must hold any group, so that a native block is one GET.
    if settings.group_bytes > 1 << 20 || settings.page_bytes > settings.group_bytes {
        return wrong(format!(
            "page_bytes {} ≤ group_bytes {} ≤ {} does not hold",
            settings.page_bytes,
            settings.group_bytes,
            1 << 20
        ));
    }
    Ok(())
}

fn schema(with_place: bool) -> Result<Type> {
    let field = |column: Column, physical, repetition| {
        Type::primitive_type_builder(column.name(), physical)
            .with_repetition(repetition)
            .build()
            .map(Arc::new)
    };
    let (required, optional) = (Repetition::REQUIRED, Repetition::OPTIONAL);
    let mut fields = vec![
        field(Column::Key, Physical::BYTE_ARRAY, required),
        field(Column::Version, Physical::INT64, required),
        field(Column::ExpiresAt, Physical::INT64, optional),
        field(Column::Value, Physical::BYTE_ARRAY, optional),
    ];
    if with_place {
        fields.push(field(Column::Place, Physical::INT64, optional));
    }
    let fields = fields.into_iter().collect::<std::result::Result<_, _>>().map_err(failed)?;
    Type::group_type_builder("segment").with_fields(fields).build().map_err(failed)
}

fn properties(settings: &WriterSettings) -> Result<WriterProperties> {
    let sorting = |column_idx, descending| SortingColumn { column_idx, descending, nulls_first: false };
    let mut order = vec![sorting(0, false), sorting(1, true)];
    if settings.with_place {
        order.push(sorting(Column::Place as i32, true));
    }
    Ok(WriterProperties::builder()
        .set_created_by("nacre segment version 1".to_owned())
        .set_compression(compression(settings.compression)?)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_sorting_columns(Some(order))
        .build())
}

fn compression(codec: crate::Codec) -> Result<Compression> {
    Ok(match codec {
        crate::Codec::None => Compression::UNCOMPRESSED,
        crate::Codec::Snappy => Compression::SNAPPY,
        crate::Codec::Gzip => Compression::GZIP(Default::default()),
        crate::Codec::Zstd => Compression::ZSTD(ZstdLevel::try_new(1).map_err(failed)?),
        crate::Codec::Lz4Raw => Compression::LZ4_RAW,
    })
}

/// Counts what reaches the writer: the file writer gives it back only when it no longer says how much that was.
struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: io::Write> io::Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The file could not be written: nothing of it is referenced yet, so nothing had an effect.
fn failed(error: ParquetError) -> Error {
    Error::unavailable(format!("writing the segment failed: {error}")).with_code("segment-write")
}
