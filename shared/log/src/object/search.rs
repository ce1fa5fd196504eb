//! Looking for what an earlier attempt may have appended.

use super::partition::Partition;
use crate::chunk::Link;
use crate::log::{AppendOutcome, Attempts, WriteSearch};
use crate::record::EncodedRecord;
use nacre_types::{Result, WriteId};
use std::sync::Arc;
use std::time::Duration;

impl Partition {
    pub(super) async fn find_write(
        self: &Arc<Self>,
        write_id: WriteId,
        attempts: Attempts,
        deadline: Duration,
    ) -> Result<WriteSearch> {
        let give_up = self.ctx.clock.monotonic().saturating_add(deadline);
        let Some(tip) = self.end_after(attempts.over, give_up).await? else {
            return Ok(WriteSearch::Open);
        };
        let end = tip.number;
        // The clocks of two appenders, each within the bound of the store's date, differ by at most twice the bound.
        let margin = i64::try_from(self.config.clock_skew_bound.as_micros() * 2).unwrap_or(i64::MAX);
        let since = attempts.first.saturating_sub(margin);
        let Some(first) = self.first_chunk_since(since, end).await? else {
            return Ok(WriteSearch::Trimmed);
        };
        for number in first..=end {
            let Some(chunk) = self.true_chunk(number).await? else {
                return Ok(WriteSearch::Trimmed);
            };
            if let Some((_, place)) = chunk.write_ids().find(|(id, _)| *id == write_id) {
                return Ok(WriteSearch::Found(place));
            }
        }
        Ok(WriteSearch::NotFound { searched: self.position_after(&tip) })
    }

    /// The last chunk, once the log's own time has passed `over`; a marker makes it pass. `None` = not before the
    /// deadline.
    async fn end_after(self: &Arc<Self>, over: i64, give_up: Duration) -> Result<Option<Link>> {
        loop {
            let tip = self.find_end().await?;
            if tip.time > over {
                return Ok(Some(tip));
            }
            let left = give_up.saturating_sub(self.ctx.clock.monotonic());
            let ahead = over.saturating_add(1).saturating_sub(self.ctx.clock.now_micros()).max(0);
            let wait = Duration::from_micros(ahead.unsigned_abs());
            if left.is_zero() || wait >= left {
                return Ok(None);
            }
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
                if self.ctx.clock.now_micros() <= over {
                    return Ok(None);
                }
                continue;
            }
            let marker = EncodedRecord::marker(WriteId(self.ctx.ids.random_u128()));
            match self.append(marker, left, None).await {
                AppendOutcome::Appended(_) => {}
                AppendOutcome::NotAppended(error) => return Err(error),
                AppendOutcome::Unknown => return Ok(None),
            }
        }
    }

    /// The first chunk whose time is not before `since`, or the one after `end`; `None` where chunks of that time may be
    /// trimmed. Steps back from the end, doubling: what is looked for is mostly recent.
    async fn first_chunk_since(&self, since: i64, end: u64) -> Result<Option<u64>> {
        let (boundary, _) = self.read_boundary().await?;
        let floor = boundary.trimmed.number;
        if floor > 0 && boundary.trimmed.time >= since {
            return Ok(None);
        }
        // Invariant: `early` is before `since` (or the boundary), `late` is not (or the one after the end).
        let (mut early, mut late, mut step) = (floor, end + 1, 1);
        while late - early > 1 {
            let probe = late.saturating_sub(step).max(early + (late - early) / 2);
            let Some(chunk) = self.true_chunk(probe).await? else {
                return Ok(None);
            };
            if chunk.link.time >= since {
                late = probe;
                step = step.saturating_mul(2);
            } else {
                early = probe;
                step = u64::MAX;
            }
        }
        Ok(Some(late))
    }

    pub(super) async fn repeat(
        self: &Arc<Self>,
        record: EncodedRecord,
        attempts: Attempts,
        deadline: Duration,
    ) -> AppendOutcome {
        let give_up = self.ctx.clock.monotonic().saturating_add(deadline);
        match self.find_write(record.write_id(), attempts, deadline).await {
            Ok(WriteSearch::Found(place)) => AppendOutcome::Appended(place),
            Ok(WriteSearch::NotFound { searched }) => {
                let left = give_up.saturating_sub(self.ctx.clock.monotonic());
                match self.append(record, left, Some(searched.chunk.saturating_sub(1))).await {
                    // This attempt is not in the log; a chunk of an earlier one may still be under way after what was
                    // searched.
                    AppendOutcome::NotAppended(error) => {
                        tracing::debug!(%error, "a repeat was not appended; an earlier attempt still may be");
                        AppendOutcome::Unknown
                    }
                    other => other,
                }
            }
            Ok(WriteSearch::Trimmed | WriteSearch::Open) => AppendOutcome::Unknown,
            Err(error) => {
                tracing::debug!(%error, "an earlier append could not be looked for");
                AppendOutcome::Unknown
            }
        }
    }
}
