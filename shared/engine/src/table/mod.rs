//! The handle that reads and writes of one table go through.
//!
//! A table's state in a process is one manifest and a list of memtables, guarded by a lock that is held for moments
//! and never across a wait. Whoever changes it publishes a new [`View`]; readers load the pointer and never lock.

mod ahead;
mod commit;
mod lateness;
mod open;
mod read;
mod write;

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use nacre_manifest::{Change, Manifest, SetSettings};
use nacre_store::ObjectStore;
use nacre_types::{CommitId, Error, Offset, PartitionId, Result, Seq, TableId, TableSettings};
use parking_lot::Mutex;

use crate::garbage::Collector;
use crate::shared::Shared;
use crate::tail::memtable::{MemTable, TailRow};
use crate::view::{Live, View};
use crate::{ShardInfo, TableInfo};
pub(crate) use commit::fold;
use commit::{CommitQueue, Cursor};
pub(crate) use open::{read_manifest, read_snapshot, write_snapshot};
pub(crate) use read::Touch;

/// The handle that reads and writes of one table go through. One per table and process.
pub struct Table {
    id: TableId,
    pub(crate) shared: Arc<Shared>,
    view: ArcSwap<View>,
    live: Mutex<Live>,
    commits: CommitQueue,
    cursor: tokio::sync::Mutex<Cursor>,
    /// Clock of this process, in microseconds, when the table log was last seen to stand where the manifest stands.
    fresh_at: AtomicU64,
    /// The highest sequence that somebody told of.
    heard: AtomicU64,
    /// A task reads the table log on that account.
    follows: AtomicBool,
    /// What is shown is being warmed.
    pub(crate) is_warming: AtomicBool,
    /// Since when this process knows settings whose lateness does not hold from known offsets yet.
    lateness_seen: Mutex<Option<lateness::Seen>>,
    pub(crate) garbage: tokio::sync::Mutex<Collector>,
}

/// The id alone: what a table holds is nobody's business in a log.
impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("id", &self.id).field("seq", &self.seq()).finish_non_exhaustive()
    }
}

impl Table {
    /// Opens the table from the catalog; `None` where its log is empty.
    pub(crate) async fn open(shared: &Arc<Shared>, id: TableId) -> Result<Option<Arc<Self>>> {
        let began = shared.ctx.clock.monotonic();
        let Some(opened) = open::read_table(shared, id).await? else { return Ok(None) };
        let live = Live::new(opened.manifest);
        Ok(Some(Arc::new(Self {
            id,
            shared: shared.clone(),
            view: ArcSwap::from_pointee(live.view()),
            live: Mutex::new(live),
            commits: CommitQueue::default(),
            cursor: tokio::sync::Mutex::new(opened.cursor),
            fresh_at: AtomicU64::new(began.as_micros() as u64),
            heard: AtomicU64::new(0),
            follows: AtomicBool::new(false),
            is_warming: AtomicBool::new(false),
            lateness_seen: Mutex::default(),
            garbage: tokio::sync::Mutex::default(),
        })))
    }

    /// The table's id.
    pub fn id(&self) -> TableId {
        self.id
    }

    /// The object store that holds it.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.shared.store
    }

    /// Its settings now.
    pub fn settings(&self) -> Arc<TableSettings> {
        self.view.load().settings.clone()
    }

    /// The view that a read begun now uses.
    pub(crate) fn view(&self) -> arc_swap::Guard<Arc<View>> {
        self.view.load()
    }

    /// The manifest that a read begun now uses.
    pub fn manifest(&self) -> Arc<Manifest> {
        self.view.load().manifest.clone()
    }

    /// Describes the table.
    pub fn info(&self) -> TableInfo {
        let view = self.view.load();
        let manifest = &view.manifest;
        let memtables = || view.tails.iter().flat_map(|tail| &tail.memtables);
        let tail_rows = memtables().map(|memtable| memtable.row_count()).sum::<u64>();
        TableInfo {
            id: self.id,
            settings: (*view.settings).clone(),
            edition: manifest.edition(),
            manifest: manifest.seq(),
            shards: manifest
                .shards()
                .iter()
                .map(|shard| ShardInfo {
                    id: shard.id,
                    start: shard.start.clone(),
                    partition: shard.partition,
                    generation: shard.generation,
                })
                .collect(),
            segments: manifest.segment_count(),
            rows_estimate: manifest.rows() + tail_rows,
            tombstones: manifest.tombstones(),
            bytes: manifest.bytes(),
            tail_rows,
            tail_bytes: memtables().map(|memtable| memtable.byte_count()).sum(),
            loads: manifest.loads().filter(|load| load.state.is_under_way() || load.is_unsealed()).count()
                as u64,
            newest_version: memtables()
                .filter_map(|memtable| memtable.newest_version())
                .chain(manifest.newest_version())
                .max(),
        }
    }

    /// Reads the edits that were appended since, until the end of the table log.
    ///
    /// # Errors
    /// `Unavailable`; `Corrupt` where a committed edit is refused.
    pub async fn refresh(self: &Arc<Self>) -> Result<()> {
        let began = self.shared.ctx.clock.monotonic();
        let mut cursor = self.cursor.lock().await;
        self.read_edits(&mut cursor).await?;
        self.fresh_at.fetch_max(began.as_micros() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// The newest manifest, by a read of the table log, and the commit id of its last edit.
    pub(crate) async fn newest_manifest(self: &Arc<Self>) -> Result<(Arc<Manifest>, CommitId)> {
        let mut cursor = self.cursor.lock().await;
        self.read_edits(&mut cursor).await?;
        Ok((self.manifest(), cursor.commit_id))
    }

    /// Somebody says that the table log stands at `seq`; answers whether [`Table::follow_what_was_heard`] is to be run.
    pub(crate) fn hear(&self, seq: Seq) -> bool {
        if self.seq() >= seq {
            return false;
        }
        self.heard.fetch_max(seq.0, Ordering::AcqRel);
        !self.follows.swap(true, Ordering::AcqRel)
    }

    /// Reads the table log once for all who told of it meanwhile.
    pub(crate) async fn follow_what_was_heard(self: &Arc<Self>) {
        loop {
            let heard = self.heard.load(Ordering::Acquire);
            self.warm_ahead().await;
            if let Err(error) = self.refresh().await {
                tracing::warn!(table = %self.id, %error, "an edit that was told of could not be read; the next poll tries again");
                self.heard.fetch_min(self.seq().0, Ordering::AcqRel);
            }
            self.follows.store(false, Ordering::Release);
            // Told between the read and the line above: nobody else will follow it.
            let is_news = self.heard.load(Ordering::Acquire) > heard;
            if !is_news || self.follows.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }

    /// Reads what others have appended to the table log.
    ///
    /// # Errors
    /// `Unavailable`; `Corrupt`.
    pub async fn renew(self: &Arc<Self>) -> Result<()> {
        self.refresh().await
    }

    /// Reads the table log where this process has not reached `edition` yet.
    ///
    /// # Errors
    /// `Unavailable`; `Corrupt`.
    pub async fn reach_edition(self: &Arc<Self>, edition: Seq) -> Result<()> {
        if self.view.load().manifest.edition() < edition { self.refresh().await } else { Ok(()) }
    }

    /// How old what this process knows of the table log may be, in microseconds.
    pub(crate) fn age_micros(&self) -> u64 {
        (self.shared.ctx.clock.monotonic().as_micros() as u64)
            .saturating_sub(self.fresh_at.load(Ordering::Relaxed))
    }

    /// Makes a newer manifest the one that is read, and lets go of the memtables that it covers. Never goes back.
    pub(crate) fn publish_manifest(self: &Arc<Self>, manifest: Arc<Manifest>) {
        let mut live = self.live.lock();
        if manifest.seq() > live.manifest.seq() {
            let earlier = (manifest.edition() > live.manifest.edition()).then(|| live.manifest.clone());
            live.set_manifest(manifest);
            self.view.store(Arc::new(live.view()));
            drop(live);
            if let Some(earlier) = earlier {
                self.warm_what_is_shown(earlier);
            }
        }
    }

    /// The memtable that rows of `partition` go to now.
    pub(crate) fn active_memtable(&self, partition: PartitionId) -> Arc<MemTable> {
        let mut live = self.live.lock();
        let (memtable, is_new) = live.active(partition);
        if is_new {
            self.view.store(Arc::new(live.view()));
        }
        memtable
    }

    /// Lets go of the tail of a partition that this process does not read any more.
    pub(crate) fn forget_tail(&self, partition: PartitionId) {
        let mut live = self.live.lock();
        live.tails.retain(|(held, _)| *held != partition);
        self.view.store(Arc::new(live.view()));
    }

    /// The rows of sealed memtables below `to` that the manifest does not cover, with their ranks.
    pub(crate) fn uncovered_rows(&self, partition: PartitionId, to: Offset) -> Vec<(Bytes, TailRow)> {
        let view = self.view.load();
        let mut rows = Vec::new();
        for tail in view.tails.iter().filter(|tail| tail.partition == partition) {
            for memtable in
                tail.memtables.iter().filter(|memtable| memtable.sealed_at().is_some_and(|end| end <= to))
            {
                memtable.page(
                    (Bound::Unbounded, Bound::Unbounded),
                    false,
                    tail.covered,
                    usize::MAX,
                    &mut rows,
                );
            }
        }
        rows
    }

    /// Makes one memtable of the sealed ones below `to`, whose rows were carried: otherwise a quiet table would keep
    /// one small memtable per flush, and each of its rows the chunk of the log that it came in.
    pub(crate) fn settle_carried(&self, partition: PartitionId, to: Offset) {
        let rows = self.uncovered_rows(partition, to);
        let merged = MemTable::new();
        merged.insert(rows.into_iter().map(|(key, row)| {
            let value = row.value.as_ref().map(|value| Bytes::copy_from_slice(value));
            (Bytes::copy_from_slice(&key), TailRow { value, ..row })
        }));
        merged.seal(to);
        let mut live = self.live.lock();
        if let Some((_, memtables)) = live.tails.iter_mut().find(|(p, _)| *p == partition) {
            memtables.retain(|memtable| memtable.sealed_at().is_none_or(|end| end > to));
            if merged.row_count() > 0 {
                memtables.insert(0, Arc::new(merged));
            }
            self.view.store(Arc::new(live.view()));
        }
    }

    /// Changes the settings to what `change` makes of those in force.
    pub(crate) async fn change_settings(
        self: &Arc<Self>,
        change: impl Fn(&TableSettings) -> Result<TableSettings> + Send + 'static,
    ) -> Result<()> {
        let mut log_time = i64::MIN;
        for partition in self.partitions() {
            log_time = log_time.max(self.shared.log.log_time(partition).await?);
        }
        self.commit(Box::new(move |manifest| {
            let settings = change(manifest.settings())?;
            if *manifest.settings() == settings {
                return Ok(Vec::new());
            }
            let lateness_from = lateness::offsets_of_change(manifest, &settings);
            Ok(vec![Change::SetSettings(SetSettings { settings, log_time_micros: log_time, lateness_from })])
        }))
        .await
        .map(drop)
    }

    /// Rows and bytes of `partition` that no segment holds, roughly.
    pub(crate) fn pending(&self, partition: PartitionId) -> (u64, u64) {
        let view = self.view.load();
        let memtables =
            view.tails.iter().filter(|tail| tail.partition == partition).flat_map(|tail| &tail.memtables);
        memtables.fold((0, 0), |(rows, bytes), memtable| {
            (rows + memtable.row_count(), bytes + memtable.byte_count())
        })
    }

    /// The sequence of the last edit that this process applied.
    pub(crate) fn seq(&self) -> Seq {
        self.view.load().manifest.seq()
    }

    /// The error of a table whose name was dropped.
    pub(crate) fn check_not_dropped(&self) -> Result<()> {
        if self.view.load().manifest.dropped().is_some() {
            return Err(Error::not_found("the table was dropped").with_code("table-not-found"));
        }
        Ok(())
    }
}
