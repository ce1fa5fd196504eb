//! What the store makes of servers that misbehave: answers that get lost, are cut short, or say what they should not.

mod bodies;
mod parts;

use super::client::Tuning;
use super::*;
use crate::AwsCredentials;
use crate::testing::server::{Act, Fake};
use nacre_types::{Applied, ErrorKind};
use std::time::Duration;

fn tuning() -> Tuning {
    Tuning {
        connect: Duration::from_millis(400),
        read: Duration::from_millis(400),
        write: Duration::from_millis(400),
        heavy: Duration::from_millis(1_500),
        pause: Duration::from_millis(200),
        wait: Duration::from_millis(200),
        backoff_first: Duration::from_millis(1),
        backoff_most: Duration::from_millis(2),
        part_bytes: 1_000,
        small_copy_bytes: 100,
        copy_part_bytes: 1_000,
        ..Tuning::default()
    }
}

fn settings(endpoint: String) -> S3Settings {
    S3Settings {
        credentials: AwsCredentials::Keys {
            access_key: "canary-id".into(),
            secret_key: "canary-secret".into(),
            session_token: Some("canary-token".into()),
        },
        endpoint: Some(endpoint),
        allow_http: true,
        ..S3Settings::default()
    }
}

fn store(fake: &Fake) -> S3Store {
    tuned(fake, tuning())
}

fn tuned(fake: &Fake, tuning: Tuning) -> S3Store {
    S3Store::tuned("s3://bucket/p", &settings(fake.endpoint()), &Context::for_tests(1), tuning).unwrap()
}

fn path(text: &str) -> ObjectPath {
    ObjectPath::new(text).unwrap()
}

fn tag(etag: &str) -> ObjectTag {
    ObjectTag { etag: etag.into(), version_id: None }
}

const DATES: &[(&str, &str)] =
    &[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"), ("date", "Sun, 06 Nov 1994 08:49:38 GMT")];

fn version(etag: &str, id: &str) -> ObjectTag {
    ObjectTag { etag: etag.into(), version_id: Some(id.into()) }
}

fn object(body: &[u8]) -> Act {
    Act::answer(200, body).with(DATES).with(&[("etag", "\"e\"")])
}

fn refusal(status: u16, code: &str) -> Act {
    Act::answer(status, format!("<Error><Code>{code}</Code><Message>why</Message></Error>").as_bytes())
}

async fn create(fake: &Fake) -> Result<PutOutcome> {
    store(fake).put(&path("a"), Bytes::from_static(b"body"), PutMode::Create).await
}

async fn replace(fake: &Fake) -> Result<PutOutcome> {
    store(fake).put(&path("a"), Bytes::from_static(b"body"), PutMode::Replace(tag("e"))).await
}

async fn ranged(fake: &Fake, range: std::ops::Range<u64>) -> Result<Object> {
    store(fake).get(&path("a"), GetOptions::range(range)).await
}

async fn get(fake: &Fake) -> Result<Object> {
    store(fake).get(&path("a"), GetOptions::default()).await
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_unknown_and_was_sent_once() {
    for act in [Act::Close, Act::Silence] {
        let fake = Fake::always(act).await;
        let error = create(&fake).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Unknown, "store-silent"), "{error}");
        assert_eq!(store(&fake).delete(&path("a")).await.unwrap_err().kind(), ErrorKind::Unknown);
        assert_eq!(fake.seen().len(), 2);
    }
}

#[tokio::test]
async fn a_write_that_found_no_server_certainly_did_not_happen() {
    let fake = Fake::gone().await;
    let error = create(&fake).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "store-unreachable"), "{error}");
    assert_eq!(error.applied(), Applied::No);
    assert!(error.detail().contains(&fake.endpoint()), "{error}");
}

#[tokio::test]
async fn puts_say_their_condition_and_their_answers_are_told_apart() {
    let stored = Act::answer(200, b"").with(&[("etag", "\"new\"")]);
    for (act, created, replaced) in [
        (stored, PutOutcome::Stored(tag("new")), PutOutcome::Stored(tag("new"))),
        (refusal(412, "PreconditionFailed"), PutOutcome::AlreadyExists, PutOutcome::Mismatch),
        (Act::answer(412, b""), PutOutcome::AlreadyExists, PutOutcome::Mismatch),
    ] {
        let fake = Fake::always(act).await;
        assert_eq!(create(&fake).await.unwrap(), created);
        assert_eq!(replace(&fake).await.unwrap(), replaced);
        let seen = fake.seen();
        assert_eq!((seen[0].header("if-none-match"), seen[0].header("if-match")), ("*", ""));
        assert_eq!((seen[1].header("if-none-match"), seen[1].header("if-match")), ("", "\"e\""));
        assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("PUT", "/bucket/p/a"));
        assert!(seen.iter().all(|seen| seen.body == b"body"));
    }
    let gone = Fake::always(refusal(404, "NoSuchKey")).await;
    assert_eq!(replace(&gone).await.unwrap(), PutOutcome::Mismatch);
}

#[tokio::test]
async fn refused_writes_are_unknown_unless_nothing_was_done() {
    use ErrorKind::{Invalid, Unavailable, Unknown};
    for (status, code, kind, expected) in [
        (500, "InternalError", Unknown, "store-error"),
        (502, "", Unknown, "store-error"),
        (503, "", Unknown, "store-error"),
        (503, "ServiceUnavailable", Unknown, "store-error"),
        (503, "SlowDownWrite", Unknown, "store-error"),
        (504, "", Unknown, "store-error"),
        (409, "ConditionalRequestConflict", Unknown, "store-conflict"),
        (408, "", Unknown, "store-endpoint"),
        (503, "SlowDown", Unknown, "store-throttled"),
        (429, "TooManyRequests", Unavailable, "store-throttled"),
        (501, "NotImplemented", Invalid, "store-unfit"),
        (400, "InvalidRequest", Unavailable, "store-error"),
        (404, "NoSuchBucket", Unavailable, "store-bucket"),
        (404, "", Unavailable, "store-endpoint"),
        (403, "AccessDenied", Unavailable, "store-forbidden"),
        (403, "InvalidAccessKeyId", Unavailable, "store-credentials"),
        (403, "SignatureDoesNotMatch", Unavailable, "store-credentials"),
        (403, "RequestTimeTooSkewed", Unavailable, "store-clock"),
    ] {
        let act = if code.is_empty() { Act::answer(status, b"<html>") } else { refusal(status, code) };
        let fake = Fake::always(act).await;
        for error in [create(&fake).await.unwrap_err(), replace(&fake).await.unwrap_err()] {
            assert_eq!((error.kind(), error.code()), (kind, expected), "{status} {code}: {error}");
            assert_eq!(error.retry_after_ms().is_some(), expected == "store-throttled");
        }
        assert_eq!(fake.seen().len(), 2, "{status} {code}: a write is sent once");
    }
}

#[tokio::test]
async fn what_an_operator_must_mend_is_said() {
    let moved =
        Act::answer(301, b"").with(&[("x-amz-bucket-region", "eu-west-3"), ("location", "http://x/")]);
    for (act, code, word) in [
        (moved, "store-region", "AWS_REGION=eu-west-3"),
        (refusal(400, "AuthorizationHeaderMalformed"), "store-region", "us-east-1"),
        (refusal(404, "NoSuchBucket"), "store-bucket", "no bucket bucket at http://127.0.0.1"),
        (refusal(403, "AccessDenied"), "store-forbidden", "s3:PutObject"),
        (refusal(403, "ExpiredToken"), "store-credentials", "AWS_ACCESS_KEY_ID"),
        (refusal(501, "NotImplemented"), "store-unfit", "If-None-Match"),
        (Act::answer(404, b"<html>nginx</html>"), "store-endpoint", "AWS_ENDPOINT_URL_S3"),
    ] {
        let fake = Fake::always(act).await;
        let ctx = Context::for_tests(1);
        let store: Arc<dyn ObjectStore> = Arc::new(store(&fake));
        let error = crate::probe(&store, &ctx).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.detail().contains(word), "{error}");
        assert!(fake.seen().len() < 12, "a probe does not go on where nothing will change");
    }
}

#[tokio::test]
async fn a_probe_says_why_nothing_could_be_put() {
    for (status, put, code) in [
        (501, "NotImplemented", "store-unfit"),
        (403, "AccessDenied", "store-forbidden"),
        (400, "InvalidRequest", "store-error"),
    ] {
        let fake = Fake::new(move |seen, _| match seen.method.as_str() {
            "PUT" => refusal(status, put),
            "GET" => refusal(404, "NoSuchKey"),
            _ => Act::answer(204, b""),
        })
        .await;
        let store: Arc<dyn ObjectStore> = Arc::new(store(&fake));
        let error = crate::probe(&store, &Context::for_tests(1)).await.unwrap_err();
        let told = if code == "store-error" { "unavailable" } else { code };
        assert_eq!(error.code(), told, "{error}");
        assert!(error.detail().contains(put), "{error}");
    }
}

#[tokio::test]
async fn a_bucket_that_keeps_versions_must_let_them_be_read() {
    let fake = Fake::new(|seen, _| match (seen.method.as_str(), seen.query("versionId")) {
        ("HEAD", _) => object(b"1").with(&[("x-amz-version-id", "v1")]),
        ("GET", Some(_)) => refusal(403, "AccessDenied"),
        _ => refusal(400, "Unexpected"),
    })
    .await;
    let error = store(&fake).check_promises(&path("probe/1")).await.unwrap_err();
    assert_eq!(error.code(), "store-forbidden", "{error}");
    assert!(error.detail().contains("s3:GetObjectVersion"), "{error}");
}

#[tokio::test]
async fn what_a_store_says_forges_no_line_and_no_advice() {
    let fake = Fake::always(Act::answer(
        400,
        b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>a&#10;b</Message><Region>x&#10;rm -rf</Region></Error>",
    ))
    .await;
    let error = create(&fake).await.unwrap_err();
    assert!(!error.detail().contains(['\n', '\r']) && !error.detail().contains("rm -rf"), "{error}");
    assert!(error.detail().contains("set AWS_REGION to the bucket's"), "{error}");
    let long = "x".repeat(10_000);
    let long: &'static str = long.leak();
    let fake = Fake::always(refusal(403, "AccessDenied").with(&[("x-amz-request-id", long)])).await;
    assert!(create(&fake).await.unwrap_err().detail().len() < 1_000);
}

#[tokio::test]
async fn keys_that_no_header_can_hold_are_refused_at_the_start() {
    let fake = Fake::gone().await;
    for (id, secret, token) in [
        ("id\n", "s", None),
        ("id", "s ", None),
        ("id", "s", Some("t\r\n")),
        ("", "s", None),
        ("id", "", None),
    ] {
        let credentials = AwsCredentials::Keys {
            access_key: id.into(),
            secret_key: secret.into(),
            session_token: token.map(str::to_owned),
        };
        let settings = S3Settings { credentials, ..settings(fake.endpoint()) };
        let error = S3Store::open("s3://bucket/p", &settings, &Context::for_tests(1)).unwrap_err();
        assert_eq!(error.code(), "store-settings");
        assert!(error.detail().contains("AWS_SESSION_TOKEN"), "{error}");
    }
    let role = |endpoint: &str| AwsCredentials::WebIdentity {
        token_file: "/t".into(),
        role_arn: "arn".into(),
        session_name: None,
        sts_endpoint: Some(endpoint.into()),
    };
    let open = |endpoint: &str, allow_http| {
        let s3 = S3Settings {
            credentials: role(endpoint),
            region: Some("eu-west-1".into()),
            allow_http,
            ..S3Settings::default()
        };
        S3Store::open("s3://bucket/p", &s3, &Context::for_tests(1))
    };
    assert!(open("http://sts", false).unwrap_err().detail().contains("AWS_ENDPOINT_URL_STS"));
    assert!(open("https://sts.example", false).is_ok() && open("http://sts.example", true).is_ok());
}

#[tokio::test]
async fn a_handshake_that_never_comes_is_no_unknown_outcome() {
    let fake = Fake::mute().await;
    let settings = settings(fake.endpoint().replace("http:", "https:"));
    let opened = S3Store::tuned("s3://bucket/p", &settings, &Context::for_tests(1), tuning());
    let Ok(store) = opened else {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            b"NOTICE: skipped, no root certificates here\n",
        );
        return;
    };
    let error = store.put(&path("a"), Bytes::from_static(b"1"), PutMode::Create).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "store-unreachable"), "{error}");
}

#[tokio::test]
async fn keys_stand_in_no_error_and_in_no_debug_output() {
    let fake = Fake::always(refusal(403, "InvalidAccessKeyId")).await;
    let shown = format!("{:?} {:?}", store(&fake), create(&fake).await.unwrap_err());
    for secret in ["canary-secret", "canary-token"] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(fake.seen().iter().all(|seen| !seen.header("authorization").contains(secret)));
    }
    assert!(fake.seen()[0].header("authorization").contains("Credential=canary-id/"));
}

#[tokio::test]
async fn reads_are_repeated_until_an_answer_comes_whole() {
    let troubles = [
        refusal(503, "SlowDown"),
        refusal(500, "InternalError"),
        Act::Close,
        Act::Silence,
        object(b"0123456789").cut(4),
    ];
    for act in troubles {
        let fake = Fake::new(move |_, n| if n < 2 { act.clone() } else { object(b"0123456789") }).await;
        assert_eq!(get(&fake).await.unwrap().bytes, "0123456789");
        assert_eq!(fake.seen().len(), 3);
    }
    let fake = Fake::always(refusal(503, "SlowDown")).await;
    let error = get(&fake).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "store-throttled"));
    assert_eq!(fake.seen().len(), 4, "and no more often than it may");
}

#[tokio::test]
async fn a_store_in_trouble_is_not_asked_several_times_as_much() {
    let fake = Fake::always(refusal(500, "InternalError")).await;
    let store = store(&fake);
    for _ in 0..200 {
        store.get(&path("a"), GetOptions::default()).await.unwrap_err();
    }
    let sent = fake.seen().len();
    assert!((200..=275).contains(&sent), "{sent}");
    let counts = store.request_counts().unwrap();
    assert_eq!((counts.get.requests, counts.get.errors), (sent as u64, sent as u64));
}

#[tokio::test]
async fn refusals_are_counted_once_and_answers_are_not() {
    for (act, errors) in [
        (refusal(403, "AccessDenied"), 1),
        (refusal(404, "NoSuchKey"), 0),
        (refusal(500, "InternalError").cut(5), 4),
        (object(b"1"), 0),
    ] {
        let store = store(&Fake::always(act.clone()).await);
        let _ = store.get(&path("a"), GetOptions::default()).await;
        assert_eq!(store.request_counts().unwrap().get.errors, errors, "{act:?}");
    }
}

#[tokio::test]
async fn a_request_that_finds_no_place_is_not_tried_again() {
    let fake = Fake::always(Act::Silence).await;
    let store =
        tuned(&fake, Tuning { lane_width: 1, wait: Duration::from_millis(50), attempts: 1, ..tuning() });
    let (path, whole) = (path("a"), GetOptions::default);
    let (first, second) = tokio::join!(store.get(&path, whole()), store.get(&path, whole()));
    assert_eq!(first.unwrap_err().code(), "store-silent");
    assert_eq!(second.unwrap_err().code(), "store-busy");
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn an_old_token_is_no_changed_object() {
    let options = GetOptions { if_tag: Some(version("e", "v1")), ..GetOptions::default() };
    for (act, code) in [
        (refusal(400, "ExpiredToken"), "store-credentials"),
        (refusal(400, "AuthorizationHeaderMalformed"), "store-region"),
        (refusal(400, "RequestTimeout"), "store-error"),
        (Act::answer(400, b""), "store-endpoint"),
    ] {
        let fake = Fake::always(act).await;
        let store = store(&fake);
        let errors = [
            store.get(&path("a"), options.clone()).await.unwrap_err(),
            store.head(&path("a")).await.unwrap_err(),
            store.copy(&path("a"), &path("b"), &version("e", "v1")).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, code), "{error}");
        }
    }
    let fake = Fake::always(refusal(400, "InvalidArgument")).await;
    assert_eq!(store(&fake).get(&path("a"), options).await.unwrap_err().code(), "object-changed");
    let copied = store(&fake).copy(&path("a"), &path("b"), &version("e", "v1")).await.unwrap();
    assert_eq!(copied, PutOutcome::Mismatch);
}

#[tokio::test]
async fn what_a_store_does_not_know_is_told_by_who_asked() {
    let fake = Fake::always(refusal(501, "NotImplemented")).await;
    let read = get(&fake).await.unwrap_err();
    assert_eq!((read.kind(), read.code()), (ErrorKind::Unavailable, "store-unfit"));
    let mut upload = store(&fake).upload(&path("big")).await.unwrap();
    let part = upload.write(Bytes::from(vec![1; 3_000])).await.unwrap_err();
    assert_eq!((part.kind(), part.code()), (ErrorKind::Invalid, "store-unfit"), "{part}");
}

#[tokio::test]
async fn an_absence_is_believed_only_if_s3_tells_it() {
    let real = Fake::always(refusal(404, "NoSuchKey")).await;
    assert_eq!(get(&real).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store(&real).head(&path("a")).await.unwrap_err().kind(), ErrorKind::NotFound);
    for act in [refusal(404, "NoSuchBucket"), Act::answer(404, b"<html>not here"), Act::answer(404, b"")] {
        let proxy = Fake::always(act).await;
        assert_eq!(get(&proxy).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(store(&proxy).head(&path("a")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn tags_are_read_whatever_is_around_them() {
    for etag in ["\"x-2\"", "x-2", "W/\"x-2\""] {
        let etag: &'static str = etag;
        let fake = Fake::always(Act::answer(200, b"1").with(DATES).with(&[("etag", etag)])).await;
        assert_eq!(get(&fake).await.unwrap().meta.tag, tag("x-2"));
        assert_eq!(create(&fake).await.unwrap(), PutOutcome::Stored(tag("x-2")));
    }
    let without = Fake::always(Act::answer(200, b"1").with(DATES)).await;
    let error = create(&without).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unknown, "store-endpoint"));
    assert_eq!(get(&without).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_read_with_a_tag_asks_for_it_and_checks_it() {
    let options = GetOptions { if_tag: Some(tag("e")), ..GetOptions::range(2..5) };
    let fake = Fake::always(Act::answer(412, b"")).await;
    let error = store(&fake).get(&path("a"), options.clone()).await.unwrap_err();
    assert_eq!(error.code(), "object-changed");
    assert_eq!(fake.seen()[0].header("if-match"), "\"e\"");
    assert_eq!(fake.seen()[0].header("range"), "bytes=2-4");
    // A gateway that does not know the condition.
    let careless = Fake::always(
        Act::answer(206, b"234")
            .with(DATES)
            .with(&[("etag", "\"other\""), ("content-range", "bytes 2-4/10")]),
    )
    .await;
    assert_eq!(store(&careless).get(&path("a"), options).await.unwrap_err().code(), "object-changed");
    // A version is named; the object of that name may have another by now.
    let version = ObjectTag { etag: "e".into(), version_id: Some("v/1".into()) };
    let versions = Fake::always(object(b"1").with(&[("x-amz-version-id", "v/1")])).await;
    let options = GetOptions { if_tag: Some(version.clone()), ..GetOptions::default() };
    assert_eq!(store(&versions).get(&path("a"), options).await.unwrap().meta.tag, version);
    assert_eq!(versions.seen()[0].target, "/bucket/p/a?versionId=v%2F1");
}

#[tokio::test]
async fn ranges_are_held_to_what_was_asked() {
    let everything = Fake::always(object(b"0123456789")).await;
    assert_eq!(ranged(&everything, 2..5).await.unwrap().bytes, "234");
    let part = |body: &'static [u8], range| {
        Act::answer(206, body).with(DATES).with(&[("etag", "\"e\""), ("content-range", range)])
    };
    let good = Fake::always(part(b"234", "bytes 2-4/10")).await;
    let object = ranged(&good, 2..5).await.unwrap();
    assert_eq!((&object.bytes[..], object.meta.size), (&b"234"[..], 10));
    let short = Fake::always(part(b"23", "bytes 2-3/10")).await;
    assert_eq!(ranged(&short, 2..5).await.unwrap_err().code(), "store-endpoint");
    for odd in ["bytes 3-5/10", "bytes 2-4/*", "bytes 0-2/10", ""] {
        let other = Fake::always(part(b"345", odd)).await;
        assert_eq!(ranged(&other, 2..5).await.unwrap_err().code(), "store-endpoint", "{odd}");
    }
    let piece = Fake::always(part(b"0123", "bytes 0-3/10")).await;
    assert_eq!(get(&piece).await.unwrap_err().code(), "store-endpoint", "a part is not the whole");
    let end = Fake::always(part(b"89", "bytes 8-9/10")).await;
    assert_eq!(ranged(&end, 8..12).await.unwrap_err().code(), "range-out-of-bounds");
}

#[tokio::test]
async fn a_slow_read_is_asked_for_again_and_the_first_answer_counts() {
    let fake = Fake::new(|_, n| {
        let quick = object(b"quick");
        if n == 100 { object(b"slow").slow(Duration::from_millis(350)) } else { quick }
    })
    .await;
    let store = store(&fake);
    for _ in 0..101 {
        assert_eq!(store.get(&path("a"), GetOptions::default()).await.unwrap().bytes, "quick");
    }
    assert!(fake.seen().len() > 101);
}

#[tokio::test]
async fn a_quick_refusal_of_the_second_request_is_no_better_than_the_first() {
    for refused in [refusal(503, "SlowDown"), refusal(429, "TooManyRequests"), Act::Close] {
        let fake = Fake::new(move |_, n| match n {
            100 => object(b"slow").slow(Duration::from_millis(200)),
            101 => refused.clone(),
            _ => object(b"quick"),
        })
        .await;
        let store = store(&fake);
        for n in 0..101 {
            let read = store.get(&path("a"), GetOptions::default()).await.unwrap().bytes;
            assert_eq!(read, if n == 100 { "slow" } else { "quick" });
        }
        assert_eq!(fake.seen().len(), 102);
    }
}

#[tokio::test]
async fn of_copies_the_first_answer_counts_and_none_is_cut_off() {
    let options = || GetOptions { copies: 1, ..GetOptions::default() };
    let slow = || object(b"slow").slow(Duration::from_millis(200));
    for first in [slow(), refusal(503, "SlowDown"), Act::Close] {
        let fake = Fake::new(move |_, n| if n == 0 { first.clone() } else { object(b"quick") }).await;
        assert_eq!(store(&fake).get(&path("a"), options()).await.unwrap().bytes, "quick");
    }
    // What no copy can mend is told at once, and what all of them met as well.
    let missing = Fake::always(refusal(404, "NoSuchKey")).await;
    assert_eq!(store(&missing).get(&path("a"), options()).await.unwrap_err().kind(), ErrorKind::NotFound);
    let down = Fake::always(refusal(503, "SlowDown")).await;
    assert_eq!(store(&down).get(&path("a"), options()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    // Half of the places are taken: one is sent.
    let fake = Fake::always(slow()).await;
    let narrow = tuned(&fake, Tuning { lane_width: 2, ..tuning() });
    let (one, other) = (path("a"), path("a"));
    let (one, other) = tokio::join!(narrow.get(&one, GetOptions::default()), narrow.get(&other, options()));
    assert_eq!((one.unwrap().bytes, other.unwrap().bytes), (Bytes::from("slow"), Bytes::from("slow")));
    assert_eq!(fake.seen().len(), 2);
}

#[tokio::test]
async fn any_answer_tells_the_stores_date() {
    for status in [200, 403, 404] {
        let fake = Fake::always(Act::answer(status, b"").with(DATES)).await;
        assert_eq!(store(&fake).date_micros().await.unwrap(), 784_111_778_000_000);
    }
    let silent = Fake::always(Act::answer(200, b"")).await;
    assert_eq!(store(&silent).date_micros().await.unwrap_err().code(), "store-endpoint");
}

#[tokio::test]
async fn listings_go_on_until_the_end_and_know_their_own_names() {
    let page = |names: &[&str], next: &str| {
        let objects: String = names
            .iter()
            .map(|name| {
                format!(
                    "<Contents><Key>{name}</Key><LastModified>2024-01-01T00:00:00Z</LastModified>\
                     <ETag>\"e\"</ETag><Size>1</Size></Contents>"
                )
            })
            .collect();
        let more = !next.is_empty();
        let xml = format!(
            "<L><IsTruncated>{more}</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>{objects}</L>"
        );
        Act::answer(200, xml.as_bytes())
    };
    let (first, second) = (page(&["p/x/", "p/x/.h", "p/x/a"], "t+/"), page(&["p/x/b"], ""));
    let fake = Fake::new(move |_, n| if n == 0 { first.clone() } else { second.clone() }).await;
    let listed = store(&fake).list("x/", Some(&path("x/0")), 9).await.unwrap();
    assert_eq!(listed.iter().map(|meta| meta.path.as_str()).collect::<Vec<_>>(), ["x/a", "x/b"]);
    let seen = fake.seen();
    assert_eq!(seen[0].target, "/bucket?list-type=2&max-keys=9&prefix=p%2Fx%2F&start-after=p%2Fx%2F0");
    assert_eq!(seen[1].query("continuation-token").as_deref(), Some("t%2B%2F"));
    let fake = Fake::always(page(&["p/a", "p/b", "p/c"], "")).await;
    assert_eq!(store(&fake).list("", None, 2).await.unwrap().len(), 2, "where max-keys is not known");
    for bad in
        [page(&["p/b", "p/a"], ""), page(&["p/.a"], "again"), page(&["q/a"], ""), Act::answer(200, b"<html>")]
    {
        let fake = Fake::always(bad).await;
        assert_eq!(store(&fake).list("", None, 9).await.unwrap_err().code(), "store-endpoint");
    }
}
