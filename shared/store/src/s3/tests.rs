//! What the store makes of servers that misbehave: answers that get lost, are cut short, or say what they should not.

mod fake;

use super::client::Tuning;
use super::*;
use crate::S3Credentials;
use fake::{Act, Fake, Seen};
use nacre_types::{Applied, Error, ErrorKind};
use std::time::Duration;

fn tuning() -> Tuning {
    Tuning {
        read: Duration::from_millis(400),
        write: Duration::from_millis(400),
        heavy: Duration::from_millis(400),
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
        credentials: S3Credentials::Keys {
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
    S3Store::tuned("s3://bucket/p", &settings(fake.endpoint()), &Context::for_tests(1), tuning()).unwrap()
}

fn path(text: &str) -> ObjectPath {
    ObjectPath::new(text).unwrap()
}

fn tag(etag: &str) -> ObjectTag {
    ObjectTag { etag: etag.into(), version_id: None }
}

const DATES: &[(&str, &str)] =
    &[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"), ("date", "Sun, 06 Nov 1994 08:49:38 GMT")];

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
        (503, "SlowDown", Unavailable, "store-throttled"),
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
    let moved = Act::answer(301, b"").with(&[("x-amz-bucket-region", "eu-west-3"), ("location", "http://x/")]);
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
    let options = GetOptions { range: Some(2..5), if_tag: Some(tag("e")) };
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
    let options = GetOptions { range: None, if_tag: Some(version.clone()) };
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
async fn any_answer_tells_the_stores_date() {
    for status in [200, 403, 404] {
        let fake = Fake::always(Act::answer(status, b"").with(DATES)).await;
        assert_eq!(store(&fake).date_micros().await.unwrap(), 784_111_778_000_000);
    }
    let silent = Fake::always(Act::answer(200, b"")).await;
    assert_eq!(store(&silent).date_micros().await.unwrap_err().code(), "store-endpoint");
}

/// A server of uploads and copies whose last request is answered by `end`.
async fn uploads(end: Act) -> Fake {
    Fake::new(move |seen: &Seen, _| match (seen.method.as_str(), seen.query("uploadId")) {
        ("POST", None) => Act::answer(200, b"<R><UploadId>up&amp;1</UploadId></R>"),
        ("PUT", Some(_)) if !seen.header("x-amz-copy-source").is_empty() => {
            Act::answer(200, b"<R><ETag>&quot;c&quot;</ETag></R>")
        }
        ("PUT", Some(_)) => Act::answer(200, b"").with(&[("etag", "\"part\"")]),
        ("POST", Some(_)) => end.clone(),
        ("DELETE", Some(_)) => Act::answer(204, b""),
        ("HEAD", _) => object(&[0; 2_500]),
        _ => refusal(400, "Unexpected"),
    })
    .await
}

async fn upload(fake: &Fake) -> Result<PutOutcome> {
    let mut upload = store(fake).upload(&path("big")).await?;
    for _ in 0..5 {
        upload.write(Bytes::from(vec![7; 700])).await?;
    }
    upload.finish().await
}

fn count(fake: &Fake, method: &str) -> usize {
    fake.seen().iter().filter(|seen| seen.method == method).count()
}

#[tokio::test]
async fn an_upload_ends_with_one_conditional_request() {
    let done = Act::answer(200, b"<R><ETag>&quot;whole-4&quot;</ETag></R>");
    let fake = uploads(done).await;
    assert_eq!(upload(&fake).await.unwrap(), PutOutcome::Stored(tag("whole-4")));
    let mut sizes: Vec<_> = fake
        .seen()
        .iter()
        .filter(|seen| seen.method == "PUT")
        .map(|seen| (seen.query("partNumber").unwrap(), seen.body.len()))
        .collect();
    sizes.sort();
    let expected = [("1", 1_000), ("2", 1_000), ("3", 1_000), ("4", 500)];
    assert_eq!(sizes, expected.map(|(number, size)| (number.to_owned(), size)));
    let seen = fake.seen();
    let last = seen.last().unwrap();
    assert_eq!((last.header("if-none-match"), last.query("uploadId").as_deref()), ("*", Some("up%261")));
    assert_eq!(String::from_utf8_lossy(&last.body).matches("&quot;part&quot;").count(), 4);
}

#[tokio::test]
async fn an_upload_whose_end_is_not_known_cleans_nothing_up() {
    let late = Act::answer(200, b"  <Error><Code>InternalError</Code></Error>");
    for end in [Act::Close, Act::Silence, late.clone(), late.cut(9), refusal(404, "NoSuchUpload"), refusal(409, "x")] {
        let fake = uploads(end).await;
        assert_eq!(upload(&fake).await.unwrap_err().kind(), ErrorKind::Unknown);
        assert_eq!((count(&fake, "POST"), count(&fake, "DELETE")), (2, 0));
    }
}

#[tokio::test]
async fn an_upload_to_a_taken_name_leaves_nothing_behind() {
    let late = Act::answer(200, b"<Error><Code>PreconditionFailed</Code></Error>");
    for end in [refusal(412, "PreconditionFailed"), late] {
        let fake = uploads(end).await;
        assert_eq!(upload(&fake).await.unwrap(), PutOutcome::AlreadyExists);
        assert_eq!(count(&fake, "DELETE"), 1);
    }
}

#[tokio::test]
async fn an_upload_that_failed_or_was_dropped_is_aborted() {
    let fake = Fake::new(|seen: &Seen, _| match seen.method.as_str() {
        "POST" => Act::answer(200, b"<R><UploadId>1</UploadId></R>"),
        "DELETE" => Act::answer(204, b""),
        _ => refusal(403, "AccessDenied"),
    })
    .await;
    let store = store(&fake);
    let mut upload = store.upload(&path("big")).await.unwrap();
    let mut failed: Option<Error> = None;
    for _ in 0..20 {
        if let Err(error) = upload.write(Bytes::from(vec![7; 1_000])).await {
            failed = Some(error);
            break;
        }
    }
    assert_eq!(failed.unwrap().code(), "store-forbidden");
    assert_eq!(upload.write(Bytes::from_static(b"x")).await.unwrap_err().code(), "upload-broken");
    drop(upload);
    for _ in 0..200 {
        if count(&fake, "DELETE") == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the upload was not aborted");
}

#[tokio::test]
async fn a_copy_says_both_conditions() {
    let fake = uploads(Act::answer(200, b"<R><ETag>\"copy\"</ETag></R>")).await;
    let copied = store(&fake).copy(&path("a b"), &path("c"), &tag("e")).await.unwrap();
    assert_eq!(copied, PutOutcome::Stored(tag("copy")));
    let seen = fake.seen();
    let parts: Vec<_> = seen.iter().filter(|seen| seen.method == "PUT").collect();
    let ranges: Vec<_> = parts.iter().map(|seen| seen.header("x-amz-copy-source-range")).collect();
    assert_eq!(ranges, ["bytes=0-999", "bytes=1000-1999", "bytes=2000-2499"]);
    for part in parts {
        assert_eq!(part.header("x-amz-copy-source"), "/bucket/p/a%20b");
        assert_eq!(part.header("x-amz-copy-source-if-match"), "\"e\"");
        assert!(part.target.starts_with("/bucket/p/c?"));
    }
    assert_eq!(seen.last().unwrap().header("if-none-match"), "*");
    assert_eq!(store(&fake).copy(&path("a"), &path("c"), &tag("other")).await.unwrap(), PutOutcome::Mismatch);
}

#[tokio::test]
async fn a_source_that_changes_under_a_copy_is_a_mismatch() {
    for act in [
        refusal(412, "PreconditionFailed"),
        Act::answer(200, b"<Error><Code>PreconditionFailed</Code></Error>"),
        refusal(404, "NoSuchKey"),
    ] {
        let fake = Fake::new(move |seen: &Seen, _| match (seen.method.as_str(), seen.query("uploadId")) {
            ("HEAD", _) => object(&[0; 2_500]),
            ("POST", None) => Act::answer(200, b"<R><UploadId>1</UploadId></R>"),
            ("PUT", Some(_)) => act.clone(),
            _ => Act::answer(204, b""),
        })
        .await;
        assert_eq!(
            store(&fake).copy(&path("a"), &path("c"), &tag("e")).await.unwrap(),
            PutOutcome::Mismatch
        );
        assert_eq!((count(&fake, "POST"), count(&fake, "DELETE")), (1, 1));
    }
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
    for bad in [page(&["p/b", "p/a"], ""), page(&["q/a"], ""), Act::answer(200, b"<html>")] {
        let fake = Fake::always(bad).await;
        assert_eq!(store(&fake).list("", None, 9).await.unwrap_err().code(), "store-endpoint");
    }
}
