//! What a store's identity says of a log that lost records with an operator's consent, and was taken up again.
//!
//! Offsets of a log never go backwards: manifests, ranks and session tokens know them. A topic of Kafka that was made again
//! counts from 0. So it is taken up with a *base* per partition, which is added to the topic's own offsets and lies above all
//! that anybody may know of the old one. A stretch that no reader gets past in a topic that is still the same is a *hole*: all
//! readers pass over it alike, or their versions would differ; that is why it stands here, and is not each one's own judgement.
//!
//! While a resume is under way its plan stands here too, and no process starts.

use crate::StoreIdentity;
use crate::frame::{FrameReader, FrameWriter};
use bytes::Bytes;
use nacre_types::{Error, LogIncarnation, Offset, PartitionId, Result};

const VERSION: u8 = 1;
const WHAT: &str = "a resume of the log";
const CODE: &str = "log-resume-corrupt";
/// More partitions or holes than this are nobody's.
const MOST: u32 = 1 << 20;

/// A stretch of a partition that readers pass over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHole {
    /// Of which partition.
    pub partition: PartitionId,
    /// Its first offset, as the log counts.
    pub from: Offset,
    /// The offset after its last.
    pub to: Offset,
}

/// How the offsets of the log follow from those of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogMending {
    /// What is added to the topic's own offsets, by partition; 0 for those that are not named.
    pub bases: Vec<u64>,
    /// What readers pass over.
    pub holes: Vec<LogHole>,
}

impl LogMending {
    /// Whether there is nothing in it.
    pub fn is_none(&self) -> bool {
        self.bases.is_empty() && self.holes.is_empty()
    }

    /// What is added to the topic's own offsets of a partition.
    pub fn base(&self, partition: PartitionId) -> u64 {
        let index = usize::try_from(partition.0).unwrap_or(usize::MAX);
        self.bases.get(index).copied().unwrap_or(0)
    }

    /// The first offset at or after `offset` that lies in no hole.
    pub fn past(&self, partition: PartitionId, offset: Offset) -> Offset {
        let mut at = offset;
        while let Some(hole) =
            self.holes.iter().find(|hole| hole.partition == partition && hole.from <= at && at < hole.to)
        {
            at = hole.to;
        }
        at
    }
}

/// Where a partition goes on, and what was given up for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumedPartition {
    /// Which one.
    pub partition: PartitionId,
    /// Readers start here, as the log counts from now on.
    pub start: Offset,
    /// The clock there.
    pub clock: i64,
    /// The first offset that was given up, as the log counted before. `lost_from == lost_to`: none was.
    pub lost_from: Offset,
    /// The offset after the last; `None` = all that was there, and nobody knows how much that was.
    pub lost_to: Option<Offset>,
    /// What had happened; empty where nothing had.
    pub why: String,
}

/// A resume of the log: decided once, when the identity takes it; carried out, by whoever it may be, until the identity
/// drops it; kept as a record for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogResume {
    /// The log's incarnation from then on.
    pub incarnation: LogIncarnation,
    /// When it was decided, microseconds since the epoch, by the clock of whoever did.
    pub at_micros: i64,
    /// Who said so.
    pub by: String,
    /// What the identity had called the log.
    pub log_before: String,
    /// Every partition of the log.
    pub partitions: Vec<ResumedPartition>,
}

impl LogResume {
    /// The stored bytes: incarnation 4, time 8, who, which log before, and of each partition (count 4) its number 4, start
    /// 8, clock 8, lost from 8, whether it is known to where 4, lost to 8, why.
    pub fn encode(&self) -> Bytes {
        let frame = FrameWriter::new(VERSION, 64 + self.partitions.len() * 64)
            .u32(self.incarnation.0)
            .u64(self.at_micros.cast_unsigned())
            .bytes(self.by.as_bytes())
            .bytes(self.log_before.as_bytes())
            .u32(u32::try_from(self.partitions.len()).unwrap_or(u32::MAX));
        let write = |frame: FrameWriter, one: &ResumedPartition| {
            frame
                .u32(one.partition.0)
                .u64(one.start.0)
                .u64(one.clock.cast_unsigned())
                .u64(one.lost_from.0)
                .u32(u32::from(one.lost_to.is_some()))
                .u64(one.lost_to.unwrap_or_default().0)
                .bytes(one.why.as_bytes())
        };
        self.partitions.iter().fold(frame, write).finish()
    }

    /// From the stored bytes.
    ///
    /// # Errors
    /// `Corrupt` (`log-resume-corrupt`, `newer-format`).
    pub fn decode(bytes: Bytes) -> Result<Self> {
        let mut frame = FrameReader::open(bytes, VERSION, WHAT, CODE)?;
        let incarnation = LogIncarnation(frame.u32()?);
        let at_micros = frame.u64()?.cast_signed();
        let (by, log_before) = (frame.text()?, frame.text()?);
        let count = counted(&mut frame)?;
        let mut partitions = Vec::new();
        for _ in 0..count {
            let (partition, start) = (PartitionId(frame.u32()?), Offset(frame.u64()?));
            let (clock, lost_from) = (frame.u64()?.cast_signed(), Offset(frame.u64()?));
            let is_known = frame.u32()? != 0;
            let lost_to = Offset(frame.u64()?);
            let why = frame.text()?;
            let lost_to = is_known.then_some(lost_to);
            partitions.push(ResumedPartition { partition, start, clock, lost_from, lost_to, why });
        }
        frame.finish()?;
        Ok(Self { incarnation, at_micros, by, log_before, partitions })
    }
}

fn counted(frame: &mut FrameReader) -> Result<u32> {
    let count = frame.u32()?;
    if count > MOST { Err(frame.corrupt("it counts more than there can be")) } else { Ok(count) }
}

/// What an identity has besides, from its second version on: bases (count 4, 8 each), holes (count 4; partition 4, from 8,
/// to 8 each), and the plan of a resume that is under way (empty = none).
pub(crate) fn write(frame: FrameWriter, mending: &LogMending, resume: Option<&LogResume>) -> FrameWriter {
    let frame = frame.u32(u32::try_from(mending.bases.len()).unwrap_or(u32::MAX));
    let frame = mending.bases.iter().fold(frame, |frame, base| frame.u64(*base));
    let frame = frame.u32(u32::try_from(mending.holes.len()).unwrap_or(u32::MAX));
    let hole =
        |frame: FrameWriter, hole: &LogHole| frame.u32(hole.partition.0).u64(hole.from.0).u64(hole.to.0);
    let frame = mending.holes.iter().fold(frame, hole);
    frame.bytes(&resume.map(LogResume::encode).unwrap_or_default())
}

/// The inverse of [`write`].
pub(crate) fn read(frame: &mut FrameReader) -> Result<(LogMending, Option<LogResume>)> {
    let mut mending = LogMending::default();
    for _ in 0..counted(frame)? {
        mending.bases.push(frame.u64()?);
    }
    for _ in 0..counted(frame)? {
        let (partition, from, to) = (PartitionId(frame.u32()?), Offset(frame.u64()?), Offset(frame.u64()?));
        if from >= to {
            return Err(frame.corrupt("a hole of its log ends before it begins"));
        }
        mending.holes.push(LogHole { partition, from, to });
    }
    let plan = frame.bytes()?;
    let resume = if plan.is_empty() { None } else { Some(LogResume::decode(plan)?) };
    Ok((mending, resume))
}

impl StoreIdentity {
    /// Refuses a store whose log is being taken up again: until that is finished, some partitions have the old start and
    /// some the new one.
    ///
    /// # Errors
    /// `Conflict` (`log-resume-unfinished`).
    pub fn check_resumed(&self) -> Result<()> {
        let Some(resume) = &self.resume else { return Ok(()) };
        Err(Error::conflict(format!(
            "nacre log resume --accept-loss was begun on store {} by {:?} and is not finished; run it again: it goes on \
             where it was",
            self.store_id, resume.by
        ))
        .with_code("log-resume-unfinished"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_holes_is_passed_over() {
        let hole = |partition, from, to| LogHole {
            partition: PartitionId(partition),
            from: Offset(from),
            to: Offset(to),
        };
        let mending = LogMending { bases: vec![7], holes: vec![hole(0, 7, 9), hole(0, 3, 5), hole(0, 5, 6)] };
        let past = |partition, at| mending.past(PartitionId(partition), Offset(at)).0;
        assert_eq!([2, 3, 4, 5, 6, 7, 8, 9].map(|at| past(0, at)), [2, 6, 6, 6, 6, 9, 9, 9]);
        assert_eq!(past(1, 4), 4, "of another partition");
        assert_eq!([0, 1].map(|p| mending.base(PartitionId(p))), [7, 0]);
    }
}
