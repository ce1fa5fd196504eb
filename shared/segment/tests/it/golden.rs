//! What was written once is read for ever, and the same rows make the same bytes.
//!
//! `NACRE_BLESS=1` writes the files anew: only for a new version of the format, beside the old ones.

use crate::rows::{OwnedRow, Written, sort, write};
use bytes::Bytes;
use nacre_segment::{
    BlockPages, Codec, Column, ColumnLayout, IndexBuilder, Layout, PageSpan, SegmentIndex, WriterSettings,
};
use nacre_types::{Generation, Offset, Place, Seq};
use std::path::PathBuf;

fn golden(name: &str, now: &[u8]) -> Bytes {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    #[allow(clippy::disallowed_methods, reason = "a test's switch, not the library's")]
    if std::env::var_os("NACRE_BLESS").is_some() {
        std::fs::write(&path, now).unwrap();
    }
    std::fs::read(&path).unwrap().into()
}

/// Rows of every kind: tombstones, empty and large values, expiry, places, many versions, long keys.
fn sample_rows() -> Vec<OwnedRow> {
    let mut rows = Vec::new();
    for i in 0..300_u32 {
        let key = format!("user/{:05}/feature", i * 7);
        let value = format!("{{\"score\":{i},\"name\":\"n{}\"}}", i % 13);
        let mut row =
            OwnedRow::new(key.as_bytes(), 1_700_000_000_000_000 + i64::from(i), Some(value.as_bytes()));
        row.expires_at = (i % 5 == 0).then_some(row.version + 86_400_000_000);
        if i % 11 == 0 {
            row.value = None;
        }
        row.place = Some(if i % 2 == 0 {
            Place::loaded(Seq(u64::from(i)))
        } else {
            Place::streamed(Generation(1), Offset(u64::from(i)))
        });
        rows.push(row);
    }
    rows.extend((0..40).map(|version| OwnedRow::new(b"user/00700/versions", version, Some(b""))));
    rows.push(OwnedRow::new(&[0], 1, None));
    rows.push(OwnedRow::new(&[0xFF; 2_048], 1, Some(&[b'x'; 5_000])));
    sort(&mut rows);
    rows
}

fn settings() -> WriterSettings {
    WriterSettings {
        rows_per_page: 32,
        rows_per_group: 128,
        with_place: true,
        compression: Codec::Lz4Raw,
        ..WriterSettings::default()
    }
}

#[test]
fn an_old_segment_is_read_and_written_again_byte_for_byte() {
    let rows = sample_rows();
    let now = write(&rows, settings());
    let file = golden("segment-v1.parquet", &now.file);
    let span = now.summary.index.range();
    let index = SegmentIndex::decode(file.slice(span.start as usize..span.end as usize)).unwrap();
    let old = Written { file: file.clone(), summary: now.summary.clone(), index };
    assert_eq!(old.all_rows(), rows);
    assert!(now.file == file, "the encoding of segments has changed");
}

#[test]
fn an_old_block_image_is_read_and_made_again_byte_for_byte() {
    let block = write(&sample_rows(), settings()).block(2);
    let image = golden("block-v1.bin", block.as_bytes());
    let old = nacre_segment::Block::from_bytes(image.clone()).unwrap();
    assert_eq!(old.len(), block.len());
    assert!((0..old.len()).all(|i| old.row(i) == block.row(i)));
    assert!(block.as_bytes() == &image, "the layout of blocks has changed");
}

/// The index of a file by another writer: one group with dictionaries, then one without, a fixed-length key, no version
/// and no expiry.
fn adopted_index() -> SegmentIndex {
    let column = |optional, codec, fixed_length| Some(ColumnLayout { optional, codec, fixed_length });
    let layout = Layout {
        columns: [column(false, Codec::Snappy, 4), None, None, column(true, Codec::Zstd, 0), None],
        default_version: 1_700_000_000_000_000,
    };
    let mut builder = IndexBuilder::new(layout).unwrap();
    for block in 0..40_u32 {
        for row in 0..100 {
            builder.push_key(&(block * 100 + row).to_be_bytes()).unwrap();
        }
        let (group, within) = (u64::from(block / 20), u64::from(block % 20));
        let base = 4 + group * 10_000_000;
        let span = |offset, length| Some(PageSpan { offset, length });
        let mut pages = BlockPages { largest_page: 70_000, ..BlockPages::default() };
        pages.pages[Column::Key as usize] = span(base + 500 + within * 410, 410);
        pages.pages[Column::Value as usize] = span(base + 5_000_500 + within * 9_000, 9_000);
        if group == 0 {
            pages.dictionaries[Column::Value as usize] = span(base + 5_000_000, 500);
        }
        builder.end_block(&pages).unwrap();
    }
    builder.finish().unwrap()
}

#[test]
fn an_old_index_of_an_adopted_file_is_read_and_made_again_byte_for_byte() {
    let now = adopted_index();
    let bytes = golden("index-v1.bin", &now.encode());
    let old = SegmentIndex::decode(bytes.clone()).unwrap();
    assert_eq!((old.block_count(), old.rows(), old.block_rows(39)), (40, 4_000, 100));
    assert_eq!(old.layout(), now.layout());
    assert_eq!(old.fetch_plan(0)[..], [504..914, 5_000_004..5_009_504]);
    assert_eq!(old.fetch_plan(19)[..], [8_294..8_704, 5_000_004..5_180_504]);
    assert_eq!(old.fetch_plan(20)[..], [10_000_504..10_000_914, 15_000_504..15_009_504]);
    for key in 0..4_000_u32 {
        let key = key.to_be_bytes();
        assert!(old.may_contain(nacre_segment::key_hash(&key)));
        assert_eq!(old.blocks_of(&key).len(), 1);
    }
    assert!(now.encode() == bytes, "the encoding of indexes has changed");
}
