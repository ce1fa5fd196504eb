//! The power goes: what was acknowledged is there, whatever the disk had not been told to keep.
//!
//! Lives of a process follow one another on a disk that forgets what was not synced. Each writes, flushes, merges, trims
//! and loads until it dies between two calls of the file system; then the power goes, or only the process is gone and
//! the next one finds what the disk has not written yet, builds on it, and loses the power later.

mod ledger;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nacre_cache::CacheConfig;
use nacre_catalog::ObjectCatalog;
use nacre_engine::{
    BeginLoad, FlushConfig, FlushMode, Guards, LoadMode, LoadReport, LoadVersion, Node, NodeConfig,
    OnDuplicate, RowOutcome, Table, WriteOptions,
};
use nacre_log::{ObjectLog, ObjectLogConfig};
use nacre_model::LoadRow;
use nacre_runtime::{Clock, Context, Ids, SeededIds, SystemClock};
use nacre_segment::SegmentRow;
use nacre_store::testing::{Disk, PowerLossFs, Sync};
use nacre_store::{ObjectPath, ObjectStore};
use nacre_types::{NamespaceName, PartitionId, Result, TableName, TableSettings};

use crate::harness::{put_segments, row};
use ledger::{KEYS, Ledger, Load, Op, Told, key, own_version};

const LIVES: u64 = 80;
/// How long a start, or the end of what a dead process still does, may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Loads that are left standing; beyond it one is taken back.
const STANDING: usize = 3;

/// The clock of a machine that lives when the disk does.
#[derive(Debug)]
struct DiskClock(SystemClock);

impl Clock for DiskClock {
    fn now_micros(&self) -> i64 {
        1_700_000_000_000_000 + self.0.monotonic().as_micros() as i64
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

async fn open(fs: &PowerLossFs, seed: u64) -> Result<(Arc<Node>, Arc<Table>)> {
    let ctx = Context::for_tests(seed).with_clock(Arc::new(DiskClock(SystemClock::new())));
    let store: Arc<dyn ObjectStore> = Arc::new(fs.open(&ctx)?);
    let catalog = Arc::new(ObjectCatalog::new(store.clone(), "catalog", &ctx)?);
    let log = ObjectLog::open(store.clone(), &ObjectPath::new("log")?, &ctx, ObjectLogConfig::default())?;
    let cache = CacheConfig { memory_bytes: 4 << 20, row_bytes: 1 << 20, index_bytes: 1 << 20, disk: None };
    let flush = FlushConfig { trim_delay: Duration::ZERO, ..FlushConfig::default() };
    let config = NodeConfig { flush, ..NodeConfig::default() };
    let node = Node::open(&ctx, store, catalog, Arc::new(log), cache, config).await?;
    node.wait_ready().await?;
    let settings = TableSettings { max_versions: 0, ..TableSettings::default() };
    let (namespace, name) = (NamespaceName::new("default")?, TableName::new("t")?);
    let table = node.create_table(&namespace, &name, settings, Vec::new()).await?.into_inner();
    Ok((node, table))
}

/// One life of a process.
struct Life<'a> {
    node: Arc<Node>,
    table: Arc<Table>,
    dice: &'a SeededIds,
    ledger: &'a mut Ledger,
}

impl Life<'_> {
    fn below(&self, most: u64) -> u64 {
        self.dice.random_u64() % most
    }

    /// Writes, flushes, merges and loads until something fails.
    async fn work(&mut self) -> Result<()> {
        loop {
            match self.below(16) {
                0 => drop(self.node.flush(PartitionId(0), FlushMode::All).await?),
                1 => drop(self.node.flush(PartitionId(0), FlushMode::Due).await?),
                2 => drop(self.table.compact_once().await?),
                3 => self.load().await?,
                4 => self.move_a_load().await?,
                _ => self.write().await?,
            }
        }
    }

    async fn write(&mut self) -> Result<()> {
        let number = self.ledger.number();
        let op = Op {
            key: key(self.below(KEYS)),
            number,
            version: (self.below(3) == 0).then(|| own_version(number, false)),
            is_delete: self.below(8) == 0,
        };
        self.ledger.lost = Some(op.clone());
        let value = op.value();
        let rows = vec![row(&op.key, (!op.is_delete).then_some(&*value), op.version)];
        let written = self.table.write(rows, &WriteOptions::default()).await?;
        match written.outcomes.into_iter().next().unwrap() {
            RowOutcome::Ok { version } => {
                self.ledger.lost = None;
                self.ledger.done.push(Op { version, ..op });
                Ok(())
            }
            RowOutcome::Failed(error) => Err(error),
        }
    }

    /// Begins a load and prepares it, as a loader does.
    async fn load(&mut self) -> Result<()> {
        let number = self.ledger.number();
        // A little back, so that some of what was written lies above it.
        let version = own_version(number - self.below(number.min(12)), true);
        let rows: Vec<LoadRow> = (0..KEYS)
            .filter(|_| !self.dice.random_u64().is_multiple_of(3))
            .map(|n| LoadRow {
                key: key(n).into_bytes(),
                version: Some(version - 2 * (self.dice.random_u64() % 3) as i64),
                value: (!self.dice.random_u64().is_multiple_of(6))
                    .then(|| format!("load {number}").into_bytes()),
                expires_at: None,
            })
            .collect();
        let replaces = self.below(2) == 0;
        let request = BeginLoad {
            mode: if replaces { LoadMode::Replace } else { LoadMode::Merge },
            version: Some(LoadVersion::At(version)),
            source: None,
            columns: None,
            guards: Guards { allow_older: true, ..Guards::default() },
            on_duplicate: OnDuplicate::Fail,
        };
        let id = self.table.begin_load(&request, Bytes::from_static(b"{}"), None).await?.into_inner().id;
        self.ledger.loads.push(Load { number, id, replaces, version, rows: rows.clone(), told: Told::Begun });
        self.table.prepare_load(id, Some(Vec::new()), None).await?;
        let load = self.table.manifest().load(id).cloned().unwrap();
        let rows = rows.iter().map(|row| SegmentRow {
            key: &row.key,
            version: row.version.unwrap(),
            place: None,
            expires_at: None,
            value: row.value.as_deref(),
        });
        let ids = self.node.context().ids.clone();
        let segments = put_segments(&*ids, &self.table, &load, rows, 1 << 20).await?;
        self.table.finish_prepare(&load, segments, 0, &LoadReport::default(), None).await?;
        self.told(id);
        Ok(())
    }

    /// Commits a load that is prepared, maybe since an earlier life; or takes one back.
    async fn move_a_load(&mut self) -> Result<()> {
        let with = |fits: fn(&Told) -> bool| {
            let loads = self.ledger.loads.iter().filter(|load| fits(&load.told));
            loads.map(|load| load.id).collect::<Vec<_>>()
        };
        let standing = with(|told| matches!(told, Told::Committed(_)));
        let prepared = with(|told| *told == Told::Prepared);
        if standing.len() > STANDING || (!standing.is_empty() && self.below(3) == 0) {
            let id = standing[self.below(standing.len() as u64) as usize];
            self.table.revert_load(id).await?;
            self.told(id);
        } else if !prepared.is_empty() {
            let id = prepared[self.below(prepared.len() as u64) as usize];
            self.table.commit_load(id, None, None).await?;
            self.told(id);
        }
        Ok(())
    }

    /// What was just acknowledged of a load.
    fn told(&mut self, id: nacre_types::LoadId) {
        let load = self.ledger.loads.iter_mut().find(|load| load.id == id).unwrap();
        load.told = Told::of(&self.table, id);
    }
}

async fn death(fs: &PowerLossFs) {
    while !fs.is_dead() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Lives follow one another. Answers how many writes and how many commits and reverts of loads are known to have
/// happened.
fn run(seed: u64, skipped: Option<Sync>) -> (usize, usize) {
    let disk = Disk::new();
    if let Some(kind) = skipped {
        disk.skip_syncs(kind);
    }
    let dice = SeededIds::new(seed);
    let mut ledger = Ledger::default();
    for life in 0..LIVES {
        let name = format!("seed {seed}, life {life}");
        let fs = disk.process();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let most = if dice.random_u64().is_multiple_of(4) { 150 } else { 1_500 };
            let dies_early = dice.random_u64().is_multiple_of(4);
            if dies_early {
                fs.die_after(dice.random_u64() % most);
            }
            let opened = tokio::select! {
                () = death(&fs) => return,
                opened = tokio::time::timeout(PATIENCE, open(&fs, seed << 32 | life)) => opened,
            };
            let (node, table) = match opened {
                Ok(Ok(opened)) => opened,
                _ if fs.is_dead() => return,
                other => panic!("{name}: {:?}", other.map(|opened| opened.map(drop))),
            };
            if dies_early {
                // Too short to look, and who has not looked does not know what to expect.
                return;
            }
            ledger.verify(&table, node.context().clock.now_micros(), &name).await;
            fs.die_after(dice.random_u64() % most);
            let mut life = Life { node, table, dice: &dice, ledger: &mut ledger };
            tokio::select! {
                () = death(&fs) => {}
                ended = life.work() => assert!(fs.is_dead(), "{name}: {ended:?}"),
            }
        });
        fs.die_after(0);
        runtime.shutdown_timeout(PATIENCE);
        if !dice.random_u64().is_multiple_of(3) {
            disk.lose_power(seed ^ life);
        }
    }
    let moves = |load: &Load| match load.told {
        Told::Begun | Told::Prepared => 0,
        Told::Committed(_) => 1,
        Told::Reverted(..) => 2,
    };
    (ledger.done.len(), ledger.loads.iter().map(moves).sum())
}

#[test]
fn what_was_acknowledged_survives_the_loss_of_power() {
    for seed in 1..=4 {
        let (writes, loads) = run(seed, None);
        println!("seed {seed}: {writes} writes, {loads} commits and reverts of loads");
        assert!(writes > 100, "seed {seed}: only {writes} writes were acknowledged");
        assert!(loads > 10, "seed {seed}: only {loads} loads were committed or taken back");
    }
}

#[test]
fn a_forgotten_sync_is_noticed() {
    for kind in [Sync::Files, Sync::Directories] {
        let is_noticed = |seed| catch_unwind(AssertUnwindSafe(|| run(seed, Some(kind)))).is_err();
        assert!((1..=4).any(is_noticed), "nobody minds that syncs of {kind:?} do nothing");
    }
}
