//! The index of a segment as the cache holds it, with what its readers did.
//!
//! What is hot is worth knowing when other blocks are about to answer for the same keys: a load that replaces the table, a
//! node that takes on a partition. foyer does not tell what it holds, and a block that it holds is not yet a hot one. So
//! each block has a cell beside its index, with a count and the row that was asked for last: from the row comes the key,
//! and a key can be asked for anywhere. Counting is TinyLFU's (Einziger et al., 2017): a small counter, and all of them
//! halved when there were as many requests as make them say something. No clock, no lock; a race loses a count.

use nacre_segment::SegmentIndex;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Of a cell: the count above, the row below.
const COUNT_BITS: u32 = 8;
const ROW_BITS: u32 = 32 - COUNT_BITS;
const ROW: u32 = (1 << ROW_BITS) - 1;
const MOST: u32 = (1 << COUNT_BITS) - 1;
/// Counts are halved after so many requests per block.
const HALVED_AFTER: u32 = 8;

/// An index, and which of its segment's blocks are asked for.
#[derive(Debug)]
pub struct HeldIndex {
    index: SegmentIndex,
    heat: Heat,
}

/// A block that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HotBlock {
    /// Which one.
    pub block: u32,
    /// How often lately, beside the others.
    pub count: u32,
    /// The row that was asked for last.
    pub row: u32,
}

impl HeldIndex {
    /// Nothing was asked for yet.
    pub fn new(index: SegmentIndex) -> Self {
        let heat = Heat::new(index.block_count());
        Self { index, heat }
    }

    /// A row of a block was asked for. Whoever calls this for every fourth request only loses nothing but precision.
    #[inline]
    pub fn touch(&self, block: u32, row: usize) {
        self.heat.touch(block, row);
    }

    /// The blocks that are asked for, in their order.
    pub fn hot_blocks(&self) -> impl Iterator<Item = HotBlock> + '_ {
        self.heat.hot_blocks()
    }

    /// Bytes in memory, all told.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.index.heap_bytes() + self.heat.cells.len() * size_of::<AtomicU32>()
    }
}

impl Deref for HeldIndex {
    type Target = SegmentIndex;
    fn deref(&self) -> &SegmentIndex {
        &self.index
    }
}

#[derive(Debug)]
struct Heat {
    cells: Box<[AtomicU32]>,
    /// Since the counts were halved.
    counted: AtomicU32,
}

impl Heat {
    fn new(blocks: u32) -> Self {
        Self { cells: (0..blocks).map(|_| AtomicU32::new(0)).collect(), counted: AtomicU32::new(0) }
    }

    #[inline]
    fn touch(&self, block: u32, row: usize) {
        let Some(cell) = self.cells.get(block as usize) else { return };
        let seen = cell.load(Relaxed);
        let count = (seen >> ROW_BITS) + 1;
        if count <= MOST {
            cell.store(count << ROW_BITS | (row as u32).min(ROW), Relaxed);
        }
        if self.counted.fetch_add(1, Relaxed) >= HALVED_AFTER.saturating_mul(self.cells.len() as u32) {
            self.halve();
        }
    }

    fn hot_blocks(&self) -> impl Iterator<Item = HotBlock> + '_ {
        self.cells.iter().zip(0..).filter_map(|(cell, block)| {
            let seen = cell.load(Relaxed);
            let count = seen >> ROW_BITS;
            (count > 0).then_some(HotBlock { block, count, row: seen & ROW })
        })
    }

    #[cold]
    fn halve(&self) {
        self.counted.store(0, Relaxed);
        for cell in &self.cells {
            let seen = cell.load(Relaxed);
            cell.store(((seen >> ROW_BITS) / 2) << ROW_BITS | (seen & ROW), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hot(heat: &Heat) -> Vec<(u32, u32, u32)> {
        heat.hot_blocks().map(|hot| (hot.block, hot.count, hot.row)).collect()
    }

    #[test]
    fn blocks_are_counted_with_their_last_row() {
        let heat = Heat::new(100);
        assert_eq!(hot(&heat), []);
        for row in [4, 9, 7] {
            heat.touch(3, row);
        }
        heat.touch(99, usize::MAX);
        heat.touch(100, 0);
        assert_eq!(hot(&heat), [(3, 3, 7), (99, 1, ROW)]);
    }

    #[test]
    fn what_was_hot_cools_while_others_are_asked_for() {
        let heat = Heat::new(64);
        for _ in 0..300 {
            heat.touch(0, 1);
        }
        assert_eq!(hot(&heat), [(0, MOST, 1)]);
        for round in 0..64 {
            (32..64).for_each(|block| heat.touch(block, round));
        }
        let counts = hot(&heat);
        assert!(counts[0].0 == 0 && counts[0].1 <= MOST / 4 + 1, "{:?}", counts[0]);
        assert_eq!(counts.len(), 33);
    }

    #[test]
    fn no_blocks_are_no_matter() {
        Heat::new(0).touch(0, 0);
    }
}
