//! Namespaces and tables.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::harness::{Harness, TABLE, problem};

#[tokio::test]
async fn a_table_is_made_once_and_a_differing_one_conflicts() {
    let h = Harness::start().await;
    let path = "/v1/namespaces/default/tables/orders";
    let body = r#"{"ttl_seconds":60,"max_versions":3,"split_at":["m"]}"#;
    let made = h.put(path, body).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let made: serde_json::Value = made.json().await.unwrap();
    assert_eq!(
        (&made["name"], &made["ttl_seconds"], &made["max_versions"]),
        (&json!("orders"), &json!(60), &json!(3))
    );
    assert_eq!(made["shards"].as_array().unwrap().len(), 2);
    assert_eq!(made["shards"][1]["start"], "m");
    assert_eq!(h.put(path, body).await.status(), StatusCode::OK);
    let differs = problem(h.put(path, "{}").await).await;
    assert_eq!((differs.status, differs.code()), (409, "table-exists"));
    assert!(differs.detail.contains("ttl_seconds is 60, not none"), "{differs:?}");
    let described = h.json(path).await;
    for field in ["edition", "manifest", "segments", "rows", "bytes", "loads"] {
        assert!(described[field].is_number(), "{field}");
    }
    assert_eq!(problem(h.put(path, r#"{"ttl":60}"#).await).await.code(), "body-invalid");
    assert_eq!(
        problem(h.put("/v1/namespaces/default/tables/_x", "{}").await).await.code(),
        "table-name-invalid"
    );
    assert_eq!(
        problem(h.put("/v1/namespaces/none/tables/x", "{}").await).await.code(),
        "namespace-not-found"
    );
    assert_eq!(problem(h.get("/v1/namespaces/default/tables/none").await).await.code(), "table-not-found");
}

#[tokio::test]
async fn settings_change_by_merge_patch_and_a_dropped_table_is_gone() {
    let h = Harness::start().await;
    let patch = |body: &'static str| {
        h.request(Method::PATCH, TABLE)
            .header("content-type", "application/merge-patch+json")
            .body(body)
            .send()
    };
    let patched = patch(r#"{"consistency":"strong","value_content_type":"text/plain"}"#).await.unwrap();
    assert_eq!(patched.status(), StatusCode::OK);
    h.row("k", "v").await;
    let read = h.get(&format!("{TABLE}/rows/k")).await;
    assert_eq!(read.headers()["content-type"], "text/plain");
    assert_eq!(h.json(TABLE).await["consistency"], "strong");
    assert_eq!(
        problem(patch(r#"{"consistency":"perfect"}"#).await.unwrap()).await.code(),
        "settings-invalid"
    );
    let dropped = h.request(Method::DELETE, TABLE).send().await.unwrap();
    assert_eq!(dropped.status(), StatusCode::NO_CONTENT);
    assert_eq!(problem(h.get(&format!("{TABLE}/rows/k")).await).await.code(), "table-not-found");
}

#[tokio::test]
async fn namespaces_and_tables_are_listed_in_pages() {
    let h = Harness::start().await;
    for name in ["c", "a", "b"] {
        h.create(name, "{}").await;
        assert_eq!(h.put(&format!("/v1/namespaces/n{name}"), "").await.status(), StatusCode::CREATED);
    }
    assert_eq!(h.put("/v1/namespaces/na", "{}").await.status(), StatusCode::OK);
    assert_eq!(problem(h.put("/v1/namespaces/na", r#"{"consistency":"strong"}"#).await).await.status, 409);
    let page = h.json("/v1/namespaces/default/tables?page_size=3").await;
    let names = |page: &serde_json::Value, list: &str| -> Vec<String> {
        page[list].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&page, "tables"), ["a", "b", "c"]);
    let token = page["next_page_token"].as_str().unwrap();
    let page = h.json(&format!("/v1/namespaces/default/tables?page_size=3&page_token={token}")).await;
    assert_eq!((names(&page, "tables"), page.get("next_page_token")), (vec!["t".to_owned()], None));
    assert_eq!(names(&h.json("/v1/namespaces").await, "namespaces"), ["default", "na", "nb", "nc"]);
    assert_eq!(problem(h.get("/v1/namespaces?page_token=x").await).await.code(), "page-token-invalid");
}

#[tokio::test]
async fn a_namespace_gives_its_tables_their_consistency() {
    let h = Harness::start().await;
    assert_eq!(h.put("/v1/namespaces/n", r#"{"consistency":"strong"}"#).await.status(), StatusCode::CREATED);
    let path = "/v1/namespaces/n/tables/t";
    let made: serde_json::Value = h.put(path, "{}").await.json().await.unwrap();
    assert_eq!(made["consistency"], "strong");
    assert_eq!(h.put(path, "{}").await.status(), StatusCode::OK, "made again, and equal");
    let own: serde_json::Value =
        h.put("/v1/namespaces/n/tables/own", r#"{"consistency":"eventual"}"#).await.json().await.unwrap();
    assert_eq!(own["consistency"], "eventual");
    let patch = |body: &'static str| h.request(Method::PATCH, path).body(body).send();
    patch(r#"{"consistency":"session"}"#).await.unwrap();
    assert_eq!(h.json(path).await["consistency"], "session");
    patch(r#"{"consistency":null}"#).await.unwrap();
    assert_eq!(h.json(path).await["consistency"], "strong", "the namespace's again");
}

#[tokio::test]
async fn who_names_no_key_finds_the_table_whatever_its_keys() {
    let h = Harness::start().await;
    let typed = r#"{"key":[{"name":"id","type":"int64"}]}"#;
    h.create("typed", typed).await;
    let again = h.put("/v1/namespaces/default/tables/typed", "{}").await;
    assert_eq!(again.status(), StatusCode::OK);
    assert_eq!(again.json::<serde_json::Value>().await.unwrap()["key"][0]["name"], "id");
    let other = r#"{"key":[{"name":"id","type":"uuid"}]}"#;
    for body in [other, r#"{"key":"bytes"}"#, r#"{"max_versions":2}"#] {
        let told = problem(h.put("/v1/namespaces/default/tables/typed", body).await).await;
        assert_eq!((told.status, told.code()), (409, "table-exists"), "{body}");
    }
}
