//! A loader that dies: the next goes on where it was.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nacre_engine::LoadState;
use nacre_loader::LoaderConfig;
use nacre_runtime::Context;
use nacre_segment::{SegmentRow, SegmentWriter, WriterSettings};
use nacre_store::LocalStore;
use nacre_types::TableSettings;
use serde_json::json;

use crate::files::{many, pairs};
use crate::gate::gated;
use crate::harness::{Harness, V, files_below, merge, replace};
use crate::samples;

fn config() -> LoaderConfig {
    LoaderConfig {
        sort_bytes: 100 << 10,
        segment_bytes: 40 << 10,
        look_every: Duration::from_millis(50),
        ..LoaderConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loader_that_takes_over_redoes_no_run_and_no_merged_segment() {
    let file = samples::sample("spark4-default-unsorted-tombstones.parquet");
    let (mut harness, gate) = gated(u32::MAX).await;
    harness.start_loader(config());
    harness.load_well(replace(), &[("f", &file)]).await;
    let all = gate.puts.load(Ordering::SeqCst);
    let segments = harness.table.info().segments as u32;
    assert!(segments >= 3 && all - segments >= 8, "{all} objects, {segments} segments");

    // Early, in the last run, and between merged segments.
    for limit in [1, 4, all - segments - 1, all - segments, all - 1] {
        let (mut harness, gate) = gated(limit).await;
        harness.start_loader(config());
        let load = harness.begin(replace()).await.id;
        harness.stage(load, "f", &file);
        harness.table.commit_load(load, None, None).await.unwrap();
        gate.hangs().await;
        harness.kill_loader().await;
        assert_eq!(harness.scan().await.len(), 0, "nothing is seen of half a load");
        gate.open();
        harness.start_loader(config());
        let info = harness.end_of(load).await;
        assert_eq!(info.state, LoadState::Committed, "{:?}", info.errors);
        assert_eq!(gate.puts.load(Ordering::SeqCst), all, "killed behind {limit}");
        samples::check(&harness, true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_small_files_that_were_in_memory_only_are_read_again() {
    let files: Vec<(String, Vec<u8>)> =
        (0..12).map(|i| (format!("f{i:02}"), many(&format!("{i:02}-"), 200, false))).collect();
    for limit in [0, 1, 2, 3] {
        let (mut harness, gate) = gated(limit).await;
        harness.start_loader(config());
        let load = harness.begin(merge()).await.id;
        for (name, bytes) in &files {
            harness.stage(load, name, bytes);
        }
        harness.table.commit_load(load, None, Some(2_400)).await.unwrap();
        gate.hangs().await;
        harness.kill_loader().await;
        gate.open();
        harness.start_loader(config());
        let info = harness.end_of(load).await;
        assert_eq!((info.state, info.progress.rows), (LoadState::Committed, 2_400), "{:?}", info.errors);
        assert_eq!(harness.texts().await.len(), 2_400);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loader_that_is_asked_to_stop_loses_no_rows() {
    let file = many("k", 3_000, false);
    for limit in [0, 1, 2] {
        let (mut harness, gate) = gated(limit).await;
        harness.start_loader(config());
        let load = harness.begin(merge()).await.id;
        harness.stage(load, "f", &file);
        harness.table.commit_load(load, None, None).await.unwrap();
        gate.hangs().await;
        harness.ctx.tasks.shutdown();
        gate.open();
        let running = harness.ctx.tasks.join_all(Duration::from_secs(20)).await;
        assert_eq!(running, Vec::<&str>::new());
        let ctx = Context::for_tests(100 + u64::from(limit));
        let store = Arc::new(LocalStore::open(harness.folder.path(), &ctx).unwrap());
        let mut next = Harness::over(store, harness.folder.clone(), ctx, TableSettings::default()).await;
        next.start_loader(config());
        assert_eq!(next.end_of(load).await.state, LoadState::Committed);
        assert_eq!(next.texts().await.len(), 3_000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_is_cancelled_at_work_stops() {
    let (mut harness, gate) = gated(2).await;
    harness.start_loader(config());
    let load = harness.begin(merge()).await.id;
    harness.stage(load, "f", &many("k", 3_000, false));
    harness.table.commit_load(load, None, None).await.unwrap();
    gate.hangs().await;
    assert_eq!(harness.table.cancel_load(load).await.unwrap().state, LoadState::Cancelled);
    gate.open();
    // The next load is worked on, and the cancelled one no more.
    harness.load_well(merge(), &[("f", &pairs(&[("a", "1")]))]).await;
    assert_eq!(harness.texts().await.len(), 1);
    assert!(gate.puts.load(Ordering::SeqCst) <= 4);
    assert_eq!(harness.table.load(load).await.unwrap().state, LoadState::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_that_are_gone_or_damaged_cost_only_the_work() {
    for damage in ["gone", "empty", "another format", "cut"] {
        let (mut harness, gate) = gated(4).await;
        harness.start_loader(config());
        let load = harness.begin(merge()).await.id;
        harness.stage(load, "f", &many("k", 3_000, false));
        harness.table.commit_load(load, None, None).await.unwrap();
        gate.hangs().await;
        harness.kill_loader().await;
        let results = results_below(&harness);
        assert!(results.len() >= 5, "a plan, a look and some steps: {results:?}");
        // All of them, or one in the middle of what is done.
        let one = results.iter().find(|path| path.display().to_string().contains("read-0-00000")).cloned();
        let chosen = if damage == "cut" { Vec::from_iter(one) } else { results };
        for path in chosen {
            let mut bytes = std::fs::read(&path).unwrap();
            // A file is never changed in place.
            std::fs::remove_file(&path).unwrap();
            match damage {
                "gone" => continue,
                "empty" => bytes.clear(),
                "cut" => bytes.truncate(bytes.len() / 2),
                _ => bytes[0] += 1,
            }
            std::fs::write(&path, bytes).unwrap();
        }
        gate.open();
        harness.start_loader(config());
        let info = harness.end_of(load).await;
        assert_eq!(info.state, LoadState::Committed, "{damage}: {:?}", info.errors);
        assert_eq!(harness.texts().await.len(), 3_000);
        assert_eq!(info.progress.rows, 3_000);
    }
}

/// The results of units that lie in the store.
fn results_below(harness: &Harness) -> Vec<PathBuf> {
    let all = files_below(&harness.folder.path().join("tables"));
    all.into_iter().filter(|path| path.display().to_string().contains("/units/")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_many_row_groups_is_read_on_where_its_runs_end() {
    // In order by what its column `key` holds, which are the values.
    let mut file = SegmentWriter::new(Vec::new(), WriterSettings::default()).unwrap();
    for i in 0..6_000_i64 {
        let (value, key) = (format!("value {i:06}"), format!("k{:06}", i * 7_919 % 6_000));
        let row = SegmentRow {
            key: value.as_bytes(),
            version: V - 1 + i % 2,
            place: None,
            expires_at: None,
            value: Some(key.as_bytes()),
        };
        file.push(&row).unwrap();
    }
    let file = file.finish().unwrap().0;
    let request =
        json!({"mode": "merge", "columns": {"key": ["value"], "value": "key", "version": "version"}});
    for limit in [1, 3, 6] {
        let (mut harness, gate) = gated(limit + 1).await;
        harness.start_loader(config());
        // Its floor hides every other row.
        harness.load_well(replace(), &[("floor", &pairs(&[("x", "1")]))]).await;
        let load = harness.begin(request.clone()).await.id;
        harness.stage(load, "f", &file);
        harness.table.commit_load(load, None, Some(6_000)).await.unwrap();
        gate.hangs().await;
        harness.kill_loader().await;
        gate.open();
        harness.start_loader(config());
        let info = harness.end_of(load).await;
        assert_eq!((info.state, info.progress.rows), (LoadState::Committed, 6_000), "{:?}", info.errors);
        assert_eq!(info.rows_hidden, Some(3_000), "killed behind {limit}");
        assert_eq!(harness.texts().await.len(), 3_001);
    }
}
