//! Bytes to a server and back: connections, TLS, and whether a request that failed had left this process.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use nacre_types::{Error, Result};
use object_store::client::{HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tower_service::Service;

/// S3 closes connections that were idle for some 20 s, others later. A write that meets a connection just then has an unknown
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
pub(crate) struct Http(Client<Hurried, Full<Bytes>>);

type Wire = <HttpsConnector<HttpConnector> as Service<Uri>>::Response;
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Connects within a time, TLS included: a request that waits for a handshake certainly was not sent.
#[derive(Clone)]
struct Hurried {
    inner: HttpsConnector<HttpConnector>,
    within: Duration,
}

impl Service<Uri> for Hurried {
    type Response = Wire;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Wire, Failure>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (within, connecting) = (self.within, self.inner.call(uri));
        Box::pin(async move {
            let late = |_| format!("none within {} s", within.as_secs_f32());
            tokio::time::timeout(within, connecting).await.map_err(late)?
        })
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Lost {
    /// There was no connection: nothing left this process.
    NotSent(String),
    /// It was sent, in part or whole.
    Unanswered(String),
}

impl Http {
    /// `tls`: nothing works without it. `roots`: whether this machine's root certificates are looked for. `connect`: how
    /// long a connection may take.
    ///
    /// # Errors
    /// `Unavailable` if `tls` is wanted and this machine has no root certificates.
    pub(crate) fn new(tls: bool, roots: bool, connect: Duration) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let find = || HttpsConnectorBuilder::new().with_provider_and_native_roots(provider.clone());
        let builder = match roots.then(find) {
            Some(Ok(builder)) => builder,
            Some(Err(error)) if tls => {
                return Err(Error::unavailable(format!(
                    "no root certificates to check an https server by ({error}): install ca-certificates, or name a \
                     file of them in SSL_CERT_FILE"
                ))
                .with_code("store-certificates"));
            }
            _ => HttpsConnectorBuilder::new().with_tls_config(trusting_nobody(provider.clone())?),
        };
        let mut connector = HttpConnector::new();
        // Of several addresses the next has its turn before all time is gone.
        connector.set_connect_timeout(Some(connect / 2));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        // The tasks of connections end with the pool, not with the program's own tasks.
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_AT_MOST)
            .build(Hurried {
                inner: builder.https_or_http().enable_http1().wrap_connector(connector),
                within: connect,
            });
        Ok(Self(client))
    }

    /// Sends a request once; the answer's body is still to come.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Lost> {
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
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
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
