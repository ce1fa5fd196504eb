//! The server with its catalog in DynamoDB, over a store on this machine. `NACRE_TEST_DYNAMODB_ENDPOINT` names the servers
//! to try, as in nacre-catalog's own tests.

use crate::harness::{Done, Http, Server, done, nacre, named_servers};
use nacre_runtime::Context;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The servers of DynamoDB's protocol that run; says so where there are none.
pub(crate) fn servers() -> Vec<(String, String)> {
    named_servers("NACRE_TEST_DYNAMODB_ENDPOINT", "servers of DynamoDB's protocol, as name=http://host:port")
}

pub(crate) fn new_url() -> String {
    format!("dynamodb://nacre-test-{:016x}", Context::system().ids.random_u64())
}

/// The program with the variables of a DynamoDB, and with none of the caller's own.
pub(crate) fn over(folder: &Path, endpoint: &str) -> Command {
    let mut command = nacre(folder);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command
        .env("HOME", folder)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "canary")
        .env("AWS_ENDPOINT_URL_DYNAMODB", endpoint)
        .env("AWS_ALLOW_HTTP", "true");
    command
}

/// A start that is refused.
fn refused(folder: &Path, endpoint: &str, words: &[&str]) -> Done {
    let mut command = over(folder, endpoint);
    command.args(["serve", "--listen", "127.0.0.1:0"]).args(words);
    done(&mut command)
}

#[test]
fn what_was_acknowledged_outlives_a_kill_and_a_stop() {
    for (name, endpoint) in servers() {
        let folder = tempfile::tempdir().unwrap();
        let url = new_url();
        let words = ["--catalog", &url, "--flush-table-size", "1"];
        let start = || Server::start_by(over(folder.path(), &endpoint), folder.path(), &words);
        let server = start();
        server.ask(&["table", "create", "t"]).well();
        for n in 0..20 {
            server.ask(&["put", "t", &format!("k{n}"), &format!("v{n}")]).well();
        }
        let http = Http::of(&server);
        let begun = Instant::now();
        while http.ask("GET", "/v1/namespaces/default/tables/t", "").1["segments"] == 0 {
            assert!(begun.elapsed() < Duration::from_secs(30), "nothing is flushed");
            std::thread::sleep(Duration::from_millis(20));
        }
        server.ask(&["put", "t", "late", "in the log alone"]).well();
        server.kill();
        let server = start();
        for n in 0..20 {
            assert_eq!(server.ask(&["get", "t", &format!("k{n}")]).well(), format!("v{n}"), "{name}");
        }
        assert_eq!(server.ask(&["get", "t", "late"]).well(), "in the log alone", "{name}");
        server.ask(&["put", "t", "k0", "after"]).well();
        assert_eq!(server.stop(), 0, "{name}");
        let server = start();
        assert_eq!(server.ask(&["get", "t", "k0"]).well(), "after", "{name}");
        assert_eq!(server.stop(), 0, "{name}");
        let catalog = folder.path().join("data/catalog");
        let below: Vec<_> =
            std::fs::read_dir(&catalog).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(below, ["dynamodb"], "{name}: the catalog is not in the store, but for copies of edits");
    }
}

#[test]
fn a_store_stays_with_its_catalog_and_a_catalog_with_its_store() {
    for (name, endpoint) in servers() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (url, second) = (new_url(), new_url());
        let server = Server::start_by(over(folder.path(), &endpoint), folder.path(), &["--catalog", &url]);
        assert_eq!(server.stop(), 0, "{name}");
        for words in [&["--data", "data", "--catalog", &second][..], &["--data", "data"][..]] {
            let said = refused(folder.path(), &endpoint, words).badly(2);
            assert!(said.contains("belongs with the catalog") && said.contains(&url), "{name}: {said}");
        }
        let said = refused(other.path(), &endpoint, &["--data", "data", "--catalog", &url]).badly(2);
        assert!(said.contains("one table serves one store"), "{name}: {said}");
        // What was refused left no mark on the store: it may have another catalog, or none.
        let server = Server::start(other.path(), &[]);
        assert_eq!(server.stop(), 0, "{name}");
        let said = refused(other.path(), &endpoint, &["--data", "data", "--catalog", &second]).badly(2);
        assert!(said.contains("belongs with the catalog \"store\""), "{name}: {said}");
    }
}

#[test]
fn a_server_that_cannot_use_its_catalog_says_why_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let said = refused(folder.path(), "http://127.0.0.1:9", &["--catalog", "dynamodb://nacre"]).badly(1);
    assert!(said.contains("no connection to http://127.0.0.1:9"), "{said}");
    assert!(said.contains("AWS_ENDPOINT_URL_DYNAMODB") && !said.contains("canary"), "{said}");
    let said = refused(folder.path(), "http://127.0.0.1:9", &["--catalog", "dynamodb://a/b"]).badly(2);
    assert!(said.contains("expected dynamodb://table"), "{said}");
}
