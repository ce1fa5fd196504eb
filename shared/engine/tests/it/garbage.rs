//! What failed loads, dead processes and compactions left goes after a grace, and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nacre_catalog::ObjectCatalog;
use nacre_engine::{FlushMode, GarbageReport, LoadMode, LoadReport, Lookup, Node, NodeConfig, Table};
use nacre_manifest::{LoadState, segment_path};
use nacre_runtime::{Clock as _, Context, ManualClock};
use nacre_store::testing::{Fault, FaultyStore, Operation};
use nacre_store::{MemoryStore, ObjectPath, ObjectStore, PutMode};
use nacre_types::{ErrorKind, KeyRange, LoadId, PartitionId, TableSettings};

use crate::edits_gone::{ASLEEP, Forgetful};
use crate::harness::{Harness, prepare, put, row, show, text};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3_600);
const START: i64 = 1_800_000_000_000_000;
const P: PartitionId = PartitionId(0);

/// A store and processes on it, by one clock that the test moves.
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Arc<dyn ObjectStore>,
    faults: Arc<FaultyStore>,
    pub(crate) config: NodeConfig,
    opened: AtomicU64,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let memory = MemoryStore::new(&Context::for_tests(0).with_clock(clock.clone()));
        let faults = FaultyStore::new(Arc::new(memory), 1);
        let config = NodeConfig::default();
        Self { clock, store: Arc::new(faults.clone()), faults, config, opened: AtomicU64::new(0) }
    }

    pub(crate) fn ctx(&self) -> Context {
        let seed = 1 + self.opened.fetch_add(1, Ordering::Relaxed);
        Context::for_tests(seed).with_clock(self.clock.clone())
    }

    pub(crate) async fn process(&self) -> Harness {
        Harness::in_world(self.ctx(), self.store.clone(), self.config.clone()).await
    }

    async fn restart(&self, harness: Harness) -> (Harness, Arc<Table>) {
        harness.ctx.tasks.shutdown();
        let running = harness.ctx.tasks.join_all(Duration::from_secs(10)).await;
        assert_eq!(running, Vec::<&str>::new());
        drop(harness);
        let next = self.process().await;
        let table = open(&next.node).await;
        (next, table)
    }

    pub(crate) async fn objects(&self, prefix: &str) -> BTreeSet<String> {
        let all = self.store.list(prefix, None, 100_000).await.unwrap();
        all.into_iter().map(|meta| meta.path.as_str().to_owned()).collect()
    }

    /// The objects of a table that are no manifest snapshots.
    pub(crate) async fn of_table(&self, table: &Table) -> BTreeSet<String> {
        let mut all = self.objects(&format!("tables/{}/", table.id())).await;
        all.retain(|path| !path.contains("/manifests/"));
        all
    }

    /// Takes the first mark, a second later than whatever was put: of the same moment nothing is older than it.
    pub(crate) async fn mark(&self, table: &Arc<Table>) {
        self.clock.advance(Duration::from_secs(1));
        assert_eq!(table.collect_garbage().await.unwrap(), GarbageReport::default());
    }

    /// A day passes, and garbage is collected by the mark of the last time.
    pub(crate) async fn next_day(&self, table: &Arc<Table>) -> GarbageReport {
        self.clock.advance(DAY);
        let report = table.collect_garbage().await.unwrap();
        assert!(report.done, "{report:?}");
        report
    }
}

pub(crate) async fn open(node: &Arc<Node>) -> Arc<Table> {
    let namespace = nacre_types::NamespaceName::new("default").unwrap();
    node.table(&namespace, &nacre_types::TableName::new("t").unwrap()).await.unwrap()
}

fn rows(letter: &str, count: usize) -> Vec<(String, String)> {
    (0..count).map(|n| (format!("{letter}{n:03}"), format!("{letter}-{n}"))).collect()
}

pub(crate) async fn load(world: &Harness, table: &Arc<Table>, mode: LoadMode, letter: &str) -> LoadId {
    let version = world.now();
    prepare(world, table, version, mode, 1 << 20, &rows(letter, 50)).await
}

async fn flush(node: &Arc<Node>) {
    node.flush(P, FlushMode::All).await.unwrap();
}

/// One flush of a few rows each, `count` times.
async fn flushes(harness: &Harness, table: &Arc<Table>, count: usize) {
    for n in 0..count {
        put(table, vec![row(&format!("s{n}"), Some("streamed"), None)]).await;
        flush(&harness.node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_load_that_ended_left_goes_after_the_grace_and_not_before() {
    let world = World::new();
    let harness = world.process().await;
    let table = harness.table("t", TableSettings::default()).await;
    put(&table, vec![row("k", Some("kept"), None)]).await;
    flush(&harness.node).await;
    let live = world.of_table(&table).await;
    let cancelled = load(&harness, &table, LoadMode::Merge, "a").await;
    let failed = load(&harness, &table, LoadMode::Merge, "b").await;
    table.cancel_load(cancelled).await.unwrap();
    let entry = table.manifest().load(failed).cloned().unwrap();
    table.fail_load(&entry, LoadState::Prepared, "why not", &LoadReport::default()).await.unwrap();
    let all = world.of_table(&table).await;
    assert_eq!(world.objects("staging/").await.len(), 2);

    // The mark is taken, and a day must pass from it.
    world.mark(&table).await;
    world.clock.advance(DAY - Duration::from_secs(1));
    assert_eq!(table.collect_garbage().await.unwrap(), GarbageReport::default());
    assert_eq!(world.of_table(&table).await, all);
    assert_eq!(table.collect_garbage_when_due().await.unwrap(), None);

    world.clock.advance(Duration::from_secs(1));
    let report = table.collect_garbage().await.unwrap();
    assert!(report.done && report.collected >= 4, "{report:?}");
    assert_eq!(world.objects("staging/").await, BTreeSet::new());
    // What is told of the loads stays as long as they are: lists of files, and the report of the one that failed.
    let left: Vec<String> = world.of_table(&table).await.difference(&live).cloned().collect();
    assert!(left.iter().all(|path| path.contains("/files-") || path.contains("/report-")), "{left:?}");
    assert!(table.load(failed).await.is_ok() && table.load(cancelled).await.is_ok());

    for _ in 0..21 {
        world.clock.advance(DAY);
        table.tidy_loads().await.unwrap();
    }
    assert_eq!(table.manifest().loads().count(), 0);
    for _ in 0..2 {
        table.collect_garbage().await.unwrap();
        world.clock.advance(DAY);
    }
    assert_eq!(world.of_table(&table).await, live);
    let (harness, table) = world.restart(harness).await;
    assert_eq!(harness.get(&table, "k").await.as_deref(), Some("kept"));
    let next = load(&harness, &table, LoadMode::Replace, "c").await;
    show(&table, next).await;
    assert_eq!(harness.get(&table, "c007").await.as_deref(), Some("c-7"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_under_way_keeps_everything_and_can_be_shown_and_undone_days_later() {
    let world = World::new();
    let harness = world.process().await;
    let table = harness
        .table("t", TableSettings { undo_window_seconds: 86_400 * 30, ..TableSettings::default() })
        .await;
    let first = load(&harness, &table, LoadMode::Replace, "a").await;
    show(&table, first).await;
    let second = load(&harness, &table, LoadMode::Replace, "b").await;
    let before = (world.of_table(&table).await, world.objects("staging/").await);
    world.mark(&table).await;
    for _ in 0..4 {
        assert_eq!(world.next_day(&table).await.collected, 0);
    }
    assert_eq!((world.of_table(&table).await, world.objects("staging/").await), before);
    let (harness, table) = world.restart(harness).await;
    show(&table, second).await;
    assert_eq!(harness.get(&table, "a007").await, None);
    for _ in 0..3 {
        world.next_day(&table).await;
    }
    table.revert_load(second).await.unwrap();
    assert_eq!(harness.get(&table, "b007").await, None);
    assert_eq!(harness.get(&table, "a007").await.as_deref(), Some("a-7"));
    for _ in 0..3 {
        world.next_day(&table).await;
    }
    // Not forgotten yet: a page token may still show it.
    assert!(table.manifest().load(second).is_some());
    let of_second = table.manifest().load(second).unwrap().job.to_string();
    assert!(
        world
            .of_table(&table)
            .await
            .iter()
            .any(|path| path.contains(&of_second) && path.ends_with(".parquet"))
    );
    let (harness, table) = world.restart(harness).await;
    assert_eq!(harness.get(&table, "a007").await.as_deref(), Some("a-7"));
    // Eight days from the revert it is forgotten; then it goes.
    world.clock.advance(DAY * 8);
    table.tidy_loads().await.unwrap();
    for _ in 0..2 {
        world.next_day(&table).await;
    }
    assert!(!world.of_table(&table).await.iter().any(|path| path.contains(&of_second)));
    assert_eq!(harness.scan(&table, KeyRange::all(), false).await, rows("a", 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_writer_put_goes_only_after_another_has_flushed_past_it() {
    let world = World::new();
    let harness = world.process().await;
    let table = harness.table("t", TableSettings::default()).await;
    flushes(&harness, &table, 1).await;
    let from = table.manifest().covered(P);
    let zombie = format!("tables/{}/p{P}-{from}/{:032x}.parquet", table.id(), 7);
    let path = ObjectPath::new(&zombie).unwrap();
    world.store.put(&path, Bytes::from_static(b"rows"), PutMode::Create).await.unwrap();
    world.mark(&table).await;
    for _ in 0..3 {
        assert_eq!(world.next_day(&table).await.collected, 0);
    }
    flushes(&harness, &table, 1).await;
    assert!(table.manifest().covered(P) > from);
    // Covered, but not by the mark yet.
    assert_eq!(world.next_day(&table).await.collected, 0);
    assert!(world.objects(&zombie).await.contains(&zombie));
    assert_eq!(world.next_day(&table).await.collected, 1);
    assert!(world.objects(&zombie).await.is_empty());
    let (harness, table) = world.restart(harness).await;
    assert_eq!(harness.get(&table, "s0").await.as_deref(), Some("streamed"));
}

const FLUSHES: usize = 12;

/// The objects of the segments that a table has.
pub(crate) fn live(table: &Table) -> BTreeSet<String> {
    let manifest = table.manifest();
    manifest.segments().map(|segment| segment_path(table.id(), &segment.to_segment())).collect()
}

/// Makes segments and merges them, so that the inputs are left.
pub(crate) async fn compacted(world: &World, harness: &Harness, table: &Arc<Table>) {
    flushes(harness, table, FLUSHES).await;
    while table.compact_once().await.unwrap().is_some() {}
    assert!(world.of_table(table).await.len() > live(table).len() + 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_slept_meets_what_is_gone_and_never_answers_absent() {
    let world = World::new();
    let harness = world.process().await;
    let table = harness.table("t", TableSettings::default()).await;
    flushes(&harness, &table, FLUSHES).await;
    let ctx = world.ctx();
    let catalog = Arc::new(Forgetful {
        inner: ObjectCatalog::new(world.store.clone(), "catalog", &ctx).unwrap(),
        gone: AtomicU64::new(0),
    });
    let sleeper = Harness::by_catalog(ctx, world.store.clone(), catalog.clone(), world.config.clone()).await;
    let stale = open(&sleeper.node).await;
    stale.refresh().await.unwrap();
    assert_eq!(stale.manifest().seq(), table.manifest().seq());
    catalog.gone.store(ASLEEP, Ordering::Relaxed);

    while table.compact_once().await.unwrap().is_some() {}
    world.mark(&table).await;
    assert!(world.next_day(&table).await.collected >= 2);
    assert!(stale.manifest().seq() < table.manifest().seq());
    let mut gone = 0;
    for n in 0..FLUSHES {
        match stale.get(format!("s{n}").as_bytes(), &sleeper.read()).await {
            Ok((Lookup::Found(found), _)) => assert_eq!(text(&found), "streamed"),
            Ok((Lookup::Absent(why), _)) => panic!("s{n} is absent: {why:?}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                gone += 1;
            }
        }
    }
    assert!(gone >= 4, "{gone}");
    catalog.gone.store(0, Ordering::Relaxed);
    for n in 0..FLUSHES {
        assert_eq!(sleeper.get(&stale, &format!("s{n}")).await.as_deref(), Some("streamed"));
    }
    assert_eq!(sleeper.scan(&stale, KeyRange::all(), true).await.len(), FLUSHES);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_ends_half_way_goes_on_and_two_at_once_are_harmless() {
    let mut world = World::new();
    world.config.garbage.deletes = 2;
    let harness = world.process().await;
    let table = harness.table("t", TableSettings::default()).await;
    compacted(&world, &harness, &table).await;
    let live = live(&table);
    world.mark(&table).await;
    world.clock.advance(DAY);
    let report = table.collect_garbage().await.unwrap();
    assert_eq!((report.collected, report.done), (2, false));
    // One delete has its effect and no answer, the next has none.
    world.faults.script(Operation::Delete, "tables/", Fault::LostAnswer);
    assert_eq!(table.collect_garbage().await.unwrap_err().kind(), ErrorKind::Unknown);
    world.faults.script(Operation::Delete, "tables/", Fault::Unavailable);
    assert!(table.collect_garbage().await.is_err());
    assert_eq!(world.faults.unmet(), 0);

    // A process that begins where the dead one was, by the same mark; and another beside it.
    let (harness, table) = world.restart(harness).await;
    let other = world.process().await;
    let twin = open(&other.node).await;
    for _ in 0..20 {
        let (one, two) = tokio::join!(table.collect_garbage(), twin.collect_garbage());
        one.unwrap();
        two.unwrap();
    }
    assert_eq!(world.of_table(&table).await, live);
    for (at, table) in [(&harness, &table), (&other, &twin)] {
        assert_eq!(at.scan(table, KeyRange::all(), false).await.len(), FLUSHES);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_that_are_gone_prove_nothing() {
    let world = World::new();
    let ctx = world.ctx();
    let catalog = Arc::new(Forgetful {
        inner: ObjectCatalog::new(world.store.clone(), "catalog", &ctx).unwrap(),
        gone: AtomicU64::new(0),
    });
    let harness = Harness::by_catalog(ctx, world.store.clone(), catalog.clone(), world.config.clone()).await;
    let table = harness.table("t", TableSettings::default()).await;
    world.mark(&table).await;
    compacted(&world, &harness, &table).await;
    let live = live(&table);
    let all = world.of_table(&table).await;
    assert!(all.len() > live.len());
    catalog.gone.store(table.manifest().seq().0, Ordering::Relaxed);
    world.clock.advance(DAY);
    assert_eq!(table.collect_garbage().await.unwrap(), GarbageReport::default());
    assert_eq!(world.of_table(&table).await, all);
    // The mark that was taken instead serves the next day.
    assert!(world.next_day(&table).await.collected > 0);
    assert_eq!(world.of_table(&table).await, live);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_other_tables_and_a_dry_run_delete_nothing() {
    let mut world = World::new();
    world.config.garbage.dry_run = true;
    let harness = world.process().await;
    let table = harness.table("t", TableSettings::default()).await;
    compacted(&world, &harness, &table).await;
    let live = live(&table);
    let nobody = format!("{:032x}", 0xbad);
    let strange = [
        format!("tables/{}/notes.txt", table.id()),
        format!("tables/{nobody}/{nobody}/{nobody}.parquet"),
        format!("staging/{nobody}/a.parquet"),
    ];
    for path in &strange {
        let path = ObjectPath::new(path).unwrap();
        world.store.put(&path, Bytes::from_static(b"x"), PutMode::Create).await.unwrap();
    }
    world.mark(&table).await;
    let all = world.of_table(&table).await;
    let report = world.next_day(&table).await;
    assert!(report.collected >= 2 && report.unknown == 1, "{report:?}");
    assert_eq!(world.of_table(&table).await, all);

    world.config.garbage.dry_run = false;
    let (harness, table) = world.restart(harness).await;
    assert!(world.next_day(&table).await.collected >= 2);
    let left: BTreeSet<String> = live.into_iter().chain([strange[0].clone()]).collect();
    assert_eq!(world.of_table(&table).await, left);
    for path in &strange {
        assert_eq!(world.objects(path).await.len(), 1, "{path}");
    }
    let mut text = String::new();
    harness.node.metrics_text(&mut text);
    assert!(text.lines().any(|line| line.starts_with("nacre_engine_objects_unknown_total 1")), "{text}");
    assert!(world.clock.now_micros() > START);
}
