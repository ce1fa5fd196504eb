//! What a process knows of one partition: where its reader stands, and the latest records in memory.
//!
//! Pure: no time passes here and nobody is asked. The follower puts in what it has read; tails, appends and searches take
//! out.

use super::stamp::Raw;
use crate::LogPosition;
use crate::log::{Appended, Stamped};
use crate::record;
use nacre_types::{Error, Offset, WriteId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::oneshot;

#[cfg(test)]
mod tests;

/// A position is remembered whenever so many bytes were read since the last one,
const CHECKPOINT_BYTES: usize = 1 << 20;
/// and at most so many are: then every second one goes.
const CHECKPOINTS: usize = 4_096;

/// Records that were read together.
#[derive(Debug)]
pub(super) struct Slice {
    pub(super) start: LogPosition,
    pub(super) records: Vec<Stamped>,
    /// The clock before each record.
    clocks: Vec<i64>,
    bytes: usize,
    pub(super) next: LogPosition,
}

/// Builds a slice while records are stamped.
#[derive(Debug)]
pub(super) struct SliceBuilder(Slice);

impl SliceBuilder {
    pub(super) fn new(start: LogPosition) -> Self {
        Self(Slice { start, records: Vec::new(), clocks: Vec::new(), bytes: 0, next: start })
    }

    /// `next` is where the stamper stands after it.
    pub(super) fn push(&mut self, stamped: Stamped, bytes: usize, next: LogPosition) {
        self.0.clocks.push(self.0.next.clock);
        self.0.records.push(stamped);
        self.0.bytes += bytes;
        self.0.next = next;
    }

    pub(super) fn finish(self) -> Slice {
        self.0
    }
}

/// What stands at an offset that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) write_id: WriteId,
    pub(super) appended: Appended,
}

impl Place {
    fn of(stamped: &Stamped) -> Self {
        let (offset, version, append_time) = (stamped.offset, Some(stamped.version), stamped.append_time);
        Self { write_id: stamped.record.write_id, appended: Appended { offset, version, append_time } }
    }
}

/// How the reader of a partition fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not reached the end yet, or lost its way to the brokers; why, if it is known.
    Behind(Option<Error>),
    /// It has been at the end and goes on with it.
    AtEnd,
    /// It has stopped for good.
    Stopped(Error),
}

/// What a tail that stands somewhere does next.
#[derive(Debug)]
pub(super) enum Look {
    /// Takes the records of the slice from this index on.
    Records(Arc<Slice>, usize),
    /// Waits for news.
    Wait,
    /// Reads by itself: what it wants is older than what memory holds.
    Behind,
    /// Ends: the clock there is another.
    WrongClock(i64),
    /// Ends.
    Stopped(Error),
}

#[derive(Debug)]
pub(super) struct Known {
    at: Option<LogPosition>,
    /// The last record's append time.
    time: i64,
    phase: Phase,
    /// At this offset the reader is at the end.
    target: u64,
    window: VecDeque<Arc<Slice>>,
    bytes: usize,
    max_bytes: usize,
    /// Who waits until an offset was read.
    waiters: BTreeMap<u64, Vec<oneshot::Sender<Place>>>,
    /// Positions that were passed, in order; the first is where reading began.
    checkpoints: Vec<LogPosition>,
    since_checkpoint: usize,
}

impl Known {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            at: None,
            time: 0,
            phase: Phase::Behind(None),
            target: u64::MAX,
            window: VecDeque::new(),
            bytes: 0,
            max_bytes,
            waiters: BTreeMap::new(),
            checkpoints: Vec::new(),
            since_checkpoint: 0,
        }
    }

    /// Where the reader stands; `None` before it began.
    pub(super) fn at(&self) -> Option<LogPosition> {
        self.at
    }

    pub(super) fn time(&self) -> i64 {
        self.time
    }

    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Reading begins, or goes on, at `at`, while the partition's end is `target`. A place that was jumped to leaves
    /// nothing of what was known before.
    pub(super) fn resume(&mut self, at: LogPosition, target: u64) {
        if self.at != Some(at) {
            self.window.clear();
            self.bytes = 0;
            self.checkpoints = vec![at];
            self.since_checkpoint = 0;
            // Whoever waits for something before it is told nothing: unknown.
            self.waiters = self.waiters.split_off(&at.offset.0);
            self.at = Some(at);
        }
        self.target = target;
        if !matches!(self.phase, Phase::Stopped(_)) {
            self.phase = if at.offset.0 >= target { Phase::AtEnd } else { Phase::Behind(None) };
        }
    }

    /// Nobody reads any more: what was known is forgotten.
    pub(super) fn rest(&mut self) {
        if !matches!(self.phase, Phase::Stopped(_)) {
            *self = Self::new(self.max_bytes);
        }
    }

    pub(super) fn trouble(&mut self, error: Error) {
        if !matches!(self.phase, Phase::Stopped(_)) {
            self.phase = Phase::Behind(Some(error));
        }
    }

    pub(super) fn stop(&mut self, error: Error) {
        if !matches!(self.phase, Phase::Stopped(_)) {
            self.phase = Phase::Stopped(error);
        }
        self.waiters.clear();
    }

    /// The follower has read a slice, which begins where it stood.
    pub(super) fn publish(&mut self, slice: Slice) {
        let Some(last) = slice.records.last() else { return };
        debug_assert_eq!(self.at, Some(slice.start));
        self.time = last.append_time;
        self.at = Some(slice.next);
        if slice.next.offset.0 >= self.target && !matches!(self.phase, Phase::Stopped(_)) {
            self.phase = Phase::AtEnd;
        }
        self.since_checkpoint += slice.bytes;
        if self.since_checkpoint >= CHECKPOINT_BYTES {
            self.since_checkpoint = 0;
            self.checkpoints.push(slice.next);
            if self.checkpoints.len() > CHECKPOINTS {
                let mut index = 0;
                self.checkpoints.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
            }
        }
        let later = self.waiters.split_off(&slice.next.offset.0);
        for (offset, waiting) in std::mem::replace(&mut self.waiters, later) {
            let place = slice.place(Offset(offset));
            for waiter in waiting {
                // Dropped without an answer, it knows that it will not know.
                if let Some(place) = place {
                    let _ = waiter.send(place);
                }
            }
        }
        self.bytes += slice.bytes;
        self.window.push_back(Arc::new(slice));
        while self.bytes > self.max_bytes && self.window.len() > 1 {
            if let Some(old) = self.window.pop_front() {
                self.bytes -= old.bytes;
            }
        }
    }

    /// What a tail at `at` does next.
    pub(super) fn look(&self, at: &LogPosition) -> Look {
        let stopped = || match &self.phase {
            Phase::Stopped(error) => Look::Stopped(error.clone()),
            _ => Look::Wait,
        };
        let Some(front) = self.at else { return stopped() };
        if at.offset >= front.offset {
            return if at.offset == front.offset && at.clock != front.clock {
                Look::WrongClock(front.clock)
            } else {
                stopped()
            };
        }
        let Some(slice) = self.slice_with(at.offset) else { return Look::Behind };
        let index = slice.index(at.offset);
        match slice.clocks.get(index) {
            Some(clock) if *clock != at.clock => Look::WrongClock(*clock),
            _ => Look::Records(slice.clone(), index),
        }
    }

    fn slice_with(&self, offset: Offset) -> Option<&Arc<Slice>> {
        let index = self.window.partition_point(|slice| slice.next.offset <= offset);
        self.window.get(index).filter(|slice| slice.start.offset <= offset)
    }

    /// Tells what stands at an offset, now or when it has been read. Dropped without an answer: nobody will know.
    pub(super) fn place(&mut self, offset: Offset) -> oneshot::Receiver<Place> {
        let (sender, receiver) = oneshot::channel();
        match self.at {
            Some(at) if offset < at.offset => {
                if let Some(place) = self.slice_with(offset).and_then(|slice| slice.place(offset)) {
                    let _ = sender.send(place);
                }
            }
            _ if matches!(self.phase, Phase::Stopped(_)) => {}
            _ => self.waiters.entry(offset.0).or_default().push(sender),
        }
        receiver
    }

    /// Forgets those who no longer wait.
    pub(super) fn tidy(&mut self) {
        self.waiters.retain(|_, waiting| {
            waiting.retain(|waiter| !waiter.is_closed());
            !waiting.is_empty()
        });
    }

    /// The latest position that is known at or before `offset`; `None` = reading began after it.
    pub(super) fn checkpoint(&self, offset: Offset) -> Option<LogPosition> {
        let index = self.checkpoints.partition_point(|at| at.offset <= offset);
        self.checkpoints.get(index.checked_sub(1)?).copied()
    }

    /// Where reading began.
    pub(super) fn first(&self) -> Option<LogPosition> {
        self.checkpoints.first().copied()
    }
}

impl Slice {
    fn index(&self, offset: Offset) -> usize {
        usize::try_from(offset.0.saturating_sub(self.start.offset.0)).unwrap_or(usize::MAX)
    }

    fn place(&self, offset: Offset) -> Option<Place> {
        self.records.get(self.index(offset)).filter(|stamped| stamped.offset == offset).map(Place::of)
    }
}

/// Whether a record that was not stamped is the one with this id.
pub(super) fn is_write(raw: &Raw, id: WriteId) -> bool {
    record::write_id(&raw.bytes) == id
}
