//! How much faster three loaders are than one on the same load, where every request takes what it takes on S3: a median
//! of 15 ms and one in a hundred more than 60 ms, log-normal.
//!
//! `cargo run --release -p nacre-loader --example fleet [FILES] [ROWS] [ROUNDS]` (120, 2,000, 3). All loaders share the
//! processors of this machine, so it shows what the waiting comes to, not what more processors would bring.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use async_trait::async_trait;
use bytes::Bytes;
use nacre_cache::CacheConfig;
use nacre_catalog::ObjectCatalog;
use nacre_engine::{BeginLoad, LoadState, Node, NodeConfig, Table};
use nacre_loader::LoaderConfig;
use nacre_log::{ObjectLog, ObjectLogConfig};
use nacre_runtime::{Context, Ids, SeededIds};
use nacre_segment::{SegmentRow, SegmentWriter, WriterSettings};
use nacre_store::{
    GetOptions, MemoryStore, Object, ObjectMeta, ObjectPath, ObjectStore, ObjectTag, PutMode, PutOutcome,
    Upload,
};
use nacre_types::{NamespaceName, Result, TableName, TableSettings};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const MEDIAN_MS: f64 = 15.0;
/// So that one in a hundred takes more than 60 ms.
const SIGMA: f64 = 0.596;
const V: i64 = 1_700_000_000_000_000;

/// A store whose requests take their time, once that is switched on.
#[derive(Debug)]
struct SlowStore {
    inner: Arc<dyn ObjectStore>,
    dice: SeededIds,
    is_slow: Arc<AtomicBool>,
}

impl SlowStore {
    async fn wait(&self) {
        if !self.is_slow.load(Ordering::Relaxed) {
            return;
        }
        // Box and Muller's way to a normal number.
        let part = || (self.dice.random_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let normal =
            (-2.0 * part().max(f64::MIN_POSITIVE).ln()).sqrt() * (std::f64::consts::TAU * part()).cos();
        tokio::time::sleep(Duration::from_secs_f64(MEDIAN_MS / 1e3 * (SIGMA * normal).exp())).await;
    }
}

#[async_trait]
impl ObjectStore for SlowStore {
    async fn put(&self, path: &ObjectPath, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        self.wait().await;
        self.inner.put(path, body, mode).await
    }
    async fn get(&self, path: &ObjectPath, options: GetOptions) -> Result<Object> {
        self.wait().await;
        self.inner.get(path, options).await
    }
    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        self.wait().await;
        self.inner.head(path).await
    }
    async fn list(&self, prefix: &str, after: Option<&ObjectPath>, limit: usize) -> Result<Vec<ObjectMeta>> {
        self.wait().await;
        self.inner.list(prefix, after, limit).await
    }
    async fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.wait().await;
        self.inner.delete(path).await
    }
    async fn copy(&self, from: &ObjectPath, to: &ObjectPath, if_tag: &ObjectTag) -> Result<PutOutcome> {
        self.wait().await;
        self.inner.copy(from, to, if_tag).await
    }
    async fn upload(&self, path: &ObjectPath) -> Result<Box<dyn Upload>> {
        self.inner.upload(path).await
    }
    async fn date_micros(&self) -> Result<i64> {
        self.inner.date_micros().await
    }
    fn local_path(&self, _: &ObjectPath) -> Option<PathBuf> {
        None
    }
}

/// A file of another writer's order: keys in no order.
fn file(nth: u64, rows: u64) -> Bytes {
    let mut writer = SegmentWriter::new(Vec::new(), WriterSettings::default()).unwrap();
    for row in 0..rows {
        let number = nth * rows + row;
        let (order, key) =
            (format!("{number:012}"), format!("{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        let row = SegmentRow {
            key: order.as_bytes(),
            version: V,
            place: None,
            expires_at: None,
            value: Some(key.as_bytes()),
        };
        writer.push(&row).unwrap();
    }
    writer.finish().unwrap().0.into()
}

/// A process on the store, and the table.
async fn process(store: Arc<dyn ObjectStore>, seed: u64) -> (Context, Arc<Node>, Arc<Table>) {
    let ctx = Context::for_tests(seed);
    let catalog = Arc::new(ObjectCatalog::new(store.clone(), "catalog", &ctx).unwrap());
    let prefix = ObjectPath::new("log").unwrap();
    let log = Arc::new(ObjectLog::open(store.clone(), &prefix, &ctx, ObjectLogConfig::default()).unwrap());
    let cache = CacheConfig { memory_bytes: 64 << 20, row_bytes: 1 << 20, index_bytes: 16 << 20, disk: None };
    let node = Node::open(&ctx, store, catalog, log, cache, NodeConfig::default()).await.unwrap();
    node.wait_ready().await.unwrap();
    let (namespace, name) = (NamespaceName::new("default").unwrap(), TableName::new("t").unwrap());
    let table = node.create_table(&namespace, &name, TableSettings::default(), Vec::new()).await.unwrap();
    (ctx, node, table.into_inner())
}

/// Seconds from the commit call to the commit.
async fn load(loaders: u64, files: &[Bytes], seed: u64) -> f64 {
    let world = Context::for_tests(seed);
    let memory: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new(&world));
    let is_slow = Arc::new(AtomicBool::new(false));
    let mut all = Vec::new();
    for nth in 0..loaders {
        let (inner, dice) = (memory.clone(), SeededIds::new(seed + nth));
        let store = Arc::new(SlowStore { inner, dice, is_slow: is_slow.clone() });
        all.push(process(store, 1 + seed + nth).await);
    }
    let table = all[0].2.clone();
    let request = serde_json::json!({
        "mode": "merge", "version": V, "columns": {"key": ["value"], "value": "key"}
    });
    let body = Bytes::from(serde_json::to_vec(&request).unwrap());
    let request: BeginLoad = serde_json::from_value(request).unwrap();
    let id = table.begin_load(&request, body, None).await.unwrap().into_inner().id;
    for (nth, file) in files.iter().enumerate() {
        table.put_load_file(id, &format!("f{nth:05}"), file.clone()).await.unwrap();
    }
    let config = LoaderConfig {
        unit_bytes: 4 * files[0].len() as u64,
        segment_bytes: files.iter().map(|file| file.len() as u64).sum::<u64>() / 48,
        look_every: Duration::from_millis(100),
        ..LoaderConfig::default()
    };
    is_slow.store(true, Ordering::Relaxed);
    let begun = world.clock.monotonic();
    table.commit_load(id, None, None).await.unwrap();
    for (ctx, node, _) in &all {
        let run = nacre_loader::run(config.clone(), node.clone(), ctx.clone(), ctx.tasks.shutdown_token());
        ctx.tasks.spawn("loader", run);
    }
    loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
        table.refresh().await.unwrap();
        let info = table.load(id).await.unwrap();
        match info.state {
            LoadState::Committed => break,
            LoadState::Failed | LoadState::Cancelled => panic!("{:?}", info.errors),
            _ => {}
        }
    }
    let took = (world.clock.monotonic() - begun).as_secs_f64();
    is_slow.store(false, Ordering::Relaxed);
    for (ctx, ..) in &all {
        ctx.tasks.shutdown();
        ctx.tasks.join_all(Duration::from_secs(20)).await;
    }
    took
}

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>().unwrap());
    let count = numbers.next().unwrap_or(120);
    let (rows, rounds) = (numbers.next().unwrap_or(2_000), numbers.next().unwrap_or(3));
    let files: Vec<Bytes> = (0..count).map(|nth| file(nth, rows)).collect();
    println!(
        "{count} files of {rows} rows, {} bytes each; requests of {MEDIAN_MS} ms (median)",
        files[0].len()
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let one = runtime.block_on(load(1, &files, 100 * round + 1));
        let three = runtime.block_on(load(3, &files, 100 * round + 50));
        println!("one loader {one:6.2} s   three loaders {three:6.2} s   {:.2} of the time", three / one);
        ratios.push(three / one);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    println!("median {median:.2}: {}", if median <= 0.5 { "at most half" } else { "MORE THAN HALF" });
}
