//! The inner server of a fleet: answers what other processes ask for, over HTTP/2.
//!
//! It answers reads of the partitions that this process holds and says what those are; everything else about being a cache
//! node (which partitions, when it may be asked) is in [`nacre_fleet`]. Its callers are processes of the same fleet: it
//! takes frames and no JSON, and knows no tokens. Whoever reaches it can read everything, so it belongs on a network of its
//! own or behind mutual TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nacre_engine::Node;
use nacre_fleet::{
    HELD_PATH, HOT_PATH, READ_PATH, WARM_PATH, answer_held, answer_hot, answer_read, answer_warm,
};
use nacre_runtime::{Context, Shutdown, Tasks};
use nacre_types::{Error, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// How the inner server answers.
#[derive(Debug, Clone)]
pub struct CacheNodeConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Connections at once.
    pub max_connections: usize,
    /// Requests at once of one connection.
    pub max_streams: u32,
    /// Certificates; with them it speaks TLS and nothing else, and to those alone that its CA knows, if it has one.
    pub tls: Option<nacre_tls::ServerFiles>,
    /// How long requests may take that are under way when it stops.
    pub drain: Duration,
}

impl CacheNodeConfig {
    /// For a fleet of a few hundred processes.
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, max_connections: 4_096, max_streams: 4_096, tls: None, drain: Duration::from_secs(5) }
    }
}

/// A request is keys; an answer may be long, a request is not.
const REQUEST_BYTES: usize = 32 << 20;
const PING_AFTER: Duration = Duration::from_secs(10);
const WINDOW: u32 = 1 << 20;

/// The inner server, bound and not yet serving, so that its address can be told first.
#[derive(Debug)]
pub struct CacheNode {
    listener: TcpListener,
    address: SocketAddr,
    config: CacheNodeConfig,
    tls: Option<Arc<nacre_tls::Server>>,
}

impl CacheNode {
    /// Binds the address.
    ///
    /// # Errors
    /// `Invalid` (`listen`, `tls-files`).
    pub async fn bind(config: CacheNodeConfig) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::invalid(format!("cannot listen on {}: {error}", config.listen)).with_code("listen")
        };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = config.tls.clone().map(nacre_tls::Server::open).transpose()?.map(Arc::new);
        Ok(Self { listener, address, config, tls })
    }

    /// Where it listens: with the port that was found if none was given.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`; what is under way then has `drain` to finish.
    pub async fn serve(self, node: Arc<Node>, ctx: Context, shutdown: Shutdown) {
        let Self { listener, address, config, tls } = self;
        if let Some(tls) = tls.clone() {
            let shutdown = shutdown.clone();
            ctx.tasks.spawn("fleet-certificates", async move {
                tokio::select! {
                    () = shutdown.requested() => {}
                    () = tls.keep_fresh() => {}
                }
            });
        }
        tracing::info!(%address, "answering the fleet");
        let slots = Arc::new(Semaphore::new(config.max_connections));
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.requested() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let Ok(slot) = slots.clone().try_acquire_owned() else {
                        tracing::warn!("a connection is refused: there are as many as may be");
                        continue;
                    };
                    let (node, tasks, shutdown) = (node.clone(), ctx.tasks.clone(), shutdown.clone());
                    let (streams, tls) = (config.max_streams, tls.clone());
                    ctx.tasks.spawn("fleet-connection", async move {
                        let _slot = slot;
                        let _ = stream.set_nodelay(true);
                        match tls {
                            None => connection(stream, node, tasks, streams, shutdown).await,
                            Some(tls) => match tls.accept(stream).await {
                                Ok(stream) => connection(stream, node, tasks, streams, shutdown).await,
                                Err(error) => tracing::debug!(%error, "a connection of the fleet is refused"),
                            },
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(listener);
        let all = slots.acquire_many(u32::try_from(config.max_connections).unwrap_or(u32::MAX));
        if tokio::time::timeout(config.drain, all).await.is_err() {
            tracing::warn!("connections of the fleet did not end in time");
        }
    }
}

/// Lets hyper run the streams of a connection as tasks that the program waits for.
#[derive(Clone)]
struct Spawner(Tasks);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn("fleet-stream", future);
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    node: Arc<Node>,
    tasks: Tasks,
    streams: u32,
    shutdown: Shutdown,
) {
    let service = service_fn(move |request| {
        let node = node.clone();
        async move { Ok::<_, Infallible>(answer(&node, request).await) }
    });
    let connection = hyper::server::conn::http2::Builder::new(Spawner(tasks))
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_AFTER)
        .max_concurrent_streams(streams)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(8 * WINDOW)
        .max_send_buf_size(4 << 20)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = shutdown.requested() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(node: &Arc<Node>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        return status(StatusCode::METHOD_NOT_ALLOWED);
    }
    match parts.uri.path() {
        READ_PATH => match Limited::new(body, REQUEST_BYTES).collect().await {
            Ok(frame) => Response::new(Full::new(answer_read(node, frame.to_bytes()).await)),
            Err(_) => status(StatusCode::PAYLOAD_TOO_LARGE),
        },
        HELD_PATH => Response::new(Full::new(answer_held(node))),
        HOT_PATH | WARM_PATH => match Limited::new(body, REQUEST_BYTES).collect().await {
            Ok(frame) => {
                let frame = frame.to_bytes();
                let answered = if parts.uri.path() == HOT_PATH {
                    answer_hot(node, frame).await
                } else {
                    answer_warm(node, frame).await
                };
                match answered {
                    Ok(answer) => Response::new(Full::new(answer)),
                    Err(error) => {
                        tracing::debug!(%error, "a request to warm is refused");
                        status(StatusCode::SERVICE_UNAVAILABLE)
                    }
                }
            }
            Err(_) => status(StatusCode::PAYLOAD_TOO_LARGE),
        },
        _ => status(StatusCode::NOT_FOUND),
    }
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}
