//! One request and its answer: signed, bounded in number and in time; repeated where that is harmless.

use super::address::Address;
use super::answer::{Failed, HOPELESS, judge};
use super::meter::{self, Meter};
use crate::DynamoSettings;
use bytes::Bytes;
use nacre_runtime::{Backoff, Context};
use nacre_store::AwsService;
use nacre_types::{Error, ErrorKind, Result};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Times and sizes.
#[derive(Debug, Clone)]
pub(super) struct Tuning {
    /// How long an answer to a read may take, each time it is sent.
    pub(super) read: Duration,
    /// How long one to a write may take; less than an appender waits before it puts its edit again.
    pub(super) write: Duration,
    /// How long a request may wait for its place.
    pub(super) wait: Duration,
    /// Requests under way at once.
    pub(super) at_once: usize,
    /// A read is sent at most so often, and not again when so many of [`Tuning::read`] have passed.
    pub(super) attempts: u32,
    pub(super) backoff_first: Duration,
    pub(super) backoff_most: Duration,
    /// A longer frame of an edit lies in the store alone. A transaction is paid by the kilobyte, twice, and every edit's
    /// frame lies in the store anyway; a reader then makes one more request.
    pub(super) edit_bytes: usize,
    /// Likewise of a record, which is otherwise not in the store: an item has at most 400 KB, names included.
    pub(super) record_bytes: usize,
    /// How long a new table may take until it serves.
    pub(super) creation: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            read: Duration::from_secs(5),
            write: Duration::from_secs(5),
            wait: Duration::from_secs(5),
            at_once: 128,
            attempts: 4,
            backoff_first: Duration::from_millis(25),
            backoff_most: Duration::from_secs(1),
            edit_bytes: 64 << 10,
            record_bytes: 320 << 10,
            creation: Duration::from_secs(180),
        }
    }
}

/// The requests to one table. Clones share their connections and their places.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    service: AwsService,
    pub(super) address: Address,
    pub(super) ctx: Context,
    pub(super) tuning: Tuning,
    places: Arc<Semaphore>,
    pub(super) meter: Arc<Meter>,
    /// The newest date that an answer told.
    date_micros: Arc<AtomicI64>,
}

impl Wire {
    pub(super) fn new(
        address: Address,
        settings: &DynamoSettings,
        ctx: &Context,
        tuning: Tuning,
    ) -> Result<Self> {
        let who = (&settings.credentials, settings.allow_http);
        let service = AwsService::new("dynamodb", &address.origin, &address.region, who, ctx)?;
        let places = Arc::new(Semaphore::new(tuning.at_once));
        Ok(Self {
            service,
            address,
            ctx: ctx.clone(),
            tuning,
            places,
            meter: Arc::default(),
            date_micros: Arc::default(),
        })
    }

    /// The table's name.
    pub(super) fn table(&self) -> &str {
        &self.address.table
    }

    /// DynamoDB's own date, as of its last answer; this machine's where that is later, or where it told none.
    pub(super) fn date_micros(&self) -> i64 {
        self.date_micros.load(Ordering::Relaxed).max(self.ctx.clock.now_micros())
    }

    /// Sends a request once. For what changes something.
    pub(super) async fn write(&self, operation: &'static str, request: &Value) -> Result<Value, Failed> {
        self.once(operation, request, self.tuning.write).await
    }

    /// Sends a request until there is an answer that another attempt would not change. For what may be sent twice.
    ///
    /// # Errors
    /// `Unavailable`: reads have no unknown outcomes.
    pub(super) async fn read(&self, operation: &'static str, request: &Value) -> Result<Value> {
        let begun = self.ctx.clock.monotonic();
        let mut backoff = Backoff::new(self.tuning.backoff_first, self.tuning.backoff_most);
        let mut attempts = 1;
        loop {
            let error = match self.once(operation, request, self.tuning.read).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed.into_error(operation).with_kind(ErrorKind::Unavailable),
            };
            let late =
                self.ctx.clock.monotonic().saturating_sub(begun) > self.tuning.read * self.tuning.attempts;
            if late || attempts >= self.tuning.attempts || HOPELESS.contains(&error.code()) {
                return Err(error);
            }
            attempts += 1;
            tokio::time::sleep(backoff.next(&*self.ctx.ids)).await;
        }
    }

    async fn once(
        &self,
        operation: &'static str,
        request: &Value,
        within: Duration,
    ) -> Result<Value, Failed> {
        let body = meter::body(operation, request)
            .map_err(|error| Failed::No(Error::internal(format!("{operation}: {error}"))))?;
        let Ok(Ok(_place)) = tokio::time::timeout(self.tuning.wait, self.places.acquire()).await else {
            return Err(Failed::No(
                Error::unavailable(format!(
                    "{operation}: {} requests to DynamoDB are under way already, and none ended within {} ms",
                    self.tuning.at_once,
                    self.tuning.wait.as_millis()
                ))
                .with_code("catalog-busy"),
            ));
        };
        let target = format!("DynamoDB_20120810.{operation}");
        let headers = [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", target.as_str())];
        self.meter.sent(operation);
        let answer = self.service.post(&headers, Bytes::from(body), within).await;
        if let Some(date) = answer.as_ref().ok().and_then(nacre_store::AwsAnswer::date_micros) {
            self.date_micros.fetch_max(date, Ordering::Relaxed);
        }
        let answer = judge(&self.address, operation, answer)?;
        self.meter.answered(operation, &answer);
        Ok(answer)
    }
}
