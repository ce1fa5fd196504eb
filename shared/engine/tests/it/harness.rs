//! A node over a store in memory or in a directory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nacre_cache::CacheConfig;
use nacre_catalog::{Catalog, ObjectCatalog};
use nacre_engine::{
    BeginLoad, Built, Found, Guards, LoadMode, LoadReport, LoadVersion, Lookup, Node, NodeConfig,
    OnDuplicate, ReadOptions, RowOutcome, ScanRequest, SegmentSink, Table, WriteOptions, WriteRow,
};
use nacre_log::{ObjectLog, ObjectLogConfig};
use nacre_manifest::{Layer, Load, Location, Segment};
use nacre_runtime::{Clock, Context, Ids};
use nacre_segment::{SegmentRow, WriterSettings};
use nacre_store::{MemoryStore, ObjectPath, ObjectStore};
use nacre_types::{Key, KeyRange, LoadId, NamespaceName, Result, TableName, TableSettings};

pub(crate) struct Harness {
    pub(crate) ctx: Context,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) node: Arc<Node>,
}

impl Harness {
    pub(crate) async fn memory() -> Self {
        let ctx = Context::for_tests(1);
        Self::over(Arc::new(MemoryStore::new(&ctx)), 1).await
    }

    /// A process of its own on the store.
    pub(crate) async fn over(store: Arc<dyn ObjectStore>, seed: u64) -> Self {
        Self::with(store, seed, NodeConfig::default()).await
    }

    pub(crate) async fn with(store: Arc<dyn ObjectStore>, seed: u64, config: NodeConfig) -> Self {
        Self::in_world(Context::for_tests(seed), store, config).await
    }

    /// Over a store in memory, both under a clock that stands still.
    pub(crate) async fn timed(clock: Arc<dyn Clock>) -> Self {
        let ctx = Context::for_tests(1).with_clock(clock);
        let store = Arc::new(MemoryStore::new(&ctx));
        Self::in_world(ctx, store, NodeConfig::default()).await
    }

    pub(crate) async fn in_world(ctx: Context, store: Arc<dyn ObjectStore>, config: NodeConfig) -> Self {
        let catalog = Arc::new(ObjectCatalog::new(store.clone(), "catalog", &ctx).unwrap());
        Self::by_catalog(ctx, store, catalog, config).await
    }

    /// A process with a catalog of the test's.
    pub(crate) async fn by_catalog(
        ctx: Context,
        store: Arc<dyn ObjectStore>,
        catalog: Arc<dyn Catalog>,
        config: NodeConfig,
    ) -> Self {
        let prefix = ObjectPath::new("log").unwrap();
        let log =
            Arc::new(ObjectLog::open(store.clone(), &prefix, &ctx, ObjectLogConfig::default()).unwrap());
        let cache =
            CacheConfig { memory_bytes: 64 << 20, row_bytes: 1 << 20, index_bytes: 16 << 20, disk: None };
        let node = Node::open(&ctx, store.clone(), catalog, log, cache, config).await.unwrap();
        node.wait_ready().await.unwrap();
        Self { ctx, store, node }
    }

    /// Ends this process and starts another on the same store.
    pub(crate) async fn restart(self, seed: u64) -> Self {
        self.ctx.tasks.shutdown();
        let running = self.ctx.tasks.join_all(Duration::from_secs(10)).await;
        assert_eq!(running, Vec::<&str>::new());
        Self::over(self.store, seed).await
    }

    pub(crate) async fn table(&self, name: &str, settings: TableSettings) -> Arc<Table> {
        let namespace = NamespaceName::new("default").unwrap();
        let name = TableName::new(name).unwrap();
        self.node.create_table(&namespace, &name, settings, Vec::new()).await.unwrap().into_inner()
    }

    /// Waits until this process's heartbeat has shown it another one.
    pub(crate) async fn wait_for_company(&self) {
        while self.node.is_alone() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) fn now(&self) -> i64 {
        self.ctx.clock.now_micros()
    }

    pub(crate) fn read(&self) -> ReadOptions {
        ReadOptions::at(self.now())
    }

    pub(crate) async fn get(&self, table: &Arc<Table>, key: &str) -> Option<String> {
        match table.get(key.as_bytes(), &self.read()).await.unwrap().0 {
            Lookup::Found(found) => Some(text(&found)),
            Lookup::Absent(_) => None,
        }
    }

    pub(crate) async fn scan(
        &self,
        table: &Arc<Table>,
        range: KeyRange,
        reverse: bool,
    ) -> Vec<(String, String)> {
        let request = ScanRequest {
            range,
            reverse,
            since: None,
            until: None,
            max_rows: 10_000,
            max_bytes: 64 << 20,
            keys_only: false,
        };
        let (page, _) = table.scan(&request, &self.read()).await.unwrap();
        assert!(page.next.is_none());
        page.rows.iter().map(|(key, found)| (String::from_utf8(key.to_vec()).unwrap(), text(found))).collect()
    }
}

pub(crate) fn text(found: &Found) -> String {
    String::from_utf8(found.value.to_vec()).unwrap()
}

pub(crate) fn row(key: &str, value: Option<&str>, version: Option<i64>) -> WriteRow {
    WriteRow {
        key: Key::new(Bytes::copy_from_slice(key.as_bytes())).unwrap(),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
        version,
        expires_at: None,
    }
}

pub(crate) async fn put(table: &Arc<Table>, rows: Vec<WriteRow>) -> Vec<i64> {
    let written = table.write(rows, &WriteOptions::default()).await.unwrap();
    written
        .outcomes
        .into_iter()
        .map(|outcome| match outcome {
            RowOutcome::Ok { version } => version.expect("the process has the tail"),
            RowOutcome::Failed(error) => panic!("{error:?}"),
        })
        .collect()
}

/// Builds and puts segments of about `segment_bytes` from rows in the order of a segment, as a loader does.
pub(crate) async fn put_segments<'r>(
    ids: &dyn Ids,
    table: &Arc<Table>,
    load: &Load,
    rows: impl IntoIterator<Item = SegmentRow<'r>>,
    segment_bytes: u64,
) -> Result<Vec<Segment>> {
    let mut built: Vec<Built> = Vec::new();
    let mut emit = |segment| {
        built.push(segment);
        Ok(())
    };
    let mut sink = SegmentSink::new(ids, WriterSettings::default(), segment_bytes, &mut emit);
    for row in rows {
        sink.push(&row)?;
    }
    sink.finish()?;
    let mut segments = Vec::new();
    for built in built {
        let segment = built.to_segment(Location::Job(load.job), Layer::Loaded(load.id), true);
        table.put_load_segment(&segment, &built).await?;
        segments.push(segment);
    }
    Ok(segments)
}

/// Begins a load of `rows`, which rise, in segments of about `segment_bytes`, and prepares it.
pub(crate) async fn prepare(
    harness: &Harness,
    table: &Arc<Table>,
    version: i64,
    mode: LoadMode,
    segment_bytes: u64,
    rows: &[(String, String)],
) -> LoadId {
    let request = BeginLoad {
        mode,
        version: Some(LoadVersion::At(version)),
        source: None,
        columns: None,
        guards: Guards::default(),
        on_duplicate: OnDuplicate::default(),
    };
    let id =
        table.begin_load(&request, Bytes::from(format!("{version}")), None).await.unwrap().into_inner().id;
    table.prepare_load(id, Some(Vec::new()), None).await.unwrap();
    let load = table.manifest().load(id).cloned().unwrap();
    let rows = rows.iter().map(|(key, value)| SegmentRow {
        key: key.as_bytes(),
        version,
        place: None,
        expires_at: None,
        value: Some(value.as_bytes()),
    });
    let segments = put_segments(&*harness.ctx.ids, table, &load, rows, segment_bytes).await.unwrap();
    table.finish_prepare(&load, segments, 0, &LoadReport::default(), None).await.unwrap();
    id
}

/// Commits a prepared load, as the loader does.
pub(crate) async fn show(table: &Arc<Table>, id: LoadId) {
    table.commit_load(id, None, None).await.unwrap();
    table.commit_prepared(id).await.unwrap();
}
