//! What is hot is read before it is asked for.

use std::sync::Arc;

use nacre_engine::{HotKeys, LoadMode, Lookup, NodeConfig, Source, Table};
use nacre_types::{Key, PartitionId, TableSettings};

use super::harness::{Harness, prepare, show};

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
    let cold = NodeConfig { warm_limit: std::time::Duration::ZERO, ..NodeConfig::default() };
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
    let limit = std::time::Duration::from_secs(60);
    let warmed = other.node.warm([vec![unknown], hot].concat(), limit).await;
    assert_eq!(warmed, hot_keys().len());
    let table = other.table("t", TableSettings::default()).await;
    assert_eq!(warm(&other, &table).await, hot_keys().len());
}
