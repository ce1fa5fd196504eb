//! What is over by itself: open loads lapse, undo windows end, and what nobody asks for any more is forgotten.
//!
//! A pure decision over a manifest and a moment. A load that is under way holds much back: its job keeps objects from
//! being garbage, and tombstones that lateness would let go stay. So it does not stay for ever:
//!
//! * open for 7 days, it is cancelled;
//! * pinned or prepared, 14 days after it was opened. Since it lapses after 7 days while it is open, whoever looks at a
//!   prepared load has at least 7 days for it.
//!
//! A load that failed or was cancelled is shown for at least 7 days more, a reverted one for 7 days from its revert (page
//! tokens, which may put it back, live for minutes), one that is sealed and has no rows of its own any more for 30:
//! then its entry goes, and with it its idempotency key. Its objects are no longer named then, nor is its job open:
//! they are garbage. A job that was open for a day is one of a process that died.
//!
//! Moments are those that the edits carry, by the clocks of who made them. A clock that is far ahead would end what is
//! young, so what is due is asked again at the earlier of this process's clock and the store's own date.

use std::sync::Arc;

use nacre_manifest::{Change, Load, LoadState as Stored, Manifest};
use nacre_types::{Result, limits};

use crate::Table;

const WEEK: i64 = limits::OPEN_LOAD_MICROS;
const DAY: i64 = 24 * 3_600 * 1_000_000;
/// From when it was opened.
const UNDER_WAY_LIFE: i64 = 2 * WEEK;
/// From when it was opened: what had ended by lapsing is shown for a week too.
const ENDED_LIFE: i64 = 3 * WEEK;
/// From when it was committed.
const MERGED_AWAY_LIFE: i64 = 30 * DAY;

fn is_over(since: Option<i64>, life: i64, now: i64) -> bool {
    since.is_some_and(|since| since.saturating_add(life) <= now)
}

/// What is over at `now`.
fn due(manifest: &Manifest, now: i64) -> Vec<Change> {
    let window = manifest.settings().undo_window_micros().max(limits::PAGE_TOKEN_MICROS);
    let of_load = |load: &Load| -> Option<Change> {
        let opened = Some(load.opened_at_micros);
        let cancel = |why: &str| Some(Change::CancelLoad { load: load.id, reason: why.to_owned() });
        let forget = Some(Change::ForgetLoad { load: load.id });
        match load.state {
            Stored::Open if is_over(opened, WEEK, now) => cancel("open for more than 7 days"),
            Stored::Pinned | Stored::Prepared if is_over(opened, UNDER_WAY_LIFE, now) => {
                cancel("neither committed nor cancelled for 14 days")
            }
            Stored::Committed if !load.sealed && is_over(load.committed_at_micros, window, now) => {
                Some(Change::SealLoad { load: load.id })
            }
            Stored::Committed if load.sealed && load.live.segments == 0 => {
                forget.filter(|_| is_over(load.committed_at_micros, MERGED_AWAY_LIFE, now))
            }
            Stored::Failed | Stored::Cancelled => forget.filter(|_| is_over(opened, ENDED_LIFE, now)),
            Stored::Reverted => forget.filter(|_| is_over(load.reverted_at_micros, WEEK, now)),
            _ => None,
        }
    };
    let abandoned = manifest.jobs().iter().filter(|job| is_over(Some(job.opened_at_micros), DAY, now));
    manifest
        .loads()
        .filter_map(of_load)
        .chain(abandoned.map(|job| Change::CloseJob { job: job.id }))
        .collect()
}

impl Table {
    /// Seals loads whose undo window is over, cancels loads that were under way too long, forgets what nobody can ask
    /// for any more, and closes jobs that were abandoned. Answers how many changes were made.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn tidy_loads(self: &Arc<Self>) -> Result<usize> {
        let own = self.shared.ctx.clock.now_micros();
        if due(&self.manifest(), own).is_empty() {
            return Ok(0);
        }
        let now = own.min(self.shared.store.date_micros().await?);
        let count = due(&self.manifest(), now).len();
        if count > 0 {
            self.commit(Box::new(move |manifest| Ok(due(manifest, now)))).await?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
