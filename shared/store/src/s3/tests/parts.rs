//! Uploads and copies: what is made of parts.

use super::*;
use crate::testing::server::{Act, Fake, Seen};
use nacre_types::Error;

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
    let seen = fake.seen();
    assert_eq!(seen[0].header("content-length"), "0", "of the request that begins it");
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
    let nothing = Act::answer(200, b"<R></R>").with(&[("etag", "\"e\"")]);
    for end in [
        Act::Close,
        Act::Silence,
        late.clone(),
        late.cut(9),
        nothing,
        refusal(404, "NoSuchUpload"),
        refusal(409, "x"),
        refusal(503, "SlowDown"),
    ] {
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
    let mut ranges: Vec<_> = parts.iter().map(|seen| seen.header("x-amz-copy-source-range")).collect();
    ranges.sort_unstable();
    assert_eq!(ranges, ["bytes=0-999", "bytes=1000-1999", "bytes=2000-2499"]);
    for part in parts {
        assert_eq!(part.header("x-amz-copy-source"), "/bucket/p/a%20b");
        assert_eq!(part.header("x-amz-copy-source-if-match"), "\"e\"");
        assert_eq!(part.header("content-length"), "0");
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
        assert_eq!(store(&fake).copy(&path("a"), &path("c"), &tag("e")).await.unwrap(), PutOutcome::Mismatch);
        assert_eq!((count(&fake, "POST"), count(&fake, "DELETE")), (1, 1));
    }
}

/// A source of `size` bytes whose copied parts are answered by `part`.
async fn source(size: usize, part: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Fake {
    Fake::new(move |seen: &Seen, _| match (seen.method.as_str(), seen.query("uploadId")) {
        ("HEAD", _) => object(&vec![0; size]),
        ("POST", None) => Act::answer(200, b"<R><UploadId>1</UploadId></R>"),
        ("POST", Some(_)) => Act::answer(200, b"<R><ETag>\"copy\"</ETag></R>"),
        ("PUT", Some(_)) => part(seen),
        _ => Act::answer(204, b""),
    })
    .await
}

async fn copy(fake: &Fake) -> Result<PutOutcome> {
    store(fake).copy(&path("a"), &path("c"), &tag("e")).await
}

#[tokio::test]
async fn a_copy_of_one_part_names_no_range() {
    let fake = source(900, |_| Act::answer(200, b"<R><ETag>\"c\"</ETag></R>")).await;
    assert_eq!(copy(&fake).await.unwrap(), PutOutcome::Stored(tag("copy")));
    let seen = fake.seen();
    let part = seen.iter().find(|seen| seen.method == "PUT").unwrap();
    // S3 refuses one on whatever is not bigger than 5 MB.
    assert_eq!(part.header("x-amz-copy-source-range"), "");
}

#[tokio::test]
async fn parts_are_copied_beside_each_other_and_named_in_order() {
    let fake = source(3_500, |seen| {
        let number: u64 = seen.query("partNumber").unwrap().parse().unwrap();
        let body = format!("<R><ETag>\"c{number}\"</ETag></R>");
        Act::answer(200, body.as_bytes()).slow(Duration::from_millis(500 - 100 * number))
    })
    .await;
    let begun = std::time::Duration::from_millis(900);
    tokio::time::timeout(begun, copy(&fake)).await.expect("one after another takes longer").unwrap();
    let end = String::from_utf8(fake.seen().last().unwrap().body.clone()).unwrap();
    let named: Vec<_> = end.split("&quot;").filter(|text| text.starts_with('c')).map(str::to_owned).collect();
    assert_eq!(named, ["c1", "c2", "c3", "c4"]);
}

#[tokio::test]
async fn an_answer_that_begins_at_once_and_ends_late_is_waited_for() {
    // Longer than a body of a read may pause.
    let late = |xml: &[u8]| Act::answer(200, xml).pausing(2, Duration::from_millis(500));
    let fake = source(900, move |_| late(b"  <R><ETag>\"c\"</ETag></R>")).await;
    assert_eq!(copy(&fake).await.unwrap(), PutOutcome::Stored(tag("copy")));
    assert_eq!(count(&fake, "PUT"), 1, "and not asked for again");
    let fake = uploads(late(b"  <R><ETag>&quot;whole&quot;</ETag></R>")).await;
    assert_eq!(upload(&fake).await.unwrap(), PutOutcome::Stored(tag("whole")));
    // White space gains no time for ever.
    let mut endless = Act::answer(200, &[b' '; 100]);
    for n in 1..100 {
        endless = endless.pausing(n, Duration::from_millis(100));
    }
    let fake = uploads(endless).await;
    let ended = tokio::time::timeout(Duration::from_secs(5), upload(&fake)).await;
    assert_eq!(ended.expect("it has an end").unwrap_err().kind(), ErrorKind::Unknown);
}

#[tokio::test]
async fn a_refusal_that_names_a_tag_is_a_refusal() {
    let fake =
        source(900, |_| Act::answer(200, b"<Error><ETag>\"c\"</ETag><Code>InternalError</Code></Error>"))
            .await;
    assert_eq!(copy(&fake).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let fake = source(900, |_| {
        Act::answer(200, b"<Error><ETag>\"c\"</ETag><Code>PreconditionFailed</Code></Error>")
    });
    assert_eq!(copy(&fake.await).await.unwrap(), PutOutcome::Mismatch);
}

#[tokio::test]
async fn parts_go_where_the_end_certainly_failed() {
    for end in [refusal(403, "AccessDenied"), refusal(429, "TooManyRequests"), refusal(501, "NotImplemented")]
    {
        let fake = uploads(end).await;
        assert_eq!(upload(&fake).await.unwrap_err().applied(), Applied::No);
        assert_eq!(count(&fake, "DELETE"), 1);
        assert_eq!(copy(&fake).await.unwrap_err().applied(), Applied::No);
        assert_eq!(count(&fake, "DELETE"), 2);
    }
}

#[tokio::test]
async fn a_copy_that_was_dropped_is_aborted() {
    let fake = source(3_500, |_| Act::Silence).await;
    tokio::time::timeout(Duration::from_millis(200), copy(&fake)).await.unwrap_err();
    for _ in 0..200 {
        if count(&fake, "DELETE") == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the copy was not aborted");
}

#[tokio::test]
async fn parts_that_come_whole_are_sent_as_they_are() {
    let fake = uploads(Act::answer(200, b"<R><ETag>\"w\"</ETag></R>")).await;
    let mut upload = store(&fake).upload(&path("big")).await.unwrap();
    let body: Vec<u8> = (0..5_300_u32).map(|n| (n % 251) as u8).collect();
    for (from, to) in [(0, 300), (300, 3_100), (3_100, 3_101), (3_101, 5_300)] {
        upload.write(Bytes::copy_from_slice(&body[from..to])).await.unwrap();
    }
    upload.finish().await.unwrap();
    let mut parts: Vec<_> = fake
        .seen()
        .into_iter()
        .filter(|seen| seen.method == "PUT")
        .map(|seen| (seen.query("partNumber").unwrap().parse::<u32>().unwrap(), seen.body))
        .collect();
    parts.sort();
    assert_eq!(
        parts.iter().map(|(_, part)| part.len()).collect::<Vec<_>>(),
        [1_000, 1_000, 1_000, 1_000, 1_000, 300]
    );
    assert_eq!(parts.into_iter().flat_map(|(_, part)| part).collect::<Vec<_>>(), body);
}
