use crate::world::{Weather, plain, stormy};
use nacre_log::testing::conformance;
use nacre_runtime::Context;
use nacre_store::testing::FaultRates;
use nacre_store::{LocalStore, MemoryStore};
use std::sync::Arc;

#[tokio::test]
async fn the_log_conforms_over_memory() {
    conformance(|| plain(Arc::new(MemoryStore::new(&Context::for_tests(0))))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_conforms_over_a_local_directory() {
    let folder = tempfile::tempdir().unwrap();
    let next = std::sync::atomic::AtomicU64::new(0);
    conformance(|| {
        let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root = folder.path().join(number.to_string());
        plain(Arc::new(LocalStore::open(&root, &Context::for_tests(number)).unwrap()))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_log_conforms_over_a_store_that_answers_late() {
    conformance(|| stormy(1, Weather::default())).await;
}

#[tokio::test(start_paused = true)]
async fn the_log_conforms_over_a_store_that_loses_answers() {
    // Reads that fail are the caller's to repeat, so here every read is answered.
    let rates =
        FaultRates { unavailable: 0, lost_request: 100, lost_answer: 200, under_way: 0, sent_twice: 200 };
    for seed in 0..5 {
        conformance(|| stormy(seed, Weather { rates, ..Weather::default() })).await;
    }
}
