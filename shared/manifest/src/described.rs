//! What a description of the table says of its rows, as a rule at no cost that grows with their number.

use crate::{Layer, Load, LoadState, Manifest, SegmentRef};

impl Manifest {
    /// Tombstones in the segments that count.
    pub fn tombstones(&self) -> u64 {
        let hidden = self.loads().filter(|load| load.state != LoadState::Committed);
        // Of a load that does not count all segments are there yet, or none.
        let hidden = hidden.filter(|load| load.live.segments > 0).map(|load| load.tombstones);
        self.segments.counts().tombstones.saturating_sub(hidden.fold(0, u64::saturating_add))
    }

    /// Newest version in the segments that count, be its row visible or not; `None` = no such segment. Costs nothing but
    /// while a prepared or reverted load still has segments.
    pub fn newest_version(&self) -> Option<i64> {
        let is_hidden = |load: &Load| load.state != LoadState::Committed && load.live.segments > 0;
        if !self.loads().any(is_hidden) {
            return self.segments.counts().newest;
        }
        let counts = |segment: &SegmentRef<'_>| match segment.layer() {
            Layer::Loaded(id) => self.load(id).is_none_or(|load| !is_hidden(load)),
            _ => true,
        };
        self.segments().filter(counts).map(|segment| segment.max_version()).max()
    }
}
