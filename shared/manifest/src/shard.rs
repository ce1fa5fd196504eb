//! Shards: contiguous key ranges of one table.

use bytes::Bytes;
use nacre_types::{Generation, PartitionId, ShardId};

/// A contiguous key range of one table, from `start` (inclusive) to the start of the next shard.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shard {
    /// Unique within the table, never reused.
    pub id: ShardId,
    /// First key; empty for the first shard.
    pub start: Bytes,
    /// The partition of the log that its writes go to.
    pub partition: PartitionId,
    /// How often the range has moved to another partition.
    pub generation: Generation,
}

impl Shard {
    /// One shard over all keys, on `partition`.
    pub fn whole(partition: PartitionId) -> Self {
        Self { id: ShardId(0), start: Bytes::new(), partition, generation: Generation(0) }
    }
}
