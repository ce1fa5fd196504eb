//! Handshakes over sockets, with certificates made for the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use nacre_tls::{Client, ClientFiles, HANDSHAKE_LIMIT, REREAD_EVERY, Server, ServerFiles, is_http2};
use nacre_types::{ErrorKind, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn write_root(&self, path: &Path) -> PathBuf {
        std::fs::write(path, self.0.pem()).unwrap();
        path.to_owned()
    }

    /// A certificate and its key, at `<name>.pem` and `<name>.key`.
    fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let paths = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        std::fs::write(&paths.0, certificate.pem()).unwrap();
        std::fs::write(&paths.1, key.serialize_pem()).unwrap();
        paths
    }
}

struct World {
    folder: tempfile::TempDir,
    authority: Authority,
    server: ServerFiles,
    client: ClientFiles,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ca = authority.write_root(&folder.path().join("ca.pem"));
    let (certificate, key) = authority.write(folder.path(), "server");
    let server = ServerFiles { certificate, key, client_ca: None };
    World { folder, authority, server, client: ClientFiles { ca: Some(ca), certificate: None } }
}

/// Shakes hands and sends a word there and back; answers both sides' outcomes, the server's with whether it is HTTP/2.
async fn talk(server: &Server, client: &Client, host: &str) -> (Result<bool>, Result<()>) {
    let (near, far) = duplex(64 << 10);
    let serve = async {
        let mut stream = server.accept(far).await?;
        let http2 = is_http2(&stream);
        let mut word = [0; 4];
        // A client that was refused leaves.
        if stream.read_exact(&mut word).await.is_ok() {
            stream.write_all(&word).await.unwrap();
            stream.shutdown().await.unwrap();
        }
        Ok(http2)
    };
    let ask = async {
        let mut stream = client.connect(host, near).await?;
        let failed = |error: std::io::Error| nacre_types::Error::unavailable(error.to_string());
        stream.write_all(b"word").await.map_err(failed)?;
        let mut word = Vec::new();
        stream.read_to_end(&mut word).await.map_err(failed)?;
        assert_eq!(word, b"word");
        Ok(())
    };
    tokio::join!(serve, ask)
}

#[tokio::test]
async fn two_sides_that_trust_each_other_talk_http2() {
    let w = world();
    let (server, client) = (Server::open(w.server).unwrap(), Client::open(w.client).unwrap());
    for host in ["localhost", "127.0.0.1"] {
        let (served, asked) = talk(&server, &client, host).await;
        assert!(served.unwrap(), "HTTP/2 was not agreed on");
        asked.unwrap();
    }
}

#[tokio::test]
async fn a_server_of_another_name_or_authority_is_refused() {
    let w = world();
    let server = Server::open(w.server.clone()).unwrap();
    let client = Client::open(w.client.clone()).unwrap();
    for host in ["example.org", "127.0.0.2", "[::1]"] {
        let error = talk(&server, &client, host).await.1.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "tls-handshake"), "{host}");
    }
    assert_eq!(talk(&server, &client, "not a name").await.1.unwrap_err().code(), "server-name");
    let stranger = Authority::new().write_root(&w.folder.path().join("other.pem"));
    let client = Client::open(ClientFiles { ca: Some(stranger), certificate: None }).unwrap();
    assert_eq!(talk(&server, &client, "localhost").await.1.unwrap_err().code(), "tls-handshake");
}

#[tokio::test]
async fn a_server_that_asks_for_certificates_takes_only_those_of_its_authority() {
    let w = world();
    let files = ServerFiles { client_ca: w.client.ca.clone(), ..w.server.clone() };
    let server = Server::open(files).unwrap();
    let without = Client::open(w.client.clone()).unwrap();
    let stranger = Authority::new().write(w.folder.path(), "stranger");
    let strange = Client::open(ClientFiles { certificate: Some(stranger), ..w.client.clone() }).unwrap();
    for client in [without, strange] {
        let (served, asked) = talk(&server, &client, "localhost").await;
        assert_eq!(served.unwrap_err().code(), "tls-handshake");
        assert!(asked.is_err());
    }
    let own = w.authority.write(w.folder.path(), "client");
    let client = Client::open(ClientFiles { certificate: Some(own), ..w.client }).unwrap();
    let (served, asked) = talk(&server, &client, "localhost").await;
    served.unwrap();
    asked.unwrap();
}

#[tokio::test]
async fn files_that_make_no_sense_are_named() {
    let w = world();
    let (other, other_key) = w.authority.write(w.folder.path(), "other");
    let empty = w.folder.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let absent = w.folder.path().join("absent");
    for (files, named) in [
        (ServerFiles { certificate: absent.clone(), ..w.server.clone() }, "absent"),
        (ServerFiles { certificate: empty.clone(), ..w.server.clone() }, "empty"),
        (ServerFiles { key: empty.clone(), ..w.server.clone() }, "empty"),
        (ServerFiles { key: other, ..w.server.clone() }, "other.pem"),
        (ServerFiles { key: other_key, ..w.server.clone() }, "server.pem"),
        (ServerFiles { client_ca: Some(w.server.key.clone()), ..w.server.clone() }, "server.key"),
    ] {
        let error = Server::open(files.clone()).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "tls-files"), "{files:?}");
        assert!(error.detail().contains(named), "{error}");
    }
    assert_eq!(
        Client::open(ClientFiles { ca: Some(empty), certificate: None }).unwrap_err().code(),
        "tls-files"
    );
}

#[tokio::test(start_paused = true)]
async fn certificates_are_renewed_by_replacing_their_files_and_broken_ones_change_nothing() {
    let w = world();
    let server = Server::open(w.server.clone()).unwrap();
    let old = Client::open(w.client.clone()).unwrap();
    let renewed = Authority::new();
    let ca = renewed.write_root(&w.folder.path().join("ca2.pem"));
    let new = Client::open(ClientFiles { ca: Some(ca), certificate: None }).unwrap();
    assert!(!server.reload().unwrap(), "nothing changed yet");
    // Half of a renewal: the certificate without its key.
    let (certificate, key) = renewed.write(w.folder.path(), "next");
    std::fs::copy(&certificate, &w.server.certificate).unwrap();
    assert!(server.reload().is_err());
    assert!(!server.reload().unwrap(), "told once");
    talk(&server, &old, "localhost").await.1.unwrap();
    std::fs::remove_file(&w.server.key).unwrap();
    assert!(server.reload().is_err());
    assert!(!server.reload().unwrap(), "told once");
    std::fs::copy(&key, &w.server.key).unwrap();
    tokio::select! {
        () = server.keep_fresh() => {}
        () = tokio::time::sleep(REREAD_EVERY + Duration::from_secs(1)) => {}
    }
    talk(&server, &new, "localhost").await.1.unwrap();
    assert!(talk(&server, &old, "localhost").await.1.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_given_up() {
    let w = world();
    let server = Server::open(w.server).unwrap();
    let (_near, far) = duplex(1_024);
    let begun = tokio::time::Instant::now();
    assert_eq!(server.accept(far).await.unwrap_err().code(), "tls-handshake");
    assert_eq!(begun.elapsed(), HANDSHAKE_LIMIT);
}

#[tokio::test]
async fn plain_http_is_no_handshake() {
    let w = world();
    let server = Server::open(w.server).unwrap();
    let (mut near, far) = duplex(1_024);
    near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(server.accept(far).await.unwrap_err().code(), "tls-handshake");
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.first(), Some(&21), "an alert, and the end");
}
