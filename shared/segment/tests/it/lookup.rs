//! A pruned lookup never misses what a full scan finds.

use crate::rows::{OwnedRow, keys, rows, rows_of, small_settings, sort, write};
use nacre_segment::{Block, WriterSettings};
use proptest::prelude::*;

fn without_places(mut rows: Vec<OwnedRow>, with_place: bool) -> Vec<OwnedRow> {
    if !with_place {
        rows.iter_mut().for_each(|row| row.place = None);
        sort(&mut rows);
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_row_is_found_by_key_and_by_scan(rows in rows(120), settings in small_settings(), absent in proptest::collection::vec(keys(), 20)) {
        let rows = without_places(rows, settings.with_place);
        let segment = write(&rows, settings);
        prop_assert_eq!(&segment.all_rows(), &rows);
        let mut keys: Vec<_> = rows.iter().map(|row| row.key.clone()).collect();
        keys.dedup();
        for key in keys.iter().chain(&absent) {
            let expected: Vec<_> = rows.iter().filter(|row| row.key == *key).cloned().collect();
            prop_assert_eq!(segment.lookup(key), expected);
            let expected: Vec<_> = rows.iter().filter(|row| row.key >= *key).cloned().collect();
            prop_assert_eq!(segment.scan_from(key), expected);
        }
        // A lookup reads no more than the blocks that hold the key, or the one that would.
        for key in &keys {
            let holding = (0..segment.index.block_count()).filter(|n| !segment.block(*n).find(key).is_empty());
            prop_assert_eq!(segment.index.blocks_of(key).collect::<Vec<_>>(), holding.collect::<Vec<_>>());
        }
        for key in &absent {
            prop_assert!(keys.contains(key) || segment.index.blocks_of(key).len() <= 1);
        }
        for n in 0..segment.index.block_count() {
            let block = segment.block(n);
            prop_assert_eq!(segment.index.block_first_key(n).unwrap(), block.key_bytes(0));
            prop_assert_eq!(segment.index.block_rows(n) as usize, block.len());
            prop_assert_eq!(segment.index.fetch_plan(n).len(), 1);
        }
        prop_assert_eq!(segment.index.block_first_key(segment.index.block_count()), None);
        prop_assert!(segment.index.fetch_plan(u32::MAX).is_empty());
    }

    #[test]
    fn a_block_comes_back_from_its_bytes(rows in rows(60), settings in small_settings()) {
        let rows = without_places(rows, settings.with_place);
        let segment = write(&rows, settings);
        for n in 0..segment.index.block_count() {
            let block = segment.block(n);
            let again = Block::from_bytes(block.as_bytes().clone()).unwrap();
            prop_assert_eq!(again.as_bytes(), block.as_bytes());
            // All rows of one key by themselves are what the block says of it.
            let key = block.key(n as usize % block.len());
            let cut = block.cut(block.find(key)).unwrap();
            prop_assert_eq!(rows_of(&cut, cut.find(key)), rows_of(&block, block.find(key)));
            prop_assert_eq!(cut.find(key), 0..cut.len());
            let of_cut = Block::from_bytes(cut.as_bytes().clone()).unwrap();
            prop_assert_eq!(of_cut.as_bytes(), cut.as_bytes());
            prop_assert!(block.cut(0..0).is_none() && block.cut(0..block.len() + 1).is_none());
            for i in 0..block.len() {
                prop_assert_eq!(again.row(i), block.row(i));
            }
        }
    }
}

#[test]
fn many_versions_of_one_key_span_blocks_and_row_groups() {
    let mut rows = vec![OwnedRow::new(b"a", 1, Some(b"before")), OwnedRow::new(b"c", 1, Some(b"after"))];
    rows.extend((0..3_000).map(|version| OwnedRow::new(b"b", version, Some(&version.to_le_bytes()))));
    sort(&mut rows);
    let segment = write(&rows, WriterSettings::default());
    assert_eq!(segment.index.block_count(), 24);
    assert_eq!(segment.index.blocks_of(b"b"), 0..24);
    assert_eq!(segment.index.blocks_of(b"a"), 0..1);
    assert_eq!(segment.index.blocks_of(b"c"), 23..24);
    let found = segment.lookup(b"b");
    assert_eq!(found.len(), 3_000);
    assert!(found.is_sorted_by(|a, b| a.version > b.version));
    assert_eq!(segment.index.blocks_from(b"b"), 0);
    assert_eq!(segment.scan_from(b"b").len(), 3_001);
}

#[test]
fn a_key_that_begins_a_block_needs_that_block_alone() {
    let rows: Vec<_> = (0..1_000_u32).map(|i| OwnedRow::new(&i.to_be_bytes(), 1, Some(b"v"))).collect();
    let segment = write(&rows, WriterSettings::default());
    for n in 0..segment.index.block_count() {
        let first = segment.index.block_first_key(n).unwrap();
        assert_eq!(segment.index.blocks_of(&first), n..n + 1);
        assert_eq!(segment.index.blocks_from(&first), n);
    }
    assert_eq!(segment.index.blocks_of(b"\0"), 0..0);
}
