//! One task per partition that reads the log and fills the tails of its tables.
//!
//! 1. Read `flushed_through` (position, clock, carried object).
//! 2. Insert the carried rows; every table is opened, and so its manifest read, *after* step 1. So a row below the
//!    position is in a manifest that was read later, or in `carried`.
//! 3. Read the log from that position, computing versions from its clock, and insert. Rows that a manifest covers
//!    already are inserted too and passed over by readers; their memtable goes when it is covered wholly.
//! 4. `Restart` (the log was trimmed under us): refresh every table of this partition, then from 1. Rows that are
//!    inserted a second time have the rank that they had and stay one.
//!
//! A *cut* seals the memtables of all tables at one offset: what a flush takes is everything before it. Only this task
//! (and threads that it waits for) inserts and only this task cuts, so a sealed memtable never gets another row.
//!
//! Why not insert from the write path, which has the rows at hand? Because then two tasks would compute versions, and
//! an append of another process between two of ours would be applied out of order. The log hands our own appends over
//! in memory; nothing is read twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use nacre_log::{FlushedThrough, LogPosition, Op, RecordKind, Stamped, TailStep};
use nacre_runtime::{Backoff, TaskHandle};
use nacre_store::{GetOptions, ObjectPath};
use nacre_types::{Error, Offset, PartitionId, Place, Rank, Result, TableId};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::carried;
use super::memtable::{MemTable, TailRow};
use crate::node::Node;
use crate::table::Table;

const SEAL_BYTES: u64 = 64 << 20;
/// Fewer rows are inserted sooner than another thread wakes up.
const ROWS_PER_LANE: usize = 400;
/// Most threads that insert one batch.
const LANES_MAX: usize = 4;

/// Where a partition is cut and whose rows lie before it.
#[derive(Debug)]
pub(crate) struct Cut {
    /// Everything before this is in the memtables that were sealed.
    pub(crate) position: LogPosition,
    /// Tables with rows that their manifest did not cover when the cut was made.
    pub(crate) tables: Vec<PendingTable>,
}

/// A table with rows to flush.
#[derive(Debug, Clone)]
pub(crate) struct PendingTable {
    pub(crate) table: Arc<Table>,
    pub(crate) bytes: u64,
}

/// The handle of a partition's task.
#[derive(Debug)]
pub(crate) struct Tailer {
    /// Everything before this offset is in the tails; `None` until the first read of `flushed_through`.
    pub(crate) applied: watch::Receiver<Option<LogPosition>>,
    cuts: mpsc::Sender<oneshot::Sender<Cut>>,
    /// Bytes of rows applied since `flushed_through`, roughly: what the bound on writes is about.
    pub(crate) pending_bytes: Arc<AtomicU64>,
    answers: AtomicBool,
    stop: watch::Sender<bool>,
    task: Mutex<Option<TaskHandle<()>>>,
}

impl Tailer {
    /// Whether the tail holds everything that was in the log when it was begun.
    pub(crate) fn answers(&self) -> bool {
        self.answers.load(Ordering::Acquire)
    }

    /// It does.
    pub(crate) fn answer(&self) {
        self.answers.store(true, Ordering::Release);
    }

    /// Whether the task was told to end.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Ends the task; when this returns it inserts no more.
    pub(crate) async fn stop(&self) {
        self.stop.send_replace(true);
        let task = self.task.lock().take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the reader of a partition did not end in order");
        }
    }

    /// Seals every memtable at the position that is applied now.
    ///
    /// # Errors
    /// `Unavailable` when the task has ended.
    pub(crate) async fn cut(&self) -> Result<Cut> {
        let (reply, answer) = oneshot::channel();
        let gone = |_| Error::unavailable("the reader of the log has stopped");
        self.cuts.send(reply).await.map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))
    }

    /// Waits until everything before `offset` is in the tails.
    ///
    /// # Errors
    /// `Unavailable` when the task has ended.
    pub(crate) async fn wait_for(&self, offset: Offset) -> Result<()> {
        let reached = |position: &Option<LogPosition>| position.as_ref().is_some_and(|p| p.offset >= offset);
        if reached(&self.applied.borrow()) {
            return Ok(());
        }
        let mut applied = self.applied.clone();
        applied
            .wait_for(reached)
            .await
            .map(drop)
            .map_err(|_| Error::unavailable("the reader of the log has stopped"))
    }
}

/// Name of the record that holds `flushed_through` of a partition.
pub fn flushed_through_record(partition: PartitionId) -> String {
    format!("flushed-through/{:05}", partition.0)
}

/// Starts the task of `partition`.
pub(crate) fn start(node: &Arc<Node>, partition: PartitionId) -> Tailer {
    let (applied_tx, applied) = watch::channel(None);
    let (cuts, cut_rx) = mpsc::channel(4);
    let pending_bytes = Arc::new(AtomicU64::new(0));
    let mut task = Task {
        node: node.clone(),
        partition,
        applied: applied_tx,
        tables: HashMap::new(),
        pending_bytes: pending_bytes.clone(),
        newest: None,
    };
    let (stop, stopped) = watch::channel(false);
    let running = node.shared.ctx.tasks.spawn("tail", async move { task.run(cut_rx, stopped).await });
    Tailer {
        applied,
        cuts,
        pending_bytes,
        answers: AtomicBool::new(false),
        stop,
        task: Mutex::new(Some(running)),
    }
}

struct Filling {
    table: Arc<Table>,
    memtable: Arc<MemTable>,
}

struct Task {
    node: Arc<Node>,
    partition: PartitionId,
    applied: watch::Sender<Option<LogPosition>>,
    tables: HashMap<TableId, Filling>,
    pending_bytes: Arc<AtomicU64>,
    newest: Option<LogPosition>,
}

impl Task {
    async fn run(
        &mut self,
        mut cuts: mpsc::Receiver<oneshot::Sender<Cut>>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let shutdown = self.node.shared.ctx.tasks.shutdown_token();
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
        loop {
            let failed = tokio::select! {
                biased;
                () = shutdown.requested() => return,
                _ = stopped.wait_for(|stopped| *stopped) => return,
                result = self.read_log(&mut cuts) => result,
            };
            if let Err(error) = failed {
                tracing::error!(partition = %self.partition, %error, "the log cannot be read; it is tried again");
            }
            self.node.shared.metrics.tail_restarts.inc();
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                () = tokio::time::sleep(backoff.next(&*self.node.shared.ctx.ids)) => {}
            }
        }
    }

    /// Reads from `flushed_through` on until the log says that it was trimmed under us.
    async fn read_log(&mut self, cuts: &mut mpsc::Receiver<oneshot::Sender<Cut>>) -> Result<()> {
        let flushed = self.read_flushed_through().await?;
        let first_time = self.newest.is_none();
        if !first_time {
            self.node.refresh_tables().await?;
        }
        if let Some(path) = &flushed.carried {
            self.insert_carried(path).await?;
        }
        if first_time {
            self.node.shared.ctx.phases.reach("start/tail").await;
        }
        let start = flushed.position;
        let mut tail = self.node.shared.log.tail(self.partition, start).await?;
        self.advance(start);
        loop {
            tokio::select! {
                biased;
                step = tail.next() => match step? {
                    TailStep::Restart => return Ok(()),
                    TailStep::Batch(batch) => {
                        let touched = self.apply(batch.records).await?;
                        self.tend(touched, batch.next.offset);
                        self.advance(batch.next);
                    }
                },
                Some(reply) = cuts.recv() => drop(reply.send(self.cut())),
            }
        }
    }

    /// After a batch that ends at `end`.
    fn tend(&self, touched: Vec<Arc<MemTable>>, end: Offset) {
        for memtable in touched {
            // Where another process flushes, nobody cuts here: seal what has grown large, so that it can go when it is
            // covered.
            if memtable.byte_count() > SEAL_BYTES {
                memtable.seal(end);
            }
            // Another thread does it, so that a scan need not wait for many keys to be put in order.
            if memtable.wants_order() {
                self.node.shared.ctx.tasks.spawn_blocking("tail order", move || memtable.put_in_order());
            }
        }
    }

    fn advance(&mut self, next: LogPosition) {
        // After a restart the position may lie behind what readers were told is applied; rows are still there.
        if self.newest.as_ref().is_none_or(|held| held.offset <= next.offset) {
            self.newest = Some(next);
            self.applied.send_replace(Some(next));
        }
    }

    async fn read_flushed_through(&self) -> Result<FlushedThrough> {
        match self.node.shared.catalog.record(&flushed_through_record(self.partition)).await? {
            Some((bytes, _)) => FlushedThrough::decode(&bytes),
            None => Ok(FlushedThrough::start(self.node.shared.config.incarnation)),
        }
    }

    async fn insert_carried(&mut self, path: &str) -> Result<()> {
        let object = self.node.shared.store.get(&ObjectPath::new(path)?, GetOptions::default()).await?;
        let mut refused: Option<TableId> = None;
        for carried in carried::decode(&object.bytes)? {
            if refused == Some(carried.table) {
                continue;
            }
            match self.memtable(carried.table).await? {
                Some(memtable) => {
                    self.pending_bytes
                        .fetch_add(pending_bytes(&carried.key, &carried.row), Ordering::Relaxed);
                    memtable.insert([(carried.key, carried.row)]);
                }
                None => refused = Some(carried.table),
            }
        }
        Ok(())
    }

    /// Inserts the rows of a batch. A large one is cut among threads: whoever wrote it waits for this, and the order of
    /// insertion does not matter, because a row's place among the rows of its key is its rank. Answers the memtables.
    async fn apply(&mut self, records: Vec<Stamped>) -> Result<Vec<Arc<MemTable>>> {
        let mut work = Vec::with_capacity(records.len());
        let mut touched: Vec<Arc<MemTable>> = Vec::new();
        let mut rows = 0;
        for stamped in records {
            let record = &stamped.record;
            match &record.kind {
                RecordKind::Rows(held) => rows += held.len(),
                RecordKind::Notice { seq } => {
                    self.node.hear_of_edit(record.table, *seq);
                    continue;
                }
                RecordKind::Marker | RecordKind::Fence => continue,
            }
            match self.memtable(record.table).await? {
                Some(memtable) => {
                    if !touched.iter().any(|held| Arc::ptr_eq(held, &memtable)) {
                        touched.push(memtable.clone());
                    }
                    work.push((memtable, stamped));
                }
                None => {
                    tracing::error!(table = %record.table, offset = %stamped.offset, "rows of a table that was never made");
                }
            }
        }
        let lanes = (rows / ROWS_PER_LANE).clamp(1, LANES_MAX).min(work.len().max(1));
        let per_lane = work.len().div_ceil(lanes);
        let mut others = Vec::with_capacity(lanes);
        while work.len() > per_lane {
            let (lane, pending) = (work.split_off(work.len() - per_lane), self.pending_bytes.clone());
            let insert = move || insert_all(lane, &pending);
            others.push(self.node.shared.ctx.tasks.spawn_blocking("tail insert", insert));
        }
        let mut inserted = insert_all(work, &self.pending_bytes);
        for lane in others {
            inserted += lane.await?;
        }
        self.node.shared.metrics.tail_rows_applied.inc_by(inserted);
        Ok(touched)
    }

    /// The memtable that rows of `table` go to; `None` where the catalog knows no such table.
    async fn memtable(&mut self, table: TableId) -> Result<Option<Arc<MemTable>>> {
        if let Some(filling) = self.tables.get(&table) {
            if filling.memtable.sealed_at().is_none() {
                return Ok(Some(filling.memtable.clone()));
            }
            let memtable = filling.table.active_memtable(self.partition);
            self.tables.insert(table, Filling { table: filling.table.clone(), memtable: memtable.clone() });
            return Ok(Some(memtable));
        }
        let Some(handle) = self.node.table_by_id(table).await? else { return Ok(None) };
        let memtable = handle.active_memtable(self.partition);
        self.tables.insert(table, Filling { table: handle, memtable: memtable.clone() });
        Ok(Some(memtable))
    }

    fn cut(&mut self) -> Cut {
        let start = LogPosition::start(self.node.shared.config.incarnation);
        let position = self.newest.unwrap_or(start);
        let mut tables = Vec::new();
        for filling in self.tables.values() {
            if filling.memtable.row_count() > 0 {
                filling.memtable.seal(position.offset);
            }
            let (rows, bytes) = filling.table.pending(self.partition);
            if rows > 0 {
                tables.push(PendingTable { table: filling.table.clone(), bytes });
            }
        }
        tables.sort_by_key(|pending| pending.table.id());
        Cut { position, tables }
    }
}

/// What a row counts towards the bound on writes.
fn pending_bytes(key: &Bytes, row: &TailRow) -> u64 {
    (key.len() + row.value.as_ref().map_or(0, Bytes::len) + 64) as u64
}

/// Inserts the rows of records into the memtables beside them; answers how many.
fn insert_all(records: Vec<(Arc<MemTable>, Stamped)>, pending: &AtomicU64) -> u64 {
    let (mut rows, mut bytes) = (0, 0);
    for (memtable, Stamped { offset, version: given, record, .. }) in records {
        let place = Place::streamed(record.generation, offset);
        memtable.insert(record.rows().enumerate().map(|(index, row)| {
            let rank = Rank { version: row.version.unwrap_or(given), place, index: index as u32 };
            let value = (row.op == Op::Put).then_some(row.value);
            let tail_row = TailRow { rank, expires_at: row.expires_at, value };
            rows += 1;
            bytes += pending_bytes(&row.key, &tail_row);
            (row.key, tail_row)
        }));
    }
    pending.fetch_add(bytes, Ordering::Relaxed);
    rows
}
