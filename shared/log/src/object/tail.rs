//! A reader of one partition.

use super::partition::Partition;
use super::poll::Polled;
use super::read::{CATCH_UP, Run};
use crate::LogPosition;
use crate::chunk::{Chunk, Link};
use crate::codec::corrupt;
use crate::log::{Tail, TailBatch, TailStep};
use async_trait::async_trait;
use nacre_runtime::TaskHandle;
use nacre_types::{Error, Result};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;

#[derive(Debug)]
pub(super) struct ObjectTail {
    partition: Arc<Partition>,
    at: LogPosition,
    /// The chunk that was delivered last: the next must follow it.
    last: Option<Link>,
    /// True chunks that were read and not delivered yet.
    ahead: VecDeque<Arc<Chunk>>,
    /// The read that is under way, and from which chunk on: it goes on when the tail's future is dropped.
    reading: Option<(u64, TaskHandle<Result<Run>>)>,
    news: watch::Receiver<u64>,
}

impl ObjectTail {
    pub(super) fn new(partition: Arc<Partition>, from: LogPosition) -> Self {
        let news = partition.news();
        Self { partition, at: from, last: None, ahead: VecDeque::new(), reading: None, news }
    }

    async fn read_behind(&mut self, next: u64) -> Result<Run> {
        if self.reading.as_ref().is_none_or(|(from, _)| *from != next) {
            let partition = self.partition.clone();
            let read = async move { partition.read_run(next, CATCH_UP).await };
            self.reading = Some((next, self.partition.ctx.tasks.spawn("log read", read)));
        }
        let Some((_, read)) = &mut self.reading else {
            return Err(Error::internal("a read that was begun is not there"));
        };
        let run = read.await;
        self.reading = None;
        run.and_then(|run| run)
    }

    fn deliver(&mut self, chunk: &Chunk) -> Result<TailBatch> {
        match &self.last {
            Some(last) => chunk.check_follows(last)?,
            None => self.check_start(chunk)?,
        }
        let records = chunk.stamped(self.at.offset)?;
        self.at = self.partition.position_after(&chunk.link);
        self.last = Some(chunk.link);
        Ok(TailBatch { records, next: self.at })
    }

    /// A position that was stored must fit the chunk that it names, or versions would differ between readers.
    fn check_start(&self, chunk: &Chunk) -> Result<()> {
        if chunk.clock_at(self.at.offset) == Some(self.at.clock) {
            return Ok(());
        }
        Err(corrupt(
            "log position",
            format_args!(
                "offset {} with clock {} is not in chunk {} of partition {} (offsets {} to {}, clock {} before it); the \
                 position is of another log or was damaged",
                self.at.offset,
                self.at.clock,
                chunk.link.number,
                chunk.partition,
                chunk.base,
                chunk.link.end,
                chunk.first_clock
            ),
        )
        .with_code("log-position"))
    }
}

#[async_trait]
impl Tail for ObjectTail {
    async fn next(&mut self) -> Result<TailStep> {
        loop {
            self.news.borrow_and_update();
            let next = self.at.chunk;
            let chunk = match self.ahead.pop_front().filter(|chunk| chunk.link.number == next) {
                Some(chunk) => Some(chunk),
                None => {
                    // After an error what was read ahead no longer fits.
                    self.ahead.clear();
                    self.partition.in_window(next)
                }
            };
            if let Some(chunk) = chunk {
                let batch = self.deliver(&chunk)?;
                if batch.records.is_empty() {
                    continue;
                }
                return Ok(TailStep::Batch(batch));
            }
            if self.partition.tip().is_some_and(|tip| tip.number >= next) {
                // Older than what memory holds.
                match self.read_behind(next).await? {
                    Run::Trimmed(_) => return Ok(TailStep::Restart),
                    Run::Chunks { chunks, .. } if chunks.is_empty() => {
                        return Err(corrupt(
                            "log",
                            format_args!(
                                "chunk {next} of partition {} is gone though nothing was trimmed there; objects under \
                                 the log's prefix were deleted",
                                self.partition.id
                            ),
                        )
                        .with_code("log-gap"));
                    }
                    Run::Chunks { chunks, .. } => self.ahead = chunks.into(),
                }
                continue;
            }
            let polled = tokio::select! {
                biased;
                _ = self.news.changed() => None,
                polled = self.partition.poll(next) => Some(polled?),
            };
            if let Some(Polled::Trimmed) = polled {
                return Ok(TailStep::Restart);
            }
        }
    }
}
