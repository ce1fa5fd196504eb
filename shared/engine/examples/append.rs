//! Fifty processes that change one table, and a table of a million segments: edits a second, tries, times.
//!
//! `cargo xtask with-services -- cargo run --release -p nacre-engine --features services --example append --
//! [race|million] [APPENDERS] [SECONDS] [SEGMENTS]` (both, 50, 10, 1,000,000). Each appender is a node of its own, as a
//! process has one; an edit begins a load or cancels it. They share a log in memory, through which they tell one another
//! of edits as they do in a fleet. The catalog is a directory, and what `NACRE_TEST_S3_ENDPOINT` and
//! `NACRE_TEST_DYNAMODB_ENDPOINT` name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
#![allow(clippy::disallowed_methods, reason = "a measurement: it reads the environment and the clock")]

use bytes::Bytes;
use nacre_cache::CacheConfig;
use nacre_catalog::{
    Append, Catalog, DynamoCatalog, DynamoSettings, EncodedEdit, ObjectCatalog, SnapshotRef,
};
use nacre_engine::{BeginLoad, Hold, Node, NodeConfig, Table};
use nacre_log::{Log, ObjectLog, ObjectLogConfig};
use nacre_manifest::{
    Change, Edit, IndexSpan, Layer, LoadGoal, LoadMode, Location, OpenLoad, PrepareLoad, Segment,
};
use nacre_runtime::Context;
use nacre_store::{
    AwsCredentials, LocalStore, MemoryStore, ObjectPath, ObjectStore, PutMode, S3Settings, S3Store,
};
use nacre_types::{CommitId, JobId, LoadId, NamespaceName, SegmentId, Seq, TableName, TableSettings};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What all appenders together are asked for; what they wait for each other comes on top.
const EDITS_PER_SECOND: f64 = 30.0;
const NOW: i64 = 1_700_000_000_000_000;
const BUCKET: &str = "nacre-append";
/// Segments of one load of the big table.
const A_LOAD: u64 = 25_000;

/// Where edits go.
struct Place {
    name: String,
    store: Arc<dyn ObjectStore>,
    dynamo: Option<DynamoCatalog>,
}

impl Place {
    /// As another process has it.
    fn catalog(&self, ctx: &Context) -> Arc<dyn Catalog> {
        match &self.dynamo {
            Some(dynamo) => Arc::new(dynamo.within("append", ctx)),
            None => Arc::new(ObjectCatalog::new(self.store.clone(), "catalog", ctx).unwrap()),
        }
    }
}

fn servers(variable: &str) -> Vec<(String, String)> {
    let list = std::env::var(variable).unwrap_or_default();
    if list.is_empty() {
        println!("{variable} is not set: none of those are measured");
    }
    let pairs = list.split_whitespace().map(|server| server.split_once('=').expect("name=url"));
    pairs.map(|(name, url)| (name.to_owned(), url.to_owned())).collect()
}

fn credentials() -> AwsCredentials {
    AwsCredentials::Keys { access_key: "test".into(), secret_key: "testtest".into(), session_token: None }
}

fn random() -> String {
    format!("{:016x}", Context::system().ids.random_u64())
}

async fn s3(endpoint: &str) -> Arc<dyn ObjectStore> {
    let settings = S3Settings {
        credentials: credentials(),
        endpoint: Some(endpoint.to_owned()),
        allow_http: true,
        ..S3Settings::default()
    };
    let ctx = Context::system();
    let root = S3Store::open(&format!("s3://{BUCKET}"), &settings, &ctx).unwrap();
    root.create_bucket().await.unwrap();
    Arc::new(S3Store::open(&format!("s3://{BUCKET}/{}", random()), &settings, &ctx).unwrap())
}

async fn dynamo(endpoint: &str, store: Arc<dyn ObjectStore>) -> DynamoCatalog {
    let settings = DynamoSettings {
        credentials: credentials(),
        endpoint: Some(endpoint.to_owned()),
        allow_http: true,
        ..DynamoSettings::default()
    };
    let url = format!("dynamodb://nacre-append-{}", random());
    DynamoCatalog::open(&url, &settings, store, "catalog", &Context::system()).await.unwrap()
}

async fn places(folder: &std::path::Path) -> Vec<Place> {
    let local: Arc<dyn ObjectStore> = Arc::new(LocalStore::open(folder, &Context::system()).unwrap());
    let mut all = vec![Place { name: "a directory".to_owned(), store: local.clone(), dynamo: None }];
    let stores: Vec<_> = servers("NACRE_TEST_S3_ENDPOINT");
    for (name, url) in &stores {
        all.push(Place { name: format!("the store, {name}"), store: s3(url).await, dynamo: None });
    }
    for (name, url) in servers("NACRE_TEST_DYNAMODB_ENDPOINT") {
        // Snapshots and large edits lie in the store, which beside DynamoDB is S3.
        let store = match stores.first() {
            Some((_, url)) => s3(url).await,
            None => local.clone(),
        };
        let dynamo = Some(dynamo(&url, store.clone()).await);
        all.push(Place { name, store, dynamo });
    }
    all
}

/// A log in memory that all processes share.
fn log() -> Arc<dyn Log> {
    let ctx = Context::system();
    let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new(&ctx));
    let config = ObjectLogConfig { partitions: 1, ..ObjectLogConfig::default() };
    Arc::new(ObjectLog::open(store, &ObjectPath::new("log").unwrap(), &ctx, config).unwrap())
}

async fn node(place: &Place, log: Arc<dyn Log>, hold: Hold) -> Arc<Node> {
    let ctx = Context::system();
    let catalog = place.catalog(&ctx);
    let cache = CacheConfig { memory_bytes: 1 << 20, row_bytes: 1 << 20, index_bytes: 1 << 20, disk: None };
    let config = NodeConfig { hold, ..NodeConfig::default() };
    let node = Node::open(&ctx, place.store.clone(), catalog, log, cache, config).await.unwrap();
    node.wait_ready().await.unwrap();
    node
}

async fn end(nodes: &[Arc<Node>]) {
    for node in nodes {
        node.context().tasks.shutdown();
    }
    for node in nodes {
        node.context().tasks.join_all(Duration::from_secs(20)).await;
    }
}

async fn new_table(node: &Arc<Node>) -> (NamespaceName, TableName, Arc<Table>) {
    let (namespace, name) =
        (NamespaceName::new("default").unwrap(), TableName::new(&format!("t-{}", random())).unwrap());
    let made = node.create_table(&namespace, &name, TableSettings::default(), Vec::new()).await.unwrap();
    (namespace, name, made.into_inner())
}

/// Milliseconds of the middle and of one in a hundred.
fn percentiles(times: &mut [Duration]) -> (f64, f64) {
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    (at(50), at(99))
}

/// Begins a load, and cancels it: two edits.
async fn two_edits(table: &Arc<Table>, pause: Duration) -> (Vec<Duration>, usize) {
    let request = serde_json::json!({"mode": "merge", "version": NOW});
    let body = Bytes::from(serde_json::to_vec(&request).unwrap());
    let request: BeginLoad = serde_json::from_value(request).unwrap();
    let (mut took, begun) = (Vec::new(), Instant::now());
    let Ok(load) = table.begin_load(&request, body, None).await else { return (took, 1) };
    took.push(begun.elapsed());
    tokio::time::sleep(pause).await;
    let begun = Instant::now();
    match table.cancel_load(load.into_inner().id).await {
        Ok(_) => took.push(begun.elapsed()),
        Err(_) => return (took, 1),
    }
    (took, 0)
}

/// Appends to table logs that lost to another's, as a node counts them.
fn conflicts(nodes: &[Arc<Node>]) -> f64 {
    let of = |node: &Arc<Node>| {
        let mut text = String::new();
        node.metrics_text(&mut text);
        let line = text.lines().find_map(|line| line.strip_prefix("nacre_engine_commit_conflicts_total "));
        line.expect("the metric").parse::<f64>().unwrap()
    };
    nodes.iter().map(of).sum()
}

/// Each of many appenders for some time, its edits `pause` apart on average.
async fn race(place: &Place, appenders: u64, time: Duration, pause: Duration, hold: Hold) {
    let log = log();
    let mut nodes = Vec::new();
    for _ in 0..appenders {
        nodes.push(node(place, log.clone(), hold).await);
    }
    let (namespace, name, first) = new_table(&nodes[0]).await;
    let mut running = Vec::new();
    let (from, lost, begun) = (first.manifest().seq(), conflicts(&nodes), Instant::now());
    for node in &nodes {
        let (node, namespace, name) = (node.clone(), namespace.clone(), name.clone());
        running.push(tokio::spawn(async move {
            // A name that was made a moment ago is not known everywhere yet.
            let table = loop {
                match node.table(&namespace, &name).await {
                    Ok(table) => break table,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            let some = || pause.mul_f64(node.context().ids.random_u64() as f64 / u64::MAX as f64 * 2.0);
            let (mut took, mut failed) = (Vec::new(), 0);
            while begun.elapsed() < time {
                tokio::time::sleep(some()).await;
                let (times, errors) = two_edits(&table, some()).await;
                took.extend(times);
                failed += errors;
            }
            (took, failed)
        }));
    }
    let (mut took, mut failed) = (Vec::new(), 0);
    for one in running {
        let (times, errors) = one.await.unwrap();
        took.extend(times);
        failed += errors;
    }
    let seconds = begun.elapsed().as_secs_f64();
    first.refresh().await.unwrap();
    let edits = (first.manifest().seq().0 - from.0) as f64;
    let lost = conflicts(&nodes) - lost;
    let (p50, p99) = percentiles(&mut took);
    let paced = format!("asked for {EDITS_PER_SECOND:.0} a second");
    let pace = if pause.is_zero() { "without a pause" } else { &paced };
    let told = if hold == Hold::All { "told of edits" } else { "not told of edits" };
    println!(
        "| {}, {appenders} appenders, {pace}, {told} | {:.1} | {:.2} | {p50:.1} | {p99:.1} | {failed} |",
        place.name,
        edits / seconds,
        lost / edits.max(1.0),
    );
    end(&nodes).await;
}

fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// A key of 16 bytes; random, and rising with `number`.
fn key(number: u64, count: u64) -> Bytes {
    let head = ((u128::from(number) << 64) / u128::from(count)) as u64;
    Bytes::from([head.to_be_bytes(), mix(number).to_be_bytes()].concat())
}

fn segment(number: u64, count: u64, load: LoadId, job: JobId) -> Segment {
    let version = NOW + (mix(number) % 86_400_000_000) as i64;
    Segment {
        id: SegmentId((u128::from(mix(number)) << 64) | u128::from(mix(!number))),
        location: Location::Job(job),
        index: IndexSpan { offset: 64_000_000 + mix(number) % 1_000_000, length: 180_000 },
        layer: Layer::Loaded(load),
        min_key: key(2 * number, 2 * count),
        max_key: key(2 * number + 1, 2 * count),
        min_version: version,
        max_version: version + 3_600_000_000,
        rows: 300_000,
        tombstones: number % 500,
        bytes: 64_300_000 + number,
        max_expires_at: None,
        with_place: false,
        exact_places: true,
    }
}

/// A load that brings the segments of these numbers.
fn load(nth: u64, numbers: std::ops::Range<u64>, count: u64) -> Edit {
    let (load, job) = (LoadId(u128::from(nth) + 1), JobId(u128::from(nth) + 1));
    let open = OpenLoad {
        load,
        job,
        mode: LoadMode::Merge,
        version: Some(NOW),
        begun_at_micros: NOW,
        idempotency: None,
        body_hash: 0,
        body: Bytes::new(),
    };
    let prepare = PrepareLoad {
        load,
        job,
        segments: numbers.map(|number| segment(number, count, load, job)).collect(),
        rows_hidden: 0,
        report_path: None,
    };
    let changes = vec![
        Change::OpenLoad(open),
        Change::PinLoad { load, files_path: "files".into(), goal: LoadGoal::Commit },
        Change::PrepareLoad(prepare),
        Change::CommitLoad { load, insist: false },
    ];
    Edit { changes, at_micros: NOW }
}

/// Opens a table of many segments, and changes it.
async fn million(place: &Place, count: u64) {
    let ctx = Context::system();
    let (log, catalog) = (log(), place.catalog(&ctx));
    let maker = node(place, log.clone(), Hold::Chosen).await;
    let (namespace, name, table) = new_table(&maker).await;
    let first = catalog.read(table.id(), Seq(0), 10).await.unwrap();
    let (mut seq, mut predecessor) = first.last().map(|(seq, edit)| (*seq, edit.commit_id)).unwrap();
    for (nth, from) in (0..count).step_by(A_LOAD as usize).enumerate() {
        let body = load(nth as u64, from..(from + A_LOAD).min(count), count).encode();
        let edit = EncodedEdit { commit_id: CommitId(ctx.ids.random_u128()), predecessor, body };
        let done = catalog.append(table.id(), seq, &edit).await.unwrap();
        assert_eq!(done, Append::Committed(seq.next()));
        (seq, predecessor) = (seq.next(), edit.commit_id);
    }
    let begun = Instant::now();
    table.refresh().await.unwrap();
    let folded = begun.elapsed();
    let manifest = table.manifest();
    assert_eq!((manifest.seq(), manifest.segments().count() as u64), (seq, count));
    let begun = Instant::now();
    let snapshot = manifest.encode();
    let encoded = begun.elapsed();
    let bytes = snapshot.len();
    let path = format!("tables/{}/manifests/{:020}", table.id(), seq.0);
    let begun = Instant::now();
    place.store.put(&ObjectPath::new(&path).unwrap(), snapshot, PutMode::Create).await.unwrap();
    let put = begun.elapsed();
    catalog.set_head(table.id(), SnapshotRef { seq, commit_id: predecessor, path }).await.unwrap();
    end(&[maker]).await;
    drop((manifest, table));

    let other = node(place, log, Hold::Chosen).await;
    let begun = Instant::now();
    let table = other.table(&namespace, &name).await.unwrap();
    let opened = begun.elapsed();
    assert_eq!(table.manifest().segments().count() as u64, count);
    let (mut took, mut failed) = (Vec::new(), 0);
    for _ in 0..25 {
        let (times, errors) = two_edits(&table, Duration::ZERO).await;
        took.extend(times);
        failed += errors;
    }
    let (p50, p99) = percentiles(&mut took);
    println!(
        "{}: {count} segments; {:.1} MB of snapshot ({:.1} bytes a segment), encoded in {:.2} s, put in {:.2} s; opened \
         from it in {:.2} s, by reading {} edits in {:.2} s; an edit takes {p50:.1} ms (p50) and {p99:.1} ms (p99) of {}, \
         {failed} failed",
        place.name,
        bytes as f64 / 1e6,
        bytes as f64 / count as f64,
        encoded.as_secs_f64(),
        put.as_secs_f64(),
        opened.as_secs_f64(),
        seq.0 - 1,
        folded.as_secs_f64(),
        took.len(),
    );
    end(&[other]).await;
}

async fn measure(what: &str, appenders: u64, time: Duration, segments: u64) {
    let folder = tempfile::tempdir().unwrap();
    let places = places(folder.path()).await;
    if what != "million" {
        let paced = Duration::from_secs_f64(appenders as f64 / EDITS_PER_SECOND);
        println!("\n| | edits/s | retries an edit | p50 ms | p99 ms | failed |\n|---|---|---|---|---|---|");
        for place in &places {
            race(place, appenders, time, paced, Hold::All).await;
            race(place, appenders, time, paced, Hold::Chosen).await;
            race(place, appenders, time, Duration::ZERO, Hold::All).await;
        }
        println!();
    }
    if what != "race" {
        for place in &places {
            million(place, segments).await;
        }
    }
}

fn main() {
    let mut words = std::env::args().skip(1).peekable();
    let what = words.next_if(|word| word.parse::<u64>().is_err()).unwrap_or_default();
    let mut numbers = words.map(|word| word.parse::<u64>().expect("a number"));
    let appenders = numbers.next().unwrap_or(50).max(1);
    let time = Duration::from_secs(numbers.next().unwrap_or(10));
    let segments = numbers.next().unwrap_or(1_000_000).max(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(&what, appenders, time, segments));
}
