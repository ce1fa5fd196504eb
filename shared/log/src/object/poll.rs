//! Waiting for chunks of other processes, cheaply.
//!
//! One tail of a partition polls for all of them. Absence is not believed here and nothing is concluded from it: the
//! poller just looks again. What a poll finds is read anew by [`Partition::read_run`]; now and then the boundary is
//! read, so that a reader that was overtaken by the trimming does not wait for ever.

use super::partition::Partition;
use super::read::{CATCH_UP, Run};
use nacre_types::Result;

/// Of how many polls one reads the boundary as well.
const BOUNDARY_EVERY: u64 = 50;
/// Of how many idle polls one looks at the chunks themselves: a touch of the beacon may have been lost.
const CHUNK_EVERY: u64 = 30;

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Looks without news.
    quiet: u64,
    /// The tip at the last look.
    tip: u64,
    beacon: u64,
    looks: u64,
    /// There was more to read than the last look took.
    behind: bool,
}

/// What waiting ended with.
#[derive(Debug)]
pub(super) enum Polled {
    /// Something was read: look again.
    News,
    Trimmed,
}

impl Partition {
    /// Waits until chunk `number` is there or trimmed. Cheap to drop at any place.
    pub(super) async fn poll(&self, number: u64) -> Result<Polled> {
        let mut pace = self.pace.lock().await;
        loop {
            let tip = self.tip().map_or(0, |tip| tip.number);
            if tip >= number {
                return Ok(Polled::News);
            }
            if tip != pace.tip {
                pace.tip = tip;
                pace.quiet = 0;
            }
            let idle_after = self.config.idle_after.as_nanos() / self.config.poll_every.as_nanos().max(1);
            let idle = u128::from(pace.quiet) > idle_after;
            if !pace.behind {
                let wait = if idle { self.config.idle_poll_every } else { self.config.poll_every };
                if pace.looks > 0 {
                    tokio::time::sleep(wait).await;
                }
                pace.looks += 1;
                pace.quiet += 1;
                if idle {
                    let changes = self.beacon.changes().await?;
                    if changes != pace.beacon {
                        pace.beacon = changes;
                        pace.quiet = 0;
                    } else if !pace.looks.is_multiple_of(CHUNK_EVERY) {
                        continue;
                    }
                } else if !pace.looks.is_multiple_of(BOUNDARY_EVERY)
                    && pace.looks > 1
                    && !self.exists(number).await?
                {
                    continue;
                }
            }
            match self.read_run(number, if pace.behind { CATCH_UP } else { 2 }).await? {
                Run::Trimmed(_) => return Ok(Polled::Trimmed),
                Run::Chunks { chunks, ended } => {
                    pace.behind = !ended;
                    if !chunks.is_empty() {
                        pace.quiet = 0;
                        return Ok(Polled::News);
                    }
                }
            }
        }
    }
}
