//! Shards are cut before a load shows itself.

use std::sync::Arc;

use nacre_engine::{FlushMode, LoadMode, NodeConfig, Table};
use nacre_runtime::Context;
use nacre_store::MemoryStore;
use nacre_types::{KeyRange, PartitionId, TableSettings};

use super::harness::{Harness, prepare, put, row, show};

/// Loads all rows, in segments of about `segment_bytes`.
async fn load(harness: &Harness, table: &Arc<Table>, version: i64, mode: LoadMode, segment_bytes: u64) {
    let rows: Vec<_> = (0..ROWS).map(|number| (key(number), value(number))).collect();
    let id = prepare(harness, table, version, mode, segment_bytes, &rows).await;
    show(table, id).await;
}

const ROWS: u32 = 20_000;

fn key(number: u32) -> String {
    format!("key-{number:08}")
}

/// Values that do not compress: 50 bytes each.
fn value(number: u32) -> String {
    (0..4u32)
        .map(|part| format!("{:08x}", (number * 4 + part).wrapping_mul(0x9E37_79B1).swap_bytes()))
        .collect()
}

async fn check(segment_bytes: u64) {
    let ctx = Context::for_tests(7);
    let shard_bytes = 128 << 10;
    let config = NodeConfig { shard_bytes, ..NodeConfig::default() };
    let harness = Harness::with(Arc::new(MemoryStore::new(&ctx)), 1, config).await;
    let table = harness.table("t", TableSettings::default()).await;
    assert_eq!(table.info().shards.len(), 1);
    load(&harness, &table, 100, LoadMode::Merge, segment_bytes).await;
    let bytes = table.info().bytes;
    let shards = table.info().shards.len() as u64;
    let fewest = bytes.div_ceil(shard_bytes);
    assert!(shards >= fewest && shards <= fewest + 1, "{shards} shards for {bytes} bytes");
    // Writes of every shard are found, beside what was loaded, and flushed over all of them.
    put(&table, (0..ROWS).step_by(97).map(|number| row(&key(number), Some("new"), Some(200))).collect())
        .await;
    for flushed in [false, true] {
        if flushed {
            harness.node.flush(PartitionId(0), FlushMode::All).await.unwrap();
        }
        for number in (0..ROWS).step_by(7) {
            let expected = if number % 97 == 0 { "new".to_owned() } else { value(number) };
            assert_eq!(harness.get(&table, &key(number)).await, Some(expected), "{number} {flushed}");
        }
        let range =
            KeyRange { start: key(5_000).into_bytes().into(), end: Some(key(9_000).into_bytes().into()) };
        assert_eq!(harness.scan(&table, range, false).await.len(), 4_000);
    }
    // A replace of the same size finds the shards large enough; a merge does not.
    load(&harness, &table, 300, LoadMode::Replace, segment_bytes).await;
    assert_eq!(table.info().shards.len() as u64, shards);
    load(&harness, &table, 400, LoadMode::Merge, segment_bytes).await;
    assert!(table.info().shards.len() as u64 > shards);
    assert_eq!(harness.get(&table, &key(97)).await, Some(value(97)));
}

#[tokio::test]
async fn a_load_of_many_segments_cuts_the_shards_that_it_makes_too_big() {
    check(4 << 10).await;
}

#[tokio::test]
async fn a_load_of_one_large_segment_cuts_it_by_keys_sampled_from_its_index() {
    check(u64::MAX).await;
}
