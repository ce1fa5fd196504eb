//! One request from its head to its answer: id, limits, deadline, routing, panics, metrics, access log.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::header::{ALLOW, CONTENT_LENGTH, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use nacre_api::{PROBLEM_JSON, Problem, Route, RouteClass, headers, status_of};
use nacre_engine::Node;
use nacre_runtime::{Context, Ids};
use nacre_types::{Error, ErrorKind, Result, limits};
use tokio::sync::Semaphore;

use crate::Config;
use crate::access::{Caller, Gate};
use crate::answer::Answer;
use crate::audit::{Audit, Event};
use crate::call::{Call, deadline_error};
use crate::handlers;
use crate::metrics::{Metrics, Outcome};
use crate::reads::Reads;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) node: Arc<Node>,
    pub(crate) reads: Reads,
    pub(crate) ctx: Context,
    pub(crate) metrics: Metrics,
    pub(crate) gate: Gate,
    audit: Audit,
    pub(crate) uploads: Semaphore,
    draining: AtomicBool,
    /// The node was ready once; it does not fall back.
    serving: AtomicBool,
    /// Keys are hashed with it before they reach a log: equal ones can be told, and nothing guessed from outside.
    log_seed: u64,
}

/// The engine gives up by itself at the deadline and knows more about why; this much later its future is dropped.
const GRACE: Duration = Duration::from_millis(250);
/// Putting a file has no deadline but this: its parts have.
const UPLOAD_DEADLINE: Duration = Duration::from_secs(3_600);
/// Of the requests in flight, how many may be there for one of this priority to enter.
const LOW_SHARE: (usize, usize) = (1, 2);
const NORMAL_SHARE: (usize, usize) = (9, 10);

impl App {
    pub(crate) fn new(config: Config, node: Arc<Node>, reads: Reads, ctx: Context) -> Self {
        let log_seed = ctx.ids.random_u64();
        let uploads = Semaphore::new(config.max_uploads.max(1));
        let metrics = Metrics::new(ctx.clock.now_micros());
        let gate = Gate::new(&config, &node, &ctx);
        Self {
            config,
            node,
            reads,
            ctx,
            metrics,
            gate,
            audit: Audit::default(),
            uploads,
            draining: AtomicBool::new(false),
            serving: AtomicBool::new(false),
            log_seed,
        }
    }

    /// From now on the server is not ready.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    pub(crate) fn hash_key(&self, key: &[u8]) -> u64 {
        xxhash_rust::xxh3::xxh3_64_with_seed(key, self.log_seed)
    }

    /// Answers a request, whatever it is.
    pub(crate) async fn handle(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let started = self.ctx.clock.monotonic();
        let _in_flight = self.metrics.in_flight.enter();
        let (parts, body) = request.into_parts();
        let request_id = RequestId::of(&parts, &*self.ctx.ids);
        let route = Route::parse(parts.uri.path());
        let class = route.class(&parts.method);
        let write = is_write(class, &parts.method);
        let mut seen = Seen::default();
        let outcome = {
            // Pinned here and handed on by reference: a future that is an argument is held twice.
            let work = pin!(self.work(&parts, body, route, class, request_id.as_str(), started, &mut seen));
            caught(work, &self.metrics, write).await
        };
        let mut code = None;
        let mut answer = outcome.unwrap_or_else(|error| {
            code = Some(error.code());
            // That nothing is done by this method says more than what is wrong with a header. Looked at only here, where
            // it costs no request that goes well.
            let wrong = error.kind() == ErrorKind::Invalid && !route.takes(&parts.method);
            let error = if wrong { route.refuse(&parts.method) } else { error };
            if error.code() == "panic" || matches!(error.kind(), ErrorKind::Internal | ErrorKind::Corrupt) {
                tracing::error!(
                    request_id = request_id.as_str(),
                    route = class.name(),
                    code = error.code(),
                    detail = error.detail(),
                    "failed"
                );
            }
            let mut answer = self.problem(&error, request_id.as_str(), write);
            self.metrics.problem(answer.status().as_u16(), error.code());
            if answer.status() == StatusCode::METHOD_NOT_ALLOWED {
                answer.constant(ALLOW, route.allow());
            }
            if answer.status() == StatusCode::UNAUTHORIZED {
                answer.constant(WWW_AUTHENTICATE, "Bearer");
            }
            answer
        });
        let took = self.ctx.clock.monotonic().saturating_sub(started);
        answer.text(headers::REQUEST_ID, request_id.as_str().as_bytes());
        answer.total_time(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        let bytes = answer.body_len();
        if parts.method == Method::HEAD {
            answer.number(CONTENT_LENGTH, bytes);
            answer.set_body(Bytes::new());
        }
        self.metrics.answered(class, outcome_of(&answer, write), took, bytes);
        let event = Event {
            request_id: request_id.as_str(),
            parts: &parts,
            class,
            token: seen.caller.token.as_deref(),
            status: answer.status().as_u16(),
            code,
            took,
        };
        self.audit.tell(write, started, &event);
        if self.config.access_log {
            tracing::info!(
                target: "nacre::access",
                request_id = request_id.as_str(),
                method = parts.method.as_str(),
                route = class.name(),
                status = answer.status().as_u16(),
                micros = took.as_micros() as u64,
                bytes,
                key = seen.key_hash.map(|hash: u64| format!("{hash:016x}")),
                "answered"
            );
        }
        answer.into_response()
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of one request, joined in Call as soon as it can exist"
    )]
    async fn work(
        &self,
        parts: &Parts,
        body: Incoming,
        route: Route<'_>,
        class: RouteClass,
        request_id: &str,
        started: Duration,
        seen: &mut Seen,
    ) -> Result<Answer> {
        check_head(parts)?;
        if !self.config.answers_rows && !matches!(class, RouteClass::Ops | RouteClass::Nodes) {
            return Err(Error::not_found(
                "this process does not play the role dispatcher; it answers /healthz, /readyz, /metrics and /v1/nodes alone",
            )
            .with_code("not-a-dispatcher"));
        }
        self.admit(parts, class)?;
        self.gate.pass(parts, route, &self.ctx, started, &mut seen.caller).await?;
        let deadline = if class == RouteClass::LoadFile { UPLOAD_DEADLINE } else { self.deadline(parts)? };
        let mut call = Call::new(self, parts, body, request_id, started, deadline)?;
        call.caller = Caller { token: seen.caller.token.clone(), unlooked: seen.caller.unlooked };
        let answer = {
            let handler = pin!(handlers::dispatch(&mut call, route));
            tokio::time::timeout(deadline + GRACE, handler).await
        };
        seen.key_hash = call.key_hash;
        if call.caller.unlooked && matches!(answer, Ok(Ok(_))) {
            return Err(Error::internal("the keys of the request were not held against its token"));
        }
        answer.unwrap_or_else(|_| Err(deadline_error(is_write(class, &parts.method), deadline)))
    }

    fn deadline(&self, parts: &Parts) -> Result<Duration> {
        let Some(value) = parts.headers.get(headers::DEADLINE_MS) else {
            return Ok(self.config.default_deadline);
        };
        let most = self.config.max_deadline.as_millis() as u64;
        let asked = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
        match asked {
            Some(millis @ 1..) if millis <= most => Ok(Duration::from_millis(millis)),
            _ => Err(Error::invalid(format!(
                "nacre-deadline-ms is not a number of milliseconds from 1 to the limit deadline_ms, {most}"
            ))
            .with_code("header-invalid")),
        }
    }

    /// Sheds early what matters least. Health and metrics are answered always.
    fn admit(&self, parts: &Parts, class: RouteClass) -> Result<()> {
        let (part, whole) = match parts.headers.get(headers::PRIORITY).map(|value| value.as_bytes()) {
            None | Some(b"normal") => NORMAL_SHARE,
            Some(b"high") => (1, 1),
            Some(b"low") => LOW_SHARE,
            Some(_) => {
                return Err(
                    Error::invalid("nacre-priority is not high, normal or low").with_code("header-invalid")
                );
            }
        };
        if class != RouteClass::Ops && !self.serving.load(Relaxed) {
            // An answer from half of the log would call rows absent that were acknowledged.
            self.node.ready()?;
            self.serving.store(true, Relaxed);
        }
        let most = (self.config.max_requests.saturating_mul(part) / whole).max(1);
        if class == RouteClass::Ops || self.metrics.in_flight.get() <= most as i64 {
            return Ok(());
        }
        self.metrics.shed.add(1);
        Err(Error::overloaded(format!(
            "more requests are in flight than the limit max_requests ({}) lets in at this priority",
            self.config.max_requests
        ))
        .with_retry_after_ms(1_000))
    }

    /// An error as an answer.
    pub(crate) fn problem(&self, error: &Error, request_id: &str, write: bool) -> Answer {
        let problem = Problem::new(error, request_id, write);
        let mut answer = Answer::bytes(PROBLEM_JSON, serde_json::to_vec(&problem).unwrap_or_default());
        answer
            .set_status(StatusCode::from_u16(status_of(error)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
        let wait = match answer.status().as_u16() {
            429 | 503 => Some(error.retry_after_ms().unwrap_or(1_000)),
            _ => error.retry_after_ms(),
        };
        if let Some(millis) = wait {
            answer.number(RETRY_AFTER, millis.div_ceil(1_000).max(1));
        }
        answer
    }
}

/// A handler that panics is a bug of ours and an answer to its client; the other requests do not notice. The panic's
/// message may quote what a client sent, so it goes to the process's panic hook alone.
async fn caught(
    work: impl Future<Output = Result<Answer>>,
    metrics: &Metrics,
    write: bool,
) -> Result<Answer> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
        metrics.panics.add(1);
        // What it had done by then is not known.
        let kind = if write { ErrorKind::Unknown } else { ErrorKind::Internal };
        Err(Error::new(kind, "the server met a bug; the request id finds it in the logs").with_code("panic"))
    })
}

/// Limits of the head, by name.
fn check_head(parts: &Parts) -> Result<()> {
    let uri = parts.uri.path_and_query().map_or(0, |whole| whole.as_str().len());
    if uri > limits::URI_BYTES {
        return Err(Error::invalid(format!(
            "the path and query have {uri} bytes; the limit uri_bytes is {}",
            limits::URI_BYTES
        ))
        .with_code("uri-too-long"));
    }
    let bytes: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes > limits::HEADER_BYTES {
        return Err(Error::invalid(format!(
            "the headers have {bytes} bytes; the limit header_bytes is {}",
            limits::HEADER_BYTES
        ))
        .with_code("headers-too-large"));
    }
    Ok(())
}

/// Whether a failure must say if it had an effect.
fn is_write(class: RouteClass, method: &Method) -> bool {
    let reads = matches!(class, RouteClass::BatchGet | RouteClass::NamespaceBatchGet | RouteClass::Get);
    !reads && !matches!(*method, Method::GET | Method::HEAD)
}

/// What is learnt of a request on the way, for the logs.
#[derive(Debug, Default)]
struct Seen {
    key_hash: Option<u64>,
    caller: Caller,
}

fn outcome_of(answer: &Answer, write: bool) -> Outcome {
    match answer.status().as_u16() {
        404 if answer.is_absent() => Outcome::Absent,
        429 => Outcome::Throttled,
        504 if write => Outcome::Unknown,
        500.. if answer.status() != StatusCode::NOT_IMPLEMENTED => Outcome::Server,
        400.. => Outcome::Client,
        _ => Outcome::Ok,
    }
}

/// Names the request: the client's word for it if it is a plain one, else 32 random hex digits.
struct RequestId {
    bytes: [u8; 64],
    length: usize,
}

impl RequestId {
    fn of(parts: &Parts, ids: &dyn Ids) -> Self {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let mut bytes = [0; 64];
        let given = parts.headers.get(headers::REQUEST_ID).map(|value| value.as_bytes());
        if let Some(given) = given.filter(|given| (1..=64).contains(&given.len()) && given.iter().all(plain))
        {
            bytes[..given.len()].copy_from_slice(given);
            return Self { bytes, length: given.len() };
        }
        for (pair, byte) in bytes.chunks_exact_mut(2).zip(ids.random_u128().to_be_bytes()) {
            pair.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        Self { bytes, length: 32 }
    }

    fn as_str(&self) -> &str {
        // Only ASCII was put in.
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_counted_and_answered() {
        let metrics = Metrics::new(0);
        let read = caught(async { panic!("bug") }, &metrics, false).await.unwrap_err();
        assert_eq!((status_of(&read), read.kind()), (500, ErrorKind::Internal));
        let write = caught(async { panic!("bug") }, &metrics, true).await.unwrap_err();
        let problem = Problem::new(&write, "1", true);
        assert_eq!((problem.status, problem.applied.as_deref()), (500, Some("unknown")));
        let mut text = String::new();
        metrics.text(&mut text, 0);
        assert!(text.contains("nacre_http_panics_total 2"));
    }
}
