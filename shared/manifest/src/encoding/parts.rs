//! Parts that edits and snapshots share.

use super::wire::{In, Out};
use crate::segments::block::{self, BLOCK_SEGMENTS, Block};
use crate::{DropGuard, JobKind, LoadGoal, LoadMode, LoadState, Segment, Shard};
use nacre_types::{Generation, Offset, PartitionId, ShardId};

/// Two-way table of ordinals; a number that is not in it fails the reader.
macro_rules! ordinals {
    ($write:ident, $read:ident, $kind:ty, $($variant:ident = $number:literal),+ $(,)?) => {
        pub(super) fn $write(out: &mut Out, kind: $kind) {
            out.u8(match kind { $(<$kind>::$variant => $number),+ });
        }
        pub(super) fn $read(input: &mut In<'_>) -> $kind {
            match input.u8() {
                $($number => <$kind>::$variant,)+
                _ => {
                    input.fail();
                    [$(<$kind>::$variant),+][0]
                }
            }
        }
    };
}

ordinals!(write_mode, read_mode, LoadMode, Merge = 0, Replace = 1);
ordinals!(write_goal, read_goal, LoadGoal, Prepare = 0, Commit = 1);
ordinals!(write_job_kind, read_job_kind, JobKind, Compaction = 0, Expiry = 1, Erasure = 2);
ordinals!(
    write_state,
    read_state,
    LoadState,
    Open = 0,
    Pinned = 1,
    Prepared = 2,
    Committed = 3,
    Failed = 4,
    Cancelled = 5,
    Reverted = 6,
);

pub(super) fn write_segments(out: &mut Out, segments: &[Segment]) {
    out.len(segments.len().div_ceil(BLOCK_SEGMENTS));
    for chunk in segments.chunks(BLOCK_SEGMENTS) {
        out.bytes(&block::encode(chunk));
    }
}

pub(super) fn read_segments(input: &mut In<'_>) -> Vec<Segment> {
    let mut segments = Vec::new();
    for block in input.list(1, read_block) {
        segments.extend(block.segments().map(|segment| segment.to_segment()));
    }
    segments
}

pub(super) fn read_block(input: &mut In<'_>) -> Block {
    Block::parse(input.bytes()).unwrap_or_else(|| {
        input.fail();
        Block::default()
    })
}

pub(super) fn write_drops(out: &mut Out, drops: &DropGuard) {
    out.zigzag(drops.now_micros);
    out.varint(drops.settings);
    out.option(drops.late_below, Out::zigzag);
}

pub(super) fn read_drops(input: &mut In<'_>) -> DropGuard {
    DropGuard { now_micros: input.zigzag(), settings: input.varint(), late_below: input.option(In::zigzag) }
}

pub(super) fn write_shards(out: &mut Out, shards: &[Shard]) {
    out.len(shards.len());
    for shard in shards {
        out.varint(shard.id.0.into());
        out.bytes(&shard.start);
        out.varint(shard.partition.0.into());
        out.varint(shard.generation.0.into());
    }
}

pub(super) fn read_shards(input: &mut In<'_>) -> Vec<Shard> {
    input.list(4, |input| Shard {
        id: ShardId(input.number()),
        start: input.shared(),
        partition: PartitionId(input.number()),
        generation: Generation(input.number()),
    })
}

pub(super) fn write_offsets<'a>(
    out: &mut Out,
    offsets: impl ExactSizeIterator<Item = (&'a PartitionId, &'a Offset)>,
) {
    out.len(offsets.len());
    for (partition, offset) in offsets {
        out.varint(partition.0.into());
        out.varint(offset.0);
    }
}

pub(super) fn read_offsets(input: &mut In<'_>) -> Vec<(PartitionId, Offset)> {
    input.list(2, |input| (PartitionId(input.number()), Offset(input.varint())))
}

pub(super) fn write_starts(out: &mut Out, starts: &[Offset]) {
    out.len(starts.len());
    for start in starts {
        out.varint(start.0);
    }
}

pub(super) fn read_starts(input: &mut In<'_>) -> Vec<Offset> {
    input.list(1, |input| Offset(input.varint()))
}
