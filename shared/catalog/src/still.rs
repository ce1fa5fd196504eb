//! How long another's counter stood still while one's own renewals succeeded.
//!
//! Nobody's clock is compared with anybody's. An observer measures on its own monotonic clock, and counts only time in
//! which it could itself renew: in an outage of the catalog everything stands still, and nobody is dead. Of the time
//! between two looks it counts at most a step, so that an observer that was itself asleep (a paused machine, a stalled
//! disk) does not wake up and bury everybody.

use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// How often this process renewed something in the catalog: its heartbeat, its leases. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct OwnRenewals(Arc<Mutex<u64>>);

impl OwnRenewals {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more was acknowledged.
    pub fn succeeded(&self) {
        *self.0.lock() += 1;
    }

    /// How many were acknowledged.
    pub fn count(&self) -> u64 {
        *self.0.lock()
    }
}

/// One observed counter.
#[derive(Debug, Clone)]
pub(crate) struct Stillness<T> {
    seen: T,
    at: Duration,
    renewals: u64,
    still: Duration,
}

impl<T: PartialEq> Stillness<T> {
    /// The first look.
    pub(crate) fn new(seen: T, now: Duration, renewals: u64) -> Self {
        Self { seen, at: now, renewals, still: Duration::ZERO }
    }

    /// What was seen last.
    pub(crate) fn seen(&self) -> &T {
        &self.seen
    }

    /// How long it has stood still, as of the last look.
    pub(crate) fn still(&self) -> Duration {
        self.still
    }

    /// Another look, at `now` (monotonic); answers how long it has stood still.
    pub(crate) fn look(&mut self, seen: T, now: Duration, renewals: u64, most: Duration) -> Duration {
        if seen != self.seen {
            *self = Self::new(seen, now, renewals);
        } else if renewals > self.renewals {
            self.still += now.saturating_sub(self.at).min(most);
        }
        (self.at, self.renewals) = (now, renewals);
        self.still
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_with_own_renewals_counts_and_a_nap_counts_as_one_step() {
        let s = Duration::from_secs;
        let mut still = Stillness::new(5, s(100), 1);
        assert_eq!(still.look(5, s(103), 2, s(4)), s(3));
        assert_eq!(still.look(5, s(106), 2, s(4)), s(3), "no renewal of one's own");
        assert_eq!(still.look(5, s(109), 3, s(4)), s(6));
        assert_eq!(still.look(5, s(9_000), 4, s(4)), s(10), "asleep");
        assert_eq!(still.look(6, s(9_001), 5, s(4)), s(0), "it moved");
        assert_eq!(still.look(6, s(9_002), 6, s(4)), s(1));
    }
}
