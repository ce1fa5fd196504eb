//! How long to wait before trying again.

use crate::Ids;
use std::time::Duration;

/// Waits that double, each drawn between a half and the whole of it, up to a bound: those who failed together do not
/// come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    next: Duration,
    max: Duration,
}

impl Backoff {
    /// Begins at `first` and never waits longer than `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        let first = first.min(max);
        Self { first, next: first, max }
    }

    /// How long to wait now; the next wait is about twice as long.
    pub fn next(&mut self, ids: &dyn Ids) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.max);
        let half = whole / 2;
        let nanos = u64::try_from((whole - half).as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(ids.random_u64() % nanos.saturating_add(1).max(1))
    }

    /// After a success: the next wait is the first again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededIds;

    #[test]
    fn waits_grow_with_jitter_and_stay_below_the_bound() {
        let ids = SeededIds::new(7);
        let (first, max) = (Duration::from_millis(10), Duration::from_millis(100));
        let mut backoff = Backoff::new(first, max);
        let mut whole = first;
        for _ in 0..20 {
            let wait = backoff.next(&ids);
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
            whole = (whole * 2).min(max);
        }
        backoff.reset();
        assert!(backoff.next(&ids) <= first);
        assert_eq!(Backoff::new(Duration::ZERO, Duration::ZERO).next(&ids), Duration::ZERO);
    }
}
