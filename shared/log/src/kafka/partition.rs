//! One partition in one process: what is known of it, and who tells whom.

use super::client::Reach;
use super::config::KafkaConfig;
use super::end::Flight;
use super::produce::Producers;
use super::share::Clients;
use super::tools::Tools;
use super::verdict::{TopicRules, another_topic};
use super::window::{Known, Look, Phase, Place, Slice};
use crate::LogPosition;
use futures::future::BoxFuture;
use nacre_runtime::Context;
use nacre_types::{Error, ErrorKind, Offset, PartitionId, Result, WriteId};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::time::Duration;
use tokio::sync::{Notify, OnceCell, oneshot, watch};

/// Tells what the catalog's `flushed_through` says of a partition now; `None` = nothing was flushed yet.
type AskStart = dyn Fn(PartitionId) -> BoxFuture<'static, Result<Option<LogPosition>>> + Send + Sync;

/// Where readers start: the positions of the catalog's `flushed_through` records, asked for when they are needed. From
/// there, and from nowhere else, versions are computed.
#[derive(Clone)]
pub struct Starts(Arc<AskStart>);

impl Starts {
    /// From whatever reads the records.
    pub fn new<F>(ask: F) -> Self
    where
        F: Fn(PartitionId) -> BoxFuture<'static, Result<Option<LogPosition>>> + Send + Sync + 'static,
    {
        Self(Arc::new(ask))
    }

    pub(super) async fn ask(&self, partition: PartitionId) -> Result<Option<LogPosition>> {
        (self.0)(partition).await
    }
}

impl fmt::Debug for Starts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Starts")
    }
}

/// What all partitions of a log share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: KafkaConfig,
    pub(super) rules: TopicRules,
    pub(super) ctx: Context,
    pub(super) reach: Arc<Reach>,
    pub(super) tools: Tools,
    pub(super) producers: Producers,
    /// What followers read by.
    pub(super) clients: Clients,
    pub(super) starts: Starts,
    /// Why nothing may be appended now, by the last look at the topic.
    pub(super) objection: Mutex<Option<Error>>,
    /// Longest record that the topic takes, in bytes.
    pub(super) max_record_bytes: AtomicUsize,
    pub(super) closed: watch::Sender<bool>,
}

impl Shared {
    /// Whether the topic is still the one that it was.
    ///
    /// # Errors
    /// `Corrupt` (`log-topic-recreated`); that nobody tells.
    pub(super) async fn check_topic(&self) -> Result<()> {
        let found = self.tools.topic_id().await?;
        match self.rules.id {
            Some(own) if own != found => Err(another_topic(&self.config.topic, found, own)),
            _ => Ok(()),
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        *self.closed.borrow() || self.ctx.tasks.shutdown_token().is_requested()
    }
}

pub(super) fn closing() -> Error {
    Error::unavailable("the log is closing; send it to another process").with_code("log-closing")
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) id: PartitionId,
    pub(super) shared: Arc<Shared>,
    known: Mutex<Known>,
    /// Counts what became known.
    news: watch::Sender<u64>,
    /// Makes the follower look anew at where it stands.
    pub(super) kick: Notify,
    pub(super) is_followed: AtomicBool,
    /// Tails that stand on the follower.
    pub(super) tails: AtomicUsize,
    /// When somebody wanted the follower last, in milliseconds of this process's steady clock.
    pub(super) wanted_ms: AtomicU64,
    /// Nothing that is appended from now on lies below it, by `flushed_through` and the reports since.
    pub(super) newest: AtomicU64,
    /// `flushed_through` is in `newest`.
    pub(super) newest_began: OnceCell<()>,
    /// How often in a row the partition's end was found before a place that had been read.
    pub(super) shrunk: AtomicU32,
    /// Bytes that were handed to a producer and have no report yet.
    pub(super) queued: Arc<AtomicUsize>,
    /// Write ids that are looked for now: two repeats of one id would both find nothing, and both append.
    pub(super) repeating: Mutex<HashSet<WriteId>>,
    pub(super) end_flight: Flight,
    pub(super) marker_flight: Flight,
}

impl Partition {
    pub(super) fn new(id: PartitionId, shared: Arc<Shared>, window_bytes: usize) -> Self {
        let known = Known::new(window_bytes);
        Self {
            id,
            shared,
            known: Mutex::new(known),
            news: watch::Sender::new(0),
            kick: Notify::new(),
            is_followed: AtomicBool::new(false),
            tails: AtomicUsize::new(0),
            wanted_ms: AtomicU64::new(0),
            newest: AtomicU64::new(0),
            newest_began: OnceCell::new(),
            shrunk: AtomicU32::new(0),
            queued: Arc::default(),
            repeating: Mutex::default(),
            end_flight: Flight::default(),
            marker_flight: Flight::default(),
        }
    }

    pub(super) fn ctx(&self) -> &Context {
        &self.shared.ctx
    }

    /// Reads or changes what is known, without telling anybody.
    pub(super) fn known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock())
    }

    /// Changes what is known, and tells everybody who waits.
    pub(super) fn learn<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        let out = change(&mut self.known.lock());
        self.news.send_modify(|count| *count = count.wrapping_add(1));
        out
    }

    /// Records are not where they were. If that is because the topic is another one, that is what is to be told.
    pub(super) async fn explain(&self, error: Error) -> Error {
        match self.shared.check_topic().await {
            Err(other) if other.kind() == ErrorKind::Corrupt => other,
            _ => error,
        }
    }

    /// Ends the reading of this partition for good.
    pub(super) fn stop(&self, why: &Error) {
        self.learn(|known| known.stop(why.clone()));
        self.kick.notify_one();
    }

    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Where this process's reader stands.
    pub(super) fn at(&self) -> Option<LogPosition> {
        self.known(|known| known.at())
    }

    pub(super) fn look(&self, at: &LogPosition) -> Look {
        self.known(|known| known.look(at))
    }

    pub(super) fn publish(&self, slice: Slice) {
        self.learn(|known| known.publish(slice));
    }

    pub(super) fn place(&self, offset: Offset) -> oneshot::Receiver<Place> {
        self.known(|known| known.place(offset))
    }

    /// Waits until this process's reader is at the end, and follows it; answers where it stands.
    ///
    /// # Errors
    /// What stopped the reader; `Unavailable` (`log-behind`) with what troubles it, after `limit`.
    pub(super) async fn reach_end(self: &Arc<Self>, limit: Duration) -> Result<LogPosition> {
        self.ensure_followed();
        let mut news = self.news();
        let reached = async {
            loop {
                news.borrow_and_update();
                match self.known(|known| (known.phase().clone(), known.at())) {
                    (Phase::AtEnd, Some(at)) => return Ok(at),
                    (Phase::Stopped(error), _) => return Err(error),
                    _ => {}
                }
                if news.changed().await.is_err() {
                    return Err(closing());
                }
            }
        };
        match tokio::time::timeout(limit, reached).await {
            Ok(reached) => reached,
            Err(_) => Err(self.behind()),
        }
    }

    /// Why the reader is not where it should be.
    pub(super) fn behind(&self) -> Error {
        let what = format!("this process has not read partition {} of the log to its end yet", self.id);
        match self.known(|known| known.phase().clone()) {
            Phase::Behind(Some(error)) => error.context(what),
            _ => Error::unavailable(what).with_code("log-behind"),
        }
    }
}
