//! Looking for what an earlier attempt may have appended.
//!
//! An attempt that began elsewhere may be under way for as long as its producer's delivery time-out. So a search that
//! finds nothing waits as long, by this process's own steady clock and from when it was asked (who asks has given the
//! attempt up), appends a marker, and reads up to it. Found, it answers at once.

use super::partition::Partition;
use super::read::{Reader, Reading};
use super::tail::KafkaTail;
use super::window::is_write;
use crate::LogPosition;
use crate::log::{AppendOutcome, Appended, Attempts, Tail, TailStep, WriteSearch};
use crate::record::EncodedRecord;
use nacre_types::{Offset, Result, WriteId};
use std::sync::Arc;
use std::time::Duration;

/// What a stretch of the partition holds of a write id.
enum Stretch {
    Found(Appended),
    Nothing(LogPosition),
    Unknowable,
}

/// One search for an id at a time.
struct Alone<'a> {
    partition: &'a Partition,
    id: WriteId,
}

impl<'a> Alone<'a> {
    fn enter(partition: &'a Partition, id: WriteId) -> Option<Self> {
        partition.repeating.lock().insert(id).then_some(Self { partition, id })
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.partition.repeating.lock().remove(&self.id);
    }
}

impl Partition {
    pub(super) async fn find_write(
        self: &Arc<Self>,
        write_id: WriteId,
        attempts: Attempts,
        deadline: Duration,
    ) -> Result<WriteSearch> {
        let Some(_alone) = Alone::enter(self, write_id) else { return Ok(WriteSearch::Open) };
        let limited = tokio::time::timeout(deadline, self.search(write_id, attempts, false, deadline));
        limited.await.unwrap_or(Ok(WriteSearch::Open))
    }

    /// `gives_version`: the record that is looked for gets its version from the log.
    async fn search(
        self: &Arc<Self>,
        id: WriteId,
        attempts: Attempts,
        gives_version: bool,
        deadline: Duration,
    ) -> Result<WriteSearch> {
        let config = &self.shared.config;
        let begun = self.ctx().clock.monotonic();
        let give_up = begun.saturating_add(deadline);
        let settled = begun.saturating_add(config.settled_after());
        self.reach_end(deadline).await?;
        let end = self.end().await?;
        // The clocks of two who are believed differ by at most twice the bound.
        let margin = i64::try_from(config.clock_skew_bound.as_micros() * 2).unwrap_or(i64::MAX);
        let since = attempts.first.saturating_sub(margin);
        let Some(from) = self.first_since(since, gives_version, end).await? else {
            return Ok(WriteSearch::Trimmed);
        };
        let mut searched = match self.look_through(id, from, end.offset).await? {
            Stretch::Found(place) => return Ok(WriteSearch::Found(place)),
            Stretch::Unknowable => return Ok(WriteSearch::Trimmed),
            Stretch::Nothing(at) => at,
        };
        if settled >= give_up {
            return Ok(WriteSearch::Open);
        }
        tokio::time::sleep(settled.saturating_sub(self.ctx().clock.monotonic())).await;
        loop {
            let marker = EncodedRecord::marker(WriteId(self.ctx().ids.random_u128()));
            let place = match self.append(marker, self.left(give_up)).await {
                AppendOutcome::Appended(place) => place,
                AppendOutcome::NotAppended(error) => return Err(error),
                AppendOutcome::Unknown => return Ok(WriteSearch::Open),
            };
            searched = match self.look_from(id, searched, place.offset.next()).await? {
                Stretch::Found(place) => return Ok(WriteSearch::Found(place)),
                Stretch::Unknowable => return Ok(WriteSearch::Trimmed),
                Stretch::Nothing(at) => at,
            };
            if place.append_time > attempts.over {
                return Ok(WriteSearch::NotFound { searched });
            }
            let ahead = attempts.over.saturating_add(1_000).saturating_sub(place.append_time).max(0);
            let wait = Duration::from_micros(ahead.unsigned_abs());
            if wait >= self.left(give_up) {
                return Ok(WriteSearch::Open);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// From where on a record of that time or later can lie; `None` where some may be trimmed.
    async fn first_since(&self, since: i64, gives_version: bool, end: LogPosition) -> Result<Option<Offset>> {
        let tools = &self.shared.tools;
        let found = tools.offset_at(self.id, since).await?.map_or(end.offset, Offset);
        let low = tools.marks(self.id).await?.low;
        if low == 0 || found.0 > low {
            return Ok(Some(found));
        }
        // Everything that is left is so late, and something was trimmed. What was trimmed and had a version from the log
        // had one at or below any clock after it, and a time at or below its version.
        let clock = self.at().filter(|at| at.offset.0 >= low).map(|at| at.clock);
        let is_older = gives_version && clock.is_some_and(|clock| clock < since);
        Ok(is_older.then_some(Offset(low)))
    }

    /// Looks from `from` to `until`.
    async fn look_through(self: &Arc<Self>, id: WriteId, from: Offset, until: Offset) -> Result<Stretch> {
        if let Some(at) = self.known(|known| known.checkpoint(from)) {
            return self.look_from(id, at, until).await;
        }
        // Reading began later, and the clock before that is not known: a record can be found there, its version not.
        let Some(first) = self.known(|known| known.first()) else { return Ok(Stretch::Unknowable) };
        if self.is_before(id, from, first.offset).await? {
            return Ok(Stretch::Unknowable);
        }
        self.look_from(id, first, until).await
    }

    /// Looks from a position, as a tail.
    async fn look_from(self: &Arc<Self>, id: WriteId, from: LogPosition, until: Offset) -> Result<Stretch> {
        let mut tail = KafkaTail::new(self.clone(), from);
        while tail.at().offset < until {
            let batch = match tail.next().await? {
                TailStep::Batch(batch) => batch,
                TailStep::Restart => return Ok(Stretch::Unknowable),
            };
            if let Some(found) = batch.records.iter().find(|stamped| stamped.record.write_id == id) {
                let (offset, version, append_time) = (found.offset, Some(found.version), found.append_time);
                return Ok(Stretch::Found(Appended { offset, version, append_time }));
            }
        }
        Ok(Stretch::Nothing(tail.at()))
    }

    /// Whether an id is among the records from `from` to `until`, whatever their clock; also where that cannot be read
    /// any more.
    async fn is_before(&self, id: WriteId, from: Offset, until: Offset) -> Result<bool> {
        let shared = &self.shared;
        let reader = Reader::open(&shared.config, &shared.reach, &shared.ctx, self.id, from)?;
        let mut at = from.0;
        while at < until.0 {
            match reader.next().await? {
                Reading::Nothing => {}
                Reading::OutOfRange => return Ok(true),
                Reading::Records(records) => {
                    for raw in records {
                        if raw.offset != at || is_write(&raw, id) {
                            return Ok(true);
                        }
                        at += 1;
                    }
                }
            }
        }
        Ok(false)
    }

    pub(super) async fn repeat(
        self: &Arc<Self>,
        record: EncodedRecord,
        attempts: Attempts,
        deadline: Duration,
    ) -> AppendOutcome {
        let id = record.write_id();
        let Some(_alone) = Alone::enter(self, id) else { return AppendOutcome::Unknown };
        let give_up = self.ctx().clock.monotonic().saturating_add(deadline);
        let search = self.search(id, attempts, record.gives_version(), deadline);
        match tokio::time::timeout(deadline, search).await {
            Ok(Ok(WriteSearch::Found(place))) => AppendOutcome::Appended(place),
            Ok(Ok(WriteSearch::NotFound { .. })) => match self.append(record, self.left(give_up)).await {
                AppendOutcome::NotAppended(error) => {
                    tracing::debug!(%error, "a repeat was not appended");
                    AppendOutcome::Unknown
                }
                other => other,
            },
            Ok(Ok(WriteSearch::Trimmed | WriteSearch::Open)) | Err(_) => AppendOutcome::Unknown,
            Ok(Err(error)) => {
                tracing::debug!(%error, "an earlier append could not be looked for");
                AppendOutcome::Unknown
            }
        }
    }
}
