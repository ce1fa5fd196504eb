//! Parsing, settings, exit codes, and what is printed where.

use crate::harness::{Canned, done, nacre, run};

const ROW: &str = "nacre-version: 17\r\nnacre-edition: 3\r\nnacre-source: memory\r\n";

fn problem(code: &str, kind: &str, status: u16) -> String {
    serde_json::json!({
        "type": format!("/errors/{code}"), "title": "t", "status": status, "detail": "a sentence that says why",
        "instance": "/requests/1", "kind": kind, "retryable": false,
    })
    .to_string()
}

#[test]
fn help_and_version_are_no_failure_and_wrong_usage_is_2() {
    assert!(run(&["--help"]).well().contains("nacre.toml"));
    assert!(run(&["--version"]).well().starts_with("nacre "));
    assert!(run(&["help", "load"]).well().contains("--mode"));
    for words in [
        &[][..],
        &["fetch"],
        &["get", "t"],
        &["get", "Bad", "k"],
        &["get", "t", "k", "--consistency", "maybe"],
        &["put", "t", "k", "v", "--version", "x"],
        &["table", "create", "t", "--ttl", "1y"],
        &["load", "t", "f", "--mode", "merge"],
        &["load", "t", "f", "--mode", "append", "--version", "now"],
        &["load", "t", "f", "--mode", "merge", "--version", "soon"],
        &["load", "t", "f", "--mode", "merge", "--version", "1", "--prepare", "--no-commit"],
        &["scan", "t", "--server", "ftp://host"],
        &["token", "list"],
        &["token", "create", "n", "--namespace", "n"],
        &["token", "create", "n", "--bootstrap", "--verbs", "read"],
        &["scan", "t", "--output", "xml"],
        &["table", "update", "t"],
    ] {
        run(words).badly(2);
    }
}

#[test]
fn commands_of_later_stages_say_so() {
    for words in [&["snapshot", "list"][..], &["files", "t"], &["namespace", "drop", "n"]] {
        let said = run(words).badly(2);
        assert!(said.contains("not built yet") || said.contains("comes with"), "{words:?}: {said}");
    }
}

#[test]
fn a_server_that_is_not_there_is_a_failure_with_a_word_about_it() {
    let said = run(&["get", "t", "k", "--server", "http://127.0.0.1:1"]).badly(1);
    assert!(said.contains("server-unreachable") && said.contains("http://127.0.0.1:1"), "{said}");
    let said = run(&["get", "t", "k", "--server", "http://127.0.0.1:1", "--output", "json"]).badly(1);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(json["error"]["code"], "server-unreachable");
    assert_eq!(json["error"]["retryable"], true);
}

#[test]
fn a_file_that_is_not_there_is_found_before_the_server_is_asked() {
    let words = ["load", "t", "no-such.parquet", "--mode", "merge", "--version", "now"];
    let said = run(&[&words[..], &["--server", "http://127.0.0.1:1"]].concat()).badly(3);
    assert!(said.contains("no-such.parquet"), "{said}");
}

#[test]
fn versions_may_be_said_as_moments() {
    let server = Canned::new("200 OK", ROW, "");
    run(&["get", "t", "k", "--as-of", "1970-01-01T00:00:01Z", "--server", &server.api]).well();
    let request = server.request();
    assert!(request.contains("as_of=1000000 "), "{request}");
}

#[test]
fn a_value_is_printed_byte_for_byte_and_json_tells_more() {
    let server = Canned::new("200 OK", ROW, "hello");
    assert_eq!(run(&["get", "n/t", "a/b c", "--server", &server.api]).well(), "hello");
    let request = server.request();
    assert!(request.starts_with("GET /v1/namespaces/n/tables/t/rows/a%2Fb%20c HTTP"), "{request}");

    let server = Canned::new("200 OK", ROW, "hello");
    let json = run(&["get", "t", "k", "--server", &server.api, "--output", "json"]).json();
    assert_eq!((json["value"].as_str(), json["version"].as_i64()), (Some("hello"), Some(17)));
    assert_eq!((json["source"].as_str(), json["edition"].as_i64()), (Some("memory"), Some(3)));
}

#[test]
fn reads_send_what_was_asked() {
    let server = Canned::new("200 OK", ROW, "");
    let words = ["get", "t", "_w", "--key-encoding", "base64url", "--consistency", "strong", "--as-of", "-5"];
    run(&[&words[..], &["--server", &server.api, "--token", "s3cret"]].concat()).well();
    let request = server.request();
    let line = request.lines().next().unwrap();
    assert!(line.contains("/rows/_w?key_encoding=base64url&consistency=strong&as_of=-5"), "{line}");
    assert!(request.contains("authorization: Bearer s3cret"), "{request}");
}

#[test]
fn exit_codes_tell_failures_apart() {
    for (status, code, kind, exit) in [
        ("404 Not Found", "row-absent", "not_found", 3),
        ("404 Not Found", "table-not-found", "not_found", 3),
        ("422 Unprocessable Content", "key-parts", "invalid", 2),
        ("409 Conflict", "table-exists", "conflict", 1),
        ("503 Service Unavailable", "unavailable", "unavailable", 1),
        ("504 Gateway Timeout", "unknown", "unknown", 4),
    ] {
        let number = status[..3].parse().unwrap();
        let server =
            Canned::new(status, "content-type: application/problem+json\r\n", &problem(code, kind, number));
        let said = run(&["put", "t", "k", "v", "--server", &server.api]).badly(exit);
        assert!(said.contains(code) && said.contains("a sentence that says why"), "{said}");
    }
}

#[test]
fn an_answer_that_is_lost_leaves_a_write_unknown_and_a_read_failed() {
    let lost = || Canned::raw(String::new());
    let said = run(&["put", "t", "k", "v", "--server", &lost().api]).badly(4);
    assert!(said.contains("answer-lost"), "{said}");
    run(&["delete", "t", "k", "--server", &lost().api]).badly(4);
    run(&["get", "t", "k", "--server", &lost().api]).badly(1);
}

#[test]
fn settings_come_from_flags_then_variables_then_the_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("nacre.toml"), "listen = \"127.0.0.1:1\"\ndata = \"/from/file\"\n")
        .unwrap();
    let show = |words: &[&str]| {
        let mut command = nacre(folder.path());
        command.args(["config", "show", "--output", "json"]).args(words);
        command.env("NACRE_LISTEN", "127.0.0.1:2").env("NACRE_TOKEN", "canary");
        done(&mut command).json()
    };
    let find = |all: &serde_json::Value, name: &str| {
        let one = all.as_array().unwrap().iter().find(|one| one["setting"] == name).unwrap().clone();
        (one["value"].as_str().unwrap_or("-").to_owned(), one["from"].as_str().unwrap().to_owned())
    };
    let all = show(&["--listen", "127.0.0.1:3"]);
    assert_eq!(find(&all, "listen"), ("127.0.0.1:3".into(), "flag".into()));
    assert_eq!(find(&all, "data"), ("/from/file".into(), "file".into()));
    assert_eq!(find(&all, "token"), ("(set)".into(), "variable".into()));
    assert_eq!(find(&all, "log_level"), ("info".into(), "built in".into()));
    assert!(!all.to_string().contains("canary"));
    assert_eq!(find(&show(&[]), "listen"), ("127.0.0.1:2".into(), "variable".into()));
}

#[test]
fn a_mistake_in_the_file_is_named_with_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        std::fs::write(folder.path().join("own.toml"), text).unwrap();
        done(nacre(folder.path()).args(["config", "check", "--config", "own.toml"]))
    };
    check("listen = \"127.0.0.1:0\"\nephemeral = true\n").well();
    let said = check("lisen = \"127.0.0.1:0\"\n").badly(2);
    assert!(said.contains("lisen") && said.contains("listen"), "{said}");
    assert!(check("listen = \"0.0.0.0:80\"\n").badly(2).contains("--anonymous"));
    assert!(check("cache_memory = \"lots\"\n").badly(2).contains("cache-memory"));
    done(nacre(folder.path()).args(["config", "check", "--config", "absent.toml"])).badly(2);
}

#[test]
fn completions_are_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).well().contains("nacre"), "{shell}");
    }
    run(&["completions", "tcsh"]).badly(2);
}

#[test]
fn a_doctor_in_an_empty_folder_finds_nothing_wrong_and_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["doctor", "--server", "http://127.0.0.1:1"];
    let said = done(nacre(folder.path()).args(words)).well();
    assert!(said.contains("nacre serve"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(done(nacre(folder.path()).args(["log", "status"])).badly(3).contains("store-not-found"));
}

#[test]
fn a_reader_of_stdout_that_leaves_is_no_failure() {
    use std::process::Stdio;
    let folder = tempfile::tempdir().unwrap();
    let mut child = nacre(folder.path())
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
