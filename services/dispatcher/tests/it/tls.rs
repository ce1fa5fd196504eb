//! The same server over TLS.

use std::time::Duration;

use nacre_dispatcher::Config;
use nacre_tls::{Client as Tls, ClientFiles, ServerFiles};
use rcgen::{CertificateParams, KeyPair};
use reqwest::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Harness, TABLE, config};

struct World {
    h: Harness,
    tls: Tls,
    _folder: tempfile::TempDir,
}

async fn world(more: impl FnOnce(Config) -> Config) -> World {
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let files = ServerFiles {
        certificate: folder.path().join("cert.pem"),
        key: folder.path().join("key.pem"),
        client_ca: None,
    };
    std::fs::write(&files.certificate, certificate.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    let tls = Tls::open(ClientFiles { ca: Some(files.certificate.clone()), certificate: None }).unwrap();
    let h = Harness::with(more(Config { tls: Some(files), ..config() })).await;
    World { h, tls, _folder: folder }
}

impl World {
    fn client(&self, http1: bool) -> Client {
        let mut tls = (*self.tls.config()).clone();
        if http1 {
            tls.alpn_protocols.clear();
        }
        Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.h.address)
    }
}

#[tokio::test]
async fn rows_travel_over_tls_by_both_protocols() {
    let w = world(|config| config).await;
    for http1 in [false, true] {
        let client = w.client(http1);
        let made = client.put(w.url(TABLE)).body("{}").send().await.unwrap();
        assert!(made.status().is_success());
        let expected = if http1 { http::Version::HTTP_11 } else { http::Version::HTTP_2 };
        assert_eq!(made.version(), expected);
        // Longer than a record of TLS and than a socket takes at once.
        let value = "v".repeat(900_000);
        let row = w.url(&format!("{TABLE}/rows/k"));
        assert_eq!(client.put(&row).body(value.clone()).send().await.unwrap().status(), 204);
        assert_eq!(client.get(&row).send().await.unwrap().text().await.unwrap(), value);
    }
}

#[tokio::test]
async fn plain_http_is_told_so_and_closed() {
    let w = world(|config| config).await;
    let mut stream = TcpStream::connect(w.h.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("this port speaks TLS"), "{answer}");
    // And the server goes on.
    assert_eq!(w.client(false).get(w.url("/healthz")).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn who_does_not_finish_a_handshake_is_cut_off() {
    let w = world(|config| Config { header_timeout: Duration::from_millis(200), ..config }).await;
    for begin in [&b""[..], &[22, 3, 1]] {
        let mut stream = TcpStream::connect(w.h.address).await.unwrap();
        stream.write_all(begin).await.unwrap();
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok() && answer.is_empty(), "{answer:?}");
    }
}

#[tokio::test]
async fn a_server_over_tls_ends_in_order() {
    let w = world(|config| config).await;
    let client = w.client(false);
    assert_eq!(client.get(w.url("/healthz")).send().await.unwrap().status(), 200);
    w.h.ctx.tasks.shutdown();
    tokio::time::timeout(Duration::from_secs(10), w.h.served).await.unwrap().unwrap();
}
