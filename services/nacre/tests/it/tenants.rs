//! A token of one namespace gets nothing of another, however it asks: every route of `openapi.json` with every method, and
//! names bent in every way that has ever confused a server. The order is a seed's (`NACRE_TEST_SEED` names another).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bad_files::said_to_be_sorted;
use crate::harness::{Server, done, nacre};

const ROUNDS: usize = 3_000;
/// What the other namespace has and nobody else may see.
const KEY: &str = "canary-key";
const VALUE: &str = "canary-value";
const TABLE: &str = "canary-table";
const HIDDEN: &str = "canary-hidden-table";

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// An answer as it came over the wire.
#[derive(Debug)]
struct Answer {
    status: u16,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        let body = self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_default()
    }

    fn header(&self, name: &str) -> String {
        let head = self.text.split("\r\n\r\n").next().unwrap_or_default();
        let mut pairs = head.lines().filter_map(|line| line.split_once(": "));
        let found = pairs.find(|(is, _)| is.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned()).unwrap_or_default()
    }
}

/// Sends a request byte for byte: a client library would tidy the path up.
fn send(server: &Server, token: &str, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(server.api.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n{headers}\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // One that was refused by its head may be closed before it is whole.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    Answer { status: status.unwrap_or_else(|| panic!("{method} {path}: no answer: {text:?}")), text }
}

/// Everything that the other namespace has, as its owner is told.
fn all_of(server: &Server, owner: &str) -> Vec<(u16, Value)> {
    let tables = [TABLE, HIDDEN].map(|table| format!("/v1/namespaces/alpha/tables/{table}"));
    let mut paths = vec!["/v1/namespaces/alpha/tables".to_owned(), "/v1/namespaces/alpha/tokens".to_owned()];
    for table in tables {
        paths.push(format!("{table}/rows?consistency=strong&page_size=1000"));
        paths.push(format!("{table}/loads"));
        paths.push(table);
    }
    let told = paths.iter().map(|path| send(server, owner, "GET", path, "", b""));
    told.map(|answer| {
        let mut body = answer.json();
        // What changes by itself.
        if let Some(body) = body.as_object_mut() {
            for name in ["data_age_seconds", "manifest", "segments", "bytes", "rows_estimate"] {
                body.remove(name);
            }
        }
        (answer.status, body)
    })
    .collect()
}

#[test]
fn a_token_of_one_namespace_gets_nothing_of_another() {
    let seed = std::env::var("NACRE_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let folder = tempfile::tempdir().unwrap();
    let words = ["token", "create", "first", "--bootstrap", "--data", "data"];
    let operator = done(nacre(folder.path()).args(words)).well().trim().to_owned();
    let server = Server::start(folder.path(), &["--auth", "tokens"]);
    let ask = |method: &str, path: &str, body: Value| {
        let answer = send(&server, &operator, method, path, "", body.to_string().as_bytes());
        assert!(answer.status < 300, "{method} {path}: {answer:?}");
        answer
    };
    let mut owners = Vec::new();
    for namespace in ["alpha", "beta"] {
        ask("PUT", &format!("/v1/namespaces/{namespace}"), json!({}));
        let grant =
            json!({ "name": format!("owner of {namespace}"), "verbs": ["read", "write", "load", "admin"] });
        let made = ask("POST", &format!("/v1/namespaces/{namespace}/tokens"), grant).json();
        owners.push((made["token"].as_str().unwrap().to_owned(), token_id(&made)));
    }
    let [(alpha, alpha_id), (beta, _)] = &owners[..] else { panic!("two owners") };
    for (namespace, table) in [("alpha", TABLE), ("alpha", HIDDEN), ("beta", "mine")] {
        let path = format!("/v1/namespaces/{namespace}/tables/{table}");
        ask("PUT", &path, json!({}));
        let (key, value) = if namespace == "alpha" { (KEY, VALUE) } else { ("own-key", "own-value") };
        let rows: Vec<Value> = (0..30)
            .map(|n| json!({ "key": format!("{key}-{n:02}"), "value": format!("{value}-{n}") }))
            .collect();
        ask("POST", &format!("{path}/rows:batchWrite"), json!({ "rows": rows }));
    }
    // What of the other namespace may have got about: a load and its staging place, tokens of a session and of a page.
    let table = format!("/v1/namespaces/alpha/tables/{TABLE}");
    let begun = send(
        &server,
        alpha,
        "POST",
        &format!("{table}/loads"),
        "idempotency-key: theirs\r\n",
        json!({ "mode": "merge", "version": "now" }).to_string().as_bytes(),
    );
    assert_eq!(begun.status, 201, "{begun:?}");
    let begun = begun.json();
    let load = begun["load_id"].as_str().unwrap().to_owned();
    let staging = begun["staging_url"].as_str().unwrap().to_owned();
    let file = said_to_be_sorted(&[(format!("{KEY}-load"), VALUE.to_owned())]);
    let put = send(&server, alpha, "PUT", &format!("{table}/loads/{load}/files/a.parquet"), "", &file);
    assert_eq!(put.status, 204, "{put:?}");
    let page = send(&server, alpha, "GET", &format!("{table}/rows?page_size=3"), "", b"");
    let page_token = page.json()["next_page_token"].as_str().unwrap().to_owned();
    let session = page.header("nacre-token");
    let before = all_of(&server, alpha);
    assert!(before.iter().all(|(status, _)| *status == 200), "{before:?}");

    let contract: Value = serde_json::from_str(
        &std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi.json")).unwrap(),
    )
    .unwrap();
    let routes: Vec<&str> = contract["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let namespaces = [
        "alpha",
        "alpha",
        "alpha",
        "alpha",
        "alpha",
        "alpha",
        "beta",
        "beta",
        "beta",
        "beta",
        "beta",
        "beta",
        "%61lpha",
        "ALPHA",
        "Alpha",
        "alpha%00",
        "alpha%20",
        "alpha%2f",
        ".",
        "..",
        "beta%2f..%2falpha",
        "beta/../alpha",
        "beta/%2e%2e/alpha",
        "./alpha",
        "/alpha",
        "alpha;x",
        "alpha%252f",
        "beta%00alpha",
        "*",
        "default",
        "b%65ta",
        "%",
        "%zz",
        "beta,alpha",
        "beta&ns=alpha",
        "alpha?x=",
        "beta?ns=alpha",
        "beta#alpha",
    ];
    let tables = [
        TABLE,
        TABLE,
        "mine",
        "mine",
        "..%2f..%2f..%2falpha%2ftables%2fcanary-table",
        "../../alpha/tables/canary-table",
        "%2e%2e/%2e%2e/alpha/tables/canary-table",
        "alpha%2fcanary-table",
        "alpha/canary-table",
        "Canary-Table",
        "canary%2dtable",
        "mine%00canary-table",
        "*",
        ".",
        "..",
        "mine,canary-table",
        "mine/../canary-table",
    ];
    let keys = ["canary-key-01", "own-key-01", "..", "%00", "canary-key-01:explain", "*"];
    let methods =
        ["GET", "GET", "GET", "PUT", "POST", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "get"];
    let both = |gets: &[(&str, &str)]| {
        let gets: Vec<Value> =
            gets.iter().map(|(table, key)| json!({ "table": table, "key": key })).collect();
        json!({ "gets": gets }).to_string()
    };
    let staged = format!("{staging}/a.parquet");
    let load_from =
        |source: Value| json!({ "mode": "merge", "version": "now", "source": source }).to_string();
    let bodies: Vec<String> = vec![
        String::new(),
        "{}".to_owned(),
        json!({ "keys": ["canary-key-01", "own-key-01"] }).to_string(),
        json!({ "key": "canary-key-01" }).to_string(),
        json!({ "rows": [{ "key": "canary-key-01", "value": "overwritten" }] }).to_string(),
        both(&[("canary-table", "canary-key-01")]),
        both(&[("mine", "own-key-01"), ("alpha/canary-table", "canary-key-01")]),
        both(&[("../../alpha/tables/canary-table", "canary-key-01")]),
        load_from(json!({ "files": [staged] })),
        load_from(json!({ "prefix": staging })),
        load_from(json!({ "prefix": format!("store:staging/{load}") })),
        load_from(json!({ "files": [format!("store:in/../staging/{load}/a.parquet")] })),
        load_from(json!({ "prefix": "store:tables" })),
        load_from(json!({ "files": ["store:carried", "store:log", "store:catalog", "store:identity"] })),
        json!({ "mode": "replace", "version": "now", "guards": { "allow_empty": true } }).to_string(),
        json!({ "name": "spy", "verbs": ["read"], "tables": ["canary-table"] }).to_string(),
        json!({ "name": "spy", "namespace": "alpha", "verbs": ["read", "admin"] }).to_string(),
        json!({ "ttl_seconds": 100_000, "max_versions": 1 }).to_string(),
        json!({ "consistency": "strong" }).to_string(),
        json!({ "files": ["a.parquet"] }).to_string(),
    ];
    let queries = [
        String::new(),
        "?page_size=1000".to_owned(),
        format!("?page_token={page_token}"),
        format!("?load={load}"),
        "?consistency=strong&prefix=canary".to_owned(),
        "?key=canary-key-01".to_owned(),
        "?ns=alpha&table=canary-table&namespace=alpha".to_owned(),
        "?value_encoding=base64&as_of=9000000000000000000".to_owned(),
    ];
    let headers = [
        String::new(),
        format!("nacre-token: {session}\r\n"),
        "idempotency-key: theirs\r\n".to_owned(),
        "x-http-method-override: GET\r\nx-original-url: /v1/namespaces/alpha/tables\r\n".to_owned(),
        "x-nacre-namespace: alpha\r\nx-forwarded-for: 127.0.0.1\r\n".to_owned(),
    ];
    let mut random = Random(seed);
    let (mut refused, mut answered) = (0, 0);
    for round in 0..ROUNDS {
        let (namespace, table) = (random.of(&namespaces), random.of(&tables));
        let id = [&*load, alpha_id, "00000000000000000000000000000000", ".."][random.below(4)];
        let mut path = random
            .of(&routes)
            .replace("{ns}", namespace)
            .replace("{table}", table)
            .replace("{id}", id)
            .replace("{key}", random.of(&keys))
            .replace("{name}", random.of(&["a.parquet", "..", "..%2fa.parquet"]));
        path.push_str(&queries[random.below(queries.len())]);
        let (method, header) = (random.of(&methods), &headers[random.below(headers.len())]);
        let body = &bodies[random.below(bodies.len())];
        let answer = send(&server, beta, method, &path, header, body.as_bytes());
        let what =
            format!("seed {seed}, round {round}: {method} {path} {header:?} {body} -> {}", answer.text);
        assert!(answer.status != 500 && answer.status < 505, "{what}");
        // Nothing but what was asked with may come back; values and names of others were in no request.
        let asked = format!("{path} {body} {header}");
        for canary in [VALUE, HIDDEN, "canary-key-02", "owner of alpha", KEY, alpha_id, &page_token] {
            assert!(asked.contains(canary) || !answer.text.contains(canary), "{canary} leaks: {what}");
        }
        assert!(!answer.text.contains(VALUE), "{what}");
        if namespace == "alpha" && path.starts_with("/v1/namespaces/alpha") {
            assert!(matches!(answer.status, 400..=405 | 413..=422), "{what}");
            assert!(answer.status != 404 || !answer.text.contains("row-absent"), "{what}");
            refused += 1;
            // What is not there is refused in the same way: whether it is, nobody learns.
            let absent = path.replace("namespaces/alpha", "namespaces/gamma").replace(TABLE, "no-such-table");
            let other = send(&server, beta, method, &absent, header, body.as_bytes());
            let kind = |answer: &Answer| (answer.status, answer.json()["type"].clone());
            assert_eq!(kind(&other), kind(&answer), "it tells what is there: {what}\nand {}", other.text);
        }
        answered += usize::from(answer.status < 300);
    }
    // A load balancer in front has refused some of it by itself.
    assert!(refused > 200 && answered > 30, "{refused} refused, {answered} answered: it asks for too little");
    assert_eq!(all_of(&server, alpha), before, "what was there is there, as it was");
    // The load of the other goes its way.
    let path = format!("{table}/loads/{load}:commit");
    assert!(send(&server, alpha, "POST", &path, "", b"{}").status < 300);
}

fn token_id(made: &Value) -> String {
    made["described"]["id"].as_str().unwrap().to_owned()
}
