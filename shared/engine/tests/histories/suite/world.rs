//! What a history happens in: one clock, one store, and processes on it that end in order or drop dead.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use nacre_cache::CacheConfig;
use nacre_catalog::ObjectCatalog;
use nacre_engine::{Node, NodeConfig, Table};
use nacre_log::{ObjectLog, ObjectLogConfig};
use nacre_runtime::{Clock, Context};
use nacre_store::{
    GetOptions, MemoryStore, Object, ObjectMeta, ObjectPath, ObjectStore, ObjectTag, PutMode, PutOutcome,
    Upload,
};
use nacre_types::{Error, Key, NamespaceName, Result, TableName};

use super::ops::Setup;

/// The wall clock moves when the history says so; what is measured follows tokio's paused time, so that nothing waits.
#[derive(Debug)]
pub struct WorldClock {
    now: AtomicI64,
    /// How far this process's clock is off.
    skew: i64,
    start: tokio::time::Instant,
    base: Option<Arc<WorldClock>>,
}

impl WorldClock {
    pub fn new(now: i64) -> Arc<Self> {
        Arc::new(Self { now: AtomicI64::new(now), skew: 0, start: tokio::time::Instant::now(), base: None })
    }

    fn skewed(base: &Arc<Self>, skew: i64) -> Arc<Self> {
        Arc::new(Self { now: AtomicI64::new(0), skew, start: base.start, base: Some(base.clone()) })
    }

    pub fn pass(&self, micros: i64) {
        self.now.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Clock for WorldClock {
    fn now_micros(&self) -> i64 {
        match &self.base {
            Some(base) => base.now_micros() + self.skew,
            None => self.now.load(Ordering::Relaxed),
        }
    }

    fn monotonic(&self) -> Duration {
        tokio::time::Instant::now().saturating_duration_since(self.start)
    }
}

/// One process's way to the store. Once it has died nothing of it has an effect any more.
#[derive(Debug)]
pub struct Gate {
    store: MemoryStore,
    /// Writes that still pass; the one after them is the last thing that the process does.
    left: AtomicU64,
    /// Whether that one still has its effect.
    last_lands: std::sync::atomic::AtomicBool,
    ctx: Context,
}

const FOREVER: u64 = u64::MAX;
const DEAD: u64 = u64::MAX - 1;

impl Gate {
    pub fn is_dead(&self) -> bool {
        self.left.load(Ordering::SeqCst) == DEAD
    }

    /// Dies at the write after `writes` more.
    pub fn arm(&self, writes: u64, last_lands: bool) {
        self.last_lands.store(last_lands, Ordering::SeqCst);
        self.left.store(writes, Ordering::SeqCst);
    }

    pub fn disarm(&self) {
        if !self.is_dead() {
            self.left.store(FOREVER, Ordering::SeqCst);
        }
    }

    pub fn die(&self) {
        self.left.store(DEAD, Ordering::SeqCst);
        self.ctx.tasks.shutdown();
    }

    fn check(&self) -> Result<()> {
        if self.is_dead() { Err(Error::unavailable("the process is dead")) } else { Ok(()) }
    }

    /// Whether a write passes; `Break(lands)` = this is the last.
    fn step(&self) -> Result<ControlFlow<bool>> {
        self.check()?;
        match self.left.load(Ordering::SeqCst) {
            FOREVER => Ok(ControlFlow::Continue(())),
            0 => {
                self.die();
                Ok(ControlFlow::Break(self.last_lands.load(Ordering::SeqCst)))
            }
            left => {
                self.left.store(left - 1, Ordering::SeqCst);
                Ok(ControlFlow::Continue(()))
            }
        }
    }
}

fn cut_off<T>() -> Result<T> {
    Err(Error::unknown("the process died before the answer"))
}

#[async_trait]
impl ObjectStore for Gate {
    async fn put(&self, path: &ObjectPath, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        match self.step()? {
            ControlFlow::Continue(()) => self.store.put(path, body, mode).await,
            ControlFlow::Break(lands) => {
                if lands {
                    self.store.put(path, body, mode).await?;
                }
                cut_off()
            }
        }
    }
    async fn get(&self, path: &ObjectPath, options: GetOptions) -> Result<Object> {
        self.check()?;
        self.store.get(path, options).await
    }
    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        self.check()?;
        self.store.head(path).await
    }
    async fn list(&self, prefix: &str, after: Option<&ObjectPath>, limit: usize) -> Result<Vec<ObjectMeta>> {
        self.check()?;
        self.store.list(prefix, after, limit).await
    }
    async fn delete(&self, path: &ObjectPath) -> Result<()> {
        match self.step()? {
            ControlFlow::Continue(()) => self.store.delete(path).await,
            ControlFlow::Break(lands) => {
                if lands {
                    self.store.delete(path).await?;
                }
                cut_off()
            }
        }
    }
    async fn copy(&self, from: &ObjectPath, to: &ObjectPath, if_tag: &ObjectTag) -> Result<PutOutcome> {
        self.check()?;
        self.store.copy(from, to, if_tag).await
    }
    async fn upload(&self, path: &ObjectPath) -> Result<Box<dyn Upload>> {
        self.check()?;
        self.store.upload(path).await
    }
    async fn date_micros(&self) -> Result<i64> {
        self.check()?;
        self.store.date_micros().await
    }
    fn local_path(&self, path: &ObjectPath) -> Option<PathBuf> {
        self.store.local_path(path)
    }
}

/// A process with the table open.
pub struct Process {
    pub ctx: Context,
    pub gate: Arc<Gate>,
    pub node: Arc<Node>,
    pub table: Arc<Table>,
    /// Nobody else has done anything since this process last read to the end.
    pub fresh: bool,
}

pub struct World {
    pub clock: Arc<WorldClock>,
    pub store: MemoryStore,
    pub setup: Setup,
    opened: u64,
}

impl World {
    pub fn new(setup: Setup) -> Self {
        let clock = WorldClock::new(super::ops::START);
        let ctx = Context::for_tests(0).with_clock(clock.clone());
        Self { clock, store: MemoryStore::new(&ctx), setup, opened: 0 }
    }

    pub fn now(&self) -> i64 {
        self.clock.now_micros()
    }

    /// Starts a process. The first one makes the table.
    pub async fn open(&mut self, slot: usize) -> Result<Process> {
        self.opened += 1;
        let skew = if slot == 0 { 0 } else { self.setup.skew };
        let ctx = Context::for_tests(1_000 + self.opened).with_clock(WorldClock::skewed(&self.clock, skew));
        let gate = Arc::new(Gate {
            store: self.store.clone(),
            left: AtomicU64::new(FOREVER),
            last_lands: std::sync::atomic::AtomicBool::new(false),
            ctx: ctx.clone(),
        });
        let store: Arc<dyn ObjectStore> = gate.clone();
        let catalog = Arc::new(ObjectCatalog::new(store.clone(), "catalog", &ctx)?);
        let log_config = ObjectLogConfig {
            partitions: if self.setup.split { 2 } else { 1 },
            ..ObjectLogConfig::default()
        };
        let log = Arc::new(ObjectLog::open(store.clone(), &ObjectPath::new("log")?, &ctx, log_config)?);
        let cache =
            CacheConfig { memory_bytes: 4 << 20, row_bytes: 1 << 20, index_bytes: 1 << 20, disk: None };
        let mut config = NodeConfig::default();
        config.garbage.grace = Duration::from_secs(60);
        config.flush.trim_delay =
            if self.setup.trims { Duration::ZERO } else { Duration::from_secs(24 * 3600) };
        if self.setup.tiny_segments {
            config.flush.segment_bytes = 1;
        }
        let node = Node::open(&ctx, store, catalog, log, cache, config).await?;
        let (namespace, name) = (NamespaceName::new("default")?, TableName::new("t")?);
        let table = if self.opened == 1 {
            let split = if self.setup.split { vec![Bytes::from_static(b"b")] } else { Vec::new() };
            node.create_table(&namespace, &name, self.setup.settings(), split).await?.into_inner()
        } else {
            node.table(&namespace, &name).await?
        };
        node.wait_ready().await?;
        // Opened after everything that was done, and read to the end just now.
        Ok(Process { ctx, gate, node, table, fresh: true })
    }
}

impl Process {
    /// Ends in order.
    pub async fn close(self) -> std::result::Result<(), String> {
        self.ctx.tasks.shutdown();
        let running = self.ctx.tasks.join_all(Duration::from_secs(30)).await;
        if !running.is_empty() {
            return Err(format!("these tasks do not end: {running:?}"));
        }
        self.node.close().await.map_err(|e| format!("the node does not close: {e}"))
    }

    /// Reads to the end of everything.
    pub async fn freshen(&mut self, now: i64) -> Result<()> {
        let options = nacre_engine::ReadOptions {
            consistency: Some(nacre_types::Consistency::Strong),
            ..nacre_engine::ReadOptions::at(now)
        };
        self.table.batch_get(&[Key::new(Bytes::from_static(b"a"))?], &options).await?;
        self.fresh = true;
        Ok(())
    }
}
