//! Segments replaced by others with the same visible rows, and segments that leave unread.

use super::layers::Hull;
use super::load::key_hull;
use super::{Draft, malformed};
use crate::segments::Upto;
use crate::{Compact, DropGuard, Floor, Layer, LoadState, Location, Refused, RefusedReason, Segment};
use nacre_types::SegmentId;

impl Draft {
    /// A compaction planned against an older manifest holds if its inputs are still there and nothing that came since
    /// lies between their rows. Its rows keep their ranks: an output claims no position or load that no input has.
    pub(super) fn compact(&mut self, compact: &Compact) -> Result<(), Refused> {
        self.check_job(compact.job)?;
        let inputs = self.unpack(&compact.inputs)?;
        self.check_segments(&compact.outputs)?;
        self.check_disjoint(&compact.outputs)?;
        let hull = Hull::of(&self.next, &inputs)?;
        self.check_outputs(compact, &inputs, &hull)?;
        self.check_contiguous(&inputs, &compact.outputs, &hull)?;
        self.check_dropped(&inputs, compact)?;
        self.exchange(&inputs, &compact.outputs)
    }

    fn unpack(&self, ids: &[SegmentId]) -> Result<Vec<Segment>, Refused> {
        let mut sorted = ids.to_vec();
        sorted.sort_unstable();
        if sorted.is_empty() || sorted.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(malformed("no segments to replace, or one of them twice"));
        }
        let found = ids.iter().map(|id| {
            self.next.segment(*id).ok_or_else(|| {
                Refused::new(RefusedReason::InputGone(*id), format!("segment {id} is not there any more"))
            })
        });
        found.collect()
    }

    fn check_outputs(&self, compact: &Compact, inputs: &[Segment], hull: &Hull) -> Result<(), Refused> {
        let Some((min, max)) = key_hull(inputs) else { return Ok(()) };
        let oldest = inputs.iter().map(|input| input.min_version).min();
        let newest = inputs.iter().map(|input| input.max_version).max();
        let inputs_exact = inputs.iter().all(|input| input.exact_places);
        for output in &compact.outputs {
            if output.location != Location::Job(compact.job) {
                return Err(malformed(format!("segment {} is not named by job {}", output.id, compact.job)));
            }
            let within = output.min_key >= min
                && output.max_key <= max
                && Some(output.min_version) >= oldest
                && Some(output.max_version) <= newest;
            if !within {
                return Err(malformed(format!(
                    "segment {} has keys or versions that no input has",
                    output.id
                )));
            }
            if !hull.holds(&output.layer) {
                return Err(malformed(format!(
                    "segment {} says {:?}, which is not what its inputs are",
                    output.id, output.layer
                )));
            }
            if output.exact_places && !inputs_exact {
                return Err(malformed(format!(
                    "segment {} says that its places are exact, and those of the inputs are not",
                    output.id
                )));
            }
            if !output.with_place && self.next.needs_places(&output.layer, output.min_version) {
                return Err(Refused::new(
                    RefusedReason::PlacesMissing(output.id),
                    format!("segment {} needs a rank column: a floor tells its rows apart", output.id),
                ));
            }
        }
        Ok(())
    }

    fn check_contiguous(&self, inputs: &[Segment], outputs: &[Segment], hull: &Hull) -> Result<(), Refused> {
        if inputs.iter().chain(outputs).all(|segment| segment.exact_places) {
            return Ok(());
        }
        let Some((min, max)) = key_hull(inputs) else { return Ok(()) };
        let mut ids: Vec<_> = inputs.iter().map(|input| input.id).collect();
        ids.sort_unstable();
        let between = self
            .next
            .segments
            .overlapping(&min, Upto::Through(&max))
            .find(|other| hull.has_between(&self.next, other) && ids.binary_search(&other.id()).is_err());
        match between {
            Some(other) => Err(Refused::new(
                RefusedReason::NotContiguous { between: other.id() },
                format!("segment {} is no input and has rows between those of the inputs", other.id()),
            )),
            None => Ok(()),
        }
    }

    fn check_dropped(&mut self, inputs: &[Segment], compact: &Compact) -> Result<(), Refused> {
        let sum = |segments: &[Segment], number: fn(&Segment) -> u64| {
            segments.iter().map(number).fold(0u64, u64::saturating_add)
        };
        let (before, after) = (sum(inputs, |s| s.rows), sum(&compact.outputs, |s| s.rows));
        let (dead_before, dead_after) =
            (sum(inputs, |s| s.tombstones), sum(&compact.outputs, |s| s.tombstones));
        if after > before {
            return Err(malformed(format!("{after} rows come of {before}")));
        }
        match &compact.drops {
            Some(drops) => self.admit_drops(drops),
            None if after < before || dead_after != dead_before => Err(malformed(format!(
                "{} rows were dropped and tombstones went from {dead_before} to {dead_after}, and the edit does not \
                 say under which settings",
                before - after
            ))),
            None => Ok(()),
        }
    }

    pub(super) fn expire(&mut self, ids: &[SegmentId], drops: &DropGuard) -> Result<(), Refused> {
        let gone = self.unpack(ids)?;
        for segment in &gone {
            if !self.is_expired(segment, drops.now_micros) && !self.is_under_floor(segment) {
                return Err(Refused::new(
                    RefusedReason::NotExpired(segment.id),
                    format!(
                        "segment {} has versions up to {}: not all of it is past its ttl or under a sealed floor",
                        segment.id, segment.max_version
                    ),
                ));
            }
        }
        self.admit_drops(drops)?;
        self.exchange(&gone, &[])
    }

    /// With a ttl everything that a row past it could hide is past it too. A row's own expiry says no such thing.
    fn is_expired(&self, segment: &Segment, now_micros: i64) -> bool {
        let ttl = self.next.settings.ttl_micros();
        let past_ttl = ttl.is_some_and(|ttl| segment.max_version.saturating_add(ttl) <= now_micros);
        past_ttl || segment.max_version <= self.next.expired_below
    }

    fn is_under_floor(&self, segment: &Segment) -> bool {
        let hides = |floor: &&Floor| match segment.layer {
            Layer::Streamed(_) => segment.max_version < floor.version,
            Layer::Loaded(id) => self.next.load(id).is_some_and(|load| {
                load.state == LoadState::Committed
                    && load.commit != Some(floor.commit)
                    && (segment.max_version, load.commit) < (floor.version, Some(floor.commit))
            }),
            Layer::Mixed { loads: (low, high), .. } => {
                segment.max_version < floor.version && !(low <= floor.commit && floor.commit <= high)
            }
        };
        self.next.floors.iter().filter(|floor| floor.sealed).any(|floor| hides(&floor))
    }
}
