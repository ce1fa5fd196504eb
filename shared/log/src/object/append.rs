//! Appending: group commit, one chunk in flight per partition.
//!
//! A task per partition (the *driver*) takes everything that waits, builds one chunk and settles it before it takes
//! more. Callers only wait: a caller that goes away, or whose deadline passes, takes nothing back that is in a chunk.
//! The state of an append says who may still decide: `QUEUED` can be withdrawn by its caller (certainly not
//! appended), `TAKEN` lies in a chunk whose outcome is open (its caller can only answer unknown), `GONE` has no caller
//! any more and goes into no further chunk.
//!
//! Callers that wait for one answer before they send the next fall into two halves of their own accord: one half is in
//! the chunk that is being put while the other half queues, and neither ever meets. So after a put that took long the
//! driver waits a little for those that it has just answered ([`Rhythm`]): a chunk then carries all of them. One caller
//! alone never waits, nor does anybody where puts are quick.

use super::PlantedBug;
use super::partition::Partition;
use super::settle::Settled;
use crate::chunk::{Chunk, ChunkBuilder};
use crate::log::{AppendOutcome, Appended};
use crate::record::EncodedRecord;
use nacre_runtime::{Backoff, Shutdown};
use nacre_types::{Error, Result, WriteId};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

const QUEUED: u8 = 0;
const TAKEN: u8 = 1;
const GONE: u8 = 2;

/// A tip that was the end this recently is built upon without looking again. Older, it may be trimmed, and a put at a
/// trimmed name costs an unknown.
const TIP_AGE: Duration = Duration::from_secs(1);

/// A put that is quicker than this is not worth waiting for.
const SLOW_PUT: Duration = Duration::from_millis(1);
/// Longest wait for those that were answered a moment ago. They come back within a fraction of it or not at all.
const MOST_GATHER: Duration = Duration::from_millis(10);

/// How many records the next chunk may expect, and how long it may wait for them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Rhythm {
    expected: usize,
    wait: Duration,
}

impl Rhythm {
    /// After a chunk of `answered` records whose put took `took`, while `waiting` more had come.
    fn after(answered: usize, waiting: usize, took: Duration) -> Self {
        // A quarter of a put: what waiting can cost is small against what it saves, half a put for half of the callers.
        let wait = if took < SLOW_PUT { Duration::ZERO } else { (took / 4).min(MOST_GATHER) };
        Self { expected: answered + waiting, wait }
    }
}

/// One record that waits for its place.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) record: EncodedRecord,
    state: Arc<AtomicU8>,
    reply: oneshot::Sender<AppendOutcome>,
    /// On the monotonic clock; past it the record goes into no chunk, even if its caller has not noticed.
    expires: Duration,
    /// Through which chunk its write id was looked for. `None` = a first attempt that was in no chunk yet: nobody else
    /// knows the id.
    seen: Option<u64>,
}

impl Pending {
    fn answer(self, outcome: AppendOutcome) {
        // The caller may have gone; then nobody wants to know.
        let _ = self.reply.send(outcome);
    }

    fn move_state(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<QueueInner>,
    max_bytes: usize,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct QueueInner {
    waiting: VecDeque<Pending>,
    bytes: usize,
    driven: bool,
    closed: bool,
    /// Why the last attempt failed, for those whose deadline passes meanwhile.
    last_error: Option<Error>,
}

impl QueueInner {
    fn purge(&mut self, now: Duration) {
        self.waiting.retain(|pending| pending.state.load(Ordering::Acquire) != GONE && pending.expires > now);
        self.bytes = self.waiting.iter().map(|pending| pending.record.len()).sum();
    }
}

impl Queue {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { inner: Mutex::default(), max_bytes, arrived: Notify::new() }
    }

    /// No append is taken any more; what waits is refused.
    pub(super) fn close(&self) {
        self.inner.lock().closed = true;
        self.arrived.notify_one();
    }

    fn refuse_all(&self, error: &Error) {
        let refused = {
            let mut inner = self.inner.lock();
            inner.bytes = 0;
            std::mem::take(&mut inner.waiting)
        };
        for pending in refused {
            pending.answer(AppendOutcome::NotAppended(error.clone()));
        }
    }

    /// Takes what fits into one chunk, in order. A write id that is in the batch already waits for the next one, where
    /// it will be found.
    fn take(&self, max_bytes: usize, now: Duration) -> Vec<Pending> {
        let mut inner = self.inner.lock();
        inner.purge(now);
        let mut batch: Vec<Pending> = Vec::new();
        let mut ids: HashSet<WriteId> = HashSet::new();
        let mut bytes = 0;
        while let Some(pending) = inner.waiting.pop_front() {
            let len = pending.record.len();
            let fits = batch.is_empty() || bytes + len <= max_bytes;
            if !fits || !ids.insert(pending.record.write_id()) {
                inner.waiting.push_front(pending);
                break;
            }
            inner.bytes -= len;
            if pending.move_state(QUEUED, TAKEN) {
                bytes += len;
                batch.push(pending);
            }
        }
        batch
    }

    /// Puts back, in front, what certainly is in no chunk.
    fn put_back(&self, batch: Vec<Pending>, error: Option<Error>) {
        let mut inner = self.inner.lock();
        if error.is_some() {
            inner.last_error = error;
        }
        for pending in batch.into_iter().rev() {
            if pending.move_state(TAKEN, QUEUED) {
                inner.bytes += pending.record.len();
                inner.waiting.push_front(pending);
            }
        }
    }
}

fn closing() -> Error {
    Error::unavailable("the log is closing; send it to another process").with_code("log-closing")
}

/// Withdraws an append whose caller goes away while it waits.
struct Withdraw(Arc<AtomicU8>);

impl Drop for Withdraw {
    fn drop(&mut self) {
        self.0.store(GONE, Ordering::Release);
    }
}

impl Partition {
    /// `seen`: through which chunk the record's write id was looked for; `None` for a first attempt.
    pub(super) async fn append(
        self: &Arc<Self>,
        record: EncodedRecord,
        deadline: Duration,
        seen: Option<u64>,
    ) -> AppendOutcome {
        let (reply, mut answer) = oneshot::channel();
        let state = Arc::new(AtomicU8::new(QUEUED));
        let now = self.ctx.clock.monotonic();
        let pending =
            Pending { record, state: state.clone(), reply, expires: now.saturating_add(deadline), seen };
        let withdraw = Withdraw(state);
        if let Err(error) = self.enqueue(pending, now) {
            return AppendOutcome::NotAppended(error);
        }
        match tokio::time::timeout(deadline, &mut answer).await {
            Ok(Ok(outcome)) => outcome,
            // The deadline passed, or the driver ended with its runtime.
            Ok(Err(_)) | Err(_) => {
                let withdrawn =
                    withdraw.0.compare_exchange(QUEUED, GONE, Ordering::AcqRel, Ordering::Acquire).is_ok();
                if let Ok(outcome) = answer.try_recv() {
                    return outcome;
                }
                if !withdrawn {
                    return AppendOutcome::Unknown;
                }
                let why = self.queue.inner.lock().last_error.clone();
                AppendOutcome::NotAppended(match why {
                    Some(error) => error.context("the deadline passed before the log took the write"),
                    None => Error::unavailable("the deadline passed before the log took the write")
                        .with_code("append-timeout"),
                })
            }
        }
    }

    fn enqueue(self: &Arc<Self>, pending: Pending, now: Duration) -> Result<()> {
        let len = pending.record.len();
        let start = {
            let mut inner = self.queue.inner.lock();
            if inner.closed || self.ctx.tasks.shutdown_token().is_requested() {
                return Err(closing());
            }
            if inner.bytes + len > self.queue.max_bytes {
                inner.purge(now);
            }
            if inner.bytes > 0 && inner.bytes + len > self.queue.max_bytes {
                return Err(Error::overloaded(format!(
                    "{} bytes wait for partition {} of the log; at most {} may",
                    inner.bytes, self.id, self.queue.max_bytes
                ))
                .with_code("log-queue-full"));
            }
            inner.bytes += len;
            inner.waiting.push_back(pending);
            !std::mem::replace(&mut inner.driven, true)
        };
        if start {
            self.ctx.tasks.spawn("log appender", self.clone().drive());
        }
        self.queue.arrived.notify_one();
        Ok(())
    }

    /// The driver. It ends with the program or the log; if its runtime goes first, the next append begins another, which
    /// knows as little as a new process and starts from the store.
    async fn drive(self: Arc<Self>) {
        struct Undriven(Arc<Partition>);
        impl Drop for Undriven {
            fn drop(&mut self) {
                self.0.queue.inner.lock().driven = false;
            }
        }
        let undriven = Undriven(self);
        let this = &undriven.0;
        let stop = this.ctx.tasks.shutdown_token();
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(500));
        let mut losses = 0;
        let mut rhythm = Rhythm::default();
        loop {
            if stop.is_requested() || this.queue.inner.lock().closed {
                this.queue.inner.lock().closed = true;
                this.queue.refuse_all(&closing());
                return;
            }
            if this.queue.inner.lock().waiting.is_empty() {
                tokio::select! {
                    () = this.queue.arrived.notified() => {}
                    () = stop.requested() => {}
                }
                continue;
            }
            match this.append_batch(&stop, &mut losses, &mut rhythm).await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    this.doubt();
                    let waits =
                        error.kind().is_retryable() && !matches!(error.code(), "clock-skew" | "disk-full");
                    if !waits {
                        this.queue.refuse_all(&error);
                    }
                    this.queue.put_back(Vec::new(), Some(error));
                    let wait = backoff.next(this.ctx.ids.as_ref());
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = stop.requested() => {}
                    }
                    this.queue.inner.lock().purge(this.ctx.clock.monotonic());
                }
            }
        }
    }

    /// Waits until as many records are there as the last chunk lets expect, but not for long.
    async fn gather(&self, rhythm: Rhythm, stop: &Shutdown) {
        let is_enough = || {
            let inner = self.queue.inner.lock();
            inner.closed
                || inner.waiting.len() >= rhythm.expected
                || inner.bytes >= self.config.max_chunk_bytes
        };
        if rhythm.wait.is_zero() || is_enough() {
            return;
        }
        let all_here = async {
            while !is_enough() {
                self.queue.arrived.notified().await;
            }
        };
        tokio::select! {
            () = all_here => {}
            () = tokio::time::sleep(rhythm.wait) => {}
            () = stop.requested() => {}
        }
    }

    /// One chunk from the queue to its outcome. An error leaves every record where it was: certainly not appended.
    async fn append_batch(
        self: &Arc<Self>,
        stop: &Shutdown,
        losses: &mut u32,
        rhythm: &mut Rhythm,
    ) -> Result<()> {
        self.gather(std::mem::take(rhythm), stop).await;
        self.skew.check().await?;
        let tip = match self.recent_tip(TIP_AGE) {
            Some(tip) => tip,
            None => self.find_end().await?,
        };
        let batch = self.queue.take(self.config.max_chunk_bytes, self.ctx.clock.monotonic());
        let batch = self.answer_found(batch, tip.number).await?;
        if batch.is_empty() {
            return Ok(());
        }
        let bytes = batch.iter().map(|pending| pending.record.len()).sum();
        let id = self.ctx.ids.random_u128();
        let now = self.ctx.clock.now_micros();
        let mut builder =
            ChunkBuilder::new(self.id, self.config.incarnation, tip, id, now, bytes, batch.len());
        for pending in &batch {
            builder.push(&pending.record);
        }
        let chunk = Arc::new(builder.finish());
        self.touch_beacon_after_a_pause();
        let began = self.ctx.clock.monotonic();
        match self.settle(&chunk, stop).await {
            Settled::Won => {
                let took = self.ctx.clock.monotonic().saturating_sub(began);
                *rhythm = Rhythm::after(batch.len(), self.queue.inner.lock().waiting.len(), took);
                // Own tails first: an acknowledged write is visible to the next read in this process.
                *losses = 0;
                let published = self.publish(&chunk);
                self.confirm(chunk.link.number);
                for (pending, place) in batch.into_iter().zip(chunk.places()) {
                    pending.answer(AppendOutcome::Appended(place));
                }
                published
            }
            Settled::Lost(winner) => {
                let published = self.publish(&winner);
                // Lost once, the next number is tried at once, or a busier process would always be first. Lost again,
                // there is more to catch up with, and reading is cheaper than putting.
                *losses += 1;
                if *losses % 2 == 1 {
                    self.confirm(winner.link.number);
                }
                let batch = if self.bug(PlantedBug::NotLookForRepeats) {
                    batch
                } else {
                    answer_those_in(&winner, batch)
                };
                self.queue.put_back(batch, None);
                published
            }
            Settled::Unknown => {
                self.doubt();
                for pending in batch {
                    pending.answer(AppendOutcome::Unknown);
                }
                Ok(())
            }
            Settled::NotPut(error) => {
                self.queue.put_back(batch, Some(error.clone()));
                Err(error)
            }
        }
    }

    /// Answers repeats whose record an earlier attempt appended at or below `tip`; the others are returned with
    /// everything up to there looked through.
    async fn answer_found(&self, mut batch: Vec<Pending>, tip: u64) -> Result<Vec<Pending>> {
        let behind = |batch: &[Pending]| {
            batch.iter().filter_map(|pending| pending.seen).min().filter(|&seen| seen < tip)
        };
        while let Some(seen) = behind(&batch)
            && !self.bug(PlantedBug::NotLookForRepeats)
        {
            match self.true_chunk(seen + 1).await {
                Ok(Some(chunk)) => batch = answer_those_in(&chunk, batch),
                Ok(None) => {
                    // Trimmed before it was looked through: an earlier attempt may have been in it.
                    let (lost, rest): (Vec<_>, Vec<_>) = batch
                        .into_iter()
                        .partition(|pending| pending.seen.is_some_and(|through| through <= seen));
                    for pending in lost {
                        pending.answer(AppendOutcome::Unknown);
                    }
                    batch = rest;
                }
                Err(error) => {
                    self.queue.put_back(batch, None);
                    return Err(error);
                }
            }
        }
        for pending in &mut batch {
            pending.seen = Some(tip);
        }
        Ok(batch)
    }

    fn touch_beacon_after_a_pause(&self) {
        if self.beacon.begins_burst(self.config.idle_after / 2) {
            let beacon = self.beacon.clone();
            self.ctx.tasks.spawn("log beacon", async move {
                if let Err(error) = beacon.touch().await {
                    tracing::debug!(%error, "the log's beacon was not touched; idle readers look a little later");
                }
            });
        }
    }
}

/// Answers those whose write id the chunk holds; the others have seen it.
fn answer_those_in(chunk: &Chunk, batch: Vec<Pending>) -> Vec<Pending> {
    let wanted: HashSet<WriteId> = batch.iter().map(|pending| pending.record.write_id()).collect();
    let found: HashMap<WriteId, Appended> = chunk.write_ids().filter(|(id, _)| wanted.contains(id)).collect();
    let mut left = Vec::with_capacity(batch.len());
    for mut pending in batch {
        if pending.seen.is_some_and(|seen| seen >= chunk.link.number) {
            left.push(pending);
        } else if let Some(place) = found.get(&pending.record.write_id()) {
            pending.answer(AppendOutcome::Appended(*place));
        } else {
            pending.seen = Some(chunk.link.number);
            left.push(pending);
        }
    }
    left
}
