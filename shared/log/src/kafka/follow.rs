//! The follower: one task per partition that reads everything, once, for everybody in this process.
//!
//! It begins where the catalog's `flushed_through` says, and goes on for ever: over lost connections by itself, with a
//! new client after an error, from a fresh start where the log was trimmed past it; and until nobody has a tail or a
//! question any more. What cannot be explained stops it,
//! and with it every tail, end and append of the partition in this process: somebody has to look.

use super::partition::{Partition, closing};
use super::read::{Reader, Reading};
use super::stamp::{Stamper, lost, shrunk};
use super::window::{Phase, SliceBuilder};
use crate::LogPosition;
use nacre_runtime::Backoff;
use nacre_types::{Error, Offset, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// So often in a row the end must lie before what was read until that is believed. A leader that was just elected may
/// not know its own end for a moment.
const SHRUNK_LOOKS: u32 = 3;

impl Partition {
    /// Begins to follow the partition, unless it is followed or has stopped.
    pub(super) fn ensure_followed(self: &Arc<Self>) {
        self.wanted_ms.store(self.now_ms(), Ordering::SeqCst);
        let has_stopped = self.known(|known| matches!(known.phase(), Phase::Stopped(_)));
        if !has_stopped && !self.is_followed.swap(true, Ordering::SeqCst) {
            self.shared.ctx.tasks.spawn("log reader", self.clone().follow());
        }
    }

    async fn follow(self: Arc<Self>) {
        /// If the task's runtime goes first, the next one who asks begins another, which goes on where this one was.
        struct Unfollowed(Arc<Partition>);
        impl Drop for Unfollowed {
            fn drop(&mut self) {
                self.0.is_followed.store(false, Ordering::SeqCst);
            }
        }
        let guard = Unfollowed(self);
        let this = &guard.0;
        let stop = this.shared.ctx.tasks.shutdown_token();
        let mut closed = this.shared.closed.subscribe();
        let why = tokio::select! {
            () = stop.requested() => closing(),
            _ = closed.wait_for(|closed| *closed) => closing(),
            () = this.nobody_wants() => {
                let this = guard.0.clone();
                this.learn(|known| known.rest());
                drop(guard);
                // Who asked in the meantime found it followed.
                if this.is_wanted() {
                    this.ensure_followed();
                }
                return;
            }
            why = this.read_for_ever() => {
                tracing::error!(partition = %this.id, error = %why, "the log cannot be believed any more and is not read on");
                why
            }
        };
        this.stop(&why);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.ctx().clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_wanted(&self) -> bool {
        let idle_ms = self.now_ms().saturating_sub(self.wanted_ms.load(Ordering::SeqCst));
        self.tails.load(Ordering::SeqCst) > 0
            || u128::from(idle_ms) < self.shared.config.idle_after.as_millis()
    }

    /// Waits until the follower, which is at the end, is of use to nobody.
    async fn nobody_wants(&self) {
        loop {
            tokio::time::sleep(self.shared.config.idle_after / 2).await;
            if !self.is_wanted() && self.known(|known| *known.phase() == Phase::AtEnd) {
                return;
            }
        }
    }

    /// Ends only with what nobody can explain.
    async fn read_for_ever(self: &Arc<Self>) -> Error {
        let ids = self.shared.ctx.ids.clone();
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            if let Phase::Stopped(why) = self.known(|known| known.phase().clone()) {
                return why;
            }
            match self.read_on(&mut backoff).await {
                // It said that it is out of range, or was told to look anew.
                Ok(()) => {}
                Err(error) if error.kind().is_retryable() || error.code() == "log-forbidden" => {
                    tracing::debug!(partition = %self.id, %error, "the log's reader begins anew");
                    self.learn(|known| known.trouble(error));
                }
                Err(error) => return self.explain(error).await,
            }
            tokio::time::sleep(backoff.next(&*ids)).await;
        }
    }

    async fn read_on(self: &Arc<Self>, backoff: &mut Backoff) -> Result<()> {
        let at = match self.at() {
            Some(at) => at,
            None => self.start().await?,
        };
        let marks = self.shared.tools.marks(self.id).await?;
        let at = if at.offset.0 < marks.low { self.start_after(at, marks.low).await? } else { at };
        self.check_end(at.offset, marks.high)?;
        self.learn(|known| known.resume(at, marks.high));
        let shared = &self.shared;
        let share = shared.clients.read(&shared.config, &shared.reach, &shared.ctx, self.id, at.offset)?;
        let reader = Reader::share(share, &shared.config, &shared.reach, &shared.ctx, self.id);
        let mut stamper = Stamper::new(self.id, at, &shared.config.mending);
        loop {
            let reading = tokio::select! {
                biased;
                () = self.kick.notified() => return Ok(()),
                reading = reader.next() => reading?,
            };
            match reading {
                Reading::OutOfRange => return Ok(()),
                Reading::Nothing => {}
                Reading::Records(records) => {
                    backoff.reset();
                    let mut slice = SliceBuilder::new(stamper.at());
                    let mut failed = None;
                    for raw in records {
                        let bytes = raw.bytes.len();
                        match stamper.stamp(raw) {
                            Ok(None) => {}
                            Ok(Some(stamped)) => {
                                let is_before_hole = stamped.offset.next() != stamper.at().offset;
                                slice.push(stamped, bytes, stamper.at());
                                // The records of a slice lie side by side.
                                if is_before_hole {
                                    let next = SliceBuilder::new(stamper.at());
                                    self.publish(std::mem::replace(&mut slice, next).finish());
                                }
                            }
                            Err(error) => {
                                failed = Some(error);
                                break;
                            }
                        }
                    }
                    self.publish(slice.finish());
                    if let Some(error) = failed {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Where reading begins: what the catalog says, else before the first record.
    pub(super) async fn start(&self) -> Result<LogPosition> {
        let incarnation = self.shared.config.incarnation;
        let asked = self.shared.starts.ask(self.id).await;
        let start = asked
            .map_err(|error| error.context(format_args!("where reading partition {} begins", self.id)))?
            .unwrap_or_else(|| LogPosition::start(incarnation));
        self.check_position(&start)?;
        Ok(self.past_holes(start))
    }

    /// Nobody stands in a stretch that readers pass over.
    pub(super) fn past_holes(&self, at: LogPosition) -> LogPosition {
        LogPosition { offset: self.shared.config.mending.past(self.id, at.offset), ..at }
    }

    /// Where to go on when the partition begins after `at`: trimmed, if the catalog stands at or after its beginning;
    /// else what is gone was still needed.
    pub(super) async fn start_after(&self, at: LogPosition, low: u64) -> Result<LogPosition> {
        let start = self.start().await?;
        if start.offset.0 < low { Err(lost(self.id, start.offset.max(at.offset), low)) } else { Ok(start) }
    }

    /// Whether the partition reaches as far as what was read of it.
    pub(super) fn check_end(&self, at: Offset, high: u64) -> Result<()> {
        if at.0 <= high {
            self.shrunk.store(0, Ordering::Release);
            return Ok(());
        }
        let error = shrunk(self.id, at, high);
        if self.shrunk.fetch_add(1, Ordering::AcqRel) + 1 >= SHRUNK_LOOKS {
            return Err(error);
        }
        Err(Error::unavailable(error.detail().to_owned()).with_code("log-shrunk"))
    }

    pub(super) fn check_position(&self, position: &LogPosition) -> Result<()> {
        let own = self.shared.config.incarnation;
        if position.incarnation == own {
            return Ok(());
        }
        Err(Error::conflict(format!(
            "a position of log incarnation {}; this is incarnation {own}: positions of another log mean nothing",
            position.incarnation
        ))
        .with_code("log-incarnation"))
    }
}
