//! A loader that dies: the next goes on where it was.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use nacre_engine::LoadState;
use nacre_loader::LoaderConfig;
use nacre_runtime::Context;
use nacre_segment::{SegmentRow, SegmentWriter, WriterSettings};
use nacre_store::{
    GetOptions, LocalStore, Object, ObjectMeta, ObjectPath, ObjectStore, ObjectTag, PutMode, PutOutcome,
    Upload,
};
use nacre_types::{Result, TableSettings};
use serde_json::json;

use crate::files::{many, pairs};
use crate::harness::{Harness, V, merge, replace};
use crate::samples;

/// A directory that stops answering puts of segments once some have been put.
#[derive(Debug)]
struct Gate {
    inner: LocalStore,
    /// Segments put so far.
    puts: AtomicU32,
    /// Puts of segments beyond this many hang until the gate is open.
    limit: AtomicU32,
    /// Whether a put hangs.
    is_hanging: AtomicBool,
    /// Whether files may be read past the store, as on a disk of this machine.
    is_local: bool,
}

#[async_trait]
impl ObjectStore for Gate {
    async fn put(&self, path: &ObjectPath, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        if path.as_str().starts_with("tables/") && path.as_str().ends_with(".parquet") {
            while self.puts.load(Ordering::SeqCst) >= self.limit.load(Ordering::SeqCst) {
                self.is_hanging.store(true, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            self.puts.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.put(path, body, mode).await
    }
    async fn get(&self, path: &ObjectPath, options: GetOptions) -> Result<Object> {
        self.inner.get(path, options).await
    }
    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        self.inner.head(path).await
    }
    async fn list(&self, prefix: &str, after: Option<&ObjectPath>, limit: usize) -> Result<Vec<ObjectMeta>> {
        self.inner.list(prefix, after, limit).await
    }
    async fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.inner.delete(path).await
    }
    async fn copy(&self, from: &ObjectPath, to: &ObjectPath, if_tag: &ObjectTag) -> Result<PutOutcome> {
        self.inner.copy(from, to, if_tag).await
    }
    async fn upload(&self, path: &ObjectPath) -> Result<Box<dyn Upload>> {
        self.inner.upload(path).await
    }
    async fn date_micros(&self) -> Result<i64> {
        self.inner.date_micros().await
    }
    fn local_path(&self, path: &ObjectPath) -> Option<PathBuf> {
        self.inner.local_path(path).filter(|_| self.is_local)
    }
}

fn config() -> LoaderConfig {
    LoaderConfig {
        sort_bytes: 100 << 10,
        segment_bytes: 40 << 10,
        look_every: Duration::from_millis(50),
        ..LoaderConfig::default()
    }
}

async fn gated(limit: u32) -> (Harness, Arc<Gate>) {
    over_gate(limit, true).await
}

/// A process whose store is, as far as it can see, on no disk of its machine.
pub(crate) async fn elsewhere() -> Harness {
    over_gate(u32::MAX, false).await.0
}

async fn over_gate(limit: u32, is_local: bool) -> (Harness, Arc<Gate>) {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let ctx = Context::for_tests(1);
    let gate = Arc::new(Gate {
        inner: LocalStore::open(folder.path(), &ctx).unwrap(),
        puts: AtomicU32::new(0),
        limit: AtomicU32::new(limit),
        is_hanging: AtomicBool::new(false),
        is_local,
    });
    let harness = Harness::over(gate.clone(), folder, ctx, TableSettings::default()).await;
    (harness, gate)
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
        while !gate.is_hanging.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        harness.kill_loader().await;
        assert_eq!(harness.scan().await.len(), 0, "nothing is seen of half a load");
        gate.limit.store(u32::MAX, Ordering::SeqCst);
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
        while !gate.is_hanging.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        harness.kill_loader().await;
        gate.limit.store(u32::MAX, Ordering::SeqCst);
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
        while !gate.is_hanging.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        harness.ctx.tasks.shutdown();
        gate.limit.store(u32::MAX, Ordering::SeqCst);
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
    while !gate.is_hanging.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(harness.table.cancel_load(load).await.unwrap().state, LoadState::Cancelled);
    gate.limit.store(u32::MAX, Ordering::SeqCst);
    // The next load is worked on, and the cancelled one no more.
    harness.load_well(merge(), &[("f", &pairs(&[("a", "1")]))]).await;
    assert_eq!(harness.texts().await.len(), 1);
    assert!(gate.puts.load(Ordering::SeqCst) <= 4);
    assert_eq!(harness.table.load(load).await.unwrap().state, LoadState::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_is_gone_costs_only_the_work() {
    let (mut harness, gate) = gated(4).await;
    harness.start_loader(config());
    let load = harness.begin(merge()).await.id;
    harness.stage(load, "f", &many("k", 3_000, false));
    harness.table.commit_load(load, None, None).await.unwrap();
    while !gate.is_hanging.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    harness.kill_loader().await;
    let told = harness.table.told_load_status(load).await.unwrap().checkpoint.unwrap();
    std::fs::remove_file(harness.folder.path().join(told)).unwrap();
    gate.limit.store(u32::MAX, Ordering::SeqCst);
    harness.start_loader(config());
    assert_eq!(harness.end_of(load).await.state, LoadState::Committed);
    assert_eq!(harness.texts().await.len(), 3_000);
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
        while !gate.is_hanging.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        harness.kill_loader().await;
        gate.limit.store(u32::MAX, Ordering::SeqCst);
        harness.start_loader(config());
        let info = harness.end_of(load).await;
        assert_eq!((info.state, info.progress.rows), (LoadState::Committed, 6_000), "{:?}", info.errors);
        assert_eq!(info.rows_hidden, Some(3_000), "killed behind {limit}");
        assert_eq!(harness.texts().await.len(), 3_001);
    }
}
