//! An appender whose clock is far from the store's own date does not append: its chunk's time would become the log's.

use nacre_runtime::Context;
use nacre_store::ObjectStore;
use nacre_types::{Error, Result};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// How long a comparison holds while the clock does not step.
const HOLDS: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Skew {
    store: Arc<dyn ObjectStore>,
    ctx: Context,
    bound: Duration,
    timeout: Duration,
    checked: Mutex<Option<Checked>>,
}

#[derive(Debug, Clone, Copy)]
struct Checked {
    at: Duration,
    /// Wall clock less monotonic clock, microseconds: it changes only when the wall clock steps.
    wall_less_monotonic: i64,
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Skew {
    pub(super) fn new(store: Arc<dyn ObjectStore>, ctx: Context, bound: Duration, timeout: Duration) -> Self {
        Self { store, ctx, bound, timeout, checked: Mutex::new(None) }
    }

    fn wall_less_monotonic(&self) -> i64 {
        self.ctx.clock.now_micros().saturating_sub(micros(self.ctx.clock.monotonic()))
    }

    /// # Errors
    /// `Unavailable` (`clock-skew`), or that the store does not say its date.
    pub(super) async fn check(&self) -> Result<()> {
        if let Some(checked) = *self.checked.lock() {
            let stepped = self.wall_less_monotonic().abs_diff(checked.wall_less_monotonic);
            let age = self.ctx.clock.monotonic().saturating_sub(checked.at);
            if age < HOLDS && u128::from(stepped) <= self.bound.as_micros() / 4 {
                return Ok(());
            }
        }
        let before = self.ctx.clock.now_micros();
        let date = match tokio::time::timeout(self.timeout, self.store.date_micros()).await {
            Ok(date) => date?,
            Err(_) => {
                return Err(
                    Error::unavailable("the store does not say its date").with_code("log-store-silent")
                );
            }
        };
        let after = self.ctx.clock.now_micros();
        // Within the request the date may be anything between the two readings.
        let off = if date < before {
            before.abs_diff(date)
        } else {
            date.saturating_sub(after).max(0).unsigned_abs()
        };
        if u128::from(off) > self.bound.as_micros() {
            *self.checked.lock() = None;
            return Err(Error::unavailable(format!(
                "this machine's clock is {} s away from the store's date; set it: more than {} s and no write is taken",
                off / 1_000_000,
                self.bound.as_secs()
            ))
            .with_code("clock-skew"));
        }
        *self.checked.lock() =
            Some(Checked { at: self.ctx.clock.monotonic(), wall_less_monotonic: self.wall_less_monotonic() });
        Ok(())
    }
}
