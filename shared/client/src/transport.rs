//! Sending one request and reading its answer.

use crate::{ClientFiles, Sessions};
use bytes::Bytes;
use nacre_api::{Problem, headers, kind_from_name};
use nacre_types::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// How a client reaches a server.
#[derive(Clone)]
pub struct ClientConfig {
    /// The server's URL, such as `http://127.0.0.1:8790`, or `https://...`.
    pub server: String,
    /// Whom an https server may be signed by, and who this client is; this machine's roots and nobody unless said.
    pub tls: ClientFiles,
    /// The access token, if the server wants one.
    pub token: Option<String>,
    /// How long a request may take. More lets slow requests succeed and keeps a caller waiting on a dead server.
    pub deadline: Duration,
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("server", &self.server)
            .field("tls", &self.tls)
            .field("token", &self.token.as_ref().map(|_| "(secret)"))
            .field("deadline", &self.deadline)
            .finish()
    }
}

/// How long the way to the server and back may take beyond the deadline that the server keeps.
const GRACE: Duration = Duration::from_secs(2);
/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// A client of one server; share it, its connections are pooled.
pub struct Client {
    http: reqwest::Client,
    config: ClientConfig,
    base: String,
    authorization: Option<HeaderValue>,
    pub(crate) sessions: Sessions,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the server that `config` names. Nothing is sent yet.
    ///
    /// # Errors
    /// `Invalid` (`server-url`) for a URL that is not `http://host[:port]` or `https://host[:port]`; (`token-invalid`) for
    /// a token with characters that no header takes; (`tls-files`) for certificates that make no sense.
    pub fn new(config: ClientConfig) -> Result<Self> {
        let base = config.server.trim_end_matches('/').to_owned();
        let wrong =
            |why: &str| Error::invalid(format!("server {:?}: {why}", config.server)).with_code("server-url");
        let encrypted = base.strip_prefix("https://");
        let host = encrypted.or_else(|| base.strip_prefix("http://")).unwrap_or_default();
        if host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
            return Err(wrong("expected http://host:port or https://host:port"));
        }
        let authorization = match &config.token {
            Some(token) => {
                let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                    Error::invalid("the access token has characters that no header takes")
                        .with_code("token-invalid")
                })?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        // The client of HTTP builds a TLS stack whether it will want one or not; without a configuration of ours it
        // would look for a provider that nobody installed. Roots are read only for a server that has certificates.
        let tls = match encrypted {
            Some(_) => nacre_tls::Client::open(config.tls.clone())?.config(),
            None => nacre_tls::Client::without_roots()?,
        };
        let http = builder
            .tls_backend_preconfigured(rustls::ClientConfig::clone(&tls))
            .build()
            .map_err(|error| Error::internal(format!("the HTTP client cannot be built: {error}")))?;
        Ok(Self { http, config, base, authorization, sessions: Sessions::default() })
    }

    /// The server's URL.
    pub fn server(&self) -> &str {
        &self.base
    }

    /// A request of `path` (with its query), with deadline and access token.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let milliseconds = self.config.deadline.as_millis().to_string();
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .header(headers::DEADLINE_MS, milliseconds)
            .timeout(self.config.deadline + GRACE);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request
    }

    /// A request whose body takes as long as it takes: an upload.
    pub(crate) fn long_request(&self, method: Method, path: &str, limit: Duration) -> RequestBuilder {
        self.request(method, path).timeout(limit)
    }

    /// Sends a read: a lost answer is `Unavailable`.
    pub(crate) async fn read(&self, request: RequestBuilder) -> Result<Response> {
        self.send(request, ErrorKind::Unavailable).await
    }

    /// Sends a write: a lost answer is `Unknown`.
    pub(crate) async fn write(&self, request: RequestBuilder) -> Result<Response> {
        self.send(request, ErrorKind::Unknown).await
    }

    async fn send(&self, request: RequestBuilder, lost: ErrorKind) -> Result<Response> {
        let response = request.send().await.map_err(|error| self.not_answered(&error, lost))?;
        if response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let (status, retry_after) = (response.status(), retry_after(response.headers()));
        let body = response.bytes().await.unwrap_or_default();
        Err(error_of(status, retry_after, &body, lost))
    }

    fn not_answered(&self, error: &reqwest::Error, lost: ErrorKind) -> Error {
        if error.is_connect() {
            // Nothing was sent, so a write certainly had no effect.
            let why = innermost(error);
            let advice = if why.contains("certificate") {
                "; name the file with the authority that signed its certificate (ca_file)"
            } else {
                ""
            };
            return Error::unavailable(format!("no server answers at {} ({why}{advice})", self.base))
                .with_code("server-unreachable");
        }
        if error.is_builder() {
            return Error::invalid(format!("the request cannot be made: {}", innermost(error)));
        }
        let what = if error.is_timeout() {
            format!("{} did not answer within {:?}", self.base, self.config.deadline)
        } else {
            // What a server that wants TLS does with a request in the clear.
            let advice = if self.base.starts_with("http:") {
                "; if it wants TLS, its URL begins with https:"
            } else {
                ""
            };
            format!("the connection to {} broke before the answer: {}{advice}", self.base, innermost(error))
        };
        Error::new(lost, what).with_code(if error.is_timeout() { "deadline" } else { "answer-lost" })
    }

    /// The JSON body of an answer.
    pub(crate) async fn json<T: DeserializeOwned>(&self, response: Response, lost: ErrorKind) -> Result<T> {
        let body = self.body(response, lost).await?;
        serde_json::from_slice(&body).map_err(|error| {
            Error::internal(format!("the answer of {} is not the JSON that was expected: {error}", self.base))
                .with_code("answer-invalid")
        })
    }

    /// The body of an answer.
    pub(crate) async fn body(&self, response: Response, lost: ErrorKind) -> Result<Bytes> {
        response.bytes().await.map_err(|error| self.not_answered(&error, lost))
    }

    /// GET, answered with JSON.
    pub(crate) async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response = self.read(self.request(Method::GET, path)).await?;
        self.json(response, ErrorKind::Unavailable).await
    }

    /// A request that changes something, with a JSON body, answered with JSON and a status.
    pub(crate) async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(StatusCode, T)> {
        let response = self.write(self.request(method, path).json(body)).await?;
        let status = response.status();
        Ok((status, self.json(response, ErrorKind::Unknown).await?))
    }
}

/// The error that an answer tells. An answer that is no problem came from something in between (a proxy).
fn error_of(status: StatusCode, retry_after_ms: Option<u64>, body: &[u8], lost: ErrorKind) -> Error {
    let mut error = match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => {
            let kind = kind_from_name(&problem.kind).unwrap_or_else(|| kind_of(status, lost));
            Error::new(kind, problem.detail.clone()).with_code(interned(problem.code()))
        }
        Err(_) => {
            Error::new(kind_of(status, lost), format!("the server answered {status} without saying why"))
        }
    };
    if let Some(milliseconds) = retry_after_ms {
        error = error.with_retry_after_ms(milliseconds);
    }
    error
}

fn kind_of(status: StatusCode, lost: ErrorKind) -> ErrorKind {
    match status.as_u16() {
        401 => ErrorKind::Unauthorized,
        403 => ErrorKind::Forbidden,
        404 | 410 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        429 => ErrorKind::Throttled,
        400..=499 => ErrorKind::Invalid,
        501 => ErrorKind::Invalid,
        // A proxy's 502 or 504 says nothing about what the server behind it did; for a read that is no matter.
        _ => lost,
    }
}

fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    seconds.checked_mul(1_000)
}

fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// A header's text.
pub(crate) fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// A header's integer.
pub(crate) fn integer(headers: &HeaderMap, name: &HeaderName) -> Option<i64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// Most codes that are kept.
const MOST_CODES: usize = 512;

/// A code with the life that errors want. Servers have a few dozen of them; what goes beyond a bound, or does not look
/// like one, is told by its kind alone.
fn interned(code: &str) -> &'static str {
    static CODES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut codes = CODES.lock();
    if let Some(known) = codes.get(code) {
        return known;
    }
    let plausible =
        (1..=64).contains(&code.len()) && code.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if !plausible || codes.len() == MOST_CODES {
        return "server-error";
    }
    let leaked: &'static str = Box::leak(code.to_owned().into_boxed_str());
    codes.insert(leaked);
    leaked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(server: &str) -> Result<Client> {
        let token = Some("canary-secret".to_owned());
        let (tls, deadline) = (ClientFiles::default(), Duration::from_secs(1));
        Client::new(ClientConfig { server: server.into(), tls, token, deadline })
    }

    #[test]
    fn a_server_is_an_origin() {
        assert_eq!(client("http://127.0.0.1:8790/").unwrap().server(), "http://127.0.0.1:8790");
        for bad in ["", "127.0.0.1:8790", "https://", "http://", "http://h/p", "http://u@h", "ftp://h"] {
            assert_eq!(client(bad).unwrap_err().code(), "server-url", "{bad}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        assert!(!format!("{:?}", client("http://h").unwrap()).contains("canary"));
    }

    #[test]
    fn problems_become_errors_again() {
        let sent = Error::not_found("no such table").with_code("table-not-found");
        let body = serde_json::to_vec(&Problem::new(&sent, "1", false)).unwrap();
        let got = error_of(StatusCode::NOT_FOUND, Some(2_000), &body, ErrorKind::Unavailable);
        assert_eq!((got.kind(), got.code(), got.detail()), (sent.kind(), sent.code(), sent.detail()));
        assert_eq!(got.retry_after_ms(), Some(2_000));
    }

    #[test]
    fn what_a_proxy_says_of_a_write_is_unknown_where_the_server_may_have_acted() {
        let kind = |status, lost| error_of(status, None, b"<html>", lost).kind();
        assert_eq!(kind(StatusCode::BAD_GATEWAY, ErrorKind::Unknown), ErrorKind::Unknown);
        assert_eq!(kind(StatusCode::BAD_GATEWAY, ErrorKind::Unavailable), ErrorKind::Unavailable);
        assert_eq!(kind(StatusCode::FORBIDDEN, ErrorKind::Unknown), ErrorKind::Forbidden);
    }

    #[test]
    fn codes_are_kept_once_and_only_if_they_look_like_codes() {
        assert!(std::ptr::eq(interned("a-code"), interned("a-code")));
        assert_eq!(interned("Not A Code"), "server-error");
        assert_eq!(interned(&"x".repeat(65)), "server-error");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_unavailable_even_for_writes() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = client(&format!("http://127.0.0.1:{port}")).unwrap();
        let error = client.write(client.request(Method::PUT, "/x")).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "server-unreachable"));
    }
}
