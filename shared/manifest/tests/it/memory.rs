//! What a segment costs, counted by the allocator.

use crate::support::*;
use bytes::Bytes;
use nacre_manifest::*;
use nacre_types::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Counts what the thread has asked for and not given back.
struct Counting;

fn count(bytes: isize) {
    // A thread that ends may free after its counters are gone.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call is passed to the system's allocator as it is; counting touches only thread-local cells that need
// neither allocation nor a destructor.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that the result of `work` holds, and the most that were held meanwhile.
pub(crate) fn measured<T>(work: impl FnOnce() -> T) -> (T, isize, isize) {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    (result, LIVE.get() - before, PEAK.get() - before)
}

/// The `number`th of segments with disjoint key ranges and keys of 16 bytes.
fn narrow(number: u64) -> Segment {
    let mix = |bits: u64| (bits ^ 0x5555).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let key =
        |tail: u64| Bytes::from([(number << 20).to_be_bytes(), mix(number + tail).to_be_bytes()].concat());
    let (one, other) = (key(0), key(1));
    let version = NOW + (mix(number) % 86_400_000_000) as i64;
    Segment {
        min_key: one.clone().min(other.clone()),
        max_key: one.max(other),
        id: SegmentId((u128::from(mix(number)) << 64) | u128::from(mix(number + 7))),
        index: IndexSpan { offset: 64_000_000 + number, length: 180_000 },
        min_version: version,
        max_version: version + 3_600_000_000,
        rows: 300_000 + number % 1000,
        tombstones: number % 500,
        bytes: 64_300_000 + number,
        max_expires_at: number.is_multiple_of(2).then_some(version + 100_000_000_000),
        ..by_job(0, "a", "b", Layer::Loaded(LoadId(1)), job_of(1))
    }
}

#[test]
fn a_segment_costs_at_most_150_bytes() {
    const COUNT: u64 = 60_000;
    let mut manifest = Manifest::empty(TABLE);
    let segments: Vec<_> = (0..COUNT).map(narrow).collect();
    let mut step = |changes: Vec<Change>| {
        let (next, _, _) =
            measured(|| manifest.apply(manifest.seq().next(), &Edit { changes, at_micros: NOW }));
        manifest = next.unwrap();
    };
    step(vec![Change::CreateTable { settings: TableSettings::default(), shards: vec![Shard::whole(P0)] }]);
    step(vec![open_load(1, LoadMode::Merge, 1), pin(1)]);
    step(vec![prepare(1, segments)]);
    let encoded = manifest.encode();
    let (decoded, held, _) = measured(|| Manifest::decode(&encoded).unwrap());
    let each = held / COUNT as isize;
    println!("{each} bytes a segment in memory, {} in a snapshot", encoded.len() / COUNT as usize);
    assert!(each <= 150, "{each}");
    let estimate = decoded.heap_bytes() as isize;
    assert!((estimate - held).abs() < held / 10, "{estimate} estimated, {held} counted");

    // Scattered small edits split blocks in two; that must not double the cost.
    let mut scattered = decoded;
    for number in 0..2_000 {
        let place = number * 30;
        let mut segment = narrow(place);
        segment.id = SegmentId((1 << 100) + u128::from(number));
        let span = span(number, number + 1);
        (segment.layer, segment.location) =
            (Layer::Streamed(span), Location::Flush { partition: P0, from: span.from });
        segment.exact_places = false;
        let edit = Edit::one(flush(number, number + 1, vec![segment]), NOW);
        let (next, held, _) = measured(|| scattered.apply(scattered.seq().next(), &edit).unwrap());
        assert!(held < 200_000, "an edit of one segment allocated {held} bytes");
        scattered = next;
    }
    let each = scattered.heap_bytes() as u64 / scattered.segment_count();
    println!("{each} bytes a segment after scattered edits");
    assert!(each <= 150, "{each}");
    scattered.check().unwrap();
}
