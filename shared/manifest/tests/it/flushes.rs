use crate::support::*;
use nacre_manifest::*;
use nacre_types::*;

#[test]
fn a_flush_begins_at_the_covered_offset_and_moves_it() {
    let mut table = Table::new();
    table.apply(flush(0, 10, vec![flushed(1, "a", "m", span(0, 10)), flushed(2, "n", "z", span(0, 10))]));
    assert_eq!(table.manifest.covered(P0), Offset(10));
    assert_eq!((table.manifest.segment_count(), table.manifest.rows()), (2, 20));
    assert_eq!(
        table.refused(flush(0, 20, vec![flushed(3, "a", "m", span(0, 20))])),
        RefusedReason::NotCovered { covered: Offset(10) }
    );
    assert_eq!(table.refused(flush(11, 20, vec![])), RefusedReason::NotCovered { covered: Offset(10) });
    table.apply(flush(10, 25, vec![]));
    assert_eq!(table.manifest.covered(P0), Offset(25));
}

#[test]
fn a_flush_of_nothing_is_malformed() {
    assert_eq!(Table::new().refused(flush(0, 0, vec![])), RefusedReason::Malformed);
}

#[test]
fn two_flushes_fit_into_one_edit() {
    let mut table = Table::new();
    table.apply_all(vec![
        flush(0, 10, vec![flushed(1, "a", "m", span(0, 10))]),
        flush(10, 20, vec![flushed(2, "a", "m", span(10, 20))]),
    ]);
    assert_eq!(table.manifest.covered(P0), Offset(20));
}

#[test]
fn a_segment_must_be_what_its_flush_says() {
    let table = Table::new();
    let wrong_span = flushed(1, "a", "b", span(0, 9));
    let mut wrong_name = flushed(1, "a", "b", span(0, 10));
    wrong_name.location = Location::Job(JobId(1));
    let mut backwards = flushed(1, "b", "a", span(0, 10));
    let mut no_rows = flushed(1, "a", "b", span(0, 10));
    no_rows.rows = 0;
    let mut ghosts = flushed(1, "a", "b", span(0, 10));
    ghosts.tombstones = 11;
    let mut exact = flushed(1, "a", "b", span(0, 10));
    exact.exact_places = true;
    for wrong in [wrong_span, wrong_name, no_rows, ghosts, exact, backwards.clone()] {
        let edit = Edit::one(flush(0, 10, vec![wrong]), NOW);
        assert_eq!(table.manifest.apply(Seq(2), &edit).unwrap_err().reason, RefusedReason::Malformed);
    }
    // What cannot be does not come back from its bytes as something else.
    backwards.rows = 1;
    assert!(Edit::decode(&Edit::one(flush(0, 10, vec![backwards]), NOW).encode()).is_err());
}

#[test]
fn segments_of_one_flush_do_not_overlap() {
    let overlapping = vec![flushed(1, "a", "m", span(0, 10)), flushed(2, "m", "z", span(0, 10))];
    assert_eq!(Table::new().refused(flush(0, 10, overlapping)), RefusedReason::Malformed);
}

#[test]
fn a_segment_id_comes_once() {
    let mut table = Table::new();
    let twice = vec![flushed(1, "a", "b", span(0, 10)), flushed(1, "c", "d", span(0, 10))];
    assert_eq!(table.refused(flush(0, 10, twice)), RefusedReason::SegmentExists(SegmentId(1)));
    table.apply(flush(0, 10, vec![flushed(1, "a", "b", span(0, 10))]));
    let again = flush(10, 20, vec![flushed(1, "c", "d", span(10, 20))]);
    assert_eq!(table.refused(again), RefusedReason::SegmentExists(SegmentId(1)));
}

#[test]
fn a_flush_stays_in_its_partition() {
    let mut table = Table { manifest: Manifest::empty(TABLE), now: NOW };
    let shards = vec![
        Shard::whole(P0),
        Shard { id: ShardId(1), start: bytes("m"), partition: P1, generation: Generation(0) },
    ];
    table.apply(Change::CreateTable { settings: TableSettings::default(), shards });
    let foreign = flush(0, 10, vec![flushed(1, "a", "n", span(0, 10))]);
    assert_eq!(table.refused(foreign), RefusedReason::UnknownPartition(P0));
    table.apply(flush(0, 10, vec![flushed(1, "a", "lzz", span(0, 10))]));
    assert_eq!(table.manifest.covered(P1), Offset(0));
    let unknown = Change::Flush(Flush {
        partition: PartitionId(7),
        generation: Generation(0),
        from: Offset(0),
        to: Offset(1),
        segments: vec![],
        drops: None,
    });
    assert_eq!(table.refused(unknown), RefusedReason::UnknownPartition(PartitionId(7)));
}

#[test]
fn paths_of_segments_say_who_made_them() {
    let flush = flushed(1, "a", "b", span(5, 10));
    let path = segment_path(TABLE, &flush);
    assert_eq!(path, "tables/000000000000000000000000000000ab/p0-5/00000000000000000000000000000001.parquet");
    let name = SegmentName::parse(&path).unwrap();
    assert_eq!(name.origin, SegmentOrigin::Flush { partition: P0, from: Offset(5) });
    assert_eq!((name.table, name.id, name.path()), (TABLE, SegmentId(1), path));
    let job = by_job(2, "a", "b", Layer::Loaded(LoadId(1)), 9);
    let name = SegmentName::parse(&segment_path(TABLE, &job)).unwrap();
    assert_eq!(name.origin, SegmentOrigin::Job(JobId(9)));
    for other in [
        "",
        "tables/x",
        "tables/000000000000000000000000000000ab/p0-05/00000000000000000000000000000001.parquet",
    ] {
        assert_eq!(SegmentName::parse(other), None, "{other}");
    }
}
