//! A process with a loader over a directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nacre_cache::CacheConfig;
use nacre_catalog::ObjectCatalog;
use nacre_engine::{
    BeginLoad, Created, Found, Hold, LoadFile, LoadInfo, LoadState, Lookup, Node, NodeConfig, ReadOptions,
    RowOutcome, ScanRequest, Table, WriteOptions, WriteRow,
};
use nacre_loader::LoaderConfig;
use nacre_log::{ObjectLog, ObjectLogConfig};
use nacre_runtime::{Context, TaskHandle};
use nacre_store::{LocalStore, ObjectPath, ObjectStore};
use nacre_types::{Key, KeyRange, LoadId, NamespaceName, Result, TableName, TableSettings};
use serde_json::{Value, json};

/// What versions of the samples begin at.
pub(crate) const V: i64 = 1_700_000_000_000_000;

pub(crate) struct Harness {
    pub(crate) ctx: Context,
    pub(crate) node: Arc<Node>,
    pub(crate) table: Arc<Table>,
    pub(crate) folder: Arc<tempfile::TempDir>,
    loader: Option<TaskHandle<Result<()>>>,
}

impl Harness {
    pub(crate) async fn new() -> Self {
        Self::with(LoaderConfig::default(), TableSettings::default()).await
    }

    pub(crate) async fn with(config: LoaderConfig, settings: TableSettings) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let ctx = Context::for_tests(1);
        let store = Arc::new(LocalStore::open(folder.path(), &ctx).unwrap());
        let mut harness = Self::over(store, folder, ctx, settings).await;
        harness.start_loader(config);
        harness
    }

    /// A process without a loader.
    pub(crate) async fn over(
        store: Arc<dyn ObjectStore>,
        folder: Arc<tempfile::TempDir>,
        ctx: Context,
        settings: TableSettings,
    ) -> Self {
        Self::over_by(store, folder, ctx, settings, NodeConfig::default()).await
    }

    /// A process of a fleet, which holds no tail.
    pub(crate) async fn without_tails(folder: Arc<tempfile::TempDir>, seed: u64) -> Self {
        let ctx = Context::for_tests(seed);
        let store = Arc::new(LocalStore::open(folder.path(), &ctx).unwrap());
        let config = NodeConfig { hold: Hold::Chosen, ..NodeConfig::default() };
        Self::over_by(store, folder, ctx, TableSettings::default(), config).await
    }

    async fn over_by(
        store: Arc<dyn ObjectStore>,
        folder: Arc<tempfile::TempDir>,
        ctx: Context,
        settings: TableSettings,
        config: NodeConfig,
    ) -> Self {
        let catalog = Arc::new(ObjectCatalog::new(store.clone(), "catalog", &ctx).unwrap());
        let prefix = ObjectPath::new("log").unwrap();
        let log =
            Arc::new(ObjectLog::open(store.clone(), &prefix, &ctx, ObjectLogConfig::default()).unwrap());
        let cache =
            CacheConfig { memory_bytes: 64 << 20, row_bytes: 1 << 20, index_bytes: 16 << 20, disk: None };
        let node = Node::open(&ctx, store.clone(), catalog, log, cache, config).await.unwrap();
        node.wait_ready().await.unwrap();
        let (namespace, name) = (NamespaceName::new("default").unwrap(), TableName::new("t").unwrap());
        let table = node.create_table(&namespace, &name, settings, Vec::new()).await.unwrap().into_inner();
        Self { ctx, node, table, folder, loader: None }
    }

    pub(crate) fn start_loader(&mut self, config: LoaderConfig) {
        let run =
            nacre_loader::run(config, self.node.clone(), self.ctx.clone(), self.ctx.tasks.shutdown_token());
        self.loader = Some(self.ctx.tasks.spawn("loader", run));
    }

    /// Ends the loader as a crash would.
    pub(crate) async fn kill_loader(&mut self) {
        if let Some(loader) = self.loader.take() {
            loader.abort();
            loader.await.unwrap_err();
        }
    }

    pub(crate) async fn begin(&self, request: Value) -> LoadInfo {
        self.try_begin(request, None).await.unwrap().into_inner()
    }

    pub(crate) async fn try_begin(&self, request: Value, key: Option<&str>) -> Result<Created<LoadInfo>> {
        let body = Bytes::from(serde_json::to_vec(&request).unwrap());
        let request: BeginLoad = serde_json::from_value(request).unwrap();
        self.table.begin_load(&request, body, key).await
    }

    pub(crate) fn staging(&self, load: LoadId) -> PathBuf {
        self.folder.path().join(format!("staging/{load}"))
    }

    pub(crate) fn stage(&self, load: LoadId, name: &str, bytes: &[u8]) {
        let path = self.staging(load).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Begins, writes the files, commits, and waits for the end.
    pub(crate) async fn load(&self, request: Value, files: &[(&str, &[u8])]) -> LoadInfo {
        let load = self.begin(request).await.id;
        for (name, bytes) in files {
            self.stage(load, name, bytes);
        }
        self.table.commit_load(load, None, None).await.unwrap();
        self.end_of(load).await
    }

    /// [`Harness::load`] that must come to be committed.
    pub(crate) async fn load_well(&self, request: Value, files: &[(&str, &[u8])]) -> LoadInfo {
        let info = self.load(request, files).await;
        assert_eq!(info.state, LoadState::Committed, "{:?}", info.errors);
        info
    }

    /// [`Harness::load`] that must fail; answers what is wrong as `file row column: detail`.
    pub(crate) async fn load_badly(&self, request: Value, files: &[(&str, &[u8])]) -> Vec<String> {
        let before = self.scan().await;
        let info = self.load(request, files).await;
        assert_eq!(info.state, LoadState::Failed);
        assert!(info.error_count >= info.errors.len() as u64 && !info.errors.is_empty());
        assert_eq!(self.scan().await, before, "a failed load leaves nothing visible");
        told(&info)
    }

    pub(crate) async fn end_of(&self, load: LoadId) -> LoadInfo {
        self.until(load, |state| {
            matches!(
                state,
                LoadState::Committed | LoadState::Failed | LoadState::Cancelled | LoadState::Reverted
            )
        })
        .await
    }

    pub(crate) async fn until(&self, load: LoadId, done: impl Fn(LoadState) -> bool) -> LoadInfo {
        for _ in 0..3_000 {
            let info = self.table.load(load).await.unwrap();
            if done(info.state) {
                return info;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{:?}", self.table.load(load).await);
    }

    pub(crate) async fn files_of(&self, load: LoadId) -> Vec<LoadFile> {
        self.table.load_files(load).await.unwrap()
    }

    pub(crate) fn read(&self) -> ReadOptions {
        ReadOptions::at(V)
    }

    pub(crate) async fn get(&self, key: &[u8]) -> Option<Found> {
        self.get_with(key, &self.read()).await
    }

    pub(crate) async fn get_with(&self, key: &[u8], options: &ReadOptions) -> Option<Found> {
        match self.table.get(key, options).await.unwrap().0 {
            Lookup::Found(found) => Some(found),
            Lookup::Absent(_) => None,
        }
    }

    pub(crate) async fn text(&self, key: &str) -> Option<String> {
        self.get(key.as_bytes()).await.map(|found| String::from_utf8(found.value.to_vec()).unwrap())
    }

    pub(crate) async fn scan(&self) -> Vec<(Bytes, Found)> {
        self.scan_with(&self.read()).await
    }

    pub(crate) async fn scan_with(&self, options: &ReadOptions) -> Vec<(Bytes, Found)> {
        let mut rows = Vec::new();
        let mut range = KeyRange::all();
        loop {
            let request = ScanRequest {
                range: range.clone(),
                reverse: false,
                since: None,
                until: None,
                max_rows: 1_000,
                max_bytes: 4 << 20,
                keys_only: false,
            };
            let (page, _) = self.table.scan(&request, options).await.unwrap();
            rows.extend(page.rows);
            match page.next {
                Some(next) => range.start = next,
                None => return rows,
            }
        }
    }

    /// Keys and values of a scan, as text.
    pub(crate) async fn texts(&self) -> Vec<(String, String)> {
        texts(self.scan().await)
    }

    pub(crate) async fn put(&self, key: &str, value: Option<&str>, version: i64) {
        let row = WriteRow {
            key: Key::new(Bytes::copy_from_slice(key.as_bytes())).unwrap(),
            value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
            version: Some(version),
            expires_at: None,
        };
        let written = self.table.write(vec![row], &WriteOptions::default()).await.unwrap();
        assert!(matches!(written.outcomes[..], [RowOutcome::Ok { .. }]));
    }
}

pub(crate) fn texts(rows: Vec<(Bytes, Found)>) -> Vec<(String, String)> {
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    rows.into_iter().map(|(key, found)| (text(key), text(found.value))).collect()
}

pub(crate) fn told(info: &LoadInfo) -> Vec<String> {
    info.errors
        .iter()
        .map(|error| {
            let row = error.row.map_or(String::new(), |row| format!(" row {row}"));
            let column = error.column.as_ref().map_or(String::new(), |column| format!(" column {column}"));
            format!("{}{row}{column}: {}", error.file, error.detail)
        })
        .collect()
}

pub(crate) fn merge() -> Value {
    json!({"mode": "merge", "version": V})
}

pub(crate) fn replace() -> Value {
    json!({"mode": "replace", "version": V})
}

/// `base` with the fields of `more`.
pub(crate) fn with(mut base: Value, more: Value) -> Value {
    base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    base
}

pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { files_below(&path) } else { vec![path] }
        })
        .collect()
}
