//! The endpoints of the API, said here a second time: what stands in `openapi.json`, what the server routes, and what
//! comes later.

use std::collections::BTreeSet;

use reqwest::Method;

use crate::harness::{Harness, TABLE, problem};

/// Every endpoint of version 1 that is built: method and path.
const BUILT: [(&str, &str); 45] = [
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/v1/limits"),
    ("GET", "/v1/nodes"),
    ("GET", "/v1/namespaces"),
    ("GET", "/v1/namespaces/{ns}"),
    ("PUT", "/v1/namespaces/{ns}"),
    ("POST", "/v1/namespaces/{ns}:batchGet"),
    ("GET", "/v1/namespaces/{ns}/tables"),
    ("GET", "/v1/namespaces/{ns}/tables/{table}"),
    ("PUT", "/v1/namespaces/{ns}/tables/{table}"),
    ("PATCH", "/v1/namespaces/{ns}/tables/{table}"),
    ("DELETE", "/v1/namespaces/{ns}/tables/{table}"),
    ("GET", "/v1/namespaces/{ns}/tables/{table}/rows"),
    ("GET", "/v1/namespaces/{ns}/tables/{table}/rows/{key}"),
    ("PUT", "/v1/namespaces/{ns}/tables/{table}/rows/{key}"),
    ("DELETE", "/v1/namespaces/{ns}/tables/{table}/rows/{key}"),
    ("GET", "/v1/namespaces/{ns}/tables/{table}/rows/{key}/versions"),
    ("GET", "/v1/namespaces/{ns}/tables/{table}/rows/{key}:explain"),
    ("GET", "/v1/namespaces/{ns}/tables/{table}/rows:get"),
    ("POST", "/v1/namespaces/{ns}/tables/{table}/rows:get"),
    ("POST", "/v1/namespaces/{ns}/tables/{table}/rows:batchGet"),
    ("POST", "/v1/namespaces/{ns}/tables/{table}/rows:batchWrite"),
    ("GET", "/v1/namespaces/{ns}/tables/{table}/loads"),
    ("POST", "/v1/namespaces/{ns}/tables/{table}/loads"),
    ("GET", "/v1/namespaces/{ns}/tables/{table}/loads/{id}"),
    ("POST", "/v1/namespaces/{ns}/tables/{table}/loads/{id}:prepare"),
    ("POST", "/v1/namespaces/{ns}/tables/{table}/loads/{id}:commit"),
    ("POST", "/v1/namespaces/{ns}/tables/{table}/loads/{id}:cancel"),
    ("POST", "/v1/namespaces/{ns}/tables/{table}/loads/{id}:revert"),
    ("GET", "/v1/namespaces/{ns}/tables/{table}/loads/{id}/files"),
    ("PUT", "/v1/namespaces/{ns}/tables/{table}/loads/{id}/files/{name}"),
    ("GET", "/v1/namespaces/{ns}/tokens"),
    ("POST", "/v1/namespaces/{ns}/tokens"),
    ("GET", "/v1/namespaces/{ns}/tokens/{id}"),
    ("PATCH", "/v1/namespaces/{ns}/tokens/{id}"),
    ("DELETE", "/v1/namespaces/{ns}/tokens/{id}"),
    ("GET", "/v1/tokens"),
    ("POST", "/v1/tokens"),
    ("GET", "/v1/tokens/{id}"),
    ("PATCH", "/v1/tokens/{id}"),
    ("DELETE", "/v1/tokens/{id}"),
];

/// Those that come later: the server answers 501 until then, and `openapi.json` does not list them.
const LATER: [(&str, &str); 15] = [
    ("GET", "/console"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/namespaces/{ns}/usage"),
    ("POST", "/v1/namespaces/{ns}/tables/{table}:undrop"),
    ("POST", "/v1/namespaces/{ns}/tables/{table}:truncate"),
    ("POST", "/v1/namespaces/{ns}/tables/{table}:erase"),
    ("POST", "/v1/namespaces/{ns}/tables/{table}/:erase"),
    ("GET", "/v1/namespaces/{ns}/tables/{table}/snapshots"),
    ("PUT", "/v1/namespaces/{ns}/tables/{table}/snapshots/{name}"),
    ("DELETE", "/v1/namespaces/{ns}/tables/{table}/snapshots/{name}"),
    ("POST", "/v1/namespaces/{ns}/tables/{table}/snapshots/{name}:clone"),
    ("GET", "/v1/namespaces/{ns}/tables/{table}/files"),
    ("GET", "/v1/namespaces/{ns}/tables/{table}/changes?from=0"),
    ("GET", "/v1/namespaces/{ns}/tables/{table}/rows/k?snapshot=s"),
    ("GET", "/v1/namespaces/{ns}/tables/{table}/rows?snapshot=s"),
];

fn concrete(path: &str) -> String {
    let id = "00000000000000000000000000000001";
    let named = path.replace("{ns}", "default").replace("{table}", "t").replace("{key}", "k");
    named.replace("{id}", id).replace("{name}", "f.parquet")
}

async fn documented(h: &Harness) -> BTreeSet<(String, String)> {
    let document = h.json("/openapi.json").await;
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        item.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
    });
    operations.collect()
}

#[tokio::test]
async fn openapi_lists_what_is_built_and_nothing_else() {
    let h = Harness::start().await;
    let built: BTreeSet<_> =
        BUILT.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(documented(&h).await, built);
}

#[tokio::test]
async fn every_operation_of_openapi_reaches_a_handler() {
    let h = Harness::start().await;
    h.row("k", "v").await;
    for (method, path) in documented(&h).await {
        // Whatever ends the table goes last, to another table.
        let path = concrete(&path);
        let path = if method == "DELETE" && path == TABLE {
            path.replace("/tables/t", "/tables/gone")
        } else {
            path
        };
        let answer = h.request(method.parse::<Method>().unwrap(), &path).send().await.unwrap();
        let status = answer.status();
        if !status.is_client_error() && !status.is_server_error() {
            continue;
        }
        let told = problem(answer).await;
        assert!(!matches!(told.status, 405 | 501), "{method} {path}: {told:?}");
        assert_ne!(told.code(), "path-not-found", "{method} {path}");
    }
}

#[tokio::test]
async fn what_comes_later_says_so() {
    let h = Harness::start().await;
    for (method, path) in LATER {
        let answer = h.request(method.parse::<Method>().unwrap(), &concrete(path)).send().await.unwrap();
        let told = problem(answer).await;
        assert_eq!((told.status, told.code()), (501, "not-implemented"), "{method} {path}");
        assert!(told.detail.contains("not built yet"), "{told:?}");
    }
}

#[tokio::test]
async fn every_operation_lists_the_failures_that_it_may_answer() {
    let h = Harness::start().await;
    let document = h.json("/openapi.json").await;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let answers = operation["responses"].as_object().unwrap();
            let mut expected = vec!["422", "431", "500"];
            if path.contains("{ns}") {
                expected.extend(["404", "503", "504"]);
            }
            if path.contains("{key}") || operation.get("requestBody").is_some() {
                expected.push("413");
            }
            for status in expected {
                let answer = &answers[status];
                let shared = answer["$ref"].as_str().map(|name| name.rsplit('/').next().unwrap());
                let answer = shared.map_or(answer, |name| &document["components"]["responses"][name]);
                let schema = &answer["content"]["application/problem+json"]["schema"];
                assert_eq!(schema["$ref"], "#/components/schemas/Problem", "{method} {path} {status}");
            }
        }
    }
}
