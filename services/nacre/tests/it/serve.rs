//! A server's life: start, address, stop, start again.

use crate::harness::{Http, Server, done, nacre, run};

#[test]
fn what_was_acknowledged_outlives_a_stop_and_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    server.ask(&["table", "create", "t"]).well();
    server.ask(&["put", "t", "k", "before"]).well();
    assert_eq!(server.stop(), 0);
    let server = Server::start(folder.path(), &[]);
    assert_eq!(server.ask(&["get", "t", "k"]).well(), "before");
    assert_eq!(server.stop(), 0);
    let status =
        done(nacre(folder.path()).args(["log", "status", "--data", "data", "--output", "json"])).json();
    assert!(status["partitions"][0]["end_offset"].as_u64().unwrap() >= 1, "{status}");
}

#[test]
fn the_first_answer_after_a_start_knows_everything_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    // Nothing is flushed: the start has all of it to read.
    let server = Server::start(folder.path(), &["--flush-every", "1h"]);
    let http = Http::of(&server);
    let table = "/v1/namespaces/default/tables/t";
    assert_eq!(http.ask("PUT", table, "{}").0, 201);
    for n in 0..300 {
        assert_eq!(http.ask("PUT", &format!("{table}/rows/k{n}"), vec![b'x'; 20_000]).0, 204);
    }
    server.kill();
    let server = Server::start(folder.path(), &["--flush-every", "1h"]);
    let http = Http::of(&server);
    for n in (0..300).rev().step_by(13) {
        assert_eq!(http.bytes(&format!("{table}/rows/k{n}?consistency=eventual")).0, 200, "k{n}");
    }
    assert_eq!(http.ask("GET", "/readyz", "").0, 200);
}

#[test]
fn records_that_are_not_flushed_can_be_shown_and_keys_only_where_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--flush-every", "1h"]);
    server.ask(&["table", "create", "t"]).well();
    for number in 0..3 {
        server.ask(&["put", "t", &format!("secret-{number}"), "value"]).well();
    }
    server.kill();
    let show = |more: &[&str]| {
        let words = [&["log", "show", "--data", "data", "--output", "json"], more].concat();
        done(nacre(folder.path()).args(words))
    };
    let rows = |shown: &serde_json::Value| -> Vec<serde_json::Value> {
        let records = shown["records"].as_array().unwrap();
        records.iter().flat_map(|record| record["rows"].as_array().unwrap().clone()).collect()
    };
    let hidden = show(&[]).json();
    assert_eq!(rows(&hidden).len(), 3, "{hidden}");
    assert!(!hidden.to_string().contains("secret"), "{hidden}");
    let shown = rows(&show(&["--keys"]).json());
    let keys: Vec<&str> = shown.iter().map(|row| row["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["secret-0", "secret-1", "secret-2"]);
    assert!(shown.windows(2).all(|two| two[0]["version"].as_i64() < two[1]["version"].as_i64()), "{shown:?}");
    let last = hidden["end_offset"].as_u64().unwrap() - 1;
    assert_eq!(show(&["--offset", &last.to_string()]).json()["records"].as_array().unwrap().len(), 1);
    assert!(show(&["--partition", "7"]).badly(2).contains("partition-unknown"));
}

#[test]
fn an_ephemeral_server_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--ephemeral"]);
    server.ask(&["table", "create", "t"]).well();
    server.ask(&["put", "t", "k", "v"]).well();
    assert_eq!(server.ask(&["get", "t", "k"]).well(), "v");
    assert_eq!(server.stop(), 0);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_interrupt_stops_as_gracefully_as_a_supervisor_does() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--ephemeral"]);
    assert_eq!(server.stop_by("INT"), 0);
}

#[test]
fn a_server_beyond_this_machine_must_be_meant() {
    let said = run(&["serve", "--ephemeral", "--listen", "0.0.0.0:0"]).badly(2);
    assert!(said.contains("--anonymous"), "{said}");
}

#[test]
fn a_port_that_is_taken_is_a_failure_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = run(&["serve", "--ephemeral", "--listen", &address]).badly(1);
    assert!(said.contains(&address), "{said}");
}

#[test]
fn a_doctor_finds_a_running_server_and_its_store_well() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let findings = server.ask(&["doctor", "--data", "data", "--output", "json"]).json();
    for finding in findings.as_array().unwrap() {
        assert_ne!(finding["verdict"], "wrong", "{finding}");
    }
    assert!(findings.to_string().contains("is ready"), "{findings}");
}

#[test]
fn secrets_reach_no_log_at_any_level() {
    use std::process::Stdio;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let file = std::fs::File::create(&log).unwrap();
    let mut command = nacre(folder.path());
    command.args(["serve", "--ephemeral", "--listen", "127.0.0.1:0", "--output", "json"]);
    command.args(["--log-level", "trace", "--log-format", "json", "--access-log", "--token", "canary-token"]);
    let mut child = command.stdout(Stdio::piped()).stderr(file).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
        .unwrap();
    let api = serde_json::from_str::<serde_json::Value>(&line).unwrap()["api"].as_str().unwrap().to_owned();
    let ask = |words: &[&str]| {
        let mut command = nacre(folder.path());
        done(command.args(words).args(["--server", &api, "--token", "canary-token"])).well()
    };
    ask(&["table", "create", "t"]);
    ask(&["put", "t", "canary-key", "canary-value"]);
    ask(&["get", "t", "canary-key"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.lines().count() > 3, "nothing was logged");
    let audited: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["target"] == "nacre::audit")
        .collect();
    assert_eq!(audited.len(), 1, "the table was made: {audited:?}");
    assert_eq!((&audited[0]["method"], &audited[0]["status"]), (&"PUT".into(), &201.into()));
    assert_eq!(audited[0]["path"], "/v1/namespaces/default/tables/t");
    for line in text.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "no JSON: {line}");
        assert!(!line.contains("canary"), "a secret or a key in the log: {line}");
    }
}
