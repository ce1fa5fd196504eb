//! Bytes to a server and back: connections, TLS, and whether a request that failed had left this process.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use nacre_types::{Error, Result};
use object_store::client::{HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService};
use std::sync::Arc;
use std::time::Duration;

const CONNECT: Duration = Duration::from_secs(3);
/// S3 closes connections that were idle for some 20 s. A write that meets a connection just then has an unknown
/// outcome, so ours go earlier.
const IDLE: Duration = Duration::from_secs(12);
const IDLE_AT_MOST: usize = 128;
/// How long a metadata service may take.
const METADATA: Duration = Duration::from_secs(5);

/// A pool of connections. Clones are the same pool.
///
/// It follows no redirect, reads no proxy from the environment and repeats no request that a server may have seen.
/// (The pool sends a request again that found its connection closed before the first byte was written: nobody saw
/// that one.)
#[derive(Clone, Debug)]
pub(super) struct Http(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Lost {
    /// There was no connection: nothing left this process.
    NotSent(String),
    /// It was sent, in part or whole.
    Unanswered(String),
}

impl Http {
    /// # Errors
    /// `Unavailable` if `tls` is wanted and this machine has no root certificates.
    pub(super) fn new(tls: bool) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let found = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider.clone());
        let builder = match found {
            Ok(builder) => builder,
            Err(error) if tls => {
                return Err(Error::unavailable(format!(
                    "no root certificates to check an https store by ({error}): install ca-certificates, or name a \
                     file of them in SSL_CERT_FILE"
                ))
                .with_code("store-certificates"));
            }
            Err(_) => HttpsConnectorBuilder::new().with_tls_config(trusting_nobody(provider)?),
        };
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        // The tasks of connections end with the pool, not with the program's own tasks.
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_AT_MOST)
            .build(builder.https_or_http().enable_http1().wrap_connector(connector));
        Ok(Self(client))
    }

    /// Sends a request once; the answer's body is still to come.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Lost> {
        self.0.request(request).await.map_err(|error| {
            let text = innermost(&error);
            if error.is_connect() { Lost::NotSent(text) } else { Lost::Unanswered(text) }
        })
    }
}

fn trusting_nobody(provider: Arc<rustls::crypto::CryptoProvider>) -> Result<rustls::ClientConfig> {
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal(format!("TLS: {error}")))?;
    Ok(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

/// The cause that says most, without the layers around it.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// What asks for credentials: object_store's providers.
#[async_trait]
impl HttpService for Http {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let sent = self.send(Request::from_parts(parts, Full::new(body)));
        let failed = |kind, text: String| HttpError::new(kind, std::io::Error::other(text));
        match tokio::time::timeout(METADATA, sent).await {
            Ok(Ok(response)) => Ok(response.map(|body| {
                let kind = HttpErrorKind::Interrupted;
                object_store::client::HttpResponseBody::new(
                    body.map_err(move |error| HttpError::new(kind, error)),
                )
            })),
            Ok(Err(Lost::NotSent(text))) => Err(failed(HttpErrorKind::Connect, text)),
            Ok(Err(Lost::Unanswered(text))) => Err(failed(HttpErrorKind::Interrupted, text)),
            Err(_) => Err(failed(HttpErrorKind::Timeout, "no answer".to_owned())),
        }
    }
}

impl object_store::client::HttpConnector for Http {
    fn connect(&self, _: &object_store::ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}
