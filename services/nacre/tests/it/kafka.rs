//! The server with its log on Kafka and everything else in a folder. `NACRE_TEST_KAFKA` names a broker, as in nacre-log's
//! own tests.

use crate::harness::{Server, done, nacre, skipped};
use nacre_runtime::Context;
use std::path::Path;

/// The broker that runs; says so where there is none.
pub(crate) fn broker() -> Option<String> {
    let address = std::env::var("NACRE_TEST_KAFKA").ok();
    if address.is_none() {
        skipped("NACRE_TEST_KAFKA", "a broker, as host:port");
    }
    address
}

/// The URL of a topic that is not there.
pub(crate) fn url(address: &str) -> String {
    format!("kafka://{address}/nacre-program-{:032x}", Context::system().ids.random_u128())
}

fn create(folder: &Path, url: &str) -> serde_json::Value {
    let words =
        ["topic", "create", "--log", url, "--kafka-replicas", "1", "--partitions", "2", "--output", "json"];
    done(nacre(folder).args(words)).json()
}

fn start(folder: &Path, url: &str) -> Server {
    Server::start(folder, &["--log", url, "--kafka-replicas", "1"])
}

fn status(folder: &Path, url: &str) -> crate::harness::Done {
    let words =
        ["log", "status", "--data", "data", "--log", url, "--kafka-replicas", "1", "--output", "json"];
    done(nacre(folder).args(words))
}

#[test]
fn what_was_acknowledged_on_kafka_outlives_a_kill_and_a_stop() {
    let Some(address) = broker() else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = url(&address);
    let made = create(folder.path(), &url);
    assert_eq!((&made["partitions"], &made["replicas"]), (&2.into(), &1.into()));
    let server = start(folder.path(), &url);
    server.ask(&["table", "create", "t"]).well();
    for n in 0..20 {
        server.ask(&["put", "t", &format!("k{n}"), &format!("v{n}")]).well();
    }
    server.kill();
    let server = start(folder.path(), &url);
    for n in 0..20 {
        assert_eq!(server.ask(&["get", "t", &format!("k{n}")]).well(), format!("v{n}"));
        assert_eq!(
            server.ask(&["get", "t", &format!("k{n}"), "--consistency", "strong"]).well(),
            format!("v{n}")
        );
    }
    server.ask(&["put", "t", "k0", "after"]).well();
    assert_eq!(server.stop(), 0);
    let server = start(folder.path(), &url);
    assert_eq!(server.ask(&["get", "t", "k0"]).well(), "after");
    assert_eq!(server.stop(), 0);
    assert!(!folder.path().join("data/log").exists(), "no log lies in the store");

    let told = status(folder.path(), &url).json();
    assert_eq!((&told["topic_id"], &told["faults"]), (&made["id"], &serde_json::json!([])));
    let partitions = told["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 2);
    assert!(partitions.iter().all(|one| one["verdict"] == "good"), "{told}");
    assert!(partitions.iter().any(|one| one["end_offset"].as_u64().unwrap() >= 21), "{told}");
}

#[test]
fn a_store_is_tied_to_its_topic_for_ever() {
    let Some(address) = broker() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (url(&address), url(&address));
    create(folder.path(), &one);
    create(folder.path(), &other);
    let server = start(folder.path(), &one);
    server.ask(&["table", "create", "t"]).well();
    assert_eq!(server.stop(), 0);
    let serve = |words: &[&str]| {
        let mut command = nacre(folder.path());
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data", "data", "--kafka-replicas", "1"])
            .args(words);
        done(&mut command)
    };
    for words in [&["--log", &other][..], &[]] {
        let said = serve(words).badly(2);
        assert!(said.contains("store-identity"), "{said}");
    }
    let said = status(folder.path(), &other);
    assert!(said.stdout.contains("another topic") && said.code == 1, "{said:?}");
}

#[test]
fn a_server_that_cannot_use_its_topic_says_why_and_ends() {
    let Some(address) = broker() else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = url(&address);
    let serve = |words: &[&str]| {
        let mut command = nacre(folder.path());
        command.args(["serve", "--listen", "127.0.0.1:0", "--data", "data", "--log", &url]).args(words);
        done(&mut command)
    };
    let said = serve(&["--kafka-replicas", "1"]).badly(3);
    assert!(said.contains("nacre topic create"), "{said}");
    create(folder.path(), &url);
    // Three replicas are what is asked for where nothing else is said.
    let said = serve(&[]).badly(2);
    assert!(said.contains("replication factor is 1 and must be at least 3"), "{said}");
    assert!(
        !folder.path().join("data/identity").exists(),
        "the store is not tied to a topic that does not do"
    );
    let words = ["topic", "create", "--log", &url, "--kafka-replicas", "1"];
    assert!(done(nacre(folder.path()).args(words)).badly(1).contains("log-topic-exists"));
}
