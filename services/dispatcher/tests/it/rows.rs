//! Single rows.

use crate::harness::{Harness, TABLE, header, problem};
use nacre_engine::SessionToken;
use nacre_runtime::Clock as _;
use nacre_types::{Offset, PartitionId};
use reqwest::{Method, StatusCode};

#[tokio::test]
async fn a_value_comes_back_as_it_was_written_with_its_receipt() {
    let h = Harness::start().await;
    let value: Vec<u8> = (0..=255).collect();
    let written = h.put(&format!("{TABLE}/rows/k?version=1700000000000000"), value.clone()).await;
    assert_eq!(written.status(), StatusCode::NO_CONTENT);
    assert_eq!(header(&written, "nacre-version"), "1700000000000000");
    assert!(header(&written, "nacre-token").starts_with("v1."));
    let read = h.get(&format!("{TABLE}/rows/k")).await;
    assert_eq!(read.status(), StatusCode::OK);
    assert_eq!(header(&read, "nacre-version"), "1700000000000000");
    assert_eq!(header(&read, "content-type"), "application/octet-stream");
    assert_eq!(header(&read, "nacre-source"), "tail");
    assert!(header(&read, "nacre-cost").starts_with("gets=0, bytes=0, node_us="));
    assert!(header(&read, "nacre-edition").parse::<u64>().is_ok());
    assert_eq!(header(&read, "nacre-request-id").len(), 32);
    assert_eq!(read.headers().get_all("server-timing").iter().count(), 2);
    assert!(!read.headers().contains_key("nacre-expires-at"));
    assert_eq!(read.bytes().await.unwrap(), value);
    let head = h.request(Method::HEAD, &format!("{TABLE}/rows/k")).send().await.unwrap();
    assert_eq!(
        (header(&head, "content-length"), header(&head, "nacre-version")),
        ("256", "1700000000000000")
    );
}

#[tokio::test]
async fn keys_may_hold_anything() {
    let h = Harness::start().await;
    for key in [
        &b"a/b"[..],
        b"\x00",
        b"\xFF\xFE",
        b"..",
        b".",
        b"a:explain",
        b"a b+c%",
        "ключ".as_bytes(),
        &[0xFF; 2048],
        b"x/versions",
    ] {
        let path = nacre_api::row_path(TABLE, key, "");
        assert_eq!(
            h.put(&path, key.to_vec()).await.status(),
            StatusCode::NO_CONTENT,
            "{}",
            key.escape_ascii()
        );
        let read = h.get(&path).await;
        assert_eq!(read.status(), StatusCode::OK, "{}", key.escape_ascii());
        assert_eq!(read.bytes().await.unwrap(), key);
        let versions = h.json(&nacre_api::row_path(TABLE, key, "/versions")).await;
        assert_eq!(versions["rows"].as_array().unwrap().len(), 1);
        let explained = h.json(&nacre_api::row_path(TABLE, key, ":explain")).await;
        assert_eq!(explained["rows"][0]["visible"], true, "{explained}");
    }
    let by_query = h.get(&format!("{TABLE}/rows:get?key=a%2Fb")).await;
    assert_eq!(by_query.text().await.unwrap(), "a/b");
    let by_query = h.get(&format!("{TABLE}/rows:get?key=__4&key_encoding=base64url")).await;
    assert_eq!(by_query.bytes().await.unwrap(), &b"\xFF\xFE"[..]);
    let by_body = h.post(&format!("{TABLE}/rows:get"), r#"{"key":{"base64":"//4="}}"#).await;
    assert_eq!(by_body.bytes().await.unwrap(), &b"\xFF\xFE"[..]);
    assert_eq!(problem(h.get(&format!("{TABLE}/rows:get")).await).await.code(), "query-invalid");
}

#[tokio::test]
async fn an_absent_row_says_why() {
    let h = Harness::start().await;
    h.row("gone", "v").await;
    let deleted = h.request(Method::DELETE, &format!("{TABLE}/rows/gone")).send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    assert!(!header(&deleted, "nacre-token").is_empty());
    h.put(&format!("{TABLE}/rows/old?expires_at=1"), "v").await;
    for (key, why) in [("none", "row"), ("gone", "tombstone"), ("old", "expired")] {
        let read = h.get(&format!("{TABLE}/rows/{key}")).await;
        assert_eq!((read.status(), header(&read, "nacre-absent")), (StatusCode::NOT_FOUND, why), "{key}");
        assert!(!header(&read, "nacre-source").is_empty());
        let problem = problem(read).await;
        assert_eq!(
            (problem.code(), problem.kind.as_str(), problem.retryable),
            ("row-absent", "not_found", false)
        );
        assert_eq!(problem.applied, None);
    }
    let metrics = h.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("nacre_http_requests_total{route=\"get\",outcome=\"absent\"} 3"), "{metrics}");
}

#[tokio::test]
async fn reads_can_be_conditional_and_writes_cannot() {
    let h = Harness::start().await;
    let path = format!("{TABLE}/rows/k");
    h.row("k", "one").await;
    let tag = header(&h.get(&path).await, "etag").to_owned();
    assert!(tag.starts_with('"') && tag.len() == 34);
    let same =
        h.request(Method::GET, &path).header("if-none-match", format!("\"x\", {tag}")).send().await.unwrap();
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(header(&same, "etag"), tag);
    assert!(same.bytes().await.unwrap().is_empty());
    h.row("k", "two").await;
    let changed = h.request(Method::GET, &path).header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(changed.text().await.unwrap(), "two");
    for name in ["if-match", "if-none-match", "if-unmodified-since"] {
        let write = h.request(Method::PUT, &path).header(name, "*").body("three").send().await.unwrap();
        let problem = problem(write).await;
        assert_eq!(
            (problem.status, problem.code(), problem.applied.as_deref()),
            (422, "conditional-write", Some("no"))
        );
    }
    assert_eq!(h.get(&path).await.text().await.unwrap(), "two");
}

#[tokio::test]
async fn versions_come_newest_first_within_inclusive_bounds() {
    let h = Harness::start().await;
    h.create("v", r#"{"max_versions":0,"version_kind":"number"}"#).await;
    let table = "/v1/namespaces/default/tables/v";
    for version in 1..=5 {
        h.put(&format!("{table}/rows/k?version={version}"), format!("v{version}")).await;
    }
    let page = h.json(&format!("{table}/rows/k/versions?since=2&until=4&limit=2")).await;
    let rows: Vec<_> =
        page["rows"].as_array().unwrap().iter().map(|row| row["version"].as_i64().unwrap()).collect();
    assert_eq!(rows, [4, 3]);
    assert_eq!(page["rows"][0]["key"], "k");
    assert_eq!(page["rows"][0]["value"], "v4");
    assert!(page["edition"].is_u64());
    assert_eq!(h.get(&format!("{table}/rows/k?as_of=3")).await.text().await.unwrap(), "v3");
    let big = i64::MAX;
    h.put(&format!("{table}/rows/k?version={big}"), "big").await;
    let page = h.json(&format!("{table}/rows/k/versions?limit=1")).await;
    assert_eq!(page["rows"][0]["version"], big.to_string(), "beyond 2^53 a string");
}

#[tokio::test]
async fn fields_pick_from_json_values_at_the_node() {
    let h = Harness::start().await;
    h.row("k", r#"{"a": 1, "b": {"c": "x y"}, "d": null}"#).await;
    let read = h.get(&format!("{TABLE}/rows/k?fields=b,d,zzz")).await;
    assert_eq!(header(&read, "content-type"), "application/json");
    assert_eq!(read.text().await.unwrap(), r#"{"b":{"c":"x y"},"d":null}"#);
    h.row("text", "no json").await;
    let problem = problem(h.get(&format!("{TABLE}/rows/text?fields=a")).await).await;
    assert_eq!(problem.code(), "value-not-json");
}

#[tokio::test]
async fn a_token_lets_a_client_read_its_writes_and_anothers_is_refused() {
    let h = Harness::start().await;
    h.create("other", "{}").await;
    let written = h.put(&format!("{TABLE}/rows/k"), "v").await;
    let token = header(&written, "nacre-token").to_owned();
    let read =
        |path: String, token: String| h.request(Method::GET, &path).header("nacre-token", token).send();
    let both = format!("{token}, {token}");
    assert_eq!(
        read(format!("{TABLE}/rows/k?consistency=session"), both).await.unwrap().status(),
        StatusCode::OK
    );
    assert_eq!(
        read(format!("{TABLE}/rows/k?consistency=strong"), token.clone()).await.unwrap().status(),
        StatusCode::OK
    );
    let other = read("/v1/namespaces/default/tables/other/rows/k".into(), token.clone()).await.unwrap();
    assert_eq!(problem(other).await.status, 422);
    let damaged = read(format!("{TABLE}/rows/k"), token.replace("v1.", "v1.A")).await.unwrap();
    assert_eq!(problem(damaged).await.code(), "token-invalid");
}

#[tokio::test]
async fn every_read_gives_a_token_that_a_later_read_may_bring() {
    let h = Harness::start().await;
    h.put(&format!("{TABLE}/rows/k"), "v").await;
    for path in ["rows/k", "rows/absent", "rows/k/versions", "rows/k:explain", "rows"] {
        let token = header(&h.get(&format!("{TABLE}/{path}")).await, "nacre-token").to_owned();
        let path = format!("{TABLE}/rows/k?consistency=session");
        let again = h.request(Method::GET, &path).header("nacre-token", token).send().await.unwrap();
        assert_eq!(again.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn the_token_of_an_answer_holds_what_was_sent_also_where_the_read_did_not_look() {
    let h = Harness::start().await;
    h.put(&format!("{TABLE}/rows/k"), "v").await;
    // Another partition, as another process may have written to it.
    let mut sent =
        SessionToken::parse(header(&h.get(&format!("{TABLE}/rows/k")).await, "nacre-token")).unwrap();
    sent.positions.push((PartitionId(500), Offset(77)));
    for path in ["rows/k", "rows/absent", "rows/k/versions", "rows/k:explain", "rows:get?key=k"] {
        let read = h.request(Method::GET, &format!("{TABLE}/{path}")).header("nacre-token", sent.to_text());
        let answer = read.send().await.unwrap();
        let token = SessionToken::parse(header(&answer, "nacre-token")).unwrap();
        assert!(token.positions.contains(&(PartitionId(500), Offset(77))), "{path}: {token:?}");
    }
}

#[tokio::test]
async fn typed_keys_are_spelt_as_their_parts() {
    let h = Harness::start().await;
    h.create("typed", r#"{"key":[{"name":"id","type":"int64"},{"name":"day","type":"date"}]}"#).await;
    let table = "/v1/namespaces/default/tables/typed";
    for (id, day) in [(1, "2024-02-29"), (1, "2024-03-01"), (2, "2024-01-01")] {
        let path = format!("{table}/rows/%5B{id},%22{day}%22%5D");
        assert_eq!(h.put(&path, day).await.status(), StatusCode::NO_CONTENT);
        assert_eq!(h.get(&path).await.text().await.unwrap(), day);
    }
    let page = h.json(&format!("{table}/rows?prefix=%5B1%5D")).await;
    assert_eq!(page["rows"].as_array().unwrap().len(), 2);
    assert_eq!(page["rows"][1]["key"], serde_json::json!([1, "2024-03-01"]));
    let wrong = problem(h.get(&format!("{table}/rows/1")).await).await;
    assert!(wrong.code() == "key-parts" && wrong.detail.contains("id int64, day date"), "{wrong:?}");
    h.create("single", r#"{"key":[{"name":"id","type":"int64"}]}"#).await;
    h.put("/v1/namespaces/default/tables/single/rows/42", "v").await;
    let got = h
        .post_json("/v1/namespaces/default/tables/single/rows:batchGet", r#"{"keys":["42",[42],["42"]]}"#)
        .await;
    assert!(got["rows"].as_array().unwrap().iter().all(|row| row["value"] == "v"), "{got}");
}

#[tokio::test]
async fn versions_that_do_not_fit_an_answer_come_in_pages() {
    let h = Harness::start().await;
    h.create("v", r#"{"max_versions":0,"version_kind":"number"}"#).await;
    let rows = "/v1/namespaces/default/tables/v/rows";
    for version in 1..=9 {
        h.put(&format!("{rows}/k?version={version}"), vec![b'x'; 1 << 20]).await;
    }
    for (filters, expected) in
        [("limit=100", 9), ("limit=2", 9), ("since=3&until=8&limit=3", 6), ("as_of=4", 4)]
    {
        let mut seen = Vec::new();
        let mut query = filters.to_owned();
        loop {
            let page = h.json(&format!("{rows}/k/versions?{query}")).await;
            let found = page["rows"].as_array().unwrap();
            assert!((1..=4).contains(&found.len()), "{query}: {}", found.len());
            seen.extend(found.iter().map(|row| row["version"].as_i64().unwrap()));
            let Some(token) = page["next_page_token"].as_str() else { break };
            query = format!("{filters}&page_token={token}");
        }
        assert_eq!(seen.len(), expected, "{filters}: {seen:?}");
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1] + 1), "{filters}: {seen:?}");
    }
    let page = h.json(&format!("{rows}/k/versions?limit=2")).await;
    let token = page["next_page_token"].as_str().unwrap();
    for path in
        [format!("other/versions?page_token={token}"), format!("k/versions?page_token={token}&since=2")]
    {
        let told = problem(h.get(&format!("{rows}/{path}")).await).await;
        assert_eq!((told.status, told.code()), (422, "page-token-filters"), "{path}");
    }
}

#[tokio::test]
async fn every_read_may_say_that_a_stale_answer_will_do() {
    let h = Harness::start().await;
    h.row("k", "v").await;
    for path in ["rows/k", "rows/k/versions", "rows/k:explain", "rows", "rows:get?key=k"] {
        let sign = if path.contains('?') { '&' } else { '?' };
        let path = format!("{TABLE}/{path}{sign}max_staleness_ms=60000&on_stale=serve&consistency=eventual");
        assert_eq!(h.get(&path).await.status(), StatusCode::OK, "{path}");
    }
    let path = format!("{TABLE}/rows:batchGet?max_staleness_ms=0&on_stale=serve");
    assert_eq!(h.post_json(&path, r#"{"keys":["k"]}"#).await["rows"][0]["value"], "v");
}

#[tokio::test]
async fn a_packed_body_is_refused_and_not_stored_as_it_came() {
    let h = Harness::start().await;
    for (path, method) in [("/rows/k", Method::PUT), ("/rows:batchWrite", Method::POST)] {
        let request = h.request(method, &format!("{TABLE}{path}")).header("content-encoding", "gzip");
        let told = problem(request.body("x").send().await.unwrap()).await;
        assert_eq!((told.status, told.code()), (415, "content-encoding"));
        assert!(told.detail.contains("gzip"), "{told:?}");
    }
    let plain = h.request(Method::PUT, &format!("{TABLE}/rows/k")).header("content-encoding", "identity");
    assert_eq!(plain.body("x").send().await.unwrap().status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn one_idempotency_key_on_two_different_writes_loses_neither() {
    let h = Harness::start().await;
    let first = h.clock.now_micros().to_string();
    let put = |key: &str, value: &'static str| {
        h.request(Method::PUT, &format!("{TABLE}/rows/{key}"))
            .header("idempotency-key", "nightly")
            .header("nacre-first-attempt", &first)
            .body(value)
            .send()
    };
    let version = |response: &reqwest::Response| header(response, "nacre-version").to_owned();
    let one = put("a", "1").await.unwrap();
    let again = put("a", "1").await.unwrap();
    assert_eq!(version(&one), version(&again), "a repeat of the same write is that write");
    for (key, value) in [("b", "1"), ("a", "2")] {
        let other = put(key, value).await.unwrap();
        assert_eq!(other.status(), StatusCode::NO_CONTENT);
        assert_ne!(version(&other), version(&one));
        assert_eq!(h.get(&format!("{TABLE}/rows/{key}")).await.text().await.unwrap(), value);
    }
}
