//! The boundary: one record per partition that names the last trimmed chunk. It only grows and is never deleted.
//!
//! ```text
//! version 1 | partition u32 | incarnation u32 | chunk u64 | id 16 | end offset u64 | clock i64 | time i64
//!   | deleted u64 | crc32
//! ```

use crate::chunk::Link;
use crate::codec::{self, corrupt};
use bytes::Bytes;
use nacre_types::{LogIncarnation, Offset, PartitionId, Result};

#[cfg(test)]
mod tests;

const WHAT: &str = "log boundary";
const VERSION: u8 = 1;

/// At or below chunk `trimmed.number` nothing is known: a chunk of such a name may be a sleeper's, and its absence says
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Boundary {
    /// The end of the last trimmed chunk: with it an appender goes on where the whole log was trimmed.
    pub(crate) trimmed: Link,
    /// Chunks up to this one were deleted when the record was written: where deleting need not begin again. A hint.
    pub(crate) deleted: u64,
}

impl Boundary {
    /// Nothing was trimmed yet.
    pub(crate) const NONE: Self = Self { trimmed: Link::START, deleted: 0 };

    pub(crate) fn encode(&self, partition: PartitionId, incarnation: LogIncarnation) -> Bytes {
        let mut out = Vec::with_capacity(80);
        out.push(VERSION);
        out.extend_from_slice(&partition.0.to_le_bytes());
        out.extend_from_slice(&incarnation.0.to_le_bytes());
        out.extend_from_slice(&self.trimmed.number.to_le_bytes());
        out.extend_from_slice(&self.trimmed.id.to_be_bytes());
        out.extend_from_slice(&self.trimmed.end.0.to_le_bytes());
        out.extend_from_slice(&self.trimmed.clock.to_le_bytes());
        out.extend_from_slice(&self.trimmed.time.to_le_bytes());
        out.extend_from_slice(&self.deleted.to_le_bytes());
        codec::seal(&mut out, 0);
        out.into()
    }

    pub(crate) fn decode(bytes: &Bytes, partition: PartitionId, incarnation: LogIncarnation) -> Result<Self> {
        let mut reader = codec::unseal(WHAT, VERSION, bytes)?;
        let whose = (PartitionId(reader.get_u32_le()?), LogIncarnation(reader.get_u32_le()?));
        if whose != (partition, incarnation) {
            return Err(corrupt(
                WHAT,
                format_args!(
                    "it is of partition {} of log {}, expected partition {partition} of log {incarnation}",
                    whose.0, whose.1
                ),
            ));
        }
        let trimmed = Link {
            number: reader.get_u64_le()?,
            id: reader.get_u128()?,
            end: Offset(reader.get_u64_le()?),
            clock: reader.get_i64_le()?,
            time: reader.get_i64_le()?,
        };
        let deleted = reader.get_u64_le()?;
        reader.finish()?;
        Ok(Self { trimmed, deleted })
    }
}
