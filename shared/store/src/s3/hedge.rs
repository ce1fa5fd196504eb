//! When to ask a second time for what is slow to come.
//!
//! The source is Dean and Barroso, "The Tail at Scale" (2013): a request that takes longer than nearly all do is sent
//! again, and whichever answer comes first is taken. What is measured is the time to the first byte, so that big
//! reads and small ones can be compared. Only gets are hedged.

use super::budget::Budget;
use std::time::Duration;

/// How many of the newest times are looked at.
const TIMES: usize = 256;
/// Fewer say nothing.
const TIMES_AT_LEAST: usize = 64;
/// After so many more the middle of things is computed anew.
const RENEW: usize = 32;
/// Below this a second request costs more than it saves.
const SHORTEST: Duration = Duration::from_millis(10);
/// Second requests per thousand, and how many of them may come at once.
const PER_THOUSAND: u32 = 30;
const AT_ONCE: u32 = 5;

/// Decides; it neither waits nor asks.
#[derive(Debug)]
pub(super) struct Hedger {
    times: Vec<Duration>,
    next: usize,
    since: usize,
    slow: Option<Duration>,
    budget: Budget,
}

impl Hedger {
    pub(super) fn new() -> Self {
        let budget = Budget::new(PER_THOUSAND, AT_ONCE);
        Self { times: Vec::with_capacity(TIMES), next: 0, since: 0, slow: None, budget }
    }

    /// A request begins; answers how long to wait for its first byte before [`Hedger::take`] is asked. `None` = too
    /// little is known yet.
    pub(super) fn begin(&mut self) -> Option<Duration> {
        self.budget.earn();
        self.slow
    }

    /// Whether a second request may be sent now.
    pub(super) fn take(&mut self) -> bool {
        self.budget.take()
    }

    /// The first byte of an answer came after `time`, whichever request it answered.
    pub(super) fn observe(&mut self, time: Duration) {
        if self.times.len() < TIMES {
            self.times.push(time);
        } else if let Some(oldest) = self.times.get_mut(self.next) {
            *oldest = time;
        }
        self.next = (self.next + 1) % TIMES;
        self.since += 1;
        if self.times.len() >= TIMES_AT_LEAST && (self.slow.is_none() || self.since >= RENEW) {
            self.since = 0;
            self.slow = Some(self.percentile_95().max(SHORTEST));
        }
    }

    fn percentile_95(&self) -> Duration {
        let mut sorted = self.times.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() * 95 / 100).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    /// `count` requests; every twentieth takes `slow`, the others 20 ms to 29 ms.
    fn traffic(hedger: &mut Hedger, count: u32, slow: Duration) -> u32 {
        let mut sent = 0;
        for n in 0..count {
            let time = if n % 20 == 19 { slow } else { (20 + n % 10) * MILLI };
            match hedger.begin() {
                Some(wait) if wait < time && hedger.take() => {
                    sent += 1;
                    hedger.observe(wait + 20 * MILLI);
                }
                _ => hedger.observe(time),
            }
        }
        sent
    }

    #[test]
    fn nothing_is_hedged_before_enough_is_known() {
        let mut hedger = Hedger::new();
        for _ in 0..TIMES_AT_LEAST - 1 {
            assert_eq!(hedger.begin(), None);
            hedger.observe(MILLI);
        }
        hedger.observe(MILLI);
        assert_eq!(hedger.begin(), Some(SHORTEST), "and never sooner than is worth it");
    }

    #[test]
    fn slow_requests_are_hedged_after_nearly_all_others_have_come() {
        let mut hedger = Hedger::new();
        traffic(&mut hedger, 300, 29 * MILLI);
        let wait = hedger.begin().unwrap();
        assert!((25 * MILLI..=29 * MILLI).contains(&wait), "{wait:?}");
        let sent = traffic(&mut hedger, 10_000, 900 * MILLI);
        assert!((200..=320).contains(&sent), "{sent}");
    }

    #[test]
    fn where_all_are_slow_few_are_hedged() {
        let mut hedger = Hedger::new();
        traffic(&mut hedger, 300, 29 * MILLI);
        let mut sent = 0;
        for _ in 0..1_000 {
            if hedger.begin().is_some_and(|wait| wait < 2_000 * MILLI) && hedger.take() {
                sent += 1;
            }
            hedger.observe(2_000 * MILLI);
        }
        assert!(sent <= 35, "{sent}");
        assert_eq!(hedger.begin(), Some(2_000 * MILLI), "what was slow is usual now");
    }

    #[test]
    fn old_times_are_forgotten() {
        let mut hedger = Hedger::new();
        (0..1_000).for_each(|_| hedger.observe(500 * MILLI));
        (0..300).for_each(|_| hedger.observe(20 * MILLI));
        assert_eq!(hedger.begin(), Some(20 * MILLI));
    }
}
