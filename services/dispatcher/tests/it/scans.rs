//! Scans and their page tokens.

use crate::harness::{Harness, TABLE, problem};
use serde_json::Value;

async fn fill(h: &Harness, count: usize) {
    let rows: Vec<String> = (0..count)
        .map(|n| {
            format!(r#"{{"key":"k{n:04}","value":"v{n}","version":{}}}"#, 1_700_000_000_000_000i64 + n as i64)
        })
        .collect();
    h.post_json(&format!("{TABLE}/rows:batchWrite"), format!(r#"{{"rows":[{}]}}"#, rows.join(","))).await;
}

fn keys(page: &Value) -> Vec<String> {
    page["rows"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect()
}

/// All keys, page by page; `repeat` says the filters again with each token.
async fn walk(h: &Harness, filters: &str, page_size: usize, repeat: bool) -> Vec<String> {
    let mut all = Vec::new();
    let mut query = format!("{filters}&page_size={page_size}");
    loop {
        let page = h.json(&format!("{TABLE}/rows?{query}")).await;
        let found = keys(&page);
        assert!(found.len() <= page_size);
        all.extend(found);
        let Some(token) = page["next_page_token"].as_str() else { return all };
        query = format!("{}&page_size={page_size}&page_token={token}", if repeat { filters } else { "" });
    }
}

#[tokio::test]
async fn pages_meet_in_both_directions_whether_filters_are_repeated_or_not() {
    let h = Harness::start().await;
    fill(&h, 95).await;
    let all: Vec<String> = (0..95).map(|n| format!("k{n:04}")).collect();
    for repeat in [false, true] {
        assert_eq!(walk(&h, "", 10, repeat).await, all);
        let mut reversed = walk(&h, "reverse=true", 7, repeat).await;
        reversed.reverse();
        assert_eq!(reversed, all);
        assert_eq!(walk(&h, "prefix=k001", 3, repeat).await, all[10..20]);
        assert_eq!(walk(&h, "start=k0005&end=k0010", 2, repeat).await, all[5..10]);
        assert_eq!(walk(&h, "prefix=k00&start=k0090&reverse", 2, repeat).await.len(), 5);
    }
    let page = h.json(&format!("{TABLE}/rows?since=1700000000000090&until=1700000000000091")).await;
    assert_eq!(keys(&page), ["k0090", "k0091"]);
    assert!(page.get("next_page_token").is_none());
}

#[tokio::test]
async fn values_are_spelt_and_left_out_as_asked() {
    let h = Harness::start().await;
    h.row("a", r#"{"x": 1, "y": 2}"#).await;
    h.put(&format!("{TABLE}/rows/b"), vec![0xFF]).await;
    let page = h.json(&format!("{TABLE}/rows")).await;
    assert_eq!(
        (&page["rows"][0]["value"], &page["rows"][1]["value_base64"]),
        (&r#"{"x": 1, "y": 2}"#.into(), &"/w==".into())
    );
    let page = h.json(&format!("{TABLE}/rows?value_encoding=base64")).await;
    assert!(page["rows"][0]["value_base64"].is_string() && page["rows"][0].get("value").is_none());
    let page = h.json(&format!("{TABLE}/rows?fields=key")).await;
    assert_eq!(page["rows"][0].as_object().unwrap().keys().collect::<Vec<_>>(), ["key", "version"]);
    let page = h.json(&format!("{TABLE}/rows?prefix=a&fields=y")).await;
    assert_eq!(page["rows"][0]["value_json"], serde_json::json!({"y": 2}));
    assert_eq!(
        problem(h.get(&format!("{TABLE}/rows?value_encoding=json")).await).await.code(),
        "value-not-json"
    );
}

#[tokio::test]
async fn a_token_is_held_to_its_table_and_filters() {
    let h = Harness::start().await;
    h.create("other", "{}").await;
    fill(&h, 5).await;
    let page = h.json(&format!("{TABLE}/rows?page_size=2&prefix=k")).await;
    let token = page["next_page_token"].as_str().unwrap();
    for (path, code) in [
        (format!("{TABLE}/rows?page_token={token}&prefix=k0"), "page-token-filters"),
        (format!("{TABLE}/rows?page_token={token}&prefix=k&reverse=true"), "page-token-filters"),
        (format!("{TABLE}/rows?page_token={token}&fields=key"), "page-token-filters"),
        (format!("{TABLE}/rows?page_token={token}A"), "page-token-invalid"),
        (format!("{TABLE}/rows?page_token=x"), "page-token-invalid"),
        (format!("/v1/namespaces/default/tables/other/rows?page_token={token}"), "page-token-invalid"),
        (format!("{TABLE}/rows?page_sise=2"), "query-invalid"),
        (format!("{TABLE}/rows?page_size=-1"), "query-invalid"),
    ] {
        let problem = problem(h.get(&path).await).await;
        assert_eq!((problem.status, problem.code()), (422, code), "{path}");
    }
    assert_eq!(
        keys(&h.json(&format!("{TABLE}/rows?page_token={token}&page_size=9&prefix=k")).await).len(),
        3
    );
}

#[tokio::test]
async fn a_page_ends_at_four_mebibytes() {
    let h = Harness::start().await;
    for n in 0..6 {
        h.put(&format!("{TABLE}/rows/{n}"), vec![b'x'; 1 << 20]).await;
    }
    let page = h.json(&format!("{TABLE}/rows")).await;
    assert!((3..=5).contains(&keys(&page).len()) && page["next_page_token"].is_string());
}
