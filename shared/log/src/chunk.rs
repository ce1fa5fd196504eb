//! A chunk: the records that one put appended to a partition, and what ties them to the chunk before.
//!
//! ```text
//! version 1 | partition u32 | incarnation u32 | number u64 | base offset u64 | first clock i64 | time i64
//!   | predecessor's id 16 | own id 16 | record count u32 | count × { length u32, record } | crc32
//! ```
//! The versions of its rows are not stored: they are computed from `first clock` and `time`, record by record, and that
//! computation ([`next_version`]) is part of the format.

use crate::codec::{self, corrupt};
use crate::log::{Appended, Stamped};
use crate::record::{self, EncodedRecord, MIN_RECORD_BYTES, Record};
use bytes::Bytes;
use nacre_types::{LogIncarnation, Offset, PartitionId, Result, WriteId};
use std::ops::Range;

#[cfg(test)]
mod tests;

const WHAT: &str = "log chunk";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 4 + 4 + 8 + 8 + 8 + 8 + 16 + 16 + 4;

/// What the log gives the rows without a version of a record that is appended at `time` after a clock: the order of
/// such rows is the log's order, whatever the machines' clocks say.
pub(crate) fn next_version(time: i64, clock: i64) -> i64 {
    time.max(clock.saturating_add(1))
}

/// What the chunk after `number` builds on: the end of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    /// Of the chunk that ends here; 0 before the first.
    pub(crate) number: u64,
    pub(crate) id: u128,
    pub(crate) end: Offset,
    /// The last version given so far.
    pub(crate) clock: i64,
    pub(crate) time: i64,
}

impl Link {
    /// Before the first chunk.
    pub(crate) const START: Self = Self { number: 0, id: 0, end: Offset(0), clock: 0, time: 0 };
}

/// A chunk whose bytes were checked, or that was built here.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) partition: PartitionId,
    pub(crate) incarnation: LogIncarnation,
    pub(crate) base: Offset,
    pub(crate) first_clock: i64,
    pub(crate) predecessor: u128,
    /// Number, id and time of this chunk; offset and clock after its last record.
    pub(crate) link: Link,
    pub(crate) bytes: Bytes,
    records: Vec<Range<u32>>,
}

impl Chunk {
    /// Checks version, checksum and every length. The records themselves are checked when they are decoded.
    pub(crate) fn decode(bytes: Bytes) -> Result<Self> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(corrupt(WHAT, format_args!("{} bytes", bytes.len())));
        }
        let mut reader = codec::unseal(WHAT, VERSION, &bytes)?;
        let partition = PartitionId(reader.get_u32_le()?);
        let incarnation = LogIncarnation(reader.get_u32_le()?);
        let number = reader.get_u64_le()?;
        let base = Offset(reader.get_u64_le()?);
        let first_clock = reader.get_i64_le()?;
        let time = reader.get_i64_le()?;
        let predecessor = reader.get_u128()?;
        let id = reader.get_u128()?;
        let count = reader.get_u32_le()? as usize;
        if count == 0 || count > reader.remaining() / (4 + MIN_RECORD_BYTES) {
            return Err(corrupt(WHAT, format_args!("{count} records in {} bytes", reader.remaining())));
        }
        let mut records = Vec::with_capacity(count);
        let (mut at, mut clock) = (HEADER_BYTES, first_clock);
        for _ in 0..count {
            let len = reader.get_u32_le()? as usize;
            let record = reader.slice(len)?;
            if len < MIN_RECORD_BYTES {
                return Err(corrupt(WHAT, format_args!("a record of {len} bytes")));
            }
            if record::gives_version(record) {
                clock = next_version(time, clock);
            }
            at += 4;
            records.push(at as u32..(at + len) as u32);
            at += len;
        }
        reader.finish()?;
        let Some(end) = base.0.checked_add(count as u64).map(Offset) else {
            return Err(corrupt(WHAT, format_args!("base offset {base}")));
        };
        let link = Link { number, id, end, clock, time };
        Ok(Self { partition, incarnation, base, first_clock, predecessor, link, bytes, records })
    }

    /// Checks that this chunk is the one after `link`.
    pub(crate) fn check_follows(&self, link: &Link) -> Result<()> {
        let fits = self.link.number == link.number + 1
            && self.predecessor == link.id
            && self.base == link.end
            && self.first_clock == link.clock
            && self.link.time >= link.time;
        if fits {
            return Ok(());
        }
        Err(corrupt(
            WHAT,
            format_args!(
                "chunk {} of partition {} does not follow chunk {}: it names predecessor {:032x}, offset {}, clock {} \
                 where {:032x}, {}, {} stand; the log was tampered with or restored in part",
                self.link.number,
                self.partition,
                link.number,
                self.predecessor,
                self.base,
                self.first_clock,
                link.id,
                link.end,
                link.clock,
            ),
        )
        .with_code("log-chain"))
    }

    /// How many records.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Offset, clock before it, and bytes of every record.
    fn walk(&self) -> impl Iterator<Item = (Appended, i64, Range<usize>)> + '_ {
        let mut clock = self.first_clock;
        self.records.iter().enumerate().map(move |(index, range)| {
            let range = range.start as usize..range.end as usize;
            let before = clock;
            let version = next_version(self.link.time, clock);
            if self.bytes.get(range.clone()).is_some_and(record::gives_version) {
                clock = version;
            }
            let offset = Offset(self.base.0 + index as u64);
            (Appended { offset, version: Some(version), append_time: self.link.time }, before, range)
        })
    }

    /// The places of its records, in order.
    pub(crate) fn places(&self) -> impl Iterator<Item = Appended> + '_ {
        self.walk().map(|(appended, _, _)| appended)
    }

    /// The places and write ids of its records, in order.
    pub(crate) fn write_ids(&self) -> impl Iterator<Item = (WriteId, Appended)> + '_ {
        self.walk().map(|(appended, _, range)| {
            (record::write_id(self.bytes.get(range).unwrap_or_default()), appended)
        })
    }

    /// The clock before the record at `offset`; `None` outside of the chunk.
    pub(crate) fn clock_at(&self, offset: Offset) -> Option<i64> {
        if offset == self.link.end {
            return Some(self.link.clock);
        }
        self.walk().find(|(appended, _, _)| appended.offset == offset).map(|(_, clock, _)| clock)
    }

    /// Decodes the records from `from` on.
    pub(crate) fn stamped(&self, from: Offset) -> Result<Vec<Stamped>> {
        let left = usize::try_from(self.link.end.0.saturating_sub(from.0)).unwrap_or(usize::MAX);
        let mut out = Vec::with_capacity(left.min(self.len()));
        for (Appended { offset, version, append_time }, _, range) in self.walk() {
            let Some(version) = version.filter(|_| offset >= from) else {
                continue;
            };
            let record = Record::decode(self.bytes.slice(range)).map_err(|error| {
                error.context(format_args!("chunk {}, record {offset}", self.link.number))
            })?;
            out.push(Stamped { offset, append_time, version, record });
        }
        Ok(out)
    }
}

/// Builds the chunk after a link. A record's bytes are copied once, into it.
pub(crate) struct ChunkBuilder {
    out: Vec<u8>,
    records: Vec<Range<u32>>,
    partition: PartitionId,
    incarnation: LogIncarnation,
    before: Link,
    link: Link,
}

impl ChunkBuilder {
    pub(crate) fn new(
        partition: PartitionId,
        incarnation: LogIncarnation,
        before: Link,
        id: u128,
        now_micros: i64,
        record_bytes: usize,
        count: usize,
    ) -> Self {
        let time = now_micros.max(before.time);
        let mut out = Vec::with_capacity(HEADER_BYTES + record_bytes + 4 * count + codec::CRC_BYTES);
        out.push(VERSION);
        out.extend_from_slice(&partition.0.to_le_bytes());
        out.extend_from_slice(&incarnation.0.to_le_bytes());
        out.extend_from_slice(&(before.number + 1).to_le_bytes());
        out.extend_from_slice(&before.end.0.to_le_bytes());
        out.extend_from_slice(&before.clock.to_le_bytes());
        out.extend_from_slice(&time.to_le_bytes());
        out.extend_from_slice(&before.id.to_be_bytes());
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        debug_assert_eq!(out.len(), HEADER_BYTES);
        let link = Link { number: before.number + 1, id, end: before.end, clock: before.clock, time };
        Self { out, records: Vec::with_capacity(count), partition, incarnation, before, link }
    }

    pub(crate) fn push(&mut self, record: &EncodedRecord) {
        // Queues and records are bounded far below 4 GiB.
        self.out.extend_from_slice(&(record.len() as u32).to_le_bytes());
        let from = self.out.len() as u32;
        self.out.extend_from_slice(record.as_bytes());
        self.records.push(from..self.out.len() as u32);
        if record.gives_version() {
            self.link.clock = next_version(self.link.time, self.link.clock);
        }
        self.link.end = self.link.end.next();
    }

    pub(crate) fn finish(mut self) -> Chunk {
        if let Some(count) = self.out.get_mut(HEADER_BYTES - 4..HEADER_BYTES) {
            count.copy_from_slice(&(self.records.len() as u32).to_le_bytes());
        }
        codec::seal(&mut self.out, 0);
        Chunk {
            partition: self.partition,
            incarnation: self.incarnation,
            base: self.before.end,
            first_clock: self.before.clock,
            predecessor: self.before.id,
            link: self.link,
            bytes: self.out.into(),
            records: self.records,
        }
    }
}
