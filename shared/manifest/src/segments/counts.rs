//! What a node of the tree knows of all segments below it, so that describing a table reads none of them.

use super::SegmentRef;
use crate::Totals;

/// Sums over segments, and the newest version among their rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) totals: Totals,
    pub(crate) tombstones: u64,
    /// `None` = no segment.
    pub(crate) newest: Option<i64>,
}

impl Counts {
    pub(super) fn add(&mut self, segment: &SegmentRef<'_>) {
        self.join(&Self {
            totals: Totals { segments: 1, rows: segment.rows(), bytes: segment.bytes() },
            tombstones: segment.tombstones(),
            newest: Some(segment.max_version()),
        });
    }

    pub(super) fn join(&mut self, other: &Self) {
        self.totals.segments += other.totals.segments;
        self.totals.rows = self.totals.rows.saturating_add(other.totals.rows);
        self.totals.bytes = self.totals.bytes.saturating_add(other.totals.bytes);
        self.tombstones = self.tombstones.saturating_add(other.tombstones);
        self.newest = self.newest.max(other.newest);
    }
}
