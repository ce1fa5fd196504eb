//! Conformance of every store.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout
)]

#[cfg(feature = "s3")]
mod services;
mod speed;

use nacre_runtime::Context;
use nacre_store::testing::{FaultRates, FaultyStore, conformance, races};
use nacre_store::{LocalStore, MemoryStore, Metered, ObjectStore};
use std::sync::Arc;

/// A new store that `processes` processes share.
fn local(dir: &tempfile::TempDir, processes: u64) -> Vec<Arc<dyn ObjectStore>> {
    let root = dir.path().join(format!("{:x}", Context::system().ids.random_u64()));
    let open =
        |seed| Arc::new(LocalStore::open(&root, &Context::for_tests(seed)).unwrap()) as Arc<dyn ObjectStore>;
    (0..processes).map(open).collect()
}

fn memory(processes: usize) -> Vec<Arc<dyn ObjectStore>> {
    let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new(&Context::for_tests(1)));
    vec![store; processes]
}

/// Every process behind its own network.
fn stormy(stores: Vec<Arc<dyn ObjectStore>>, seed: u64) -> Vec<Arc<dyn ObjectStore>> {
    let behind = |(n, store)| {
        let faulty = FaultyStore::new(store, seed * 100 + n as u64);
        faulty.set_rates(FaultRates::stormy());
        Arc::new(faulty) as Arc<dyn ObjectStore>
    };
    stores.into_iter().enumerate().map(behind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_conforms() {
    conformance(|| memory(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_local_directory_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conformance(|| local(&dir, 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_local_directory_of_two_processes_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conformance(|| local(&dir, 2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wrapped_stores_conform() {
    let wrap = |store| {
        let calm = FaultyStore::new(store, 1);
        Arc::new(Metered::new(calm)) as Arc<dyn ObjectStore>
    };
    conformance(|| memory(2).into_iter().map(wrap).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn races_in_memory_have_one_winner_in_any_weather() {
    races(memory(4), 0).await;
    for seed in 1..=40 {
        races(stormy(memory(4), seed), seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn races_in_a_directory_have_one_winner_in_any_weather() {
    let dir = tempfile::tempdir().unwrap();
    races(local(&dir, 4), 0).await;
    for seed in 1..=3 {
        races(stormy(local(&dir, 4), seed), seed).await;
    }
}
