//! What a handler knows of its request, and the parts of reading one that all handlers share.

use std::borrow::Cow;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderName;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_UNMODIFIED_SINCE,
};
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use nacre_access::{Denied, Grant, Outside};
use nacre_api::{KeyEncoding, Query, ValueEncoding, headers};
use nacre_engine::{Absence, ReadOptions, Receipt, SessionToken, Table, WriteOptions};
use nacre_types::{Consistency, Error, ErrorKind, KeySchema, NamespaceName, Result, TableName, WriteId};
use std::sync::Arc;

use crate::access::Caller;
use crate::answer::Answer;
use crate::service::App;

/// One request.
pub(crate) struct Call<'a> {
    pub(crate) app: &'a App,
    pub(crate) parts: &'a Parts,
    pub(crate) query: Query<'a>,
    pub(crate) request_id: &'a str,
    /// The one wall-clock moment at which everything of the request is judged.
    pub(crate) now_micros: i64,
    started: Duration,
    deadline: Duration,
    body: Option<Incoming>,
    /// Who asks.
    pub(crate) caller: Caller,
    /// For the access log: a keyed hash of the row's key.
    pub(crate) key_hash: Option<u64>,
    /// `on_stale=serve`: an answer that is staler than asked for is better than none.
    pub(crate) serve_stale: bool,
}

/// Reads; and again without the bound on staleness, where it was not met in time and the client said so
/// (`on_stale=serve`). `$read` is made of `$options`.
macro_rules! or_stale {
    ($call:expr, $options:ident, $read:expr) => {
        match $read {
            Err(error)
                if $call.serve_stale && $options.max_staleness.is_some() && error.code() == "stale" =>
            {
                let $options = &nacre_engine::ReadOptions { max_staleness: None, ..$options.clone() };
                $read
            }
            other => other,
        }
    };
}
pub(crate) use or_stale;

/// How many session tokens may be joined.
pub(crate) const MOST_TOKENS: usize = 64;

impl<'a> Call<'a> {
    pub(crate) fn new(
        app: &'a App,
        parts: &'a Parts,
        body: Incoming,
        request_id: &'a str,
        started: Duration,
        deadline: Duration,
    ) -> Result<Self> {
        Ok(Self {
            app,
            parts,
            query: Query::parse(parts.uri.query())?,
            request_id,
            now_micros: app.ctx.clock.now_micros(),
            started,
            deadline,
            body: Some(body),
            caller: Caller::default(),
            key_hash: None,
            serve_stale: false,
        })
    }

    /// The table of a path.
    pub(crate) async fn table(&self, ns: &str, table: &str) -> Result<Arc<Table>> {
        if let Some(table) = self.app.node.table_cached(ns, table) {
            return Ok(table);
        }
        self.app.node.table(&NamespaceName::new(ns)?, &TableName::new(table)?).await
    }

    /// The table of a path, with what other processes have done to it by now: for what is asked seldom. Where the catalog
    /// does not answer, as it is known.
    pub(crate) async fn table_now(&self, ns: &str, table: &str) -> Result<Arc<Table>> {
        let table = self.table(ns, table).await?;
        if !self.app.node.is_alone()
            && let Err(error) = table.renew().await
        {
            tracing::warn!(table = %table.id(), %error, "answering from what is known of the table");
        }
        Ok(table)
    }

    /// Time that is left.
    pub(crate) fn left(&self) -> Duration {
        (self.started + self.deadline).saturating_sub(self.app.ctx.clock.monotonic())
    }

    /// Refuses query parameters that nobody took. Every handler calls it before it does anything.
    pub(crate) fn finish_query(&mut self) -> Result<()> {
        std::mem::take(&mut self.query).finish()
    }

    /// Holds the key against the caller's token, and remembers it for the access log.
    pub(crate) fn note_key(&mut self, key: &[u8]) -> Result<()> {
        if self.app.config.access_log {
            self.key_hash = Some(self.app.hash_key(key));
        }
        self.check_keys(|grant| grant.key(key))
    }

    /// Holds keys against the caller's token, if it is narrowed.
    pub(crate) fn check_keys(&mut self, check: impl FnOnce(&Grant) -> Result<(), Denied>) -> Result<()> {
        if !self.caller.unlooked {
            return Ok(());
        }
        if let Some(token) = &self.caller.token {
            check(&token.grant).map_err(|denied| denied.error())?;
        }
        self.caller.unlooked = false;
        Ok(())
    }

    /// Holds what rows are to be taken from against the caller's token.
    pub(crate) fn check_outside(&self, from: Outside<'_>) -> Result<()> {
        let Some(token) = &self.caller.token else { return Ok(()) };
        token.grant.outside(from).map_err(|denied| denied.error())
    }

    /// Whether the caller may know of a table, or with an empty name of a namespace.
    pub(crate) fn sees(&self, ns: &str, table: &str) -> bool {
        let grant = self.caller.token.as_ref().map(|token| &token.grant);
        grant.is_none_or(|grant| if table.is_empty() { grant.sees(ns) } else { grant.sees_table(ns, table) })
    }

    /// The key of a path segment.
    pub(crate) fn path_key<'k>(&mut self, raw: &'k str, schema: &KeySchema) -> Result<Cow<'k, [u8]>> {
        let encoding = self.key_encoding()?;
        let key = nacre_api::key_from_text(raw, encoding, schema)?;
        self.note_key(&key)?;
        Ok(key)
    }

    /// `key_encoding`.
    pub(crate) fn key_encoding(&mut self) -> Result<KeyEncoding> {
        Ok(self
            .query
            .take_with("key_encoding", "text or base64url", KeyEncoding::from_name)?
            .unwrap_or_default())
    }

    /// `value_encoding`.
    pub(crate) fn value_encoding(&mut self) -> Result<Option<ValueEncoding>> {
        self.query.take_with("value_encoding", "auto, utf8, base64 or json", ValueEncoding::from_name)
    }

    /// A header that is text.
    pub(crate) fn header(&self, name: &HeaderName) -> Result<Option<&'a str>> {
        let Some(value) = self.parts.headers.get(name) else { return Ok(None) };
        value.to_str().map(Some).map_err(|_| {
            Error::invalid(format!("the header {name} holds bytes that are not ASCII text"))
                .with_code("header-invalid")
        })
    }

    /// The session tokens of the request, one by one.
    pub(crate) fn tokens(&self) -> Result<Vec<SessionToken>> {
        let mut tokens = Vec::new();
        if !self.parts.headers.contains_key(headers::TOKEN) {
            return Ok(tokens);
        }
        for value in self.parts.headers.get_all(headers::TOKEN) {
            let text = value.to_str().unwrap_or("not ASCII");
            for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
                if tokens.len() == MOST_TOKENS {
                    return Err(
                        Error::invalid("nacre-token joins more than 64 tokens").with_code("token-invalid")
                    );
                }
                tokens.push(SessionToken::parse(part)?);
            }
        }
        Ok(tokens)
    }

    /// How a read of `table` is to be answered: takes the parameters that all reads share.
    pub(crate) fn read_options(&mut self, table: &Table) -> Result<ReadOptions> {
        let mut tokens = self.tokens()?.into_iter();
        let session = match tokens.next() {
            None => None,
            Some(mut joined) => {
                for token in tokens {
                    joined.join(&token)?;
                }
                Some(joined)
            }
        };
        let mut options = self.shared_read_options()?;
        // A token asks to see what it names; only a table or request that says more overrides that.
        if session.is_some()
            && options.consistency.is_none()
            && table.settings().consistency == Consistency::Eventual
        {
            options.consistency = Some(Consistency::Session);
        }
        options.session = session;
        Ok(options)
    }

    /// The parameters that all reads share, without the session.
    pub(crate) fn shared_read_options(&mut self) -> Result<ReadOptions> {
        let mut options = ReadOptions::at(self.now_micros);
        options.deadline = self.left();
        if self.query.is_empty() {
            return Ok(options);
        }
        options.consistency =
            self.query.take_with("consistency", "eventual, session or strong", |word| match word {
                "eventual" => Some(Consistency::Eventual),
                "session" => Some(Consistency::Session),
                "strong" => Some(Consistency::Strong),
                _ => None,
            })?;
        self.serve_stale = self
            .query
            .take_with("on_stale", "fail or serve", |word| match word {
                "serve" => Some(true),
                "fail" => Some(false),
                _ => None,
            })?
            .unwrap_or(false);
        options.max_staleness = self.query.take_u64("max_staleness_ms")?.map(Duration::from_millis);
        options.as_of = self.query.take_i64("as_of")?.unwrap_or(i64::MAX);
        options.preview = self.query.take_text("load")?.map(|id| nacre_api::load_id(&id)).transpose()?;
        if self.query.take("snapshot").is_some() {
            return Err(nacre_api::Route::Later("reads of snapshots").refuse(&self.parts.method));
        }
        Ok(options)
    }

    /// How a write is to be done.
    pub(crate) fn write_options(&mut self, table: &Table) -> Result<WriteOptions> {
        for name in [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
            if self.parts.headers.contains_key(&name) {
                return Err(Error::invalid(format!(
                    "{name}: a write cannot be conditional, the log has no compare-and-set; order writes by version instead"
                ))
                .with_code("conditional-write"));
            }
        }
        let key = self.idempotency_key()?;
        let first_attempt_micros = self
            .header(&headers::FIRST_ATTEMPT)?
            .map(|text| {
                text.parse::<i64>().map_err(|_| {
                    Error::invalid("nacre-first-attempt is not a number of microseconds since the epoch")
                        .with_code("header-invalid")
                })
            })
            .transpose()?;
        if first_attempt_micros.is_some() && key.is_none() {
            return Err(Error::invalid("nacre-first-attempt goes with the Idempotency-Key of that attempt")
                .with_code("header-invalid"));
        }
        let write_id = key.map(|key| {
            let seed = table.id().0;
            WriteId(xxhash_rust::xxh3::xxh3_128_with_seed(key.as_bytes(), seed as u64 ^ (seed >> 64) as u64))
        });
        Ok(WriteOptions { deadline: self.left(), write_id, first_attempt_micros })
    }

    /// `Idempotency-Key`.
    pub(crate) fn idempotency_key(&self) -> Result<Option<&'a str>> {
        let key = self.header(&headers::IDEMPOTENCY_KEY)?;
        if key.is_some_and(|key| key.is_empty() || key.len() > 255) {
            return Err(Error::invalid("Idempotency-Key has 1 to 255 characters").with_code("header-invalid"));
        }
        Ok(key)
    }

    /// The media type of a header, lower case, without parameters.
    pub(crate) fn media_type(&self, name: &HeaderName) -> Option<String> {
        let text = self.parts.headers.get(name)?.to_str().ok()?;
        // Of an Accept list the first counts: nobody sends weights for these.
        let first = text.split([',', ';']).next()?.trim();
        (!first.is_empty() && first != "*/*").then(|| first.to_ascii_lowercase())
    }

    pub(crate) fn content_type(&self) -> Option<String> {
        self.media_type(&CONTENT_TYPE)
    }

    /// Reads a JSON body; an empty one is `{}` where everything may be left out.
    pub(crate) async fn json_body(&mut self) -> Result<Bytes> {
        if let Some(other) =
            self.content_type().filter(|name| !name.ends_with("json") && !is_default_type(name))
        {
            return Err(media_type(&other, "application/json"));
        }
        let limit = self.app.config.body_bytes;
        let body = self.body(limit, "body_bytes", "body-too-large").await?;
        Ok(if body.trim_ascii().is_empty() { Bytes::from_static(b"{}") } else { body })
    }

    /// Reads the whole body, at most `limit` bytes and no longer than `body_timeout`.
    pub(crate) async fn body(
        &mut self,
        limit: usize,
        name: &'static str,
        code: &'static str,
    ) -> Result<Bytes> {
        let wait = self.app.config.body_timeout;
        let mut stream = self.stream(limit, name, code)?;
        let read = async {
            let Some(first) = stream.frame().await? else { return Ok(Bytes::new()) };
            // A body of one frame, as small ones are, is not copied.
            let Some(second) = stream.frame().await? else { return Ok(first) };
            let mut all = BytesMut::with_capacity(stream.claimed.clamp(first.len() + second.len(), limit));
            all.extend_from_slice(&first);
            all.extend_from_slice(&second);
            while let Some(more) = stream.frame().await? {
                all.extend_from_slice(&more);
            }
            Ok(all.freeze())
        };
        match tokio::time::timeout(wait, read).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(error)) => {
                stream.discard().await;
                Err(error)
            }
            Err(_) => Err(too_slow(wait)),
        }
    }

    /// The body in pieces. `body_timeout` counts anew with each, as it must for files.
    ///
    /// # Errors
    /// At once, where the length that is claimed is beyond `limit`.
    pub(crate) fn stream(
        &mut self,
        limit: usize,
        name: &'static str,
        code: &'static str,
    ) -> Result<BodyStream> {
        // Stored as it came, a packed value would come back without the word that says how to unpack it.
        if let Some(coding) = self.parts.headers.get(CONTENT_ENCODING)
            && coding.as_bytes() != b"identity"
        {
            return Err(Error::invalid(format!(
                "the content encoding {coding:?} is not taken here; send the body as it is, without Content-Encoding"
            ))
            .with_code("content-encoding"));
        }
        let claimed =
            self.parts.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        Ok(BodyStream {
            body: self.body.take().filter(|body| !body.is_end_stream()),
            claimed: usize::try_from(claimed.unwrap_or(0)).unwrap_or(usize::MAX),
            // Who waits for 100 Continue has sent nothing yet.
            expects: self.parts.headers.contains_key(EXPECT),
            taken: 0,
            limit,
            name,
            code,
            wait: self.app.config.body_timeout,
        })
    }

    /// Counts a read and says what it cost.
    pub(crate) fn receipt(&self, answer: &mut Answer, receipt: &Receipt, rows: usize) {
        self.app.metrics.read(receipt.source, rows, receipt.store_gets, receipt.store_bytes);
        answer.receipt(receipt, self.app.config.prices);
    }

    /// The 404 of a row that is not there.
    pub(crate) fn absent(&self, absence: Absence, receipt: &Receipt) -> Answer {
        let (word, detail) = match absence {
            Absence::Row => ("row", "there is no row of this key"),
            Absence::Tombstone => ("tombstone", "the row of this key was deleted"),
            Absence::Expired => ("expired", "the row of this key has expired"),
        };
        let error = Error::not_found(detail).with_code("row-absent");
        let mut answer = self.app.problem(&error, self.request_id, false);
        answer.constant(headers::ABSENT, word);
        self.receipt(&mut answer, receipt, 0);
        answer
    }
}

/// What HTTP libraries send when nobody said anything.
fn is_default_type(name: &str) -> bool {
    matches!(name, "application/x-www-form-urlencoded" | "application/octet-stream" | "text/plain")
}

/// 415.
pub(crate) fn media_type(found: &str, expected: &str) -> Error {
    let found: String = found.chars().take(80).collect();
    Error::invalid(format!("the content type {found:?} is not taken here; expected {expected}"))
        .with_code("media-type")
}

fn too_slow(wait: Duration) -> Error {
    Error::invalid(format!("the body did not arrive within the limit body_timeout, {} ms", wait.as_millis()))
        .with_code("body-timeout")
}

/// A body that is read piece by piece, within limits.
pub(crate) struct BodyStream {
    body: Option<Incoming>,
    claimed: usize,
    expects: bool,
    taken: usize,
    limit: usize,
    name: &'static str,
    code: &'static str,
    wait: Duration,
}

impl BodyStream {
    /// The next piece as it arrived; `None` at the end.
    pub(crate) async fn frame(&mut self) -> Result<Option<Bytes>> {
        if self.claimed > self.limit {
            return Err(self.too_long(self.claimed));
        }
        let Some(body) = &mut self.body else { return Ok(None) };
        loop {
            let frame =
                tokio::time::timeout(self.wait, body.frame()).await.map_err(|_| too_slow(self.wait))?;
            let data = match frame {
                None => return Ok(None),
                Some(Ok(frame)) => frame.into_data(),
                Some(Err(error)) => {
                    return Err(
                        Error::invalid(format!("the body broke off: {error}")).with_code("body-broken")
                    );
                }
            };
            // Trailers are of no interest.
            let Ok(data) = data else { continue };
            self.taken = self.taken.saturating_add(data.len());
            if self.taken > self.limit {
                return Err(self.too_long(self.taken));
            }
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }

    /// Pieces of about `bytes`, as an upload to a store likes them; `None` at the end.
    pub(crate) async fn part(&mut self, bytes: usize) -> Result<Option<Bytes>> {
        let Some(first) = self.frame().await? else { return Ok(None) };
        let mut part = BytesMut::from(&first[..]);
        while part.len() < bytes {
            match self.frame().await? {
                Some(more) => part.extend_from_slice(&more),
                None => break,
            }
        }
        Ok(Some(part.freeze()))
    }

    fn too_long(&self, length: usize) -> Error {
        Error::invalid(format!(
            "the body has {length} bytes or more; the limit {} is {}",
            self.name, self.limit
        ))
        .with_code(self.code)
    }

    /// Takes some of what a client is still sending, so that it reads the answer instead of a reset.
    pub(crate) async fn discard(&mut self) {
        const MOST: usize = 16 << 20;
        let Some(body) = self.body.as_mut().filter(|_| !self.expects) else { return };
        let take = async {
            let mut taken = 0;
            while let Some(Ok(frame)) = body.frame().await {
                taken += frame.data_ref().map_or(0, Bytes::len);
                if taken > MOST {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(self.wait.min(Duration::from_secs(2)), take).await;
    }
}

/// The error of a deadline that has passed.
pub(crate) fn deadline_error(write: bool, deadline: Duration) -> Error {
    let detail = format!("the request was not done within its deadline of {} ms", deadline.as_millis());
    let kind = if write { ErrorKind::Unknown } else { ErrorKind::Unavailable };
    Error::new(kind, detail).with_code("deadline-exceeded")
}
