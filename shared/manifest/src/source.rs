//! The topic of someone else that a table's rows come from, as the table log holds it.
//!
//! A partition of a source is a stream of its own beside the log's: it has an id that no partition of the log has, a
//! covered offset that a flush must begin at, and a generation that no other stream of the table has. The covered offset
//! makes what is applied exactly once, as it does for the log. The generation sets the places of different streams
//! apart: were they shared, a compaction that lends a row the place of its run could make it pass a row of the same
//! version from another stream. So ids are *slots*, counted up and never used again, and slot *n* has generation *n + 1*;
//! the log's own is 0. Rows of a source rank over rows of the log at equal versions, those of a later slot over those of
//! an earlier.
//!
//! [`crate::Manifest::partitions`] does not name them: nobody asks the log for them, no tail has rows of them, no
//! session waits for them. What is committed is seen, as with a load.

use bytes::Bytes;
use nacre_types::{Generation, Offset, PartitionId, Seq};

/// Ids of partitions from here on are slots of sources.
const FIRST: u32 = 1 << 31;
/// Slots of one table, for ever: as many as a generation can number beside the log's own.
pub(crate) const SLOTS: usize = (1 << 13) - 1;

/// The topic that a table's rows come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The edit that declared it as it is: another declaration has another one.
    pub declared: Seq,
    /// The declaration, JSON.
    pub declaration: Bytes,
    /// The topic's id: another topic of the same name is not this one.
    pub topic: u128,
    /// The id of each partition of the topic, in their order.
    pub partitions: Vec<PartitionId>,
}

/// A source is declared, or declared anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclareSource {
    /// The declaration, JSON.
    pub declaration: Bytes,
    /// The topic's id.
    pub topic: u128,
    /// Where each partition begins. `None` = the same topic, read on where it stands.
    pub starts: Option<Vec<Offset>>,
}

/// Whether the id is that of a source's partition.
pub fn is_source_partition(partition: PartitionId) -> bool {
    partition.0 >= FIRST
}

/// The id of a slot.
pub(crate) fn partition_of_slot(slot: usize) -> PartitionId {
    PartitionId(FIRST.saturating_add(u32::try_from(slot).unwrap_or(u32::MAX)))
}

/// The slot of an id.
pub(crate) fn slot_of(partition: PartitionId) -> Option<usize> {
    usize::try_from(partition.0.checked_sub(FIRST)?).ok()
}

/// The generation of the rows of a source's partition; 0, the log's, for any other.
pub fn source_generation(partition: PartitionId) -> Generation {
    let number = slot_of(partition).map_or(0, |slot| slot.saturating_add(1));
    Generation(u16::try_from(number).unwrap_or(u16::MAX))
}
