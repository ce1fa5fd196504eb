//! Tables and rows, through the command line.

use crate::harness::{Http, Server};
use std::time::{Duration, Instant};

#[test]
fn tables_are_made_described_changed_and_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--ephemeral"]);
    server.ask(&["namespace", "create", "shop"]).well();
    assert!(server.ask(&["namespace", "list"]).well().contains("shop"));
    let words = ["table", "create", "shop/orders", "--ttl", "30d", "--max-versions", "3", "--split-at", "m"];
    let made = server.ask(&[&words[..], &["--output", "json"]].concat()).json();
    assert_eq!((made["ttl_seconds"].as_u64(), made["max_versions"].as_u64()), (Some(2_592_000), Some(3)));
    assert_eq!(made["shards"].as_array().unwrap().len(), 2);
    // Again and equal is no error; differing is.
    server.ask(&words).well();
    server.ask(&["table", "create", "shop/orders", "--ttl", "1d"]).badly(1);
    assert!(server.ask(&["table", "list", "shop"]).well().contains("orders"));
    server.ask(&["table", "update", "shop/orders", "--ttl", "none", "--consistency", "strong"]).well();
    let told = server.ask(&["table", "describe", "shop/orders"]).well();
    assert!(told.contains("strong") && told.contains("none"), "{told}");
    server.ask(&["table", "drop", "shop/orders"]).well();
    // Other processes of a store hear of it within seconds.
    let (begun, mut gone) = (Instant::now(), 0);
    while gone < 8 {
        gone = if server.ask(&["table", "describe", "shop/orders"]).code == 3 { gone + 1 } else { 0 };
        assert!(begun.elapsed() < Duration::from_secs(20), "it is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    server.ask(&["get", "shop/orders", "k"]).badly(3);
}

#[test]
fn rows_are_put_read_listed_explained_and_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--ephemeral"]);
    server.ask(&["table", "create", "t", "--max-versions", "0"]).well();
    server.ask(&["put", "t", "a", "one", "--version", "1700000000000001"]).well();
    server.ask(&["put", "t", "a", "two", "--version", "1700000000000002"]).well();
    server.ask(&["put", "t", "b/é", "-5"]).well();
    assert_eq!(server.ask(&["get", "t", "a"]).well(), "two");
    assert_eq!(server.ask(&["get", "t", "a", "--as-of", "1700000000000001"]).well(), "one");
    assert_eq!(server.ask(&["get", "t", "b/é", "--consistency", "strong"]).well(), "-5");
    let versions = server.ask(&["versions", "t", "a", "--output", "json"]).json();
    assert_eq!(versions["rows"].as_array().unwrap().len(), 2);
    let rows = server.ask(&["scan", "t"]).well();
    assert_eq!(rows.lines().count(), 3, "{rows}");
    assert_eq!(server.ask(&["scan", "t", "--prefix", "b", "--output", "json"]).json()["value"], "-5");
    let told = server.ask(&["explain", "t", "a"]).well();
    assert!(told.contains("tail") && told.contains("yes"), "{told}");
    server.ask(&["delete", "t", "a"]).well();
    assert!(server.ask(&["get", "t", "a"]).badly(3).contains("row-absent"));
    server.ask(&["get", "t", "never"]).badly(3);
}

#[test]
fn a_file_of_any_bytes_goes_in_and_comes_out() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--ephemeral"]);
    server.ask(&["table", "create", "t"]).well();
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    std::fs::write(folder.path().join("in"), &bytes).unwrap();
    server.ask(&["put", "t", "k", "@in"]).well();
    let mut command = crate::harness::nacre(folder.path());
    let output = command.args(["get", "t", "k", "--server", &server.api]).output().unwrap();
    assert!(output.status.success() && output.stdout == bytes);
    let mut piped = crate::harness::nacre(folder.path());
    piped.args(["put", "t", "p", "-", "--server", &server.api]);
    piped.stdin(std::fs::File::open(folder.path().join("in")).unwrap());
    crate::harness::done(&mut piped).well();
    let scanned = server.ask(&["scan", "t", "--prefix", "p", "--output", "json"]).json();
    assert!(scanned["value_base64"].as_str().unwrap().len() > 100_000);
}

#[test]
fn typed_keys_are_arrays_of_parts() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--ephemeral"]);
    server.ask(&["table", "create", "t", "--key", "user:int64,day:date"]).well();
    server.ask(&["put", "t", "[42,\"2024-02-29\"]", "leap"]).well();
    server.ask(&["put", "t", "[42,\"2024-03-01\"]", "march"]).well();
    server.ask(&["put", "t", "[7,\"2024-03-01\"]", "other"]).well();
    assert_eq!(server.ask(&["get", "t", "[42,\"2024-02-29\"]"]).well(), "leap");
    let rows = server.ask(&["scan", "t", "--prefix", "[42]"]).well();
    assert!(rows.contains("[42,\"2024-02-29\"]") && !rows.contains("other"), "{rows}");
    server.ask(&["get", "t", "[\"x\",\"2024-02-29\"]"]).badly(2);
}

#[test]
fn a_scan_goes_on_over_pages_and_stops_at_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--ephemeral"]);
    server.ask(&["table", "create", "t"]).well();
    let rows: Vec<_> =
        (0..2_500).map(|n| serde_json::json!({"key": format!("k{n:05}"), "value": "v"})).collect();
    let body = serde_json::json!({"rows": rows}).to_string();
    let path = "/v1/namespaces/default/tables/t/rows:batchWrite";
    let headers = [("content-type", "application/json")];
    assert_eq!(Http::of(&server).tell("POST", path, &headers, body).0, 200);
    let all = server.ask(&["scan", "t", "--limit", "0", "--keys-only"]).well();
    assert_eq!(all.lines().count(), 2_501);
    let some = server.ask(&["scan", "t", "--limit", "1100", "--reverse", "--keys-only"]);
    assert!(some.stderr.contains("--limit 1100"), "{}", some.stderr);
    let some = some.well();
    assert_eq!(some.lines().count(), 1_101);
    assert!(some.lines().nth(1).unwrap().starts_with("k02499"));
}

#[test]
fn versions_beyond_one_answer_are_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--ephemeral"]);
    server.ask(&["table", "create", "t", "--max-versions", "0"]).well();
    std::fs::write(folder.path().join("long"), vec![b'x'; 1 << 20]).unwrap();
    for version in 1..=6 {
        server.ask(&["put", "t", "k", "@long", "--version", &version.to_string()]).well();
    }
    for (more, expected) in [(&[][..], 6), (&["--limit", "5"], 5), (&["--until", "4"], 4)] {
        let words = [&["versions", "t", "k", "--output", "json"], more].concat();
        assert_eq!(server.ask(&words).json()["rows"].as_array().unwrap().len(), expected, "{more:?}");
    }
}
