//! Appending one record: handed to the producer, reported, and, where this process has a tail of the partition, *read
//! back* before it is acknowledged.

use super::partition::{Partition, closing};
use super::produce::{Report, Room, Sent, not_taken, too_long};
use super::window::Phase;
use crate::log::{AppendOutcome, Appended};
use crate::record::EncodedRecord;
use nacre_types::{Error, Offset, Result, WriteId};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

#[cfg(test)]
mod tests;

/// How long a record waits for brokers that seem to be away before it is refused.
const PATIENCE: Duration = Duration::from_secs(1);

impl Partition {
    pub(super) async fn append(self: &Arc<Self>, record: EncodedRecord, deadline: Duration) -> AppendOutcome {
        let give_up = self.shared.ctx.clock.monotonic().saturating_add(deadline);
        let is_read = self.tails.load(Ordering::SeqCst) > 0;
        let (report, floor) = match self.send(&record, deadline, is_read).await {
            Ok(sent) => sent,
            Err(error) => return AppendOutcome::NotAppended(error),
        };
        match tokio::time::timeout(self.left(give_up), report).await {
            Ok(Ok(Report::Delivered { offset, append_time })) => {
                if is_read {
                    self.acknowledge(record.write_id(), floor, offset, append_time, give_up).await
                } else {
                    self.believe(floor, offset, append_time)
                }
            }
            Ok(Ok(Report::NotTaken(why))) => AppendOutcome::NotAppended(not_taken(why, record.len())),
            Ok(Ok(Report::TooLong)) => AppendOutcome::NotAppended(too_long(record.len())),
            Ok(Ok(Report::Failed(code))) => {
                tracing::debug!(partition = %self.id, %code, "a record was not reported as delivered; it may be");
                AppendOutcome::Unknown
            }
            // The deadline, or the end of the program.
            Ok(Err(_)) | Err(_) => AppendOutcome::Unknown,
        }
    }

    pub(super) fn left(&self, give_up: Duration) -> Duration {
        give_up.saturating_sub(self.shared.ctx.clock.monotonic())
    }

    /// Hands a record to the producer; answers where its report will come, and what offset it cannot be below.
    ///
    /// # Errors
    /// It was not handed over: certainly not appended.
    async fn send(
        self: &Arc<Self>,
        record: &EncodedRecord,
        deadline: Duration,
        is_read: bool,
    ) -> Result<(oneshot::Receiver<Report>, Offset)> {
        let shared = &self.shared;
        if shared.is_closing() {
            return Err(closing());
        }
        // Why it is over says more than what the last look at the topic found.
        if let Phase::Stopped(why) = self.known(|known| known.phase().clone()) {
            return Err(why);
        }
        if let Some(objection) = shared.objection.lock().clone() {
            return Err(objection);
        }
        if record.len() > shared.max_record_bytes.load(Ordering::Relaxed) {
            return Err(too_long(record.len()));
        }
        let floor = if is_read {
            // A process that is not at the end could not read back what it appends, and would have to answer unknown.
            self.reach_end(deadline).await?.offset
        } else {
            let began = self.newest_began.get_or_try_init(|| self.begin_newest());
            tokio::time::timeout(deadline, began).await.map_err(|_| self.behind())??;
            Offset(self.newest.load(Ordering::Acquire))
        };
        if tokio::time::timeout(deadline.min(PATIENCE), shared.reach.becomes(true)).await.is_err() {
            return Err(Error::unavailable("no broker of the log answers").with_code("log-unreachable"));
        }
        let room = Room::take(&self.queued, record.len(), shared.config.max_queued_bytes, self.id)?;
        let (reply, report) = oneshot::channel();
        shared.producers.send(self.id, record, Sent { reply, room })?;
        Ok((report, floor))
    }

    /// What the catalog knows to be in the log.
    async fn begin_newest(&self) -> Result<()> {
        let start = self.start().await?;
        self.newest.fetch_max(start.offset.0, Ordering::AcqRel);
        Ok(())
    }

    /// The place that a report names, if it names one that can be.
    fn place_of(&self, floor: Offset, offset: i64, append_time: Option<i64>) -> Option<(Offset, i64)> {
        let place = u64::try_from(offset).ok().map(Offset).filter(|offset| *offset >= floor).zip(append_time);
        if place.is_none() {
            tracing::error!(
                partition = %self.id, offset, ?append_time, %floor,
                "a broker reports a record as delivered without its append time, or below what was known before it was \
                 sent; its outcome is unknown"
            );
        }
        place
    }

    /// Believes a report that says where and when, where that can be.
    fn believe(&self, floor: Offset, offset: i64, append_time: Option<i64>) -> AppendOutcome {
        match self.place_of(floor, offset, append_time) {
            Some((offset, append_time)) if self.is_time_believed(append_time) => {
                self.newest.fetch_max(offset.next().0, Ordering::AcqRel);
                AppendOutcome::Appended(Appended { offset, version: None, append_time })
            }
            _ => AppendOutcome::Unknown,
        }
    }

    /// Believes a report only where it says where and when, and this process's own reader finds the record there.
    async fn acknowledge(
        &self,
        write_id: WriteId,
        floor: Offset,
        offset: i64,
        append_time: Option<i64>,
        give_up: Duration,
    ) -> AppendOutcome {
        let Some((offset, _)) = self.place_of(floor, offset, append_time) else {
            return AppendOutcome::Unknown;
        };
        let read = tokio::time::timeout(self.left(give_up), self.place(offset)).await;
        let Ok(Ok(place)) = read else {
            self.known(|known| known.tidy());
            return AppendOutcome::Unknown;
        };
        if place.write_id != write_id {
            tracing::error!(
                partition = %self.id, %offset, %write_id, found = %place.write_id,
                "a broker reports a record as delivered where another lies; its outcome is unknown"
            );
            return AppendOutcome::Unknown;
        }
        if self.is_time_believed(place.appended.append_time) {
            AppendOutcome::Appended(place.appended)
        } else {
            AppendOutcome::Unknown
        }
    }

    /// Whether an append time is near this process's clock; alarms where it is not.
    pub(super) fn is_time_believed(&self, append_time: i64) -> bool {
        let now = self.shared.ctx.clock.now_micros();
        let is_near =
            u128::from(now.abs_diff(append_time)) <= self.shared.config.clock_skew_bound.as_micros();
        if !is_near {
            tracing::error!(
                partition = %self.id, append_time, now,
                "a broker's clock and this machine's are too far apart; what is appended there is not acknowledged: set \
                 the clocks"
            );
        }
        is_near
    }

    /// Appends a record and answers its place; whatever else comes of it is an error.
    pub(super) async fn append_or_fail(
        self: &Arc<Self>,
        record: EncodedRecord,
        deadline: Duration,
    ) -> Result<Appended> {
        match self.append(record, deadline).await {
            AppendOutcome::Appended(appended) => Ok(appended),
            AppendOutcome::NotAppended(error) => Err(error),
            AppendOutcome::Unknown => Err(Error::unavailable(format!(
                "a marker in partition {} of the log was not confirmed in time",
                self.id
            ))
            .with_code("log-unreachable")),
        }
    }
}
