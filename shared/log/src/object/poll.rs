//! Waiting for chunks of other processes, cheaply.
//!
//! One tail of a partition polls for all of them. Absence is not believed here and nothing is concluded from it: the
//! poller just looks again. What a look finds is read anew by [`Partition::read_run`]; now and then the boundary is
//! read, so that a reader that was overtaken by the trimming does not wait for ever. A look is a task: a tail that is
//! asked for less time than the store takes to answer gets on all the same.

use super::partition::Partition;
use super::read::{CATCH_UP, Run};
use nacre_runtime::TaskHandle;
use nacre_types::Result;
use std::sync::Arc;
use std::time::Duration;

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
    /// Changes of the beacon that were followed.
    beacon: u64,
    looks: u64,
    /// There was more to read than the last look took.
    behind: bool,
    /// When the next look is due, on the monotonic clock.
    due: Option<Duration>,
    /// The look that is under way, and for which chunk.
    look: Option<(u64, TaskHandle<Result<Looked>>)>,
}

/// How to look.
#[derive(Debug, Clone, Copy)]
enum Look {
    /// At the chunks and the boundary.
    Read { width: u64 },
    /// At the chunk's name; at the rest if it is taken.
    Name,
    /// At the beacon; at the rest if it has changed since.
    Beacon { seen: u64, chunks_too: bool },
}

#[derive(Debug)]
struct Looked {
    beacon: Option<u64>,
    run: Option<Run>,
}

/// What waiting ended with.
#[derive(Debug)]
pub(super) enum Polled {
    /// Something was read: look again.
    News,
    Trimmed,
}

impl Partition {
    /// Waits until chunk `number` is there or trimmed. May be dropped at any place; the next call goes on.
    pub(super) async fn poll(self: &Arc<Self>, number: u64) -> Result<Polled> {
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
            if pace.look.as_ref().is_none_or(|(of, _)| *of != number) {
                let how = self.next_look(&mut pace).await;
                let this = self.clone();
                let look = async move { this.look(number, how).await };
                pace.look = Some((number, self.ctx.tasks.spawn("log poll", look)));
            }
            let Some((_, look)) = &mut pace.look else { continue };
            let looked = look.await;
            pace.look = None;
            let looked = looked.and_then(|looked| looked)?;
            if let Some(changes) = looked.beacon
                && changes != pace.beacon
            {
                pace.beacon = changes;
                pace.quiet = 0;
            }
            match looked.run {
                None => {}
                Some(Run::Trimmed(_)) => return Ok(Polled::Trimmed),
                Some(Run::Chunks { chunks, ended }) => {
                    pace.behind = !ended;
                    if !chunks.is_empty() {
                        pace.quiet = 0;
                        return Ok(Polled::News);
                    }
                }
            }
        }
    }

    /// Waits until a look is due and says which.
    async fn next_look(&self, pace: &mut Pace) -> Look {
        if pace.behind {
            return Look::Read { width: CATCH_UP };
        }
        let idle_after = self.config.idle_after.as_nanos() / self.config.poll_every.as_nanos().max(1);
        let idle = u128::from(pace.quiet) > idle_after;
        if pace.looks > 0 {
            let wait = if idle { self.config.idle_poll_every } else { self.config.poll_every };
            let now = self.ctx.clock.monotonic();
            let due = *pace.due.get_or_insert(now.saturating_add(wait));
            tokio::time::sleep(due.saturating_sub(now)).await;
            pace.due = None;
        }
        pace.looks += 1;
        pace.quiet += 1;
        if idle {
            Look::Beacon { seen: pace.beacon, chunks_too: pace.looks.is_multiple_of(CHUNK_EVERY) }
        } else if pace.looks == 1 || pace.looks.is_multiple_of(BOUNDARY_EVERY) {
            Look::Read { width: 2 }
        } else {
            Look::Name
        }
    }

    async fn look(&self, number: u64, how: Look) -> Result<Looked> {
        let mut beacon = None;
        let width = match how {
            Look::Read { width } => width,
            Look::Name if self.exists(number).await? => 2,
            Look::Name => return Ok(Looked { beacon, run: None }),
            Look::Beacon { seen, chunks_too } => {
                let changes = self.beacon.changes().await?;
                beacon = Some(changes);
                if changes == seen && !chunks_too {
                    return Ok(Looked { beacon, run: None });
                }
                1
            }
        };
        Ok(Looked { beacon, run: Some(self.read_run(number, width).await?) })
    }
}
