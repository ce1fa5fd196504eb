//! The footer of a file, bounded before it is decoded, and where its column chunks lie.

use super::{Caps, ReadAt, thrift};
use nacre_types::{Error, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A file's decoded footer.
pub(super) struct Footer {
    pub(super) meta: ParquetMetaData,
    /// Where the footer begins: every page ends before it.
    pub(super) data_end: u64,
}

/// `Corrupt`, with the code of every Parquet file that is not what it claims.
pub(super) fn corrupt(detail: impl Into<String>) -> Error {
    Error::corrupt(detail).with_code("parquet-corrupt")
}

/// An error of the parquet crate.
pub(super) fn from_parquet(error: &parquet::errors::ParquetError) -> Error {
    corrupt(error.to_string())
}

/// Runs a decoder over strangers' bytes: a panic in it means that they are broken, and must not stop the process.
pub(super) fn guarded<T>(decode: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(corrupt("the bytes contradict themselves; decoding them was given up")))
}

/// Reads and checks the footer.
///
/// # Errors
/// `Invalid` for what is no Parquet file, an encrypted one, or one beyond `caps`; `Corrupt` for a broken footer.
pub(super) fn read_footer(file: &dyn ReadAt, caps: &Caps) -> Result<Footer> {
    let length = file.len();
    let not_parquet = || {
        Error::invalid("this is not a Parquet file: it does not begin and end with \"PAR1\"")
            .with_code("not-parquet")
    };
    if length < 12 {
        return Err(not_parquet());
    }
    let tail = file.read_at(length - 8..length)?;
    let Some((size, magic)) = tail.split_first_chunk::<4>() else { return Err(not_parquet()) };
    match magic {
        b"PAR1" => {}
        b"PARE" => {
            return Err(Error::invalid("the file is encrypted; load it without Parquet encryption")
                .with_code("parquet-encrypted"));
        }
        _ => return Err(not_parquet()),
    }
    if file.read_at(0..4)?[..] != b"PAR1"[..] {
        return Err(not_parquet());
    }
    let size = u64::from(u32::from_le_bytes(*size));
    Caps::check("footer_bytes", "the footer's length", size, caps.footer_bytes)?;
    let Some(data_end) = (length - 8).checked_sub(size).filter(|&start| start >= 4) else {
        return Err(corrupt(format!("the footer claims {size} bytes of a file of {length}")));
    };
    let bytes = file.read_at(data_end..length - 8)?;
    let structs = thrift::count_structs(&bytes).map_err(|error| error.context("footer"))?;
    Caps::check("footer_structs", "the number of structures in the footer", structs, caps.footer_structs)?;
    let meta = guarded(|| {
        ParquetMetaDataReader::decode_metadata(&bytes).map_err(|error| from_parquet(&error).context("footer"))
    })?;
    let footer = Footer { meta, data_end };
    footer.check()?;
    Ok(footer)
}

impl Footer {
    fn check(&self) -> Result<()> {
        let columns = self.meta.file_metadata().schema_descr().num_columns();
        let mut rows = 0i64;
        for (at, group) in self.meta.row_groups().iter().enumerate() {
            if group.num_columns() != columns {
                return Err(corrupt(format!(
                    "row group {at} has {} columns, the schema {columns}",
                    group.num_columns()
                )));
            }
            if group.num_rows() < 0 {
                return Err(corrupt(format!("row group {at} has {} rows", group.num_rows())));
            }
            rows = rows
                .checked_add(group.num_rows())
                .ok_or_else(|| corrupt("the row groups' numbers of rows overflow"))?;
        }
        if rows != self.meta.file_metadata().num_rows() {
            return Err(corrupt(format!(
                "the row groups have {rows} rows, the file claims {}",
                self.meta.file_metadata().num_rows()
            )));
        }
        Ok(())
    }

    /// Rows of the file.
    pub(super) fn rows(&self) -> u64 {
        self.meta.file_metadata().num_rows().max(0) as u64
    }

    /// The bytes of a column chunk, its dictionary page included.
    pub(super) fn chunk_range(&self, chunk: &ColumnChunkMetaData) -> Result<Range<u64>> {
        let data = chunk.data_page_offset();
        // Some writers leave a zero where there is no dictionary.
        let start = chunk.dictionary_page_offset().filter(|&at| at >= 4 && at < data).unwrap_or(data);
        let range = u64::try_from(start).ok().zip(u64::try_from(chunk.compressed_size()).ok());
        match range.and_then(|(start, length)| Some(start..start.checked_add(length)?)) {
            Some(range) if range.start >= 4 && range.end <= self.data_end => Ok(range),
            _ => Err(corrupt(format!(
                "column {:?} claims {} bytes at {start}, beyond the file's data",
                chunk.column_path().string(),
                chunk.compressed_size()
            ))),
        }
    }
}
