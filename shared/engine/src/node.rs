//! What one process knows of a store: its tables by id and by name, and one reader per partition of the log.

mod tables;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use nacre_cache::{BlockCache, CacheConfig};
use nacre_catalog::Catalog;
use nacre_catalog::heartbeat::Process;
use nacre_log::{Log, LogPosition};
use nacre_runtime::Context;
use nacre_store::ObjectStore;
use nacre_types::{
    Error, LogIncarnation, NamespaceName, PartitionId, ProcessId, Result, Seq, TableId, TableName,
    TableSettings,
};
use parking_lot::{Mutex, RwLock};

use crate::backlog::{self, Backlog};
use crate::flush::FlushConfig;
use crate::garbage::GarbageConfig;
use crate::metrics::Metrics;
use crate::names::Names;
use crate::presence::{Duty, Presence, PresenceConfig};
use crate::shared::Shared;
use crate::source::{Board, SourceConfig};
use crate::tail::held::Tails;
use crate::{Created, NamespaceSettings, Table, TableSummary};

/// Settings of a node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Which log this is; from the store's identity.
    pub incarnation: LogIncarnation,
    /// Writes are refused while more bytes than this wait to be flushed, per partition. More: longer outages of the
    /// catalog or the store are survived without refusing writes; every such byte is held in memory, about twice.
    pub tail_bytes_max: u64,
    /// When and how tails become segments.
    pub flush: FlushConfig,
    /// When and how fast garbage goes.
    pub garbage: GarbageConfig,
    /// When rows of sources become visible.
    pub source: SourceConfig,
    /// How processes watch each other.
    pub presence: PresenceConfig,
    /// How long a dropped name stays taken where other processes may still use it.
    pub dropped_name_life: Duration,
    /// How often the table logs of open tables are read where nothing tells of new edits.
    pub poll_every: Duration,
    /// A load that makes a shard larger than this cuts it before it shows itself.
    pub shard_bytes: u64,
    /// How long a load may be warmed before it is shown. Zero: not at all.
    pub warm_limit: Duration,
    /// How many times a GET that a read waits for is sent to the store at once, where that has room
    /// ([`nacre_store::GetOptions::copies`] and one).
    pub read_copies: u32,
    /// Which partitions of the log are read.
    pub hold: Hold,
    /// What this process says of itself to the others, until [`Node::announce`]: at most 4 KiB.
    pub info: Bytes,
}

/// Which partitions of the log a node reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// All of them, for as long as it runs.
    All,
    /// Those that [`Node::hold`] says; none to begin with.
    Chosen,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            incarnation: LogIncarnation(0),
            tail_bytes_max: 1 << 30,
            flush: FlushConfig::default(),
            garbage: GarbageConfig::default(),
            source: SourceConfig::default(),
            presence: PresenceConfig::local(),
            dropped_name_life: Duration::from_secs(600),
            poll_every: Duration::from_secs(1),
            // A 100 TB table has 6,000 shards: enough to spread, few enough for every process to know.
            shard_bytes: 16 << 30,
            warm_limit: Duration::from_secs(30),
            read_copies: 1,
            hold: Hold::All,
            info: Bytes::new(),
        }
    }
}

/// What one process knows of a store.
pub struct Node {
    pub(crate) shared: Arc<Shared>,
    pub(crate) names: Names,
    tables: RwLock<HashMap<TableId, Arc<Table>>>,
    /// Opening a table takes a while; one task does it, the others wait.
    opening: tokio::sync::Mutex<()>,
    refreshing_names: AtomicBool,
    /// Positions up to which the log may be trimmed, and from when on.
    pub(crate) trims: Mutex<HashMap<PartitionId, VecDeque<(Duration, LogPosition)>>>,
    /// When the last flush of a partition began that ended well (monotonic), where this process flushes it.
    pub(crate) flushed_at: Mutex<HashMap<PartitionId, Duration>>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("open_tables", &self.tables.read().len()).finish_non_exhaustive()
    }
}

impl Node {
    /// Starts to read the log. The node answers once [`Node::ready`] does; [`Node::wait_ready`] waits for it.
    ///
    /// # Errors
    /// Those of the cache's disk; `Unavailable`.
    pub async fn open(
        ctx: &Context,
        store: Arc<dyn ObjectStore>,
        catalog: Arc<dyn Catalog>,
        log: Arc<dyn Log>,
        cache: CacheConfig,
        config: NodeConfig,
    ) -> Result<Arc<Self>> {
        let presence = Presence::join(catalog.clone(), ctx, config.presence, config.info.clone()).await?;
        let (tails, backlog) = (Tails::new(log.partitions()), Backlog::new(log.partitions()));
        let shared = Arc::new(Shared {
            ctx: ctx.clone(),
            presence,
            store,
            catalog: catalog.clone(),
            log,
            cache: BlockCache::open(cache, ctx).await?,
            config,
            metrics: Metrics::default(),
            loads_changed: tokio::sync::Notify::new(),
            tails,
            backlog,
            warmer: OnceLock::new(),
            topics: OnceLock::new(),
            sources: Board::default(),
        });
        ctx.phases.reach("start/joined").await;
        let names = Names::new(catalog, ctx.clone());
        let node = Arc::new(Self {
            shared,
            names,
            tables: RwLock::default(),
            opening: tokio::sync::Mutex::default(),
            refreshing_names: AtomicBool::new(false),
            trims: Mutex::default(),
            flushed_at: Mutex::default(),
        });
        if node.shared.config.hold == Hold::All {
            node.hold_all();
        }
        ctx.tasks.spawn("backlog", backlog::look(node.clone()));
        ctx.phases.reach("start/tailing").await;
        let default = NamespaceName::new("default")?;
        node.names.create(&default, NamespaceSettings::default()).await?;
        let poller = node.clone();
        ctx.tasks.spawn("poll-table-logs", async move { poller.poll_table_logs().await });
        Ok(node)
    }

    /// Waits until everything that was in the log when this was called is in the tails of the partitions that are held.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn wait_ready(&self) -> Result<()> {
        for (partition, _) in self.held() {
            let end = self.shared.log.end(partition).await?;
            let tailer = self.shared.tails.get(partition)?;
            tailer.wait_for(end.offset).await?;
            tailer.answer();
        }
        Ok(())
    }

    /// Whether reads are answered from everything that was acknowledged before the node was opened: `Err` says why not
    /// yet. Where partitions are chosen, each is judged when it is read.
    ///
    /// # Errors
    /// `Unavailable`.
    pub fn ready(&self) -> Result<()> {
        if self.shared.tails.holds_all() && self.held().iter().any(|(_, answers)| !answers) {
            return Err(Error::unavailable("the log is not read to its end yet; the server is starting")
                .with_code("starting")
                .with_retry_after_ms(1_000));
        }
        Ok(())
    }

    /// The world that this node lives in.
    pub fn context(&self) -> &Context {
        &self.shared.ctx
    }

    /// The object store.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.shared.store
    }

    /// The catalog.
    pub fn catalog(&self) -> &Arc<dyn Catalog> {
        &self.shared.catalog
    }

    /// The log.
    pub fn log(&self) -> &Arc<dyn Log> {
        &self.shared.log
    }

    /// Whether no other process is registered on this store, as far as this one knows.
    pub fn is_alone(&self) -> bool {
        self.shared.presence.is_alone()
    }

    /// This process among the registered ones.
    pub fn process(&self) -> ProcessId {
        self.shared.presence.process()
    }

    /// The other registered processes, as the last heartbeat saw them; what each says of itself with it.
    pub fn others(&self) -> tokio::sync::watch::Receiver<Arc<[Process]>> {
        self.shared.presence.others()
    }

    /// Every process that is registered now, by a read: one that came a moment ago is among them, and so is one that died
    /// and whose death nobody has noticed.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn registered_now(&self) -> Result<Vec<ProcessId>> {
        let processes = nacre_catalog::heartbeat::registered(&*self.shared.catalog).await?;
        Ok(processes.into_iter().map(|process| process.id).collect())
    }

    /// Says something else of this process to the others, at once.
    pub fn announce(&self, info: Bytes) {
        self.shared.presence.say(info);
    }

    /// A part in a job that one of several processes does.
    pub fn duty(&self, name: &str) -> Duty {
        self.shared.presence.duty(self.shared.catalog.clone(), &self.shared.ctx, name)
    }

    /// Writes what the cache's disk should keep. Call it when the tasks have ended.
    ///
    /// # Errors
    /// Those of the disk; nothing is lost but warmth.
    pub async fn close(&self) -> Result<()> {
        self.shared.cache.close().await
    }

    /// Makes a namespace, or answers that it is there and equal.
    ///
    /// # Errors
    /// `Conflict` (`namespace-exists`) where it has other settings.
    pub async fn create_namespace(
        self: &Arc<Self>,
        name: &NamespaceName,
        settings: NamespaceSettings,
    ) -> Result<Created<NamespaceSettings>> {
        match self.names.create(name, settings.clone()).await? {
            (held, true) => Ok(Created::New(held)),
            (held, false) if held == settings => Ok(Created::Same(held)),
            (_, false) => Err(Error::conflict(format!("namespace {name} exists with other settings"))
                .with_code("namespace-exists")),
        }
    }

    /// A namespace's settings.
    ///
    /// # Errors
    /// `NotFound` (`namespace-not-found`).
    pub async fn namespace(self: &Arc<Self>, name: &NamespaceName) -> Result<NamespaceSettings> {
        Ok(self.names.read(name).await?.settings.clone())
    }

    /// All namespaces, in order.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn namespaces(self: &Arc<Self>) -> Result<Vec<NamespaceName>> {
        self.names.list().await
    }

    /// The table of a name.
    ///
    /// # Errors
    /// `NotFound` (`table-not-found`, `namespace-not-found`).
    pub async fn table(self: &Arc<Self>, namespace: &NamespaceName, name: &TableName) -> Result<Arc<Table>> {
        if let Some(table) = self.table_cached(namespace.as_str(), name.as_str()) {
            return Ok(table);
        }
        self.find_table(namespace, name).await?.ok_or_else(|| {
            Error::not_found(format!("there is no table {name} in namespace {namespace}; PUT it first"))
                .with_code("table-not-found")
        })
    }

    /// The table of a name that this process knows already: the path of a warm request, which copies nothing.
    pub fn table_cached(self: &Arc<Self>, namespace: &str, name: &str) -> Option<Arc<Table>> {
        let (id, is_old) = self.names.lookup_cached(namespace, name)?;
        if is_old {
            self.refresh_names(namespace);
        }
        self.tables.read().get(&id).cloned()
    }

    /// Reads a namespace's record in the background; one task at a time is enough.
    fn refresh_names(self: &Arc<Self>, namespace: &str) {
        let Ok(namespace) = NamespaceName::new(namespace) else { return };
        if self.refreshing_names.swap(true, Ordering::Relaxed) {
            return;
        }
        let node = self.clone();
        self.shared.ctx.tasks.spawn("refresh-names", async move {
            if let Err(error) = node.names.read(&namespace).await {
                tracing::warn!(%namespace, %error, "the names could not be read again");
            }
            node.refreshing_names.store(false, Ordering::Relaxed);
        });
    }

    async fn find_table(
        self: &Arc<Self>,
        namespace: &NamespaceName,
        name: &TableName,
    ) -> Result<Option<Arc<Table>>> {
        let record = self.names.read(namespace).await?;
        match record.tables.get(name.as_str()).filter(|entry| entry.dropped_at_micros.is_none()) {
            Some(entry) => {
                let id = TableId::parse(&entry.id)?;
                self.table_by_id(id).await?.map(Some).ok_or_else(|| never_made(id))
            }
            None => Ok(None),
        }
    }

    /// The tables of a namespace, by name.
    ///
    /// # Errors
    /// `NotFound` (`namespace-not-found`).
    pub async fn tables(self: &Arc<Self>, namespace: &NamespaceName) -> Result<Vec<TableSummary>> {
        let record = self.names.read(namespace).await?;
        let live = record.tables.iter().filter(|(_, entry)| entry.dropped_at_micros.is_none());
        live.map(|(name, entry)| {
            Ok(TableSummary { name: TableName::new(name)?, id: TableId::parse(&entry.id)? })
        })
        .collect()
    }

    /// Changes a table's settings: `change` answers the new ones from those in force, and is asked again where another
    /// was faster.
    ///
    /// # Errors
    /// `Invalid` (`settings-invalid`) for a change that is not allowed, for example a larger `max_versions`.
    pub async fn update_table(
        self: &Arc<Self>,
        namespace: &NamespaceName,
        name: &TableName,
        change: impl Fn(&TableSettings) -> Result<TableSettings> + Send + 'static,
    ) -> Result<Arc<Table>> {
        let table = self.table(namespace, name).await?;
        table.change_settings(change).await?;
        Ok(table)
    }

    /// The table of an id; `None` where the catalog knows none (by a strong read).
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn table_of(self: &Arc<Self>, id: TableId) -> Result<Option<Arc<Table>>> {
        self.table_by_id(id).await
    }

    /// Somebody who read the table says that its log stands at `seq`.
    pub fn hear_of(self: &Arc<Self>, table: &Table, seq: Seq) {
        if table.seq() < seq {
            self.hear_of_edit(table.id(), seq);
        }
    }

    pub(crate) async fn table_by_id(self: &Arc<Self>, id: TableId) -> Result<Option<Arc<Table>>> {
        if let Some(table) = self.tables.read().get(&id) {
            return Ok(Some(table.clone()));
        }
        let _opening = self.opening.lock().await;
        if let Some(table) = self.tables.read().get(&id) {
            return Ok(Some(table.clone()));
        }
        let Some(table) = Table::open(&self.shared, id).await? else { return Ok(None) };
        self.tables.write().insert(id, table.clone());
        Ok(Some(table))
    }

    /// The tables that are open in this process.
    pub fn open_tables(&self) -> Vec<Arc<Table>> {
        self.tables.read().values().cloned().collect()
    }

    /// Reads the table logs of all open tables.
    pub(crate) async fn refresh_tables(&self) -> Result<()> {
        for table in self.open_tables() {
            table.refresh().await?;
        }
        Ok(())
    }

    /// Somebody says that an edit was committed.
    pub(crate) fn hear_of_edit(self: &Arc<Self>, table: TableId, seq: Seq) {
        let Some(table) = self.tables.read().get(&table).cloned() else { return };
        if table.hear(seq) {
            self.shared.ctx.tasks.spawn("notice", async move { table.follow_what_was_heard().await });
        }
    }

    /// The backstop where nothing tells of edits of other processes, and the count of what waits to be flushed.
    async fn poll_table_logs(self: Arc<Self>) {
        let shutdown = self.shared.ctx.tasks.shutdown_token();
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(self.shared.config.poll_every) => {}
            }
            for partition in 0..self.partitions() {
                self.tail_bytes(PartitionId(partition));
            }
            if self.shared.presence.is_alone() {
                continue;
            }
            for table in self.open_tables() {
                if u128::from(table.age_micros()) < self.shared.config.poll_every.as_micros() {
                    continue;
                }
                if let Err(error) = table.refresh().await {
                    tracing::warn!(table = %table.id(), %error, "the table log could not be read");
                }
            }
        }
    }
}

fn never_made(id: TableId) -> Error {
    Error::corrupt(format!("a name leads to table {id}, which has no table log"))
}
