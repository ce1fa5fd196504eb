//! Every line of the table of answers.

use super::model::{act, cancelled, operation, refusal};
use super::*;
use nacre_store::testing::server::Act;
use nacre_types::Applied;
use serde_json::json;

/// A server that answers writes so, and has no items.
async fn answering(write: Act) -> Fake {
    Fake::new(move |seen, _| match operation(seen) {
        "GetItem" => act(200, &json!({})),
        "TransactGetItems" => act(200, &json!({ "Responses": [{}, {}] })),
        _ => write.clone(),
    })
    .await
}

async fn append(fake: &Fake) -> Result<Append> {
    let ctx = Context::for_tests(5);
    unopened(fake, &memory(), 5).append(TABLE, Seq(0), &edit(&ctx, CommitId(0))).await
}

async fn put(fake: &Fake) -> Result<RecordPut> {
    unopened(fake, &memory(), 5).put_record("r", None, Bytes::from_static(b"x")).await
}

fn writes(fake: &Fake) -> usize {
    fake.seen().iter().filter(|seen| matches!(operation(seen), "TransactWriteItems" | "PutItem")).count()
}

#[tokio::test]
async fn writes_that_were_not_refused_for_certain_are_unknown() {
    let exception = |status, name: &str| act(status, &refusal(name));
    let whole = json!({}).to_string();
    for (name, answer) in [
        ("no answer", Act::Close),
        ("silence", Act::Silence),
        ("late", Act::answer(200, whole.as_bytes()).slow(Duration::from_secs(2))),
        ("cut", act(200, &json!({ "a": 1 })).cut(2)),
        ("a refusal that is cut", exception(400, "ConditionalCheckFailedException").cut(5)),
        ("garbled", Act::answer(200, whole.as_bytes()).with(&[("x-amz-crc32", "77")])),
        ("no checksum that is one", Act::answer(200, whole.as_bytes()).with(&[("x-amz-crc32", "x")])),
        ("a page", Act::answer(200, b"<html>welcome</html>")),
        ("a number", Act::answer(200, b"5")),
        ("500", exception(500, "InternalServerError")),
        ("503", exception(503, "ServiceUnavailable")),
        ("502 of a gateway", Act::answer(502, b"<html>")),
        ("504 of a gateway", Act::answer(504, b"")),
        ("408", Act::answer(408, b"")),
        ("409", Act::answer(409, b"")),
        ("cancelled for a conflict", act(400, &cancelled(&["TransactionConflict", "None"]))),
        ("cancelled for both", act(400, &cancelled(&["TransactionConflict", "ThrottlingError"]))),
        ("cancelled, no reason told", act(400, &refusal("TransactionCanceledException"))),
        ("conflict", exception(400, "TransactionConflictException")),
        ("in progress", exception(400, "TransactionInProgressException")),
        ("mismatch", exception(400, "IdempotentParameterMismatchException")),
        // The condition did not hold and there is nothing there: an attempt of before may be under way.
        ("condition of the transaction", act(400, &cancelled(&["ConditionalCheckFailed", "None"]))),
        ("condition", exception(400, "ConditionalCheckFailedException")),
    ] {
        let fake = answering(answer).await;
        assert_eq!(append(&fake).await.unwrap(), Append::Unknown, "{name}");
        assert_eq!(put(&fake).await.unwrap(), RecordPut::Unknown, "{name}");
        assert_eq!(writes(&fake), 2, "{name}: a write is sent once");
    }
}

#[tokio::test]
async fn writes_that_were_refused_for_certain_say_so_and_what_to_do() {
    let exception = |status, name: &str| act(status, &refusal(name));
    let skewed = json!({
        "__type": "com.amazon.coral.service#InvalidSignatureException",
        "message": "Signature expired: 20260101T000000Z is now earlier than",
    });
    for (answer, code, word) in [
        (exception(400, "ProvisionedThroughputExceededException"), "catalog-throttled", "on-demand"),
        (exception(400, "ThrottlingException"), "catalog-throttled", "fewer"),
        (exception(400, "RequestLimitExceeded"), "catalog-throttled", "fewer"),
        (Act::answer(429, b"slow down"), "catalog-throttled", "fewer"),
        (act(400, &cancelled(&["None", "ThrottlingError"])), "catalog-throttled", "ThrottlingError"),
        (act(400, &cancelled(&["ProvisionedThroughputExceeded", "None"])), "catalog-throttled", "fewer"),
        (act(400, &cancelled(&["None", "ValidationError"])), "catalog-refused", "ValidationError"),
        (exception(400, "ValidationException"), "catalog-refused", "words of the server"),
        (exception(400, "ResourceNotFoundException"), "catalog-table-missing", "no table nacre"),
        (exception(400, "AccessDeniedException"), "catalog-forbidden", "dynamodb:PutItem"),
        (exception(400, "UnrecognizedClientException"), "catalog-credentials", "AWS_ACCESS_KEY_ID"),
        (exception(400, "ExpiredTokenException"), "catalog-credentials", "AWS_SESSION_TOKEN"),
        (exception(403, "InvalidSignatureException"), "catalog-credentials", "AWS_SECRET_ACCESS_KEY"),
        (act(400, &skewed), "catalog-clock", "clock"),
        (Act::answer(404, b"<html>nginx</html>"), "catalog-endpoint", "AWS_ENDPOINT_URL_DYNAMODB"),
        (
            Act::answer(301, b"").with(&[("location", "http://127.0.0.1:9/")]),
            "catalog-endpoint",
            "http://127.0.0.1",
        ),
        (
            Act::answer(400, b"<Error><Code>BadRequest</Code></Error>"),
            "catalog-endpoint",
            "no answer of DynamoDB",
        ),
    ] {
        let fake = answering(answer).await;
        for error in [append(&fake).await.unwrap_err(), put(&fake).await.unwrap_err()] {
            assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, code), "{error}");
            assert_eq!(error.applied(), Applied::No);
            assert!(error.detail().contains(word), "{error}");
            assert_eq!(error.retry_after_ms().is_some(), code == "catalog-throttled", "{error}");
        }
        assert_eq!(writes(&fake), 2, "{code}: a write is sent once");
    }
}

#[tokio::test]
async fn a_write_that_never_left_certainly_had_no_effect() {
    let fake = Fake::gone().await;
    for error in [append(&fake).await.unwrap_err(), put(&fake).await.unwrap_err()] {
        assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "catalog-unreachable"));
        assert!(error.detail().contains(&fake.endpoint()), "{error}");
    }
}

#[tokio::test]
async fn reads_are_repeated_until_an_answer_comes_whole() {
    let good = act(200, &json!({}));
    for trouble in [
        Act::Close,
        Act::Silence,
        Act::answer(500, b""),
        act(400, &refusal("ThrottlingException")),
        Act::answer(200, b"<html>"),
        good.clone().cut(1),
    ] {
        let good = good.clone();
        let fake = Fake::new(move |_, n| if n < 2 { trouble.clone() } else { good.clone() }).await;
        assert_eq!(unopened(&fake, &memory(), 1).record("r").await.unwrap(), None);
        assert_eq!(fake.seen().len(), 3);
    }
    let fake = Fake::always(Act::answer(500, b"")).await;
    let error = unopened(&fake, &memory(), 1).read(TABLE, Seq(0), 1).await.unwrap_err();
    assert_eq!((error.kind(), fake.seen().len()), (ErrorKind::Unavailable, 4));
    let fake = Fake::always(act(400, &refusal("AccessDeniedException"))).await;
    let error = unopened(&fake, &memory(), 1).head(TABLE).await.unwrap_err();
    assert_eq!((error.code(), fake.seen().len()), ("catalog-forbidden", 1), "no repeat mends that");
}

#[tokio::test]
async fn an_absence_is_believed_from_dynamodb_alone() {
    for answer in
        [Act::answer(404, b""), Act::answer(200, b""), Act::answer(200, b"null"), Act::answer(204, b"")]
    {
        let fake = Fake::always(answer).await;
        let catalog = unopened(&fake, &memory(), 1);
        assert_eq!(catalog.record("r").await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(catalog.read(TABLE, Seq(0), 1).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn keys_stand_in_no_error_and_in_no_debug_output() {
    let fake = answering(act(400, &refusal("UnrecognizedClientException"))).await;
    let shown = format!("{:?} {:?}", unopened(&fake, &memory(), 1), append(&fake).await.unwrap_err());
    for secret in ["canary-secret", "canary-token"] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(fake.seen().iter().all(|seen| !seen.header("authorization").contains(secret)));
    }
    let seen = &fake.seen()[0];
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/"));
    assert!(seen.header("authorization").contains("Credential=canary-id/"));
    assert_eq!(seen.header("content-type"), "application/x-amz-json-1.0");
}

#[tokio::test]
async fn the_same_edit_is_the_same_request_with_the_same_token() {
    let fake = answering(Act::answer(500, b"")).await;
    let (catalog, ctx) = (unopened(&fake, &memory(), 1), Context::for_tests(9));
    let (mine, other) = (edit(&ctx, CommitId(0)), edit(&ctx, CommitId(0)));
    for edit in [&mine, &mine, &other] {
        catalog.append(TABLE, Seq(0), edit).await.unwrap();
    }
    let sent: Vec<_> = fake
        .seen()
        .into_iter()
        .filter(|seen| operation(seen) == "TransactWriteItems")
        .map(|seen| seen.body)
        .collect();
    assert!(sent[0] == sent[1] && sent[0] != sent[2]);
    let request: serde_json::Value = serde_json::from_slice(&sent[0]).unwrap();
    assert_eq!(request["ClientRequestToken"], mine.commit_id.to_string());
}
