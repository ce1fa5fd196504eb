//! The bytes of a snapshot: "the manifest at seq n".
//!
//! A function of the state alone, so two processes that write the same snapshot write the same bytes under the same
//! name. The segments' blocks are cut anew, whatever the tree looks like, and become the leaves of the reader's tree as
//! they lie.
//!
//! ```text
//! snapshot = version  head  shards  offsets offsets  loads  floors  jobs  block*  source  crc
//!
//! version 1 has no source; version 2 is written for a table that has, or had, one
//! ```

use super::parts::{
    read_block, read_goal, read_job_kind, read_mode, read_offsets, read_shards, read_starts, read_state,
    write_goal, write_job_kind, write_mode, write_offsets, write_shards, write_starts, write_state,
};
use super::settings::{read_settings, write_settings};
use super::wire::{In, Out};
use super::{VERSION, WITH_SOURCE, newer};
use crate::segments::block::{self, BLOCK_SEGMENTS};
use crate::{Dropped, EditionFilter, Floor, Job, Load, Manifest, Segments, Source, Totals};
use bytes::Bytes;
use nacre_types::{Error, JobId, LoadId, PartitionId, Result, Seq, ShardId, TableId};
use std::sync::Arc;

impl Manifest {
    /// The bytes of a snapshot: a function of the state alone.
    pub fn encode(&self) -> Bytes {
        let mut out = Out(Vec::with_capacity(1024 + 100 * self.segment_count() as usize));
        let with_source = !self.source_covered.is_empty();
        out.u8(if with_source { WITH_SOURCE } else { VERSION });
        write_head(&mut out, self);
        write_shards(&mut out, &self.shards);
        write_offsets(&mut out, self.covered.iter());
        write_offsets(&mut out, self.lateness_from.iter());
        out.len(self.loads.len());
        for load in self.loads() {
            write_load(&mut out, load);
        }
        out.len(self.floors.len());
        for floor in self.floors.iter() {
            write_floor(&mut out, floor);
        }
        out.len(self.jobs.len());
        for job in self.jobs.iter() {
            out.u128(job.id.0);
            write_job_kind(&mut out, job.kind);
            out.varint(job.opened.0);
            out.zigzag(job.opened_at_micros);
        }
        write_blocks(&mut out, &self.segments);
        if with_source {
            out.option(self.source(), write_source);
            write_starts(&mut out, &self.source_covered);
        }
        out.sealed()
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// `Corrupt` (`manifest-corrupt`); `Corrupt` with code `newer-format` for a version that this program does not
    /// know.
    pub fn decode(bytes: &Bytes) -> Result<Self> {
        let corrupt = |what: &str| {
            Error::corrupt(format!("a manifest snapshot of {} bytes: {what}", bytes.len()))
                .with_code("manifest-corrupt")
        };
        let mut input = In::unsealed(bytes).ok_or_else(|| corrupt("the checksum does not match"))?;
        let with_source = match input.u8() {
            VERSION => false,
            WITH_SOURCE => true,
            0 => return Err(corrupt("format version 0 was never written")),
            version => return Err(newer(format_args!("format version {version} of a manifest snapshot"))),
        };
        let mut manifest = read_head(&mut input);
        manifest.shards = Arc::new(read_shards(&mut input));
        manifest.covered = Arc::new(read_offsets(&mut input).into_iter().collect());
        manifest.lateness_from = Arc::new(read_offsets(&mut input).into_iter().collect());
        manifest.loads = Arc::new(input.list(64, |input| Arc::new(read_load(input))));
        manifest.floors = Arc::new(input.list(20, read_floor));
        manifest.jobs = Arc::new(input.list(19, |input| Job {
            id: JobId(input.u128()),
            kind: read_job_kind(input),
            opened: Seq(input.varint()),
            opened_at_micros: input.zigzag(),
        }));
        let blocks = input.list(1, read_block);
        if with_source {
            manifest.source = input.option(read_source).map(Arc::new);
            manifest.source_covered = Arc::new(read_starts(&mut input));
        }
        if !input.is_done() {
            return Err(corrupt("it does not parse"));
        }
        manifest.segments =
            Segments::from_blocks(blocks).ok_or_else(|| corrupt("its segments are out of order"))?;
        manifest.current = Arc::new(EditionFilter::of(&manifest));
        Ok(manifest)
    }
}

fn write_head(out: &mut Out, manifest: &Manifest) {
    out.u128(manifest.table.0);
    for number in [manifest.seq.0, manifest.edition.0, manifest.epoch, manifest.restorable_from.0] {
        out.varint(number);
    }
    out.zigzag(manifest.at_micros);
    out.option(manifest.dropped, |out, dropped| {
        out.varint(dropped.seq.0);
        out.zigzag(dropped.at_micros);
    });
    out.varint(manifest.settings_number);
    out.varint(manifest.drops_since);
    write_settings(out, &manifest.settings);
    out.varint(manifest.next_shard.0.into());
    for moment in
        [manifest.expired_below, manifest.late_below, manifest.last_drop_now, manifest.late_dropped_below]
    {
        out.zigzag(moment);
    }
}

fn read_head(input: &mut In<'_>) -> Manifest {
    let mut manifest = Manifest::empty(TableId(input.u128()));
    manifest.seq = Seq(input.varint());
    manifest.edition = Seq(input.varint());
    manifest.epoch = input.varint();
    manifest.restorable_from = Seq(input.varint());
    manifest.at_micros = input.zigzag();
    manifest.dropped = input.option(|input| Dropped { seq: Seq(input.varint()), at_micros: input.zigzag() });
    manifest.settings_number = input.varint();
    manifest.drops_since = input.varint();
    manifest.settings = Arc::new(read_settings(input));
    manifest.next_shard = ShardId(input.number());
    manifest.expired_below = input.zigzag();
    manifest.late_below = input.zigzag();
    manifest.last_drop_now = input.zigzag();
    manifest.late_dropped_below = input.zigzag();
    manifest
}

fn write_load(out: &mut Out, load: &Load) {
    let text = |out: &mut Out, text: &Option<String>| {
        out.option(text.as_deref(), |out, text| out.bytes(text.as_bytes()));
    };
    out.u128(load.id.0);
    out.u128(load.job.0);
    write_mode(out, load.mode);
    out.option(load.version, Out::zigzag);
    out.zigzag(load.begun_at_micros);
    out.option(load.lateness_micros, Out::zigzag);
    out.zigzag(load.opened_at_micros);
    out.varint(load.opened.0);
    out.option(load.idempotency, Out::u128);
    out.u128(load.body_hash);
    out.bytes(&load.body);
    write_state(out, load.state);
    write_goal(out, load.goal);
    text(out, &load.reason);
    text(out, &load.files_path);
    text(out, &load.report_path);
    for number in [load.rows, load.tombstones, load.bytes, load.rows_hidden] {
        out.varint(number);
    }
    out.option(load.lowest_version, Out::zigzag);
    out.option(load.keys.as_ref(), |out, (min, max)| {
        out.bytes(min);
        out.bytes(max);
    });
    for number in [load.live.segments, load.live.rows, load.live.bytes] {
        out.varint(number);
    }
    out.option(load.commit, |out, seq| out.varint(seq.0));
    out.option(load.committed_at_micros, Out::zigzag);
    out.bool(load.sealed);
    out.option(load.reverted, |out, seq| out.varint(seq.0));
    out.option(load.reverted_at_micros, Out::zigzag);
}

fn read_load(input: &mut In<'_>) -> Load {
    Load {
        id: LoadId(input.u128()),
        job: JobId(input.u128()),
        mode: read_mode(input),
        version: input.option(In::zigzag),
        begun_at_micros: input.zigzag(),
        lateness_micros: input.option(In::zigzag),
        opened_at_micros: input.zigzag(),
        opened: Seq(input.varint()),
        idempotency: input.option(In::u128),
        body_hash: input.u128(),
        body: input.shared(),
        state: read_state(input),
        goal: read_goal(input),
        reason: input.option(In::text),
        files_path: input.option(In::text),
        report_path: input.option(In::text),
        rows: input.varint(),
        tombstones: input.varint(),
        bytes: input.varint(),
        rows_hidden: input.varint(),
        lowest_version: input.option(In::zigzag),
        keys: input.option(|input| (input.shared(), input.shared())),
        live: Totals { segments: input.varint(), rows: input.varint(), bytes: input.varint() },
        commit: input.option(|input| Seq(input.varint())),
        committed_at_micros: input.option(In::zigzag),
        sealed: input.bool(),
        reverted: input.option(|input| Seq(input.varint())),
        reverted_at_micros: input.option(In::zigzag),
    }
}

fn write_floor(out: &mut Out, floor: &Floor) {
    out.zigzag(floor.version);
    out.varint(floor.commit.0);
    out.u128(floor.load.0);
    out.bool(floor.sealed);
    out.option(floor.lowest_version, Out::zigzag);
}

fn read_floor(input: &mut In<'_>) -> Floor {
    Floor {
        version: input.zigzag(),
        commit: Seq(input.varint()),
        load: LoadId(input.u128()),
        sealed: input.bool(),
        lowest_version: input.option(In::zigzag),
    }
}

fn write_source(out: &mut Out, source: &Source) {
    out.varint(source.declared.0);
    out.bytes(&source.declaration);
    out.u128(source.topic);
    out.len(source.partitions.len());
    for partition in &source.partitions {
        out.varint(partition.0.into());
    }
}

fn read_source(input: &mut In<'_>) -> Source {
    Source {
        declared: Seq(input.varint()),
        declaration: input.shared(),
        topic: input.u128(),
        partitions: input.list(1, |input| PartitionId(input.number())),
    }
}

fn write_blocks(out: &mut Out, segments: &Segments) {
    let mut rest = segments.iter().map(|segment| segment.to_segment());
    let count = segments.totals().segments as usize;
    out.len(count.div_ceil(BLOCK_SEGMENTS));
    let mut chunk = Vec::with_capacity(BLOCK_SEGMENTS);
    for _ in 0..count.div_ceil(BLOCK_SEGMENTS) {
        chunk.clear();
        chunk.extend(rest.by_ref().take(BLOCK_SEGMENTS));
        out.bytes(&block::encode(&chunk));
    }
}
