//! A tail: from what this process's follower has in memory, or by a reader of its own where that does not go back so far.

use super::partition::Partition;
use super::read::{Reader, Reading};
use super::stamp::{Stamper, wrong_clock};
use super::window::Look;
use crate::LogPosition;
use crate::log::{Tail, TailBatch, TailStep};
use async_trait::async_trait;
use nacre_runtime::TaskHandle;
use nacre_types::Result;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

/// What opening a reader below the window comes to.
#[derive(Debug)]
enum Opened {
    Reader(Reader),
    Trimmed,
}

#[derive(Debug)]
pub(super) struct KafkaTail {
    partition: Arc<Partition>,
    at: LogPosition,
    /// Reads what is no longer in memory; stands at `at`.
    own: Option<Reader>,
    /// It is being made: that goes on when the tail's future is dropped.
    opening: Option<TaskHandle<Result<Opened>>>,
    news: watch::Receiver<u64>,
}

impl Drop for KafkaTail {
    fn drop(&mut self) {
        self.partition.tails.fetch_sub(1, Ordering::SeqCst);
    }
}

impl KafkaTail {
    pub(super) fn new(partition: Arc<Partition>, from: LogPosition) -> Self {
        partition.tails.fetch_add(1, Ordering::SeqCst);
        partition.ensure_followed();
        let news = partition.news();
        let from = partition.past_holes(from);
        Self { partition, at: from, own: None, opening: None, news }
    }

    pub(super) fn at(&self) -> LogPosition {
        self.at
    }

    async fn open(&mut self) -> Result<Opened> {
        let opening = match self.opening.take() {
            Some(opening) => opening,
            None => {
                let (partition, at) = (self.partition.clone(), self.at);
                self.partition.ctx().tasks.spawn("log read", async move { open_behind(&partition, at).await })
            }
        };
        let opened = self.opening.insert(opening).await;
        self.opening = None;
        opened.and_then(|opened| opened)
    }

    /// One step below the window; `None` = look again.
    async fn read_behind(&mut self) -> Result<Option<TailStep>> {
        if self.own.is_none() {
            match self.open().await? {
                Opened::Trimmed => return Ok(Some(TailStep::Restart)),
                Opened::Reader(reader) => self.own = Some(reader),
            }
        }
        let Some(reader) = &self.own else { return Ok(None) };
        let records = match reader.next().await {
            Ok(Reading::Records(records)) => records,
            Ok(Reading::Nothing) => return Ok(None),
            Ok(Reading::OutOfRange) => {
                self.own = None;
                return Ok(None);
            }
            Err(error) => {
                self.own = None;
                return Err(error);
            }
        };
        let mut stamper = Stamper::new(self.partition.id, self.at, &self.partition.shared.config.mending);
        let mut stamped = Vec::with_capacity(records.len());
        for raw in records {
            match stamper.stamp(raw) {
                Ok(record) => stamped.extend(record),
                // What came before it is delivered; then it is met again, by a reader that begins there.
                Err(_) if !stamped.is_empty() => {
                    self.own = None;
                    break;
                }
                Err(error) => {
                    self.own = None;
                    return Err(error);
                }
            }
        }
        self.at = stamper.at();
        Ok((!stamped.is_empty()).then(|| TailStep::Batch(TailBatch { records: stamped, next: self.at })))
    }
}

/// A reader at a place that memory no longer holds, if the partition still does.
async fn open_behind(partition: &Arc<Partition>, at: LogPosition) -> Result<Opened> {
    let shared = &partition.shared;
    let marks = shared.tools.marks(partition.id).await?;
    if at.offset.0 < marks.low {
        // Only if the catalog stands higher; else what is missing was still needed, and that is an error.
        return match partition.start_after(at, marks.low).await {
            Ok(_) => Ok(Opened::Trimmed),
            Err(error) => Err(partition.explain(error).await),
        };
    }
    let reader = Reader::open(&shared.config, &shared.reach, &shared.ctx, partition.id, at.offset)?;
    Ok(Opened::Reader(reader))
}

#[async_trait]
impl Tail for KafkaTail {
    async fn next(&mut self) -> Result<TailStep> {
        loop {
            self.news.borrow_and_update();
            match self.partition.look(&self.at) {
                Look::Records(slice, index) => {
                    self.own = None;
                    let records = slice.records.get(index..).unwrap_or_default().to_vec();
                    self.at = slice.next;
                    return Ok(TailStep::Batch(TailBatch { records, next: self.at }));
                }
                Look::WrongClock(clock) => return Err(wrong_clock(self.partition.id, &self.at, clock)),
                Look::Stopped(error) => return Err(error),
                Look::Behind => {
                    if let Some(step) = self.read_behind().await? {
                        return Ok(step);
                    }
                }
                Look::Wait => {
                    if self.news.changed().await.is_err() {
                        return Err(super::partition::closing());
                    }
                }
            }
        }
    }
}
