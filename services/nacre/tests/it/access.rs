//! Access control and TLS, as an operator meets them.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;

use crate::harness::{Done, Server, done, nacre};

/// A server over https that asks for tokens, and the operator's.
struct World {
    folder: tempfile::TempDir,
    server: Server,
    operator: String,
}

fn certificate(folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

fn bootstrap(folder: &Path, more: &[&str]) -> Done {
    done(nacre(folder).args(["token", "create", "first", "--bootstrap", "--data", "data"]).args(more))
}

fn world(more: &[&str]) -> World {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path());
    let operator = bootstrap(folder.path(), &[]).well().trim().to_owned();
    let words = [&["--auth", "tokens", "--tls-cert", "cert.pem", "--tls-key", "key.pem"], more].concat();
    let server = Server::start(folder.path(), &words);
    assert!(server.api.starts_with("https://"), "{}", server.api);
    World { folder, server, operator }
}

impl World {
    fn command(&self, token: &str, words: &[&str]) -> Command {
        let mut command = nacre(self.folder.path());
        command.args(words).args(["--server", &self.server.api, "--ca-file", "cert.pem"]);
        if !token.is_empty() {
            command.env("NACRE_TOKEN", token);
        }
        command
    }

    fn ask_as(&self, token: &str, words: &[&str]) -> Done {
        done(&mut self.command(token, words))
    }

    fn ask(&self, words: &[&str]) -> Done {
        self.ask_as(&self.operator, words)
    }
}

/// Until a token is refused time after time, by whichever process is asked: each hears of it within half a minute.
fn until_refused(ask: impl Fn() -> Done, code: &str) {
    let (begun, mut refused) = (Instant::now(), 0);
    while refused < 8 {
        let done = ask();
        refused = if done.code == 0 { 0 } else { refused + 1 };
        assert!(done.code == 0 || done.stderr.contains(code), "{done:?}");
        assert!(begun.elapsed() < Duration::from_secs(40), "it still works");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_store_is_opened_by_its_first_token_and_serves_over_https() {
    let w = world(&[]);
    assert!(w.ask_as("", &["table", "create", "t"]).badly(1).contains("token-missing"));
    w.ask(&["table", "create", "t"]).well();
    w.ask(&["put", "t", "k", "v"]).well();
    // From a file, too; but not from both.
    std::fs::write(w.folder.path().join("token"), format!("{}\n", w.operator)).unwrap();
    assert_eq!(w.ask_as("", &["get", "t", "k", "--token-file", "token"]).well(), "v");
    assert!(w.ask(&["get", "t", "k", "--token-file", "token"]).badly(2).contains("say one of them"));
    // A certificate that nobody vouches for is refused.
    let blind = done(nacre(w.folder.path()).args([
        "get",
        "t",
        "k",
        "--server",
        &w.server.api,
        "--token",
        &w.operator,
    ]));
    let said = blind.badly(1);
    assert!(said.contains("server-unreachable") && !said.contains(&w.operator), "{said}");
    // A second first token needs to be meant.
    let said = bootstrap(w.folder.path(), &[]).badly(1);
    assert!(said.contains("operator-exists"), "{said}");
    bootstrap(w.folder.path(), &["--force"]).well();
    assert_eq!(w.server.stop(), 0);
}

#[test]
fn a_narrow_token_does_what_it_may_and_stops_when_it_is_dropped() {
    let w = world(&[]);
    w.ask(&["table", "create", "t"]).well();
    w.ask(&["put", "t", "eu/1", "v"]).well();
    let words = [
        "token",
        "create",
        "job",
        "--namespace",
        "default",
        "--verbs",
        "read",
        "--prefix",
        "eu/",
        "--output",
        "json",
    ];
    let made: Value = w.ask(&words).json();
    let (token, id) = (made["token"].as_str().unwrap(), made["described"]["id"].as_str().unwrap());
    assert_eq!(w.ask_as(token, &["get", "t", "eu/1"]).well(), "v");
    assert!(w.ask_as(token, &["get", "t", "us/1"]).badly(1).contains("forbidden-key"));
    assert!(w.ask_as(token, &["put", "t", "eu/1", "x"]).badly(1).contains("forbidden-verb"));
    assert!(w.ask_as(token, &["scan", "t"]).badly(1).contains("forbidden-range"));
    w.ask_as(token, &["scan", "t", "--prefix", "eu/"]).well();
    let whose = ["--namespace", "default"];
    let listed = w.ask(&[&["token", "list"], &whose[..]].concat()).well();
    assert!(listed.contains("job") && listed.contains(id) && !listed.contains(token), "{listed}");
    w.ask(&[&["token", "update", id, "--name", "renamed", "--expires", "1h"], &whose[..]].concat()).well();
    let shown = w.ask(&[&["token", "describe", id], &whose[..]].concat()).well();
    assert!(shown.contains("renamed") && shown.contains("eu/"), "{shown}");
    w.ask(&[&["token", "drop", id], &whose[..]].concat()).well();
    until_refused(|| w.ask_as(token, &["get", "t", "eu/1"]), "token-unknown");
    w.ask(&[&["token", "describe", id], &whose[..]].concat()).badly(3);
    assert!(w.ask(&["token", "list"]).badly(2).contains("--operator"));
}

#[test]
fn a_token_that_is_revoked_at_one_server_stops_at_another_within_half_a_minute() {
    let w = world(&[]);
    w.ask(&["table", "create", "t"]).well();
    w.ask(&["put", "t", "k", "v"]).well();
    let other = Server::start(w.folder.path(), &["--auth", "tokens"]);
    let made: Value =
        w.ask(&["token", "create", "job", "--operator", "--verbs", "read", "--output", "json"]).json();
    let (token, id) = (made["token"].as_str().unwrap(), made["described"]["id"].as_str().unwrap());
    let there =
        || done(nacre(w.folder.path()).args(["get", "t", "k", "--server", &other.api, "--token", token]));
    assert_eq!(there().well(), "v");
    w.ask(&["token", "drop", id, "--operator"]).well();
    until_refused(there, "token-unknown");
}

#[test]
fn an_expired_token_is_refused_by_name() {
    let w = world(&[]);
    w.ask(&["table", "create", "t"]).well();
    w.ask(&["put", "t", "k", "v"]).well();
    let token =
        w.ask(&["token", "create", "job", "--operator", "--verbs", "read", "--expires", "10s"]).well();
    let token = token.trim();
    assert_eq!(w.ask_as(token, &["get", "t", "k"]).well(), "v");
    until_refused(|| w.ask_as(token, &["get", "t", "k"]), "token-expired");
}

#[test]
fn the_audit_log_says_who_and_what_was_refused_and_holds_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let operator = bootstrap(folder.path(), &[]).well().trim().to_owned();
    let log = folder.path().join("log");
    let mut command = nacre(folder.path());
    command.stderr(Stdio::from(std::fs::File::create(&log).unwrap()));
    let server = Server::start_by(
        command,
        folder.path(),
        &["--auth", "tokens", "--log-format", "json", "--log-level", "trace"],
    );
    let ask = |token: &str, words: &[&str]| server.ask(&[words, &["--token", token]].concat());
    ask(&operator, &["table", "create", "t"]).well();
    let reader =
        ask(&operator, &["token", "create", "reader", "--namespace", "default", "--verbs", "read"]).well();
    let reader = reader.trim();
    ask(reader, &["table", "drop", "t"]).badly(1);
    ask(reader, &["put", "t", "canary-key", "v"]).badly(1);
    drop(server);
    let text = std::fs::read_to_string(&log).unwrap();
    let audited: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["target"] == "nacre::audit")
        .collect();
    let told: Vec<_> = audited
        .iter()
        .map(|line| {
            let word = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
            (
                word("token_name"),
                word("method"),
                word("route"),
                line["status"].as_u64().unwrap(),
                line["allowed"] == true,
            )
        })
        .collect();
    let expect = |name: &str, method: &str, route: &str, status, allowed| {
        let one = (name.to_owned(), method.to_owned(), route.to_owned(), status, allowed);
        assert!(told.contains(&one), "{one:?} is not among {told:?}");
    };
    expect("first", "PUT", "tables", 201, true);
    expect("first", "POST", "tokens", 201, true);
    expect("reader", "DELETE", "tables", 403, false);
    expect("reader", "PUT", "put", 403, false);
    assert_eq!(audited[0]["token"].as_str().unwrap(), operator.split('_').nth(1).unwrap());
    for secret in [operator.rsplit('_').next().unwrap(), reader.rsplit('_').next().unwrap(), "canary"] {
        assert!(!text.contains(secret), "a secret or a key in the log");
    }
}
