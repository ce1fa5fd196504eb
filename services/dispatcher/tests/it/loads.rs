//! Loads, as far as they go without a loader.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::harness::{Harness, TABLE, header, problem};

#[tokio::test]
async fn a_load_begins_takes_files_and_is_cancelled() {
    let h = Harness::start().await;
    let begin = |key: &'static str, body: &'static str| {
        h.request(Method::POST, &format!("{TABLE}/loads")).header("idempotency-key", key).body(body).send()
    };
    let begun = begin("job-1", r#"{"mode":"merge","version":"now"}"#).await.unwrap();
    assert_eq!(begun.status(), StatusCode::CREATED);
    let location = header(&begun, "location").to_owned();
    let load: serde_json::Value = begun.json().await.unwrap();
    assert_eq!((&load["state"], &load["mode"]), (&json!("open"), &json!("merge")));
    assert!(load["staging_url"].is_string() && load["version"].is_number());
    let again = begin("job-1", r#"{ "version": "now", "mode": "merge" }"#).await.unwrap();
    assert_eq!(again.status(), StatusCode::OK);
    assert_eq!(again.json::<serde_json::Value>().await.unwrap()["load_id"], load["load_id"]);
    let other = begin("job-1", r#"{"mode":"replace","version":"now"}"#).await.unwrap();
    assert_eq!(problem(other).await.status, 409);

    let file = h.put(&format!("{location}/files/part-0.parquet"), vec![1u8; 20 << 20]).await;
    assert_eq!(file.status(), StatusCode::NO_CONTENT, "{}", file.text().await.unwrap());
    let taken = h.put(&format!("{location}/files/part-0.parquet"), "x").await;
    assert_eq!(problem(taken).await.status, 409);
    let outside = h.put(&format!("{location}/files/%2E%2E%2Fx"), "x").await;
    assert_eq!(problem(outside).await.status, 422);
    assert_eq!(h.json(&location).await["load_id"], load["load_id"]);
    assert_eq!(h.json(&format!("{TABLE}/loads")).await["loads"].as_array().unwrap().len(), 1);

    let cancelled = h.post(&format!("{location}:cancel"), "").await;
    assert_eq!(cancelled.status(), StatusCode::OK);
    assert_eq!(cancelled.json::<serde_json::Value>().await.unwrap()["state"], "cancelled");
    assert_eq!(problem(h.put(&format!("{location}/files/late.parquet"), "x").await).await.status, 409);
    assert_eq!(problem(h.post(&format!("{location}:commit"), "{}").await).await.status, 409);
}

#[tokio::test]
async fn what_a_load_cannot_be_is_said_before_it_begins() {
    let h = Harness::start().await;
    for (body, code) in [
        (r#"{"mode":"merge"}"#, "load-invalid"),
        (r#"{"mode":"append","version":1}"#, "body-invalid"),
        (r#"{"mode":"merge","version":"tomorrow"}"#, "body-invalid"),
        (r#"{"mode":"merge","version":1,"guards":{"max_shrink_percent":101}}"#, "load-invalid"),
    ] {
        let problem = problem(h.post(&format!("{TABLE}/loads"), body).await).await;
        assert_eq!((problem.status, problem.code()), (422, code), "{body}");
    }
    for id in ["zzz", "00000000000000000000000000000001"] {
        let problem = problem(h.get(&format!("{TABLE}/loads/{id}")).await).await;
        assert_eq!((problem.status, problem.code()), (404, "load-not-found"), "{id}");
    }
}
