//! How operations may fail: what handlers need not say one by one, because it follows from an operation's form.
//!
//! Every status is listed, and there is no `default`: a status that an operation does not name is a finding of the
//! contract's test.

use std::collections::BTreeMap;

use nacre_api::PROBLEM_JSON;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{
    ContentBuilder, HeaderBuilder, OpenApi, PathItem, Ref, RefOr, Response, ResponseBuilder,
};

/// Status, name among the document's components, and what it means.
const FAILURES: [(u16, &str, &str); 18] = [
    (
        401,
        "Unauthorized",
        "The server wants an access token, and this is none that it knows; the type says why.",
    ),
    (403, "Forbidden", "The access token does not allow this; the detail says what is lacking."),
    (404, "NotFound", "There is no such namespace, table or load; the type says which."),
    (405, "MethodNotAllowed", "The path takes other methods; Allow lists them."),
    (406, "NotAcceptable", "Accept names no form that the answer has."),
    (408, "BodyTimeout", "The body did not arrive within the limit body_timeout."),
    (409, "Conflict", "The thing is in another state; read it again and decide."),
    (410, "Gone", "page-token-expired or edition-gone: begin the scan anew."),
    (413, "TooLarge", "A key, value, body or batch is beyond the limit that the detail names."),
    (414, "UriTooLong", "Path and query are beyond the limit uri_bytes."),
    (415, "MediaType", "The body's content type is not taken here."),
    (422, "Invalid", "The request is wrong; the detail names what, and what would be right."),
    (429, "Throttled", "A limit or quota was hit; try again after Retry-After."),
    (431, "HeadersTooLarge", "The headers are beyond the limit header_bytes."),
    (500, "Internal", "A bug, or bytes at rest that are not what was written."),
    (501, "NotImplemented", "Part of the API, but not built yet."),
    (
        503,
        "Unavailable",
        "Overloaded, too stale for what was asked, or a part does not answer; try again after Retry-After.",
    ),
    (
        504,
        "Deadline",
        "Not done within the deadline. Of a write `applied: unknown`: it may have had its effect, or may yet.",
    ),
];

/// Adds to every operation the failures that it may answer and does not list itself.
pub(super) fn describe(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    for (_, name, description) in FAILURES {
        components.responses.insert(name.to_owned(), response(name, description).into());
    }
    for (path, item) in &mut document.paths.paths {
        for (writes, operation) in operations(item) {
            let possible = possible(path, writes, operation);
            let listed = &mut operation.responses.responses;
            for (status, name, _) in FAILURES.iter().filter(|(status, ..)| possible.contains(status)) {
                let shared = || RefOr::Ref(Ref::from_response_name(*name));
                listed.entry(status.to_string()).or_insert_with(shared);
            }
        }
    }
}

/// The operations of a path, and whether each writes.
pub(super) fn operations(item: &mut PathItem) -> impl Iterator<Item = (bool, &mut Operation)> {
    let reads = item.get.as_mut().map(|operation| (false, operation));
    let writes = [&mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
    reads.into_iter().chain(writes.into_iter().flatten().map(|operation| (true, operation)))
}

fn possible(path: &str, writes: bool, operation: &Operation) -> Vec<u16> {
    let takes = |name: &str| {
        let parameters = operation.parameters.iter().flatten();
        parameters.filter_map(concrete).any(|parameter| parameter.name == name)
    };
    let mut possible = vec![414, 422, 431, 500];
    const ASKED_WHO: [&str; 3] = ["/v1/namespaces", "/v1/tokens", "/v1/nodes"];
    if !ASKED_WHO.iter().any(|start| path.starts_with(start)) {
        return possible;
    }
    possible.extend([401, 403, 429, 503, 504]);
    if path.contains("{ns}") {
        possible.push(404);
    }
    if operation.request_body.is_some() {
        possible.extend([408, 413, 415]);
    }
    if path.contains("/rows") || path.ends_with(":batchGet") {
        possible.push(413);
        if takes("consistency") {
            possible.extend([410, 501]);
        }
    }
    if path.contains(":batch") {
        possible.push(406);
    }
    if writes && !takes("consistency") {
        possible.push(409);
    }
    possible
}

fn concrete(
    parameter: &RefOr<utoipa::openapi::path::Parameter>,
) -> Option<&utoipa::openapi::path::Parameter> {
    match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    }
}

fn response(name: &str, description: &str) -> Response {
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let header = |kind, description: &str| {
        HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(kind)))
            .description(Some(description))
            .build()
    };
    let mut headers =
        BTreeMap::from([("nacre-request-id", header(Type::String, "Names the request in logs"))]);
    match name {
        "Throttled" | "Unavailable" => {
            headers.insert("retry-after", header(Type::Integer, "Seconds"));
        }
        "Unauthorized" => {
            headers.insert("www-authenticate", header(Type::String, "Bearer"));
        }
        "MethodNotAllowed" => {
            headers.insert("allow", header(Type::String, "Methods"));
        }
        _ => {}
    }
    let mut response = ResponseBuilder::new().description(description).content(PROBLEM_JSON, problem);
    for (name, header) in headers {
        response = response.header(name, header);
    }
    response.build()
}
