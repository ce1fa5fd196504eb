//! The bytes of each kind of change. The ordinals are for ever.

use super::parts::{
    read_drops, read_goal, read_job_kind, read_mode, read_offsets, read_segments, read_shards, read_starts,
    write_drops, write_goal, write_job_kind, write_mode, write_offsets, write_segments, write_shards,
    write_starts,
};
use super::settings::{read_settings, write_settings};
use super::wire::{In, Out};
use crate::{Change, Compact, DeclareSource, Flush, OpenLoad, PrepareLoad, SetSettings, SplitShard};
use nacre_types::{Generation, JobId, LoadId, Offset, PartitionId, SegmentId, ShardId};

const CREATE_TABLE: u64 = 1;
const SET_SETTINGS: u64 = 2;
const FLUSH: u64 = 3;
const OPEN_LOAD: u64 = 4;
const PIN_LOAD: u64 = 5;
const PREPARE_LOAD: u64 = 6;
const COMMIT_LOAD: u64 = 7;
const FAIL_LOAD: u64 = 8;
const CANCEL_LOAD: u64 = 9;
const REVERT_LOAD: u64 = 10;
const SEAL_LOAD: u64 = 11;
const FORGET_LOAD: u64 = 12;
const OPEN_JOB: u64 = 13;
const CLOSE_JOB: u64 = 14;
const COMPACT: u64 = 15;
const EXPIRE: u64 = 16;
const DROP_FLOOR: u64 = 17;
const SPLIT_SHARD: u64 = 18;
const DROP_TABLE: u64 = 19;
const UNDROP_TABLE: u64 = 20;
const RAISE_EPOCH: u64 = 21;
const DECLARE_SOURCE: u64 = 31;
const GROW_SOURCE: u64 = 32;
const REMOVE_SOURCE: u64 = 33;
// Reserved, not written by this program: 22 take a snapshot, 23 release a snapshot, 24 pin for a clone, 25 unpin,
// 26 merge shards, 27 assign partitions to a table without rows, 28 close a range for a move, 29 open it with a new
// generation, 30 purge a dropped table.

/// The ordinal of a change's kind.
pub(super) fn ordinal(change: &Change) -> u64 {
    match change {
        Change::CreateTable { .. } => CREATE_TABLE,
        Change::SetSettings(_) => SET_SETTINGS,
        Change::Flush(_) => FLUSH,
        Change::OpenLoad(_) => OPEN_LOAD,
        Change::PinLoad { .. } => PIN_LOAD,
        Change::PrepareLoad(_) => PREPARE_LOAD,
        Change::CommitLoad { .. } => COMMIT_LOAD,
        Change::FailLoad { .. } => FAIL_LOAD,
        Change::CancelLoad { .. } => CANCEL_LOAD,
        Change::RevertLoad { .. } => REVERT_LOAD,
        Change::SealLoad { .. } => SEAL_LOAD,
        Change::ForgetLoad { .. } => FORGET_LOAD,
        Change::OpenJob { .. } => OPEN_JOB,
        Change::CloseJob { .. } => CLOSE_JOB,
        Change::Compact(_) => COMPACT,
        Change::Expire { .. } => EXPIRE,
        Change::DropFloor { .. } => DROP_FLOOR,
        Change::SplitShard(_) => SPLIT_SHARD,
        Change::DropTable => DROP_TABLE,
        Change::UndropTable => UNDROP_TABLE,
        Change::RaiseEpoch { .. } => RAISE_EPOCH,
        Change::DeclareSource(_) => DECLARE_SOURCE,
        Change::GrowSource { .. } => GROW_SOURCE,
        Change::RemoveSource => REMOVE_SOURCE,
    }
}

pub(super) fn write(out: &mut Out, change: &Change) {
    match change {
        Change::CreateTable { settings, shards } => {
            write_settings(out, settings);
            write_shards(out, shards);
        }
        Change::SetSettings(SetSettings { settings, log_time_micros, lateness_from }) => {
            write_settings(out, settings);
            out.zigzag(*log_time_micros);
            write_offsets(out, lateness_from.iter().map(|(partition, offset)| (partition, offset)));
        }
        Change::Flush(flush) => {
            out.varint(flush.partition.0.into());
            out.varint(flush.generation.0.into());
            out.varint(flush.from.0);
            out.varint(flush.to.0);
            write_segments(out, &flush.segments);
            out.option(flush.drops.as_ref(), write_drops);
        }
        Change::OpenLoad(open) => {
            out.u128(open.load.0);
            out.u128(open.job.0);
            write_mode(out, open.mode);
            out.option(open.version, Out::zigzag);
            out.zigzag(open.begun_at_micros);
            out.option(open.idempotency, Out::u128);
            out.u128(open.body_hash);
            out.bytes(&open.body);
        }
        Change::PinLoad { load, files_path, goal } => {
            out.u128(load.0);
            out.bytes(files_path.as_bytes());
            write_goal(out, *goal);
        }
        Change::PrepareLoad(prepare) => {
            out.u128(prepare.load.0);
            out.u128(prepare.job.0);
            write_segments(out, &prepare.segments);
            out.varint(prepare.rows_hidden);
            write_text(out, prepare.report_path.as_deref());
        }
        Change::CommitLoad { load, insist } => {
            out.u128(load.0);
            out.bool(*insist);
        }
        Change::FailLoad { load, reason, report_path } => {
            out.u128(load.0);
            out.bytes(reason.as_bytes());
            write_text(out, report_path.as_deref());
        }
        Change::CancelLoad { load, reason } | Change::RevertLoad { load, reason } => {
            out.u128(load.0);
            out.bytes(reason.as_bytes());
        }
        Change::SealLoad { load } | Change::ForgetLoad { load } | Change::DropFloor { load } => {
            out.u128(load.0)
        }
        Change::OpenJob { job, kind } => {
            out.u128(job.0);
            write_job_kind(out, *kind);
        }
        Change::CloseJob { job } => out.u128(job.0),
        Change::Compact(compact) => {
            out.u128(compact.job.0);
            write_ids(out, &compact.inputs);
            write_segments(out, &compact.outputs);
            out.option(compact.drops.as_ref(), write_drops);
        }
        Change::Expire { segments, drops } => {
            write_ids(out, segments);
            write_drops(out, drops);
        }
        Change::SplitShard(split) => {
            out.varint(split.shard.0.into());
            out.bytes(&split.at);
            out.varint(split.new.0.into());
        }
        Change::DropTable | Change::UndropTable => {}
        Change::RaiseEpoch { epoch } => out.varint(*epoch),
        Change::DeclareSource(declare) => {
            out.bytes(&declare.declaration);
            out.u128(declare.topic);
            out.option(declare.starts.as_deref(), write_starts);
        }
        Change::GrowSource { starts } => write_starts(out, starts),
        Change::RemoveSource => {}
    }
}

/// `None` for an ordinal that this program does not know.
pub(super) fn read(ordinal: u64, input: &mut In<'_>) -> Option<Change> {
    Some(match ordinal {
        CREATE_TABLE => Change::CreateTable { settings: read_settings(input), shards: read_shards(input) },
        SET_SETTINGS => Change::SetSettings(SetSettings {
            settings: read_settings(input),
            log_time_micros: input.zigzag(),
            lateness_from: read_offsets(input),
        }),
        FLUSH => Change::Flush(Flush {
            partition: PartitionId(input.number()),
            generation: Generation(input.number()),
            from: Offset(input.varint()),
            to: Offset(input.varint()),
            segments: read_segments(input),
            drops: input.option(read_drops),
        }),
        OPEN_LOAD => Change::OpenLoad(OpenLoad {
            load: LoadId(input.u128()),
            job: JobId(input.u128()),
            mode: read_mode(input),
            version: input.option(In::zigzag),
            begun_at_micros: input.zigzag(),
            idempotency: input.option(In::u128),
            body_hash: input.u128(),
            body: input.shared(),
        }),
        PIN_LOAD => {
            Change::PinLoad { load: LoadId(input.u128()), files_path: input.text(), goal: read_goal(input) }
        }
        PREPARE_LOAD => Change::PrepareLoad(PrepareLoad {
            load: LoadId(input.u128()),
            job: JobId(input.u128()),
            segments: read_segments(input),
            rows_hidden: input.varint(),
            report_path: input.option(In::text),
        }),
        COMMIT_LOAD => Change::CommitLoad { load: LoadId(input.u128()), insist: input.bool() },
        FAIL_LOAD => Change::FailLoad {
            load: LoadId(input.u128()),
            reason: input.text(),
            report_path: input.option(In::text),
        },
        CANCEL_LOAD => Change::CancelLoad { load: LoadId(input.u128()), reason: input.text() },
        REVERT_LOAD => Change::RevertLoad { load: LoadId(input.u128()), reason: input.text() },
        SEAL_LOAD => Change::SealLoad { load: LoadId(input.u128()) },
        FORGET_LOAD => Change::ForgetLoad { load: LoadId(input.u128()) },
        OPEN_JOB => Change::OpenJob { job: JobId(input.u128()), kind: read_job_kind(input) },
        CLOSE_JOB => Change::CloseJob { job: JobId(input.u128()) },
        COMPACT => Change::Compact(Compact {
            job: JobId(input.u128()),
            inputs: read_ids(input),
            outputs: read_segments(input),
            drops: input.option(read_drops),
        }),
        EXPIRE => Change::Expire { segments: read_ids(input), drops: read_drops(input) },
        DROP_FLOOR => Change::DropFloor { load: LoadId(input.u128()) },
        SPLIT_SHARD => Change::SplitShard(SplitShard {
            shard: ShardId(input.number()),
            at: input.shared(),
            new: ShardId(input.number()),
        }),
        DROP_TABLE => Change::DropTable,
        UNDROP_TABLE => Change::UndropTable,
        RAISE_EPOCH => Change::RaiseEpoch { epoch: input.varint() },
        DECLARE_SOURCE => Change::DeclareSource(DeclareSource {
            declaration: input.shared(),
            topic: input.u128(),
            starts: input.option(read_starts),
        }),
        GROW_SOURCE => Change::GrowSource { starts: read_starts(input) },
        REMOVE_SOURCE => Change::RemoveSource,
        _ => return None,
    })
}

fn write_text(out: &mut Out, text: Option<&str>) {
    out.option(text, |out, text| out.bytes(text.as_bytes()));
}

fn write_ids(out: &mut Out, ids: &[SegmentId]) {
    out.len(ids.len());
    for id in ids {
        out.u128(id.0);
    }
}

fn read_ids(input: &mut In<'_>) -> Vec<SegmentId> {
    input.list(16, |input| SegmentId(input.u128()))
}
