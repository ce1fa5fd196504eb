//! What a get costs whose row is nowhere but in the store, by the layout of the segment that holds it.

use std::sync::Arc;

use nacre_engine::{Receipt, Source};
use nacre_runtime::Context;
use nacre_store::LocalStore;
use nacre_types::TableSettings;
use serde_json::json;

use crate::harness::{Harness, replace, with};
use crate::samples::sample;

/// Receipts of gets of every row, in key order, by a process that has just begun.
async fn receipts(name: &str) -> Vec<Receipt> {
    let harness = Harness::new().await;
    let guards = json!({"guards": {"allow_older": true}});
    harness.load_well(with(replace(), guards), &[(name, &sample(name))]).await;
    let rows = harness.scan().await;
    harness.ctx.tasks.shutdown();

    let ctx = Context::for_tests(2);
    let store = Arc::new(LocalStore::open(harness.folder.path(), &ctx).unwrap());
    let cold = Harness::over(store, harness.folder.clone(), ctx, TableSettings::default()).await;
    let mut receipts = Vec::new();
    for (key, _) in rows {
        receipts.push(cold.table.get(&key, &cold.read()).await.unwrap().1);
    }
    cold.ctx.tasks.shutdown();
    receipts
}

/// GETs of the first get, of the get of a further block, and how many blocks were fetched.
fn cost(receipts: &[Receipt]) -> (u32, u32, usize) {
    let fetched: Vec<&Receipt> = receipts.iter().filter(|receipt| receipt.store_gets > 0).collect();
    assert!(fetched.iter().all(|receipt| receipt.source == Source::Store && receipt.store_bytes > 0));
    let later = fetched[1..].iter().map(|receipt| receipt.store_gets).max().unwrap();
    (fetched[0].store_gets, later, fetched.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_get_is_one_get_of_its_block_and_one_more_where_the_index_is_cold() {
    for name in ["spark4-default-unsorted-tombstones.parquet", "duckdb-default-sorted-tombstones.parquet"] {
        assert_eq!(cost(&receipts(name).await), (2, 1, 5_000_usize.div_ceil(128)), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_get_of_a_small_adopted_file_is_one_get_too() {
    // Key, version, expiry and value lie in columns apart; in files as small as these they are fetched with what lies
    // between them. Where that is more than it is worth, a get is one GET for each column.
    for name in [
        "spark4-aligned128-rg1280-sorted-tombstones.parquet",
        "spark4-aligned128-sorted-tombstones.parquet",
        "spark4-rowlimit128-only-sorted-tombstones.parquet",
        "pyarrow-aligned128-sorted-tombstones.parquet",
    ] {
        assert_eq!(cost(&receipts(name).await), (2, 1, 5_000_usize.div_ceil(128)), "{name}");
    }
}
