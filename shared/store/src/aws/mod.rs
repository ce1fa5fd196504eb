//! What every service of AWS's wants: connections ([`http`]), keys ([`keys`]), signatures; and the posts of those that
//! are asked in JSON.

pub(crate) mod http;
pub(crate) mod keys;

use self::http::{Http, Lost};
use self::keys::{Asked, Keys};
use crate::AwsCredentials;
use ::http::{HeaderMap, Request, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use nacre_runtime::Context;
use nacre_types::{Error, Result, civil};
use object_store::aws::AwsAuthorizer;
use object_store::client::HttpRequestBody;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection may take, with its TLS.
const CONNECT: Duration = Duration::from_secs(3);
/// How long keys may take to come.
const KEYS: Duration = Duration::from_secs(10);
/// How long an answer's body may take after its head.
const BODY: Duration = Duration::from_secs(5);
/// The longest body that is taken: several times what a page of DynamoDB's makes in JSON.
const BODY_BYTES: usize = 32 << 20;

/// A service of AWS's that is asked by signed posts of JSON. Clones share its connections.
///
/// A post is sent once: nothing below repeats a request that a server may have seen, and whether one that was not
/// answered had left this process is told. What an answer means is the caller's affair.
#[derive(Clone)]
pub struct AwsService {
    http: Http,
    keys: Arc<Keys>,
    ctx: Context,
    name: &'static str,
    region: String,
    uri: Uri,
}

impl std::fmt::Debug for AwsService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwsService").field("name", &self.name).field("uri", &self.uri).finish_non_exhaustive()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct AwsAnswer {
    /// The status.
    pub status: u16,
    /// `None` = it was cut short, and only status and headers are known.
    pub body: Option<Bytes>,
    headers: HeaderMap,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwsLost {
    /// There are no keys to sign with: nothing was sent.
    NoKeys(String),
    /// There was no connection: nothing was sent.
    NoConnection(String),
    /// It was sent, in part or whole.
    Unanswered(String),
}

impl AwsService {
    /// The service that signatures call `name`, at `origin` (`https://host:port`). Nothing is asked yet.
    ///
    /// # Errors
    /// `Invalid` (`store-settings`); `Unavailable` (`store-certificates`) if this machine has no root certificates.
    pub fn new(
        name: &'static str,
        origin: &str,
        region: &str,
        (credentials, allow_http): (&AwsCredentials, bool),
        ctx: &Context,
    ) -> Result<Self> {
        let uri: Uri = format!("{origin}/").parse().map_err(|_| {
            Error::invalid("the service's address is no URL: expected https://host:port")
                .with_code("store-settings")
        })?;
        let tls = origin.starts_with("https:");
        let http = Http::new(tls, tls || !matches!(credentials, AwsCredentials::Keys { .. }), CONNECT)?;
        let keys = Arc::new(Keys::new(&Asked { credentials, region, allow_http }, &http)?);
        Ok(Self { http, keys, ctx: ctx.clone(), name, region: region.to_owned(), uri })
    }

    /// Posts `body`, once. The head of the answer must come `within`.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn post(
        &self,
        headers: &[(&'static str, &str)],
        body: Bytes,
        within: Duration,
    ) -> Result<AwsAnswer, AwsLost> {
        let request = self.signed(headers, &body).await?;
        let sent = tokio::time::timeout(within, self.http.send(request)).await;
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(Lost::NotSent(why))) => return Err(AwsLost::NoConnection(why)),
            Ok(Err(Lost::Unanswered(why))) => return Err(AwsLost::Unanswered(why)),
            Err(_) => {
                return Err(AwsLost::Unanswered(format!("no answer within {} s", within.as_secs_f32())));
            }
        };
        let (head, incoming) = response.into_parts();
        let whole = tokio::time::timeout(BODY, Limited::new(incoming, BODY_BYTES).collect()).await;
        let body = whole.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes);
        Ok(AwsAnswer { status: head.status.as_u16(), body, headers: head.headers })
    }

    async fn signed(
        &self,
        headers: &[(&'static str, &str)],
        body: &Bytes,
    ) -> Result<Request<Full<Bytes>>, AwsLost> {
        let no_keys = |why: String| AwsLost::NoKeys(why.chars().take(300).collect());
        let mut builder = Request::builder()
            .method("POST")
            .uri(self.uri.clone())
            .header("user-agent", concat!("nacre/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let mut request =
            builder.body(HttpRequestBody::from(body.clone())).map_err(|error| no_keys(error.to_string()))?;
        let keys = self.keys.get(&self.ctx, KEYS).await;
        let credential = keys.map_err(AwsLost::NoKeys)?;
        AwsAuthorizer::new(&credential, self.name, &self.region)
            .try_authorize(&mut request, None)
            .map_err(|error| no_keys(error.to_string()))?;
        let (parts, _) = request.into_parts();
        Ok(Request::from_parts(parts, Full::new(body.clone())))
    }
}

impl AwsAnswer {
    /// A header that is there and not empty.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty())
    }

    /// When it was given, by the server's clock, to the second.
    pub fn date_micros(&self) -> Option<i64> {
        self.header("date").and_then(http_date_micros)
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, in microseconds since the epoch.
pub(crate) fn http_date_micros(text: &str) -> Option<i64> {
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let (day, month, year) = (words.next()?, words.next()?, words.next()?);
    let (time, zone) = (words.next()?, words.next()?);
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    if zone != "GMT" || words.next().is_some() {
        return None;
    }
    civil::parse_timestamp(&format!("{year}-{month:02}-{day:0>2}T{time}Z"))
}
