//! The suites against real servers of DynamoDB's protocol: `cargo xtask test` installs and starts them, and names them in
//! `NACRE_TEST_DYNAMODB_ENDPOINT`, as `name=http://host:port` with spaces between. They take any keys.

use bytes::Bytes;
use nacre_catalog::testing::{appenders, conformance};
use nacre_catalog::{Append, Catalog, DynamoCatalog, DynamoSettings, EncodedEdit, RecordPut, SnapshotRef};
use nacre_runtime::Context;
use nacre_store::testing::{FaultRates, FaultyStore};
use nacre_store::{AwsCredentials, MemoryStore, ObjectStore};
use nacre_types::{CommitId, Seq, StoreId, TableId};
use std::sync::Arc;
use std::time::Duration;

/// The servers that run, by name.
fn servers() -> Vec<(String, String)> {
    let Ok(list) = std::env::var("NACRE_TEST_DYNAMODB_ENDPOINT") else {
        println!(
            "NOTICE: skipped, NACRE_TEST_DYNAMODB_ENDPOINT is not set (servers of DynamoDB's protocol, as \
             name=http://host:port; cargo xtask test starts some)"
        );
        return Vec::new();
    };
    list.split_whitespace()
        .map(|server| {
            let (name, url) = server.split_once('=').expect("name=url");
            (name.to_owned(), url.to_owned())
        })
        .collect()
}

fn settings(endpoint: &str) -> DynamoSettings {
    DynamoSettings {
        credentials: AwsCredentials::Keys {
            access_key: "test".into(),
            secret_key: "testtest".into(),
            session_token: None,
        },
        endpoint: Some(endpoint.to_owned()),
        allow_http: true,
        ..DynamoSettings::default()
    }
}

fn new_url() -> String {
    format!("dynamodb://nacre-test-{:016x}", Context::system().ids.random_u64())
}

async fn open(endpoint: &str, url: &str, store: Arc<dyn ObjectStore>) -> DynamoCatalog {
    DynamoCatalog::open(url, &settings(endpoint), store, "catalog", &Context::system()).await.unwrap()
}

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(MemoryStore::new(&Context::for_tests(1)))
}

/// A new, empty catalog that `processes` processes share.
fn handles(base: &DynamoCatalog, processes: u64) -> Vec<Arc<dyn Catalog>> {
    let prefix = format!("{:x}", Context::system().ids.random_u64());
    let handle = |_| Arc::new(base.within(&prefix, &Context::system())) as Arc<dyn Catalog>;
    (0..processes).map(handle).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dynamodb_servers_conform() {
    for (name, endpoint) in servers() {
        println!("{name}");
        let base = open(&endpoint, &new_url(), memory()).await;
        // Commit ids that no run before had: they are tokens, and a server remembers those.
        conformance(|| handles(&base, 1), &Context::system()).await;
        conformance(|| handles(&base, 3), &Context::system()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn appenders_on_dynamodb_servers_are_told_the_truth_whatever_the_store_does() {
    for (name, endpoint) in servers() {
        println!("{name}");
        let network = FaultyStore::new(memory(), 1);
        let base = open(&endpoint, &new_url(), Arc::new(network.clone())).await;
        network.set_rates(FaultRates::stormy());
        let racing: Vec<_> =
            handles(&base, 6).into_iter().map(|catalog| (catalog, Context::system())).collect();
        let report = appenders(racing.clone(), 8, Duration::ZERO, Duration::from_secs(30)).await;
        network.set_rates(FaultRates::default());
        while network.deliver().await {}
        report.check(&*racing[0].0).await;
        assert_eq!((report.committed, report.unknown), (48, 0));
    }
}

/// 50 processes with 20 edits a second between them: each may be beaten now and then, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_appenders_of_one_table_commit_with_few_retries() {
    for (name, endpoint) in servers() {
        let base = open(&endpoint, &new_url(), memory()).await;
        let racing: Vec<_> =
            handles(&base, 50).into_iter().map(|catalog| (catalog, Context::system())).collect();
        let ctx = Context::system();
        let begun = ctx.clock.monotonic();
        // 50 appenders, one edit each 2.5 s on average: 20 a second.
        let pause = Duration::from_millis(2_500);
        let report = appenders(racing.clone(), 2, pause, Duration::from_secs(60)).await;
        let mean = report.conflicts as f64 / report.committed as f64;
        println!(
            "{name}: {} edits in {:?}, {mean:.2} retries each, at worst {}",
            report.committed,
            ctx.clock.monotonic() - begun,
            report.worst
        );
        assert_eq!((report.committed, report.unknown), (100, 0));
        // Two on an idle machine; a server that shares its processor with other tests takes longer for an append, and
        // meets more of them meanwhile.
        assert!(mean <= 5.0, "{name}: {mean} retries each");
        report.check(&*racing[0].0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_start_finds_the_same_catalog_and_another_store_is_refused() {
    for (name, endpoint) in servers() {
        let url = new_url();
        let first = open(&endpoint, &url, memory()).await;
        first.claim(StoreId(1)).await.unwrap();
        let second = open(&endpoint, &url, memory()).await;
        assert_eq!(first.identity(), second.identity(), "{name}");
        second.claim(StoreId(1)).await.unwrap();
        assert_eq!(second.claim(StoreId(2)).await.unwrap_err().code(), "catalog-identity", "{name}");
        let other = open(&endpoint, &new_url(), memory()).await;
        assert_ne!(first.identity(), other.identity(), "{name}");
    }
}

/// Bodies on both sides of what an item holds, and logs of several pages of a query.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn big_edits_and_records_come_back() {
    const TABLE: TableId = TableId(5);
    let ids = Context::system().ids;
    for (name, endpoint) in servers() {
        let base = open(&endpoint, &new_url(), memory()).await;
        let catalog = handles(&base, 1).remove(0);
        let mut edits: Vec<(Seq, EncodedEdit)> = Vec::new();
        for (n, kilobytes) in (0..).zip([63, 1, 500, 0, 3_000].into_iter().cycle().take(100)) {
            let predecessor = edits.last().map_or(CommitId(0), |(_, edit)| edit.commit_id);
            let body = Bytes::from(vec![n as u8; kilobytes << 10]);
            let edit = EncodedEdit { commit_id: CommitId(ids.random_u128()), predecessor, body };
            let outcome = catalog.append(TABLE, Seq(n), &edit).await.unwrap();
            assert_eq!(outcome, Append::Committed(Seq(n + 1)), "{name}");
            edits.push((Seq(n + 1), edit));
        }
        assert!(catalog.read(TABLE, Seq(0), usize::MAX).await.unwrap() == edits, "{name}");
        let path = "tables/5/manifests/90".to_owned();
        let snapshot = SnapshotRef { seq: Seq(90), commit_id: edits[89].1.commit_id, path };
        catalog.set_head(TABLE, snapshot.clone()).await.unwrap();
        assert_eq!(catalog.head(TABLE).await.unwrap().snapshot, Some(snapshot), "{name}");
        // Covered edits stay for a week.
        assert!(catalog.read(TABLE, Seq(0), usize::MAX).await.unwrap() == edits, "{name}");

        let mut tag = None;
        for kilobytes in [0, 319, 321, 5_000, 1] {
            let body = Bytes::from(vec![7; kilobytes << 10]);
            match catalog.put_record("big", tag.as_ref(), body.clone()).await.unwrap() {
                RecordPut::Stored(next) => tag = Some(next),
                other => panic!("{name}: {other:?}"),
            }
            assert!(catalog.record("big").await.unwrap().unwrap().0 == body, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run it alone, with --nocapture"]
async fn what_requests_cost() {
    for (name, endpoint) in servers() {
        let base = open(&endpoint, &new_url(), memory()).await;
        let catalog = handles(&base, 1).remove(0);
        let ctx = Context::system();
        let (mut appends, mut looks, mut last) = (Vec::new(), Vec::new(), CommitId(0));
        for n in 0..300 {
            let edit = EncodedEdit {
                commit_id: CommitId(ctx.ids.random_u128()),
                predecessor: last,
                body: Bytes::from(vec![0; 1_000]),
            };
            last = edit.commit_id;
            let begun = ctx.clock.monotonic();
            catalog.append(TableId(1), Seq(n), &edit).await.unwrap();
            let appended = ctx.clock.monotonic();
            catalog.read(TableId(1), Seq(n + 1), 9).await.unwrap();
            appends.push(appended - begun);
            looks.push(ctx.clock.monotonic() - appended);
        }
        let middle = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            (times[times.len() / 2], times[times.len() * 99 / 100])
        };
        println!("{name}: append p50, p99 {:?}, look {:?}", middle(&mut appends), middle(&mut looks));
    }
}
