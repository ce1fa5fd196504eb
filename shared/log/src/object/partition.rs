//! One partition as this process knows it.

use super::append::Queue;
use super::beacon::Beacon;
use super::end::EndFlight;
use super::paths::Paths;
use super::poll::Pace;
use super::skew::Skew;
use super::window::Window;
use super::{ObjectLogConfig, PlantedBug};
use crate::chunk::{Chunk, Link};
use nacre_runtime::Context;
use nacre_store::ObjectStore;
use nacre_types::{Error, ErrorKind, PartitionId, Result};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) id: PartitionId,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) ctx: Context,
    pub(super) config: ObjectLogConfig,
    pub(super) paths: Paths,
    pub(super) beacon: Arc<Beacon>,
    pub(super) skew: Arc<Skew>,
    window: Mutex<Window>,
    /// Number of the tip: what waiting tails watch.
    tip: watch::Sender<u64>,
    pub(super) queue: Queue,
    pub(super) pace: tokio::sync::Mutex<Pace>,
    pub(super) end_flight: EndFlight,
    /// Chunks up to this one were deleted by this process.
    pub(super) deleted: Mutex<u64>,
}

impl Partition {
    pub(super) fn new(
        id: PartitionId,
        store: Arc<dyn ObjectStore>,
        ctx: Context,
        config: ObjectLogConfig,
        paths: Paths,
        beacon: Arc<Beacon>,
        skew: Arc<Skew>,
    ) -> Self {
        Self {
            id,
            store,
            paths,
            beacon,
            skew,
            window: Mutex::new(Window::new(config.window_bytes)),
            tip: watch::Sender::new(0),
            queue: Queue::new(config.max_queued_bytes),
            pace: tokio::sync::Mutex::default(),
            end_flight: EndFlight::default(),
            deleted: Mutex::new(0),
            ctx,
            config,
        }
    }

    pub(super) fn tip(&self) -> Option<Link> {
        self.window.lock().tip()
    }

    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.tip.subscribe()
    }

    pub(super) fn in_window(&self, number: u64) -> Option<Arc<Chunk>> {
        self.window.lock().get(number)
    }

    /// The tip, if it was the end of the log within the last `age`.
    pub(super) fn recent_tip(&self, age: Duration) -> Option<Link> {
        let since = self.ctx.clock.monotonic().saturating_sub(age);
        self.window.lock().confirmed_tip(since)
    }

    pub(super) fn confirm(&self, number: u64) {
        let now = self.ctx.clock.monotonic();
        self.window.lock().confirm(number, now);
    }

    pub(super) fn doubt(&self) {
        self.window.lock().doubt();
    }

    /// Makes a true chunk known to this process's tails and appends.
    pub(super) fn publish(&self, chunk: &Arc<Chunk>) -> Result<()> {
        if self.window.lock().publish(chunk.clone())? {
            self.tip.send_replace(chunk.link.number);
        }
        Ok(())
    }

    pub(super) fn skip_to(&self, link: Link) {
        if self.window.lock().skip_to(link) {
            self.tip.send_replace(link.number);
        }
    }

    /// One read of the store, given up after a while.
    pub(super) async fn attempt<T>(&self, read: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.config.attempt_timeout, read).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::unavailable(format!(
                "the store has not answered within {:?} on partition {} of the log",
                self.config.attempt_timeout, self.id
            ))
            .with_code("log-store-silent")),
        }
    }

    /// One write of the store; one that has not been answered may still happen.
    pub(super) async fn attempt_write<T>(&self, write: impl Future<Output = Result<T>>) -> Result<T> {
        let written = self.attempt(write).await;
        written.map_err(|error| match error.code() {
            "log-store-silent" => error.with_kind(ErrorKind::Unknown),
            _ => error,
        })
    }

    /// Whether a test asked for this mistake.
    pub(super) fn bug(&self, bug: PlantedBug) -> bool {
        #[cfg(any(test, feature = "testing"))]
        return self.config.planted_bug == Some(bug);
        #[cfg(not(any(test, feature = "testing")))]
        {
            let _ = bug;
            false
        }
    }
}
