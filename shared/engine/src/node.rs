//! What one process knows of a store: its tables by id and by name, and one reader per partition of the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use nacre_cache::{BlockCache, CacheConfig};
use nacre_catalog::{Append, Catalog, EncodedEdit, append_until_known};
use nacre_log::{Log, LogPosition};
use nacre_manifest::{Change, Edit, Manifest, Shard};
use nacre_runtime::{Backoff, Context};
use nacre_store::ObjectStore;
use nacre_types::{
    CommitId, Error, Generation, Key, LogIncarnation, NamespaceName, PartitionId, Result, Seq, ShardId,
    TableId, TableName, TableSettings,
};
use parking_lot::{Mutex, RwLock};

use crate::flush::FlushConfig;
use crate::metrics::Metrics;
use crate::names::{Names, TableEntry};
use crate::presence::{Duty, Presence, PresenceConfig};
use crate::shared::Shared;
use crate::tail::{self, Tailer};
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
    /// How processes watch each other.
    pub presence: PresenceConfig,
    /// How long a dropped name stays taken where other processes may still use it.
    pub dropped_name_life: Duration,
    /// How often the table logs of open tables are read where nothing tells of new edits.
    pub poll_every: Duration,
    /// A load that makes a shard larger than this cuts it before it shows itself.
    pub shard_bytes: u64,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            incarnation: LogIncarnation(0),
            tail_bytes_max: 1 << 30,
            flush: FlushConfig::default(),
            presence: PresenceConfig::local(),
            dropped_name_life: Duration::from_secs(600),
            poll_every: Duration::from_secs(1),
            // A 100 TB table has 6,000 shards: enough to spread, few enough for every process to know.
            shard_bytes: 16 << 30,
        }
    }
}

/// What one process knows of a store.
pub struct Node {
    pub(crate) shared: Arc<Shared>,
    names: Names,
    tables: RwLock<HashMap<TableId, Arc<Table>>>,
    /// Opening a table takes a while; one task does it, the others wait.
    opening: tokio::sync::Mutex<()>,
    refreshing_names: AtomicBool,
    /// Whether everything is in the tails that was in the log when the node was opened.
    caught_up: AtomicBool,
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
        let presence = Presence::join(catalog.clone(), ctx, config.presence).await?;
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
            tailers: std::sync::OnceLock::new(),
        });
        ctx.phases.reach("start/joined").await;
        let names = Names::new(catalog, ctx.clone());
        let node = Arc::new(Self {
            shared,
            names,
            tables: RwLock::default(),
            opening: tokio::sync::Mutex::default(),
            refreshing_names: AtomicBool::new(false),
            caught_up: AtomicBool::new(false),
            trims: Mutex::default(),
            flushed_at: Mutex::default(),
        });
        let tailers: Vec<Tailer> = (0..node.shared.log.partitions())
            .map(|partition| tail::start(&node, PartitionId(partition)))
            .collect();
        // Set once, here; nothing reads it before.
        drop(node.shared.tailers.set(tailers));
        ctx.phases.reach("start/tailing").await;
        let default = NamespaceName::new("default")?;
        node.names.create(&default, NamespaceSettings::default()).await?;
        let poller = node.clone();
        ctx.tasks.spawn("poll-table-logs", async move { poller.poll_table_logs().await });
        let starter = node.clone();
        ctx.tasks.spawn("catch-up", async move { starter.catch_up().await });
        Ok(node)
    }

    /// Waits until everything that was in the log when this was called is in the tails.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn wait_ready(&self) -> Result<()> {
        for partition in 0..self.shared.log.partitions() {
            let end = self.shared.log.end(PartitionId(partition)).await?;
            self.shared.tailer(PartitionId(partition))?.wait_for(end.offset).await?;
        }
        self.caught_up.store(true, Ordering::Release);
        Ok(())
    }

    /// [`Node::wait_ready`] by itself, however long the log or its store is away.
    async fn catch_up(self: Arc<Self>) {
        let shutdown = self.shared.ctx.tasks.shutdown_token();
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            let wait = backoff.next(&*self.shared.ctx.ids);
            tokio::select! {
                () = shutdown.requested() => return,
                caught_up = self.wait_ready() => match caught_up {
                    Ok(()) => return,
                    Err(error) => tracing::warn!(%error, "the log could not be read to its end; trying again"),
                },
            }
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Whether reads are answered from everything that was acknowledged before the node was opened: `Err` says why not
    /// yet.
    ///
    /// # Errors
    /// `Unavailable`.
    pub fn ready(&self) -> Result<()> {
        if !self.caught_up.load(Ordering::Acquire) {
            return Err(Error::unavailable("the log is not read to its end yet; the server is starting")
                .with_code("starting")
                .with_retry_after_ms(1_000));
        }
        for partition in 0..self.shared.log.partitions() {
            let tailer = self.shared.tailer(PartitionId(partition))?;
            if tailer.applied.borrow().is_none() {
                return Err(Error::unavailable(format!("partition {partition} of the log is not read yet")));
            }
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

    /// Makes a table, or answers that it is there and equal. `split_at` are the first keys of all shards but the first.
    ///
    /// # Errors
    /// `Conflict` (`table-exists`) where it has other settings; `Conflict` (`name-not-free-yet`) with a time to wait
    /// where the name was dropped a moment ago; `Invalid` (`split-at`); `NotFound` (`namespace-not-found`).
    pub async fn create_table(
        self: &Arc<Self>,
        namespace: &NamespaceName,
        name: &TableName,
        settings: TableSettings,
        split_at: Vec<Bytes>,
    ) -> Result<Created<Arc<Table>>> {
        let shards = self.shards(split_at)?;
        if let Some(table) = self.find_table(namespace, name).await? {
            return same_or_conflict(table, &settings, &shards);
        }
        let id = TableId(self.shared.ctx.ids.random_u128());
        self.write_first_edit(id, settings.clone(), shards.clone()).await?;
        let now = self.shared.ctx.clock.now_micros();
        let freed = self.freed_name(namespace, name).await?;
        let mut winner = id;
        self.names
            .update(namespace, |record| {
                match record.tables.get(name.as_str()) {
                    Some(entry) if entry.dropped_at_micros.is_none() => {
                        winner = TableId::parse(&entry.id)?;
                        return Ok(None);
                    }
                    Some(entry) => {
                        let is_freed = freed.as_ref() == Some(entry);
                        let life =
                            if is_freed { Duration::ZERO } else { self.shared.config.dropped_name_life };
                        let free_at =
                            entry.dropped_at_micros.unwrap_or(0).saturating_add(life.as_micros() as i64);
                        if now < free_at {
                            return Err(Error::conflict(format!(
                                "the name {name} was dropped a moment ago and is not free yet"
                            ))
                            .with_code("name-not-free-yet")
                            .with_retry_after_ms((free_at - now) as u64 / 1_000 + 1));
                        }
                    }
                    None => {}
                }
                winner = id;
                let mut next = record.clone();
                next.tables
                    .insert(name.to_string(), TableEntry { id: id.to_string(), dropped_at_micros: None });
                Ok(Some(next))
            })
            .await?;
        let table = self.table_by_id(winner).await?.ok_or_else(|| never_made(winner))?;
        if winner == id { Ok(Created::New(table)) } else { same_or_conflict(table, &settings, &shards) }
    }

    /// The entry of a dropped name that nobody else can still use: this process is alone, and was found so after the
    /// drop was. Whoever registers later reads the names later.
    async fn freed_name(&self, namespace: &NamespaceName, name: &TableName) -> Result<Option<TableEntry>> {
        let record = self.names.read(namespace).await?;
        let dropped = record.tables.get(name.as_str()).filter(|entry| entry.dropped_at_micros.is_some());
        let Some(entry) = dropped.filter(|_| self.shared.presence.is_alone()) else { return Ok(None) };
        let alone = self.shared.presence.is_alone_now(&*self.shared.catalog).await?;
        Ok(alone.then(|| entry.clone()))
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

    /// Drops a table: its name goes, its data stays until it is purged. Once begun it is carried through: a client that
    /// goes away does not leave a table that has no name and is not dropped.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn drop_table(
        self: &Arc<Self>,
        namespace: &NamespaceName,
        name: &TableName,
    ) -> Result<TableId> {
        let (node, namespace, name) = (self.clone(), namespace.clone(), name.clone());
        let dropping = async move { node.drop_table_steps(&namespace, &name).await };
        self.shared.ctx.tasks.spawn("drop-table", dropping).await?
    }

    async fn drop_table_steps(
        self: &Arc<Self>,
        namespace: &NamespaceName,
        name: &TableName,
    ) -> Result<TableId> {
        let table = self.table(namespace, name).await?;
        let id = table.id();
        let now = self.shared.ctx.clock.now_micros();
        self.names
            .update(namespace, |record| match record.tables.get(name.as_str()) {
                Some(entry) if entry.id == id.to_string() && entry.dropped_at_micros.is_none() => {
                    let mut next = record.clone();
                    let entry = TableEntry { id: entry.id.clone(), dropped_at_micros: Some(now) };
                    next.tables.insert(name.to_string(), entry);
                    Ok(Some(next))
                }
                _ => Ok(None),
            })
            .await?;
        table
            .commit(Box::new(|manifest| {
                Ok(if manifest.dropped().is_some() { Vec::new() } else { vec![Change::DropTable] })
            }))
            .await?;
        Ok(id)
    }

    /// The table of an id; `None` where the catalog knows none (by a strong read).
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
        if table.seq() < seq {
            self.shared.ctx.tasks.spawn("notice", async move {
                if let Err(error) = table.refresh().await {
                    tracing::warn!(table = %table.id(), %error, "a notice's edit could not be read; the next poll tries again");
                }
            });
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

    /// Shards for a new table, spread over the partitions. Which partition comes first is drawn, so that tables of one
    /// shard do not all meet in one.
    fn shards(&self, mut split_at: Vec<Bytes>) -> Result<Vec<Shard>> {
        for key in &split_at {
            Key::check(key).map_err(|e| e.context("split_at").with_code("split-at"))?;
        }
        if !split_at.is_sorted_by(|a, b| a < b) {
            return Err(Error::invalid("split_at must rise from key to key").with_code("split-at"));
        }
        let partitions = self.shared.log.partitions();
        let first = (self.shared.ctx.ids.random_u64() % u64::from(partitions.max(1))) as u32;
        split_at.insert(0, Bytes::new());
        Ok(split_at
            .into_iter()
            .enumerate()
            .map(|(at, start)| Shard {
                id: ShardId(at as u32),
                start,
                partition: PartitionId((first + at as u32) % partitions.max(1)),
                generation: Generation(0),
            })
            .collect())
    }

    async fn write_first_edit(&self, id: TableId, settings: TableSettings, shards: Vec<Shard>) -> Result<()> {
        let edit = Edit::one(Change::CreateTable { settings, shards }, self.shared.ctx.clock.now_micros());
        Manifest::empty(id).apply(Seq(1), &edit).map_err(Error::from)?;
        let encoded = EncodedEdit {
            commit_id: CommitId(self.shared.ctx.ids.random_u128()),
            predecessor: CommitId(0),
            body: edit.encode(),
        };
        let limit = Duration::from_secs(20);
        match append_until_known(&*self.shared.catalog, &self.shared.ctx, id, Seq(0), &encoded, limit).await?
        {
            Append::Committed(_) => Ok(()),
            // The id was minted a moment ago: nobody else writes to its log.
            Append::Conflict { .. } => Err(Error::internal(format!("table id {id} is taken"))),
            Append::Unknown => {
                Err(Error::unknown("it is not known whether the table was made; create it again"))
            }
        }
    }
}

/// The settings that differ, as JSON: what is, and what was asked for.
fn differences(held: &TableSettings, asked: &TableSettings) -> Vec<String> {
    let fields = |settings| serde_json::to_value(settings).unwrap_or_default();
    let (held, asked) = (fields(held), fields(asked));
    let names: std::collections::BTreeSet<&String> = [&held, &asked]
        .into_iter()
        .filter_map(|fields| fields.as_object())
        .flat_map(|map| map.keys())
        .collect();
    let differs = names.into_iter().filter(|name| held.get(*name) != asked.get(*name));
    let told = differs.map(|name| {
        let shown = |fields: &serde_json::Value| match fields.get(name) {
            None | Some(serde_json::Value::Null) => "none".to_owned(),
            Some(value) => value.to_string(),
        };
        format!("{name} is {}, not {}", shown(&held), shown(&asked))
    });
    told.collect()
}

fn never_made(id: TableId) -> Error {
    Error::corrupt(format!("a name leads to table {id}, which has no table log"))
}

fn same_or_conflict(
    table: Arc<Table>,
    settings: &TableSettings,
    shards: &[Shard],
) -> Result<Created<Arc<Table>>> {
    let manifest = table.manifest();
    let wanted = || shards.iter().map(|shard| &shard.start);
    // Shards may have been split since: what was asked for must be among them.
    let has_shards = wanted().all(|start| manifest.shards().iter().any(|shard| shard.start == *start));
    // Who names no key has nothing against the one that a load declared: a job that makes its table before each load
    // runs again.
    let held = manifest.settings();
    let key = settings.key.clone().or_else(|| held.key.clone());
    let asked = TableSettings { key, ..settings.clone() };
    if *held == asked && has_shards {
        return Ok(Created::Same(table));
    }
    let shards = if has_shards { None } else { Some("it is not split at these keys".to_owned()) };
    let differing = differences(held, &asked);
    let differing: Vec<String> = differing.into_iter().chain(shards).collect();
    let told = differing.join(", ");
    Err(Error::conflict(format!("the table exists with other settings ({told}); PATCH changes them"))
        .with_code("table-exists"))
}
