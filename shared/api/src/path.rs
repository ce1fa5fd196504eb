//! Paths: what a request names, from the raw path and back.
//!
//! A key stands in one segment, percent-encoded, so that it may hold anything (`/` is `%2F`, NUL is `%00`). A `:verb` is
//! one only where its colon and letters are literal: the key `a:explain` is written `a%3Aexplain`. Hence the raw path is
//! taken apart before anything is decoded, and no router that decodes first can be used.

use nacre_types::{Error, ErrorKind, LoadId, NamespaceName, Result, TableName};
use std::fmt::Write as _;

/// What a path names. Names and keys are still as they stand in the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// `/healthz`
    Healthz,
    /// `/readyz`
    Readyz,
    /// `/metrics`
    Metrics,
    /// `/openapi.json`
    OpenApi,
    /// `/docs`
    Docs,
    /// `/v1/limits`
    Limits,
    /// `/v1/nodes`
    Nodes,
    /// `/v1/namespaces`
    Namespaces,
    /// `/v1/namespaces/{ns}`
    Namespace(&'a str),
    /// `/v1/namespaces/{ns}:batchGet`
    NamespaceBatchGet(&'a str),
    /// `/v1/namespaces/{ns}/tables`
    Tables(&'a str),
    /// `/v1/namespaces/{ns}/tokens`, or without a namespace `/v1/tokens`
    Tokens(Option<&'a str>),
    /// `/v1/namespaces/{ns}/tokens/{id}`, or without a namespace `/v1/tokens/{id}`
    Token(Option<&'a str>, &'a str),
    /// Something of a table.
    Table {
        /// The namespace.
        ns: &'a str,
        /// The table.
        table: &'a str,
        /// What of it.
        verb: Verb<'a>,
    },
    /// Part of the API, but not built yet: its name.
    Later(&'static str),
    /// Nothing.
    Unknown,
}

/// What of a table a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb<'a> {
    /// The table itself.
    Describe,
    /// `/rows`
    Scan,
    /// `/rows:get`
    Get,
    /// `/rows:batchGet`
    BatchGet,
    /// `/rows:batchWrite`
    BatchWrite,
    /// `/rows/{key}`
    Row(&'a str),
    /// `/rows/{key}/versions`
    Versions(&'a str),
    /// `/rows/{key}:explain`
    Explain(&'a str),
    /// `/loads`
    Loads,
    /// `/loads/{id}`
    Load(&'a str),
    /// `/loads/{id}:prepare`
    Prepare(&'a str),
    /// `/loads/{id}:commit`
    Commit(&'a str),
    /// `/loads/{id}:cancel`
    Cancel(&'a str),
    /// `/loads/{id}:revert`
    Revert(&'a str),
    /// `/loads/{id}/files`
    LoadFiles(&'a str),
    /// `/loads/{id}/files/{name}`
    LoadFile(&'a str, &'a str),
}

macro_rules! classes {
    ($($name:ident = $text:literal,)*) => {
        /// Routes without their names: what metrics tell apart.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)]
        #[repr(usize)]
        pub enum RouteClass { $($name,)* }

        impl RouteClass {
            /// Every class, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word in metrics and access logs.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

classes! {
    Ops = "ops", Nodes = "nodes", Namespaces = "namespaces", Tables = "tables", Get = "get", Put = "put", Delete = "delete",
    Versions = "versions", Explain = "explain", Scan = "scan", BatchGet = "batch_get", BatchWrite = "batch_write",
    NamespaceBatchGet = "namespace_batch_get", Loads = "loads", LoadFile = "load_file", Tokens = "tokens",
    Later = "later", Unknown = "unknown",
}

impl<'a> Route<'a> {
    /// Takes a raw path (no query) apart.
    pub fn parse(path: &'a str) -> Self {
        match path {
            "/healthz" => Self::Healthz,
            "/readyz" => Self::Readyz,
            "/metrics" => Self::Metrics,
            "/openapi.json" => Self::OpenApi,
            "/docs" => Self::Docs,
            "/v1/limits" => Self::Limits,
            "/console" => Self::Later("the console"),
            _ => match path.strip_prefix("/v1/") {
                Some(rest) => Self::parse_v1(rest),
                None if path.starts_with("/console/") => Self::Later("the console"),
                None => Self::Unknown,
            },
        }
    }

    fn parse_v1(rest: &'a str) -> Self {
        let (collection, rest) = split(rest);
        match (collection, rest) {
            ("namespaces", None) => Self::Namespaces,
            ("namespaces", Some(rest)) => Self::parse_namespace(rest),
            ("nodes", None) => Self::Nodes,
            ("jobs", _) => Self::Later("jobs"),
            ("tokens", rest) => Self::parse_tokens(None, rest),
            ("usage", _) => Self::Later("usage"),
            _ => Self::Unknown,
        }
    }

    fn parse_tokens(ns: Option<&'a str>, rest: Option<&'a str>) -> Self {
        match rest {
            None => Self::Tokens(ns),
            Some(id) if !id.contains(['/', ':']) => Self::Token(ns, id),
            Some(_) => Self::Unknown,
        }
    }

    fn parse_namespace(rest: &'a str) -> Self {
        let (ns, rest) = split(rest);
        let Some(rest) = rest else {
            return match ns.split_once(':') {
                None => Self::Namespace(ns),
                Some((ns, "batchGet")) => Self::NamespaceBatchGet(ns),
                Some(_) => Self::Unknown,
            };
        };
        match split(rest) {
            ("tables", None) => Self::Tables(ns),
            ("tables", Some(rest)) => Self::parse_table(ns, rest),
            ("tokens", rest) => Self::parse_tokens(Some(ns), rest),
            ("usage", _) => Self::Later("usage"),
            _ => Self::Unknown,
        }
    }

    fn parse_table(ns: &'a str, rest: &'a str) -> Self {
        let (table, rest) = split(rest);
        let of = |table, verb| Self::Table { ns, table, verb };
        let Some(rest) = rest else {
            return match table.split_once(':') {
                None => of(table, Verb::Describe),
                Some((_, "undrop")) => Self::Later("undrop"),
                Some((_, "truncate")) => Self::Later("truncate"),
                Some((_, "erase")) => Self::Later("erase"),
                Some((_, "clone")) => Self::Later("clone"),
                Some(_) => Self::Unknown,
            };
        };
        match split(rest) {
            ("rows", None) => of(table, Verb::Scan),
            ("rows:get", None) => of(table, Verb::Get),
            ("rows:batchGet", None) => of(table, Verb::BatchGet),
            ("rows:batchWrite", None) => of(table, Verb::BatchWrite),
            ("rows", Some(rest)) => match split(rest) {
                (key, None) => match key.strip_suffix(":explain") {
                    Some(key) => of(table, Verb::Explain(key)),
                    None => of(table, Verb::Row(key)),
                },
                (key, Some("versions")) => of(table, Verb::Versions(key)),
                _ => Self::Unknown,
            },
            ("loads", None) => of(table, Verb::Loads),
            ("loads", Some(rest)) => match split(rest) {
                (id, None) => match id.split_once(':') {
                    None => of(table, Verb::Load(id)),
                    Some((id, "prepare")) => of(table, Verb::Prepare(id)),
                    Some((id, "commit")) => of(table, Verb::Commit(id)),
                    Some((id, "cancel")) => of(table, Verb::Cancel(id)),
                    Some((id, "revert")) => of(table, Verb::Revert(id)),
                    Some(_) => Self::Unknown,
                },
                (id, Some("files")) => of(table, Verb::LoadFiles(id)),
                (id, Some(rest)) => match rest.strip_prefix("files/") {
                    Some(name) => of(table, Verb::LoadFile(id, name)),
                    None => Self::Unknown,
                },
            },
            ("snapshots", _) => Self::Later("snapshots"),
            ("files", None) => Self::Later("files"),
            ("changes", None) => Self::Later("the change feed"),
            (":erase", None) => Self::Later("erase"),
            (":undrop", None) => Self::Later("undrop"),
            (":truncate", None) => Self::Later("truncate"),
            (":clone", None) => Self::Later("clone"),
            _ => Self::Unknown,
        }
    }

    /// The methods that the route takes, as an `Allow` header lists them; GET includes HEAD.
    pub fn allow(&self) -> &'static str {
        match self {
            Self::Healthz | Self::Readyz | Self::Metrics | Self::OpenApi | Self::Docs | Self::Limits => {
                "GET, HEAD"
            }
            Self::Nodes | Self::Namespaces | Self::Tables(_) => "GET, HEAD",
            Self::Namespace(_) => "GET, HEAD, PUT",
            Self::NamespaceBatchGet(_) => "POST",
            Self::Tokens(_) => "GET, HEAD, POST",
            Self::Token(..) => "GET, HEAD, PATCH, DELETE",
            Self::Table { verb, .. } => match verb {
                Verb::Describe => "GET, HEAD, PUT, PATCH, DELETE",
                Verb::Scan | Verb::Versions(_) | Verb::Explain(_) | Verb::Load(_) | Verb::LoadFiles(_) => {
                    "GET, HEAD"
                }
                Verb::Get => "GET, HEAD, POST",
                Verb::BatchGet | Verb::BatchWrite => "POST",
                Verb::Row(_) => "GET, HEAD, PUT, DELETE",
                Verb::Loads => "GET, HEAD, POST",
                Verb::Prepare(_) | Verb::Commit(_) | Verb::Cancel(_) | Verb::Revert(_) => "POST",
                Verb::LoadFile(..) => "PUT",
            },
            Self::Later(_) | Self::Unknown => "",
        }
    }

    /// Whether the route does anything by this method.
    pub fn takes(&self, method: &http::Method) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method.as_str())
    }

    /// What metrics call it.
    pub fn class(&self, method: &http::Method) -> RouteClass {
        match self {
            Self::Healthz | Self::Readyz | Self::Metrics | Self::OpenApi | Self::Docs | Self::Limits => {
                RouteClass::Ops
            }
            Self::Nodes => RouteClass::Nodes,
            Self::Namespaces | Self::Namespace(_) => RouteClass::Namespaces,
            Self::NamespaceBatchGet(_) => RouteClass::NamespaceBatchGet,
            Self::Tables(_) => RouteClass::Tables,
            Self::Tokens(_) | Self::Token(..) => RouteClass::Tokens,
            Self::Table { verb, .. } => match verb {
                Verb::Describe => RouteClass::Tables,
                Verb::Scan => RouteClass::Scan,
                Verb::Get => RouteClass::Get,
                Verb::Row(_) if method == http::Method::PUT => RouteClass::Put,
                Verb::Row(_) if method == http::Method::DELETE => RouteClass::Delete,
                Verb::Row(_) => RouteClass::Get,
                Verb::BatchGet => RouteClass::BatchGet,
                Verb::BatchWrite => RouteClass::BatchWrite,
                Verb::Versions(_) => RouteClass::Versions,
                Verb::Explain(_) => RouteClass::Explain,
                Verb::LoadFile(..) => RouteClass::LoadFile,
                _ => RouteClass::Loads,
            },
            Self::Later(_) => RouteClass::Later,
            Self::Unknown => RouteClass::Unknown,
        }
    }

    /// Why a request that found no handler found none: 404, 405 or 501.
    pub fn refuse(&self, method: &http::Method) -> Error {
        match self {
            Self::Unknown => Error::not_found(
                "there is nothing at this path; GET /openapi.json lists what there is (a key is one segment, its / written %2F)",
            )
            .with_code("path-not-found"),
            Self::Later(what) => {
                Error::invalid(format!("{what}: not built yet; GET /openapi.json lists what is")).with_code("not-implemented")
            }
            _ => Error::invalid(format!("{method} does nothing here; this path takes {}", self.allow()))
                .with_code("method-not-allowed"),
        }
    }
}

/// The first segment, and what follows its slash.
fn split(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    }
}

/// `/v1/namespaces/{ns}/tables/{table}`.
pub fn table_path(ns: &NamespaceName, table: &TableName) -> String {
    format!("/v1/namespaces/{ns}/tables/{table}")
}

/// The path and query of one row: `suffix` is empty, `/versions` or `:explain`.
///
/// The keys `.` and `..`, which URL parsers would take for folders even percent-encoded, go as base64url.
pub fn row_path(table_path: &str, key: &[u8], suffix: &str) -> String {
    if matches!(key, b"." | b"..") {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key);
        return format!("{table_path}/rows/{text}{suffix}?key_encoding=base64url");
    }
    let mut path = format!("{table_path}/rows/");
    encode_segment(&mut path, key);
    path.push_str(suffix);
    path
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
pub fn encode_segment(out: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// The id of a load in a path.
///
/// # Errors
/// `NotFound` (`load-not-found`): nothing that is not an id names a load.
pub fn load_id(text: &str) -> Result<LoadId> {
    LoadId::parse(text).map_err(|error| error.with_kind(ErrorKind::NotFound).with_code("load-not-found"))
}

#[cfg(test)]
#[path = "path/tests.rs"]
mod tests;
