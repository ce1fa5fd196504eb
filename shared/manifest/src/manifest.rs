//! The state of a table and what can be asked of it.

use crate::segments::Upto;
use crate::{
    EditionFilter, Floor, JobKind, Load, LoadMode, LoadState, Segment, SegmentRef, Segments, SetSettings,
    Shard, Source, Totals, source,
};
use nacre_types::{
    JobId, KeyRange, LoadId, Offset, PartitionId, Result, SegmentId, Seq, ShardId, TableId, TableSettings,
    limits,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How far below the log's time less the limit a streamed row may still arrive: it is judged where it enters, not where
/// it is stamped.
const LATENESS_MARGIN_MICROS: i64 = 10 * 60 * 1_000_000;

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

/// The state of a table at one sequence number. Cheap to clone: everything that grows is shared.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub(crate) table: TableId,
    pub(crate) seq: Seq,
    pub(crate) edition: Seq,
    pub(crate) epoch: u64,
    pub(crate) at_micros: i64,
    pub(crate) dropped: Option<Dropped>,
    /// Counts changes of the settings; 0 = not created.
    pub(crate) settings_number: u64,
    pub(crate) settings: Arc<TableSettings>,
    /// The number of the settings since which ttl and lateness are what they are.
    pub(crate) drops_since: u64,
    pub(crate) shards: Arc<Vec<Shard>>,
    pub(crate) next_shard: ShardId,
    pub(crate) covered: Arc<BTreeMap<PartitionId, Offset>>,
    pub(crate) source: Option<Arc<Source>>,
    /// By slot; those of sources that are gone stay, for their segments do.
    pub(crate) source_covered: Arc<Vec<Offset>>,
    pub(crate) lateness_from: Arc<BTreeMap<PartitionId, Offset>>,
    pub(crate) expired_below: i64,
    pub(crate) late_below: i64,
    pub(crate) last_drop_now: i64,
    /// The largest `late_below` of any committed drop: no load may bring rows from below it.
    pub(crate) late_dropped_below: i64,
    /// The oldest edition that can be restored.
    pub(crate) restorable_from: Seq,
    pub(crate) loads: Arc<Vec<Arc<Load>>>,
    pub(crate) floors: Arc<Vec<Floor>>,
    pub(crate) jobs: Arc<Vec<Job>>,
    pub(crate) segments: Segments,
    pub(crate) current: Arc<EditionFilter>,
}

impl Manifest {
    /// The state before the first edit.
    pub fn empty(table: TableId) -> Self {
        Self {
            table,
            seq: Seq(0),
            edition: Seq(0),
            epoch: 0,
            at_micros: i64::MIN,
            dropped: None,
            settings_number: 0,
            settings: Arc::default(),
            drops_since: 0,
            shards: Arc::default(),
            next_shard: ShardId(0),
            covered: Arc::default(),
            source: None,
            source_covered: Arc::default(),
            lateness_from: Arc::default(),
            expired_below: i64::MIN,
            late_below: i64::MIN,
            last_drop_now: i64::MIN,
            late_dropped_below: i64::MIN,
            restorable_from: Seq(0),
            loads: Arc::default(),
            floors: Arc::default(),
            jobs: Arc::default(),
            segments: Segments::default(),
            current: Arc::default(),
        }
    }

    /// The table.
    pub fn table(&self) -> TableId {
        self.table
    }
    /// The last edit that is in it; 0 = none.
    pub fn seq(&self) -> Seq {
        self.seq
    }
    /// The last edit that committed or reverted a load; 0 = none.
    pub fn edition(&self) -> Seq {
        self.edition
    }
    /// The epoch, which only a restore raises.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
    /// The latest `at_micros` of any edit in it; `i64::MIN` = none.
    pub fn at_micros(&self) -> i64 {
        self.at_micros
    }
    /// Whether the table has been created.
    pub fn is_created(&self) -> bool {
        self.settings_number > 0
    }
    /// Whether, and since when, it is dropped.
    pub fn dropped(&self) -> Option<Dropped> {
        self.dropped
    }
    /// The settings.
    pub fn settings(&self) -> &TableSettings {
        &self.settings
    }
    /// Counts changes of the settings; 1 = those of the creation.
    pub fn settings_number(&self) -> u64 {
        self.settings_number
    }
    /// The shards, in key order.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }
    /// The shard of a key; `None` only before the table is created.
    pub fn shard_of(&self, key: &[u8]) -> Option<&Shard> {
        let behind = self.shards.partition_point(|shard| shard.start[..] <= *key);
        self.shards.get(behind.checked_sub(1)?)
    }
    /// The keys of a shard.
    pub fn shard_range(&self, shard: ShardId) -> Option<KeyRange> {
        let at = self.shards.iter().position(|known| known.id == shard)?;
        let end = self.shards.get(at + 1).map(|next| next.start.clone());
        Some(KeyRange { start: self.shards.get(at)?.start.clone(), end })
    }
    /// The id that the next new shard gets.
    pub fn next_shard_id(&self) -> ShardId {
        self.next_shard
    }
    /// The partitions of the log that the table has rows in, ascending, with the offset below which every row is in a segment.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, Offset)> + '_ {
        self.covered.iter().map(|(partition, offset)| (*partition, *offset))
    }
    /// The offset of a partition below which every row of the table is in a segment, also of a source's; 0 for one that it
    /// does not have.
    pub fn covered(&self, partition: PartitionId) -> Offset {
        if let Some(slot) = source::slot_of(partition) {
            return self.source_covered.get(slot).copied().unwrap_or_default();
        }
        self.covered.get(&partition).copied().unwrap_or_default()
    }
    pub(crate) fn set_covered(&mut self, partition: PartitionId, to: Offset) {
        match source::slot_of(partition) {
            Some(slot) => {
                if let Some(covered) = Arc::make_mut(&mut self.source_covered).get_mut(slot) {
                    *covered = to;
                }
            }
            None => drop(Arc::make_mut(&mut self.covered).insert(partition, to)),
        }
    }
    /// The topic that the table's rows come from.
    pub fn source(&self) -> Option<&Source> {
        self.source.as_deref()
    }
    /// The loads, in the order in which they were opened.
    pub fn loads(&self) -> impl DoubleEndedIterator<Item = &Load> + '_ {
        self.loads.iter().map(|load| &**load)
    }
    /// One load.
    pub fn load(&self, load: LoadId) -> Option<&Load> {
        self.loads().rev().find(|known| known.id == load)
    }
    /// The newest load of an idempotency key (by its hash) that has not failed, been cancelled or reverted.
    pub fn load_of_key(&self, idempotency: u128) -> Option<&Load> {
        self.loads().rev().find(|load| {
            load.idempotency == Some(idempotency)
                && !matches!(load.state, LoadState::Failed | LoadState::Cancelled | LoadState::Reverted)
        })
    }
    /// The loads that would have to be sealed, oldest first, before `load` can be committed: more than
    /// [`nacre_types::limits::UNSEALED_LOADS`] would lie over a range otherwise.
    ///
    /// A replace lies over every key, since its floor does; a merge over the range of its own keys.
    pub fn seals_before_commit(&self, load: LoadId) -> Vec<LoadId> {
        let Some(load) = self.load(load) else { return Vec::new() };
        let over = |other: &Load| match (&load.keys, &other.keys) {
            _ if load.mode == LoadMode::Replace && other.mode == LoadMode::Replace => true,
            (Some(_), _) if other.mode == LoadMode::Replace => true,
            (_, Some(_)) if load.mode == LoadMode::Replace => true,
            (Some((min, max)), Some((other_min, other_max))) => min <= other_max && other_min <= max,
            _ => false,
        };
        let mut unsealed: Vec<_> = self.loads().filter(|other| other.is_unsealed() && over(other)).collect();
        unsealed.sort_by_key(|other| other.commit);
        let too_many = (unsealed.len() + 1).saturating_sub(limits::UNSEALED_LOADS);
        unsealed.into_iter().take(too_many).map(|other| other.id).collect()
    }
    /// The floors of committed replaces, by commit.
    pub fn floors(&self) -> &[Floor] {
        &self.floors
    }
    /// The open jobs (those of loads under way are not among them).
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }
    /// Whether the job may still bring segments: it is open, or it is that of a load under way.
    pub fn is_job_open(&self, job: JobId) -> bool {
        self.jobs.iter().any(|open| open.id == job)
            || self.loads().any(|load| load.job == job && load.state.is_under_way())
    }
    /// Rows with a version at or below this are expired; `i64::MIN` = none.
    pub fn expired_below(&self) -> i64 {
        self.expired_below
    }
    /// Rows with a version below this are refused where they enter, whatever the lateness in force; `i64::MIN` = none.
    pub fn late_below(&self) -> i64 {
        self.late_below
    }
    /// Versions of tombstones that were dropped by lateness are below this; `i64::MIN` = none were.
    pub fn late_dropped_below(&self) -> i64 {
        self.late_dropped_below
    }
    /// The offset of a partition from which the lateness in force holds; [`crate::SetSettings::NOT_YET`] where that is
    /// still to be said.
    pub fn lateness_from(&self, partition: PartitionId) -> Offset {
        self.lateness_from.get(&partition).copied().unwrap_or_default()
    }
    /// Whether the table sets a lateness and it is still to be said from which offsets it holds.
    pub fn lateness_is_pending(&self) -> bool {
        self.settings.max_lateness_seconds.is_some()
            && self.covered.keys().any(|partition| self.lateness_from(*partition) == SetSettings::NOT_YET)
    }
    /// The largest [`crate::DropGuard::late_below`] that a drop judged at `now_micros` may carry: below it no row can
    /// arrive any more, neither by the log (with a margin of 10 minutes) nor by a load under way. `None` = the table
    /// sets no lateness, a load under way began under none, or rows that were judged by another limit are uncovered yet.
    pub fn late_drop_limit(&self, now_micros: i64) -> Option<i64> {
        let limit = lateness_micros(&self.settings)?;
        if self.covered.iter().any(|(partition, covered)| *covered < self.lateness_from(*partition)) {
            return None;
        }
        let streamed = now_micros.saturating_sub(limit).saturating_sub(LATENESS_MARGIN_MICROS);
        self.loads().filter(|load| load.state.is_under_way()).try_fold(streamed, |least, load| {
            Some(least.min(load.begun_at_micros.saturating_sub(load.lateness_micros?)))
        })
    }
    /// The latest `now` of any committed drop; `i64::MIN` = none.
    pub fn last_drop_now(&self) -> i64 {
        self.last_drop_now
    }
    /// The oldest edition that can be restored: no load sealed, or reverted and forgotten, was shown differently then.
    pub fn restorable_from(&self) -> Seq {
        self.restorable_from
    }

    /// The segments whose key range holds `key`, also those of loads that do not count: ask an
    /// [`crate::EditionFilter`]. In the order of their smallest keys. Logarithmic, plus the answers.
    pub fn segments_for_key<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = SegmentRef<'a>> + 'a {
        self.segments.overlapping(key, Upto::Through(key))
    }
    /// The segments that may hold keys of `range`, likewise.
    pub fn segments_overlapping<'a>(
        &'a self,
        range: &'a KeyRange,
    ) -> impl Iterator<Item = SegmentRef<'a>> + 'a {
        self.segments.overlapping_range(range)
    }
    /// All segments, in the order of their smallest keys.
    pub fn segments(&self) -> impl Iterator<Item = SegmentRef<'_>> + '_ {
        self.segments.iter()
    }
    /// A look at one segment.
    pub fn segment_ref(&self, id: SegmentId) -> Option<SegmentRef<'_>> {
        self.segments.get(id)
    }
    /// One segment, unpacked.
    pub fn segment(&self, id: SegmentId) -> Option<Segment> {
        self.segments.get(id).map(|segment| segment.to_segment())
    }
    /// Segments, those of loads that do not count among them.
    pub fn segment_count(&self) -> u64 {
        self.segments.totals().segments
    }
    /// Rows in the segments that count, hidden ones among them.
    pub fn rows(&self) -> u64 {
        self.counted(|totals| totals.rows)
    }
    /// Bytes of the segments that count.
    pub fn bytes(&self) -> u64 {
        self.counted(|totals| totals.bytes)
    }
    /// Bytes that the segments take in memory, nearly.
    pub fn heap_bytes(&self) -> usize {
        self.segments.heap_bytes()
    }

    fn counted(&self, number: impl Fn(&Totals) -> u64) -> u64 {
        let hidden = self.loads().filter(|load| load.state != LoadState::Committed);
        let hidden = hidden.map(|load| number(&load.live)).fold(0u64, u64::saturating_add);
        number(&self.segments.totals()).saturating_sub(hidden)
    }

    /// What always holds, checked at the cost of reading everything; for tests and `fsck`.
    ///
    /// # Errors
    /// `Corrupt` (`manifest-invariant`), naming the first thing that does not hold.
    pub fn check(&self) -> Result<()> {
        crate::invariants::check(self)
    }
}

/// The table's lateness limit.
pub(crate) fn lateness_micros(settings: &TableSettings) -> Option<i64> {
    let seconds = settings.max_lateness_seconds?;
    Some(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000))
}
