//! One client's connection: which protocol it speaks, and what ends it when it is slow.
//!
//! hyper's own header timer allocates and arms a timer for every request. Here one tick a second looks at a few counters
//! instead, which cost a relaxed increment each: bytes read and no request since = a head that does not end; nothing at
//! all = idle; an answer that the socket does not take = a stalled reader.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nacre_runtime::{Shutdown, Tasks};
use nacre_types::limits;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::service::App;

/// hyper refuses a longer head by itself, without a body; the named limit, which is smaller, is told in a problem.
const HEAD_BUFFER: usize = 2 * (limits::HEADER_BYTES + limits::URI_BYTES);

/// Serves connections.
#[derive(Debug)]
pub(crate) struct Connections {
    app: Arc<App>,
    tls: Option<Arc<nacre_tls::Server>>,
    shutdown: Shutdown,
    cut: CancellationToken,
}

impl Connections {
    pub(crate) fn new(
        app: Arc<App>,
        tls: Option<Arc<nacre_tls::Server>>,
        shutdown: Shutdown,
        cut: CancellationToken,
    ) -> Self {
        Self { app, tls, shutdown, cut }
    }

    /// Serves `stream` in a task of its own, which holds `slot` to its end.
    pub(crate) fn spawn(&self, stream: TcpStream, slot: OwnedSemaphorePermit) {
        let (app, shutdown, cut) = (self.app.clone(), self.shutdown.clone(), self.cut.clone());
        let tls = self.tls.clone();
        self.app.ctx.tasks.spawn("connection", async move {
            let _slot = slot;
            let _open = app.metrics.connections.enter();
            serve(stream, tls, app.clone(), &shutdown, &cut).await;
        });
    }
}

/// What the server asks of all its connections.
enum Signal {
    /// Answer what is under way, and end.
    Finish,
    /// End at once.
    Cut,
}

/// Waits for signals. A wait for either takes a lock that all connections share, and a `select!` polls all its branches
/// whenever one of them wakes, which is at every request: so they are polled only when they woke themselves.
type Signals<'a> = FuturesUnordered<BoxFuture<'a, Signal>>;

fn signals<'a>(shutdown: &'a Shutdown, cut: &'a CancellationToken) -> Signals<'a> {
    let finish: BoxFuture<'a, Signal> = Box::pin(async {
        shutdown.requested().await;
        Signal::Finish
    });
    let cut: BoxFuture<'a, Signal> = Box::pin(async {
        cut.cancelled().await;
        Signal::Cut
    });
    [finish, cut].into_iter().collect()
}

/// The two protocols' connections share no trait; what is done with them is the same.
macro_rules! drive {
    ($connection:ident, $watch:ident, $signals:ident) => {{
        let mut watch = $watch;
        loop {
            tokio::select! {
                biased;
                _ = $connection.as_mut() => break,
                signal = $signals.next() => match signal {
                    Some(Signal::Finish) => $connection.as_mut().graceful_shutdown(),
                    Some(Signal::Cut) | None => break,
                },
                verdict = watch.next() => match verdict {
                    Verdict::Close => break,
                    Verdict::Finish => $connection.as_mut().graceful_shutdown(),
                },
            }
        }
    }};
}

async fn serve(
    stream: TcpStream,
    tls: Option<Arc<nacre_tls::Server>>,
    app: Arc<App>,
    shutdown: &Shutdown,
    cut: &CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    // Behind a pointer: a handshake is large, and is over when the connection begins.
    let greeted = Box::pin(greet(stream, tls));
    let greeted = tokio::select! {
        greeted = tokio::time::timeout(app.config.header_timeout, greeted) => greeted,
        () = shutdown.requested() => return,
    };
    let Ok(Some((stream, protocol))) = greeted else { return };
    let mut signals = signals(shutdown, cut);
    let state = Arc::new(State::default());
    let io = TokioIo::new(Watched { stream, state: state.clone() });
    let service = service_fn({
        let (app, state) = (app.clone(), state.clone());
        move |request| {
            let (app, open) = (app.clone(), Open::new(state.clone()));
            async move {
                let answer = app.handle(request).await;
                drop(open);
                Ok::<_, std::convert::Infallible>(answer)
            }
        }
    });
    match protocol {
        Protocol::Http1 => {
            let connection = hyper::server::conn::http1::Builder::new()
                .header_read_timeout(None)
                .max_buf_size(HEAD_BUFFER)
                .serve_connection(io, service);
            tokio::pin!(connection);
            let watch = Watch::new(&app, &state, true);
            drive!(connection, watch, signals);
        }
        Protocol::Http2 => {
            let connection = hyper::server::conn::http2::Builder::new(Spawner(app.ctx.tasks.clone()))
                .timer(TokioTimer::new())
                .max_concurrent_streams(app.config.max_streams)
                .max_header_list_size(HEAD_BUFFER as u32)
                .max_send_buf_size(1 << 20)
                .serve_connection(io, service);
            tokio::pin!(connection);
            let watch = Watch::new(&app, &state, false);
            drive!(connection, watch, signals);
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
}

/// Shakes hands, if that is to be done, and finds out the protocol. `None`: the client left, or there is no talking to it.
async fn greet(stream: TcpStream, tls: Option<Arc<nacre_tls::Server>>) -> Option<(Socket, Protocol)> {
    let Some(tls) = tls else {
        let protocol = detect(&stream).await?;
        return Some((Socket::Plain(stream), protocol));
    };
    let mut first = [0];
    if stream.peek(&mut first).await.ok()? > 0 && first[0].is_ascii_uppercase() {
        // A handshake begins with a 22, a request with its method.
        refuse_plain(stream).await;
        return None;
    }
    match tls.accept(stream).await {
        Ok(stream) => {
            let protocol = if nacre_tls::is_http2(&stream) { Protocol::Http2 } else { Protocol::Http1 };
            Some((Socket::Tls(Box::new(stream)), protocol))
        }
        Err(error) => {
            tracing::debug!(%error, "no handshake");
            None
        }
    }
}

/// Tells a client that speaks plain HTTP where it is, and closes.
async fn refuse_plain(mut stream: TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\r\n\
        {\"type\":\"/errors/tls-wanted\",\"title\":\"Tls wanted\",\"status\":400,\"detail\":\"this port speaks TLS; say https\",\
        \"instance\":\"\",\"kind\":\"invalid\",\"retryable\":false,\"applied\":\"no\"}";
    if stream.write_all(ANSWER).await.is_ok() && stream.shutdown().await.is_ok() {
        // What the client goes on to send is taken for a moment: closing on it would be a reset that overtakes the answer.
        let mut rest = [0; 4_096];
        let drain = async { while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
        let _ = tokio::time::timeout(Duration::from_millis(500), drain).await;
    }
}

/// A client's socket. One type for both, so that the protocols are compiled once.
#[derive(Debug)]
enum Socket {
    Plain(TcpStream),
    Tls(Box<nacre_tls::ServerStream>),
}

macro_rules! on_socket {
    ($socket:expr, $stream:ident => $do:expr) => {
        match $socket {
            Socket::Plain($stream) => $do,
            Socket::Tls($stream) => $do,
        }
    };
}

/// Looks at the first bytes without taking them. `None`: the client left.
async fn detect(stream: &TcpStream) -> Option<Protocol> {
    const PREFACE: &[u8] = b"PRI ";
    let mut first = [0u8; 4];
    loop {
        let seen = stream.peek(&mut first).await.ok()?;
        let seen = first.get(..seen).filter(|seen| !seen.is_empty())?;
        if !PREFACE.starts_with(seen) {
            return Some(Protocol::Http1);
        }
        if seen.len() == PREFACE.len() {
            return Some(Protocol::Http2);
        }
        // "P", "PR" or "PRI": peeking again answers at once, so wait a little for the rest.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What the tick looks at. Written by the socket and by requests, with no order between them: a verdict a tick late does
/// no harm.
#[derive(Debug, Default)]
struct State {
    reads: AtomicU64,
    writes: AtomicU64,
    write_blocked: AtomicBool,
    started: AtomicU64,
    done: AtomicU64,
    reads_at_done: AtomicU64,
}

/// A request in flight.
struct Open(Arc<State>);

impl Open {
    fn new(state: Arc<State>) -> Self {
        state.started.fetch_add(1, Relaxed);
        Self(state)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.reads_at_done.store(self.0.reads.load(Relaxed), Relaxed);
        self.0.done.fetch_add(1, Relaxed);
    }
}

enum Verdict {
    /// At once.
    Close,
    /// After what is under way.
    Finish,
}

struct Watch<'a> {
    app: &'a App,
    state: &'a State,
    /// Between requests of HTTP/1 only heads arrive; HTTP/2 has pings and settings.
    heads_only: bool,
    tick: tokio::time::Interval,
    seen: (u64, u64),
    quiet_since: Duration,
    head_since: Option<Duration>,
    blocked_since: Option<(u64, Duration)>,
    finishing: bool,
}

impl<'a> Watch<'a> {
    fn new(app: &'a App, state: &'a State, heads_only: bool) -> Self {
        let config = &app.config;
        let shortest = config.header_timeout.min(config.idle_timeout).min(config.write_timeout);
        let every = (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let now = app.ctx.clock.monotonic();
        Self {
            app,
            state,
            heads_only,
            tick,
            seen: (0, 0),
            quiet_since: now,
            head_since: Some(now),
            blocked_since: None,
            finishing: false,
        }
    }

    async fn next(&mut self) -> Verdict {
        loop {
            self.tick.tick().await;
            if let Some(verdict) = self.judge(self.app.ctx.clock.monotonic()) {
                return verdict;
            }
        }
    }

    fn judge(&mut self, now: Duration) -> Option<Verdict> {
        let (state, config) = (self.state, &self.app.config);
        let writes = state.writes.load(Relaxed);
        if !state.write_blocked.load(Relaxed) {
            self.blocked_since = None;
        } else if let Some((before, since)) = self.blocked_since.filter(|&(before, _)| before == writes) {
            debug_assert_eq!(before, writes);
            if now.saturating_sub(since) >= config.write_timeout {
                self.app.metrics.slow_clients.add(1);
                return Some(Verdict::Close);
            }
        } else {
            self.blocked_since = Some((writes, now));
        }

        let (started, done) = (state.started.load(Relaxed), state.done.load(Relaxed));
        if started != done || self.blocked_since.is_some() || (started, done) != self.seen {
            // Something happened: the body of a request has a limit of its own, its handler a deadline.
            self.seen = (started, done);
            self.quiet_since = now;
            self.head_since = None;
            return None;
        }
        let head =
            done == 0 || (self.heads_only && state.reads.load(Relaxed) != state.reads_at_done.load(Relaxed));
        if head {
            let since = *self.head_since.get_or_insert(now);
            if now.saturating_sub(since) >= config.header_timeout {
                self.app.metrics.slow_clients.add(1);
                return Some(Verdict::Close);
            }
        } else if now.saturating_sub(self.quiet_since) >= config.idle_timeout {
            // A client that does not take the hint has as long again.
            let verdict = if self.finishing { Verdict::Close } else { Verdict::Finish };
            self.finishing = true;
            self.quiet_since = now;
            return Some(verdict);
        }
        None
    }
}

/// A socket that counts.
#[derive(Debug)]
struct Watched {
    stream: Socket,
    state: Arc<State>,
}

impl Watched {
    fn wrote(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if outcome.is_pending() {
            self.state.write_blocked.store(true, Relaxed);
        } else {
            self.state.write_blocked.store(false, Relaxed);
            self.state.writes.fetch_add(1, Relaxed);
        }
        outcome
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = on_socket!(&mut self.stream, stream => Pin::new(stream).poll_read(cx, buf));
        if outcome.is_ready() {
            self.state.reads.fetch_add(1, Relaxed);
        }
        outcome
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = on_socket!(&mut self.stream, stream => Pin::new(stream).poll_write(cx, buf));
        self.wrote(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = on_socket!(&mut self.stream, stream => Pin::new(stream).poll_write_vectored(cx, bufs));
        self.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        on_socket!(&self.stream, stream => stream.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_socket!(&mut self.stream, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_socket!(&mut self.stream, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// Runs the streams of HTTP/2 connections as named tasks.
#[derive(Debug, Clone)]
struct Spawner(Tasks);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn("stream", future);
    }
}
