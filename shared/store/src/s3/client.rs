//! One request and its answer: signed, counted, bounded in number, in size and in time; repeated where that is harmless.

use super::address::Address;
use super::answer::{Partial, Whole};
use super::ask::{Ask, Kind, TEXT_AT_MOST};
use super::body;
use super::lanes::{Lanes, Place, Way};
use super::refusal::Refusal;
use crate::aws::http::{Http, Lost};
use crate::aws::keys::{Asked, Keys};
use crate::metered::{Counter, Counters};
use crate::probe::NOT_BY_WAITING;
use crate::{AwsCredentials, ObjectPath, S3Settings};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use nacre_runtime::{Backoff, Budget, Context, Hedger};
use nacre_types::{Error, ErrorKind, Result};
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::HttpRequestBody;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Bodies above this are hashed by another thread: more takes longer than half a millisecond.
const HASHED_HERE: usize = 256 << 10;
/// Repeats of reads, per thousand of them and at once.
const REPEATS_PER_THOUSAND: u32 = 100;
const REPEATS_AT_ONCE: u32 = 50;
/// No get is sent again sooner.
const HEDGED_AFTER: Duration = Duration::from_millis(10);
/// Second gets, per thousand and at once.
const HEDGES_PER_THOUSAND: u32 = 30;
const HEDGES_AT_ONCE: u32 = 5;

/// Times and sizes.
#[derive(Debug, Clone)]
pub(super) struct Tuning {
    /// How long a connection may take, with its TLS.
    pub(super) connect: Duration,
    /// How long the first byte of an answer to a read may take.
    pub(super) read: Duration,
    /// How long a write may take until it is answered; more where bodies are big.
    pub(super) write: Duration,
    /// How long the store may take to copy a part, or to put the parts of an upload together.
    pub(super) heavy: Duration,
    /// How long the body of an answer to a read may pause. That of a write has the write's own time: S3 may begin the
    /// answer at once and end it minutes later.
    pub(super) pause: Duration,
    /// How long a request may wait for its place.
    pub(super) wait: Duration,
    /// Requests under way at once, of one prefix and way.
    pub(super) lane_width: usize,
    /// A read is sent at most so often, and not again when so many times what it may take ([`Ask::within`]) have passed.
    pub(super) attempts: u32,
    pub(super) backoff_first: Duration,
    pub(super) backoff_most: Duration,
    /// The smallest part of an upload; S3 takes no less than 5 MiB but for the last.
    pub(super) part_bytes: usize,
    /// Parts of one upload under way at once; each is in memory.
    pub(super) parts_at_once: usize,
    /// Up to here a copy is a get and a put: two requests where the store's own copy takes five.
    pub(super) small_copy_bytes: u64,
    /// The smallest parts that the store copies, where there is more than one; it takes at most 5 GiB.
    pub(super) copy_part_bytes: u64,
    /// Parts of one copy under way at once.
    pub(super) copies_at_once: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(5),
            write: Duration::from_secs(30),
            heavy: Duration::from_secs(180),
            pause: Duration::from_secs(5),
            wait: Duration::from_secs(10),
            lane_width: 64,
            attempts: 4,
            backoff_first: Duration::from_millis(50),
            backoff_most: Duration::from_secs(2),
            part_bytes: 8 << 20,
            parts_at_once: 3,
            small_copy_bytes: 1 << 20,
            copy_part_bytes: 128 << 20,
            copies_at_once: 8,
        }
    }
}

/// The head of an answer; the body is still to come, and holds the request's place.
struct Answer {
    response: Response<Incoming>,
    /// When the time of the request is over.
    over: Instant,
    _place: Place,
}

impl Answer {
    /// Whether it is worth more than that of another attempt.
    fn is_good(&self) -> bool {
        let status = self.response.status();
        !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS
    }
}

pub(super) struct Client {
    pub(super) address: Address,
    pub(super) counters: Counters,
    pub(super) ctx: Context,
    pub(super) tuning: Tuning,
    http: Http,
    keys: Keys,
    lanes: Lanes,
    hedger: Mutex<Hedger>,
    repeats: Mutex<Budget>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(
        address: Address,
        settings: &S3Settings,
        ctx: &Context,
        tuning: Tuning,
    ) -> Result<Self> {
        let tls = address.origin.starts_with("https:");
        // Roots are read and parsed for some milliseconds; keys that do not change ask nobody.
        let asks_others = !matches!(settings.credentials, AwsCredentials::Keys { .. });
        let http = Http::new(tls, tls || asks_others, tuning.connect)?;
        let asked = Asked {
            credentials: &settings.credentials,
            region: &address.region,
            allow_http: settings.allow_http,
        };
        let keys = Keys::new(&asked, &http)?;
        Ok(Self {
            address,
            counters: Counters::default(),
            ctx: ctx.clone(),
            http,
            keys,
            lanes: Lanes::new(tuning.lane_width),
            hedger: Mutex::new(Hedger::new(HEDGED_AFTER, Budget::new(HEDGES_PER_THOUSAND, HEDGES_AT_ONCE))),
            repeats: Mutex::new(Budget::new(REPEATS_PER_THOUSAND, REPEATS_AT_ONCE)),
            tuning,
        })
    }

    /// A request about an object.
    pub(super) fn ask(&self, kind: Kind, method: Method, path: &ObjectPath) -> Ask {
        let key = self.address.key(path.as_str());
        Ask::new(kind, method, Some(key), path.as_str(), self.tuning.read)
    }

    /// A request about the bucket.
    pub(super) fn ask_bucket(&self, kind: Kind, method: Method, lane: &str) -> Ask {
        Ask::new(kind, method, None, lane, self.tuning.read)
    }

    /// Sends a request until there is an answer that another attempt would not change. For what may be sent twice.
    ///
    /// # Errors
    /// `Unavailable`: reads have no unknown outcomes.
    pub(super) async fn read(&self, ask: &Ask) -> Result<Whole> {
        self.repeats.lock().earn();
        let begun = self.ctx.clock.monotonic();
        let mut backoff = Backoff::new(self.tuning.backoff_first, self.tuning.backoff_most);
        let mut attempts = 1;
        loop {
            let failed = match self.read_once(ask).await {
                Ok(answer) if answer.body == Err(Partial::Cut) => {
                    Error::unavailable(format!("{}: the store's answer was cut short", ask.what()))
                        .with_code("store-silent")
                }
                Ok(answer) if answer.body == Err(Partial::TooLong) => self.too_long(ask),
                Ok(answer) if answer.status.is_success() => return Ok(answer),
                Ok(answer) => {
                    let refusal = Refusal::of(&answer);
                    if !refusal.is_passing() {
                        return Ok(answer);
                    }
                    refusal.of_read(&self.address, &ask.what())
                }
                // Nobody sees what this request would have made, so nobody minds whether it was made.
                Err(error) if error.kind() == ErrorKind::Unknown => error.with_kind(ErrorKind::Unavailable),
                Err(error) => error,
            };
            let late = self.ctx.clock.monotonic().saturating_sub(begun) > ask.within * self.tuning.attempts;
            if late
                || attempts >= self.tuning.attempts
                || failed.kind() != ErrorKind::Unavailable
                || failed.code() == "store-busy"
                || NOT_BY_WAITING.contains(&failed.code())
                || !self.repeats.lock().take()
            {
                return Err(failed);
            }
            attempts += 1;
            tokio::time::sleep(backoff.next(&*self.ctx.ids)).await;
        }
    }

    fn too_long(&self, ask: &Ask) -> Error {
        Error::unavailable(format!(
            "{}: {} answered with more than can be an answer to it ({} bytes); is it an S3 store, and does \
             AWS_ENDPOINT_URL_S3 name it?",
            ask.what(),
            self.address.origin,
            ask.at_most
        ))
        .with_code("store-endpoint")
    }

    async fn read_once(&self, ask: &Ask) -> Result<Whole> {
        // First: nobody holds a place while waiting for keys.
        let keys = self.keys().await?;
        let place = self.lanes.enter(&ask.lane, ask.way(), self.tuning.wait).await?;
        let answer = match ask.kind {
            Kind::Get => self.hedged(ask, &keys, place).await?,
            _ => self.answered(ask, &keys, place).await?,
        };
        Ok(self.whole(ask, answer).await)
    }

    /// The first answer to a request that is sent again if it is slow.
    async fn hedged(&self, ask: &Ask, keys: &Arc<AwsCredential>, place: Place) -> Result<Answer> {
        let is_good = |answer: &Result<Answer>| answer.as_ref().is_ok_and(Answer::is_good);
        let begun = self.ctx.clock.monotonic();
        let wait = self.hedger.lock().begin();
        let first = self.answered(ask, keys, place);
        tokio::pin!(first);
        let answer = match wait {
            None => first.await,
            Some(wait) => {
                tokio::select! {
                    answer = &mut first => answer,
                    () = tokio::time::sleep(wait) => match self.may_hedge(ask) {
                        None => first.await,
                        Some(place) => either(first, self.answered(ask, keys, place), is_good).await,
                    },
                }
            }
        };
        // Refusals are quick: they say nothing about how long an answer takes.
        if is_good(&answer) {
            self.hedger.lock().observe(self.ctx.clock.monotonic().saturating_sub(begun));
        }
        answer
    }

    /// A place for a second request: never where the lane is full, since that is why the first is slow.
    fn may_hedge(&self, ask: &Ask) -> Option<Place> {
        let place = self.lanes.try_enter(&ask.lane, ask.way())?;
        self.hedger.lock().take().then_some(place)
    }

    /// Whether a read may be sent more than once: not where half a lane is taken.
    pub(super) fn has_room(&self, path: &ObjectPath) -> bool {
        2 * self.lanes.room(path.as_str(), Way::Read) > self.tuning.lane_width
    }

    /// Sends a request once.
    ///
    /// # Errors
    /// `Unavailable`: it certainly had no effect. `Unknown`: nobody knows.
    pub(super) async fn write(&self, ask: &Ask) -> Result<Whole> {
        let keys = self.keys().await?;
        let place = self.lanes.enter(&ask.lane, ask.way(), self.tuning.wait).await?;
        let answer = self.answered(ask, &keys, place).await?;
        Ok(self.whole(ask, answer).await)
    }

    async fn keys(&self) -> Result<Arc<AwsCredential>> {
        self.keys.get(&self.ctx, self.tuning.wait).await.map_err(|why| {
            Error::unavailable(format!(
                "no keys for the store ({why}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or \
                 give this machine a role"
            ))
            .with_code("store-credentials")
        })
    }

    async fn answered(&self, ask: &Ask, keys: &Arc<AwsCredential>, place: Place) -> Result<Answer> {
        let request = self.signed(ask, keys.clone()).await?;
        self.counter(ask.kind).sent(ask.body.len());
        let over = body::after(ask.within);
        let lost = match tokio::time::timeout_at(over, self.http.send(request)).await {
            Ok(Ok(response)) => {
                let status = response.status();
                if !(status.is_success() || matches!(status.as_u16(), 404 | 412 | 416)) {
                    self.counter(ask.kind).failed();
                }
                return Ok(Answer { response, over, _place: place });
            }
            Ok(Err(lost)) => lost,
            Err(_) => Lost::Unanswered(format!("no answer within {} s", ask.within.as_secs_f32())),
        };
        self.counter(ask.kind).failed();
        let origin = &self.address.origin;
        Err(match lost {
            Lost::NotSent(why) => {
                let roots = if why.contains("certificate") {
                    " SSL_CERT_FILE names root certificates of one's own."
                } else {
                    ""
                };
                Error::unavailable(format!(
                    "{}: no connection to {origin} ({why}); is the store there, and does AWS_ENDPOINT_URL_S3 name it?{roots}",
                    ask.what()
                ))
                .with_code("store-unreachable")
            }
            Lost::Unanswered(why) => Error::unknown(format!(
                "{}: sent to {origin} and not answered ({why}); if that lasts, does AWS_ENDPOINT_URL_S3 name the store, and \
                 http or https as it wants it?",
                ask.what()
            ))
            .with_code("store-silent"),
        })
    }

    async fn signed(&self, ask: &Ask, keys: Arc<AwsCredential>) -> Result<Request<Full<Bytes>>> {
        let broken = |error: String| Error::internal(format!("{}: {error}", ask.what()));
        let mut builder = Request::builder()
            .method(ask.method.clone())
            .uri(self.address.uri(ask.key.as_deref(), &ask.query)?)
            .header("user-agent", concat!("nacre/", env!("CARGO_PKG_VERSION")));
        // Said for empty bodies too, which hyper would leave out and S3 wants.
        if matches!(ask.method, Method::PUT | Method::POST) {
            builder = builder.header("content-length", ask.body.len());
        }
        for (name, value) in &ask.headers {
            builder = builder.header(*name, value);
        }
        let mut request = builder
            .body(HttpRequestBody::from(ask.body.clone()))
            .map_err(|error| broken(error.to_string()))?;
        let region = self.address.region.clone();
        let sign = move || {
            AwsAuthorizer::new(&keys, "s3", &region)
                .try_authorize(&mut request, None)
                .map(|()| request)
                .map_err(|error| error.to_string())
        };
        let signed = if ask.body.len() > HASHED_HERE {
            self.ctx.tasks.spawn_blocking("s3-sign", sign).await?
        } else {
            sign()
        };
        let (parts, _) = signed.map_err(broken)?.into_parts();
        Ok(Request::from_parts(parts, Full::new(ask.body.clone())))
    }

    /// Reads the body.
    async fn whole(&self, ask: &Ask, answer: Answer) -> Whole {
        let (head, incoming) = answer.response.into_parts();
        let (status, headers) = (head.status, head.headers);
        if ask.method == Method::HEAD {
            return Whole { status, headers, body: Ok(Bytes::new()) };
        }
        let bounds = if ask.writes() {
            body::Bounds::of_write(answer.over)
        } else {
            body::Bounds::of_read(ask.within, self.tuning.pause)
        };
        let at_most = if status.is_success() { ask.at_most } else { TEXT_AT_MOST };
        let found = body::collect(incoming, &headers, at_most, &bounds).await;
        if ask.kind == Kind::Get {
            self.counter(ask.kind).moved(found.read);
        }
        let body = match found.body {
            // The status says enough of a refusal; what is so long is no word of an S3 store.
            Err(Partial::TooLong) if !status.is_success() => Ok(Bytes::new()),
            body => body,
        };
        if body.is_err() && status.is_success() {
            self.counter(ask.kind).failed();
        }
        Whole { status, headers, body }
    }

    fn counter(&self, kind: Kind) -> &Counter {
        match kind {
            Kind::Put => &self.counters.put,
            Kind::Get => &self.counters.get,
            Kind::Head => &self.counters.head,
            Kind::List => &self.counters.list,
            Kind::Delete => &self.counters.delete,
            Kind::Copy => &self.counters.copy,
            Kind::Upload => &self.counters.upload,
        }
    }

    /// The error of an answer to `ask` that no operation expects.
    pub(super) fn refused_read(&self, ask: &Ask, answer: &Whole) -> Error {
        let error = Refusal::of(answer).of_read(&self.address, &ask.what());
        // Parts of an upload are sent as reads are, but what a store cannot do is no passing trouble.
        let is_unfit = ask.writes() && error.code() == "store-unfit";
        if is_unfit { error.with_kind(ErrorKind::Invalid) } else { error }
    }

    /// Likewise of a write.
    pub(super) fn refused_write(&self, ask: &Ask, answer: &Whole) -> Error {
        Refusal::of(answer).of_write(&self.address, &ask.what())
    }
}

/// Whichever answers first, if it is good; else the other.
async fn either<T>(
    first: impl Future<Output = T>,
    second: impl Future<Output = T>,
    is_good: impl Fn(&T) -> bool,
) -> T {
    tokio::pin!(first, second);
    tokio::select! {
        answer = &mut first => if is_good(&answer) { answer } else { second.await },
        answer = &mut second => if is_good(&answer) { answer } else { first.await },
    }
}
