//! The end of a partition: asked for, or proven by a marker.

use super::partition::Partition;
use super::window::Phase;
use crate::LogPosition;
use crate::record::EncodedRecord;
use nacre_types::{Result, WriteId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Lets those who ask together share one answer, but only one whose question began after they asked.
#[derive(Debug, Default)]
pub(super) struct Flight {
    begun: AtomicU64,
    last: tokio::sync::Mutex<Option<(u64, LogPosition)>>,
}

impl Flight {
    async fn join(&self, ask: impl Future<Output = Result<LogPosition>>) -> Result<LogPosition> {
        let asked = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let Some((number, position)) = *last
            && number > asked
        {
            return Ok(position);
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let position = ask.await?;
        *last = Some((number, position));
        Ok(position)
    }
}

impl Partition {
    /// The end as the partition's leader says it now, with the clock there: this process's reader has read so far.
    pub(super) async fn end(self: &Arc<Self>) -> Result<LogPosition> {
        self.end_flight.join(self.ask_end()).await
    }

    async fn ask_end(self: &Arc<Self>) -> Result<LogPosition> {
        self.ensure_followed();
        let high = self.shared.tools.marks(self.id).await?.high;
        self.read_through(high).await
    }

    /// Waits until this process's reader has read everything before `offset`: for as long as it comes nearer.
    pub(super) async fn read_through(self: &Arc<Self>, offset: u64) -> Result<LogPosition> {
        let mut news = self.news();
        let patience = self.shared.config.attempt_timeout;
        let mut before = self.at();
        loop {
            let reached = async {
                loop {
                    news.borrow_and_update();
                    // First: of a log that is another one now, the end may lie anywhere.
                    self.known(|known| match known.phase() {
                        Phase::Stopped(error) => Err(error.clone()),
                        _ => Ok(()),
                    })?;
                    if let Some(at) = self.at().filter(|at| at.offset.0 >= offset) {
                        return Ok(at);
                    }
                    if news.changed().await.is_err() {
                        return Err(super::partition::closing());
                    }
                }
            };
            match tokio::time::timeout(patience, reached).await {
                Ok(reached) => return reached,
                Err(_) if self.at() == before => return Err(self.behind()),
                Err(_) => before = self.at(),
            }
        }
    }

    /// At or after everything that was acknowledged before this was asked: proven by a marker that enough replicas took.
    /// A broker that was leader, and does not know yet that it is none any more, tells an old end to whoever asks it; it
    /// cannot take a marker.
    pub(super) async fn proven_end(self: &Arc<Self>) -> Result<LogPosition> {
        self.marker_flight.join(self.append_marker()).await
    }

    async fn append_marker(self: &Arc<Self>) -> Result<LogPosition> {
        let marker = EncodedRecord::marker(WriteId(self.shared.ctx.ids.random_u128()));
        let place = self.append_or_fail(marker, self.shared.config.attempt_timeout).await?;
        self.ensure_followed();
        self.read_through(place.offset.next().0).await
    }
}
