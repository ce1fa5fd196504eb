//! The newest chunks that this process knows, in memory: what it appended reaches its own tails from here.

use crate::chunk::{Chunk, Link};
use crate::codec::corrupt;
use nacre_types::Result;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A run of consecutive true chunks that ends with the newest one known. Everything in it was checked against the
/// boundary once; a chunk that was true then stays true when it is trimmed later.
#[derive(Debug)]
pub(super) struct Window {
    chunks: VecDeque<Arc<Chunk>>,
    bytes: usize,
    max_bytes: usize,
    tip: Option<Link>,
    /// When the tip was last known to be the end of the log, on the monotonic clock.
    confirmed: Option<Duration>,
}

impl Window {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { chunks: VecDeque::new(), bytes: 0, max_bytes, tip: None, confirmed: None }
    }

    /// The newest chunk known; not necessarily the end of the log.
    pub(super) fn tip(&self) -> Option<Link> {
        self.tip
    }

    /// The tip, if it was the end of the log at or after `since`.
    pub(super) fn confirmed_tip(&self, since: Duration) -> Option<Link> {
        self.tip.filter(|_| self.confirmed.is_some_and(|at| at >= since))
    }

    /// The tip was the end of the log a moment ago, if it is chunk `number`.
    pub(super) fn confirm(&mut self, number: u64, now: Duration) {
        if self.tip.is_some_and(|tip| tip.number == number) {
            self.confirmed = Some(now);
        }
    }

    /// The end of the log is not where it was thought to be.
    pub(super) fn doubt(&mut self) {
        self.confirmed = None;
    }

    pub(super) fn get(&self, number: u64) -> Option<Arc<Chunk>> {
        let first = self.chunks.front()?.link.number;
        let index = usize::try_from(number.checked_sub(first)?).ok()?;
        self.chunks.get(index).cloned()
    }

    /// A true chunk. One that is not newer than the tip is known already; one that leaves a gap begins a new run.
    /// Answers whether the tip moved.
    pub(super) fn publish(&mut self, chunk: Arc<Chunk>) -> Result<bool> {
        if let Some(tip) = self.tip {
            if chunk.link.number <= tip.number {
                self.check_same(&chunk)?;
                return Ok(false);
            }
            if chunk.link.number == tip.number + 1 {
                chunk.check_follows(&tip)?;
            } else {
                self.chunks.clear();
                self.bytes = 0;
            }
        }
        self.tip = Some(chunk.link);
        self.confirmed = None;
        self.bytes += chunk.bytes.len();
        self.chunks.push_back(chunk);
        while self.bytes > self.max_bytes
            && self.chunks.len() > 1
            && let Some(oldest) = self.chunks.pop_front()
        {
            self.bytes -= oldest.bytes.len();
        }
        Ok(true)
    }

    /// Of one number there is one true chunk.
    fn check_same(&self, chunk: &Chunk) -> Result<()> {
        match self.get(chunk.link.number) {
            Some(known) if known.link.id != chunk.link.id => Err(corrupt(
                "log",
                format_args!(
                    "two chunks of number {} in partition {}; the store let two creators win, or objects were deleted",
                    chunk.link.number, chunk.partition
                ),
            )
            .with_code("log-chain")),
            _ => Ok(()),
        }
    }

    /// Everything up to `link` was trimmed: the next chunk follows it.
    pub(super) fn skip_to(&mut self, link: Link) -> bool {
        if self.tip.is_some_and(|tip| tip.number >= link.number) {
            return false;
        }
        self.chunks.clear();
        self.bytes = 0;
        self.tip = Some(link);
        self.confirmed = None;
        true
    }
}
