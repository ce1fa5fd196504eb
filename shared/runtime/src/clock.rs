//! Two times: the wall clock, which people read and may step, and the monotonic one, which measures.

use parking_lot::Mutex;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A source of time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The wall clock: microseconds since the epoch. May step either way; no rule of correctness rests on it.
    fn now_micros(&self) -> i64;

    /// Time since some fixed moment; never steps back. For deadlines and for "stood still for ten seconds".
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks. What it measures follows tokio's time, which a test may pause.
#[derive(Debug, Clone)]
pub struct SystemClock {
    start: tokio::time::Instant,
}

impl SystemClock {
    /// Counts monotonic time from now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    pub fn new() -> Self {
        Self { start: tokio::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    fn now_micros(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    fn monotonic(&self) -> Duration {
        tokio::time::Instant::now().saturating_duration_since(self.start)
    }
}

/// A clock that moves only when told to. It does not move tokio's timers.
#[derive(Debug)]
pub struct ManualClock(Mutex<Manual>);

#[derive(Debug)]
struct Manual {
    now_micros: i64,
    monotonic: Duration,
}

impl ManualClock {
    /// Stands at `now_micros` microseconds since the epoch; nothing measured yet.
    pub fn new(now_micros: i64) -> Self {
        Self(Mutex::new(Manual { now_micros, monotonic: Duration::ZERO }))
    }

    /// Steps the wall clock, either way; the monotonic one stays.
    pub fn set(&self, now_micros: i64) {
        self.0.lock().now_micros = now_micros;
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let mut manual = self.0.lock();
        manual.monotonic += by;
        manual.now_micros =
            manual.now_micros.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX));
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> i64 {
        self.0.lock().now_micros
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().monotonic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told_and_steps_only_the_wall() {
        let clock = ManualClock::new(1_000);
        clock.advance(Duration::from_millis(2));
        assert_eq!((clock.now_micros(), clock.monotonic()), (3_000, Duration::from_millis(2)));
        clock.set(5);
        assert_eq!((clock.now_micros(), clock.monotonic()), (5, Duration::from_millis(2)));
    }

    #[test]
    fn the_system_clock_is_after_2020_and_measures_forwards() {
        let clock = SystemClock::new();
        assert!(clock.now_micros() > 1_577_836_800_000_000);
        let first = clock.monotonic();
        assert!(clock.monotonic() >= first);
    }
}
