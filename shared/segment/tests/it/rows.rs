//! Rows for the tests: kept owned, sorted as a segment wants them, and put through a writer and its index.

use bytes::Bytes;
use nacre_segment::{
    Block, SegmentIndex, SegmentRow, SegmentSummary, SegmentWriter, WriterSettings, decode_block,
};
use nacre_types::Place;
use proptest::prelude::*;
use std::cmp::Reverse;

/// A row that owns its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnedRow {
    pub(crate) key: Vec<u8>,
    pub(crate) version: i64,
    pub(crate) place: Option<Place>,
    pub(crate) expires_at: Option<i64>,
    pub(crate) value: Option<Vec<u8>>,
}

impl OwnedRow {
    pub(crate) fn new(key: &[u8], version: i64, value: Option<&[u8]>) -> Self {
        Self { key: key.to_vec(), version, place: None, expires_at: None, value: value.map(<[u8]>::to_vec) }
    }

    fn borrowed(&self) -> SegmentRow<'_> {
        SegmentRow {
            key: &self.key,
            version: self.version,
            place: self.place,
            expires_at: self.expires_at,
            value: self.value.as_deref(),
        }
    }
}

/// Sorts rows as a segment has them; rows that tie keep their order.
pub(crate) fn sort(rows: &mut [OwnedRow]) {
    rows.sort_by(|a, b| {
        (&a.key, Reverse((a.version, a.place))).cmp(&(&b.key, Reverse((b.version, b.place))))
    });
}

/// A segment in memory.
pub(crate) struct Written {
    pub(crate) file: Bytes,
    pub(crate) summary: SegmentSummary,
    pub(crate) index: SegmentIndex,
}

pub(crate) fn write(rows: &[OwnedRow], settings: WriterSettings) -> Written {
    let mut writer = SegmentWriter::new(Vec::new(), settings).unwrap();
    for row in rows {
        writer.push(&row.borrowed()).unwrap();
    }
    let (file, summary) = writer.finish().unwrap();
    let file = Bytes::from(file);
    assert_eq!(summary.bytes, file.len() as u64);
    let index = SegmentIndex::decode(slice(&file, summary.index.range())).unwrap();
    Written { file, summary, index }
}

pub(crate) fn slice(file: &Bytes, range: std::ops::Range<u64>) -> Bytes {
    file.slice(range.start as usize..range.end as usize)
}

impl Written {
    pub(crate) fn fetch(&self, block: u32) -> Vec<Bytes> {
        self.index.fetch_plan(block).iter().map(|range| slice(&self.file, range.clone())).collect()
    }

    pub(crate) fn block(&self, block: u32) -> Block {
        decode_block(&self.index, block, &self.fetch(block)).unwrap()
    }

    pub(crate) fn all_rows(&self) -> Vec<OwnedRow> {
        (0..self.index.block_count()).flat_map(|n| rows_of(&self.block(n), 0..usize::MAX)).collect()
    }

    /// What a get does: filter, index, blocks.
    pub(crate) fn lookup(&self, key: &[u8]) -> Vec<OwnedRow> {
        let mut found = Vec::new();
        if !self.index.may_contain(nacre_segment::key_hash(key)) {
            return found;
        }
        for n in self.index.blocks_of(key) {
            let block = self.block(n);
            found.extend(rows_of(&block, block.find(key)));
        }
        found
    }

    /// What a scan does.
    pub(crate) fn scan_from(&self, start: &[u8]) -> Vec<OwnedRow> {
        (self.index.blocks_from(start)..self.index.block_count())
            .flat_map(|n| {
                let block = self.block(n);
                rows_of(&block, block.lower_bound(start)..usize::MAX)
            })
            .collect()
    }
}

pub(crate) fn rows_of(block: &Block, range: std::ops::Range<usize>) -> Vec<OwnedRow> {
    (range.start..range.end.min(block.len()))
        .map(|i| {
            let row = block.row(i);
            assert_eq!(row.value, block.value_bytes(i).as_deref());
            assert_eq!(row.key, block.key_bytes(i));
            OwnedRow {
                key: row.key.to_vec(),
                version: row.version,
                place: row.place,
                expires_at: row.expires_at,
                value: row.value.map(<[u8]>::to_vec),
            }
        })
        .collect()
}

/// Keys of every awkward shape: short ones over few bytes (many equal, prefixes of each other), NUL and 0xFF, long
/// common prefixes, 2 KiB.
pub(crate) fn keys() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0_u8), Just(0xFF), Just(b'a'), Just(b'b'), any::<u8>()];
    prop_oneof![
        4 => proptest::collection::vec(prop_oneof![Just(0_u8), Just(b'a'), Just(0xFF)], 1..4),
        4 => proptest::collection::vec(byte.clone(), 1..24),
        2 => proptest::collection::vec(byte.clone(), 1..12).prop_map(|tail| [&[b'p'; 70][..], &tail].concat()),
        1 => proptest::collection::vec(byte, 1..4).prop_map(|tail| {
            let mut key = vec![0xFF; 2_048 - tail.len()];
            key.extend(tail);
            key
        }),
    ]
}

/// Sorted rows; many versions of one key among them.
pub(crate) fn rows(most: usize) -> impl Strategy<Value = Vec<OwnedRow>> {
    let row = (
        keys(),
        prop_oneof![Just(0_i64), 0..4_i64, any::<i64>()],
        proptest::option::of((0..i64::MAX).prop_map(|n| Place::from_i64(n).unwrap())),
        proptest::option::of(any::<i64>()),
        proptest::option::weighted(0.8, proptest::collection::vec(any::<u8>(), 0..40)),
    )
        .prop_map(|(key, version, place, expires_at, value)| OwnedRow {
            key,
            version,
            place,
            expires_at,
            value,
        });
    proptest::collection::vec(row, 1..most).prop_map(|mut rows| {
        sort(&mut rows);
        rows
    })
}

/// Settings that make blocks and groups of a few rows, so that small cases cross their borders.
pub(crate) fn small_settings() -> impl Strategy<Value = WriterSettings> {
    use nacre_segment::Codec;
    let codec = prop_oneof![Just(Codec::Lz4Raw), Just(Codec::Zstd), Just(Codec::None)];
    (1..9_u32, 1..5_u32, prop_oneof![Just(64_u32), Just(3_000), Just(256 << 10)], codec, any::<bool>())
        .prop_map(|(rows_per_page, pages, page_bytes, compression, with_place)| WriterSettings {
            rows_per_page,
            rows_per_group: rows_per_page * pages,
            page_bytes,
            group_bytes: page_bytes * 4,
            compression,
            with_place,
        })
}
