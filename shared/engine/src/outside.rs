//! What lies outside a job: whether a tombstone may go where the table sets `max_lateness`.
//!
//! It may only if no row of its version or an older one is left for its key outside the job, nor can arrive any more:
//! otherwise that row would come back. The order of looking is what makes this hold:
//!
//! 1. The job has read its *now*, which is behind every log time, clock and date.
//! 2. Then the table log is read to its end, and the log into the tails to its end.
//! 3. Then one view is taken, and the limit of lateness is that of its manifest at the job's now.
//!
//! A streamed row that is in no segment and no tail of this view was appended after 1, so it was judged at most ten
//! minutes before the job's now, and its version is not below the limit. A load that the view knows to be under way
//! lowers the limit itself. A load that was opened after the view began after 1 by the log's time, unless its begin
//! took very long: the job's edit looks at those once more ([`LateDrops::check`]), and the manifest at those under way.
//! Rows only ever leave segments by jobs that judged them likewise, so what the view holds is all that can matter, even
//! where flushes and compactions of others commit meanwhile.
//!
//! A segment is asked by its lowest version and its filter, and no block is read: where it may hold the key the
//! tombstone stays. This errs towards keeping.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use nacre_cache::{CachedIndex, HeldIndex};
use nacre_manifest::{LoadState, Manifest, SegmentRef};
use nacre_segment::key_hash;
use nacre_types::{Error, PartitionId, Place, Result, SegmentId, Seq, TableId};

use crate::Table;
use crate::segment_rows::read_index;
use crate::shared::Shared;
use crate::table::Touch;
use crate::tail::memtable::TailRow;
use crate::view::View;

/// Indexes held at once, beside those that the key at hand needs.
const INDEXES_HELD: usize = 32;

/// Tombstones that went by lateness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LateDrops {
    /// Their versions are below this.
    pub(crate) below: i64,
    /// The edit up to which the view knew the table.
    seen: Seq,
}

impl LateDrops {
    /// Whether no load that was opened since the look may have brought rows from below, and has ended already, so that
    /// the manifest's own check passes over it.
    ///
    /// # Errors
    /// `Conflict` (`load-began-early`): the work is done again.
    pub(crate) fn check(&self, manifest: &Manifest) -> Result<()> {
        let brings_older = |load: &nacre_manifest::Load| {
            load.opened > self.seen
                && !matches!(load.state, LoadState::Failed | LoadState::Cancelled)
                && load
                    .lateness_micros
                    .is_none_or(|limit| load.begun_at_micros.saturating_sub(limit) < self.below)
        };
        match manifest.loads().find(|load| brings_older(load)) {
            None => Ok(()),
            Some(load) => Err(Error::conflict(format!(
                "load {} may have brought rows older than tombstones that the job left out",
                load.id
            ))
            .with_code("load-began-early")),
        }
    }
}

/// Which rows are the job's own.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// The segments that it merges.
    pub(crate) segments: HashSet<SegmentId>,
    /// The rows of the tail that it flushes: those of this partition below this place.
    pub(crate) flushed: Option<(PartitionId, Place)>,
}

/// Everything of a table but the rows of one job.
pub(crate) struct Outside {
    shared: Arc<Shared>,
    table: TableId,
    runtime: tokio::runtime::Handle,
    view: Arc<View>,
    /// Nothing below this can arrive any more.
    limit: i64,
    own: Own,
    indexes: HashMap<SegmentId, CachedIndex>,
    rows: Vec<TailRow>,
    dropped_below: Option<i64>,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside")
            .field("table", &self.table)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl Outside {
    /// Looks, for a job that read its `now` before and whose rows have versions from `oldest` on. `None` where no
    /// tombstone of it may go by lateness; also where the ends cannot be reached: then they stay until the next job.
    pub(crate) async fn look(table: &Arc<Table>, now: i64, oldest: i64, own: Own) -> Option<Self> {
        // Most tables set no lateness, and most jobs hold nothing that is late: these need not look.
        if table.manifest().late_drop_limit(now).is_none_or(|limit| oldest >= limit) {
            return None;
        }
        if let Err(error) = table.reach_end(Touch::Table).await {
            tracing::debug!(table = %table.id(), %error, "the ends were not reached; late tombstones stay for now");
            return None;
        }
        let view = table.view().clone();
        table.check_held(&view, Touch::Table).ok()?;
        let limit = view.manifest.late_drop_limit(now)?;
        Some(Self {
            shared: table.shared.clone(),
            table: table.id(),
            runtime: tokio::runtime::Handle::current(),
            view,
            limit,
            own,
            indexes: HashMap::new(),
            rows: Vec::new(),
            dropped_below: None,
        })
    }

    /// Below this a tombstone may go.
    pub(crate) fn limit(&self) -> i64 {
        self.limit
    }

    /// What went on this account, if anything did.
    pub(crate) fn drops(&self) -> Option<LateDrops> {
        self.dropped_below.map(|below| LateDrops { below, seen: self.view.manifest.seq() })
    }

    /// The lowest version that a row of `key` may have outside the job, if that is at most `version`; `None` = a
    /// tombstone of `version` hides nothing, and goes. Call it on a thread that may block.
    pub(crate) fn oldest(&mut self, key: &[u8], version: i64) -> Option<i64> {
        let found = self.oldest_in_tails(key, version).or_else(|| self.oldest_in_segments(key, version));
        if found.is_none() {
            self.dropped_below = self.dropped_below.max(Some(version.saturating_add(1)));
        }
        found
    }

    fn oldest_in_tails(&mut self, key: &[u8], version: i64) -> Option<i64> {
        self.rows.clear();
        for tail in &self.view.tails {
            let from = match self.own.flushed {
                Some((partition, to)) if partition == tail.partition => to.max(tail.covered),
                _ => tail.covered,
            };
            for memtable in &tail.memtables {
                memtable.rows_of(key, from, &mut self.rows);
            }
        }
        self.rows.iter().map(|row| row.rank.version).filter(|held| *held <= version).min()
    }

    fn oldest_in_segments(&mut self, key: &[u8], version: i64) -> Option<i64> {
        let hash = key_hash(key);
        let view = self.view.clone();
        let others = || {
            let segments = view.manifest.segments_for_key(key);
            segments.filter(|segment| segment.min_version() <= version)
        };
        if self.indexes.len() > INDEXES_HELD {
            let needed: HashSet<SegmentId> = others().map(|segment| segment.id()).collect();
            self.indexes.retain(|id, _| needed.contains(id));
        }
        for segment in others() {
            if self.own.segments.contains(&segment.id()) {
                continue;
            }
            // An index that cannot be read says nothing: the segment may hold the key.
            let holds = self.index(&segment).is_none_or(|index| index.may_contain(hash));
            if holds {
                return Some(segment.min_version());
            }
        }
        None
    }

    fn index(&mut self, segment: &SegmentRef<'_>) -> Option<CachedIndex> {
        let id = segment.id();
        if let Some(held) = self.indexes.get(&id) {
            return Some(held.clone());
        }
        // Past the cache: what a job looks at says nothing about what is read.
        let index = match self.shared.cache.index_cached(id) {
            Some(index) => index,
            None => {
                let segment = segment.to_segment();
                match self.runtime.block_on(read_index(&self.shared, self.table, &segment)) {
                    Ok(index) => CachedIndex::new(HeldIndex::new(index)),
                    Err(error) => {
                        tracing::debug!(segment = %id, %error, "an index was not read; tombstones stay");
                        return None;
                    }
                }
            }
        };
        self.indexes.insert(id, index.clone());
        Some(index)
    }
}
