//! What is hot is read before it is asked for.

use std::sync::Arc;
use std::time::Duration;

use nacre_engine::{FlushMode, HotKeys, LoadMode, Lookup, NodeConfig, Source, Table};
use nacre_types::{Key, PartitionId, TableSettings};

use super::harness::{Harness, prepare, put, row, show};

const ROWS: u32 = 20_000;
/// Every so many-th key is asked for.
const HOT_EACH: usize = 400;

fn rows(load: u32) -> Vec<(String, String)> {
    (0..ROWS)
        .map(|number| (format!("key-{number:08}"), format!("{load}-{:x}", number.wrapping_mul(0x9E37_79B1))))
        .collect()
}

fn hot_keys() -> Vec<String> {
    rows(0).into_iter().step_by(HOT_EACH).map(|(key, _)| key).collect()
}

/// The slowest place that a get of the key had to ask.
async fn source(harness: &Harness, table: &Arc<Table>, key: &str) -> Source {
    let (lookup, receipt) = table.get(key.as_bytes(), &harness.read()).await.unwrap();
    assert!(matches!(lookup, Lookup::Found(_)), "{key}");
    receipt.source
}

/// How many of the hot keys are answered without the store.
async fn warm(harness: &Harness, table: &Arc<Table>) -> usize {
    let mut warm = 0;
    for key in hot_keys() {
        warm += usize::from(source(harness, table, &key).await == Source::Memory);
    }
    warm
}

async fn replaced(config: NodeConfig) -> usize {
    let store = Arc::new(nacre_store::MemoryStore::new(&nacre_runtime::Context::for_tests(3)));
    let harness = Harness::with(store, 3, config).await;
    let table = harness.table("t", TableSettings::default()).await;
    let first = prepare(&harness, &table, 100, LoadMode::Replace, 64 << 10, &rows(1)).await;
    show(&table, first).await;
    for _ in 0..3 {
        warm(&harness, &table).await;
    }
    assert_eq!(warm(&harness, &table).await, hot_keys().len());
    let second = prepare(&harness, &table, 200, LoadMode::Replace, 64 << 10, &rows(2)).await;
    show(&table, second).await;
    warm(&harness, &table).await
}

#[tokio::test]
async fn a_load_that_replaces_a_table_answers_warm_where_the_old_one_did() {
    assert_eq!(replaced(NodeConfig::default()).await, hot_keys().len());
    let cold = NodeConfig { warm_limit: Duration::ZERO, ..NodeConfig::default() };
    assert_eq!(replaced(cold).await, 0, "it is the warming that does it");
}

#[tokio::test]
async fn a_process_that_comes_reads_what_is_hot_in_another() {
    let harness = Harness::memory().await;
    let table = harness.table("t", TableSettings::default()).await;
    let load = prepare(&harness, &table, 100, LoadMode::Replace, 64 << 10, &rows(1)).await;
    show(&table, load).await;
    warm(&harness, &table).await;
    let hot = harness.node.hot_keys(vec![PartitionId(0)]).await.unwrap();
    let mut keys: Vec<String> =
        hot.iter().flat_map(|hot| &hot.keys).map(|key| String::from_utf8_lossy(key).into_owned()).collect();
    keys.sort();
    assert_eq!((hot.len(), hot[0].table, keys), (1, table.id(), hot_keys()));
    assert!(harness.node.hot_keys(vec![PartitionId(1)]).await.unwrap().is_empty());

    let other = Harness::over(harness.store.clone(), 2).await;
    let unknown = HotKeys { table: nacre_types::TableId(99), keys: vec![Key::new("k").unwrap()] };
    let limit = Duration::from_secs(60);
    let warmed = other.node.warm([vec![unknown], hot].concat(), limit).await;
    assert_eq!(warmed, hot_keys().len());
    let table = other.table("t", TableSettings::default()).await;
    assert_eq!(warm(&other, &table).await, hot_keys().len());
}

/// Two processes; the second one is told of edits by notices and does not poll.
async fn two(config: NodeConfig) -> (Harness, Harness) {
    let one = Harness::memory().await;
    let quiet = NodeConfig { poll_every: Duration::from_secs(600), ..config };
    let other = Harness::with(one.store.clone(), 2, quiet).await;
    one.wait_for_company().await;
    (one, other)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), waited).await.is_ok(), "{what} never comes");
}

/// How many of `keys` the second process answers from memory once the first one has flushed the table.
async fn flushed(config: NodeConfig) -> (usize, usize) {
    let (one, other) = two(config).await;
    let table = one.table("t", TableSettings::default()).await;
    let keys = hot_keys();
    put(&table, keys.iter().map(|key| row(key, Some("v"), None)).collect()).await;
    let there = other.table("t", TableSettings::default()).await;
    let all = keys.len() as u64;
    until("the tail", || there.info().tail_rows == all).await;
    one.node.flush(PartitionId(0), FlushMode::All).await.unwrap();
    until("the flush", || there.info().segments > 0).await;
    (warm(&other, &there).await, keys.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_flushed_is_warm_when_it_is_shown() {
    let (warm, all) = flushed(NodeConfig::default()).await;
    assert_eq!(warm, all);
    let (warm, all) = flushed(NodeConfig { warm_limit: Duration::ZERO, ..NodeConfig::default() }).await;
    assert!(warm < all, "it is the warming that does it: {warm} of {all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_another_process_merged_the_hot_blocks_are_warm() {
    let (one, other) = two(NodeConfig::default()).await;
    let table = one.table("t", TableSettings::default()).await;
    let there = other.table("t", TableSettings::default()).await;
    for round in 0_u64..8 {
        put(&table, hot_keys().iter().map(|key| row(key, Some("v"), None)).collect()).await;
        one.node.flush(PartitionId(0), FlushMode::All).await.unwrap();
        until("the flush", || there.info().segments > round).await;
    }
    for _ in 0..4 {
        warm(&other, &there).await;
    }
    let before = there.info().segments;
    assert!(table.compact_once().await.unwrap().is_some(), "eight small segments are worth a merge");
    until("the merge", || there.info().segments < before).await;
    assert_eq!(warm(&other, &there).await, hot_keys().len());
}
