use super::*;
use nacre_catalog::ObjectCatalog;
use nacre_store::testing::{Fault, FaultyStore, Operation};
use nacre_store::{Expected, LogMending, MemoryStore};
use nacre_types::{Offset, PartitionId};
use std::sync::Arc;

fn expected(log: &str) -> Expected {
    Expected { catalog: "store".into(), log: log.into(), format_level: 2 }
}

fn resume() -> LogResume {
    let partition = |partition, start| ResumedPartition {
        partition: PartitionId(partition),
        start: Offset(start),
        clock: 50,
        lost_from: Offset(0),
        lost_to: None,
        why: "x".into(),
    };
    LogResume {
        incarnation: LogIncarnation(1),
        at_micros: 5,
        by: "somebody".into(),
        log_before: "one".into(),
        partitions: vec![partition(0, 1 << 33), partition(1, 7), partition(2, 9)],
    }
}

struct World {
    ctx: Context,
    store: Arc<FaultyStore>,
    catalog: ObjectCatalog,
    before: StoreIdentity,
    begun: StoreIdentity,
}

impl World {
    /// Partition 0 is flushed through 10, 1 through 20, with rows that are carried, 2 never.
    async fn new() -> Self {
        let ctx = Context::for_tests(1);
        let store = FaultyStore::new(Arc::new(MemoryStore::new(&ctx)), 1);
        let catalog = ObjectCatalog::new(Arc::new(store.clone()), "catalog", &ctx).unwrap();
        let before = StoreIdentity::open_or_create(&store, &expected("one"), &ctx).await.unwrap();
        let begun = StoreIdentity {
            log: "two".into(),
            log_incarnation: LogIncarnation(1),
            mending: LogMending { bases: vec![1 << 33], holes: Vec::new() },
            resume: Some(resume()),
            ..before.clone()
        };
        let world = Self { ctx, store, catalog, before, begun };
        world.put(0, LogIncarnation(0), 10, 40, None).await;
        world.put(1, LogIncarnation(0), 20, 60, Some("carried/x")).await;
        world
    }

    async fn put(
        &self,
        partition: u32,
        incarnation: LogIncarnation,
        offset: u64,
        clock: i64,
        carried: Option<&str>,
    ) {
        let name = flushed_through_record(PartitionId(partition));
        let held = self.catalog.record(&name).await.unwrap();
        let position = LogPosition { offset: Offset(offset), clock, ..LogPosition::start(incarnation) };
        let next = FlushedThrough { position, carried: carried.map(str::to_owned) };
        let put = self.catalog.put_record(&name, held.as_ref().map(|(_, tag)| tag), next.encode()).await;
        assert!(matches!(put.unwrap(), RecordPut::Stored(_)));
    }

    async fn flushed(&self) -> Vec<(u32, u64, i64, Option<String>)> {
        let mut all = Vec::new();
        for partition in 0..3 {
            let name = flushed_through_record(PartitionId(partition));
            if let Some((bytes, _)) = self.catalog.record(&name).await.unwrap() {
                let FlushedThrough { position, carried } = FlushedThrough::decode(&bytes).unwrap();
                all.push((position.incarnation.0, position.offset.0, position.clock, carried));
            }
        }
        all
    }

    fn raised() -> Vec<(u32, u64, i64, Option<String>)> {
        vec![(1, 1 << 33, 50, None), (1, 20, 60, Some("carried/x".into())), (1, 9, 50, None)]
    }
}

#[tokio::test(start_paused = true)]
async fn every_partition_goes_on_where_the_plan_says_in_any_weather() {
    for fault in
        [Fault::LostAnswer, Fault::UnderWay, Fault::SentTwice, Fault::LostRequest, Fault::Unavailable]
    {
        for path in ["identity", "flushed-through/00001", "log-resume/00001"] {
            let world = World::new().await;
            begin(&world.store, &world.before, &world.begun, &world.ctx).await.unwrap();
            world.store.script(Operation::Put, path, fault);
            // It may fail, and is done again.
            let mut done = finish(&world.store, &world.catalog, &world.begun, &world.ctx).await;
            for _ in 0..5 {
                if done.is_ok() {
                    break;
                }
                done = finish(&world.store, &world.catalog, &world.begun, &world.ctx).await;
            }
            world.store.deliver().await;
            let done = done.unwrap();
            assert_eq!(world.flushed().await, World::raised(), "{fault:?} {path}");
            assert_eq!(StoreIdentity::read(&world.store).await.unwrap().unwrap(), done);
            assert_eq!((done.resume, done.log_incarnation), (None, LogIncarnation(1)));
            let (kept, _) = world.catalog.record("log-resume/00001").await.unwrap().unwrap();
            assert_eq!(LogResume::decode(kept).unwrap(), resume());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_step_is_refused_at_a_start_and_finished_by_the_next_run() {
    for raised in 0..=3 {
        let world = World::new().await;
        begin(&world.store, &world.before, &world.begun, &world.ctx).await.unwrap();
        for partition in resume().partitions.iter().take(raised) {
            raise(&world.catalog, &resume(), partition, &world.ctx).await.unwrap();
        }
        for log in ["one", "two"] {
            let start = StoreIdentity::open_or_create(&world.store, &expected(log), &world.ctx).await;
            assert_eq!(start.unwrap_err().code(), "log-resume-unfinished");
        }
        let begun = StoreIdentity::read(&world.store).await.unwrap().unwrap();
        for _ in 0..2 {
            finish(&world.store, &world.catalog, &begun, &world.ctx).await.unwrap();
            assert_eq!(world.flushed().await, World::raised());
        }
        StoreIdentity::open_or_create(&world.store, &expected("two"), &world.ctx).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_raised_never_falls() {
    let world = World::new().await;
    begin(&world.store, &world.before, &world.begun, &world.ctx).await.unwrap();
    // A process that nobody saw has flushed further meanwhile, in the old incarnation.
    world.put(2, LogIncarnation(0), 30, 70, None).await;
    finish(&world.store, &world.catalog, &world.begun, &world.ctx).await.unwrap();
    assert_eq!(world.flushed().await[2], (1, 30, 70, None));
    // And a server has flushed since, in the new one.
    world.put(2, LogIncarnation(1), 40, 80, None).await;
    raise(&world.catalog, &resume(), &resume().partitions[2], &world.ctx).await.unwrap();
    assert_eq!(world.flushed().await[2], (1, 40, 80, None));
}

#[tokio::test(start_paused = true)]
async fn of_two_who_decide_at_once_one_is_told_so() {
    let world = World::new().await;
    begin(&world.store, &world.before, &world.begun, &world.ctx).await.unwrap();
    let other = StoreIdentity { log: "three".into(), ..world.begun.clone() };
    let error = begin(&world.store, &world.before, &other, &world.ctx).await.unwrap_err();
    assert_eq!(error.code(), "identity-changed");
}
