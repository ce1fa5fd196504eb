//! The server on an S3 store, with its catalog and log in the same bucket. `NACRE_TEST_S3_ENDPOINT` names the servers to
//! try, as in nacre-store's own tests.

use crate::harness::{Server, done, nacre, named_servers, sample, sample_value};
use nacre_runtime::Context;
use nacre_store::{AwsCredentials, S3Settings, S3Store};
use std::path::Path;
use std::process::Command;

pub(crate) const BUCKET: &str = "nacre-test";
/// A bucket that keeps versions.
const VERSIONS: &str = "nacre-test-versions";

/// The S3 servers that run; says so where there are none.
pub(crate) fn servers() -> Vec<(String, String)> {
    named_servers("NACRE_TEST_S3_ENDPOINT", "S3 servers, as name=http://host:port")
}

/// A new place in a bucket, which is made if it is missing.
pub(crate) fn place(endpoint: &str, bucket: &str) -> String {
    let settings = S3Settings {
        credentials: AwsCredentials::Keys {
            access_key: "test".into(),
            secret_key: "testtest".into(),
            session_token: None,
        },
        endpoint: Some(endpoint.to_owned()),
        allow_http: true,
        ..S3Settings::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ctx = Context::system();
    let url = format!("s3://{bucket}/{:032x}", ctx.ids.random_u128());
    runtime.block_on(async {
        let store = S3Store::open(&url, &settings, &ctx).unwrap();
        // Several tests make it at once, which some servers answer with 500 although it is made then.
        for last in [false, false, false, true] {
            match store.create_bucket().await {
                Ok(()) => break,
                Err(error) => assert!(!last, "{error}"),
            }
        }
        if bucket == VERSIONS {
            store.keep_versions().await.unwrap();
        }
    });
    url
}

/// The program with the variables of an S3 store, and with none of the caller's own.
pub(crate) fn over(folder: &Path, endpoint: &str, secret: &str) -> Command {
    let mut command = nacre(folder);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command
        .env("HOME", folder)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .env("AWS_ENDPOINT_URL_S3", endpoint)
        .env("AWS_ALLOW_HTTP", "true");
    command
}

#[test]
fn what_was_acknowledged_on_s3_outlives_a_kill_and_a_stop() {
    for (name, endpoint) in servers() {
        let folder = tempfile::tempdir().unwrap();
        let url = place(&endpoint, BUCKET);
        let start = || {
            Server::start_by(over(folder.path(), &endpoint, "testtest"), folder.path(), &["--store", &url])
        };
        let server = start();
        server.ask(&["table", "create", "t"]).well();
        for n in 0..20 {
            server.ask(&["put", "t", &format!("k{n}"), &format!("v{n}")]).well();
        }
        server.kill();
        let server = start();
        for n in 0..20 {
            assert_eq!(server.ask(&["get", "t", &format!("k{n}")]).well(), format!("v{n}"), "{name}");
        }
        server.ask(&["put", "t", "k0", "after"]).well();
        assert_eq!(server.stop(), 0, "{name}");
        let server = start();
        assert_eq!(server.ask(&["get", "t", "k0"]).well(), "after", "{name}");
        assert_eq!(server.stop(), 0, "{name}");
        assert!(!folder.path().join("data").exists(), "{name}: nothing lies on this machine");
    }
}

#[test]
fn files_are_loaded_into_s3_and_read_from_there() {
    for (name, endpoint, bucket) in servers()
        .into_iter()
        .flat_map(|(name, url)| [(name.clone(), url.clone(), BUCKET), (name, url, VERSIONS)])
    {
        let folder = tempfile::tempdir().unwrap();
        let url = place(&endpoint, bucket);
        let start = || {
            Server::start_by(over(folder.path(), &endpoint, "testtest"), folder.path(), &["--store", &url])
        };
        let server = start();
        server.ask(&["table", "create", "t"]).well();
        for (file, outcome) in [
            ("spark4-aligned128-sorted-tombstones.parquet", "adopted"),
            ("pyarrow-default-unsorted-tombstones.parquet", "rewritten"),
        ] {
            let path = sample(file);
            let words = ["--mode", "replace", "--version", "1700000000000000", "--version-column", "version"];
            let all = [&["load", "t", path.to_str().unwrap(), "--output", "json"][..], &words].concat();
            let load = server.ask(&all).json();
            assert_eq!(load["state"], "committed", "{name}: {file}: {load}");
            let staging = load["staging_url"].as_str().unwrap();
            assert!(staging.starts_with(&format!("{url}/staging/")), "{name}: {staging}");
            let id = load["load_id"].as_str().unwrap();
            let files = server.ask(&["loads", "files", "t", id, "--output", "json"]).json();
            assert_eq!(files[0]["outcome"], outcome, "{name}: {files}");
        }
        server.stop();
        let server = start();
        let rows = server.ask(&["scan", "t", "--limit", "0", "--output", "json"]).well();
        let expected = (0..5_000).filter(|n| sample_value(*n).is_some() && n % 5 != 0).count();
        assert_eq!(rows.lines().count(), expected, "{name}");
        assert_eq!(server.stop(), 0, "{name}");
    }
}

#[test]
fn a_server_that_cannot_use_its_bucket_says_why_and_ends() {
    for (name, endpoint) in servers() {
        let folder = tempfile::tempdir().unwrap();
        let url = place(&endpoint, BUCKET);
        let serve = |secret: &str, endpoint: &str, url: &str| {
            let mut command = over(folder.path(), endpoint, secret);
            command.args(["serve", "--listen", "127.0.0.1:0", "--store", url]);
            done(&mut command).badly(1)
        };
        let said = serve("testtest", &endpoint, "s3://nacre-not-there/x");
        assert!(said.contains("no bucket nacre-not-there"), "{name}: {said}");
        let said = serve("testtest", "http://127.0.0.1:9", &url);
        assert!(said.contains("no connection to http://127.0.0.1:9"), "{name}: {said}");
        // ministack takes any keys.
        if name == "versitygw" {
            let said = serve("canary-secret", &endpoint, &url);
            assert!(said.contains("AWS_SECRET_ACCESS_KEY") && !said.contains("canary"), "{name}: {said}");
        }
    }
}
