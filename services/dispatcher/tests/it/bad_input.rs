//! Bad input of every kind: each is answered with a status and a code of its own, and a sentence that names the cause;
//! and the server goes on.

use reqwest::{Method, StatusCode};

use crate::harness::{Harness, TABLE, header, problem};

/// A request, and what is to be said about it.
struct Case<'a> {
    method: Method,
    path: String,
    body: &'a [u8],
    status: u16,
    code: &'a str,
    /// Words of the detail.
    names: &'a [&'a str],
}

fn get<'a>(path: &str, status: u16, code: &'a str, names: &'a [&'a str]) -> Case<'a> {
    Case { method: Method::GET, path: path.to_owned(), body: b"", status, code, names }
}

fn post<'a>(path: &str, body: &'a [u8], status: u16, code: &'a str, names: &'a [&'a str]) -> Case<'a> {
    Case { method: Method::POST, path: path.to_owned(), body, status, code, names }
}

fn put<'a>(path: &str, body: &'a [u8], status: u16, code: &'a str, names: &'a [&'a str]) -> Case<'a> {
    Case { method: Method::PUT, path: path.to_owned(), body, status, code, names }
}

async fn check(h: &Harness, cases: &[Case<'_>]) {
    let mut wrong = Vec::new();
    for Case { method, path, body, status, code, names } in cases {
        let request = h.request(method.clone(), path).header("content-type", "application/json");
        let answer = request.body(body.to_vec()).send().await.unwrap();
        let what = format!("{method} {} {}", shown(path.as_bytes()), shown(body));
        if answer.status().is_success() {
            wrong.push(format!("{what} was taken"));
            continue;
        }
        let told = problem(answer).await;
        let names = names.iter().all(|name| told.detail.contains(name));
        let plain = !told.retryable && told.detail.len() < 1_500;
        if (told.status, told.code()) != (*status, *code) || !names || !plain {
            wrong.push(format!("{what}: {} {}: {:.300}", told.status, told.code(), told.detail));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    well(h).await;
}

fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(120)].escape_ascii().to_string()
}

/// The server goes on.
async fn well(h: &Harness) {
    assert_eq!(h.get("/readyz").await.status(), StatusCode::OK);
    h.row("still", "here").await;
    assert_eq!(h.get(&format!("{TABLE}/rows/still")).await.text().await.unwrap(), "here");
    let metrics = h.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("nacre_http_panics_total 0"), "{metrics}");
}

#[tokio::test]
async fn keys() {
    let h = Harness::start().await;
    h.create("typed", r#"{"key":[{"name":"id","type":"int64"},{"name":"day","type":"date"}]}"#).await;
    let typed = "/v1/namespaces/default/tables/typed";
    let long = "k".repeat(2_049);
    let rows = format!("{TABLE}/rows");
    let get_long = format!("{{\"key\":\"{long}\"}}");
    let batch_long = format!("{{\"keys\":[\"a\",\"{long}\"]}}");
    check(
        &h,
        &[
            put(&format!("{rows}/"), b"v", 422, "key-empty", &["empty", "2048"]),
            get(&format!("{rows}:get?key="), 422, "key-empty", &["empty"]),
            get(&format!("{rows}:get"), 422, "query-invalid", &["key is missing"]),
            get(&format!("{rows}/{long}"), 413, "key-too-long", &["2049", "key_bytes", "2048"]),
            get(&format!("{rows}/{long}/versions"), 413, "key-too-long", &["key_bytes"]),
            get(&format!("{rows}/{long}:explain"), 413, "key-too-long", &["key_bytes"]),
            get(&format!("{rows}?prefix={long}"), 413, "key-too-long", &["key_bytes"]),
            get(&format!("{rows}?start={long}"), 413, "key-too-long", &["key_bytes"]),
            get(&format!("{rows}?end={long}"), 413, "key-too-long", &["key_bytes"]),
            get(&format!("{rows}/a%2"), 422, "percent-encoding", &["%25"]),
            get(&format!("{rows}/a%g0"), 422, "percent-encoding", &["two hex digits"]),
            get(&format!("{rows}?prefix=%"), 422, "percent-encoding", &["%25"]),
            get(&format!("{rows}/a%2Bb?key_encoding=base64url"), 422, "key-encoding", &["base64url", "A-Z"]),
            get(&format!("{rows}/YQ?key_encoding=hex"), 422, "query-invalid", &["key_encoding", "base64url"]),
            post(&format!("{rows}:get"), br#"{"key":""}"#, 422, "key-empty", &["empty"]),
            post(&format!("{rows}:get"), get_long.as_bytes(), 413, "key-too-long", &["key_bytes"]),
            post(&format!("{rows}:get"), br#"{"key":{"base64":"/w=!"}}"#, 422, "key-encoding", &["base64"]),
            post(&format!("{rows}:get"), br#"{"key":{"base64":7}}"#, 422, "body-invalid", &["at key"]),
            post(&format!("{rows}:get"), br#"{"key":{"hex":"00"}}"#, 422, "body-invalid", &["base64"]),
            post(&format!("{rows}:get"), br#"{"key":7}"#, 422, "body-invalid", &["at key", "a string"]),
            post(&format!("{rows}:get"), br#"{"key":null}"#, 422, "body-invalid", &["at key"]),
            post(&format!("{rows}:get"), br#"{"key":["a"]}"#, 422, "key-parts", &["plain bytes"]),
            post(&format!("{rows}:get"), b"{}", 422, "body-invalid", &["missing field `key`"]),
            post(&format!("{rows}:batchGet"), br#"{"keys":["a",""]}"#, 422, "key-empty", &["keys[1]"]),
            post(&format!("{rows}:batchGet"), batch_long.as_bytes(), 413, "key-too-long", &["keys[1]"]),
            get(&format!("{typed}/rows/1"), 422, "key-parts", &["id int64, day date"]),
            get(&format!("{typed}/rows/%5B1%5D"), 422, "key-parts", &["id int64, day date"]),
            get(&format!("{typed}/rows/%5B1,2,3%5D"), 422, "key-parts", &["id int64, day date"]),
            get(&format!("{typed}/rows/%5B1,%222024-02-30%22%5D"), 422, "key-parts", &["day"]),
            get(&format!("{typed}/rows/%5B1.5,%222024-02-01%22%5D"), 422, "key-parts", &["id"]),
            get(&format!("{typed}/rows/%5B1,"), 422, "key-parts", &["JSON array"]),
            get(&format!("{typed}/rows/%FF"), 422, "key-parts", &["JSON array"]),
            get(&format!("{typed}/rows/_w?key_encoding=base64url"), 422, "key-parts", &["int64"]),
            get(&format!("{typed}/rows?prefix=%5B%22x%22%5D"), 422, "key-parts", &["id"]),
        ],
    )
    .await;
    let write = format!(
        "{{\"rows\":[{{\"key\":\"ok\",\"value\":\"v\"}},{{\"key\":\"\",\"value\":\"v\"}},{{\"key\":\"{long}\",\"value\":\"v\"}},{{\"key\":[1],\"value\":\"v\"}}]}}"
    );
    let wrote = h.post_json(&format!("{rows}:batchWrite"), write).await;
    let told: Vec<_> = wrote["rows"].as_array().unwrap().iter().map(|row| row["status"].clone()).collect();
    assert_eq!(told, ["ok", "invalid", "invalid", "invalid"]);
    for (row, code) in [(1, "key-empty"), (2, "key-too-long"), (3, "key-parts")] {
        assert!(wrote["rows"][row]["error"].as_str().unwrap().starts_with(code), "{wrote}");
    }
}

#[tokio::test]
async fn values_and_their_encodings() {
    let h = Harness::start().await;
    h.put(&format!("{TABLE}/rows/bytes"), vec![0xFF]).await;
    h.row("text", "no json").await;
    let rows = format!("{TABLE}/rows");
    let too_long = format!("{{\"rows\":[{{\"key\":\"k\",\"value\":\"{}\"}}]}}", "v".repeat((1 << 20) + 1));
    for (body, code) in [
        (too_long.as_str(), "value-too-large"),
        (r#"{"rows":[{"key":"k"}]}"#, "row-value"),
        (r#"{"rows":[{"key":"k","value":"a","delete":true}]}"#, "row-value"),
        (r#"{"rows":[{"key":"k","value":"a","value_json":1}]}"#, "row-value"),
        (r#"{"rows":[{"key":"k","delete":false}]}"#, "row-value"),
        (r#"{"rows":[{"key":"k","value_base64":"a"}]}"#, "row-value"),
        (r#"{"rows":[{"key":"k","value_base64":"/w=!"}]}"#, "row-value"),
    ] {
        let wrote = h.post_json(&format!("{rows}:batchWrite"), body).await;
        assert_eq!(wrote["rows"][0]["status"], "invalid", "{}", &body[..body.len().min(100)]);
        assert!(wrote["rows"][0]["error"].as_str().unwrap().starts_with(code), "{wrote}");
    }
    check(
        &h,
        &[
            get(&format!("{rows}?value_encoding=hex"), 422, "query-invalid", &["value_encoding", "base64"]),
            get(&format!("{rows}?prefix=bytes&value_encoding=utf8"), 422, "value-not-utf8", &["UTF-8"]),
            get(&format!("{rows}?prefix=text&value_encoding=json"), 422, "value-not-json", &["JSON"]),
            get(&format!("{rows}/text?fields=a"), 422, "value-not-json", &["JSON"]),
            get(&format!("{rows}/text?fields="), 422, "fields-invalid", &["fields"]),
            put(&format!("{rows}/k?version=1e3"), b"v", 422, "query-invalid", &["version", "integer"]),
            put(
                &format!("{rows}/k?version=9223372036854775808"),
                b"v",
                422,
                "query-invalid",
                &["version", "2^63"],
            ),
            put(
                &format!("{rows}/k?version=9000000000000000"),
                b"v",
                422,
                "version-ahead",
                &["24 h", "microseconds"],
            ),
            put(&format!("{rows}/k?expires_at=tomorrow"), b"v", 422, "query-invalid", &["expires_at"]),
            put(&format!("{rows}/k?version=1&version=2"), b"v", 422, "query-invalid", &["version", "twice"]),
            put(&format!("{rows}/k?verison=1"), b"v", 422, "query-invalid", &["verison", "version"]),
            get(&format!("{rows}?page_size=ten"), 422, "query-invalid", &["page_size", "integer"]),
            get(&format!("{rows}?reverse=maybe"), 422, "query-invalid", &["reverse", "true or false"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn json() {
    let h = Harness::start().await;
    let table = |name: &str| format!("/v1/namespaces/default/tables/{name}");
    let (write, read) = (format!("{TABLE}/rows:batchWrite"), format!("{TABLE}/rows:batchGet"));
    let deep = [b"{\"keys\":[".as_slice(), &[b'['; 200_000]].concat();
    let deep_table = [b"{\"key\":".as_slice(), &b"{\"a\":".repeat(100_000)].concat();
    let deep_ends = [b"{\"keys\":[".as_slice(), &[b'['; 500], &[b']'; 500], b"]}"].concat();
    check(
        &h,
        &[
            post(&read, b"{\"keys\":[\"a\"", 422, "body-invalid", &["EOF", "line 1"]),
            post(&read, b"{\"keys\":[\"a\"]} x", 422, "body-invalid", &["trailing"]),
            post(&read, b"\xEF\xBB\xBF{\"keys\":[]}", 422, "body-invalid", &["line 1"]),
            post(&read, b"{\"keys\":[\"\xFF\"]}", 422, "body-invalid", &["unicode"]),
            post(&read, b"{\"keys\":[\"\\ud800\"]}", 422, "body-invalid", &["at keys[0]"]),
            post(&read, b"{'keys':[]}", 422, "body-invalid", &["line 1"]),
            post(&read, b"[]", 422, "body-invalid", &["expected"]),
            post(&read, br#"[["a"],true]"#, 422, "body-invalid", &["sequence", "object"]),
            post(&write, br#"{"rows":[["a","v"]]}"#, 422, "body-invalid", &["at rows[0]", "object"]),
            put(&table("x"), b"[null,null]", 422, "body-invalid", &["sequence", "object"]),
            put(&table("x"), br#"{"key":[["a","int64"]]}"#, 422, "body-invalid", &["at key"]),
            put(
                "/v1/namespaces/n",
                br#"{"quotas":{"rows":9223372036854775808}}"#,
                422,
                "body-invalid",
                &["2^63"],
            ),
            post(
                &format!("{TABLE}/loads"),
                br#"{"mode":"merge","version":1,"guards":[1,2]}"#,
                422,
                "body-invalid",
                &["at guards"],
            ),
            post(&read, b"", 422, "body-invalid", &["EOF"]),
            post(&read, b"{\"keys\":\"a\"}", 422, "body-invalid", &["at keys", "sequence"]),
            post(&read, b"{\"keys\":[],\"keys\":[]}", 422, "body-invalid", &["duplicate field `keys`"]),
            post(&read, b"{\"keys\":[],\"parital\":true}", 422, "body-invalid", &["parital", "partial"]),
            post(
                &read,
                b"{\"keys\":[],\"partial\":\"yes\"}",
                422,
                "body-invalid",
                &["at partial", "boolean"],
            ),
            post(&read, &deep, 422, "body-invalid", &["recursion limit"]),
            post(&read, &deep_ends, 422, "body-invalid", &["recursion limit"]),
            put(&table("d"), &deep_table, 422, "body-invalid", &["at key"]),
            post(
                &write,
                br#"{"rows":[{"key":"a","value":"1"},{"key":"b","value":"1","version":1.5}]}"#,
                422,
                "body-invalid",
                &["at rows[1].version", "integer"],
            ),
            post(&write, br#"{"rows":[{"key":"a","value":1}]}"#, 422, "body-invalid", &["at rows[0].value"]),
            post(
                &write,
                br#"{"rows":[{"key":"a","value":"1","version":1e400}]}"#,
                422,
                "body-invalid",
                &["at rows[0].version", "out of range"],
            ),
            post(
                &write,
                br#"{"rows":[{"key":"a","value":"1","version":99999999999999999999}]}"#,
                422,
                "body-invalid",
                &["at rows[0].version"],
            ),
            post(
                &write,
                br#"{"rows":[{"key":"a","value":"1","version":"9223372036854775808"}]}"#,
                422,
                "body-invalid",
                &["at rows[0].version", "2^63"],
            ),
            post(
                &write,
                br#"{"rows":[{"key":"a","key":"b","value":""}]}"#,
                422,
                "body-invalid",
                &["duplicate field `key`"],
            ),
            post(&write, br#"{"rows":[{"key":"a","valeu":"1"}]}"#, 422, "body-invalid", &["valeu", "value"]),
            put(&table("x"), br#"{"ttl_seconds":-1}"#, 422, "body-invalid", &["at ttl_seconds"]),
            put(&table("x"), br#"{"ttl_seconds":0}"#, 422, "settings-invalid", &["ttl_seconds"]),
            put(&table("x"), br#"{"max_versions":4294967296}"#, 422, "body-invalid", &["at max_versions"]),
            put(
                &table("x"),
                br#"{"consistency":"perfect"}"#,
                422,
                "body-invalid",
                &["at consistency", "eventual"],
            ),
            put(&table("x"), br#"{"key":"text"}"#, 422, "body-invalid", &["at key", "bytes"]),
            put(&table("x"), br#"{"key":[]}"#, 422, "body-invalid", &["at key", "non-empty"]),
            put(
                &table("x"),
                br#"{"key":[{"name":"a","type":"float"}]}"#,
                422,
                "body-invalid",
                &["at key", "int64"],
            ),
            put(&table("x"), br#"{"split_at":["b","a"]}"#, 422, "settings-invalid", &["split_at"]),
            put(&table("x"), br#"{"split_at":[""]}"#, 422, "key-empty", &["split_at[0]"]),
            put(&table("Upper"), b"{}", 422, "table-name-invalid", &["Upper", "[a-z0-9]"]),
            put(&table(&"x".repeat(129)), b"{}", 422, "table-name-invalid", &["[a-z0-9]"]),
            put("/v1/namespaces/No", b"{}", 422, "namespace-name-invalid", &["[a-z0-9]"]),
            put("/v1/namespaces/n", br#"{"quotas":{"rows":-1}}"#, 422, "body-invalid", &["at quotas.rows"]),
        ],
    )
    .await;
    for table in ["d", "x"] {
        let made = h.get(&format!("/v1/namespaces/default/tables/{table}")).await;
        assert_eq!(made.status(), StatusCode::NOT_FOUND, "a refused table was made");
    }
    let ndjson = h
        .request(Method::POST, &write)
        .header("content-type", "application/x-ndjson")
        .body("{\"key\":\"a\",\"value\":\"1\"}\n{\"key\":\"b\",\"value\":2}\n");
    let told = problem(ndjson.send().await.unwrap()).await;
    assert!(told.detail.contains("line 2") && told.detail.contains("at value"), "{told:?}");
    assert_eq!(h.get(&format!("{TABLE}/rows/a")).await.status(), StatusCode::NOT_FOUND, "written in part");
}

#[tokio::test]
async fn loads() {
    let h = Harness::start().await;
    let loads = format!("{TABLE}/loads");
    let begun: serde_json::Value =
        h.post(&loads, r#"{"mode":"merge","version":"now"}"#).await.json().await.unwrap();
    let load = format!("{loads}/{}", begun["load_id"].as_str().unwrap());
    let no_such = format!("{loads}/{}", "0".repeat(32));
    check(
        &h,
        &[
            post(&loads, br#"{"version":1}"#, 422, "body-invalid", &["missing field `mode`"]),
            post(&loads, br#"{"mode":"merge","version":[]}"#, 422, "body-invalid", &["version", "now"]),
            post(
                &loads,
                br#"{"mode":"merge","version":1,"columns":{"key":[]}}"#,
                422,
                "load-invalid",
                &["columns.key"],
            ),
            post(
                &loads,
                br#"{"mode":"merge","version":1,"columns":{"key":["k"],"value":"v","pack":["w"]}}"#,
                422,
                "load-invalid",
                &["value and pack"],
            ),
            post(
                &loads,
                br#"{"mode":"merge","version":1,"guards":{"min_rows":-1}}"#,
                422,
                "body-invalid",
                &["at guards.min_rows"],
            ),
            post(
                &loads,
                br#"{"mode":"merge","version":1,"source":{"files":[],"prefix":"file:///x"}}"#,
                422,
                "body-invalid",
                &["at source"],
            ),
            get(&no_such, 404, "load-not-found", &["load"]),
            get(&format!("{loads}/not-an-id"), 404, "load-not-found", &["hex"]),
            get(&format!("{TABLE}/rows/k?load=not-an-id"), 404, "load-not-found", &["hex"]),
            post(&format!("{no_such}:commit"), b"{}", 404, "load-not-found", &["load"]),
            post(
                &format!("{load}:commit"),
                br#"{"files":["a"],"rows":-1}"#,
                422,
                "body-invalid",
                &["at rows"],
            ),
            post(
                &format!("{load}:commit"),
                br#"{"files":["missing"]}"#,
                404,
                "load-files-missing",
                &["missing"],
            ),
            post(
                &format!("{load}:commit"),
                br#"{"files":["../../etc/passwd"]}"#,
                422,
                "file-name",
                &["A-Za-z0-9"],
            ),
            put(&format!("{load}/files/a%2F..%2Fb"), b"x", 422, "file-name-invalid", &["A-Za-z0-9"]),
            put(&format!("{load}/files/a%00b"), b"x", 422, "file-name-invalid", &["A-Za-z0-9"]),
            put(&format!("{load}/files/{}", "f".repeat(600)), b"x", 422, "file-name-invalid", &["512"]),
            put(&format!("{no_such}/files/f"), b"x", 404, "load-not-found", &["load"]),
        ],
    )
    .await;
    assert_eq!(h.json(&load).await["state"], "open", "what is refused changes nothing");
}

#[tokio::test]
async fn tokens_and_consistency() {
    let h = Harness::start().await;
    h.create("other", "{}").await;
    for n in 0..5 {
        h.row(&format!("k{n}"), "v").await;
    }
    let page = h.json(&format!("{TABLE}/rows?page_size=2")).await;
    let token = page["next_page_token"].as_str().unwrap();
    let cut = &token[..token.len() - 3];
    let other = "/v1/namespaces/default/tables/other";
    check(
        &h,
        &[
            get(&format!("{TABLE}/rows?page_token="), 422, "page-token-invalid", &["next_page_token"]),
            get(&format!("{TABLE}/rows?page_token=%00%FF"), 422, "query-invalid", &["page_token", "UTF-8"]),
            get(&format!("{TABLE}/rows?page_token={cut}"), 422, "page-token-invalid", &["damaged"]),
            get(
                &format!("{TABLE}/rows?page_token={}", "A".repeat(9_000)),
                422,
                "page-token-invalid",
                &["damaged"],
            ),
            get(&format!("{other}/rows?page_token={token}"), 422, "page-token-invalid", &["another table"]),
            get(&format!("{TABLE}/rows?page_token={token}&start=k3"), 422, "page-token-filters", &["start"]),
            get(&format!("{TABLE}/rows/k0/versions?page_token=x"), 422, "page-token-invalid", &["damaged"]),
            get("/v1/namespaces?page_token=x", 422, "page-token-invalid", &["damaged"]),
            get(&format!("{TABLE}/loads?page_token={token}"), 422, "page-token-invalid", &["damaged"]),
            get(
                &format!("{TABLE}/rows/k0?consistency=linear"),
                422,
                "query-invalid",
                &["consistency", "strong"],
            ),
            get(&format!("{TABLE}/rows/k0?max_staleness_ms=-1"), 422, "query-invalid", &["max_staleness_ms"]),
            get(&format!("{TABLE}/rows/k0?on_stale=maybe"), 422, "query-invalid", &["on_stale", "serve"]),
            get(&format!("{TABLE}/rows/k0?as_of=now"), 422, "query-invalid", &["as_of", "integer"]),
        ],
    )
    .await;
    let ask =
        |token: &str| h.request(Method::GET, &format!("{TABLE}/rows/k0")).header("nacre-token", token).send();
    let many =
        vec![header(&h.get(&format!("{TABLE}/rows/k0")).await, "nacre-token").to_owned(); 65].join(",");
    let others = header(&h.get(&format!("{other}/rows/k0")).await, "nacre-token").to_owned();
    for (token, code) in [
        ("x", "token-invalid"),
        ("v1.", "token-invalid"),
        ("v2.AAAA", "token-invalid"),
        (&many, "token-invalid"),
        (&others, "token-other-table"),
    ] {
        let told = problem(ask(token).await.unwrap()).await;
        assert_eq!((told.status, told.code()), (422, code), "{}", &token[..token.len().min(60)]);
        assert!(told.detail.contains("token"), "{told:?}");
    }
    well(&h).await;
}

#[tokio::test]
async fn page_tokens_expire_after_fifteen_minutes() {
    let h = Harness::start().await;
    for version in 1..=5 {
        h.row(&format!("k{version}"), "v").await;
    }
    h.create("v", r#"{"max_versions":0,"version_kind":"number"}"#).await;
    let versions = "/v1/namespaces/default/tables/v/rows/k/versions";
    for version in 1..=5 {
        h.put(&format!("/v1/namespaces/default/tables/v/rows/k?version={version}"), "v").await;
    }
    let token = |page: serde_json::Value| page["next_page_token"].as_str().unwrap().to_owned();
    let scan =
        format!("{TABLE}/rows?page_token={}", token(h.json(&format!("{TABLE}/rows?page_size=2")).await));
    let walk = format!("{versions}?page_token={}", token(h.json(&format!("{versions}?limit=2")).await));
    h.clock.advance(14 * 60);
    for path in [&scan, &walk] {
        assert_eq!(h.get(path).await.status(), StatusCode::OK, "within its time");
    }
    // Later pages do not renew it.
    let renewed = format!("{TABLE}/rows?page_token={}", token(h.json(&format!("{scan}&page_size=1")).await));
    h.clock.advance(61);
    for path in [&scan, &walk, &renewed] {
        let told = problem(h.get(path).await).await;
        assert_eq!((told.status, told.code()), (410, "page-token-expired"), "{path}");
        assert!(told.detail.contains("15 minutes") && !told.retryable, "{told:?}");
    }
    well(&h).await;
}

#[tokio::test]
async fn headers() {
    let h = Harness::start().await;
    let row = format!("{TABLE}/rows/k");
    for (method, name, value, code) in [
        (Method::GET, "nacre-deadline-ms", "soon", "header-invalid"),
        (Method::GET, "nacre-deadline-ms", "-1", "header-invalid"),
        (Method::GET, "nacre-priority", "HIGH", "header-invalid"),
        (Method::PUT, "idempotency-key", "", "header-invalid"),
        (Method::PUT, "nacre-first-attempt", "5", "header-invalid"),
        (Method::PUT, "if-match", "\"x\"", "conditional-write"),
        (Method::DELETE, "if-none-match", "*", "conditional-write"),
    ] {
        let answer = h.request(method.clone(), &row).header(name, value).body("").send().await.unwrap();
        let told = problem(answer).await;
        assert_eq!((told.status, told.code()), (422, code), "{name}: {value}");
        assert!(told.detail.to_ascii_lowercase().contains(name), "{name}: {told:?}");
        assert_eq!(told.applied.as_deref(), (method != Method::GET).then_some("no"));
    }
    let long = "x".repeat(256);
    let answer = h.request(Method::PUT, &row).header("idempotency-key", long).body("v").send().await.unwrap();
    assert!(problem(answer).await.detail.contains("255"));
    for (kind, status) in [("image/png", 415), ("application/xml", 415)] {
        let answer =
            h.request(Method::POST, &format!("{TABLE}/loads")).header("content-type", kind).body("{}").send();
        let told = problem(answer.await.unwrap()).await;
        assert_eq!((told.status, told.code()), (status, "media-type"));
        assert!(told.detail.contains(kind) && told.detail.contains("application/json"), "{told:?}");
    }
    let accept = h.request(Method::POST, &format!("{TABLE}/rows:batchGet")).header("accept", "text/csv");
    let told = problem(accept.body("{\"keys\":[]}").send().await.unwrap()).await;
    assert_eq!((told.status, told.code()), (406, "not-acceptable"));
    // That the method does nothing here says more than what is wrong with the header.
    let wrong = h.request(Method::PATCH, &row).header("nacre-priority", "urgent").send().await.unwrap();
    assert_eq!(problem(wrong).await.status, 405);
    well(&h).await;
}
