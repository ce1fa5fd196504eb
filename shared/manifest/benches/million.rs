//! A table of a million segments: what it costs in memory, to open, to look a key up and to change.
//!
//! `cargo bench -p nacre-manifest` measures; under `cargo test`, or with `-- --test`, each runs once on fewer segments.
//! Asked for are 150 bytes a segment (asserted, and counted by the allocator) and a second to open.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use bytes::Bytes;
use criterion::{BatchSize, Criterion};
use nacre_manifest::*;
use nacre_types::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::time::Duration;

static LIVE: AtomicIsize = AtomicIsize::new(0);

struct Counting;

// SAFETY: every call is passed to the system's allocator as it is; counting is one atomic addition.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NOW: i64 = 1_700_000_000_000_000;

fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// A key of 16 bytes; random, and rising with `number`.
fn key(number: u64, count: u64) -> Bytes {
    let head = ((u128::from(number) << 64) / u128::from(count)) as u64;
    Bytes::from([head.to_be_bytes(), mix(number).to_be_bytes()].concat())
}

fn segment(number: u64, count: u64) -> Segment {
    let version = NOW + (mix(number) % 86_400_000_000) as i64;
    Segment {
        id: SegmentId((u128::from(mix(number)) << 64) | u128::from(mix(!number))),
        location: Location::Job(JobId(2)),
        index: IndexSpan { offset: 64_000_000 + mix(number) % 1_000_000, length: 180_000 },
        layer: Layer::Loaded(LoadId(1)),
        min_key: key(2 * number, 2 * count),
        max_key: key(2 * number + 1, 2 * count),
        min_version: version,
        max_version: version + 3_600_000_000,
        rows: 300_000,
        tombstones: number % 500,
        bytes: 64_300_000 + number,
        max_expires_at: None,
        with_place: false,
        exact_places: true,
    }
}

fn table(count: u64) -> Manifest {
    let load = LoadId(1);
    let changes = vec![
        Change::CreateTable {
            settings: TableSettings::default(),
            shards: vec![Shard::whole(PartitionId(0))],
        },
        Change::OpenLoad(OpenLoad {
            load,
            job: JobId(2),
            mode: LoadMode::Merge,
            version: Some(NOW),
            begun_at_micros: NOW,
            idempotency: None,
            body_hash: 0,
            body: Bytes::new(),
        }),
        Change::PinLoad { load, files_path: "files".into(), goal: LoadGoal::Commit },
        Change::PrepareLoad(PrepareLoad {
            load,
            job: JobId(2),
            segments: (0..count).map(|number| segment(number, count)).collect(),
            rows_hidden: 0,
            report_path: None,
        }),
        Change::CommitLoad { load, insist: false },
    ];
    let manifest = Manifest::empty(TableId(1)).apply(Seq(1), &Edit { changes, at_micros: NOW }).unwrap();
    // Fresh flushes lie over all of it.
    (0..4).fold(manifest, |manifest, number| {
        let wide = flush(&manifest, number, Bytes::from_static(&[0]), Bytes::from_static(&[0xFF; 16]));
        manifest.apply(manifest.seq().next(), &wide).unwrap()
    })
}

fn flush(manifest: &Manifest, number: u64, min_key: Bytes, max_key: Bytes) -> Edit {
    let partition = PartitionId(0);
    let from = manifest.covered(partition);
    let to = from.next();
    let streamed = StreamedSpan { partition, generation: Generation(0), from, to };
    let flushed = Segment {
        id: SegmentId(u128::from(mix(number ^ 0xF00D)) << 3),
        location: Location::Flush { partition, from },
        layer: Layer::Streamed(streamed),
        min_key,
        max_key,
        exact_places: false,
        ..segment(number, 1)
    };
    let flush =
        Flush { partition, generation: Generation(0), from, to, segments: vec![flushed], drops: None };
    Edit::one(Change::Flush(flush), NOW)
}

fn main() {
    let smoke = {
        let has = |flag: &str| std::env::args().any(|argument| argument == flag);
        has("--test") || !has("--bench")
    };
    let count: u64 = if smoke { 20_000 } else { 1_000_000 };
    let encoded = table(count).encode();
    let before = LIVE.load(Ordering::Relaxed);
    let manifest = Manifest::decode(&encoded).unwrap();
    let each = (LIVE.load(Ordering::Relaxed) - before) / count as isize;
    println!("{count} segments: {each} bytes each in memory, {} in a snapshot", encoded.len() as u64 / count);
    assert!(each <= 150, "a segment costs {each} bytes");

    let mut criterion =
        Criterion::default().sample_size(10).measurement_time(Duration::from_secs(5)).configure_from_args();
    criterion.bench_function("open a snapshot", |bencher| {
        bencher.iter(|| Manifest::decode(black_box(&encoded)).unwrap());
    });
    criterion.bench_function("write a snapshot", |bencher| bencher.iter(|| manifest.encode()));
    let mut at = 0;
    criterion.bench_function("segments of a key", |bencher| {
        bencher.iter(|| {
            at = mix(at + 1);
            let key = key(at % (2 * count), 2 * count);
            manifest.segments_for_key(&key).map(|segment| segment.rows()).sum::<u64>()
        });
    });
    criterion.bench_function("segment by id", |bencher| {
        bencher.iter(|| {
            at = mix(at + 1);
            manifest.segment(segment(at % count, count).id).unwrap()
        });
    });
    criterion.bench_function("apply a flush", |bencher| {
        bencher.iter_batched(
            || {
                at = mix(at + 1);
                let number = at % (count - 1);
                flush(&manifest, at, key(2 * number, 2 * count), key(2 * number + 2, 2 * count))
            },
            |edit| manifest.apply(manifest.seq().next(), &edit).unwrap(),
            BatchSize::SmallInput,
        );
    });
    criterion.final_summary();
}
