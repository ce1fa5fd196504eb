//! Where a reader of a partition stands, and from where every reader starts.

use crate::codec::{self, corrupt};
use bytes::Bytes;
use nacre_types::{LogIncarnation, Offset, Result};

#[cfg(test)]
mod tests;

/// A place between two records of a partition: everything before `offset` was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPosition {
    /// Of which log; positions of another incarnation mean nothing.
    pub incarnation: LogIncarnation,
    /// Of the next record.
    pub offset: Offset,
    /// The last version that the log gave before it: what the versions after it are computed from.
    pub clock: i64,
    /// Number of the chunk that holds, or will hold, the record at `offset`. On Kafka, which has no
    /// chunks, always the first.
    pub chunk: u64,
}

impl LogPosition {
    /// Before the first record that was ever appended.
    pub fn start(incarnation: LogIncarnation) -> Self {
        Self { incarnation, offset: Offset(0), clock: 0, chunk: FIRST_CHUNK }
    }

    /// What orders positions: a later incarnation is later than everything of an earlier one.
    pub fn order(&self) -> (LogIncarnation, Offset) {
        (self.incarnation, self.offset)
    }
}

/// Chunks are numbered from 1: 0 is "none".
pub(crate) const FIRST_CHUNK: u64 = 1;

/// The record `flushed_through[p]`: every row before the position is covered by its table's manifest or lies, with its
/// rank, in the one object `carried`. It only grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlushedThrough {
    /// Where every reader starts.
    pub position: LogPosition,
    /// Path of the immutable object with the rows that are in no segment yet; `None` = there are none.
    pub carried: Option<String>,
}

const WHAT: &str = "flushed_through record";
const VERSION: u8 = 1;
/// Longest path of a carried object, in bytes.
const CARRIED_BYTES: usize = 1024;

impl FlushedThrough {
    /// Nothing was flushed yet.
    pub fn start(incarnation: LogIncarnation) -> Self {
        Self { position: LogPosition::start(incarnation), carried: None }
    }

    /// The later of two. `carried` belongs to its position and is never mixed; of equal positions `self` stays.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if other.position.order() > self.position.order() { other } else { self }
    }

    /// `version 1 | incarnation u32 | offset u64 | clock i64 | chunk u64 | path length u16 | path | crc32`, length 0 =
    /// nothing carried.
    pub fn encode(&self) -> Bytes {
        let carried = self.carried.as_deref().unwrap_or_default();
        let mut out = Vec::with_capacity(40 + carried.len());
        out.push(VERSION);
        out.extend_from_slice(&self.position.incarnation.0.to_le_bytes());
        out.extend_from_slice(&self.position.offset.0.to_le_bytes());
        out.extend_from_slice(&self.position.clock.to_le_bytes());
        out.extend_from_slice(&self.position.chunk.to_le_bytes());
        debug_assert!(carried.len() <= CARRIED_BYTES, "object paths are shorter");
        out.extend_from_slice(&(carried.len() as u16).to_le_bytes());
        out.extend_from_slice(carried.as_bytes());
        codec::seal(&mut out, 0);
        out.into()
    }

    /// The inverse of [`FlushedThrough::encode`].
    ///
    /// # Errors
    /// `Corrupt` (`log-corrupt`, `newer-format`).
    pub fn decode(bytes: &Bytes) -> Result<Self> {
        let mut reader = codec::unseal(WHAT, VERSION, bytes)?;
        let position = LogPosition {
            incarnation: LogIncarnation(reader.get_u32_le()?),
            offset: Offset(reader.get_u64_le()?),
            clock: reader.get_i64_le()?,
            chunk: reader.get_u64_le()?,
        };
        let len = usize::from(reader.get_u16_le()?);
        if len > CARRIED_BYTES {
            return Err(corrupt(WHAT, format_args!("a path of {len} bytes")));
        }
        let path = std::str::from_utf8(reader.slice(len)?)
            .map_err(|_| corrupt(WHAT, "the path of the carried object is not UTF-8"))?;
        let carried = (len > 0).then(|| path.to_owned());
        reader.finish()?;
        Ok(Self { position, carried })
    }
}
