//! A server between nacre and S3 or DynamoDB that fails as they do: it throttles, answers 500 before or after it did what
//! was asked, loses answers, is slow, or is away.
//!
//! Requests are passed on byte by byte. Their signatures cover the Host header, so the server behind is asked as the one
//! that the client meant; it signs for whatever host it is called.

mod message;

use super::random::Random;
use crate::Outcome;
use message::{Message, read_message};
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Whose errors are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    S3,
    DynamoDb,
}

/// What goes wrong, in percent of the requests.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Faults {
    /// Connections are closed at once.
    pub(crate) refuse: bool,
    /// Requests are read, and never passed on nor answered.
    pub(crate) hang: bool,
    /// 503 SlowDown, or a ThrottlingException: not done.
    pub(crate) throttled: u32,
    /// 500: not done.
    pub(crate) failed_before: u32,
    /// 500: done.
    pub(crate) failed_after: u32,
    /// Done, and the connection closed without an answer.
    pub(crate) lost: u32,
    /// Transactions of DynamoDB that met another: not done.
    pub(crate) conflicts: u32,
    /// Milliseconds of a request in the middle; the others lie around it log-normally. 0 = as fast as it goes.
    pub(crate) delay_ms: u32,
    /// What one request in a hundred takes longer than. 0 = some five times the one in the middle.
    pub(crate) delay_p99_ms: u32,
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Well,
    Throttled,
    FailedBefore,
    FailedAfter,
    Lost,
    Conflict,
}

/// What one in a hundred of a normal distribution lies above, in deviations.
const ONE_IN_A_HUNDRED: f64 = 2.326;

/// Requests that came so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Came {
    pub(crate) all: u64,
    /// GETs of objects.
    pub(crate) gets: u64,
    /// Those of a part of one.
    pub(crate) parts: u64,
}

/// Runs until the program ends.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
}

struct State {
    kind: Kind,
    upstream: SocketAddr,
    faults: Mutex<Faults>,
    random: Mutex<Random>,
    requests: AtomicU64,
    gets: AtomicU64,
    parts: AtomicU64,
    spoiled: AtomicU64,
}

impl State {
    fn faults(&self) -> Faults {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, head: &str) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let line = head.split("\r\n").next().unwrap_or_default();
        if !line.starts_with("GET ") || line.contains("list-type=") {
            return;
        }
        self.gets.fetch_add(1, Ordering::Relaxed);
        if head
            .split("\r\n")
            .any(|line| line.get(..6).is_some_and(|name| name.eq_ignore_ascii_case("range:")))
        {
            self.parts.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn fate(&self, head: &str) -> (Fate, Duration) {
        let faults = self.faults();
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let mut roll = random.below(100) as u32;
        let mut fate = Fate::Well;
        let is_transaction = head.to_ascii_lowercase().contains("transactwriteitems");
        for (share, what) in [
            (faults.throttled, Fate::Throttled),
            (faults.failed_before, Fate::FailedBefore),
            (faults.failed_after, Fate::FailedAfter),
            (faults.lost, Fate::Lost),
            (if is_transaction { faults.conflicts } else { 0 }, Fate::Conflict),
        ] {
            if roll < share {
                fate = what;
                break;
            }
            roll -= share;
        }
        let delay = match faults.delay_ms {
            0 => Duration::ZERO,
            median => {
                let deviation = match faults.delay_p99_ms {
                    // One in six is more than twice as slow, one in fifty more than four times.
                    0 => 0.7,
                    p99 => (f64::from(p99) / f64::from(median)).max(1.0).ln() / ONE_IN_A_HUNDRED,
                };
                let seconds = f64::from(median) / 1e3 * random.normal(deviation).exp();
                Duration::from_secs_f64(seconds.min(20.0))
            }
        };
        (fate, delay)
    }
}

impl Proxy {
    pub(crate) fn start(kind: Kind, upstream: u16, seed: u64) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("a proxy: {error}"))?;
        let port = listener.local_addr().map_err(|error| format!("a proxy: {error}"))?.port();
        let state = Arc::new(State {
            kind,
            upstream: SocketAddr::from(([127, 0, 0, 1], upstream)),
            faults: Mutex::default(),
            random: Mutex::new(Random::new(seed)),
            requests: AtomicU64::new(0),
            gets: AtomicU64::new(0),
            parts: AtomicU64::new(0),
            spoiled: AtomicU64::new(0),
        });
        let own = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = own.clone();
                thread::spawn(move || serve(&state, stream));
            }
        });
        Ok(Self { port, state })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn set(&self, faults: Faults) {
        *self.state.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// What was asked for.
    pub(crate) fn came(&self) -> Came {
        Came {
            all: self.state.requests.load(Ordering::Relaxed),
            gets: self.state.gets.load(Ordering::Relaxed),
            parts: self.state.parts.load(Ordering::Relaxed),
        }
    }

    /// Requests that came, and those that something was done to.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.state.requests.load(Ordering::Relaxed), self.state.spoiled.load(Ordering::Relaxed))
    }
}

/// One connection: requests one after the other, as HTTP/1.1 has them.
fn serve(state: &State, mut client: TcpStream) {
    let _ = client.set_nodelay(true);
    let mut upstream: Option<TcpStream> = None;
    let mut rest = Vec::new();
    let mut rest_up = Vec::new();
    while let Ok(Some(request)) = read_message(&mut client, &mut rest, false) {
        state.count(&request.head);
        let (fate, delay) = state.fate(&request.head);
        if fate != Fate::Well || state.faults().refuse || state.faults().hang {
            state.spoiled.fetch_add(1, Ordering::Relaxed);
        }
        thread::sleep(delay);
        while state.faults().hang {
            thread::sleep(Duration::from_millis(50));
        }
        if state.faults().refuse {
            break;
        }
        if let Some(answer) = refusal(state.kind, fate, &request) {
            if client.write_all(&answer).is_err() {
                break;
            }
            continue;
        }
        let Some(answer) = pass_on(state, &mut upstream, &mut rest_up, &request) else { break };
        match fate {
            Fate::Lost => break,
            Fate::FailedAfter => {
                if client.write_all(&failed(state.kind, &request)).is_err() {
                    break;
                }
            }
            _ => {
                if client.write_all(&answer.bytes).is_err() || answer.closes {
                    break;
                }
            }
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

fn pass_on(
    state: &State,
    upstream: &mut Option<TcpStream>,
    rest: &mut Vec<u8>,
    request: &Message,
) -> Option<Message> {
    // A connection that was kept may have been closed meanwhile; a new one has not. A request is passed on once.
    let stream = match upstream.take().filter(is_open) {
        Some(stream) => upstream.insert(stream),
        None => {
            rest.clear();
            let stream = TcpStream::connect(state.upstream).ok()?;
            let _ = stream.set_nodelay(true);
            upstream.insert(stream)
        }
    };
    stream.write_all(&request.bytes).ok()?;
    let answer = read_message(stream, rest, request.head.starts_with("HEAD ")).ok()??;
    if answer.closes {
        *upstream = None;
    }
    Some(answer)
}

fn is_open(stream: &TcpStream) -> bool {
    let mut byte = [0];
    let _ = stream.set_nonblocking(true);
    let seen = stream.peek(&mut byte);
    let _ = stream.set_nonblocking(false);
    matches!(seen, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// What is answered to what is not done.
fn refusal(kind: Kind, fate: Fate, request: &Message) -> Option<Vec<u8>> {
    match (fate, kind) {
        (Fate::Throttled, Kind::S3) => {
            Some(s3_error(request, "503 Slow Down", "SlowDown", "Please reduce your request rate."))
        }
        (Fate::Throttled, Kind::DynamoDb) => {
            Some(dynamo_error("400 Bad Request", "ThrottlingException", "Rate exceeded", ""))
        }
        (Fate::FailedBefore, _) => Some(failed(kind, request)),
        (Fate::Conflict, Kind::DynamoDb) => Some(dynamo_error(
            "400 Bad Request",
            "TransactionCanceledException",
            "Transaction cancelled, please refer cancellation reasons for specific reasons [TransactionConflict, None]",
            ",\"CancellationReasons\":[{\"Code\":\"TransactionConflict\",\"Message\":\"Transaction is ongoing for the item\"},{\"Code\":\"None\"}]",
        )),
        _ => None,
    }
}

fn failed(kind: Kind, request: &Message) -> Vec<u8> {
    match kind {
        Kind::S3 => {
            s3_error(request, "500 Internal Server Error", "InternalError", "We encountered an error.")
        }
        Kind::DynamoDb => {
            dynamo_error("500 Internal Server Error", "InternalServerError", "Internal error", "")
        }
    }
}

fn s3_error(request: &Message, status: &str, code: &str, text: &str) -> Vec<u8> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{text}</Message></Error>"
    );
    let shown = if request.head.starts_with("HEAD ") { "" } else { &body };
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n{shown}",
        body.len()
    )
    .into_bytes()
}

fn dynamo_error(status: &str, code: &str, text: &str, more: &str) -> Vec<u8> {
    let body = format!(
        "{{\"__type\":\"com.amazonaws.dynamodb.v20120810#{code}\",\"message\":\"{text}\",\"Message\":\"{text}\"{more}}}"
    );
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests;
