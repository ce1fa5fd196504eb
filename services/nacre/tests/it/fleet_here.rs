//! A fleet of processes on one directory, with TLS between them: what of a fleet needs no service but this machine.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::bad_files::{load, said_to_be_sorted};
use crate::harness::{Http, Server, done, nacre};

const TABLE: &str = "/v1/namespaces/default/tables/t";
const TLS: [&str; 6] =
    ["--fleet-tls-cert", "cert.pem", "--fleet-tls-key", "key.pem", "--fleet-tls-ca", "ca.pem"];

/// A CA in `folder`, and a certificate of its for this machine.
fn certificates(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    std::fs::write(folder.join("ca.pem"), ca.pem()).unwrap();
    std::fs::write(folder.join("cert.pem"), own.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

fn start(folder: &Path, role: &str, more: &[&str]) -> Server {
    Server::start(folder, &[&["--role", role, "--name", role, "--shutdown-grace", "8s"], more].concat())
}

#[test]
fn roles_in_processes_of_their_own_are_one_store() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let servers: Vec<Server> = ["cache", "writer,maintainer", "loader", "dispatcher"]
        .iter()
        .map(|role| start(folder.path(), role, &TLS))
        .collect();
    let dispatcher = servers.last().unwrap();
    let http = Http::of(dispatcher);
    dispatcher.ask(&["table", "create", "t"]).well();
    for n in 0..50 {
        dispatcher.ask(&["put", "t", &format!("k{n:02}"), &format!("v{n}")]).well();
    }
    // A dispatcher has no tail: this is another process's answer.
    let (status, headers, told) = http.tell("GET", &format!("{TABLE}/rows?consistency=strong"), &[], "");
    assert_eq!((status, told["rows"].as_array().unwrap().len()), (200, 50), "{told}");
    assert!(headers.contains_key("nacre-nodes"), "{headers:?}");
    let rows: Vec<_> = (0..50).map(|n| (format!("k{n:02}"), "loaded".to_owned())).collect();
    let request = json!({ "mode": "replace", "version": "now" });
    let told = load(&http, request, &[("a.parquet", &said_to_be_sorted(&rows))]);
    assert_eq!(told["state"], "committed", "{told}");
    let token = told["token"].as_str().unwrap();
    let (status, headers, _) = http.tell("GET", &format!("{TABLE}/rows/k07"), &[("nacre-token", token)], "");
    assert_eq!((status, headers["nacre-edition"].to_str().unwrap()), (200, &*told["edition"].to_string()));

    // Flushed by the writer, seen by all.
    let begun = Instant::now();
    loop {
        let (_, told) = http.ask("GET", "/v1/nodes", "");
        assert_eq!(told["nodes"].as_array().unwrap().len(), 4, "{told}");
        let (_, described) = http.ask("GET", TABLE, "");
        if described["segments"].as_u64() > Some(0) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{described}");
        std::thread::sleep(Duration::from_millis(50));
    }

    // Who has no certificate of the fleet is told nothing.
    let (_, told) = http.ask("GET", "/v1/nodes", "");
    let cache = told["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "cache").unwrap();
    let address = cache["address"].as_str().unwrap();
    let mut stranger = std::net::TcpStream::connect(address).unwrap();
    stranger.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stranger.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut said = Vec::new();
    let _ = stranger.read_to_end(&mut said);
    // An alert of TLS at most; a server of HTTP/2 would have sent its settings, a frame of type 4.
    assert!(said.len() < 9 || said[0] == 21, "the inner port talks to strangers: {said:?}");

    // In order: nothing is lost, and everybody ends by himself.
    let acknowledged = dispatcher.ask(&["put", "t", "last", "word"]);
    acknowledged.well();
    for server in servers.into_iter().rev() {
        assert_eq!(server.stop(), 0);
    }
    let alone = Server::start(folder.path(), &[]);
    assert_eq!(alone.ask(&["get", "t", "last"]).well(), "word");
    assert_eq!(alone.stop(), 0);
}

#[test]
fn a_fleet_that_is_not_whole_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let dispatcher = start(folder.path(), "dispatcher", &[]);
    dispatcher.ask(&["table", "create", "t"]).well();
    // Writes go to the log, which needs nobody.
    dispatcher.ask(&["put", "t", "k", "v"]).well();
    let said = dispatcher.ask(&["get", "t", "k"]).badly(1);
    assert!(said.contains("no-cache-node") && said.contains("role cache"), "{said}");
    let cache = start(folder.path(), "cache", &[]);
    let begun = Instant::now();
    while dispatcher.ask(&["get", "t", "k"]).code != 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the cache node is not found");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(cache.stop(), 0);
    for words in [&["--role", "baker"][..], &["--role", "cache", "--fleet-listen", "0.0.0.0:0"]] {
        let mut command = nacre(folder.path());
        command.args(["serve", "--data", "data", "--listen", "127.0.0.1:0"]).args(words);
        done(&mut command).badly(2);
    }
}
