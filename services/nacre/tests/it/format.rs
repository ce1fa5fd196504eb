//! The format level: what older programs can still read.

use super::harness::{Http, Server, done, nacre};
use nacre_runtime::Context;
use nacre_store::{Expected, S3Settings, StoreIdentity};
use std::path::Path;

const SOURCE: &str = r#"{"source": {"kafka": {"brokers": "127.0.0.1:9", "topic": "t"}, "format": "json"}}"#;

/// A store as the first release made it.
fn first_release(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (ctx, url) = (Context::system(), format!("file:{}", folder.join("data").display()));
    let store = nacre_store::open(&url, &S3Settings::default(), &ctx).unwrap();
    let expected = Expected { catalog: "store".into(), log: "store".into(), format_level: 1 };
    runtime.block_on(StoreIdentity::open_or_create(&*store, &expected, &ctx)).unwrap();
}

#[test]
fn what_older_programs_cannot_read_is_written_only_after_the_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    first_release(folder.path());
    let format =
        |what: &str| done(nacre(folder.path()).args(["format", what, "--data", "data", "--output", "json"]));
    let server = Server::start(folder.path(), &[]);
    let (path, http) = ("/v1/namespaces/default/tables/t", Http::of(&server));
    let status = format("status").json();
    assert_eq!(
        (status["format_level"].as_u64(), status["known_level"].as_u64()),
        (Some(1), Some(2)),
        "{status}"
    );
    assert_eq!(status["processes"].as_array().map(Vec::len), Some(1), "{status}");
    let (code, problem) = http.ask("PUT", path, SOURCE);
    assert!(code == 409 && problem["type"].as_str().unwrap().contains("format-level"), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("nacre format upgrade"), "{problem}");
    assert_eq!(http.ask("GET", path, "").0, 404, "no table without the source that was asked for");

    // A process that plays every role does not say what it knows.
    assert!(format("upgrade").badly(1).contains("stop them"));
    assert_eq!(server.stop(), 0);
    assert_eq!(format("upgrade").json()["format_level"].as_u64(), Some(2));
    assert_eq!(format("upgrade").json()["format_level"].as_u64(), Some(2), "again changes nothing");

    let server = Server::start(folder.path(), &[]);
    let (_, problem) = Http::of(&server).ask("PUT", path, SOURCE);
    assert!(!problem["type"].as_str().unwrap().contains("format-level"), "{problem}");
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_new_store_has_the_newest_level() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Server::start(folder.path(), &[]).stop(), 0);
    let status = done(nacre(folder.path()).args(["format", "status", "--data", "data"])).well();
    assert!(status.contains("has format level 2; this program knows 2\n"), "{status}");
}
