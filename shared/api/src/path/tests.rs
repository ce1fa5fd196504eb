use super::*;
use crate::{KeyEncoding, key_from_text};
use nacre_types::KeySchema;
use proptest::prelude::*;

fn of(verb: Verb<'_>) -> Route<'_> {
    Route::Table { ns: "n", table: "t", verb }
}

#[test]
fn every_path_of_the_api_names_its_route() {
    let table = "/v1/namespaces/n/tables/t";
    for (path, route) in [
        ("", of(Verb::Describe)),
        ("/rows", of(Verb::Scan)),
        ("/rows:get", of(Verb::Get)),
        ("/rows:batchGet", of(Verb::BatchGet)),
        ("/rows:batchWrite", of(Verb::BatchWrite)),
        ("/rows/k", of(Verb::Row("k"))),
        ("/rows/", of(Verb::Row(""))),
        ("/rows/k/versions", of(Verb::Versions("k"))),
        ("/rows/k:explain", of(Verb::Explain("k"))),
        ("/rows/a:b", of(Verb::Row("a:b"))),
        ("/rows/a%3Aexplain", of(Verb::Row("a%3Aexplain"))),
        ("/rows/versions", of(Verb::Row("versions"))),
        ("/loads", of(Verb::Loads)),
        ("/loads/1", of(Verb::Load("1"))),
        ("/loads/1:commit", of(Verb::Commit("1"))),
        ("/loads/1:prepare", of(Verb::Prepare("1"))),
        ("/loads/1:cancel", of(Verb::Cancel("1"))),
        ("/loads/1:revert", of(Verb::Revert("1"))),
        ("/loads/1/files", of(Verb::LoadFiles("1"))),
        ("/loads/1/files/a/b.parquet", of(Verb::LoadFile("1", "a/b.parquet"))),
        ("/snapshots/x", Route::Later("snapshots")),
        ("/files", Route::Later("files")),
        ("/changes", Route::Later("the change feed")),
        ("/:erase", Route::Later("erase")),
        (":truncate", Route::Later("truncate")),
        (":undrop", Route::Later("undrop")),
        ("/rows/a/b", Route::Unknown),
        ("/rows:", Route::Unknown),
        ("/loads/1:x", Route::Unknown),
    ] {
        assert_eq!(Route::parse(&format!("{table}{path}")), route, "{path}");
    }
    for (path, route) in [
        ("/healthz", Route::Healthz),
        ("/v1/limits", Route::Limits),
        ("/v1/namespaces", Route::Namespaces),
        ("/v1/namespaces/n", Route::Namespace("n")),
        ("/v1/namespaces/n:batchGet", Route::NamespaceBatchGet("n")),
        ("/v1/namespaces/n/tables", Route::Tables("n")),
        ("/v1/namespaces/n/tokens", Route::Tokens(Some("n"))),
        ("/v1/namespaces/n/tokens/1", Route::Token(Some("n"), "1")),
        ("/v1/namespaces/n/tokens/1/x", Route::Unknown),
        ("/v1/tokens", Route::Tokens(None)),
        ("/v1/tokens/1", Route::Token(None, "1")),
        ("/v1/tokens/1:x", Route::Unknown),
        ("/v1/nodes", Route::Nodes),
        ("/console/x", Route::Later("the console")),
        ("/", Route::Unknown),
        ("", Route::Unknown),
        ("//healthz", Route::Unknown),
    ] {
        assert_eq!(Route::parse(path), route, "{path}");
    }
}

#[test]
fn what_finds_no_handler_is_told_why() {
    let get = http::Method::GET;
    assert_eq!(Route::Unknown.refuse(&get).code(), "path-not-found");
    assert_eq!(Route::Later("jobs").refuse(&get).code(), "not-implemented");
    let error = of(Verb::BatchGet).refuse(&get);
    assert_eq!(error.code(), "method-not-allowed");
    assert!(error.detail().contains("POST"));
}

#[test]
fn class_numbers_follow_their_order() {
    for (number, class) in RouteClass::ALL.iter().enumerate() {
        assert_eq!(*class as usize, number);
    }
}

proptest! {
    #[test]
    fn any_key_survives_its_path(key in proptest::collection::vec(any::<u8>(), 1..64), suffix in 0..3usize) {
        let suffix = ["", "/versions", ":explain"][suffix];
        let path = row_path("/v1/namespaces/n/tables/t", &key, suffix);
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        let encoding =
            if query.is_empty() { KeyEncoding::Text } else { KeyEncoding::Base64Url };
        let raw = match (suffix, Route::parse(path)) {
            ("", Route::Table { verb: Verb::Row(raw), .. })
            | ("/versions", Route::Table { verb: Verb::Versions(raw), .. })
            | (":explain", Route::Table { verb: Verb::Explain(raw), .. }) => raw,
            (_, other) => return Err(TestCaseError::fail(format!("{other:?}"))),
        };
        prop_assert_eq!(&*key_from_text(raw, encoding, &KeySchema::Bytes).unwrap(), &key[..]);
    }

    #[test]
    fn no_path_panics(path in "(/v1/namespaces/n/tables/t)?[/:a-z%0-9.é]{0,40}") {
        let route = Route::parse(&path);
        let _ = (route.allow(), route.class(&http::Method::GET), route.refuse(&http::Method::PUT));
    }
}
