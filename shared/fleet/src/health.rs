//! Which nodes are better asked later: those that did not answer a moment ago.
//!
//! This is one process's own experience, seconds old. Who is dead is for the heartbeats to say; until they do, requests
//! go to the replicas, and now and then one goes to the node to see.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nacre_types::ProcessId;
use parking_lot::Mutex;

/// A node that was late so often without an answer between is suspected.
const LATE: u32 = 8;
const FIRST: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_secs(8);

/// The suspects of one process.
#[derive(Debug, Default)]
pub(crate) struct Health {
    known: Mutex<HashMap<ProcessId, Trouble>>,
    /// How many are in `known`, so that a healthy fleet costs no lock.
    count: AtomicUsize,
}

#[derive(Debug, Default, Clone, Copy)]
struct Trouble {
    late: u32,
    strikes: u32,
    until: Option<Duration>,
}

impl Health {
    /// A node could not be reached.
    pub(crate) fn failed(&self, node: ProcessId, now: Duration) {
        self.change(node, |trouble| trouble.suspect(now));
    }

    /// A node did not answer when nearly all requests are answered.
    pub(crate) fn late(&self, node: ProcessId, now: Duration) {
        self.change(node, |trouble| {
            trouble.late += 1;
            if trouble.late >= LATE {
                trouble.suspect(now);
            }
        });
    }

    /// A node answered.
    pub(crate) fn well(&self, node: ProcessId) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut known = self.known.lock();
        known.remove(&node);
        self.count.store(known.len(), Ordering::Relaxed);
    }

    /// Whether a node is better asked after the others.
    pub(crate) fn is_suspect(&self, node: ProcessId, now: Duration) -> bool {
        self.count.load(Ordering::Relaxed) > 0
            && self
                .known
                .lock()
                .get(&node)
                .is_some_and(|trouble| trouble.until.is_some_and(|until| now < until))
    }

    fn change(&self, node: ProcessId, change: impl FnOnce(&mut Trouble)) {
        let mut known = self.known.lock();
        change(known.entry(node).or_default());
        self.count.store(known.len(), Ordering::Relaxed);
    }
}

impl Trouble {
    /// Each time for twice as long. When the time is over one late request is enough.
    fn suspect(&mut self, now: Duration) {
        if self.until.is_some_and(|until| now < until) {
            return;
        }
        let wait = FIRST.saturating_mul(1 << self.strikes.min(10)).min(MOST);
        self.strikes += 1;
        self.late = LATE - 1;
        self.until = Some(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: ProcessId = ProcessId(1);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_node_that_fails_is_left_alone_ever_longer_and_trusted_when_it_answers() {
        let health = Health::default();
        let mut now = SECOND;
        for wait in [FIRST, 2 * FIRST, 4 * FIRST] {
            assert!(!health.is_suspect(NODE, now));
            health.failed(NODE, now);
            health.failed(NODE, now);
            assert!(health.is_suspect(NODE, now + wait - FIRST / 100), "{wait:?}");
            now += wait;
        }
        (0..20).for_each(|_| {
            health.failed(NODE, now);
            now += MOST;
        });
        health.well(NODE);
        health.failed(NODE, now);
        assert!(!health.is_suspect(NODE, now + FIRST));
    }

    #[test]
    fn a_node_is_late_several_times_before_it_is_suspected_and_then_once() {
        let health = Health::default();
        for _ in 1..LATE {
            health.late(NODE, SECOND);
        }
        assert!(!health.is_suspect(NODE, SECOND));
        health.late(NODE, SECOND);
        assert!(health.is_suspect(NODE, SECOND));
        assert!(!health.is_suspect(ProcessId(2), SECOND));
        health.late(NODE, SECOND + FIRST);
        assert!(health.is_suspect(NODE, SECOND + FIRST));
    }
}
