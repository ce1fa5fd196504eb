//! Everything that an adopted file may hold is decoded: encodings, codecs, page versions, dictionaries, optional and
//! fixed-length columns, several row groups. The files are written by parquet's own column writers.

use crate::rows::{OwnedRow, rows_of, slice, sort};
use bytes::Bytes;
use nacre_segment::{
    BlockPages, Codec, Column, ColumnLayout, IndexBuilder, Layout, PageSpan, SegmentIndex, decode_block,
};
use parquet::basic::{Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int64Type};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use std::sync::Arc;

const GROUP: usize = 500;
const DEFAULT_VERSION: i64 = 77;

/// One way of writing a file.
#[derive(Debug, Clone)]
struct Writing {
    version: WriterVersion,
    compression: (Compression, Codec),
    /// Key, version, value; `None` = plain.
    encodings: [Option<Encoding>; 3],
    dictionary: bool,
    /// Key as FIXED_LEN_BYTE_ARRAY(16), every column optional, or version and expiry missing.
    fixed_key: bool,
    all_optional: bool,
    key_and_value_only: bool,
}

fn rows(writing: &Writing) -> Vec<OwnedRow> {
    let mut rows: Vec<_> = (0..1_234_u32)
        .map(|i| {
            let key = format!("key/{:012}", i * 31);
            let value = format!("value {} of some length", i % 50);
            let mut row = OwnedRow::new(key.as_bytes(), i64::from(i % 7) * 1_000_003, Some(value.as_bytes()));
            if i % 13 == 0 {
                row.value = None;
            }
            row.expires_at = (i % 3 == 0).then_some(i64::from(i));
            // A whole page of nulls in the second row group.
            if (600..900).contains(&i) {
                row.value = None;
                row.expires_at = None;
            }
            if writing.key_and_value_only {
                row.version = DEFAULT_VERSION;
                row.expires_at = None;
            }
            row
        })
        .collect();
    sort(&mut rows);
    rows
}

fn file(rows: &[OwnedRow], writing: &Writing) -> Bytes {
    let required = if writing.all_optional { "optional" } else { "required" };
    let key = if writing.fixed_key { "FIXED_LEN_BYTE_ARRAY(16)" } else { "BINARY" };
    let numbers = if writing.key_and_value_only {
        String::new()
    } else {
        format!("{required} INT64 version; optional INT64 expires_at;")
    };
    let schema = format!("message m {{ {required} {key} key; {numbers} optional BINARY value; }}");
    let mut properties = WriterProperties::builder()
        .set_writer_version(writing.version)
        .set_compression(writing.compression.0)
        .set_dictionary_enabled(writing.dictionary)
        .set_data_page_row_count_limit(100)
        .set_write_batch_size(100);
    for (name, encoding) in ["key", "version", "value"].into_iter().zip(writing.encodings) {
        properties =
            properties.set_column_encoding(ColumnPath::from(name), encoding.unwrap_or(Encoding::PLAIN));
    }
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties.build())).unwrap();
    for rows in rows.chunks(GROUP) {
        let mut group = writer.next_row_group().unwrap();
        let all = vec![1_i16; rows.len()];
        let required = writing.all_optional.then_some(&all[..]);
        let mut column = group.next_column().unwrap().unwrap();
        let keys = rows.iter().map(|row| ByteArray::from(row.key.clone()));
        if writing.fixed_key {
            let keys: Vec<FixedLenByteArray> = keys.map(Into::into).collect();
            column.typed::<FixedLenByteArrayType>().write_batch(&keys, required, None).unwrap();
        } else {
            let keys: Vec<_> = keys.collect();
            column.typed::<ByteArrayType>().write_batch(&keys, required, None).unwrap();
        }
        column.close().unwrap();
        if !writing.key_and_value_only {
            let versions: Vec<_> = rows.iter().map(|row| row.version).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<Int64Type>().write_batch(&versions, required, None).unwrap();
            column.close().unwrap();
            let expires: Vec<_> = rows.iter().filter_map(|row| row.expires_at).collect();
            let defined: Vec<_> = rows.iter().map(|row| i16::from(row.expires_at.is_some())).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<Int64Type>().write_batch(&expires, Some(&defined), None).unwrap();
            column.close().unwrap();
        }
        let values: Vec<_> = rows.iter().filter_map(|row| row.value.clone().map(ByteArray::from)).collect();
        let defined: Vec<_> = rows.iter().map(|row| i16::from(row.value.is_some())).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&defined), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.into_inner().unwrap().into()
}

/// An index over the file, from its footer and offset indexes.
fn index(file: &Bytes, rows: &[OwnedRow], writing: &Writing) -> SegmentIndex {
    let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
    let metadata = reader.parse_and_finish(file).unwrap();
    let column =
        |optional, fixed_length| Some(ColumnLayout { optional, codec: writing.compression.1, fixed_length });
    let number = |optional| if writing.key_and_value_only { None } else { column(optional, 0) };
    let layout = Layout {
        columns: [
            column(writing.all_optional, if writing.fixed_key { 16 } else { 0 }),
            number(writing.all_optional),
            number(true),
            column(true, 0),
            None,
        ],
        default_version: DEFAULT_VERSION,
    };
    let columns = if writing.key_and_value_only {
        vec![Column::Key, Column::Value]
    } else {
        vec![Column::Key, Column::Version, Column::ExpiresAt, Column::Value]
    };
    let mut builder = IndexBuilder::new(layout).unwrap();
    let mut rows = rows.iter();
    for g in 0..metadata.num_row_groups() {
        let (group, pages) = (metadata.row_group(g), metadata.page_index_for_row_group(g));
        for n in 0..pages.page_locations(0).unwrap().len() {
            let mut block = BlockPages { largest_page: 1 << 20, ..BlockPages::default() };
            let mut count = 0;
            for (at, column) in columns.iter().enumerate() {
                let locations = pages.page_locations(at).unwrap();
                let page = &locations[n];
                let end = locations.get(n + 1).map_or(group.num_rows(), |next| next.first_row_index);
                count = end - page.first_row_index;
                block.pages[*column as usize] =
                    Some(PageSpan { offset: page.offset as u64, length: page.compressed_page_size as u32 });
                if let Some(dictionary) = group.column(at).dictionary_page_offset() {
                    let length = (group.column(at).data_page_offset() - dictionary) as u32;
                    block.dictionaries[*column as usize] =
                        Some(PageSpan { offset: dictionary as u64, length });
                }
            }
            for row in rows.by_ref().take(count as usize) {
                builder.push_key(&row.key).unwrap();
            }
            builder.end_block(&block).unwrap();
        }
    }
    builder.finish().unwrap()
}

fn check(writing: &Writing) {
    let rows = rows(writing);
    let file = file(&rows, writing);
    let index = index(&file, &rows, writing);
    assert!(index.block_count() > 10);
    let mut read = Vec::new();
    for n in 0..index.block_count() {
        let fetched: Vec<_> = index.fetch_plan(n).iter().map(|range| slice(&file, range.clone())).collect();
        let block = decode_block(&index, n, &fetched).unwrap_or_else(|e| panic!("{writing:?}: {e}"));
        read.extend(rows_of(&block, 0..usize::MAX));
    }
    assert_eq!(read, rows, "{writing:?}");
}

#[test]
fn every_codec_page_version_and_encoding_is_decoded() {
    let codecs = [
        (Compression::UNCOMPRESSED, Codec::None),
        (Compression::SNAPPY, Codec::Snappy),
        (Compression::GZIP(GzipLevel::default()), Codec::Gzip),
        (Compression::ZSTD(ZstdLevel::default()), Codec::Zstd),
        (Compression::LZ4_RAW, Codec::Lz4Raw),
    ];
    let encodings = [
        [None, None, None],
        [
            Some(Encoding::DELTA_BYTE_ARRAY),
            Some(Encoding::DELTA_BINARY_PACKED),
            Some(Encoding::DELTA_LENGTH_BYTE_ARRAY),
        ],
        [Some(Encoding::DELTA_LENGTH_BYTE_ARRAY), None, Some(Encoding::DELTA_BYTE_ARRAY)],
    ];
    for compression in codecs {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for (encodings, dictionary) in encodings.iter().map(|e| (*e, false)).chain([([None; 3], true)]) {
                for all_optional in [false, true] {
                    check(&Writing {
                        version,
                        compression,
                        encodings,
                        dictionary,
                        fixed_key: false,
                        all_optional,
                        key_and_value_only: all_optional && dictionary,
                    });
                }
            }
        }
    }
}

#[test]
fn fixed_length_keys_and_missing_columns_are_decoded() {
    for (dictionary, key_and_value_only) in [(false, false), (false, true), (true, false), (true, true)] {
        check(&Writing {
            version: WriterVersion::PARQUET_1_0,
            compression: (Compression::SNAPPY, Codec::Snappy),
            encodings: [None; 3],
            dictionary,
            fixed_key: true,
            all_optional: false,
            key_and_value_only,
        });
    }
}
