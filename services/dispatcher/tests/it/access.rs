//! Who may do what, on every path of `openapi.json`: a new operation that forgets to ask is found here.

use std::collections::BTreeSet;

use nacre_access::{Grant, Home, NewToken, Tokens, Verb, Verbs};
use nacre_dispatcher::{Auth, Config};
use nacre_types::{NamespaceName, TableName};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Harness, TABLE, config, problem};

/// What nobody needs a token for.
const OPEN: [&str; 6] = ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/v1/limits"];
/// In every name, key and value that is somebody else's.
const CANARY: &str = "canary";
const ID: &str = "00000000000000000000000000000001";

/// What an operation takes, said here a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    /// A token that may see the place, by any verb.
    Any,
    Verb(Verb),
    /// A verb in the whole store.
    Store(Verb),
}

fn takes(method: &str, path: &str) -> Takes {
    let of_table = path.split_once("/tables/{table}").map(|(_, rest)| rest);
    match (of_table, method) {
        _ if OPEN.contains(&path) => Takes::Nothing,
        _ if path == "/v1/nodes" => Takes::Store(Verb::Admin),
        _ if path.starts_with("/v1/tokens") => Takes::Store(Verb::Admin),
        _ if path.starts_with("/v1/namespaces/{ns}/tokens") => Takes::Verb(Verb::Admin),
        _ if path == "/v1/namespaces/{ns}:batchGet" => Takes::Verb(Verb::Read),
        (None, "PUT") if path == "/v1/namespaces/{ns}" => Takes::Store(Verb::Admin),
        (None, "GET") => Takes::Any,
        (Some(""), "GET") => Takes::Any,
        (Some(""), _) => Takes::Verb(Verb::Admin),
        (Some(rest), _) if rest.starts_with("/loads") => Takes::Verb(Verb::Load),
        (Some("/rows:batchWrite"), _) => Takes::Verb(Verb::Write),
        (Some("/rows/{key}"), "PUT" | "DELETE") => Takes::Verb(Verb::Write),
        (Some(rest), _) if rest.starts_with("/rows") => Takes::Verb(Verb::Read),
        other => panic!("say here what {other:?} takes: {method} {path}"),
    }
}

/// A body that gets past its form, for operations that have one.
fn body(path: &str) -> String {
    let key = json!({"key": CANARY});
    let body = match path.rsplit_once("/").map_or("", |(_, last)| last) {
        "rows:get" => key,
        "rows:batchGet" => json!({"keys": [CANARY]}),
        "rows:batchWrite" => json!({"rows": [{"key": CANARY, "value": "new"}]}),
        "{ns}:batchGet" => json!({"gets": [{"table": "t", "key": CANARY}]}),
        "tokens" => json!({"name": "n", "verbs": ["read"]}),
        "loads" => json!({"mode": "merge", "version": "now"}),
        _ => json!({}),
    };
    body.to_string()
}

struct World {
    h: Harness,
    tokens: Tokens,
    operator: String,
}

fn only(verbs: &[Verb]) -> Verbs {
    verbs.iter().copied().collect()
}

fn grant(ns: Option<&str>, verbs: Verbs) -> Grant {
    let home = ns.map_or(Home::Store, |ns| Home::Namespace(NamespaceName::new(ns).unwrap()));
    Grant { home, verbs, tables: None, prefix: None }
}

impl World {
    async fn new() -> Self {
        let h = Harness::with(Config { auth: Auth::Tokens, ..config() }).await;
        let tokens = Tokens::new(h.node.catalog().clone(), &h.ctx);
        let mut w = Self { h, tokens, operator: String::new() };
        w.operator = w.token(grant(None, Verbs::ALL)).await;
        for ns in ["other", "canary-elsewhere"] {
            assert!(w.ask("PUT", &format!("/v1/namespaces/{ns}"), "{}").await.status().is_success());
        }
        for table in ["t", "u", "canary-table"] {
            let path = TABLE.replace("/tables/t", &format!("/tables/{table}"));
            assert_eq!(w.ask("PUT", &path, "{}").await.status(), StatusCode::CREATED);
        }
        assert!(w.ask("PUT", &format!("{TABLE}/rows/{CANARY}"), CANARY).await.status().is_success());
        w
    }

    async fn token(&self, grant: Grant) -> String {
        if !self.operator.is_empty() {
            // Over the API: what another process makes is known after seconds only.
            let path = grant
                .home
                .namespace()
                .map_or("/v1/tokens".to_owned(), |ns| format!("/v1/namespaces/{ns}/tokens"));
            let verbs: Vec<&str> = grant.verbs.iter().map(Verb::name).collect();
            let mut body = json!({"name": "canary-token", "verbs": verbs});
            if let Some(tables) = &grant.tables {
                body["tables"] = tables.iter().map(TableName::as_str).collect();
            }
            if let Some(prefix) = &grant.prefix {
                body["prefix"] = std::str::from_utf8(prefix).unwrap().into();
            }
            let made: Value = self.ask("POST", &path, &body.to_string()).await.json().await.unwrap();
            return made["token"].as_str().unwrap().to_owned();
        }
        let new = NewToken { name: "canary-token".to_owned(), grant, expires_at_micros: None };
        self.tokens.create(new, None).await.unwrap().1.to_text()
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Response {
        self.ask_as(&self.operator, method, path, body).await
    }

    async fn ask_as(&self, token: &str, method: &str, path: &str, body: &str) -> Response {
        let mut request = self.h.request(method.parse::<Method>().unwrap(), path).body(body.to_owned());
        if !path.contains("/files/") && !path.contains("/rows/") {
            request = request.header("content-type", "application/json");
        }
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.send().await.unwrap()
    }

    /// Every operation of `openapi.json`: method, path as it stands there.
    async fn operations(&self) -> Vec<(String, String)> {
        let document: Value = self.h.json("/openapi.json").await;
        let mut all = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                all.push((method.to_uppercase(), path.clone()));
                if method == "get" {
                    all.push(("HEAD".to_owned(), path.clone()));
                }
            }
        }
        assert!(all.len() > 60, "{}", all.len());
        // What drops the table goes last.
        all.sort_by_key(|(method, path)| method == "DELETE" && path.ends_with("{table}"));
        all
    }
}

fn concrete(path: &str) -> String {
    let named = path.replace("{ns}", "default").replace("{table}", "t").replace("{key}", CANARY);
    let query = if path.ends_with("rows:get") { format!("?key={CANARY}") } else { String::new() };
    named.replace("{id}", ID).replace("{name}", "f.parquet") + &query
}

/// The code of a refusal; HEAD has none to show.
async fn code(method: &str, answer: Response) -> (u16, String) {
    let status = answer.status().as_u16();
    if status == 401 {
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    }
    if method == "HEAD" || answer.status().is_success() || status == 304 {
        return (status, String::new());
    }
    (status, problem(answer).await.code().to_owned())
}

#[tokio::test]
async fn without_a_good_token_nothing_is_open_but_health_and_documentation() {
    let w = World::new().await;
    let stranger = nacre_access::Tokens::new(Harness::start().await.node.catalog().clone(), &w.h.ctx);
    let new = NewToken { name: "n".to_owned(), grant: grant(None, Verbs::ALL), expires_at_micros: None };
    let unknown = stranger.create(new, None).await.unwrap().1.to_text();
    for (method, path) in w.operations().await {
        for (token, expected) in
            [("", "token-missing"), ("nonsense", "token-malformed"), (&unknown, "token-unknown")]
        {
            let open = takes(method.replace("HEAD", "GET").as_str(), &path) == Takes::Nothing;
            let (status, code) =
                code(&method, w.ask_as(token, &method, &concrete(&path), &body(&path)).await).await;
            if open {
                assert_eq!(status, 200, "{method} {path}");
            } else {
                assert_eq!(status, 401, "{method} {path} {token:?} {code}");
                assert!(method == "HEAD" || code == expected, "{method} {path}: {code}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_with_the_one_verb_gets_through_and_one_with_all_others_does_not() {
    let w = World::new().await;
    for (method, path) in w.operations().await {
        let (verb, ns) = match takes(method.replace("HEAD", "GET").as_str(), &path) {
            Takes::Nothing => continue,
            Takes::Any => (None, Some("default")),
            Takes::Verb(verb) => (Some(verb), Some("default")),
            Takes::Store(verb) => (Some(verb), None),
        };
        if let Some(verb) = verb {
            let others: Vec<Verb> = Verb::ALL.into_iter().filter(|other| *other != verb).collect();
            let lacking = w.token(grant(ns, only(&others))).await;
            let refused =
                code(&method, w.ask_as(&lacking, &method, &concrete(&path), &body(&path)).await).await;
            assert_eq!(refused.0, 403, "{method} {path} {refused:?}");
            assert!(method == "HEAD" || refused.1 == "forbidden-verb", "{method} {path} {refused:?}");
        }
        for verb in verb.map_or(Verb::ALL.to_vec(), |verb| vec![verb]) {
            let mut verbs = vec![verb];
            if method == "POST" && path.ends_with("/tokens") {
                // Nobody gives what he does not have.
                verbs.push(Verb::Read);
            }
            let right = w.token(grant(ns, only(&verbs))).await;
            let (status, code) =
                code(&method, w.ask_as(&right, &method, &concrete(&path), &body(&path)).await).await;
            assert!(!matches!(status, 401 | 403 | 405 | 500..), "{method} {path} {verb:?}: {status} {code}");
        }
    }
}

#[tokio::test]
async fn a_token_of_one_namespace_gets_nothing_of_another_on_any_path() {
    let w = World::new().await;
    let before = state(&w).await;
    let other = w.token(grant(Some("other"), Verbs::ALL)).await;
    let mut asked = 0;
    for (_, path) in w.operations().await {
        for ns in [
            "default",
            "default%2F",
            "%64efault",
            "DEFAULT",
            "other/../default",
            "other%2F..%2Fdefault",
            "canary-elsewhere",
        ] {
            for method in ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"] {
                let target = concrete(&path.replace("{ns}", ns));
                let answer = w.ask_as(&other, method, &target, &body(&path)).await;
                let (status, headers) = (answer.status().as_u16(), format!("{:?}", answer.headers()));
                let text = answer.text().await.unwrap();
                asked += 1;
                let open = OPEN.contains(&&*path) || path == "/v1/namespaces";
                // An unknown path or method is told as such; whatever is there is forbidden.
                let refused = matches!(status, 403..=405);
                assert!(refused || (open && status == 200), "{method} {target}: {status} {text}");
                if path != "/openapi.json" {
                    let shown = text.replace(&target, "");
                    assert!(
                        !shown.contains(CANARY) && !headers.contains(CANARY),
                        "{method} {target}: {text}"
                    );
                }
            }
        }
    }
    assert!(asked > 1_000);
    assert_eq!(state(&w).await, before);
    // What it may see is its own.
    let listed: Value = w.ask_as(&other, "GET", "/v1/namespaces", "").await.json().await.unwrap();
    assert_eq!(listed, json!({"namespaces": [{"name": "other"}]}));
}

/// What is there, by an operator's eyes.
async fn state(w: &World) -> Vec<String> {
    let mut state = Vec::new();
    for path in [
        "/v1/namespaces",
        "/v1/namespaces/default/tables",
        &format!("{TABLE}/rows"),
        &format!("{TABLE}/loads"),
    ] {
        state.push(w.ask("GET", path, "").await.text().await.unwrap());
    }
    let tokens: Value = w.ask("GET", "/v1/namespaces/default/tokens", "").await.json().await.unwrap();
    state.push(tokens.to_string());
    state
}

#[tokio::test]
async fn a_token_of_other_tables_gets_nothing_of_this_one_on_any_path() {
    let w = World::new().await;
    let mut narrowed = grant(Some("default"), Verbs::ALL);
    narrowed.tables = Some(vec![TableName::new("u").unwrap()]);
    let token = w.token(narrowed).await;
    for (method, path) in w.operations().await {
        let expected = match path.as_str() {
            _ if path.contains("{table}") || path.contains(":batchGet") => "forbidden-table",
            _ if path.contains("{ns}/tokens") => "forbidden-whole",
            _ => continue,
        };
        let (status, code) =
            code(&method, w.ask_as(&token, &method, &concrete(&path), &body(&path)).await).await;
        assert_eq!(status, 403, "{method} {path} {code}");
        assert!(method == "HEAD" || code == expected, "{method} {path}: {code}");
    }
    let tables: Value =
        w.ask_as(&token, "GET", "/v1/namespaces/default/tables", "").await.json().await.unwrap();
    assert_eq!(tables["tables"].as_array().unwrap().len(), 1);
    assert_eq!(tables["tables"][0]["name"], "u");
}

#[tokio::test]
async fn a_token_of_a_namespace_takes_rows_from_what_bears_its_name() {
    let w = World::new().await;
    let (own, operator) =
        (w.token(grant(Some("default"), Verbs::ALL)).await, w.token(grant(None, Verbs::ALL)).await);
    let load = |source: Value| json!({ "mode": "merge", "version": "now", "source": source }).to_string();
    let table = |topic: &str| {
        json!({ "source": {
            "kafka": { "topic": topic },
            "format": "json",
            "mapping": { "key": ["id"], "value": { "field": "v" }, "version": { "field": "at", "unit": "micros" } },
        }})
        .to_string()
    };
    let loads = format!("{TABLE}/loads");
    let other = "/v1/namespaces/default/tables/sourced";
    let refused = [
        ("POST", &*loads, load(json!({ "prefix": "store:exports" }))),
        ("POST", &*loads, load(json!({ "files": ["store:default/a.parquet", "store:defaults/a.parquet"] }))),
        ("PUT", other, table("shop.users")),
        ("PATCH", TABLE, table("defaults.users")),
    ];
    for (method, path, body) in refused {
        let told = code(method, w.ask_as(&own, method, path, &body).await).await;
        assert_eq!(told, (403, "forbidden-source".to_owned()), "{method} {path} {body}");
        let told = code(method, w.ask_as(&operator, method, path, &body).await).await;
        assert_ne!(told.0, 403, "{method} {path} {body}: {}", told.1);
    }
    let begun = w.ask_as(&own, "POST", &loads, &load(json!({ "prefix": "store:default/day=1" }))).await;
    assert_eq!(begun.status(), 201);
    let declared = w.ask_as(&own, "PUT", other, &table("default.users")).await;
    assert_ne!(declared.status(), 403);
}

#[tokio::test]
async fn a_token_with_a_prefix_gets_no_other_key_on_any_path() {
    let w = World::new().await;
    let mut narrowed = grant(Some("default"), Verbs::ALL);
    narrowed.prefix = Some("mine/".into());
    let token = w.token(narrowed).await;
    let before = state(&w).await;
    for (method, path) in w.operations().await {
        let expected = match path.split_once("{table}").map(|(_, rest)| rest) {
            Some("/rows") => "forbidden-range",
            Some(rest) if rest.starts_with("/rows") => "forbidden-key",
            Some(_) => "forbidden-whole",
            None if path.ends_with(":batchGet") => "forbidden-key",
            None if path.contains("{ns}/tokens") => "forbidden-whole",
            None => continue,
        };
        let (status, code) =
            code(&method, w.ask_as(&token, &method, &concrete(&path), &body(&path)).await).await;
        assert_eq!(status, 403, "{method} {path} {code}");
        assert!(method == "HEAD" || code == expected, "{method} {path}: {code}");
    }
    assert_eq!(state(&w).await, before);
}

#[tokio::test]
async fn a_token_with_a_prefix_does_all_that_concerns_its_keys() {
    let w = World::new().await;
    let mut narrowed = grant(Some("default"), Verbs::ALL);
    narrowed.prefix = Some("mine/".into());
    let token = w.token(narrowed).await;
    let rows = format!("{TABLE}/rows");
    let all = [
        ("PUT", format!("{rows}/mine%2Fa"), "1"),
        ("GET", format!("{rows}/mine%2Fa"), ""),
        ("GET", format!("{rows}/bWluZS9h?key_encoding=base64url"), ""),
        ("GET", format!("{rows}/mine%2Fa/versions"), ""),
        ("GET", format!("{rows}/mine%2Fa:explain"), ""),
        ("GET", format!("{rows}:get?key=mine/a"), ""),
        ("POST", format!("{rows}:get"), r#"{"key":"mine/a"}"#),
        ("POST", format!("{rows}:batchGet"), r#"{"keys":["mine/a","mine/b"]}"#),
        ("POST", format!("{rows}:batchGet"), r#"{"keys":[]}"#),
        ("POST", format!("{rows}:batchWrite"), r#"{"rows":[{"key":"mine/b","value":"2"}]}"#),
        (
            "POST",
            "/v1/namespaces/default:batchGet".to_owned(),
            r#"{"gets":[{"table":"t","key":"mine/b"},{"table":"t","key":"mine/a","limit":1}]}"#,
        ),
        ("GET", format!("{rows}?prefix=mine/"), ""),
        ("GET", format!("{rows}?start=mine/a&end=mine/z&reverse=true"), ""),
        ("GET", "/v1/namespaces/default/tables".to_owned(), ""),
        ("DELETE", format!("{rows}/mine%2Fb"), ""),
    ];
    for (method, path, body) in all {
        let answer = w.ask_as(&token, method, &path, body).await;
        assert!(answer.status().is_success(), "{method} {path}: {}", answer.text().await.unwrap());
    }
    // One key beyond it in a batch, and nothing of the batch is done.
    let batch = r#"{"rows":[{"key":"mine/c","value":"1"},{"key":"yours","value":"1"}]}"#;
    let refused = problem(w.ask_as(&token, "POST", &format!("{rows}:batchWrite"), batch).await).await;
    assert_eq!((refused.code(), refused.applied.as_deref()), ("forbidden-key", Some("no")));
    assert_eq!(w.ask("GET", &format!("{rows}/mine%2Fc"), "").await.status(), 404);
    // The page token of a scan that reaches further is no way around it.
    let page: Value = w.ask("GET", &format!("{rows}?page_size=1"), "").await.json().await.unwrap();
    let next = page["next_page_token"].as_str().unwrap();
    let refused = w.ask_as(&token, "GET", &format!("{rows}?page_token={next}"), "").await;
    assert_eq!(problem(refused).await.code(), "forbidden-range");
}

#[tokio::test]
async fn a_token_made_over_the_api_works_is_shown_once_and_stops_when_revoked() {
    let w = World::new().await;
    let tokens = "/v1/namespaces/default/tokens";
    let answer =
        w.ask("POST", tokens, r#"{"name":"job","verbs":["read"],"tables":["t"],"prefix":"can"}"#).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let made: Value = answer.json().await.unwrap();
    let secret = made["token"].as_str().unwrap();
    let row = format!("{TABLE}/rows/{CANARY}");
    assert_eq!(w.ask_as(secret, "GET", &row, "").await.text().await.unwrap(), CANARY);
    let described: Value = w.ask("GET", &location, "").await.json().await.unwrap();
    assert_eq!(described, made["described"]);
    assert_eq!(described["prefix"], "can");
    let listed = w.ask("GET", tokens, "").await.text().await.unwrap();
    let hidden = secret.rsplit_once('_').unwrap().1;
    assert!(listed.contains("\"job\"") && !listed.contains(hidden) && !listed.contains("hash"), "{listed}");
    // By another collection it is not found.
    let elsewhere = location.replace("/default/", "/other/");
    assert_eq!(problem(w.ask("DELETE", &elsewhere, "").await).await.code(), "token-not-found");
    assert_eq!(w.ask("DELETE", &location, "").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(problem(w.ask_as(secret, "GET", &row, "").await).await.code(), "token-unknown");
    assert_eq!(problem(w.ask("DELETE", &location, "").await).await.code(), "token-not-found");
}

#[tokio::test]
async fn a_token_expires_and_may_be_given_longer() {
    let w = World::new().await;
    let expires = w.h.ctx.clock.now_micros() + 60_000_000;
    let body = json!({"name": "job", "verbs": ["read"], "expires_at": expires}).to_string();
    let made: Value = w.ask("POST", "/v1/tokens", &body).await.json().await.unwrap();
    let (secret, id) = (made["token"].as_str().unwrap(), made["described"]["id"].as_str().unwrap());
    let row = format!("{TABLE}/rows/{CANARY}");
    assert_eq!(w.ask_as(secret, "GET", &row, "").await.status(), 200);
    w.h.clock.advance(61);
    assert_eq!(problem(w.ask_as(secret, "GET", &row, "").await).await.code(), "token-expired");
    let path = format!("/v1/tokens/{id}");
    let longer: Value = w.ask("PATCH", &path, r#"{"expires_at":null}"#).await.json().await.unwrap();
    assert_eq!((&longer["expires_at"], &longer["expired"]), (&Value::Null, &json!(false)));
    assert_eq!(w.ask_as(secret, "GET", &row, "").await.status(), 200);
}

#[tokio::test]
async fn nobody_gives_more_than_he_has() {
    let w = World::new().await;
    let admin = w.token(grant(Some("default"), only(&[Verb::Admin, Verb::Read]))).await;
    let tokens = "/v1/namespaces/default/tokens";
    let made = w.ask_as(&admin, "POST", tokens, r#"{"name":"n","verbs":["read"]}"#).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let refused = w.ask_as(&admin, "POST", tokens, r#"{"name":"n","verbs":["write"]}"#).await;
    assert_eq!(problem(refused).await.code(), "forbidden-escalation");
    for (path, body) in [
        (tokens, r#"{"name":"n","verbs":[]}"#),
        (tokens, r#"{"name":"n","verbs":["read"],"prefix":["a"]}"#),
        (tokens, r#"{"name":"n","verbs":["read"],"prefix":{"base64":"*"}}"#),
        ("/v1/tokens", r#"{"name":"n","verbs":["read"],"prefix":"p"}"#),
    ] {
        assert_eq!(problem(w.ask("POST", path, body).await).await.code(), "token-settings", "{body}");
    }
    assert_eq!(
        problem(w.ask("POST", "/v1/namespaces/absent/tokens", r#"{"name":"n","verbs":["read"]}"#).await)
            .await
            .code(),
        "namespace-not-found"
    );
}

#[tokio::test]
async fn leading_parts_of_a_typed_key_narrow_a_token() {
    let w = World::new().await;
    let table = TABLE.replace("/tables/t", "/tables/typed");
    let settings = r#"{"key":[{"name":"tenant","type":"string"},{"name":"n","type":"int64"}]}"#;
    assert_eq!(w.ask("PUT", &table, settings).await.status(), StatusCode::CREATED);
    let body = r#"{"name":"n","verbs":["read","write"],"tables":["typed"],"prefix":["eu"]}"#;
    let made: Value = w.ask("POST", "/v1/namespaces/default/tokens", body).await.json().await.unwrap();
    let secret = made["token"].as_str().unwrap();
    let put = |key: &'static str| {
        let path =
            format!("{table}/rows/{}", key.replace('[', "%5B").replace(']', "%5D").replace('"', "%22"));
        let (w, secret) = (&w, secret.to_owned());
        async move { w.ask_as(&secret, "PUT", &path, "v").await.status() }
    };
    assert_eq!(put(r#"["eu",1]"#).await, StatusCode::NO_CONTENT);
    assert_eq!(put(r#"["eur",1]"#).await, StatusCode::FORBIDDEN);
    assert_eq!(put(r#"["us",1]"#).await, StatusCode::FORBIDDEN);
    let scan = w.ask_as(secret, "GET", &format!("{table}/rows?prefix=%5B%22eu%22%5D"), "").await;
    assert_eq!(scan.status(), 200, "{}", scan.text().await.unwrap());
}

#[tokio::test]
async fn a_server_without_access_control_asks_nobody_and_still_keeps_tokens() {
    let h = Harness::start().await;
    let made = h.post_json("/v1/tokens", r#"{"name":"first","verbs":["admin"]}"#).await;
    let listed = h.json("/v1/tokens").await;
    assert_eq!(listed["tokens"][0], made["described"]);
    let row = h.request(Method::PUT, &format!("{TABLE}/rows/k")).header("authorization", "Basic x").body("v");
    assert_eq!(row.send().await.unwrap().status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_server_beyond_loopback_wants_tokens_or_to_be_meant() {
    let h = Harness::start().await;
    let beyond = Config { listen: ([0, 0, 0, 0], 0).into(), ..config() };
    let bind = |config| {
        nacre_dispatcher::Server::bind(config, h.node.clone(), nacre_dispatcher::Reads::Here, h.ctx.clone())
    };
    assert_eq!(bind(beyond.clone()).await.unwrap_err().code(), "listen");
    assert!(bind(Config { auth: Auth::Tokens, ..beyond.clone() }).await.is_ok());
    assert!(bind(Config { anonymous: true, ..beyond }).await.is_ok());
}

#[tokio::test]
async fn refused_requests_have_not_had_their_body_read() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let w = World::new().await;
    let mut stream = tokio::net::TcpStream::connect(w.h.address).await.unwrap();
    let head = format!(
        "PUT {TABLE}/rows/k HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 401");
}

#[tokio::test]
async fn every_operation_that_takes_a_token_says_how_it_is_refused() {
    let w = World::new().await;
    let document = w.h.json("/openapi.json").await;
    let mut seen = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let open = takes(&method.to_uppercase(), path) == Takes::Nothing;
            for status in ["401", "403"] {
                assert_eq!(operation["responses"].get(status).is_some(), !open, "{method} {path} {status}");
            }
            seen.insert(open);
        }
    }
    assert_eq!(seen.len(), 2);
}
