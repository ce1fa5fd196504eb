use crate::support::*;
use nacre_manifest::*;
use nacre_types::*;

use LoadMode::{Merge, Replace};

/// A table with flushes 0..10, 10..20, 20..30 over `a` to `z` (segments 1, 2, 3) and job 50 open.
fn three_flushes() -> Table {
    let mut table = Table::new();
    for id in 1..=3u64 {
        let span = span(10 * (id - 1), 10 * id);
        table.apply(flush(span.from.0, span.to.0, vec![flushed(id.into(), "a", "z", span)]));
    }
    table.open_job(50);
    table
}

fn merged(id: u128, min: &str, max: &str, from: u64, to: u64) -> Segment {
    by_job(id, min, max, Layer::Streamed(span(from, to)), 50)
}

#[test]
fn neighbours_in_the_log_merge() {
    let mut table = three_flushes();
    table.apply(compact(50, &[1, 2], vec![merged(9, "a", "z", 0, 20)]));
    assert_eq!(table.manifest.segment_count(), 2);
    assert_eq!(table.refused(compact(50, &[1, 3], vec![])), RefusedReason::InputGone(SegmentId(1)));
    table.apply(compact(50, &[9, 3], vec![merged(10, "a", "k", 0, 30), merged(11, "m", "z", 0, 30)]));
    assert_eq!(table.manifest.rows(), 20);
}

#[test]
fn what_lies_between_is_not_left_out() {
    let table = three_flushes();
    assert_eq!(
        table.refused(compact(50, &[1, 3], vec![merged(9, "a", "z", 0, 30)])),
        RefusedReason::NotContiguous { between: SegmentId(2) }
    );
}

#[test]
fn what_lies_between_elsewhere_does_not_matter() {
    let mut table = Table::new();
    table.apply(flush(0, 10, vec![flushed(1, "a", "c", span(0, 10))]));
    table.apply(flush(10, 20, vec![flushed(2, "d", "z", span(10, 20))]));
    table.apply(flush(20, 30, vec![flushed(3, "a", "c", span(20, 30))]));
    table.open_job(50);
    table.apply(compact(50, &[1, 3], vec![merged(9, "a", "c", 0, 30)]));
}

#[test]
fn the_other_half_of_an_input_belongs_to_the_job() {
    let mut table = Table::new();
    table.apply(flush(0, 10, vec![flushed(1, "a", "k", span(0, 10)), flushed(2, "m", "z", span(0, 10))]));
    table.apply(flush(10, 20, vec![flushed(3, "a", "z", span(10, 20))]));
    table.open_job(50);
    assert_eq!(
        table.refused(compact(50, &[1, 3], vec![merged(9, "a", "z", 0, 20)])),
        RefusedReason::NotContiguous { between: SegmentId(2) }
    );
    table.apply(compact(50, &[1, 2, 3], vec![merged(9, "a", "z", 0, 20)]));
}

#[test]
fn exact_places_need_no_neighbours() {
    let mut table = Table::new();
    for id in 1..=3u64 {
        let span = span(10 * (id - 1), 10 * id);
        let mut segment = flushed(id.into(), "a", "z", span);
        (segment.with_place, segment.exact_places) = (true, id != 2);
        table.apply(flush(span.from.0, span.to.0, vec![segment]));
    }
    table.open_job(50);
    let mut output = merged(9, "a", "z", 0, 30);
    output.with_place = true;
    assert!(matches!(
        table.refused(compact(50, &[1, 3], vec![output.clone()])),
        RefusedReason::NotContiguous { .. }
    ));
    output.exact_places = true;
    assert_eq!(table.refused(compact(50, &[1, 2], vec![output.clone()])), RefusedReason::Malformed);
    table.apply(compact(50, &[1, 3], vec![output]));
}

#[test]
fn an_output_lends_its_rows_no_other_rank() {
    let table = three_flushes();
    let claims = [
        merged(9, "a", "z", 0, 30),
        merged(9, "a", "zz", 0, 20),
        by_job(9, "a", "z", Layer::Streamed(span(0, 20)), 51),
        by_job(9, "a", "z", Layer::Mixed { streamed: Some(span(0, 20)), loads: (Seq(1), Seq(1)) }, 50),
        Segment { max_version: 201, ..merged(9, "a", "z", 0, 20) },
        Segment { min_version: 99, ..merged(9, "a", "z", 0, 20) },
        Segment { rows: 21, ..merged(9, "a", "z", 0, 20) },
    ];
    for claim in claims {
        assert_eq!(table.refused(compact(50, &[1, 2], vec![claim])), RefusedReason::Malformed);
    }
}

#[test]
fn a_closed_job_brings_nothing() {
    let mut table = three_flushes();
    table.apply(Change::CloseJob { job: JobId(50) });
    assert_eq!(
        table.refused(compact(50, &[1, 2], vec![merged(9, "a", "z", 0, 20)])),
        RefusedReason::JobNotOpen(JobId(50))
    );
    assert_eq!(table.refused(Change::CloseJob { job: JobId(50) }), RefusedReason::JobNotOpen(JobId(50)));
    table.open_job(50);
    let again = Change::OpenJob { job: JobId(50), kind: JobKind::Expiry };
    assert_eq!(table.refused(again), RefusedReason::JobExists(JobId(50)));
}

#[test]
fn dropping_names_its_settings() {
    let mut table = three_flushes();
    let without = |rows, tombstones| {
        Change::Compact(Compact {
            job: JobId(50),
            inputs: vec![SegmentId(1), SegmentId(2)],
            outputs: vec![Segment { rows, tombstones, ..merged(9, "a", "z", 0, 20) }],
            drops: None,
        })
    };
    assert_eq!(table.refused(without(19, 0)), RefusedReason::Malformed);
    assert_eq!(table.refused(without(20, 1)), RefusedReason::Malformed);
    table.apply(without(20, 0));
    assert_eq!(table.manifest.last_drop_now(), i64::MIN);
    table.apply(compact(50, &[9, 3], vec![]));
    assert_eq!(table.manifest.last_drop_now(), NOW);
}

#[test]
fn a_drop_planned_before_the_ttl_changed_is_refused() {
    let mut table = three_flushes();
    let change =
        |settings| Change::SetSettings(SetSettings { settings, log_time_micros: NOW, lateness_from: vec![] });
    let planned = compact(50, &[1, 2], vec![]);
    // The number of versions may be lowered meanwhile.
    table.apply(change(TableSettings { undo_window_seconds: 5, ..TableSettings::default() }));
    assert!(table.try_all(vec![planned.clone()]).is_ok());
    let settings =
        TableSettings { ttl_seconds: Some(60), undo_window_seconds: 5, ..TableSettings::default() };
    table.apply(change(settings));
    assert_eq!(table.refused(planned), RefusedReason::SettingsChanged);
}

#[test]
fn an_unsealed_load_merges_with_itself_alone() {
    let mut table = Table::new();
    table.apply(flush(0, 10, vec![flushed(1, "a", "z", span(0, 10))]));
    table.commit(2, Merge, 1, &[("a", "k"), ("m", "z")]);
    let sealed = table.commit(3, Merge, 1, &[("a", "z")]);
    table.seal(3);
    table.open_job(50);
    let own = |id, min: &str, max: &str| by_job(id, min, max, Layer::Loaded(LoadId(2)), 50);
    let mixed = |from: Seq, to: Seq, streamed| Segment {
        with_place: true,
        ..by_job(9, "a", "z", Layer::Mixed { streamed, loads: (from, to) }, 50)
    };
    let unsealed = RefusedReason::Unsealed(LoadId(2));
    assert_eq!(table.refused(compact(50, &[1, 2000], vec![own(9, "a", "k")])), unsealed);
    assert_eq!(table.refused(compact(50, &[2000, 3000], vec![own(9, "a", "k")])), unsealed);
    // Under its own name only.
    let commit = table.load(2).commit.unwrap();
    assert_eq!(
        table.refused(compact(50, &[2000, 2001], vec![mixed(commit, commit, None)])),
        RefusedReason::Malformed
    );
    table.apply(compact(50, &[2000, 2001], vec![own(9, "a", "z")]));
    assert_eq!(table.load(2).live.segments, 1);
    // It still goes as a whole.
    table.apply(Change::RevertLoad { load: LoadId(2), reason: "bad".into() });
    assert_eq!(table.manifest.rows(), 20);
    // Sealed and streamed rows merge around it, since its commit is below.
    let output = Segment { id: SegmentId(10), ..mixed(sealed, sealed, Some(span(0, 10))) };
    table.apply(compact(50, &[1, 3000], vec![output]));
}

#[test]
fn reverted_layers_lie_between_loads() {
    let mut table = Table::new();
    let first = table.commit(1, Merge, 1, &[("a", "z")]);
    table.commit(2, Merge, 1, &[("c", "d")]);
    let third = table.commit(3, Merge, 1, &[("a", "z")]);
    table.seal(1);
    table.seal(3);
    table.apply(Change::RevertLoad { load: LoadId(2), reason: "bad".into() });
    table.open_job(50);
    let merge = compact(
        50,
        &[1000, 3000],
        vec![by_job(9, "a", "z", Layer::Mixed { streamed: None, loads: (first, third) }, 50)],
    );
    assert_eq!(table.refused(merge.clone()), RefusedReason::NotContiguous { between: SegmentId(2000) });
    table.now += 16 * MINUTE;
    table.apply_all(vec![Change::ForgetLoad { load: LoadId(2) }, merge]);
}

#[test]
fn a_prepared_load_lies_above_all() {
    let mut table = Table::new();
    let first = table.commit(1, Merge, 1, &[("a", "z")]);
    let second = table.commit(2, Merge, 1, &[("a", "z")]);
    table.seal(1);
    table.seal(2);
    table.prepare(3, Merge, 1, &[("a", "z")]);
    table.open_job(50);
    let output = by_job(9, "a", "z", Layer::Mixed { streamed: None, loads: (first, second) }, 50);
    table.apply(compact(50, &[1000, 2000], vec![output]));
}

#[test]
fn rows_that_a_floor_tells_apart_keep_their_places() {
    let mut table = Table::new();
    let first = table.commit(1, Merge, 1, &[("a", "z")]);
    // The floor is of a load whose rows lie elsewhere, and which is not even sealed.
    table.commit(2, Replace, 150, &[("zz", "zzz")]);
    let third = table.commit(3, Merge, 1, &[("a", "z")]);
    table.seal(1);
    table.seal(3);
    table.open_job(50);
    let layer = Layer::Mixed { streamed: None, loads: (first, third) };
    let output = by_job(9, "a", "z", layer, 50);
    let segments: Vec<_> =
        [1000, 3000].map(|id| table.manifest.segment(SegmentId(id)).unwrap()).into_iter().collect();
    assert_eq!(table.manifest.merged_layer(&segments).unwrap(), layer);
    assert!(table.manifest.needs_places(&layer, 150) && !table.manifest.needs_places(&layer, 151));
    assert_eq!(
        table.refused(compact(50, &[1000, 3000], vec![output.clone()])),
        RefusedReason::PlacesMissing(SegmentId(9))
    );
    let output = Segment { with_place: true, exact_places: true, ..output };
    table.apply(compact(50, &[1000, 3000], vec![output]));
}

#[test]
fn streamed_and_loaded_rows_in_one_segment_keep_their_places() {
    let mut table = three_flushes();
    let seq = table.commit(1, Merge, 1, &[("a", "z")]);
    table.seal(1);
    let layer = Layer::Mixed { streamed: Some(span(0, 10)), loads: (seq, seq) };
    let output = by_job(9, "a", "z", layer, 50);
    assert_eq!(
        table.refused(compact(50, &[1, 1000], vec![output.clone()])),
        RefusedReason::PlacesMissing(SegmentId(9))
    );
    table.apply(compact(50, &[1, 1000], vec![Segment { with_place: true, ..output }]));
    // The layer goes on to say what it holds.
    let inputs: Vec<_> =
        [9, 2].map(|id| table.manifest.segment(SegmentId(id)).unwrap()).into_iter().collect();
    assert_eq!(
        table.manifest.merged_layer(&inputs).unwrap(),
        Layer::Mixed { streamed: Some(span(0, 20)), loads: (seq, seq) }
    );
}

#[test]
fn one_segment_holds_the_log_of_one_partition() {
    let mut table = Table { manifest: Manifest::empty(TABLE), now: NOW };
    let shards = vec![
        Shard::whole(P0),
        Shard { id: ShardId(1), start: bytes("m"), partition: P1, generation: Generation(0) },
    ];
    table.apply(Change::CreateTable { settings: TableSettings::default(), shards });
    let other = StreamedSpan { partition: P1, ..span(0, 10) };
    table.apply_all(vec![
        flush(0, 10, vec![flushed(1, "a", "k", span(0, 10))]),
        Change::Flush(Flush {
            partition: P1,
            generation: Generation(0),
            from: Offset(0),
            to: Offset(10),
            segments: vec![flushed(2, "m", "z", other)],
            drops: None,
        }),
    ]);
    let seq = table.commit(7, Merge, 1, &[("a", "z")]);
    table.seal(7);
    table.open_job(50);
    let inputs: Vec<_> = table.manifest.segments().map(|segment| segment.to_segment()).collect();
    assert!(table.manifest.merged_layer(&inputs).is_err());
    let output = |id, min: &str, max: &str, streamed| Segment {
        with_place: true,
        ..by_job(id, min, max, Layer::Mixed { streamed: Some(streamed), loads: (seq, seq) }, 50)
    };
    let outputs = vec![output(8, "a", "k", span(0, 10)), output(9, "m", "z", other)];
    table.apply(compact(50, &[1, 2, 7000], outputs));
}

#[test]
fn segments_leave_unread_only_when_all_of_them_has_expired() {
    let settings = TableSettings { ttl_seconds: Some(1), ..TableSettings::default() };
    let mut table = Table::with(settings);
    let mut old = flushed(1, "a", "b", span(0, 10));
    (old.min_version, old.max_version) = (NOW - 3_000_000, NOW - 1_000_000);
    let mut young = flushed(2, "c", "d", span(0, 10));
    (young.min_version, young.max_version) = (NOW - 3_000_000, NOW - 999_999);
    // A row's own expiry does not say what it hides.
    young.max_expires_at = Some(NOW - 2_000_000);
    table.apply(flush(0, 10, vec![old, young]));
    let expire = |ids: &[u128]| Change::Expire {
        segments: ids.iter().map(|id| SegmentId(*id)).collect(),
        drops: drops(),
    };
    assert_eq!(table.refused(expire(&[1, 2])), RefusedReason::NotExpired(SegmentId(2)));
    table.apply(expire(&[1]));
    assert_eq!(table.manifest.segment_count(), 1);
    assert_eq!(table.manifest.last_drop_now(), NOW);
}

#[test]
fn segments_under_a_sealed_floor_leave_unread() {
    let mut table = three_flushes();
    table.commit(1, Merge, 1, &[("a", "z")]);
    table.commit(2, Replace, 200, &[("a", "z")]);
    table.commit(3, Merge, 1, &[("a", "z")]);
    let expire = |id: u128| Change::Expire { segments: vec![SegmentId(id)], drops: drops() };
    assert_eq!(table.refused(expire(1000)), RefusedReason::NotExpired(SegmentId(1000)));
    table.seal(2);
    table.apply(expire(1000));
    assert_eq!(table.load(1).live.segments, 0);
    // Its own rows stay, and what ranks above: streamed rows and later loads of its very version.
    for id in [2000, 1, 3000] {
        assert_eq!(table.refused(expire(id)), RefusedReason::NotExpired(SegmentId(id)));
    }
    table.commit(4, Replace, 201, &[]);
    table.seal(4);
    for id in [2000, 1, 3000] {
        table.apply(expire(id));
    }
}
