//! The life of a load.
//!
//! ```text
//! open ──pin──▶ pinned ──prepare──▶ prepared ──commit──▶ committed ──seal──▶ sealed ──┐
//!   └──────────────┴─ fail, cancel ─────┘                    └─revert─▶ reverted ─────┤
//!                          └──────────────────────────────────────────────────────────┴─▶ forgotten
//! ```
//!
//! Until its seal a load is a layer of its own: whoever wants to undo it, or to show an older edition, leaves the layer
//! out and finds everything else as if it had never been there. After the seal its rows and its floor may have merged
//! with others and cost others their rows, so there is no way back, and no edition from before it can be shown.

use super::{Draft, malformed};
use crate::manifest::lateness_micros;
use crate::{
    Layer, Load, LoadGoal, LoadMode, LoadState, Location, OpenLoad, PrepareLoad, Refused, RefusedReason,
    Segment, Totals,
};
use bytes::Bytes;
use nacre_types::{LoadId, limits};
use std::sync::Arc;

impl Draft {
    pub(super) fn open_load(&mut self, open: &OpenLoad) -> Result<(), Refused> {
        if self.next.load(open.load).is_some() {
            return Err(Refused::new(
                RefusedReason::LoadExists(open.load),
                format!("there is a load {} already", open.load),
            ));
        }
        if let Some(same) = open.idempotency.and_then(|key| self.next.load_of_key(key)) {
            return Err(Refused::new(
                RefusedReason::SameKey(same.id),
                format!("the idempotency key names load {}", same.id),
            ));
        }
        self.check_new_job(open.job)?;
        if open.mode == LoadMode::Replace && open.version.is_none() {
            return Err(malformed("a replace states its version"));
        }
        let lateness_micros = lateness_micros(&self.next.settings);
        let oldest = lateness_micros.map_or(i64::MIN, |limit| open.begun_at_micros.saturating_sub(limit));
        if oldest.max(self.next.late_below) < self.next.late_dropped_below {
            return Err(Refused::new(
                RefusedReason::BegunTooEarly,
                format!(
                    "the load began at log time {}, and tombstones up to {} have been dropped since: begin again",
                    open.begun_at_micros, self.next.late_dropped_below
                ),
            ));
        }
        let load = Load {
            id: open.load,
            job: open.job,
            mode: open.mode,
            version: open.version,
            begun_at_micros: open.begun_at_micros,
            lateness_micros,
            opened_at_micros: self.at_micros,
            opened: self.next.seq,
            idempotency: open.idempotency,
            body_hash: open.body_hash,
            body: open.body.clone(),
            state: LoadState::Open,
            goal: LoadGoal::Prepare,
            reason: None,
            files_path: None,
            report_path: None,
            rows: 0,
            tombstones: 0,
            bytes: 0,
            rows_hidden: 0,
            lowest_version: None,
            keys: None,
            live: Totals::default(),
            commit: None,
            committed_at_micros: None,
            sealed: false,
            reverted: None,
            reverted_at_micros: None,
        };
        Arc::make_mut(&mut self.next.loads).push(Arc::new(load));
        Ok(())
    }

    /// The list is pinned once; a second caller may only ask for more of the same list.
    pub(super) fn pin_load(&mut self, id: LoadId, files_path: &str, goal: LoadGoal) -> Result<(), Refused> {
        let load = self.load_mut(id)?;
        let again = load.state == LoadState::Pinned && load.files_path.as_deref() == Some(files_path);
        if load.state != LoadState::Open && !again {
            return Err(wrong_state(load, "pinned", "open"));
        }
        load.state = LoadState::Pinned;
        load.files_path = Some(files_path.to_owned());
        if load.goal == LoadGoal::Prepare {
            load.goal = goal;
        }
        Ok(())
    }

    pub(super) fn prepare_load(&mut self, prepare: &PrepareLoad) -> Result<(), Refused> {
        let load = self.load(prepare.load)?;
        if load.state != LoadState::Pinned {
            return Err(wrong_state(load, "prepared", "pinned"));
        }
        if load.job != prepare.job {
            return Err(Refused::new(
                RefusedReason::JobNotOpen(prepare.job),
                format!("load {} is done by job {}, not by {}", load.id, load.job, prepare.job),
            ));
        }
        self.check_segments(&prepare.segments)?;
        for segment in &prepare.segments {
            let by_job = match &segment.location {
                Location::Job(job) => *job == prepare.job,
                Location::Adopted { index_path, .. } => {
                    *index_path == crate::index_path(self.next.table, prepare.job, segment.id)
                }
                Location::Flush { .. } => false,
            };
            if segment.layer != Layer::Loaded(prepare.load) || !by_job {
                return Err(malformed(format!(
                    "segment {} of load {} says it is of another layer, or is not named by its job",
                    segment.id, prepare.load
                )));
            }
        }
        self.exchange(&[], &prepare.segments)?;
        let load = self.load_mut(prepare.load)?;
        let sum =
            |number: fn(&Segment) -> u64| prepare.segments.iter().map(number).fold(0u64, u64::saturating_add);
        load.state = LoadState::Prepared;
        load.rows = sum(|segment| segment.rows);
        load.tombstones = sum(|segment| segment.tombstones);
        load.bytes = sum(|segment| segment.bytes);
        load.rows_hidden = prepare.rows_hidden;
        load.lowest_version = prepare.segments.iter().map(|segment| segment.min_version).min();
        load.keys = key_hull(&prepare.segments);
        load.report_path.clone_from(&prepare.report_path);
        Ok(())
    }

    pub(super) fn commit_load(&mut self, id: LoadId, insist: bool) -> Result<(), Refused> {
        if let Some(other) = self.committed {
            return Err(malformed(format!(
                "one edit commits loads {other} and {id}, whose rows would have the same place"
            )));
        }
        let load = self.load(id)?;
        if load.state != LoadState::Prepared {
            return Err(wrong_state(load, "committed", "prepared"));
        }
        let floor = load.floor(self.next.seq);
        if let Some(floor) = floor
            && !insist
            && let Some(above) = self.next.floors.iter().rfind(|other| other.version > floor.version)
        {
            return Err(Refused::new(
                RefusedReason::BelowFloor { load: above.load, version: above.version },
                format!(
                    "the replace at version {} lies below the floor {} of load {}, which hides most of it; \
                     insist to commit it all the same",
                    floor.version, above.version, above.load
                ),
            ));
        }
        if let Some(oldest) = self.next.seals_before_commit(id).first() {
            let committed_at = self.load(*oldest)?.committed_at_micros.unwrap_or(i64::MIN);
            let sealable_at_micros = committed_at.saturating_add(limits::PAGE_TOKEN_MICROS);
            return Err(Refused::new(
                RefusedReason::TooManyUnsealed { oldest: *oldest, sealable_at_micros },
                format!(
                    "{} unsealed loads lie over the keys of load {id}: the oldest, {oldest}, has to be sealed first",
                    limits::UNSEALED_LOADS
                ),
            ));
        }
        let (seq, at_micros) = (self.next.seq, self.at_micros);
        let load = self.load_mut(id)?;
        load.state = LoadState::Committed;
        load.commit = Some(seq);
        load.committed_at_micros = Some(at_micros);
        Arc::make_mut(&mut self.next.floors).extend(floor);
        self.next.edition = seq;
        self.committed = Some(id);
        Ok(())
    }

    pub(super) fn fail_load(
        &mut self,
        id: LoadId,
        reason: &str,
        report_path: Option<&str>,
    ) -> Result<(), Refused> {
        self.end_load(id, LoadState::Failed, reason)?;
        if let Some(path) = report_path {
            self.load_mut(id)?.report_path = Some(path.to_owned());
        }
        Ok(())
    }

    pub(super) fn cancel_load(&mut self, id: LoadId, reason: &str) -> Result<(), Refused> {
        self.end_load(id, LoadState::Cancelled, reason)
    }

    fn end_load(&mut self, id: LoadId, state: LoadState, reason: &str) -> Result<(), Refused> {
        let load = self.load(id)?;
        if !load.state.is_under_way() {
            return Err(wrong_state(load, state.name(), "open, validating or prepared"));
        }
        self.take_away(id)?;
        let load = self.load_mut(id)?;
        load.state = state;
        load.reason = Some(reason.to_owned());
        Ok(())
    }

    pub(super) fn revert_load(&mut self, id: LoadId, reason: &str) -> Result<(), Refused> {
        let (seq, at_micros) = (self.next.seq, self.at_micros);
        let load = self.load_mut(id)?;
        if load.state != LoadState::Committed {
            return Err(wrong_state(load, "reverted", "committed"));
        }
        if load.sealed {
            return Err(Refused::new(
                RefusedReason::Sealed(id),
                format!("load {id} is sealed: its undo window is over, and what it hid may be gone"),
            ));
        }
        load.state = LoadState::Reverted;
        load.reverted = Some(seq);
        load.reverted_at_micros = Some(at_micros);
        load.reason = Some(reason.to_owned());
        Arc::make_mut(&mut self.next.floors).retain(|floor| floor.load != id);
        self.next.edition = seq;
        Ok(())
    }

    /// A page token from before the commit shows the table without the load, for a token's life. So long nothing may
    /// rest on it.
    pub(super) fn seal_load(&mut self, id: LoadId) -> Result<(), Refused> {
        let load = self.load(id)?;
        if load.state != LoadState::Committed {
            return Err(wrong_state(load, "sealed", "committed"));
        }
        if load.sealed {
            return Err(Refused::new(RefusedReason::Sealed(id), format!("load {id} is sealed already")));
        }
        let (commit, committed_at) = (load.commit, load.committed_at_micros);
        self.check_age(committed_at, || format!("load {id} was committed"))?;
        self.load_mut(id)?.sealed = true;
        for floor in Arc::make_mut(&mut self.next.floors).iter_mut().filter(|floor| floor.load == id) {
            floor.sealed = true;
        }
        self.next.restorable_from = self.next.restorable_from.max(commit.unwrap_or_default());
        Ok(())
    }

    pub(super) fn forget_load(&mut self, id: LoadId) -> Result<(), Refused> {
        let load = self.load(id)?;
        match load.state {
            LoadState::Failed | LoadState::Cancelled => {}
            LoadState::Reverted => {
                let (reverted, reverted_at) = (load.reverted, load.reverted_at_micros);
                self.check_age(reverted_at, || format!("load {id} was reverted"))?;
                self.take_away(id)?;
                self.next.restorable_from = self.next.restorable_from.max(reverted.unwrap_or_default());
            }
            LoadState::Committed if load.sealed && load.live.segments == 0 => {}
            LoadState::Committed | LoadState::Open | LoadState::Pinned | LoadState::Prepared => {
                return Err(wrong_state(
                    load,
                    "forgotten",
                    "failed, cancelled, reverted, or sealed and merged away",
                ));
            }
        }
        Arc::make_mut(&mut self.next.loads).retain(|known| known.id != id);
        Ok(())
    }

    /// A sealed floor is idle once a later one hides all that it hides: one at least as high whose load has no row of
    /// its own below it.
    pub(super) fn drop_floor(&mut self, id: LoadId) -> Result<(), Refused> {
        let Some(floor) = self.next.floors.iter().find(|floor| floor.load == id) else {
            return Err(Refused::new(RefusedReason::NoLoad(id), format!("load {id} has no floor")));
        };
        let covered = self.next.floors.iter().any(|later| {
            later.sealed
                && later.commit > floor.commit
                && later.version >= floor.version
                && later.lowest_version.is_none_or(|lowest| lowest >= floor.version)
        });
        if !floor.sealed || !covered {
            return Err(Refused::new(
                RefusedReason::FloorNeeded(id),
                format!("the floor of load {id} still hides rows that no later sealed floor hides"),
            ));
        }
        Arc::make_mut(&mut self.next.floors).retain(|floor| floor.load != id);
        Ok(())
    }

    fn check_age(&self, since: Option<i64>, what: impl Fn() -> String) -> Result<(), Refused> {
        let until_micros = since.unwrap_or(i64::MIN).saturating_add(limits::PAGE_TOKEN_MICROS);
        if self.at_micros < until_micros {
            return Err(Refused::new(
                RefusedReason::TooYoung { until_micros },
                format!("{} less than a page token's life ago; try again at {until_micros}", what()),
            ));
        }
        Ok(())
    }

    /// Takes away what stands alone of a load. Its segments are found by the range of its keys: the one change whose
    /// cost is not that of the edit, for the price of no index by load.
    fn take_away(&mut self, id: LoadId) -> Result<(), Refused> {
        let load = self.load(id)?;
        let (Some((min, max)), true) = (load.keys.clone(), load.live.segments > 0) else { return Ok(()) };
        let gone: Vec<Segment> = self
            .next
            .segments
            .overlapping(&min, crate::segments::Upto::Through(&max))
            .filter(|segment| segment.layer() == Layer::Loaded(id))
            .map(|segment| segment.to_segment())
            .collect();
        self.exchange(&gone, &[])
    }
}

pub(super) fn key_hull(segments: &[Segment]) -> Option<(Bytes, Bytes)> {
    let min = segments.iter().map(|segment| &segment.min_key).min()?;
    let max = segments.iter().map(|segment| &segment.max_key).max()?;
    Some((min.clone(), max.clone()))
}

fn wrong_state(load: &Load, target: &str, right: &str) -> Refused {
    Refused::new(
        RefusedReason::LoadState { state: load.state },
        format!("load {} is {}, and only one that is {right} can be {target}", load.id, load.state.name()),
    )
}
