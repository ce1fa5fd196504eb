//! Requests to other processes of the fleet, over HTTP/2.
//!
//! A connection carries many requests at once; hyper's pool keeps one per address and lane. A connection whose process
//! has gone silent (stopped, cut off) is noticed by pings, not by the requests that wait on it: they have their deadline,
//! and their hedge.

mod connector;

use connector::Connector;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use nacre_types::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Where nodes answer reads.
pub const READ_PATH: &str = "/fleet/v1/read";
/// Where they say what they hold.
pub const HELD_PATH: &str = "/fleet/v1/held";
/// Where they say what is asked for most.
pub const HOT_PATH: &str = "/fleet/v1/hot";
/// Where they are asked to warm a load.
pub const WARM_PATH: &str = "/fleet/v1/warm";

/// Connections to one address: the frames of one are written by one task.
const LANES: usize = 2;
const CONNECT: Duration = Duration::from_millis(1_000);
/// A connection on which nothing came for this long is asked whether anybody is there.
const PING_AFTER: Duration = Duration::from_secs(1);
/// … and closed if nobody answers within this.
const PING_WAIT: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(60);
/// How much of a body may be under way: a page of a scan.
const WINDOW: u32 = 4 << 20;

/// The connections to the other processes.
#[derive(Debug)]
pub struct Peers {
    lanes: [Client<Connector, Full<Bytes>>; LANES],
    next: AtomicUsize,
}

/// What a peer is told when it cannot be reached; its requests may be sent elsewhere.
pub(crate) const UNREACHABLE: &str = "node-unreachable";

impl Peers {
    /// No connections yet. `tls`: how the others are known, where they are not to be trusted unseen.
    pub fn new(tls: Option<Arc<nacre_tls::Client>>) -> Self {
        let lane = || {
            let mut connector = HttpConnector::new();
            connector.set_connect_timeout(Some(CONNECT));
            connector.set_nodelay(true);
            // The tasks of connections end with the pool, not with the program's own tasks.
            Client::builder(TokioExecutor::new())
                .http2_only(true)
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .http2_keep_alive_interval(PING_AFTER)
                .http2_keep_alive_timeout(PING_WAIT)
                .http2_initial_stream_window_size(WINDOW)
                .http2_initial_connection_window_size(4 * WINDOW)
                .build(Connector::new(connector, tls.clone()))
        };
        Self { lanes: std::array::from_fn(|_| lane()), next: AtomicUsize::new(0) }
    }

    /// Posts `body` to a process, once; the answer's body has at most `at_most` bytes.
    ///
    /// # Errors
    /// `Unavailable` (`node-unreachable`): there is no answer.
    pub async fn post(
        &self,
        address: &str,
        path: &str,
        body: Bytes,
        at_most: usize,
        deadline: Duration,
    ) -> Result<Bytes> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{address}{path}"))
            .body(Full::new(body))
            .map_err(|error| lost(address, &error.to_string()))?;
        let lane = self.next.fetch_add(1, Ordering::Relaxed) % LANES;
        let Some(lane) = self.lanes.get(lane) else { return Err(Error::internal("no such lane")) };
        let asked = async {
            let response = lane.request(request).await.map_err(|error| lost(address, &innermost(&error)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), at_most).collect().await;
            let body = body.map_err(|error| lost(address, &error.to_string()))?.to_bytes();
            if status != StatusCode::OK {
                return Err(lost(address, &format!("it answered {status}")));
            }
            Ok(body)
        };
        tokio::time::timeout(deadline, asked)
            .await
            .unwrap_or_else(|_| Err(lost(address, "no answer in time")))
    }
}

fn lost(address: &str, why: &str) -> Error {
    Error::unavailable(format!("the node at {address} did not answer: {why}")).with_code(UNREACHABLE)
}

/// The cause that says most, without the layers around it.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
