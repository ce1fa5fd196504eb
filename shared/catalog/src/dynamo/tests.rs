//! What the catalog makes of a DynamoDB that misbehaves, and of items that it did not expect.

mod model;
mod outcomes;
mod start;

use super::*;
use crate::testing::{appenders, conformance};
use crate::{EDITS_GONE, append_until_known};
use model::{Fault, Model};
use nacre_runtime::Context;
use nacre_store::testing::server::Fake;
use nacre_store::{AwsCredentials, MemoryStore};
use nacre_types::ErrorKind;
use std::time::Duration;

const TABLE: TableId = TableId(1);

fn tuning() -> Tuning {
    Tuning {
        read: Duration::from_millis(400),
        write: Duration::from_millis(400),
        wait: Duration::from_millis(400),
        backoff_first: Duration::from_millis(1),
        backoff_most: Duration::from_millis(2),
        edit_bytes: 2_000,
        record_bytes: 2_000,
        creation: Duration::from_secs(5),
        ..Tuning::default()
    }
}

fn settings(fake: &Fake) -> DynamoSettings {
    DynamoSettings {
        credentials: AwsCredentials::Keys {
            access_key: "canary-id".into(),
            secret_key: "canary-secret".into(),
            session_token: Some("canary-token".into()),
        },
        endpoint: Some(fake.endpoint()),
        allow_http: true,
        ..DynamoSettings::default()
    }
}

/// A catalog that has not looked at its table.
fn unopened(fake: &Fake, store: &Arc<dyn ObjectStore>, seed: u64) -> DynamoCatalog {
    let ctx = Context::for_tests(seed);
    let settings = settings(fake);
    let address = Address::new("dynamodb://nacre", &settings).unwrap();
    DynamoCatalog {
        wire: Wire::new(address, &settings, &ctx, tuning()).unwrap(),
        bodies: Bodies::new(store.clone(), "catalog").unwrap(),
        prefix: String::new(),
        id: "id".into(),
        newest: Arc::default(),
        flaws: Flaws::default(),
    }
}

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(MemoryStore::new(&Context::for_tests(1)))
}

async fn catalog(seed: u64) -> (Model, DynamoCatalog, Context) {
    let model = Model::new(seed);
    let fake = model.serve().await;
    (model, unopened(&fake, &memory(), seed), Context::for_tests(seed + 1_000))
}

fn edit(ctx: &Context, predecessor: CommitId) -> EncodedEdit {
    EncodedEdit { commit_id: CommitId(ctx.ids.random_u128()), predecessor, body: Bytes::from_static(b"x") }
}

async fn fill(catalog: &DynamoCatalog, ctx: &Context, count: u64) -> Vec<EncodedEdit> {
    let mut edits: Vec<EncodedEdit> = Vec::new();
    for n in 0..count {
        let next = edit(ctx, edits.last().map_or(CommitId(0), |edit| edit.commit_id));
        assert_eq!(catalog.append(TABLE, Seq(n), &next).await.unwrap(), Append::Committed(Seq(n + 1)));
        edits.push(next);
    }
    edits
}

fn snapshot(seq: u64, edits: &[EncodedEdit]) -> SnapshotRef {
    let commit_id = edits[seq as usize - 1].commit_id;
    SnapshotRef { seq: Seq(seq), commit_id, path: format!("manifests/{seq}") }
}

fn pk() -> String {
    format!("table/{TABLE}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalog_conforms_on_a_dynamodb_in_memory() {
    let model = Model::new(1);
    model.0.lock().forgets_tokens = true;
    let fake = model.serve().await;
    let base = unopened(&fake, &memory(), 1);
    let ctx = Context::system();
    let make = || -> Vec<Arc<dyn Catalog>> {
        let prefix = format!("{:x}", ctx.ids.random_u64());
        (1..=2).map(|n| Arc::new(base.within(&prefix, &Context::for_tests(n))) as Arc<dyn Catalog>).collect()
    };
    conformance(make, &Context::for_tests(99)).await;
}

#[tokio::test]
async fn lost_and_doubtful_answers_are_settled_by_what_lies_there() {
    let (model, catalog, ctx) = catalog(1).await;
    let mut last = CommitId(0);
    for (seq, fault) in [
        Fault::LostAnswer,
        Fault::SentTwice,
        Fault::ErrorAfter,
        Fault::ConflictOfTwin,
        Fault::Garbage,
        Fault::Garbled,
        Fault::Cut,
    ]
    .into_iter()
    .enumerate()
    {
        for forgets_tokens in [false, true] {
            model.0.lock().forgets_tokens = forgets_tokens;
            let seq = Seq(seq as u64 * 2 + u64::from(forgets_tokens));
            let next = edit(&ctx, last);
            model.script("TransactWriteItems", fault);
            let outcome = catalog.append(TABLE, seq, &next).await.unwrap();
            assert_eq!(outcome, Append::Committed(seq.next()), "{fault:?}");
            last = next.commit_id;
        }
    }
    assert_eq!(catalog.read(TABLE, Seq(0), 99).await.unwrap().len(), 14);
}

#[tokio::test]
async fn what_was_not_done_is_unknown_or_certainly_not() {
    let (model, catalog, ctx) = catalog(2).await;
    let mine = edit(&ctx, CommitId(0));
    for fault in [Fault::LostRequest, Fault::ErrorBefore, Fault::InConflict] {
        model.script("TransactWriteItems", fault);
        assert_eq!(catalog.append(TABLE, Seq(0), &mine).await.unwrap(), Append::Unknown, "{fault:?}");
    }
    model.script("TransactWriteItems", Fault::Throttled);
    let error = catalog.append(TABLE, Seq(0), &mine).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "catalog-throttled"));
    assert!(error.retry_after_ms().is_some());
    assert_eq!(catalog.append(TABLE, Seq(0), &mine).await.unwrap(), Append::Committed(Seq(1)));
}

#[tokio::test]
async fn a_request_under_way_is_unknown_until_anothers_edit_is_read_there() {
    let (model, catalog, ctx) = catalog(3).await;
    let (mine, theirs) = (edit(&ctx, CommitId(0)), edit(&ctx, CommitId(0)));
    model.script("TransactWriteItems", Fault::UnderWay);
    assert_eq!(catalog.append(TABLE, Seq(0), &mine).await.unwrap(), Append::Unknown);
    assert_eq!(catalog.append(TABLE, Seq(0), &theirs).await.unwrap(), Append::Committed(Seq(1)));
    assert_eq!(catalog.append(TABLE, Seq(0), &mine).await.unwrap(), Append::Conflict { now_at: Seq(1) });
    assert_eq!(model.deliver(), 1);
    assert_eq!(catalog.read(TABLE, Seq(0), 9).await.unwrap(), [(Seq(1), theirs.clone())]);
    // And one that lands late is found by the repeat.
    let next = edit(&ctx, theirs.commit_id);
    model.script("TransactWriteItems", Fault::UnderWay);
    assert_eq!(catalog.append(TABLE, Seq(1), &next).await.unwrap(), Append::Unknown);
    assert_eq!(model.deliver(), 1);
    assert_eq!(catalog.append(TABLE, Seq(1), &next).await.unwrap(), Append::Committed(Seq(2)));
}

#[tokio::test]
async fn an_edit_that_cannot_be_read_leaves_the_outcome_unknown() {
    let (model, catalog, ctx) = catalog(4).await;
    let next = edit(&ctx, CommitId(0));
    model.script("TransactWriteItems", Fault::LostAnswer);
    for _ in 0..tuning().attempts {
        model.script("GetItem", Fault::ErrorBefore);
    }
    assert_eq!(catalog.append(TABLE, Seq(0), &next).await.unwrap(), Append::Unknown);
    assert_eq!(catalog.append(TABLE, Seq(0), &next).await.unwrap(), Append::Committed(Seq(1)));
}

#[tokio::test]
async fn edits_that_are_too_big_lie_in_the_store() {
    let (model, catalog, ctx) = catalog(5).await;
    let mut last = CommitId(0);
    let mut edits = Vec::new();
    for (n, bytes) in [10, 100_000, 1_900, 1_000_000, 0].into_iter().enumerate() {
        let body = Bytes::from(vec![n as u8; bytes]);
        let next = EncodedEdit { body, ..edit(&ctx, last) };
        assert!(matches!(catalog.append(TABLE, Seq(n as u64), &next).await.unwrap(), Append::Committed(_)));
        assert_eq!(model.item(&pk(), n as u64 + 1).unwrap().contains_key("edit_far"), bytes > 1_900);
        last = next.commit_id;
        edits.push((Seq(n as u64 + 1), next));
    }
    assert_eq!(catalog.read(TABLE, Seq(0), 9).await.unwrap(), edits);
    // A copy of each was put first; one that lies there with other bytes is not believed.
    let copies = catalog.bodies.store().list("catalog/dynamodb/", None, 99).await.unwrap();
    assert_eq!(copies.len(), 5);
    let copy = &copies[1];
    let store = catalog.bodies.store();
    store
        .put(&copy.path, Bytes::from_static(b"other"), nacre_store::PutMode::Replace(copy.tag.clone()))
        .await
        .unwrap();
    let error = catalog.read(TABLE, Seq(0), 9).await.unwrap_err();
    assert_eq!(error.code(), "edit-corrupt", "{error}");
    store.delete(&copy.path).await.unwrap();
    assert_eq!(catalog.read(TABLE, Seq(0), 9).await.unwrap_err().code(), "edit-corrupt");
    assert_eq!(catalog.read(TABLE, Seq(2), 9).await.unwrap().len(), 3);
}

#[tokio::test]
async fn nothing_is_committed_whose_copy_is_not_in_the_store() {
    use nacre_store::testing::{Fault, FaultyStore, Operation};
    let model = Model::new(6);
    let fake = model.serve().await;
    let store = FaultyStore::new(memory(), 6);
    let ctx = Context::for_tests(6);
    let catalog = unopened(&fake, &(Arc::new(store.clone()) as Arc<dyn ObjectStore>), 6);
    let next = edit(&ctx, CommitId(0));
    for fault in [Fault::LostRequest, Fault::LostAnswer, Fault::Unavailable] {
        store.script(Operation::Put, "dynamodb", fault);
        let error = catalog.append(TABLE, Seq(0), &next).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{fault:?}: {error}");
    }
    assert!(model.0.lock().seen.is_empty());
    assert_eq!(catalog.append(TABLE, Seq(0), &next).await.unwrap(), Append::Committed(Seq(1)));
}

#[tokio::test]
async fn covered_edits_are_given_a_week_and_heads_none() {
    let (model, catalog, ctx) = catalog(7).await;
    let edits = fill(&catalog, &ctx, 40).await;
    let marked = || (1..=40).filter(|n| model.item(&pk(), *n).unwrap().contains_key("expires_at")).count();
    assert_eq!(marked(), 0);
    // A crash in between: some are marked, and the head does not say so.
    for _ in 0..4 {
        model.script("UpdateItem", Fault::None);
    }
    model.script("UpdateItem", Fault::ErrorBefore);
    catalog.set_head(TABLE, snapshot(30, &edits)).await.unwrap();
    assert!(marked() < 30);
    catalog.set_head(TABLE, snapshot(35, &edits)).await.unwrap();
    assert_eq!(marked(), 35);
    let now = ctx.clock.now_micros() / 1_000_000;
    let when = model.item(&pk(), 1).unwrap()["expires_at"]["N"].as_str().unwrap().parse::<i64>().unwrap();
    assert!((when - now - 7 * 24 * 3_600).abs() < 3_600, "{when} {now}");
    let head = model.item(&pk(), 0).unwrap();
    assert!(!head.contains_key("expires_at"));
    assert_eq!(head["swept_seq"]["N"], "35");
    // An older snapshot changes nothing, and costs one request.
    let before = model.0.lock().seen.len();
    catalog.set_head(TABLE, snapshot(20, &edits)).await.unwrap();
    assert_eq!(model.0.lock().seen.len(), before + 1);
    assert_eq!(catalog.head(TABLE).await.unwrap().snapshot, Some(snapshot(35, &edits)));
}

#[tokio::test]
async fn covered_edits_that_went_send_readers_to_the_snapshot_and_leave_appenders_in_doubt() {
    let (model, catalog, ctx) = catalog(8).await;
    // As after the ten minutes.
    model.0.lock().forgets_tokens = true;
    let edits = fill(&catalog, &ctx, 10).await;
    catalog.set_head(TABLE, snapshot(8, &edits)).await.unwrap();
    // DynamoDB takes them in any order.
    for gone in [3, 8, 5] {
        model.remove(&pk(), gone);
        for after in 0..10 {
            let read = catalog.read(TABLE, Seq(after), 99).await;
            let holes = model.0.lock().holes(&pk(), after + 1, 10);
            match read {
                Ok(read) => assert_eq!((read.len() as u64, holes), (10 - after, 0)),
                Err(error) => {
                    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, EDITS_GONE), "{error}");
                    assert!(holes > 0 && error.detail().contains("the one at 8"), "{error}");
                }
            }
        }
    }
    // A repeat, and a stranger's attempt from before: neither can be told.
    for late in [edits[4].clone(), edit(&ctx, edits[3].commit_id)] {
        let error = catalog.append(TABLE, Seq(4), &late).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Unknown, EDITS_GONE));
        let limit = Duration::from_secs(60);
        let error = append_until_known(&catalog, &ctx, TABLE, Seq(4), &late, limit).await.unwrap_err();
        assert_eq!(error.code(), EDITS_GONE);
    }
    assert!(model.item(&pk(), 5).is_none(), "a name that went is not made again");
    // An edit that no snapshot holds does not go by itself.
    model.remove(&pk(), 9);
    assert_eq!(catalog.read(TABLE, Seq(8), 99).await.unwrap_err().code(), "edit-missing");
}

#[tokio::test]
async fn a_log_that_contradicts_itself_is_corrupt() {
    let (model, catalog, ctx) = catalog(9).await;
    let edits = fill(&catalog, &ctx, 5).await;
    let corrupt = async |after: u64, code: &str| {
        let fresh = catalog.within("", &Context::for_tests(1));
        let fresh = DynamoCatalog { prefix: String::new(), ..fresh };
        let error = fresh.read(TABLE, Seq(after), 99).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, code), "{error}");
    };
    let put = |seq: Seq, edit: &EncodedEdit| {
        let frame = crate::envelope::encode_edit(seq, edit);
        model.put(&item::edit_item(&pk(), seq, &item::Kept::Here(frame)));
    };
    let good = model.item(&pk(), 3).unwrap();
    put(Seq(3), &edit(&ctx, edits[0].commit_id));
    corrupt(0, "table-log-forked").await;
    corrupt(2, "table-log-forked").await;
    model.put(&good.clone().into());
    let last = model.item(&pk(), 5).unwrap();
    put(Seq(5), &edit(&ctx, edits[3].commit_id));
    corrupt(4, "table-log-forked").await;
    model.put(&last.into());
    let mut garbled = good.clone();
    garbled.insert("edit".into(), item::binary(b"\x01garbage"));
    model.put(&garbled.into());
    corrupt(0, "edit-corrupt").await;
    let mut swapped = model.item(&pk(), 4).unwrap();
    swapped.insert("sk".into(), item::number(3));
    model.put(&swapped.into());
    corrupt(0, "edit-corrupt").await;
    corrupt(9, "table-log-behind").await;
}

#[tokio::test]
async fn a_look_that_finds_nothing_new_is_one_request() {
    let (model, catalog, ctx) = catalog(10).await;
    assert!(catalog.read(TABLE, Seq(0), 9).await.unwrap().is_empty());
    fill(&catalog, &ctx, 3).await;
    let before = model.0.lock().seen.len();
    assert!(catalog.read(TABLE, Seq(3), 9).await.unwrap().is_empty());
    assert_eq!(model.0.lock().seen[before..], ["GetItem"]);
    catalog.read(TABLE, Seq(1), 9).await.unwrap();
    assert_eq!(model.0.lock().seen[before + 1..], ["GetItem", "Query"]);
}

#[tokio::test]
async fn records_settle_lost_answers_and_never_conclude_from_an_old_record() {
    let (model, catalog, _) = catalog(11).await;
    let put = async |tag: Option<&RecordTag>, body: &'static str| {
        catalog.put_record("r", tag, Bytes::from_static(body.as_bytes())).await.unwrap()
    };
    let mut tag = None;
    for fault in [
        Fault::LostAnswer,
        Fault::SentTwice,
        Fault::ErrorAfter,
        Fault::ConflictOfTwin,
        Fault::Garbage,
        Fault::Garbled,
        Fault::Cut,
        Fault::SentTwice,
    ] {
        model.script("PutItem", fault);
        match put(tag.as_ref(), "body").await {
            RecordPut::Stored(next) => tag = Some(next),
            other => panic!("{fault:?}: {other:?}"),
        }
    }
    model.script("PutItem", Fault::UnderWay);
    assert_eq!(put(tag.as_ref(), "late").await, RecordPut::Unknown);
    let RecordPut::Stored(_) = put(tag.as_ref(), "newer").await else { panic!("nothing has landed") };
    assert_eq!(model.deliver(), 1);
    assert_eq!(catalog.record("r").await.unwrap().unwrap().0, "newer");
    assert_eq!(put(tag.as_ref(), "late").await, RecordPut::Conflict);
    assert_eq!(put(Some(&RecordTag("a tag of another catalog".into())), "x").await, RecordPut::Conflict);
    model.script("PutItem", Fault::Throttled);
    let error = catalog.put_record("s", None, Bytes::new()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "catalog-throttled"));
}

#[tokio::test]
async fn records_that_are_too_big_lie_in_the_store() {
    let (model, catalog, _) = catalog(12).await;
    let mut tag = None;
    for (n, bytes) in [10, 5_000, 1_900, 900_000].into_iter().enumerate() {
        let body = Bytes::from(vec![n as u8; bytes]);
        let RecordPut::Stored(next) = catalog.put_record("a/b", tag.as_ref(), body.clone()).await.unwrap()
        else {
            panic!("unchanged")
        };
        assert_eq!(model.item("record/a/b", 0).unwrap().contains_key("record_far"), bytes > 1_900);
        assert_eq!(catalog.record("a/b").await.unwrap(), Some((body, next.clone())));
        tag = Some(next);
    }
}

/// What a storm is made of.
#[derive(Debug, Clone, Copy)]
enum Storm {
    /// Four appenders, and everything that may go wrong.
    Everything,
    /// One appender, of whose requests half arrive late: nobody else takes the place of an edit that is under way.
    Late,
}

/// Races appenders through a storm, and lets whatever is under way land before the check.
async fn storm(kind: Storm, flaws: Flaws, seed: u64) {
    let model = Model::new(seed);
    {
        let mut world = model.0.lock();
        world.forgets_tokens = seed.is_multiple_of(2);
        match kind {
            Storm::Everything => world.faults = 200,
            Storm::Late => (world.faults, world.kinds, world.arrives_each) = (500, &[Fault::UnderWay], 2),
        }
    }
    let racing = match kind {
        Storm::Everything => 4,
        Storm::Late => 1,
    };
    let (fake, store) = (model.serve().await, memory());
    let mut handles: Vec<(Arc<dyn Catalog>, Context)> = Vec::new();
    for n in 0..racing {
        let mut catalog = unopened(&fake, &store, seed * 10 + n);
        catalog.flaws = flaws;
        handles.push((Arc::new(catalog), Context::for_tests(seed * 10 + n)));
    }
    let report = appenders(handles, 5, Duration::ZERO, Duration::from_secs(2)).await;
    model.0.lock().faults = 0;
    model.deliver();
    report.check(&unopened(&fake, &store, seed)).await;
    assert!(report.committed > 0 || matches!(kind, Storm::Late));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_any_weather_appenders_are_told_the_truth() {
    for seed in 1..=12 {
        storm(Storm::Everything, Flaws::default(), seed).await;
        storm(Storm::Late, Flaws::default(), seed).await;
    }
}

/// Whether some seed makes the suite fail.
async fn is_noticed(kind: Storm, flaws: Flaws) -> bool {
    let ctx = Context::for_tests(1);
    for seed in 1..=40 {
        if ctx.tasks.spawn("storm", storm(kind, flaws, seed)).await.is_err() {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concluding_a_conflict_from_an_absence_is_noticed() {
    assert!(is_noticed(Storm::Late, Flaws { absence_is_conflict: true, ..Flaws::default() }).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taking_a_failed_condition_for_anothers_edit_is_noticed() {
    assert!(is_noticed(Storm::Everything, Flaws { condition_is_conflict: true, ..Flaws::default() }).await);
}
