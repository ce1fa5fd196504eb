//! The suites against real servers of S3's protocol: `cargo xtask test` installs and starts them, and names them in
//! `NACRE_TEST_S3_ENDPOINT`, as `name=http://host:port` with spaces between. Both take the keys `test` and `testtest`.

use bytes::Bytes;
use nacre_runtime::Context;
use nacre_store::testing::{FaultRates, FaultyStore, Quirks, conformance_but, races};
use nacre_store::{
    AwsCredentials, GetOptions, Metered, ObjectPath, ObjectStore, ObjectTag, PutMode, PutOutcome, S3Settings,
    S3Store, probe,
};
use nacre_types::ErrorKind;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

const BUCKET: &str = "nacre-test";

/// Dates are told in whole seconds, and ministack says the same one for a second and more. versitygw looks at an If-Match
/// before it takes its lock.
fn quirks(name: &str) -> Quirks {
    Quirks { coarse_micros: 2_000_000, replaces_race_with_deletes: name == "versitygw" }
}

/// The servers that run, by name.
fn servers() -> Vec<(String, String)> {
    #[allow(clippy::disallowed_methods, reason = "the test command says where S3 servers are")]
    let Ok(list) = std::env::var("NACRE_TEST_S3_ENDPOINT") else {
        // Past the test framework, which shows nothing of tests that pass.
        let _ = writeln!(
            std::io::stderr(),
            "NOTICE: skipped, NACRE_TEST_S3_ENDPOINT is not set (S3 servers, as name=http://host:port; cargo xtask \
             test starts some)"
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

fn settings(endpoint: &str, secret_key: &str) -> S3Settings {
    S3Settings {
        credentials: AwsCredentials::Keys {
            access_key: "test".into(),
            secret_key: secret_key.into(),
            session_token: None,
        },
        endpoint: Some(endpoint.to_owned()),
        allow_http: true,
        ..S3Settings::default()
    }
}

/// A bucket that keeps versions.
const VERSIONS: &str = "nacre-test-versions";

async fn bucket(endpoint: &str) {
    let ctx = Context::for_tests(1);
    let store = S3Store::open(&format!("s3://{BUCKET}"), &settings(endpoint, "testtest"), &ctx).unwrap();
    store.create_bucket().await.unwrap();
}

/// A new, empty store that `processes` processes share.
fn stores(endpoint: &str, processes: u64) -> Vec<Arc<dyn ObjectStore>> {
    stores_in(BUCKET, endpoint, processes)
}

fn stores_in(bucket: &str, endpoint: &str, processes: u64) -> Vec<Arc<dyn ObjectStore>> {
    let url = format!("s3://{bucket}/{:032x}", Context::system().ids.random_u128());
    let open = |seed| {
        let store = S3Store::open(&url, &settings(endpoint, "testtest"), &Context::for_tests(seed)).unwrap();
        Arc::new(Metered::new(store)) as Arc<dyn ObjectStore>
    };
    (1..=processes).map(open).collect()
}

fn path(text: &str) -> ObjectPath {
    ObjectPath::new(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_servers_conform() {
    for (name, endpoint) in servers() {
        println!("{name}");
        bucket(&endpoint).await;
        conformance_but(|| stores(&endpoint, 2), quirks(&name)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_that_keep_versions_conform() {
    for (name, endpoint) in servers() {
        println!("{name}");
        let ctx = Context::for_tests(1);
        let bucket =
            S3Store::open(&format!("s3://{VERSIONS}"), &settings(&endpoint, "testtest"), &ctx).unwrap();
        bucket.create_bucket().await.unwrap();
        bucket.keep_versions().await.unwrap();
        if name == "versitygw" {
            // To delete what is a folder of its is an error of its then, on which nothing rests; the rest follows below.
            let _ = writeln!(std::io::stderr(), "NOTICE: skipped, the suite on versitygw's versions");
        } else {
            conformance_but(|| stores_in(VERSIONS, &endpoint, 2), quirks(&name)).await;
        }
        let store = stores_in(VERSIONS, &endpoint, 1).remove(0);
        probe(&store, &Context::for_tests(7)).await.unwrap();

        let put = store.put(&path("a"), Bytes::from_static(b"1"), PutMode::Create).await.unwrap();
        let PutOutcome::Stored(first) = put else { panic!("the name is free") };
        assert!(first.version_id.is_some(), "{name}: {first:?}");
        assert_eq!(store.head(&path("a")).await.unwrap().tag, first);
        // What a version names is there whatever becomes of the name.
        store.delete(&path("a")).await.unwrap();
        let options = GetOptions { if_tag: Some(first.clone()), ..GetOptions::default() };
        assert_eq!(store.get(&path("a"), options).await.unwrap().bytes, "1");
        let none = ObjectTag { version_id: Some("none".into()), ..first };
        let none = GetOptions { if_tag: Some(none), ..GetOptions::default() };
        let error = store.get(&path("a"), none).await.unwrap_err();
        assert!(
            error.kind() == ErrorKind::NotFound || error.code() == "object-changed",
            "{name}: a version that never was: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_servers_pass_the_probe_and_are_left_clean() {
    for (name, endpoint) in servers() {
        println!("{name}");
        bucket(&endpoint).await;
        let store = stores(&endpoint, 1).remove(0);
        probe(&store, &Context::for_tests(7)).await.unwrap();
        assert!(store.list("", None, 10).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn races_on_s3_servers_have_one_winner_in_any_weather() {
    for (name, endpoint) in servers() {
        println!("{name}");
        bucket(&endpoint).await;
        races(stores(&endpoint, 4), 0).await;
        for seed in 1..=3 {
            let behind = |(n, store)| {
                let faulty = FaultyStore::new(store, seed * 100 + n as u64);
                faulty.set_rates(FaultRates::stormy());
                Arc::new(faulty) as Arc<dyn ObjectStore>
            };
            races(stores(&endpoint, 4).into_iter().enumerate().map(behind).collect(), seed).await;
        }
    }
}

/// Bytes that no two places share.
fn bytes(length: usize) -> Bytes {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<u8>>().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn big_objects_go_up_in_parts_and_are_copied_by_the_store() {
    for (name, endpoint) in servers() {
        println!("{name}");
        bucket(&endpoint).await;
        let store = stores(&endpoint, 1).remove(0);
        let body = bytes(21 << 20);
        let mut upload = store.upload(&path("big/a")).await.unwrap();
        for piece in body.chunks(700_001) {
            upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        assert_eq!(store.head(&path("big/a")).await.unwrap_err().kind(), ErrorKind::NotFound);
        let PutOutcome::Stored(tag) = upload.finish().await.unwrap() else { panic!("the name is free") };
        let object = store.get(&path("big/a"), GetOptions::default()).await.unwrap();
        assert_eq!((&object.meta.tag, object.meta.size), (&tag, body.len() as u64));
        assert!(object.bytes == body, "{name}: the bytes differ");

        let mut late = store.upload(&path("big/a")).await.unwrap();
        late.write(bytes(9 << 20)).await.unwrap();
        assert_eq!(late.finish().await.unwrap(), PutOutcome::AlreadyExists);

        let before = store.request_counts().unwrap();
        let PutOutcome::Stored(copied) = store.copy(&path("big/a"), &path("big/b"), &tag).await.unwrap()
        else {
            panic!("nothing is in the way");
        };
        let after = store.request_counts().unwrap();
        assert_eq!(after.get.bytes, before.get.bytes, "no bytes pass through this process");
        assert_eq!(after.copy.requests - before.copy.requests, 3, "one part: begin, copy, end");
        let options = GetOptions { if_tag: Some(copied), ..GetOptions::range(20_000_000..20_000_100) };
        let part = store.get(&path("big/b"), options).await.unwrap();
        assert_eq!(part.bytes, body.slice(20_000_000..20_000_100));
        assert_eq!(
            store.copy(&path("big/a"), &path("big/b"), &tag).await.unwrap(),
            PutOutcome::AlreadyExists
        );
        let wrong = ObjectTag { etag: "wrong".into(), version_id: None };
        assert_eq!(store.copy(&path("big/a"), &path("big/c"), &wrong).await.unwrap(), PutOutcome::Mismatch);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_keys_and_missing_buckets_are_told_at_once() {
    for (name, endpoint) in servers() {
        bucket(&endpoint).await;
        let ctx = Context::for_tests(3);
        let missing =
            S3Store::open("s3://nacre-not-there/x", &settings(&endpoint, "testtest"), &ctx).unwrap();
        let missing: Arc<dyn ObjectStore> = Arc::new(missing);
        let error = probe(&missing, &ctx).await.unwrap_err();
        assert_eq!(error.code(), "store-bucket", "{name}: {error}");
        // ministack takes any keys.
        if name == "versitygw" {
            let wrong =
                S3Store::open(&format!("s3://{BUCKET}/x"), &settings(&endpoint, "canary"), &ctx).unwrap();
            let wrong: Arc<dyn ObjectStore> = Arc::new(wrong);
            let error = probe(&wrong, &ctx).await.unwrap_err();
            assert_eq!(error.code(), "store-credentials", "{name}: {error}");
            assert!(!error.detail().contains("canary"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run it alone, with --nocapture"]
async fn what_requests_cost() {
    for (name, endpoint) in servers() {
        bucket(&endpoint).await;
        let store = stores(&endpoint, 1).remove(0);
        let ctx = Context::for_tests(5);
        let mut puts = Vec::new();
        let mut gets = Vec::new();
        for n in 0..500 {
            let path = path(&format!("speed/{n}"));
            let begun = ctx.clock.monotonic();
            store.put(&path, bytes(4_096), PutMode::Create).await.unwrap();
            let put = ctx.clock.monotonic();
            store.get(&path, GetOptions::default()).await.unwrap();
            puts.push(put - begun);
            gets.push(ctx.clock.monotonic() - put);
        }
        let middle = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            (times[times.len() / 2], times[times.len() * 99 / 100])
        };
        println!("{name}: put 4 KiB p50, p99 {:?}, get {:?}", middle(&mut puts), middle(&mut gets));
    }
}
