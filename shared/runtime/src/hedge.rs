//! When to ask a second time for what is slow to come.
//!
//! The source is Dean and Barroso, "The Tail at Scale" (2013): a request that takes longer than nearly all do is sent
//! again, and whichever answer comes first is taken. What is measured should be comparable: the time to the
//! first byte, where some answers are big. Only reads are hedged.

use crate::Budget;
use std::time::Duration;

/// How many of the newest times are looked at.
const TIMES: usize = 256;
/// Fewer say nothing.
const TIMES_AT_LEAST: usize = 64;
/// After so many more the middle of things is computed anew.
const RENEW: usize = 32;

/// Decides; it neither waits nor asks.
#[derive(Debug)]
pub struct Hedger {
    times: Vec<Duration>,
    next: usize,
    since: usize,
    slow: Option<Duration>,
    budget: Budget,
    shortest: Duration,
}

impl Hedger {
    /// Nothing known yet. No request is hedged sooner than after `shortest`, below which a second one costs more than it
    /// saves; at most as `budget` allows.
    pub fn new(shortest: Duration, budget: Budget) -> Self {
        Self { times: Vec::with_capacity(TIMES), next: 0, since: 0, slow: None, budget, shortest }
    }

    /// A request begins; answers how long to wait for its first byte before [`Hedger::take`] is asked. `None` = too
    /// little is known yet.
    pub fn begin(&mut self) -> Option<Duration> {
        self.budget.earn();
        self.slow
    }

    /// Whether a second request may be sent now.
    pub fn take(&mut self) -> bool {
        self.budget.take()
    }

    /// The first byte of an answer came after `time`, whichever request it answered.
    pub fn observe(&mut self, time: Duration) {
        if self.times.len() < TIMES {
            self.times.push(time);
        } else if let Some(oldest) = self.times.get_mut(self.next) {
            *oldest = time;
        }
        self.next = (self.next + 1) % TIMES;
        self.since += 1;
        if self.times.len() >= TIMES_AT_LEAST && (self.slow.is_none() || self.since >= RENEW) {
            self.since = 0;
            self.slow = Some(self.percentile_95().max(self.shortest));
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
    const SHORTEST: Duration = Duration::from_millis(10);

    fn hedger() -> Hedger {
        Hedger::new(SHORTEST, Budget::new(30, 5))
    }

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
        let mut hedger = hedger();
        for _ in 0..TIMES_AT_LEAST - 1 {
            assert_eq!(hedger.begin(), None);
            hedger.observe(MILLI);
        }
        hedger.observe(MILLI);
        assert_eq!(hedger.begin(), Some(SHORTEST), "and never sooner than is worth it");
    }

    #[test]
    fn slow_requests_are_hedged_after_nearly_all_others_have_come() {
        let mut hedger = hedger();
        traffic(&mut hedger, 300, 29 * MILLI);
        let wait = hedger.begin().unwrap();
        assert!((25 * MILLI..=29 * MILLI).contains(&wait), "{wait:?}");
        let sent = traffic(&mut hedger, 10_000, 900 * MILLI);
        assert!((200..=320).contains(&sent), "{sent}");
    }

    #[test]
    fn where_all_are_slow_few_are_hedged() {
        let mut hedger = hedger();
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
        let mut hedger = hedger();
        (0..1_000).for_each(|_| hedger.observe(500 * MILLI));
        (0..300).for_each(|_| hedger.observe(20 * MILLI));
        assert_eq!(hedger.begin(), Some(20 * MILLI));
    }
}
