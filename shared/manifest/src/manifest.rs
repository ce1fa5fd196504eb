//! The state of a table and what can be asked of it.

use crate::{Edit, Floor, JobKind, Layer, Load, Refused, Segment, SegmentRef, Segments, Shard};
use bytes::Bytes;
use nacre_types::{
    JobId, KeyRange, LoadId, Offset, PartitionId, Result, SegmentId, Seq, ShardId, TableId, TableSettings,
};

/// An open job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// The edit that opened it.
    pub opened: Seq,
    /// When, in microseconds.
    pub opened_at_micros: i64,
}

/// That a table is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// By this edit.
    pub seq: Seq,
    /// When, in microseconds.
    pub at_micros: i64,
}

/// The state of a table at one sequence number. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Manifest {
    pub(crate) table: TableId,
    pub(crate) segments: Segments,
}

impl Manifest {
    /// The state before the first edit.
    pub fn empty(table: TableId) -> Self {
        let _ = table;
        todo!()
    }

    /// The state after `edit`, which becomes edit `seq`. Cost follows the edit, not the table.
    ///
    /// # Errors
    /// [`Refused`] where the edit does not hold; nothing has changed then.
    pub fn apply(&self, seq: Seq, edit: &Edit) -> Result<Self, Refused> {
        let _ = (seq, edit);
        todo!()
    }

    /// The table.
    pub fn table(&self) -> TableId {
        self.table
    }
    /// The last edit that is in it; 0 = none.
    pub fn seq(&self) -> Seq {
        todo!()
    }
    /// The last edit that committed or reverted a load; 0 = none.
    pub fn edition(&self) -> Seq {
        todo!()
    }
    /// The epoch, which only a restore raises.
    pub fn epoch(&self) -> u64 {
        todo!()
    }
    /// The latest `at_micros` of any edit in it.
    pub fn at_micros(&self) -> i64 {
        todo!()
    }
    /// Whether the table has been created.
    pub fn is_created(&self) -> bool {
        todo!()
    }
    /// Whether, and since when, it is dropped.
    pub fn dropped(&self) -> Option<Dropped> {
        todo!()
    }
    /// The settings.
    pub fn settings(&self) -> &TableSettings {
        todo!()
    }
    /// Counts changes of the settings.
    pub fn settings_number(&self) -> u64 {
        todo!()
    }
    /// The shards, in key order.
    pub fn shards(&self) -> &[Shard] {
        todo!()
    }
    /// The shard of a key; `None` only before the table is created.
    pub fn shard_of(&self, key: &[u8]) -> Option<&Shard> {
        let _ = key;
        todo!()
    }
    /// The keys of a shard.
    pub fn shard_range(&self, shard: ShardId) -> Option<KeyRange> {
        let _ = shard;
        todo!()
    }
    /// The id that the next new shard gets.
    pub fn next_shard_id(&self) -> ShardId {
        todo!()
    }
    /// The partitions of the table, ascending, with the offset below which every row is in a segment.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, Offset)> + '_ {
        [].into_iter()
    }
    /// The offset of a partition below which every row of the table is in a segment; 0 for one that it does not have.
    pub fn covered(&self, partition: PartitionId) -> Offset {
        let _ = partition;
        todo!()
    }
    /// The loads, in the order in which they were opened.
    pub fn loads(&self) -> impl DoubleEndedIterator<Item = &Load> + '_ {
        [].into_iter()
    }
    /// One load.
    pub fn load(&self, load: LoadId) -> Option<&Load> {
        let _ = load;
        todo!()
    }
    /// The newest load of an idempotency key (by its hash) that has not failed, been cancelled or reverted.
    pub fn load_of_key(&self, idempotency: u128) -> Option<&Load> {
        let _ = idempotency;
        todo!()
    }
    /// The loads that would have to be sealed, oldest first, before `load` can be committed: more than
    /// [`nacre_types::limits::UNSEALED_LOADS`] would lie over a range otherwise.
    pub fn seals_before_commit(&self, load: LoadId) -> Vec<LoadId> {
        let _ = load;
        todo!()
    }
    /// The floors of committed replaces, by commit.
    pub fn floors(&self) -> &[Floor] {
        todo!()
    }
    /// The open jobs (those of loads under way are not among them).
    pub fn jobs(&self) -> &[Job] {
        todo!()
    }
    /// Whether the job may still bring segments: it is open, or it is that of a load under way.
    pub fn is_job_open(&self, job: JobId) -> bool {
        let _ = job;
        todo!()
    }
    /// Rows with a version at or below this are expired; `i64::MIN` = none.
    pub fn expired_below(&self) -> i64 {
        todo!()
    }
    /// Rows with a version below this are refused where they enter, whatever the lateness in force; `i64::MIN` = none.
    pub fn late_below(&self) -> i64 {
        todo!()
    }
    /// The offset of a partition from which the lateness in force holds.
    pub fn lateness_from(&self, partition: PartitionId) -> Offset {
        let _ = partition;
        todo!()
    }
    /// The largest [`crate::DropGuard::late_below`] that a drop judged at `now_micros` may carry: below it no row can
    /// arrive any more. `None` = the table sets no lateness, or it does not hold for everything uncovered yet.
    pub fn late_drop_limit(&self, now_micros: i64) -> Option<i64> {
        let _ = now_micros;
        todo!()
    }
    /// The latest `now` of any committed drop; `i64::MIN` = none.
    pub fn last_drop_now(&self) -> i64 {
        todo!()
    }

    /// The segments whose key range holds `key`, also those of loads that do not count: ask an
    /// [`crate::EditionFilter`]. In the order of their smallest keys. Logarithmic, plus the answers.
    pub fn segments_for_key<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = SegmentRef<'a>> + 'a {
        let _ = key;
        [].into_iter()
    }
    /// The segments that may hold keys of `range`, likewise.
    pub fn segments_overlapping<'a>(
        &'a self,
        range: &'a KeyRange,
    ) -> impl Iterator<Item = SegmentRef<'a>> + 'a {
        let _ = range;
        [].into_iter()
    }
    /// All segments, in the order of their smallest keys.
    pub fn segments(&self) -> impl Iterator<Item = SegmentRef<'_>> + '_ {
        [].into_iter()
    }
    /// One segment, unpacked.
    pub fn segment(&self, id: SegmentId) -> Option<Segment> {
        let _ = id;
        todo!()
    }
    /// Segments, those of loads that do not count among them.
    pub fn segment_count(&self) -> u64 {
        todo!()
    }
    /// Rows in the segments that count, hidden ones among them.
    pub fn rows(&self) -> u64 {
        todo!()
    }
    /// Bytes of the segments that count.
    pub fn bytes(&self) -> u64 {
        todo!()
    }

    /// The layer of a compaction's output made of rows of `inputs`.
    ///
    /// # Errors
    /// [`Refused`] where they cannot be merged: unsealed loads with others, several partitions.
    pub fn merged_layer(&self, inputs: &[Segment]) -> Result<Layer, Refused> {
        let _ = inputs;
        todo!()
    }
    /// Whether a segment of this layer, with rows of versions from `min_version` on, needs a `rank` column: it holds
    /// streamed and loaded rows, or those of several loads that a floor committed among them tells apart.
    pub fn needs_places(&self, layer: &Layer, min_version: i64) -> bool {
        let _ = (layer, min_version);
        todo!()
    }

    /// The bytes of a snapshot: a function of the state alone.
    pub fn encode(&self) -> Bytes {
        todo!()
    }
    /// Reads a snapshot.
    ///
    /// # Errors
    /// `Corrupt` (`manifest-corrupt`); `Corrupt` with code `newer-format` for a version that this program does not
    /// know.
    pub fn decode(bytes: &Bytes) -> Result<Self> {
        let _ = bytes;
        todo!()
    }
    /// What always holds, checked at the cost of reading everything; for tests and `fsck`.
    ///
    /// # Errors
    /// `Corrupt` (`manifest-invariant`), naming the first thing that does not hold.
    pub fn check(&self) -> Result<()> {
        todo!()
    }
}

impl Edit {
    /// The bytes of the edit: the body of an appended edit.
    pub fn encode(&self) -> Bytes {
        todo!()
    }
    /// Reads an edit.
    ///
    /// # Errors
    /// `Corrupt` (`edit-corrupt`); `Corrupt` with code `newer-format` for a version or kind of change that this
    /// program does not know: the reader of the table stops, it never skips.
    pub fn decode(bytes: &Bytes) -> Result<Self> {
        let _ = bytes;
        todo!()
    }
}
