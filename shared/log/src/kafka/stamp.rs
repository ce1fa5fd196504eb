//! What a reader makes of what Kafka hands it: offsets without a gap, append times, versions.
//!
//! The versions are computed, not stored. Everybody who starts at the same (offset, clock) and misses no record
//! computes the same; so whatever could make two readers differ (a gap, a record without append time) ends the reading
//! loudly.

use crate::LogPosition;
use crate::chunk::next_version;
use crate::codec::corrupt;
use crate::log::Stamped;
use crate::record::{self, Record};
use bytes::Bytes;
use nacre_store::LogMending;
use nacre_types::{Error, Offset, PartitionId, Result};
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// A record as Kafka hands it over.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) offset: u64,
    /// The broker's time of appending, microseconds since the epoch; `None` = it gave none.
    pub(super) append_time: Option<i64>,
    pub(super) bytes: Bytes,
}

/// Stamps the records of one partition from a position on.
#[derive(Debug, Clone)]
pub(super) struct Stamper {
    partition: PartitionId,
    at: LogPosition,
    mending: Arc<LogMending>,
}

impl Stamper {
    pub(super) fn new(partition: PartitionId, at: LogPosition, mending: &Arc<LogMending>) -> Self {
        let at = LogPosition { offset: mending.past(partition, at.offset), ..at };
        Self { partition, at, mending: mending.clone() }
    }

    /// After everything that was stamped.
    pub(super) fn at(&self) -> LogPosition {
        self.at
    }

    /// Stamps the next record; after an error the position is as before. `None` = it lies in a hole, which everybody passes
    /// over: after the record before it the position is behind the hole.
    pub(super) fn stamp(&mut self, raw: Raw) -> Result<Option<Stamped>> {
        let expected = self.at.offset;
        let is_in_hole = || self.mending.past(self.partition, Offset(raw.offset)).0 != raw.offset;
        if raw.offset < expected.0 && is_in_hole() {
            return Ok(None);
        }
        if raw.offset != expected.0 {
            return Err(self.gap(raw.offset));
        }
        let Some(append_time) = raw.append_time.filter(|time| *time > 0) else {
            return Err(Error::corrupt(format!(
                "partition {}, offset {expected}: the record has no append time of the broker's; the topic's \
                 message.timestamp.type was not LogAppendTime when it was appended, and versions cannot be computed past \
                 it: find out who changed the topic; nacre log resume tells what passing over it costs",
                self.partition
            ))
            .with_code("log-append-time"));
        };
        let version = next_version(append_time, self.at.clock);
        let gives_version = record::gives_version(&raw.bytes);
        let record = Record::decode(raw.bytes).map_err(|error| {
            error.context(format_args!(
                "partition {}, offset {expected} (nacre log resume tells what passing over it costs)",
                self.partition
            ))
        })?;
        if gives_version {
            self.at.clock = version;
        }
        self.at.offset = self.mending.past(self.partition, expected.next());
        Ok(Some(Stamped { offset: expected, append_time, version, record }))
    }

    fn gap(&self, found: u64) -> Error {
        corrupt(
            "log",
            format_args!(
                "partition {} goes on at offset {found} where {} was expected; records between them were compacted away, \
                 deleted, or hidden by a transaction, none of which may happen to this topic: nacre log resume tells what going on \
                 behind them costs",
                self.partition, self.at.offset
            ),
        )
        .with_code("log-gap")
    }
}

/// A position that was stored must fit what the log says there, or versions would differ between readers.
pub(super) fn wrong_clock(partition: PartitionId, at: &LogPosition, clock: i64) -> Error {
    corrupt(
        "log position",
        format_args!(
            "offset {} of partition {partition} with clock {}: the log's clock there is {clock}; the position is of \
             another log or was damaged",
            at.offset, at.clock
        ),
    )
    .with_code("log-position")
}

/// Records that nobody had flushed are gone.
pub(super) fn lost(partition: PartitionId, at: Offset, low: u64) -> Error {
    Error::corrupt(format!(
        "partition {partition} begins at offset {low}, but everything from offset {at} on is still needed: records were \
         deleted by retention or by hand, and acknowledged writes with them; look at the topic's settings (nacre log \
         status), and restore the store to a time before, or give up what is gone (nacre log resume tells what that is)"
    ))
    .with_code("log-lost")
}

/// The partition ends before a place that was read or flushed.
pub(super) fn shrunk(partition: PartitionId, at: Offset, high: u64) -> Error {
    Error::corrupt(format!(
        "partition {partition} ends at offset {high}, but was read or flushed through offset {at}: records were lost by an \
         unclean election or a broker without its disk, or this is another topic (nacre log status); restore the brokers, \
         or give up what is gone (nacre log resume tells what that is)"
    ))
    .with_code("log-shrunk")
}
