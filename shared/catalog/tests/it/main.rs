//! Conformance of every catalog in good and bad weather, and many appenders.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout
)]

#[cfg(feature = "dynamodb")]
mod services;

use nacre_catalog::testing::{appenders, conformance};
use nacre_catalog::{Catalog, ObjectCatalog};
use nacre_runtime::Context;
use nacre_store::testing::{FaultRates, FaultyStore};
use nacre_store::{LocalStore, MemoryStore, ObjectStore};
use std::sync::Arc;
use std::time::Duration;

fn catalog(store: Arc<dyn ObjectStore>, seed: u64) -> Arc<dyn Catalog> {
    Arc::new(ObjectCatalog::new(store, "catalog", &Context::for_tests(seed)).unwrap())
}

/// Every process with a store and a catalog of its own, on one new directory.
fn local(dir: &tempfile::TempDir, processes: u64) -> Vec<Arc<dyn Catalog>> {
    let root = dir.path().join(format!("{:x}", Context::system().ids.random_u64()));
    (1..=processes)
        .map(|n| catalog(Arc::new(LocalStore::open(&root, &Context::for_tests(n)).unwrap()), n))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_catalog_in_memory_conforms() {
    let make = || {
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new(&Context::for_tests(1)));
        vec![catalog(store.clone(), 1), catalog(store, 2)]
    };
    conformance(make, &Context::for_tests(99)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_catalog_in_a_directory_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conformance(|| local(&dir, 1), &Context::for_tests(99)).await;
    conformance(|| local(&dir, 2), &Context::for_tests(99)).await;
}

/// Every write is sent twice, or no answer to one ever comes: what is promised must still hold to the letter, because
/// what lies there tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_catalog_conforms_though_every_write_is_repeated_or_unanswered() {
    let dir = tempfile::tempdir().unwrap();
    for rates in [
        FaultRates { sent_twice: 1_000, ..FaultRates::default() },
        FaultRates { lost_answer: 1_000, ..FaultRates::default() },
    ] {
        let behind = |store: Arc<dyn ObjectStore>, seed| {
            let network = FaultyStore::new(store, seed);
            network.set_rates(rates);
            catalog(Arc::new(network), seed)
        };
        let memory = || {
            let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new(&Context::for_tests(1)));
            vec![behind(store.clone(), 1), behind(store, 2)]
        };
        conformance(memory, &Context::for_tests(99)).await;
        let local = || {
            let root = dir.path().join(format!("{:x}", Context::system().ids.random_u64()));
            let open = |n| Arc::new(LocalStore::open(&root, &Context::for_tests(n)).unwrap());
            vec![behind(open(1), 1), behind(open(2), 2)]
        };
        conformance(local, &Context::for_tests(99)).await;
    }
}

/// Four processes on one directory, each behind a bad network.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn appenders_on_a_directory_are_told_the_truth_in_any_weather() {
    let dir = tempfile::tempdir().unwrap();
    let mut networks = Vec::new();
    let mut handles: Vec<(Arc<dyn Catalog>, Context)> = Vec::new();
    for n in 1..=4 {
        let network =
            FaultyStore::new(Arc::new(LocalStore::open(dir.path(), &Context::for_tests(n)).unwrap()), n);
        network.set_rates(FaultRates::stormy());
        networks.push(network.clone());
        handles.push((catalog(Arc::new(network), n), Context::for_tests(100 + n)));
    }
    let report = appenders(handles, 10, Duration::ZERO, Duration::from_secs(30)).await;
    for network in networks {
        while network.deliver().await {}
    }
    let store = Arc::new(LocalStore::open(dir.path(), &Context::for_tests(9)).unwrap());
    report.check(&*catalog(store, 9)).await;
    assert!(report.committed > 0);
}

/// 50 processes with 20 edits a second between them: each may be beaten now and then, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_appenders_of_one_table_commit_with_few_retries() {
    let dir = tempfile::tempdir().unwrap();
    let handles: Vec<_> =
        local(&dir, 50).into_iter().zip(1_000..).map(|(c, n)| (c, Context::for_tests(n))).collect();
    let ctx = Context::system();
    let begun = ctx.clock.monotonic();
    // 50 appenders, one edit each 1.25 s on average: 40 a second, twice what is asked for.
    let report = appenders(handles.clone(), 2, Duration::from_millis(1_250), Duration::from_secs(60)).await;
    let paced = ctx.clock.monotonic() - begun;
    let mean = report.conflicts as f64 / report.committed as f64;
    println!(
        "paced: {} edits in {paced:?}, {mean:.2} retries each, at worst {}",
        report.committed, report.worst
    );
    assert_eq!((report.committed, report.unknown), (100, 0));
    assert!(mean <= 2.0, "{mean} retries each");
    report.check(&*handles[0].0).await;
}

/// All at once is worse than anything that is promised; it must still come to an end, and quickly.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_appenders_that_begin_together_all_commit() {
    let dir = tempfile::tempdir().unwrap();
    let handles: Vec<_> =
        local(&dir, 50).into_iter().zip(2_000..).map(|(c, n)| (c, Context::for_tests(n))).collect();
    let ctx = Context::system();
    let begun = ctx.clock.monotonic();
    let report = appenders(handles.clone(), 1, Duration::ZERO, Duration::from_secs(60)).await;
    let burst = ctx.clock.monotonic() - begun;
    let mean = report.conflicts as f64 / report.committed as f64;
    println!(
        "burst: {} edits in {burst:?}, {mean:.2} retries each, at worst {}",
        report.committed, report.worst
    );
    assert_eq!((report.committed, report.unknown), (50, 0));
    report.check(&*handles[0].0).await;
}
