//! One request and its answer: signed, counted, bounded in number and in time; repeated where that is harmless.

use super::address::Address;
use super::answer::Whole;
use super::budget::Budget;
use super::hedge::Hedger;
use super::http::{Http, Lost};
use super::lanes::{Lanes, Place};
use super::refusal::{HOPELESS, Refusal};
use crate::metered::{Counter, Counters};
use crate::{ObjectPath, S3Credentials, S3Settings};
use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use nacre_runtime::{Backoff, Context};
use nacre_types::{Error, ErrorKind, Result};
use object_store::aws::{AmazonS3Builder, AwsAuthorizer, AwsCredentialProvider};
use object_store::CredentialProvider as _;
use object_store::client::HttpRequestBody;
use parking_lot::Mutex;
use std::time::Duration;

/// Bodies above this are hashed by another thread: more takes longer than half a millisecond.
const HASHED_HERE: usize = 256 << 10;
/// Room that is made for a body at once, whatever length an answer claims.
const ROOM_AT_ONCE: u64 = 16 << 20;
/// Repeats of reads, per thousand of them and at once.
const REPEATS_PER_THOUSAND: u32 = 100;
const REPEATS_AT_ONCE: u32 = 50;

/// Times and sizes.
#[derive(Debug, Clone)]
pub(super) struct Tuning {
    /// How long the first byte of an answer to a read may take.
    pub(super) read: Duration,
    /// How long a write may take until it is answered; more where bodies are big.
    pub(super) write: Duration,
    /// How long the store may take to copy a part, or to put the parts of an upload together.
    pub(super) heavy: Duration,
    /// How long a body may pause.
    pub(super) pause: Duration,
    /// How long a request may wait for its place.
    pub(super) wait: Duration,
    /// Requests under way at once, of one prefix and kind.
    pub(super) lane_width: usize,
    /// A read is sent at most so often, and not again when so many of [`Tuning::read`] have passed.
    pub(super) attempts: u32,
    pub(super) backoff_first: Duration,
    pub(super) backoff_most: Duration,
    /// The smallest part of an upload; S3 takes no less than 5 MiB but for the last.
    pub(super) part_bytes: usize,
    /// Parts of one upload under way at once; each is in memory.
    pub(super) parts_at_once: usize,
    /// Up to here a copy is a get and a put: two requests where the store's own copy takes five.
    pub(super) small_copy_bytes: u64,
    /// The parts that the store copies; it takes at most 5 GiB.
    pub(super) copy_part_bytes: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
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
            copy_part_bytes: 512 << 20,
        }
    }
}

/// What a request is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Put,
    Get,
    Head,
    List,
    Delete,
    Copy,
    Upload,
}

/// A request before it is signed.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) kind: Kind,
    pub(super) method: Method,
    /// The key, or `None` for the bucket.
    pub(super) key: Option<String>,
    /// Whose place it takes: the path below the store's prefix.
    pub(super) lane: String,
    pub(super) query: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
    /// How long the answer's first byte may take.
    pub(super) within: Duration,
}

impl Ask {
    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn query(mut self, query: String) -> Self {
        self.query = query;
        self
    }

    pub(super) fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    fn writes(&self) -> bool {
        !matches!(self.kind, Kind::Get | Kind::Head | Kind::List)
    }

    /// For errors: `GET of object a/b`.
    fn what(&self) -> String {
        match self.kind {
            Kind::List => format!("listing {:?}", self.lane),
            _ if self.key.is_none() => format!("{} of the bucket", self.method),
            _ => format!("{} of object {}", self.method, self.lane),
        }
    }
}

/// The head of an answer; the body is still to come, and holds the request's place.
struct Answer {
    response: Response<Incoming>,
    _place: Place,
}

pub(super) struct Client {
    pub(super) address: Address,
    pub(super) counters: Counters,
    pub(super) ctx: Context,
    pub(super) tuning: Tuning,
    http: Http,
    credentials: AwsCredentialProvider,
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
        let http = Http::new(address.origin.starts_with("https:"))?;
        let credentials = credentials(&address, settings, &http)?;
        Ok(Self {
            address,
            counters: Counters::default(),
            ctx: ctx.clone(),
            http,
            credentials,
            lanes: Lanes::new(tuning.lane_width),
            hedger: Mutex::new(Hedger::new()),
            repeats: Mutex::new(Budget::new(REPEATS_PER_THOUSAND, REPEATS_AT_ONCE)),
            tuning,
        })
    }

    /// A request about an object.
    pub(super) fn ask(&self, kind: Kind, method: Method, path: &ObjectPath) -> Ask {
        Ask {
            kind,
            method,
            key: Some(self.address.key(path.as_str())),
            lane: path.to_string(),
            query: String::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            within: self.tuning.read,
        }
    }

    /// A request about the bucket.
    pub(super) fn ask_bucket(&self, kind: Kind, method: Method, lane: &str) -> Ask {
        Ask {
            kind,
            method,
            key: None,
            lane: lane.to_owned(),
            query: String::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            within: self.tuning.read,
        }
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
                Ok(answer) if answer.body.is_none() => {
                    Error::unavailable(format!("{}: the store's answer was cut short", ask.what()))
                        .with_code("store-silent")
                }
                Ok(answer) if answer.status.is_success() => return Ok(answer),
                Ok(answer) => {
                    let refusal = Refusal::of(&answer);
                    if !refusal.is_passing() {
                        return Ok(answer);
                    }
                    refusal.of_read(&self.address, &ask.what())
                }
                Err(error) => error,
            };
            let late = self.ctx.clock.monotonic().saturating_sub(begun) > ask.within * self.tuning.attempts;
            if late
                || attempts >= self.tuning.attempts
                || HOPELESS.contains(&failed.code())
                || !self.repeats.lock().take()
            {
                return Err(failed.with_kind(ErrorKind::Unavailable));
            }
            attempts += 1;
            tokio::time::sleep(backoff.next(&*self.ctx.ids)).await;
        }
    }

    async fn read_once(&self, ask: &Ask) -> Result<Whole> {
        let place = self.lanes.enter(&ask.lane, ask.writes(), self.tuning.wait).await?;
        let answer = match ask.kind {
            Kind::Get => self.hedged(ask, place).await?,
            _ => self.answered(ask, place).await?,
        };
        Ok(self.whole(ask, answer).await)
    }

    /// The first answer to a request that is sent again if it is slow.
    async fn hedged(&self, ask: &Ask, place: Place) -> Result<Answer> {
        let begun = self.ctx.clock.monotonic();
        let wait = self.hedger.lock().begin();
        let first = self.answered(ask, place);
        tokio::pin!(first);
        let answer = match wait {
            None => first.await,
            Some(wait) => {
                tokio::select! {
                    answer = &mut first => answer,
                    () = tokio::time::sleep(wait) => match self.may_hedge(ask) {
                        None => first.await,
                        Some(place) => either(first, self.answered(ask, place)).await,
                    },
                }
            }
        };
        if answer.is_ok() {
            self.hedger.lock().observe(self.ctx.clock.monotonic().saturating_sub(begun));
        }
        answer
    }

    /// A place for a second request: never where the lane is full, since that is why the first is slow.
    fn may_hedge(&self, ask: &Ask) -> Option<Place> {
        let place = self.lanes.try_enter(&ask.lane, ask.writes())?;
        self.hedger.lock().take().then_some(place)
    }

    /// Sends a request once.
    ///
    /// # Errors
    /// `Unavailable`: it certainly had no effect. `Unknown`: nobody knows.
    pub(super) async fn write(&self, ask: &Ask) -> Result<Whole> {
        let place = self.lanes.enter(&ask.lane, ask.writes(), self.tuning.wait).await?;
        let answer = self.answered(ask, place).await?;
        Ok(self.whole(ask, answer).await)
    }

    async fn answered(&self, ask: &Ask, place: Place) -> Result<Answer> {
        let request = self.signed(ask).await?;
        self.counter(ask.kind).sent(ask.body.len());
        let lost = match tokio::time::timeout(ask.within, self.http.send(request)).await {
            Ok(Ok(response)) => {
                if response.status().is_server_error() {
                    self.counter(ask.kind).failed();
                }
                return Ok(Answer { response, _place: place });
            }
            Ok(Err(lost)) => lost,
            Err(_) => Lost::Unanswered(format!("no answer within {} s", ask.within.as_secs_f32())),
        };
        self.counter(ask.kind).failed();
        let origin = &self.address.origin;
        Err(match lost {
            Lost::NotSent(why) => Error::unavailable(format!(
                "{}: no connection to {origin} ({why}); is the store there, and does AWS_ENDPOINT_URL_S3 name it?",
                ask.what()
            ))
            .with_code("store-unreachable"),
            Lost::Unanswered(why) => {
                Error::unknown(format!("{}: sent to {origin} and not answered ({why})", ask.what()))
                    .with_code("store-silent")
            }
        })
    }

    async fn signed(&self, ask: &Ask) -> Result<Request<Full<Bytes>>> {
        let broken = |error: String| Error::internal(format!("{}: {error}", ask.what()));
        let mut builder = Request::builder()
            .method(ask.method.clone())
            .uri(self.address.uri(ask.key.as_deref(), &ask.query)?)
            .header("user-agent", concat!("nacre/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &ask.headers {
            builder = builder.header(*name, value);
        }
        let mut request = builder
            .body(HttpRequestBody::from(ask.body.clone()))
            .map_err(|error| broken(error.to_string()))?;
        let no_keys = |why: String| {
            let why: String = why.chars().take(300).collect();
            Error::unavailable(format!(
                "no keys for the store ({why}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or \
                 give this machine a role"
            ))
            .with_code("store-credentials")
        };
        let asked = tokio::time::timeout(self.tuning.wait, self.credentials.get_credential()).await;
        let credential = asked
            .map_err(|_| no_keys("they did not come in time".to_owned()))?
            .map_err(|error| no_keys(error.to_string()))?;
        let region = self.address.region.clone();
        let sign = move || {
            AwsAuthorizer::new(&credential, "s3", &region)
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

    /// Reads the body. One that ends early, or pauses for too long, is left out.
    async fn whole(&self, ask: &Ask, answer: Answer) -> Whole {
        let (head, mut incoming) = answer.response.into_parts();
        let (status, headers) = (head.status, head.headers);
        if ask.method == Method::HEAD {
            return Whole { status, headers, body: Some(Bytes::new()) };
        }
        let length: Option<u64> = headers
            .get("content-length")
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        let mut first: Option<Bytes> = None;
        let mut rest = BytesMut::new();
        let complete = loop {
            let Ok(frame) = tokio::time::timeout(self.tuning.pause, incoming.frame()).await else {
                break false;
            };
            let piece = match frame {
                None => break true,
                Some(Err(_)) => break false,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => piece,
                    Err(_) => continue,
                },
            };
            match &first {
                None => first = Some(piece),
                Some(begin) => {
                    if rest.is_empty() {
                        let room = length.unwrap_or(0).min(ROOM_AT_ONCE) as usize;
                        rest.reserve(room.max(begin.len() + piece.len()));
                        rest.extend_from_slice(begin);
                    }
                    rest.extend_from_slice(&piece);
                }
            }
        };
        let body = if rest.is_empty() { first.unwrap_or_default() } else { rest.freeze() };
        let complete = complete && length.is_none_or(|length| length == body.len() as u64);
        if ask.kind == Kind::Get {
            self.counter(ask.kind).moved(body.len());
        }
        if !complete {
            self.counter(ask.kind).failed();
        }
        Whole { status, headers, body: complete.then_some(body) }
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
        Refusal::of(answer).of_read(&self.address, &ask.what())
    }

    /// Likewise of a write.
    pub(super) fn refused_write(&self, ask: &Ask, answer: &Whole) -> Error {
        Refusal::of(answer).of_write(&self.address, &ask.what())
    }
}

/// Whichever answers first; an error only if both fail.
async fn either<T>(first: impl Future<Output = Result<T>>, second: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::pin!(first, second);
    tokio::select! {
        answer = &mut first => match answer {
            Ok(answer) => Ok(answer),
            Err(_) => second.await,
        },
        answer = &mut second => match answer {
            Ok(answer) => Ok(answer),
            Err(_) => first.await,
        },
    }
}

/// Where keys come from. object_store's builder knows the providers; the client that it builds beside is not used.
fn credentials(address: &Address, settings: &S3Settings, http: &Http) -> Result<AwsCredentialProvider> {
    use object_store::aws::AmazonS3ConfigKey as Name;
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&address.bucket)
        .with_region(&address.region)
        .with_http_connector(http.clone());
    let mut set = |name: Name, value: Option<&String>| {
        if let Some(value) = value {
            builder = std::mem::take(&mut builder).with_config(name, value);
        }
    };
    match &settings.credentials {
        S3Credentials::Machine => {}
        S3Credentials::MachineAt(url) => set(Name::MetadataEndpoint, Some(url)),
        S3Credentials::Keys { access_key, secret_key, session_token } => {
            set(Name::AccessKeyId, Some(access_key));
            set(Name::SecretAccessKey, Some(secret_key));
            set(Name::Token, session_token.as_ref());
        }
        S3Credentials::WebIdentity { token_file, role_arn, session_name, sts_endpoint } => {
            set(Name::WebIdentityTokenFile, Some(token_file));
            set(Name::RoleArn, Some(role_arn));
            set(Name::RoleSessionName, session_name.as_ref());
            set(Name::StsEndpoint, sts_endpoint.as_ref());
        }
        S3Credentials::Task { relative_uri } => set(Name::ContainerCredentialsRelativeUri, Some(relative_uri)),
        S3Credentials::Pod { uri, token_file } => {
            set(Name::ContainerCredentialsFullUri, Some(uri));
            set(Name::ContainerAuthorizationTokenFile, Some(token_file));
        }
    }
    let built = builder.build().map_err(|error| {
        Error::invalid(format!("the settings of the store's keys: {error}")).with_code("store-settings")
    })?;
    Ok(built.credentials().clone())
}
