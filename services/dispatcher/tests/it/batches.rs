//! Batches in their three forms.

use bytes::Bytes;
use nacre_api::{Route, WriteIn, batch};
use nacre_types::Key;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::harness::{Harness, TABLE, header, problem};

#[tokio::test]
async fn a_batch_is_written_and_read_in_json() {
    let h = Harness::start().await;
    let body = json!({"rows": [
        {"key": "a", "value": "1", "version": 1_700_000_000_000_000i64},
        {"key": {"base64": "/w=="}, "value_base64": "AP8="},
        {"key": "j", "value_json": {"x": [1, 2]}},
        {"key": "gone", "delete": true},
        {"key": "", "value": "x"},
        {"key": "a", "value": "2", "version": "1700000000000000"},
    ]});
    let response = h.post(&format!("{TABLE}/rows:batchWrite"), body.to_string()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let token = header(&response, "nacre-token").to_owned();
    let written: serde_json::Value = response.json().await.unwrap();
    assert_eq!(written["token"], token);
    let statuses: Vec<_> =
        written["rows"].as_array().unwrap().iter().map(|row| row["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["ok", "ok", "ok", "ok", "invalid", "ok"]);
    assert_eq!(written["rows"][0]["version"], 1_700_000_000_000_000i64);
    assert!(written["rows"][4]["error"].as_str().unwrap().starts_with("key-empty"));
    let asked = json!({"keys": ["a", {"base64": "/w=="}, "j", "gone", "none", "a"]});
    let got = h.post_json(&format!("{TABLE}/rows:batchGet"), asked.to_string()).await;
    let rows = got["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 6);
    assert_eq!((&rows[0]["status"], &rows[0]["value"]), (&json!("found"), &json!("2")), "the later one wins");
    assert_eq!((&rows[1]["key"], &rows[1]["value_base64"]), (&json!({"base64": "/w=="}), &json!("AP8=")));
    assert_eq!(rows[2]["value"], r#"{"x":[1,2]}"#);
    assert_eq!((&rows[3]["status"], &rows[4]["status"]), (&json!("absent"), &json!("absent")));
    assert_eq!(rows[5], rows[0]);
    assert!(got["edition"].is_u64());
    let picked = h.post_json(&format!("{TABLE}/rows:batchGet?fields=x"), r#"{"keys":["j"]}"#).await;
    assert_eq!(picked["rows"][0]["value_json"], json!({"x": [1, 2]}));
}

#[tokio::test]
async fn a_batch_is_written_and_read_line_by_line() {
    let h = Harness::start().await;
    let send = |verb: &str, accept: &str, body: &str| {
        let request = h
            .request(Method::POST, &format!("{TABLE}/rows:{verb}"))
            .header("content-type", "application/x-ndjson");
        let request = if accept.is_empty() { request } else { request.header("accept", accept) };
        request.body(body.to_owned()).send()
    };
    let written =
        send("batchWrite", "", "{\"key\":\"a\",\"value\":\"1\\n2\"}\n\n{\"key\":\"b\",\"delete\":true}\n")
            .await
            .unwrap();
    assert_eq!(header(&written, "content-type"), "application/x-ndjson");
    assert!(!header(&written, "nacre-token").is_empty());
    assert_eq!(written.text().await.unwrap().lines().count(), 2);
    let read = send("batchGet", "", "{\"key\":\"a\"}\n{\"key\":\"b\"}").await.unwrap().text().await.unwrap();
    let lines: Vec<serde_json::Value> =
        read.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["value"], &lines[1]["status"]), (&json!("1\n2"), &json!("absent")));
    let read = send("batchGet", "application/json", "{\"key\":\"a\"}").await.unwrap();
    assert_eq!(read.json::<serde_json::Value>().await.unwrap()["rows"][0]["value"], "1\n2");
    let wrong =
        problem(send("batchWrite", "", "{\"key\":\"a\",\"value\":\"\"}\n{\"key\"}").await.unwrap()).await;
    assert!(wrong.code() == "body-invalid" && wrong.detail.contains("line 2"), "{wrong:?}");
}

#[tokio::test]
async fn a_batch_is_written_and_read_in_binary() {
    let h = Harness::start().await;
    let send = |verb: &str, body: Vec<u8>| {
        h.request(Method::POST, &format!("{TABLE}/rows:{verb}"))
            .header("content-type", batch::MEDIA_TYPE)
            .body(body)
            .send()
    };
    let row = |key: &[u8], value: Option<&[u8]>, version| WriteIn {
        key: Key::new(key.to_vec()).unwrap(),
        value: value.map(Bytes::copy_from_slice),
        version,
        expires_at: None,
    };
    let rows = [row(b"\xFF", Some(b"\x00value"), Some(1_700_000_000_000_000)), row(b"b", None, None)];
    let answer = send("batchWrite", batch::write_request(&rows)).await.unwrap();
    assert_eq!(header(&answer, "content-type"), batch::MEDIA_TYPE);
    let header_token = header(&answer, "nacre-token").to_owned();
    let (wrote, token) = batch::parse_write_answer(answer.bytes().await.unwrap()).unwrap();
    assert_eq!((wrote.len(), wrote[0].version, token), (2, Some(1_700_000_000_000_000), header_token));
    let request = batch::get_request([&b"b"[..], b"\xFF"].into_iter(), false);
    let answer = send("batchGet", request).await.unwrap();
    let (got, _edition) = batch::parse_get_answer(answer.bytes().await.unwrap()).unwrap();
    assert_eq!(got[0].row, None);
    assert_eq!(got[1].row, Some((1_700_000_000_000_000, None, Bytes::from_static(b"\x00value"))));
    assert_eq!(problem(send("batchGet", b"nbf".to_vec()).await.unwrap()).await.code(), "batch-invalid");
}

#[tokio::test]
async fn batches_have_named_limits() {
    let h = Harness::start().await;
    let keys = vec!["k"; 1_001];
    let many =
        problem(h.post(&format!("{TABLE}/rows:batchGet"), json!({"keys": keys}).to_string()).await).await;
    assert!(many.status == 413 && many.detail.contains("batch_get_keys"), "{many:?}");
    let rows = vec![json!({"key": "k", "value": "v"}); 10_001];
    let many =
        problem(h.post(&format!("{TABLE}/rows:batchWrite"), json!({"rows": rows}).to_string()).await).await;
    assert!(many.status == 413 && many.detail.contains("batch_write_rows"), "{many:?}");
    let long = json!({"rows": [{"key": "k", "value": "v".repeat(9 << 20)}]}).to_string();
    let long = problem(h.post(&format!("{TABLE}/rows:batchWrite"), long).await).await;
    assert!(long.status == 413 && long.detail.contains("batch_write_bytes"), "{long:?}");
    let unknown = h
        .request(Method::POST, &format!("{TABLE}/rows:batchGet"))
        .header("content-type", "image/png")
        .body("x");
    assert_eq!(problem(unknown.send().await.unwrap()).await.status, 415);
    let empty = h.post_json(&format!("{TABLE}/rows:batchWrite"), r#"{"rows":[]}"#).await;
    assert_eq!(empty["rows"], json!([]));
}

#[tokio::test]
async fn values_that_do_not_fit_an_answer_are_too_large() {
    let h = Harness::start().await;
    for n in 0..6 {
        h.put(&format!("{TABLE}/rows/{n}"), vec![b'x'; 1 << 20]).await;
    }
    let got =
        h.post_json(&format!("{TABLE}/rows:batchGet"), r#"{"keys":["0","1","2","3","4","none"]}"#).await;
    let statuses: Vec<_> =
        got["rows"].as_array().unwrap().iter().map(|row| row["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["found", "found", "found", "found", "too_large", "absent"]);
    // More keys than are read at once: order, number and edition are one answer's all the same.
    let keys: Vec<String> =
        (0..1_000).map(|n| if n % 250 == 249 { "5".into() } else { format!("none{n}") }).collect();
    let got =
        h.post_json(&format!("{TABLE}/rows:batchGet"), serde_json::json!({"keys": keys}).to_string()).await;
    let rows = got["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1_000);
    for (n, row) in rows.iter().enumerate() {
        let expected = if n % 250 == 249 { "found" } else { "absent" };
        assert_eq!((&row["key"], &row["status"]), (&keys[n].clone().into(), &expected.into()), "{n}");
    }
}

#[tokio::test]
async fn a_namespace_is_read_across_tables_each_at_one_edition() {
    let h = Harness::start().await;
    h.create("u", r#"{"max_versions":0,"version_kind":"number"}"#).await;
    h.row("k", "t-value").await;
    for version in 1..=3 {
        h.put(&format!("/v1/namespaces/default/tables/u/rows/k?version={version}"), format!("u{version}"))
            .await;
    }
    let body = json!({"gets": [
        {"table": "u", "key": "k"}, {"table": "t", "key": "k"}, {"table": "u", "key": "k", "since": 2}, {"table": "t", "key": "none"},
    ]});
    let got = h.post_json("/v1/namespaces/default:batchGet", body.to_string()).await;
    assert_eq!((&got["rows"][0]["value"], &got["rows"][1]["value"]), (&json!("u3"), &json!("t-value")));
    assert_eq!(got["rows"][2]["versions"].as_array().unwrap().len(), 2);
    assert_eq!(got["rows"][3]["status"], "absent");
    assert!(got["editions"]["u"].is_u64() && got["editions"]["t"].is_u64());
    // One token per table, and both may come back together.
    let answer = h.post("/v1/namespaces/default:batchGet", body.to_string()).await;
    let tokens = header(&answer, "nacre-token").to_owned();
    assert_eq!(tokens.split(',').count(), 2, "{tokens}");
    let again = h.request(Method::POST, "/v1/namespaces/default:batchGet").header("nacre-token", tokens);
    assert_eq!(again.body(body.to_string()).send().await.unwrap().status(), StatusCode::OK);
    let missing = h.post("/v1/namespaces/default:batchGet", r#"{"gets":[{"table":"zzz","key":"k"}]}"#).await;
    assert_eq!(problem(missing).await.code(), "table-not-found");
    assert!(matches!(Route::parse("/v1/namespaces/default:batchGet"), Route::NamespaceBatchGet("default")));
}
