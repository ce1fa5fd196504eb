//! Small Parquet files, written here.

use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// A column, every row of which may be null.
pub(crate) enum Column<'a> {
    Text(&'a [Option<&'a str>]),
    I64(&'a [Option<i64>]),
    I32(&'a [Option<i32>]),
}

/// A file with one row group and pages of at most `rows_per_page` rows. `fields`: the schema's, all `optional`.
pub(crate) fn parquet(fields: &str, columns: &[Column<'_>], rows_per_page: usize) -> Vec<u8> {
    let schema = parse_message_type(&format!("message m {{ {fields} }}")).unwrap();
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_compression(Compression::SNAPPY)
        .set_data_page_row_count_limit(rows_per_page)
        .set_write_batch_size(rows_per_page)
        .set_data_page_size_limit(64 << 20)
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for column in columns {
        let mut out = group.next_column().unwrap().unwrap();
        match column {
            Column::Text(rows) => {
                let values: Vec<ByteArray> =
                    rows.iter().flatten().map(|&text| ByteArray::from(text)).collect();
                out.typed::<ByteArrayType>().write_batch(&values, Some(&levels(rows)), None).unwrap();
            }
            Column::I64(rows) => {
                let values: Vec<i64> = rows.iter().flatten().copied().collect();
                out.typed::<Int64Type>().write_batch(&values, Some(&levels(rows)), None).unwrap();
            }
            Column::I32(rows) => {
                let values: Vec<i32> = rows.iter().flatten().copied().collect();
                out.typed::<Int32Type>().write_batch(&values, Some(&levels(rows)), None).unwrap();
            }
        }
        out.close().unwrap();
    }
    group.close().unwrap();
    writer.into_inner().unwrap()
}

fn levels<T>(rows: &[Option<T>]) -> Vec<i16> {
    rows.iter().map(|row| i16::from(row.is_some())).collect()
}

/// Columns key, version and value.
pub(crate) fn rows(rows: &[(&str, i64, Option<&str>)]) -> Vec<u8> {
    let keys: Vec<_> = rows.iter().map(|row| Some(row.0)).collect();
    let versions: Vec<_> = rows.iter().map(|row| Some(row.1)).collect();
    let values: Vec<_> = rows.iter().map(|row| row.2).collect();
    parquet(
        "optional binary key; optional int64 version; optional binary value;",
        &[Column::Text(&keys), Column::I64(&versions), Column::Text(&values)],
        128,
    )
}

/// Columns key and value: rows have the load's version.
pub(crate) fn pairs(rows: &[(&str, &str)]) -> Vec<u8> {
    let keys: Vec<_> = rows.iter().map(|row| Some(row.0)).collect();
    let values: Vec<_> = rows.iter().map(|row| Some(row.1)).collect();
    parquet("optional binary key; optional binary value;", &[Column::Text(&keys), Column::Text(&values)], 128)
}

/// `count` keys `prefix`000000.. with values that tell the number, in order or not.
pub(crate) fn many(prefix: &str, count: usize, sorted: bool) -> Vec<u8> {
    let rows: Vec<(String, String)> = (0..count)
        .map(|i| if sorted { i } else { i * 7_919 % count })
        .map(|i| (format!("{prefix}{i:06}"), format!("value {i} of {prefix}").repeat(3)))
        .collect();
    let rows: Vec<(&str, &str)> = rows.iter().map(|(key, value)| (&key[..], &value[..])).collect();
    pairs(&rows)
}
