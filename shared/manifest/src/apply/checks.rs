//! What every edit that brings or drops something is held to.

use super::{Draft, malformed};
use crate::segments::block::is_packable;
use crate::{DropGuard, Layer, Refused, RefusedReason, Segment};
use nacre_types::{JobId, LoadId};

impl Draft {
    /// Segments that arrive: each of a possible shape and new.
    pub(super) fn check_segments(&self, segments: &[Segment]) -> Result<(), Refused> {
        let mut ids: Vec<_> = segments.iter().map(|segment| segment.id).collect();
        ids.sort_unstable();
        let twice = ids.windows(2).find(|pair| pair.first() == pair.last()).and_then(|pair| pair.first());
        let known = ids.iter().find(|id| self.next.segments.get(**id).is_some());
        if let Some(id) = twice.or(known) {
            return Err(Refused::new(
                RefusedReason::SegmentExists(*id),
                format!("segment {id} is in the manifest already, or twice in the edit"),
            ));
        }
        for segment in segments {
            if !is_packable(segment) {
                return Err(malformed(format!(
                    "segment {} cannot be: keys of 1 to 2048 bytes in order, versions in order, at least one row and \
                     no more tombstones, a non-empty span of offsets below 2^48",
                    segment.id
                )));
            }
            let exact = match segment.layer {
                Layer::Loaded(_) => segment.exact_places,
                Layer::Streamed(span) => {
                    !segment.exact_places || segment.with_place || span.to.0 - span.from.0 == 1
                }
                Layer::Mixed { streamed, loads } => {
                    !segment.exact_places || segment.with_place || (streamed.is_none() && loads.0 == loads.1)
                }
            };
            if !exact {
                return Err(malformed(format!(
                    "segment {}: a load's segment has exact places, another only with a rank column",
                    segment.id
                )));
            }
        }
        Ok(())
    }

    /// Key ranges that do not overlap: at equal places nothing else would say which row of a key is the later.
    pub(super) fn check_disjoint(&self, segments: &[Segment]) -> Result<(), Refused> {
        let mut sorted: Vec<_> = segments.iter().collect();
        sorted.sort_by(|a, b| a.min_key.cmp(&b.min_key));
        for pair in sorted.windows(2) {
            if let [left, right] = pair
                && left.max_key >= right.min_key
            {
                return Err(malformed(format!(
                    "segments {} and {} of one edit overlap in their keys",
                    left.id, right.id
                )));
            }
        }
        Ok(())
    }

    pub(super) fn check_job(&self, job: JobId) -> Result<(), Refused> {
        if self.next.is_job_open(job) {
            return Ok(());
        }
        Err(Refused::new(
            RefusedReason::JobNotOpen(job),
            format!("job {job} is not open, so it brings no segments"),
        ))
    }

    /// A drop must have been planned under the ttl and lateness in force, and may go no further than they allow now.
    /// Remembers it: later changes of the ttl, and later loads, are held to what is gone.
    pub(super) fn admit_drops(&mut self, drops: &DropGuard) -> Result<(), Refused> {
        let refuse = |detail: String| Err(Refused::new(RefusedReason::SettingsChanged, detail));
        if drops.settings < self.next.drops_since || drops.settings > self.next.settings_number {
            return refuse(format!(
                "the drop was planned under settings {}, and ttl or lateness are those of settings {} on (now {})",
                drops.settings, self.next.drops_since, self.next.settings_number
            ));
        }
        if let Some(late_below) = drops.late_below {
            let limit = self.next.late_drop_limit(drops.now_micros);
            if limit.is_none_or(|limit| late_below > limit) {
                return refuse(format!(
                    "tombstones below {late_below} were dropped by lateness, and rows below {limit:?} can still arrive"
                ));
            }
            self.next.late_dropped_below = self.next.late_dropped_below.max(late_below);
        }
        self.next.last_drop_now = self.next.last_drop_now.max(drops.now_micros);
        Ok(())
    }

    /// Counts what stands alone of a load, before and after.
    pub(super) fn recount_load(
        &mut self,
        load: LoadId,
        removed: &[Segment],
        added: &[Segment],
    ) -> Result<(), Refused> {
        let live = &mut self.load_mut(load)?.live;
        for segment in removed.iter().filter(|segment| segment.layer == Layer::Loaded(load)) {
            live.segments = live.segments.saturating_sub(1);
            live.rows = live.rows.saturating_sub(segment.rows);
            live.bytes = live.bytes.saturating_sub(segment.bytes);
        }
        for segment in added.iter().filter(|segment| segment.layer == Layer::Loaded(load)) {
            live.segments = live.segments.saturating_add(1);
            live.rows = live.rows.saturating_add(segment.rows);
            live.bytes = live.bytes.saturating_add(segment.bytes);
        }
        Ok(())
    }

    /// Takes segments away and brings others.
    pub(super) fn exchange(&mut self, removed: &[Segment], added: &[Segment]) -> Result<(), Refused> {
        let mut loads: Vec<_> =
            removed.iter().chain(added).filter_map(|segment| segment.layer.load()).collect();
        loads.sort_unstable();
        loads.dedup();
        for load in loads {
            self.recount_load(load, removed, added)?;
        }
        let removed: Vec<_> = removed.iter().map(|segment| (segment.min_key.clone(), segment.id)).collect();
        self.next.segments = self.next.segments.update(&removed, added);
        Ok(())
    }
}
