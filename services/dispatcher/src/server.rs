//! Binding, accepting and draining.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use nacre_engine::Node;
use nacre_runtime::{Context, Shutdown};
use nacre_types::{Error, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::connection::Connections;
use crate::reads::Reads;
use crate::service::App;
use crate::{Auth, Config};

/// A server that is bound and not yet serving, so that its address can be told first.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: Arc<App>,
    tls: Option<Arc<nacre_tls::Server>>,
}

/// Binds and serves until `shutdown` is requested and requests in flight have finished, or their time is over.
///
/// # Errors
/// As [`Server::bind`].
pub async fn run(config: Config, node: Arc<Node>, ctx: Context, shutdown: Shutdown) -> Result<()> {
    Server::bind(config, node, Reads::Here, ctx).await?.serve(shutdown).await;
    Ok(())
}

impl Server {
    /// Binds the address. `reads`: where rows are read.
    ///
    /// # Errors
    /// `Invalid` (`listen`) where the address cannot be bound, or lies beyond loopback without tokens or `anonymous`;
    /// (`tls-files`) where its certificates make no sense.
    pub async fn bind(config: Config, node: Arc<Node>, reads: Reads, ctx: Context) -> Result<Self> {
        if !config.listen.ip().is_loopback() && config.auth == Auth::None && !config.anonymous {
            return Err(Error::invalid(format!(
                "refusing to listen on {} without authentication: everyone who reaches it could read and write \
                 everything; say --auth tokens, listen on 127.0.0.1, or say --anonymous",
                config.listen
            ))
            .with_code("listen"));
        }
        let failed = |error: std::io::Error| {
            Error::invalid(format!("cannot listen on {}: {error}", config.listen)).with_code("listen")
        };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = config.tls.clone().map(nacre_tls::Server::open).transpose()?.map(Arc::new);
        if tls.is_none() && config.auth == Auth::Tokens && !address.ip().is_loopback() {
            tracing::warn!(%address, "access tokens arrive here unencrypted; name a certificate, or let a proxy do TLS");
        }
        Ok(Self { listener, address, app: Arc::new(App::new(config, node, reads, ctx)), tls })
    }

    /// Where it listens: with the port that was found if none was given.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`: then nothing more is accepted, requests in flight finish, and what is left after
    /// `drain_timeout` is cut off.
    pub async fn serve(self, shutdown: Shutdown) {
        let Self { listener, address, app, tls } = self;
        tracing::info!(%address, "listening");
        let renewal = app.gate.keep_true(&app.ctx);
        let most = app.config.max_connections.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let slots = Arc::new(Semaphore::new(most));
        let cut = CancellationToken::new();
        let connections = Connections::new(app.clone(), tls.clone(), shutdown.clone(), cut.clone());
        let mut fresh = pin!(keep_fresh(tls));
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.requested() => break,
                () = &mut fresh => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => match slots.clone().try_acquire_owned() {
                    Ok(slot) => connections.spawn(stream, slot),
                    // Who waits for a handshake could not read it.
                    Err(_) if app.config.tls.is_some() => app.metrics.connections_refused.add(1),
                    Err(_) => refuse(&stream, &app),
                },
                Err(error) => {
                    // Mostly too many open files: let some close.
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(listener);
        app.drain();
        // Every connection holds a slot until its end.
        let all = slots.acquire_many(most as u32);
        if tokio::time::timeout(app.config.drain_timeout, all).await.is_err() {
            tracing::warn!(
                left = most - slots.available_permits(),
                "cutting off connections that did not finish"
            );
            cut.cancel();
            let _ = tokio::time::timeout(Duration::from_secs(1), slots.acquire_many(most as u32)).await;
        }
        if let Some(renewal) = renewal {
            renewal.abort();
        }
        tracing::info!(%address, "stopped");
    }
}

/// Never ends.
async fn keep_fresh(tls: Option<Arc<nacre_tls::Server>>) {
    match tls {
        Some(tls) => tls.keep_fresh().await,
        None => std::future::pending().await,
    }
}

/// Says why, if the socket takes it at once, and closes.
fn refuse(stream: &TcpStream, app: &App) {
    app.metrics.connections_refused.add(1);
    let _ = stream.try_write(
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\nconnection: close\r\n\r\n\
        {\"type\":\"/errors/overloaded\",\"title\":\"Overloaded\",\"status\":503,\"detail\":\"the limit max_connections is reached\",\
        \"instance\":\"\",\"kind\":\"overloaded\",\"retryable\":true,\"applied\":\"no\"}",
    );
}
