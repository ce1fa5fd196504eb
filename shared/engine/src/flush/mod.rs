//! Flush: rows of the log become segments.
//!
//! Per partition, by whoever holds its lease (a hint; what fences is in the edits):
//!
//! 1. Cut: all tails are sealed at one offset *X*, with the clock there.
//! 2. Each table with enough rows: its sealed rows are merged, what may be dropped is dropped, the rest is written as
//!    segments named by the table's covered offset, put, and committed by an edit `{partition, from: covered, to: X}`.
//!    `from` must be the covered offset: of two owners one is refused, and its objects are garbage by their name.
//! 3. The rows of all other tables (quiet ones; those whose flush failed) go, with their ranks, to one object `carried`.
//! 4. `flushed_through` := {X, clock, carried}, with if-match. Only now: every row below X is in a committed manifest
//!    or in that object.
//! 5. The log before an earlier `flushed_through` is trimmed, after a delay.
//!
//! A crash between any two steps leaves objects that nothing names and a `flushed_through` that is too low: readers
//! start earlier and pass over what is covered. Why not one edit for all tables? There is one table log per table, and
//! none should wait for another.

mod plan;
mod run;

pub(crate) use run::{DROP_MARGIN_MICROS, sealed_floors, write_segments};

use std::sync::Arc;
use std::time::Duration;

use nacre_catalog::RecordPut;
use nacre_log::{FlushedThrough, LogPosition};
use nacre_store::{ObjectPath, PutMode};
use nacre_types::{Error, Offset, PartitionId, Result};

use crate::Table;
use crate::node::Node;
use crate::tail::carried::{self, CarriedRow};
use crate::tail::{Cut, flushed_through_record};

/// When and how tails become segments.
#[derive(Debug, Clone)]
pub struct FlushConfig {
    /// A partition is flushed this often. Longer: fewer, larger segments; more log to read at a start.
    pub every: Duration,
    /// It is flushed earlier when its tail holds this many bytes.
    pub tail_bytes: u64,
    /// A table with less than this waits in the carried object.
    pub table_bytes_min: u64,
    /// The carried object stays below about this many bytes.
    pub carried_bytes_max: u64,
    /// A segment is closed at about this size, in bytes of its object.
    pub segment_bytes: u64,
    /// The log is kept this long behind `flushed_through`: at least the catalog's restore window.
    pub trim_delay: Duration,
}

impl Default for FlushConfig {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(60),
            tail_bytes: 256 << 20,
            table_bytes_min: 1 << 20,
            carried_bytes_max: 16 << 20,
            segment_bytes: 64 << 20,
            trim_delay: Duration::from_secs(24 * 3600),
        }
    }
}

/// Whether small tables may be carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushMode {
    /// They may.
    Due,
    /// Everything becomes segments.
    All,
}

/// What a flush did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlushReport {
    /// Tables with a flush edit.
    pub tables_flushed: usize,
    /// Rows written to segments.
    pub rows_flushed: u64,
    /// Rows in the carried object.
    pub rows_carried: u64,
    /// Everything below this is flushed or carried.
    pub through: Offset,
}

impl Node {
    /// Bytes of the tail of a partition, roughly: counted anew, and from then on what writes are judged by.
    pub fn tail_bytes(&self, partition: PartitionId) -> u64 {
        let bytes = self.open_tables().iter().map(|table| table.pending(partition).1).sum();
        if let Ok(tailer) = self.shared.tails.get(partition) {
            tailer.pending_bytes.store(bytes, std::sync::atomic::Ordering::Relaxed);
        }
        bytes
    }

    /// How many partitions the log has.
    pub fn partitions(&self) -> u32 {
        self.shared.log.partitions()
    }

    /// When and how this node flushes.
    pub fn flush_config(&self) -> &FlushConfig {
        &self.shared.config.flush
    }

    /// Flushes a partition up to where its tail stands.
    ///
    /// # Errors
    /// `Unavailable`, `Unknown`: nothing is lost, try again. A table that fails alone is carried, not an error.
    pub async fn flush(self: &Arc<Self>, partition: PartitionId, mode: FlushMode) -> Result<FlushReport> {
        let began = self.shared.ctx.clock.monotonic();
        let tailer = self.shared.tails.get(partition)?;
        let cut = tailer.cut().await?;
        self.shared.ctx.phases.reach("flush/cut").await;
        let mut report = FlushReport { through: cut.position.offset, ..FlushReport::default() };
        let carried = self.flush_tables(partition, &cut, mode, &mut report).await;
        let rows = self.carry(partition, &cut, &carried);
        report.rows_carried = rows.len() as u64;
        if self.advance(partition, cut.position, &rows).await? {
            for table in carried {
                table.settle_carried(partition, cut.position.offset);
            }
            self.shared.ctx.phases.reach("flush/advanced").await;
            self.trim_later(partition, cut.position);
        }
        if report.rows_flushed > 0 {
            let took = self.shared.ctx.clock.monotonic().saturating_sub(began);
            self.shared.metrics.flush_micros.inc_by(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
        self.tail_bytes(partition);
        self.trim_due(partition).await?;
        Ok(report)
    }

    /// Flushes the tables that are due; answers those whose rows have to be carried.
    async fn flush_tables(
        self: &Arc<Self>,
        partition: PartitionId,
        cut: &Cut,
        mode: FlushMode,
        report: &mut FlushReport,
    ) -> Vec<Arc<Table>> {
        let config = &self.shared.config.flush;
        let waiting: Vec<_> =
            cut.tables.iter().map(|pending| plan::Waiting { bytes: pending.bytes }).collect();
        let flushed = match mode {
            FlushMode::All => vec![true; waiting.len()],
            FlushMode::Due => plan::choose(&waiting, config.table_bytes_min, config.carried_bytes_max),
        };
        let mut carried = Vec::new();
        for (pending, is_due) in cut.tables.iter().zip(flushed) {
            if !is_due {
                carried.push(pending.table.clone());
                continue;
            }
            match run::flush_table(&pending.table, partition, cut.position.offset).await {
                Ok(rows) => {
                    self.shared.metrics.flushes.inc();
                    self.shared.metrics.rows_flushed.inc_by(rows);
                    report.tables_flushed += 1;
                    report.rows_flushed += rows;
                }
                Err(error) => {
                    tracing::warn!(table = %pending.table.id(), %error, "a table could not be flushed; its rows are carried");
                    carried.push(pending.table.clone());
                }
            }
        }
        carried
    }

    fn carry(&self, partition: PartitionId, cut: &Cut, tables: &[Arc<Table>]) -> Vec<CarriedRow> {
        let mut rows = Vec::new();
        for table in tables {
            for (key, row) in table.uncovered_rows(partition, cut.position.offset) {
                rows.push(CarriedRow { table: table.id(), key, row });
            }
        }
        rows
    }

    /// Puts the carried rows and advances `flushed_through`. `false` where it stands there or further already.
    async fn advance(
        &self,
        partition: PartitionId,
        position: LogPosition,
        rows: &[CarriedRow],
    ) -> Result<bool> {
        let name = flushed_through_record(partition);
        let held = self.shared.catalog.record(&name).await?;
        let (tag, before) = match &held {
            Some((bytes, tag)) => (Some(tag), Some(FlushedThrough::decode(bytes)?)),
            None => (None, None),
        };
        if let Some(before) = &before {
            // At the same position only to say that nothing is carried any more.
            let sheds_carried = before.carried.is_some() && rows.is_empty();
            match position.order().cmp(&before.position.order()) {
                std::cmp::Ordering::Less => return Ok(false),
                std::cmp::Ordering::Equal if !sheds_carried => return Ok(false),
                _ => {}
            }
        }
        let carried = if rows.is_empty() {
            None
        } else {
            let id = self.shared.ctx.ids.random_u128();
            self.shared.ctx.phases.reach("flush/carry").await;
            let path = ObjectPath::new(&format!("carried/p{partition}-{}/{id:032x}", position.offset))?;
            self.shared.store.put(&path, carried::encode(rows), PutMode::Create).await?;
            Some(path.as_str().to_owned())
        };
        let next = FlushedThrough { position, carried };
        self.shared.ctx.phases.reach("flush/advance").await;
        match self.shared.catalog.put_record(&name, tag, next.encode()).await? {
            RecordPut::Stored(_) => Ok(true),
            RecordPut::Conflict => Ok(false),
            RecordPut::Unknown => Err(Error::unknown(format!("it is not known whether {name} has advanced"))),
        }
    }

    fn trim_later(&self, partition: PartitionId, position: LogPosition) {
        let due = self.shared.ctx.clock.monotonic() + self.shared.config.flush.trim_delay;
        self.trims.lock().entry(partition).or_default().push_back((due, position));
    }

    async fn trim_due(&self, partition: PartitionId) -> Result<()> {
        let now = self.shared.ctx.clock.monotonic();
        let through = {
            let mut trims = self.trims.lock();
            let Some(queue) = trims.get_mut(&partition) else { return Ok(()) };
            let due = queue.iter().take_while(|(due, _)| *due <= now).count();
            queue.drain(..due).next_back()
        };
        match through {
            Some((_, position)) => self.shared.log.trim(partition, &position).await,
            None => Ok(()),
        }
    }
}
