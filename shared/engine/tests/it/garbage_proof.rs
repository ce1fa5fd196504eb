//! A store whose dates lie and a log that moves at the wrong moment: each lock on what goes holds when the others do not.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use nacre_catalog::{ObjectCatalog, RecordPut};
use nacre_engine::{BeginLoad, GarbageReport, Guards, LoadMode, LoadReport, LoadVersion, OnDuplicate, Table};
use nacre_manifest::{Layer, Location, index_path, segment_path};
use nacre_store::{
    GetOptions, Object, ObjectMeta, ObjectPath, ObjectStore, ObjectTag, PutMode, PutOutcome, Upload,
};
use nacre_types::{ErrorKind, Result, TableSettings};
use tokio::sync::oneshot;

use crate::edits_gone::{ASLEEP, Forgetful};
use crate::garbage::{DAY, World, compacted, live, load, open};
use crate::harness::{Harness, show};

/// Where the store waits, once, until the test lets it go on.
#[derive(Default)]
struct Gate(Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>);

impl Gate {
    /// From now on whoever comes waits: the first answer tells that somebody has, the second lets him go on.
    fn shut(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let ((reached, told), (go, wait)) = (oneshot::channel(), oneshot::channel());
        *self.0.lock().unwrap() = Some((reached, wait));
        (told, go)
    }

    async fn pass(&self) {
        let shut = self.0.lock().unwrap().take();
        if let Some((reached, wait)) = shut {
            reached.send(()).unwrap();
            wait.await.unwrap();
        }
    }
}

/// What a store says that is not so, and what happens just before it answers.
#[derive(Default)]
struct Says {
    /// Its listings date everything at the beginning of time.
    ancient: AtomicBool,
    /// So far its date is from the clock of the processes.
    ahead_micros: AtomicI64,
    before_list: Gate,
    before_date: Gate,
}

impl fmt::Debug for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Says")
    }
}

#[derive(Debug)]
struct Liar {
    inner: Arc<dyn ObjectStore>,
    says: Arc<Says>,
}

#[async_trait]
impl ObjectStore for Liar {
    async fn put(&self, path: &ObjectPath, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        self.inner.put(path, body, mode).await
    }

    async fn get(&self, path: &ObjectPath, options: GetOptions) -> Result<Object> {
        self.inner.get(path, options).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        self.inner.head(path).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectPath>, limit: usize) -> Result<Vec<ObjectMeta>> {
        let is_tables = prefix.starts_with("tables/");
        if is_tables {
            self.says.before_list.pass().await;
        }
        let mut page = self.inner.list(prefix, after, limit).await?;
        if is_tables && self.says.ancient.load(Ordering::Relaxed) {
            page.iter_mut().for_each(|meta| meta.modified_micros = 0);
        }
        Ok(page)
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
        self.says.before_date.pass().await;
        Ok(self.inner.date_micros().await? + self.says.ahead_micros.load(Ordering::Relaxed))
    }

    fn local_path(&self, path: &ObjectPath) -> Option<PathBuf> {
        self.inner.local_path(path)
    }
}

fn lying() -> (World, Arc<Says>) {
    let (mut world, says) = (World::new(), Arc::<Says>::default());
    world.store = Arc::new(Liar { inner: world.store.clone(), says: says.clone() });
    (world, says)
}

/// A process whose table logs lose edits, or are not to be read.
async fn forgetful(world: &World) -> (Harness, Arc<Forgetful>) {
    let ctx = world.ctx();
    let inner = ObjectCatalog::new(world.store.clone(), "catalog", &ctx).unwrap();
    let catalog = Arc::new(Forgetful { inner, gone: AtomicU64::new(0) });
    let process = Harness::by_catalog(ctx, world.store.clone(), catalog.clone(), world.config.clone()).await;
    (process, catalog)
}

/// Collects until everything has been looked at.
async fn collect_all(table: &Arc<Table>) -> u64 {
    let mut collected = 0;
    for _ in 0..1_000 {
        let report = table.collect_garbage().await.unwrap();
        collected += report.collected;
        if report.done {
            return collected;
        }
    }
    panic!("it does not end");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_while_the_store_listed_is_known_though_it_is_dated_before_all() {
    let (world, says) = lying();
    let harness = world.process().await;
    let table = harness.table("t", TableSettings::default()).await;
    compacted(&world, &harness, &table).await;
    let (collector, catalog) = forgetful(&world).await;
    let twin = open(&collector.node).await;
    world.mark(&twin).await;
    world.clock.advance(DAY);
    says.ancient.store(true, Ordering::Relaxed);

    // While the listing is under way a load begins and is prepared; then the log is not to be read.
    let (reached, go) = says.before_list.shut();
    let meanwhile = async {
        reached.await.unwrap();
        let begun = load(&harness, &table, LoadMode::Merge, "a").await;
        catalog.gone.store(ASLEEP, Ordering::Relaxed);
        go.send(()).unwrap();
        begun
    };
    let (collected, begun) = tokio::join!(twin.collect_garbage(), meanwhile);
    assert_eq!(collected.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(live(&table).is_subset(&world.of_table(&table).await));
    catalog.gone.store(0, Ordering::Relaxed);
    assert!(collect_all(&twin).await >= 2);
    assert!(live(&table).is_subset(&world.of_table(&table).await));

    // The same again, and this time the log is read at once.
    world.clock.advance(DAY);
    let (reached, go) = says.before_list.shut();
    let meanwhile = async {
        reached.await.unwrap();
        let next = load(&harness, &table, LoadMode::Merge, "b").await;
        show(&table, next).await;
        go.send(()).unwrap();
    };
    tokio::join!(collect_all(&twin), meanwhile);
    assert!(live(&table).is_subset(&world.of_table(&table).await));
    show(&table, begun).await;
    let other = world.process().await;
    let fresh = open(&other.node).await;
    assert_eq!(other.get(&fresh, "a007").await.as_deref(), Some("a-7"));
    assert_eq!(other.get(&fresh, "s0").await.as_deref(), Some("streamed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_that_are_gone_prove_nothing_of_what_is_dated_before_all() {
    let (world, says) = lying();
    let (harness, catalog) = forgetful(&world).await;
    let table = harness.table("t", TableSettings::default()).await;
    world.mark(&table).await;
    compacted(&world, &harness, &table).await;
    let all = world.of_table(&table).await;
    says.ancient.store(true, Ordering::Relaxed);
    catalog.gone.store(table.manifest().seq().0, Ordering::Relaxed);
    world.clock.advance(DAY);
    assert_eq!(table.collect_garbage().await.unwrap(), GarbageReport::default());
    assert_eq!(world.of_table(&table).await, all);
    assert!(world.next_day(&table).await.collected > 0);
    assert_eq!(world.of_table(&table).await, live(&table));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_stores_own_date_makes_a_mark_old() {
    let (world, says) = lying();
    let day = i64::try_from(DAY.as_micros()).unwrap();
    let harness = world.process().await;
    let table = harness.table("t", TableSettings::default()).await;
    compacted(&world, &harness, &table).await;
    let all = world.of_table(&table).await;
    // The store is days ahead of the process when the mark is taken, and stands still while the process goes on.
    says.ahead_micros.store(5 * day, Ordering::Relaxed);
    world.mark(&table).await;
    assert_eq!(table.collect_garbage().await.unwrap(), GarbageReport::default());
    world.clock.advance(DAY * 2);
    says.ahead_micros.store(3 * day, Ordering::Relaxed);
    assert_eq!(table.collect_garbage().await.unwrap(), GarbageReport::default());
    assert_eq!(world.of_table(&table).await, all);
    says.ahead_micros.store(4 * day, Ordering::Relaxed);
    assert!(table.collect_garbage().await.unwrap().collected >= 2);
    assert_eq!(world.of_table(&table).await, live(&table));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_is_dated_behind_the_manifest_that_it_keeps() {
    let (world, says) = lying();
    let harness = world.process().await;
    let table = harness.table("t", TableSettings::default()).await;
    let begun = load(&harness, &table, LoadMode::Merge, "a").await;
    let all = (world.of_table(&table).await, world.objects("staging/").await);
    // At the very moment of the date the load ends: that was not so a grace before the first collection.
    let (reached, go) = says.before_date.shut();
    let meanwhile = async {
        reached.await.unwrap();
        table.cancel_load(begun).await.unwrap();
        go.send(()).unwrap();
    };
    tokio::join!(world.mark(&table), meanwhile);
    assert_eq!(world.next_day(&table).await.collected, 0);
    assert_eq!((world.of_table(&table).await, world.objects("staging/").await), all);
    assert!(world.next_day(&table).await.collected > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_whose_snapshot_is_gone_or_that_is_not_to_be_read_proves_nothing() {
    let (world, _) = lying();
    let harness = world.process().await;
    let table = harness.table("t", TableSettings::default()).await;
    compacted(&world, &harness, &table).await;
    let all = world.of_table(&table).await;
    world.mark(&table).await;
    for path in world.objects(&format!("tables/{}/manifests/", table.id())).await {
        world.store.delete(&ObjectPath::new(&path).unwrap()).await.unwrap();
    }
    world.clock.advance(DAY);
    assert_eq!(table.collect_garbage().await.unwrap(), GarbageReport::default());
    assert_eq!(world.of_table(&table).await, all);

    let record = format!("garbage/{}", table.id());
    let (good, tag) = harness.node.catalog().record(&record).await.unwrap().unwrap();
    let mut bad = good.to_vec();
    *bad.last_mut().unwrap() ^= 1;
    let put = harness.node.catalog().put_record(&record, Some(&tag), Bytes::from(bad)).await.unwrap();
    let RecordPut::Stored(tag) = put else { panic!("{put:?}") };
    world.clock.advance(DAY);
    assert_eq!(table.collect_garbage().await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(world.of_table(&table).await, all);
    harness.node.catalog().put_record(&record, Some(&tag), good).await.unwrap();
    // The snapshot was written anew with the mark that took the place of the other.
    assert!(world.next_day(&table).await.collected >= 2);
    assert_eq!(world.of_table(&table).await, live(&table));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_adopts_nothing_that_is_not_its_own() {
    let world = World::new();
    let harness = world.process().await;
    let table = harness.table("t", TableSettings::default()).await;
    let ended = load(&harness, &table, LoadMode::Merge, "a").await;
    let segment = table.manifest().segments().next().unwrap().to_segment();
    let of_ended = segment_path(table.id(), &segment);
    table.cancel_load(ended).await.unwrap();
    let request = BeginLoad {
        mode: LoadMode::Merge,
        version: Some(LoadVersion::At(harness.now())),
        source: None,
        columns: None,
        guards: Guards::default(),
        on_duplicate: OnDuplicate::default(),
    };
    let id = table.begin_load(&request, Bytes::new(), None).await.unwrap().into_inner().id;
    table.prepare_load(id, Some(Vec::new()), None).await.unwrap();
    let load = table.manifest().load(id).cloned().unwrap();
    for path in [of_ended, format!("staging/{ended}/a.parquet"), format!("staging/{id}/a.parquet")] {
        let mut adopted = segment.clone();
        adopted.layer = Layer::Loaded(id);
        let index_path = index_path(table.id(), load.job, adopted.id);
        adopted.location = Location::Adopted { path, tag: "t".to_owned(), version_id: None, index_path };
        let report = LoadReport::default();
        let error = table.finish_prepare(&load, vec![adopted], 0, &report, None).await.unwrap_err();
        assert_eq!(error.code(), "load-foreign-object", "{error}");
    }
    assert_eq!(table.manifest().segment_count(), 0);
}
