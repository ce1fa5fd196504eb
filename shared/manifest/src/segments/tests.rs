//! The tree and the ids against a sorted list.

use super::block::{Block, encode};
use super::*;
use crate::{IndexSpan, Layer, Location, StreamedSpan};
use nacre_types::{Generation, JobId, LoadId, Offset, PartitionId, Seq};
use proptest::collection::vec;
use proptest::prelude::*;

fn key() -> impl Strategy<Value = Vec<u8>> {
    // Few different bytes, so that prefixes, equal keys and containment are common.
    let tail = vec(prop_oneof![Just(0u8), Just(b'a'), Just(b'b'), Just(0xFF)], 1..6);
    (prop_oneof![3 => Just(&b""[..]), 1 => Just(&b"a long beginning "[..])], tail)
        .prop_map(|(head, tail)| [head, &tail].concat())
}

fn location() -> impl Strategy<Value = Location> {
    prop_oneof![
        (0u32..3, 0u64..4).prop_map(|(partition, from)| Location::Flush {
            partition: PartitionId(partition),
            from: Offset(from)
        }),
        any::<u128>().prop_map(|job| Location::Job(JobId(job))),
        ("[a-z/]{0,9}", "[a-z]{0,4}", proptest::option::of("[a-z]{0,4}"), "[a-z/]{0,9}").prop_map(
            |(path, tag, version_id, index_path)| Location::Adopted { path, tag, version_id, index_path }
        ),
    ]
}

fn layer() -> impl Strategy<Value = Layer> {
    let span =
        (0u32..3, 0u16..8192, 0u64..1 << 40, 1u64..100).prop_map(|(partition, generation, from, length)| {
            StreamedSpan {
                partition: PartitionId(partition),
                generation: Generation(generation),
                from: Offset(from),
                to: Offset(from + length),
            }
        });
    prop_oneof![
        span.clone().prop_map(Layer::Streamed),
        (0u128..5).prop_map(|load| Layer::Loaded(LoadId(load))),
        (proptest::option::of(span), 1u64..1000, 0u64..1000)
            .prop_map(|(streamed, low, more)| Layer::Mixed { streamed, loads: (Seq(low), Seq(low + more)) }),
    ]
}

fn segment() -> impl Strategy<Value = Segment> {
    let numbers = (any::<i64>(), any::<i64>(), 1..u64::MAX, any::<u64>(), proptest::option::of(any::<i64>()));
    let index = (any::<u64>(), any::<u64>());
    (any::<u128>(), key(), key(), layer(), location(), numbers, index, any::<(bool, bool)>()).prop_map(
        |(
            id,
            a,
            b,
            layer,
            location,
            (v, w, rows, other, max_expires_at),
            (offset, length),
            (with_place, exact),
        )| {
            Segment {
                id: SegmentId(id),
                location,
                index: IndexSpan { offset, length },
                layer,
                min_key: a.clone().min(b.clone()).into(),
                max_key: a.max(b).into(),
                min_version: v.min(w),
                max_version: v.max(w),
                rows,
                tombstones: other % rows,
                bytes: other,
                max_expires_at,
                with_place,
                exact_places: exact,
            }
        },
    )
}

fn sorted(mut segments: Vec<Segment>) -> Vec<Segment> {
    segments.sort_by(|a, b| (&a.min_key, a.id).cmp(&(&b.min_key, b.id)));
    segments
}

/// Looks every key and range up in both.
fn agree(segments: &Segments, naive: &[Segment], probes: &[Vec<u8>]) {
    segments.check().unwrap();
    let all: Vec<_> = segments.iter().map(|segment| segment.to_segment()).collect();
    assert_eq!(all, naive);
    assert_eq!(segments.counts().newest, naive.iter().map(|segment| segment.max_version).max());
    for probe in probes {
        let found: Vec<_> =
            segments.overlapping(probe, Upto::Through(probe)).map(|found| found.id()).collect();
        let expected: Vec<_> = naive
            .iter()
            .filter(|segment| segment.min_key <= *probe && *probe <= segment.max_key)
            .map(|segment| segment.id)
            .collect();
        assert_eq!(found, expected, "{probe:?}");
    }
    for (start, end) in probes.iter().zip(probes.iter().rev()) {
        for end in [Some(Bytes::from(end.clone())), None] {
            let range = KeyRange { start: start.clone().into(), end };
            let found: Vec<_> = segments.overlapping_range(&range).map(|found| found.id()).collect();
            let expected: Vec<_> = naive
                .iter()
                .filter(|segment| !range.is_empty() && range.overlaps(&segment.min_key, &segment.max_key))
                .map(|segment| segment.id)
                .collect();
            assert_eq!(found, expected, "{range:?}");
        }
    }
    for segment in naive {
        assert_eq!(segments.get(segment.id).unwrap().to_segment(), *segment);
    }
    assert!(segments.get(SegmentId(u128::MAX - 7)).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn blocks_give_back_what_was_packed(segments in vec(segment(), 0..BLOCK_MOST)) {
        let block = Block::parse(&encode(&segments)).unwrap();
        let back: Vec<_> = block.segments().map(|segment| segment.to_segment()).collect();
        prop_assert_eq!(back, segments);
    }

    #[test]
    fn broken_blocks_never_panic(
        segments in vec(segment(), 1..6),
        breaks in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encode(&segments);
        for (at, byte) in breaks {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(block) = Block::parse(&bytes) {
            for segment in block.segments() {
                let read = segment.to_segment();
                prop_assert!(read.min_key <= read.max_key && !read.min_key.is_empty());
            }
        }
    }

    #[test]
    fn updates_and_lookups_follow_a_sorted_list(
        batches in vec((vec(segment(), 0..120), vec(any::<prop::sample::Index>(), 0..100)), 1..6),
        probes in vec(key(), 12),
    ) {
        let (mut segments, mut naive) = (Segments::default(), Vec::<Segment>::new());
        for (added, removed) in batches {
            let mut gone = Vec::new();
            for index in removed {
                if !naive.is_empty() {
                    gone.push(naive.remove(index.index(naive.len())));
                }
            }
            let removed: Vec<_> = gone.iter().map(|gone| (gone.min_key.clone(), gone.id)).collect();
            let before = (segments.clone(), segments.totals());
            segments = segments.update(&removed, &added);
            prop_assert_eq!(before.0.totals(), before.1);
            naive.extend(added);
            naive = sorted(naive);
            agree(&segments, &naive, &probes);
        }
        let blocks = naive.chunks(24).map(|chunk| Block::parse(&encode(chunk)).unwrap()).collect();
        let opened = Segments::from_blocks(blocks).unwrap();
        agree(&opened, &naive, &probes);
        prop_assert!(opened == segments);
        let all: Vec<_> = naive.iter().map(|segment| (segment.min_key.clone(), segment.id)).collect();
        prop_assert!(segments.update(&all, &[]) == Segments::default());
    }
}

const BLOCK_MOST: usize = super::block::BLOCK_SEGMENTS + 1;

fn numbered(number: u32) -> Segment {
    let span =
        StreamedSpan { partition: PartitionId(0), generation: Generation(0), from: Offset(0), to: Offset(1) };
    Segment {
        id: SegmentId(number.into()),
        location: Location::Job(JobId(1)),
        index: IndexSpan::default(),
        layer: Layer::Streamed(span),
        min_key: number.to_be_bytes().to_vec().into(),
        max_key: number.to_be_bytes().to_vec().into(),
        min_version: 0,
        max_version: 0,
        rows: 1,
        tombstones: 0,
        bytes: 1,
        max_expires_at: None,
        with_place: false,
        exact_places: false,
    }
}

#[test]
fn a_small_update_shares_nearly_everything() {
    let many: Vec<_> = (0..20_000).map(|number| numbered(2 * number)).collect();
    let segments = Segments::default().update(&[], &many);
    segments.check().unwrap();
    let next = segments.update(&[(many[7_000].min_key.clone(), many[7_000].id)], &[numbered(9_001)]);
    next.check().unwrap();
    let leaves = |segments: &Segments| {
        let mut nodes = Vec::new();
        let mut stack: Vec<_> = segments.root.iter().collect();
        while let Some(child) = stack.pop() {
            nodes.push(std::sync::Arc::as_ptr(&child.node));
            if let Node::Inner(children) = &*child.node {
                stack.extend(children.iter());
            }
        }
        nodes.sort();
        nodes
    };
    let before = leaves(&segments);
    let new = leaves(&next).iter().filter(|node| before.binary_search(node).is_err()).count();
    assert!(new < 30, "{new} of {} nodes are new", before.len());
}

#[test]
fn blocks_out_of_order_are_refused() {
    let block = |numbers: &[u32]| {
        let segments: Vec<_> = numbers.iter().map(|number| numbered(*number)).collect();
        Block::parse(&encode(&segments)).unwrap()
    };
    assert!(Segments::from_blocks(vec![block(&[1, 2]), block(&[3])]).is_some());
    assert!(Segments::from_blocks(vec![block(&[1, 3]), block(&[2])]).is_none());
    assert!(Segments::from_blocks(vec![block(&[2, 1])]).is_none());
    assert!(Segments::from_blocks(vec![block(&[1, 1])]).is_none());
}
