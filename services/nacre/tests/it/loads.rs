//! Bulk loads through the command line, with files of other writers.

use crate::harness::{Server, sample, sample_value};

/// The keys of the samples in base64url: the first 16 bytes of a hash that the tests need not compute.
fn some_keys(server: &Server, table: &str, limit: &str) -> Vec<serde_json::Value> {
    let text = server.ask(&["scan", table, "--limit", limit, "--output", "json"]).well();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn load(server: &Server, file: &str, more: &[&str]) -> crate::harness::Done {
    let path = sample(file);
    server.ask(&[&["load", "t", path.to_str().unwrap(), "--output", "json"][..], more].concat())
}

#[test]
fn files_of_every_writer_become_visible_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    server.ask(&["table", "create", "t"]).well();
    for file in [
        "spark4-aligned128-sorted-tombstones.parquet",
        "pyarrow-default-unsorted-tombstones.parquet",
        "duckdb-default-sorted-tombstones.parquet",
        "polars-default-unsorted-tombstones.parquet",
    ] {
        let words = ["--mode", "replace", "--version", "1700000000000000", "--version-column", "version"];
        let done = load(&server, file, &words).json();
        assert_eq!(
            (done["state"].as_str(), done["progress"]["rows"].as_u64()),
            (Some("committed"), Some(5_000))
        );
        let rows = some_keys(&server, "t", "0");
        // One row in 97 is a tombstone, and every fifth of the rest has expired long ago.
        let expected = (0..5_000).filter(|n| sample_value(*n).is_some() && n % 5 != 0).count();
        assert_eq!(rows.len(), expected, "{file}");
        for row in rows.iter().take(50) {
            let number = row["version"].as_u64().unwrap() - 1_700_000_000_000_000;
            assert_eq!(row["value"].as_str().map(str::to_owned), sample_value(number), "{file}");
        }
        server.ask(&["loads", "revert", "t", done["load_id"].as_str().unwrap()]).well();
        assert!(some_keys(&server, "t", "5").is_empty(), "{file}");
    }
    assert_eq!(server.stop(), 0);
}

#[test]
fn files_may_be_called_anything_and_even_alike() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    server.ask(&["table", "create", "t"]).well();
    let mut names = Vec::new();
    for inner in ["one", "two"] {
        let name = folder.path().join(inner).join("_my file (1).parquet");
        std::fs::create_dir_all(name.parent().unwrap()).unwrap();
        std::fs::copy(sample("pyarrow-aligned128-sorted-tombstones.parquet"), &name).unwrap();
        names.push(name.display().to_string());
    }
    let words = ["--mode", "merge", "--version-column", "version", "--output", "json"];
    let url = format!("file://{}", names[1]);
    let done = server.ask(&[&["load", "t", &names[0], &url][..], &words].concat()).json();
    let files =
        server.ask(&["loads", "files", "t", done["load_id"].as_str().unwrap(), "--output", "json"]).json();
    let told: Vec<_> = files.as_array().unwrap().iter().map(|file| file["file"].as_str().unwrap()).collect();
    assert_eq!(told, ["2-file_my-file--1-.parquet", "file_my-file--1-.parquet"]);
}

#[test]
fn a_load_that_broke_off_goes_on_under_its_key_and_one_that_is_refused_does_not_stay_open() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    server.ask(&["table", "create", "t"]).well();
    let words = ["--mode", "merge", "--version-column", "version", "--idempotency-key", "nightly"];
    let file = "pyarrow-aligned128-sorted-tombstones.parquet";
    // As if the first had broken off between the upload and the commit.
    let first = load(&server, file, &[&words[..], &["--no-commit"]].concat()).json();
    let again = load(&server, file, &words).json();
    assert_eq!((&again["load_id"], &again["state"]), (&first["load_id"], &"committed".into()));

    let words = ["load", "t", "s3://bucket/folder/", "--mode", "merge", "--version", "now"];
    server.ask(&words).badly(2);
    let list = server.ask(&["loads", "list", "t", "--output", "json"]).json();
    let states: Vec<_> = list.as_array().unwrap().iter().map(|load| load["state"].clone()).collect();
    assert!(!states.contains(&"open".into()), "{states:?}");
}

#[test]
fn a_prepared_load_is_looked_at_before_it_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    server.ask(&["table", "create", "t"]).well();
    let words = ["--mode", "merge", "--version-column", "version", "--prepare"];
    let done = load(&server, "pyarrow-aligned128-sorted-tombstones.parquet", &words).json();
    let id = done["load_id"].as_str().unwrap();
    assert_eq!(done["state"], "prepared");
    assert!(some_keys(&server, "t", "5").is_empty());
    let preview = server.ask(&["scan", "t", "--limit", "5", "--preview", id, "--output", "json"]).well();
    assert_eq!(preview.lines().count(), 5);
    server.ask(&["loads", "commit", "t", id]).well();
    assert_eq!(some_keys(&server, "t", "5").len(), 5);
    let files = server.ask(&["loads", "files", "t", id, "--output", "json"]).json();
    assert_eq!(files[0]["outcome"], "adopted", "{files}");
    assert!(server.ask(&["loads", "list", "t"]).well().contains("committed"));
    assert!(server.ask(&["loads", "describe", "t", id]).well().contains("1 adopted"));
    // What was loaded outlives the server.
    assert_eq!(server.stop(), 0);
    let server = Server::start(folder.path(), &[]);
    assert_eq!(some_keys(&server, "t", "5").len(), 5);
}

#[test]
fn a_load_that_a_guard_stops_says_why_and_shows_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    server.ask(&["table", "create", "t"]).well();
    let words = ["--mode", "merge", "--version-column", "version", "--min-rows", "1000000"];
    let said = load(&server, "pyarrow-aligned128-sorted-tombstones.parquet", &words).badly(1);
    assert!(said.contains("load-failed") && said.contains("min_rows"), "{said}");
    assert!(some_keys(&server, "t", "5").is_empty());
}

#[test]
fn a_load_is_begun_and_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    server.ask(&["table", "create", "t"]).well();
    let words = ["--mode", "merge", "--version", "now", "--no-commit"];
    let done = load(&server, "pyarrow-aligned128-sorted-tombstones.parquet", &words).json();
    let id = done["load_id"].as_str().unwrap();
    assert_eq!(done["state"], "open");
    server.ask(&["loads", "cancel", "t", id]).well();
    let told = server.ask(&["loads", "describe", "t", id, "--output", "json"]).json();
    assert_eq!(told["state"], "cancelled");
    server.ask(&["loads", "commit", "t", id]).badly(1);
    server.ask(&["loads", "describe", "t", "00000000000000000000000000000000"]).badly(3);
}

#[test]
fn a_job_that_makes_its_table_before_each_load_runs_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    for _ in 0..2 {
        server.ask(&["table", "create", "t"]).well();
        let words = ["--mode", "merge", "--version-column", "version"];
        load(&server, "pyarrow-aligned128-sorted-tombstones.parquet", &words).well();
    }
    let told = server.ask(&["table", "describe", "t", "--output", "json"]).json();
    assert_eq!(told["key"], "bytes", "the load declared it");
}
