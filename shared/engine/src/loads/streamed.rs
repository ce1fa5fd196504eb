//! Whether rows of a table are in the log and in no segment.
//!
//! A process that holds every tail has them in memory. A loader of a fleet holds none, so it reads what such a tail would
//! be filled from, in the same order: `flushed_through`, the carried object that it names, and the log from there to its
//! end. That is asked when a load declares what keys are, of a table without a segment: rarely, and of the log only what
//! waits to be flushed.
//!
//! Rows that are appended after the end was read are not seen. They come from a dispatcher that does not know the new
//! settings yet, as with every change of settings.

use std::sync::Arc;

use nacre_log::{FlushedThrough, RecordKind, TailStep};
use nacre_store::{GetOptions, ObjectPath};
use nacre_types::{Error, ErrorKind, PartitionId, Result};

use crate::Table;
use crate::tail::{carried, flushed_through_record};
use crate::view::covered_place;

/// How often a partition is begun again that is trimmed while it is read.
const TRIES: usize = 5;

impl Table {
    pub(super) async fn has_streamed_rows(self: &Arc<Self>) -> Result<bool> {
        if self.shared.tails.holds_all() {
            return Ok(self.info().tail_rows > 0);
        }
        for partition in self.partitions() {
            if self.streams_in(partition).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn streams_in(self: &Arc<Self>, partition: PartitionId) -> Result<bool> {
        for _ in 0..TRIES {
            match self.try_streams_in(partition).await {
                Ok(Some(found)) => return Ok(found),
                // Trimmed, or flushed further: the object that was carried has gone.
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::unavailable("the log is trimmed faster than it is read; try again"))
    }

    /// `None` = the log was trimmed meanwhile.
    async fn try_streams_in(self: &Arc<Self>, partition: PartitionId) -> Result<Option<bool>> {
        let flushed = match self.shared.catalog.record(&flushed_through_record(partition)).await? {
            Some((bytes, _)) => FlushedThrough::decode(&bytes)?,
            None => FlushedThrough::start(self.shared.config.incarnation),
        };
        // After it: what is below the position is in this manifest or carried.
        self.refresh().await?;
        let covered = self.manifest().covered(partition);
        if let Some(path) = &flushed.carried {
            let object = self.shared.store.get(&ObjectPath::new(path)?, GetOptions::default()).await?;
            let is_ours = |row: &carried::CarriedRow| {
                row.table == self.id() && row.row.rank.place >= covered_place(covered)
            };
            if carried::decode(&object.bytes)?.iter().any(is_ours) {
                return Ok(Some(true));
            }
        }
        let end = self.shared.log.end(partition).await?.offset;
        if flushed.position.offset >= end {
            return Ok(Some(false));
        }
        let mut tail = self.shared.log.tail(partition, flushed.position).await?;
        loop {
            let TailStep::Batch(batch) = tail.next().await? else { return Ok(None) };
            let is_ours = |stamped: &nacre_log::Stamped| {
                stamped.record.table == self.id()
                    && stamped.offset >= covered
                    && matches!(&stamped.record.kind, RecordKind::Rows(rows) if !rows.is_empty())
            };
            if batch.records.iter().any(is_ours) {
                return Ok(Some(true));
            }
            if batch.next.offset >= end {
                return Ok(Some(false));
            }
        }
    }
}
