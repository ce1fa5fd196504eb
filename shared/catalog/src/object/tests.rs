//! Tests of the object-store catalog that need its inside.

use super::*;
use crate::testing::appenders;
use nacre_store::MemoryStore;
use nacre_store::testing::{Fault, FaultRates, FaultyStore, Operation};
use std::time::Duration;

const TABLE: TableId = TableId(1);

fn new_edit(ctx: &Context, predecessor: CommitId) -> EncodedEdit {
    EncodedEdit { commit_id: CommitId(ctx.ids.random_u128()), predecessor, body: Bytes::from_static(b"x") }
}

fn faulty(seed: u64) -> (Arc<FaultyStore>, ObjectCatalog, Context) {
    let ctx = Context::for_tests(seed);
    let store = FaultyStore::new(Arc::new(MemoryStore::new(&ctx)), seed);
    let catalog = ObjectCatalog::new(Arc::new(store.clone()), "catalog", &ctx).unwrap();
    (store, catalog, ctx)
}

#[tokio::test]
async fn a_lost_answer_is_found_again() {
    let (store, catalog, ctx) = faulty(1);
    for fault in [Fault::LostAnswer, Fault::SentTwice] {
        let (seq, last) = catalog.newest(TABLE).unwrap_or((Seq(0), CommitId(0)));
        let edit = new_edit(&ctx, last);
        store.script(Operation::Put, "edits", fault);
        assert_eq!(
            catalog.append(TABLE, seq, &edit).await.unwrap(),
            Append::Committed(seq.next()),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_request_under_way_is_unknown_until_anothers_edit_is_read_there() {
    let (store, catalog, ctx) = faulty(2);
    let other = ObjectCatalog::new(Arc::new(store.clone()), "catalog", &ctx).unwrap();
    let (mine, theirs) = (new_edit(&ctx, CommitId(0)), new_edit(&ctx, CommitId(0)));
    store.script(Operation::Put, "edits", Fault::UnderWay);
    assert_eq!(catalog.append(TABLE, Seq(0), &mine).await.unwrap(), Append::Unknown);
    // The second attempt is lost, too: still nothing is known.
    store.script(Operation::Put, "edits", Fault::LostRequest);
    assert_eq!(catalog.append(TABLE, Seq(0), &mine).await.unwrap(), Append::Unknown);
    assert_eq!(other.append(TABLE, Seq(0), &theirs).await.unwrap(), Append::Committed(Seq(1)));
    assert_eq!(catalog.append(TABLE, Seq(0), &mine).await.unwrap(), Append::Conflict { now_at: Seq(1) });
    assert!(store.deliver().await);
    assert_eq!(catalog.read(TABLE, Seq(0), 9).await.unwrap(), [(Seq(1), theirs)]);
}

#[tokio::test]
async fn a_request_that_lands_late_is_found_by_the_repeat() {
    let (store, catalog, ctx) = faulty(3);
    let edit = new_edit(&ctx, CommitId(0));
    store.script(Operation::Put, "edits", Fault::UnderWay);
    assert_eq!(catalog.append(TABLE, Seq(0), &edit).await.unwrap(), Append::Unknown);
    assert!(store.deliver().await);
    assert_eq!(catalog.append(TABLE, Seq(0), &edit).await.unwrap(), Append::Committed(Seq(1)));
}

#[tokio::test]
async fn an_edit_there_that_cannot_be_read_leaves_the_outcome_unknown() {
    let (store, catalog, ctx) = faulty(4);
    let edit = new_edit(&ctx, CommitId(0));
    store.script(Operation::Put, "edits", Fault::LostAnswer);
    store.script(Operation::Read, "edits", Fault::Unavailable);
    assert_eq!(catalog.append(TABLE, Seq(0), &edit).await.unwrap(), Append::Unknown);
    let garbled = catalog.edit_path(TableId(2), Seq(1)).unwrap();
    store.put(&garbled, Bytes::from_static(b"\x01garbage"), PutMode::Create).await.unwrap();
    assert_eq!(catalog.append(TableId(2), Seq(0), &edit).await.unwrap(), Append::Unknown);
    assert_eq!(catalog.read(TableId(2), Seq(0), 9).await.unwrap_err().code(), "edit-corrupt");
}

#[tokio::test(start_paused = true)]
async fn appending_goes_on_through_faults_until_it_is_known() {
    let (store, catalog, ctx) = faulty(5);
    let edit = new_edit(&ctx, CommitId(0));
    for fault in
        [Fault::Unavailable, Fault::LostRequest, Fault::UnderWay, Fault::Unavailable, Fault::NoAnswer]
    {
        store.script(Operation::Put, "edits", fault);
    }
    let limit = Duration::from_secs(60);
    let outcome = append_until(&catalog, &ctx, &edit, limit).await.unwrap();
    assert_eq!((outcome, store.unmet()), (Append::Committed(Seq(1)), 0));
    assert!(store.deliver().await);
    assert_eq!(catalog.read(TABLE, Seq(0), 9).await.unwrap().len(), 1);
}

async fn append_until(
    catalog: &ObjectCatalog,
    ctx: &Context,
    edit: &EncodedEdit,
    limit: Duration,
) -> Result<Append> {
    crate::append_until_known(catalog, ctx, TABLE, Seq(0), edit, limit).await
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_a_lost_request_is_unknown_and_one_alone_is_certain() {
    let limit = Duration::from_secs(3);
    let (store, catalog, ctx) = faulty(6);
    let edit = new_edit(&ctx, CommitId(0));
    store.set_rates(FaultRates { unavailable: 1_000, ..FaultRates::default() });
    assert_eq!(append_until(&catalog, &ctx, &edit, limit).await.unwrap_err().kind(), ErrorKind::Unavailable);
    store.script(Operation::Put, "edits", Fault::UnderWay);
    assert_eq!(append_until(&catalog, &ctx, &edit, limit).await.unwrap(), Append::Unknown);
}

#[tokio::test]
async fn a_forked_log_is_corrupt() {
    let (store, catalog, ctx) = faulty(7);
    let (first, stray) = (new_edit(&ctx, CommitId(0)), new_edit(&ctx, CommitId(99)));
    catalog.append(TABLE, Seq(0), &first).await.unwrap();
    let path = catalog.edit_path(TABLE, Seq(2)).unwrap();
    store.put(&path, encode_edit(Seq(2), &stray), PutMode::Create).await.unwrap();
    assert_eq!(catalog.read(TABLE, Seq(0), 9).await.unwrap_err().code(), "table-log-forked");
    assert_eq!(catalog.read(TABLE, Seq(1), 9).await.unwrap_err().code(), "table-log-forked");
}

#[tokio::test]
async fn records_settle_lost_answers_and_never_conclude_from_an_old_record() {
    let (store, catalog, _) = faulty(8);
    let put = async |tag: Option<&RecordTag>, body: &'static str| {
        catalog.put_record("r", tag, Bytes::from_static(body.as_bytes())).await.unwrap()
    };
    let mut tag = None;
    for fault in [Fault::LostAnswer, Fault::SentTwice, Fault::LostAnswer, Fault::SentTwice] {
        store.script(Operation::Put, "records", fault);
        match put(tag.as_ref(), "body").await {
            RecordPut::Stored(next) => tag = Some(next),
            other => panic!("{fault:?}: {other:?}"),
        }
    }
    store.script(Operation::Put, "records", Fault::UnderWay);
    assert_eq!(put(tag.as_ref(), "late").await, RecordPut::Unknown);
    let RecordPut::Stored(_) = put(tag.as_ref(), "newer").await else { panic!("nothing has landed") };
    assert!(store.deliver().await);
    assert_eq!(catalog.record("r").await.unwrap().unwrap().0, "newer");
    assert_eq!(put(tag.as_ref(), "late").await, RecordPut::Conflict);
}

/// Races four appenders through a storm, and lets whatever is under way land before the check.
async fn storm(flaws: Flaws, seed: u64) {
    let ctx = Context::for_tests(seed);
    let memory: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new(&ctx));
    let mut networks = Vec::new();
    let mut handles: Vec<(Arc<dyn Catalog>, Context)> = Vec::new();
    for n in 0..4 {
        let store = FaultyStore::new(memory.clone(), seed * 10 + n);
        store.set_rates(FaultRates::stormy());
        let ctx = Context::for_tests(seed * 10 + n);
        let mut catalog = ObjectCatalog::new(Arc::new(store.clone()), "catalog", &ctx).unwrap();
        catalog.flaws = flaws;
        networks.push(store);
        handles.push((Arc::new(catalog), ctx));
    }
    let report = appenders(handles, 6, Duration::ZERO, Duration::from_secs(5)).await;
    for network in networks {
        while network.deliver().await {}
    }
    report.check(&ObjectCatalog::new(memory, "catalog", &ctx).unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn in_any_weather_appenders_are_told_the_truth() {
    for seed in 1..=60 {
        storm(Flaws::default(), seed).await;
    }
}

/// Whether some seed makes the suite fail.
async fn is_noticed(flaws: Flaws) -> bool {
    let ctx = Context::for_tests(1);
    for seed in 1..=60 {
        if ctx.tasks.spawn("storm", storm(flaws, seed)).await.is_err() {
            return true;
        }
    }
    false
}

#[tokio::test(start_paused = true)]
async fn concluding_a_conflict_from_not_finding_ones_commit_id_is_noticed() {
    assert!(is_noticed(Flaws { absence_is_conflict: true, ..Flaws::default() }).await);
}

#[tokio::test(start_paused = true)]
async fn taking_exists_already_for_anothers_edit_is_noticed() {
    assert!(is_noticed(Flaws { exists_is_conflict: true, ..Flaws::default() }).await);
}
