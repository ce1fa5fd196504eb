//! A topic of someone else as the source of a table.

use crate::support::*;
use bytes::Bytes;
use nacre_manifest::*;
use nacre_types::*;

const TOPIC: u128 = 0x70;

pub(crate) fn declare(topic: u128, starts: Option<&[u64]>) -> Change {
    Change::DeclareSource(DeclareSource {
        declaration: Bytes::from_static(b"{}"),
        topic,
        starts: starts.map(|starts| starts.iter().map(|start| Offset(*start)).collect()),
    })
}

fn slot(slot: u32) -> PartitionId {
    PartitionId((1 << 31) + slot)
}

fn span_of(at: u32, from: u64, to: u64) -> StreamedSpan {
    let partition = slot(at);
    StreamedSpan { partition, generation: source_generation(partition), from: Offset(from), to: Offset(to) }
}

/// A flush of a source's slot with one segment.
pub(crate) fn applied(at: u32, from: u64, to: u64, id: u128) -> Change {
    let span = span_of(at, from, to);
    Change::Flush(Flush {
        partition: span.partition,
        generation: span.generation,
        from: span.from,
        to: span.to,
        segments: vec![flushed(id, "a", "z", span)],
        drops: None,
    })
}

fn with_source() -> Table {
    let mut table = Table::new();
    table.apply(declare(TOPIC, Some(&[5, 0])));
    table
}

#[test]
fn what_is_applied_begins_at_the_covered_offset_of_its_own_partition() {
    let mut table = with_source();
    assert_eq!(table.manifest.source().unwrap().partitions, [slot(0), slot(1)]);
    assert_eq!(table.manifest.covered(slot(0)), Offset(5));
    table.apply(applied(0, 5, 9, 1));
    assert_eq!(
        [slot(0), slot(1), P0].map(|partition| table.manifest.covered(partition)),
        [Offset(9), Offset(0), Offset(0)]
    );
    // A second consumer that read the same messages, and one that passed over some.
    assert_eq!(table.refused(applied(0, 5, 9, 2)), RefusedReason::NotCovered { covered: Offset(9) });
    assert_eq!(table.refused(applied(0, 5, 12, 2)), RefusedReason::NotCovered { covered: Offset(9) });
    assert_eq!(table.refused(applied(0, 10, 12, 2)), RefusedReason::NotCovered { covered: Offset(9) });
    table.apply(applied(1, 0, 3, 2));
    table.apply(applied(0, 9, 12, 3));
}

#[test]
fn nobody_asks_the_log_for_partitions_of_a_source() {
    let table = with_source();
    assert_eq!(table.manifest.partitions().collect::<Vec<_>>(), [(P0, Offset(0))]);
    assert!(is_source_partition(slot(0)) && !is_source_partition(P0));
}

#[test]
fn streams_have_generations_of_their_own() {
    let table = with_source();
    assert_eq!([slot(0), slot(1), P0].map(source_generation), [Generation(1), Generation(2), Generation(0)]);
    let mut wrong = span_of(0, 5, 9);
    wrong.generation = Generation(0);
    let change = Change::Flush(Flush {
        partition: slot(0),
        generation: Generation(0),
        from: Offset(5),
        to: Offset(9),
        segments: vec![flushed(1, "a", "z", wrong)],
        drops: None,
    });
    assert_eq!(table.refused(change), RefusedReason::Malformed);
}

#[test]
fn keys_of_a_topic_lie_in_any_shard() {
    let mut table = with_source();
    table.apply(Change::SplitShard(SplitShard { shard: ShardId(0), at: bytes("m"), new: ShardId(1) }));
    table.apply(applied(0, 5, 9, 1));
}

#[test]
fn a_source_that_is_gone_or_replaced_takes_nothing_more() {
    let mut table = with_source();
    table.apply(applied(0, 5, 9, 1));
    // The same topic, another mapping: it goes on.
    table.apply(declare(TOPIC, None));
    table.apply(applied(0, 9, 12, 2));
    assert_eq!(table.refused(declare(TOPIC + 1, None)), RefusedReason::NoSource);
    // Another beginning: other slots, and the old ones are closed.
    table.apply(declare(TOPIC, Some(&[100, 100])));
    assert_eq!(table.manifest.source().unwrap().partitions, [slot(2), slot(3)]);
    assert_eq!(table.refused(applied(0, 12, 15, 3)), RefusedReason::UnknownPartition(slot(0)));
    table.apply(applied(2, 100, 101, 3));
    table.apply(Change::GrowSource { starts: vec![Offset(0)] });
    table.apply(applied(4, 0, 1, 4));
    table.apply(Change::RemoveSource);
    assert_eq!(table.refused(applied(2, 101, 102, 5)), RefusedReason::UnknownPartition(slot(2)));
    assert_eq!(table.refused(Change::RemoveSource), RefusedReason::NoSource);
    assert_eq!(table.refused(Change::GrowSource { starts: vec![Offset(0)] }), RefusedReason::NoSource);
    // Slots are never given again.
    table.apply(declare(TOPIC, Some(&[0])));
    assert_eq!(table.manifest.source().unwrap().partitions, [slot(5)]);
    assert_eq!(table.manifest.segment_count(), 4);
}

#[test]
fn lateness_and_a_source_exclude_each_other() {
    let late = TableSettings { max_lateness_seconds: Some(60), ..TableSettings::default() };
    let set = |settings: &TableSettings, lateness_from: Vec<(PartitionId, Offset)>| {
        Change::SetSettings(SetSettings { settings: settings.clone(), log_time_micros: NOW, lateness_from })
    };
    assert_eq!(with_source().refused(set(&late, vec![(P0, Offset(0))])), RefusedReason::SettingsInvalid);
    let mut table = Table::with(late);
    assert_eq!(table.refused(declare(TOPIC, Some(&[0]))), RefusedReason::SettingsInvalid);
    // Tombstones may have gone while it was in force.
    table.apply(set(&TableSettings::default(), vec![]));
    assert_eq!(table.refused(declare(TOPIC, Some(&[0]))), RefusedReason::SettingsInvalid);
}

#[test]
fn there_are_as_many_slots_as_generations() {
    let mut table = Table::new();
    assert_eq!(table.refused(declare(TOPIC, Some(&[0; 8192]))), RefusedReason::SourceFull);
    table.apply(declare(TOPIC, Some(&[0; 8191])));
    assert_eq!(source_generation(slot(8190)), Generation(8191));
    assert_eq!(table.refused(Change::GrowSource { starts: vec![Offset(0)] }), RefusedReason::SourceFull);
    for wrong in [&[][..], &[1 << 48]] {
        assert_eq!(Table::new().refused(declare(TOPIC, Some(wrong))), RefusedReason::Malformed);
    }
}

#[test]
fn runs_of_a_source_are_merged_with_their_neighbours_alone() {
    let mut table = with_source();
    table.apply_all(vec![applied(0, 5, 9, 1), applied(0, 9, 12, 2), applied(1, 0, 7, 3)]);
    let merged = |span| by_job(9, "a", "z", Layer::Streamed(span), 50);
    table.open_job(50);
    let mut whole = merged(span_of(0, 5, 12));
    whole.rows = 20;
    let mut both = whole.clone();
    both.rows = 30;
    assert_eq!(
        table.refused(compact(50, &[1, 2, 3], vec![both.clone(), both])),
        RefusedReason::SegmentExists(SegmentId(9))
    );
    table.apply(compact(50, &[1, 2], vec![whole]));
    let segments: Vec<_> =
        [1u128, 3].iter().filter_map(|id| table.manifest.segment(SegmentId(*id))).collect();
    assert_eq!(segments.len(), 1);
}
