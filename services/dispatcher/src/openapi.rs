//! `openapi.json`, generated from the handlers and held against the copy that is checked in, and the page for people.

use utoipa::{IntoParams, OpenApi};

use crate::handlers;

mod failures;
mod forms;

/// The document that is checked in; a test holds it against [`generate`].
pub const CHECKED_IN: &str = include_str!("../../../openapi.json");

/// The page at `/docs`.
pub const DOCS_PAGE: &str = include_str!("docs.html");

/// What requests take whose path or query holds a key.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
pub(crate) struct KeyParams {
    /// `text` (percent-encoded, the default) or `base64url`.
    key_encoding: Option<String>,
}

/// What all reads take.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
pub(crate) struct ReadParams {
    /// `eventual`, `session` or `strong`; the table's unless said.
    consistency: Option<String>,
    /// Bounds the age of an eventual answer; unmet by the deadline it is a 503.
    max_staleness_ms: Option<u64>,
    /// `serve`: a staler answer is better than none; `fail` is the default.
    on_stale: Option<String>,
    /// The largest version that may answer.
    as_of: Option<i64>,
    /// A prepared load that is shown as if it were committed.
    load: Option<String>,
}

/// What all reads take in their headers.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code)]
pub(crate) struct ReadHeaders {
    /// What the client has seen, so that it reads its own writes; several joined by commas.
    #[param(rename = "nacre-token")]
    nacre_token: Option<String>,
    /// How long the answer may take.
    #[param(rename = "nacre-deadline-ms")]
    nacre_deadline_ms: Option<u64>,
    /// `high`, `normal` or `low`.
    #[param(rename = "nacre-priority")]
    nacre_priority: Option<String>,
}

/// What all writes take.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code)]
pub(crate) struct WriteParams {
    /// Makes an unversioned write repeatable: a repeat is applied at most once.
    #[param(rename = "idempotency-key")]
    idempotency_key: Option<String>,
    /// Of a repeat: when it was first attempted, in microseconds since the epoch.
    #[param(rename = "nacre-first-attempt")]
    nacre_first_attempt: Option<i64>,
    /// How long the answer may take; past it the outcome is unknown.
    #[param(rename = "nacre-deadline-ms")]
    nacre_deadline_ms: Option<u64>,
    /// `high`, `normal` or `low`.
    #[param(rename = "nacre-priority")]
    nacre_priority: Option<String>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "nacre",
        version = "1",
        description = "A key-value store for derived data over an object store. Errors are application/problem+json (RFC 9457); keys are percent-encoded in paths and queries; integers beyond 2^53 are strings in JSON and both forms are accepted."
    ),
    paths(
        handlers::namespaces::list,
        handlers::namespaces::describe,
        handlers::namespaces::create,
        handlers::tables::list,
        handlers::tables::describe,
        handlers::tables::create,
        handlers::tables::update,
        handlers::tables::delete,
        handlers::rows::get,
        handlers::rows::put,
        handlers::rows::delete,
        handlers::rows::get_by_query,
        handlers::rows::get_by_body,
        handlers::rows::versions,
        handlers::rows::explain,
        handlers::scan::scan,
        handlers::batch_get::batch_get,
        handlers::batch_write::batch_write,
        handlers::namespace_batch_get::batch_get,
        handlers::loads::begin,
        handlers::loads::list,
        handlers::loads::describe,
        handlers::loads::prepare,
        handlers::loads::commit,
        handlers::loads::cancel,
        handlers::loads::revert,
        handlers::loads::files,
        handlers::loads::put_file,
        handlers::nodes::list,
        handlers::tokens::list,
        handlers::tokens::create,
        handlers::tokens::describe,
        handlers::tokens::update,
        handlers::tokens::revoke,
        handlers::tokens::list_store,
        handlers::tokens::create_store,
        handlers::tokens::describe_store,
        handlers::tokens::update_store,
        handlers::tokens::revoke_store,
        handlers::ops::healthz,
        handlers::ops::readyz,
        handlers::ops::metrics,
        handlers::ops::limits,
        handlers::ops::openapi,
        handlers::ops::docs,
    ),
    components(schemas(nacre_api::Problem))
)]
struct Document;

/// The document as the handlers describe it, pretty, with a line break at its end.
pub fn generate() -> String {
    let mut document = Document::openapi();
    failures::describe(&mut document);
    forms::describe(&mut document);
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_in_document_is_what_the_handlers_say() {
        assert!(
            generate() == CHECKED_IN,
            "openapi.json is stale; write it anew: cargo test -p nacre-dispatcher write_openapi -- --ignored"
        );
    }

    #[test]
    #[ignore = "writes openapi.json into the checkout"]
    fn write_openapi() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi.json"), generate()).unwrap();
    }

    #[test]
    fn every_operation_is_routed_and_what_comes_later_is_not_listed() {
        let document: serde_json::Value = serde_json::from_str(&generate()).unwrap();
        let mut ids = std::collections::BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let concrete = path
                .replace("{ns}", "n")
                .replace("{table}", "t")
                .replace("{key}", "k")
                .replace("{id}", "1")
                .replace("{name}", "f");
            let route = nacre_api::Route::parse(&concrete);
            assert!(!matches!(route, nacre_api::Route::Unknown | nacre_api::Route::Later(_)), "{path}");
            for (method, operation) in item.as_object().unwrap() {
                assert!(route.allow().contains(&method.to_uppercase()), "{method} {path}");
                assert!(
                    ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                    "{method} {path}: {operation}"
                );
                assert!(operation["tags"][0].is_string() && operation["responses"].is_object());
            }
        }
        for later in
            ["snapshots", "changes", "erase", "jobs", "console", "clone", "truncate", "undrop", "usage"]
        {
            assert!(
                !document["paths"].as_object().unwrap().keys().any(|path| path.contains(later)),
                "{later}"
            );
        }
    }

    #[test]
    fn the_page_for_people_needs_nothing_from_elsewhere() {
        for outside in ["http://", "https://", "src=", "@import", "url("] {
            assert!(!DOCS_PAGE.contains(outside), "{outside}");
        }
    }
}
