//! Who works on what: claims on a load's board, a record of the catalog that shows its progress, too.
//!
//! A claim is a hint that saves work: nothing is refused because of one. It counts while its process is registered, and
//! not for units that are done. A process writes only its own claims, all of them at once, by replacing the record if it
//! is unchanged; so of two that reach for one unit one finds it taken. A process that ends well leaves an empty list: who
//! has ever worked on a load is seen on its board, and a loader that sees nobody else need not look for others' results.
//!
//! A process that is slow is left alone while there is something else to do. When there is not, and one of its units
//! shows no new step for `patience`, that is done a second time, from its last step on: the first result counts.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use nacre_engine::{LoadBoard, LoadStatus};
use nacre_runtime::Backoff;
use nacre_types::{Error, Result};

use super::planner::{Picture, Stage, Unit, Work, joined};
use super::{Done, Job, OrLater};

/// How often the board is tried to be changed against others that change it.
const TRIES: u32 = 30;
/// How often progress is told while nothing is claimed.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// What a job knows of its load's board.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// As it was read or written last; `None` = it is to be read.
    held: Option<LoadBoard>,
    /// When the others' units were first seen with so many steps.
    seen: BTreeMap<(u128, usize), Duration>,
    told_at: Duration,
}

/// Units that may be taken, of those that are `open`.
fn free<'a>(open: &'a [Unit], in_hand: &BTreeSet<u128>, claimed: &HashSet<&str>) -> Vec<&'a Unit> {
    open.iter()
        .filter(|unit| !in_hand.contains(&unit.id) && !claimed.contains(unit.claim().as_str()))
        .collect()
}

impl Job<'_> {
    /// Takes up to `most` open units of the present stage, if `wanted` are its units; none where others have them all.
    pub(super) async fn take(&self, wanted: fn(&Work) -> bool, most: fn(usize) -> usize) -> Done<Vec<Unit>> {
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(500));
        for _ in 0..TRIES {
            self.check()?;
            let mut board = self.board.lock().await;
            let held = match board.held.take() {
                Some(held) => held,
                None => self.table.load_board(self.load.id).await.or_later()?,
            };
            let own = self.node.process().to_string();
            let is_shared = held.status.claims.keys().any(|process| *process != own);
            let picture = if is_shared { self.gather().await } else { self.picture() }.or_later()?;
            let open = match &picture.stage {
                Stage::Units(open) => open.as_slice(),
                Stage::Finish(unit, _) => std::slice::from_ref(unit),
                Stage::Failed(_) => &[],
            };
            if !open.iter().all(|unit| wanted(&unit.work)) {
                board.held = Some(held);
                return Ok(Vec::new());
            }
            let living = self.living(&held.status).await.or_later()?;
            // Claims of this process are of an attempt that has ended: what is in hand is known.
            let counts = |process: &String| *process != own && living.contains(process);
            let claims = held.status.claims.iter().filter(|(process, _)| counts(process));
            let claimed: HashSet<&str> = claims.flat_map(|(_, units)| units).map(String::as_str).collect();
            let in_hand = self.in_hand.lock().clone();
            let mut taken = free(open, &in_hand, &claimed);
            taken.truncate(most(open.len()).max(1));
            if taken.is_empty() && in_hand.is_empty() {
                taken.extend(self.stalled(&mut board, open));
            }
            if taken.is_empty() {
                // What is held is of no more use: the others' claims change.
                return Ok(Vec::new());
            }
            let taken: Vec<Unit> = taken.into_iter().cloned().collect();
            let mut status = self.status(&held.status, &picture);
            status.claims.retain(|process, _| living.contains(process));
            let mine = self.claims(open, &in_hand).chain(taken.iter().map(Unit::claim));
            status.claims.insert(own, mine.collect());
            let after = self.table.put_load_board(self.load.id, &held, status).await.or_later()?;
            if let Some(after) = after {
                board.held = Some(after);
                board.told_at = self.ctx.clock.monotonic();
                self.in_hand.lock().extend(taken.iter().map(|unit| unit.id));
                return Ok(taken);
            }
            drop(board);
            tokio::time::sleep(backoff.next(&*self.ctx.ids)).await;
        }
        Err(Error::unavailable("the load's board has too many writers")).or_later()
    }

    fn claims<'a>(
        &self,
        open: &'a [Unit],
        in_hand: &'a BTreeSet<u128>,
    ) -> impl Iterator<Item = String> + use<'a> {
        open.iter().filter(|unit| in_hand.contains(&unit.id)).map(Unit::claim)
    }

    /// One unit of another process that has shown no new step for long.
    fn stalled<'a>(&self, board: &mut Board, open: &'a [Unit]) -> Option<&'a Unit> {
        let now = self.ctx.clock.monotonic();
        let steps = |unit: &Unit| {
            let facts = self.facts.lock();
            let read = facts.read.get(&unit.id).map_or(0, |chain| chain.steps.len());
            read + facts.merged.get(&unit.id).map_or(0, |chain| chain.steps.len())
        };
        let seen: BTreeMap<(u128, usize), Duration> = open
            .iter()
            .map(|unit| (unit.id, steps(unit)))
            .map(|key| (key, board.seen.get(&key).copied().unwrap_or(now)))
            .collect();
        board.seen = seen;
        let still = |unit: &&Unit| {
            let since = board.seen.get(&(unit.id, steps(unit))).copied().unwrap_or(now);
            now.saturating_sub(since) >= self.config.patience
        };
        open.iter().find(still)
    }

    /// Of the processes with claims those that count: this one, and whoever is registered.
    async fn living(&self, status: &LoadStatus) -> Result<HashSet<String>> {
        let mut living: HashSet<String> = {
            let others = self.node.others();
            let others = others.borrow();
            others.iter().map(|process| process.id.to_string()).collect()
        };
        living.insert(self.node.process().to_string());
        if status.claims.keys().any(|process| !living.contains(process)) {
            // One that came a moment ago is in the list of processes, and no heartbeat of ours has shown it yet.
            living.extend(self.node.registered_now().await?.iter().map(ToString::to_string));
        }
        Ok(living)
    }

    fn status(&self, held: &LoadStatus, picture: &Picture) -> LoadStatus {
        LoadStatus {
            preparing: held.preparing || picture.preparing,
            progress: joined(&held.progress, &picture.progress),
            claims: held.claims.clone(),
        }
    }

    /// The unit is done, or another's.
    pub(super) fn put_down(&self, unit: &Unit) {
        self.in_hand.lock().remove(&unit.id);
    }

    /// Tells the progress, if that was not done a moment ago; that it cannot be told stops no load.
    pub(super) async fn tell_now_and_then(&self) {
        let due = self.ctx.clock.monotonic().saturating_sub(TELL_EVERY);
        // Whoever holds the lock is about to tell.
        let is_due = self.board.try_lock().is_ok_and(|board| board.told_at <= due);
        if is_due {
            self.tell(false).await;
        }
    }

    /// Tells the progress. `leaves`: and that this process works on nothing more.
    pub(super) async fn tell(&self, leaves: bool) {
        if let Err(error) = self.try_tell(leaves).await {
            tracing::warn!(load = %self.load.id, %error, "the progress of the load could not be told");
        }
    }

    async fn try_tell(&self, leaves: bool) -> Result<()> {
        for _ in 0..3 {
            let mut board = self.board.lock().await;
            board.told_at = self.ctx.clock.monotonic();
            let held = match board.held.take() {
                Some(held) => held,
                None => self.table.load_board(self.load.id).await?,
            };
            let mut status = self.status(&held.status, &self.picture()?);
            let own = status.claims.get_mut(&self.node.process().to_string());
            match own.filter(|_| leaves) {
                Some(claims) if claims.is_empty() => return Ok(()),
                Some(claims) => claims.clear(),
                None if leaves => return Ok(()),
                None => {}
            }
            board.held = self.table.put_load_board(self.load.id, &held, status).await?;
            if board.held.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }
}
