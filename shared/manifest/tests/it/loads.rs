use crate::support::*;
use nacre_manifest::*;
use nacre_types::*;

use LoadMode::{Merge, Replace};

const WHOLE: &[(&str, &str)] = &[("a", "z")];

#[test]
fn a_load_shows_only_once_it_is_committed() {
    let mut table = Table::new();
    table.prepare(1, Merge, 150, WHOLE);
    assert_eq!((table.manifest.segment_count(), table.manifest.rows()), (1, 0));
    assert_eq!(table.manifest.current().place_of(LoadId(1)), None);
    let seq = table.apply(commit(1));
    assert_eq!(table.manifest.rows(), 10);
    assert_eq!(table.manifest.current().place_of(LoadId(1)), Some(Place::loaded(seq)));
    assert_eq!(table.manifest.edition(), seq);
    let load = table.load(1);
    assert_eq!((load.rows, load.bytes, load.lowest_version, load.rows_hidden), (10, 4200, Some(100), 3));
    assert_eq!(load.keys, Some((bytes("a"), bytes("z"))));
    assert_eq!(load.commit, Some(seq));
    assert_eq!(table.manifest.floors(), []);
}

#[test]
fn states_follow_one_another() {
    let mut table = Table::new();
    let state = |state| RefusedReason::LoadState { state };
    assert_eq!(table.refused(pin(1)), RefusedReason::NoLoad(LoadId(1)));
    table.open_load(1, Merge, 1);
    assert_eq!(table.refused(open_load(1, Merge, 1)), RefusedReason::LoadExists(LoadId(1)));
    assert_eq!(table.refused(prepare(1, vec![])), state(LoadState::Open));
    assert_eq!(table.refused(commit(1)), state(LoadState::Open));
    table.apply(pin(1));
    assert_eq!(table.refused(commit(1)), state(LoadState::Pinned));
    table.apply(prepare(1, vec![]));
    assert_eq!(table.refused(prepare(1, vec![])), state(LoadState::Prepared));
    table.apply(commit(1));
    for change in [
        pin(1),
        commit(1),
        Change::CancelLoad { load: LoadId(1), reason: "no".into() },
        Change::FailLoad { load: LoadId(1), reason: "no".into(), report_path: None },
        Change::ForgetLoad { load: LoadId(1) },
    ] {
        assert_eq!(table.refused(change), state(LoadState::Committed));
    }
    table.apply(Change::RevertLoad { load: LoadId(1), reason: "bad".into() });
    assert_eq!(
        table.refused(Change::RevertLoad { load: LoadId(1), reason: "bad".into() }),
        state(LoadState::Reverted)
    );
}

#[test]
fn a_pinned_list_stays_and_its_goal_only_rises() {
    let mut table = Table::new();
    let pin = |path: &str, goal| Change::PinLoad { load: LoadId(1), files_path: path.into(), goal };
    table.open_load(1, Merge, 1);
    table.apply(pin("x", LoadGoal::Prepare));
    assert_eq!(table.load(1).goal, LoadGoal::Prepare);
    assert_eq!(
        table.refused(pin("y", LoadGoal::Commit)),
        RefusedReason::LoadState { state: LoadState::Pinned }
    );
    table.apply(pin("x", LoadGoal::Commit));
    table.apply(pin("x", LoadGoal::Prepare));
    assert_eq!(table.load(1).goal, LoadGoal::Commit);
}

#[test]
fn a_loads_segments_are_its_own() {
    let mut table = Table::new();
    table.open_load(1, Merge, 1);
    table.apply(pin(1));
    let other_layer = by_job(1, "a", "b", Layer::Loaded(LoadId(2)), job_of(1));
    let other_job = by_job(1, "a", "b", Layer::Loaded(LoadId(1)), 5);
    let mut inexact = by_job(1, "a", "b", Layer::Loaded(LoadId(1)), job_of(1));
    inexact.exact_places = false;
    for wrong in [other_layer, other_job, inexact] {
        assert_eq!(table.refused(prepare(1, vec![wrong])), RefusedReason::Malformed);
    }
    // Another job's objects may be garbage already, whoever brings them.
    let Change::PrepareLoad(own) = prepare(1, vec![by_job(1, "a", "b", Layer::Loaded(LoadId(1)), 5)]) else {
        unreachable!()
    };
    let by_other = Change::PrepareLoad(PrepareLoad { job: JobId(5), ..own });
    assert_eq!(table.refused(by_other), RefusedReason::JobNotOpen(JobId(5)));
    let mut adopted = by_job(1, "a", "b", Layer::Loaded(LoadId(1)), job_of(1));
    let location = |index_path: String| Location::Adopted {
        path: "staging/1/part-0.parquet".into(),
        tag: "\"e\"".into(),
        version_id: Some("v".into()),
        index_path,
    };
    adopted.location = location("elsewhere.index".into());
    assert_eq!(table.refused(prepare(1, vec![adopted.clone()])), RefusedReason::Malformed);
    adopted.location = location(index_path(TABLE, JobId(job_of(1)), adopted.id));
    table.apply(prepare(1, vec![adopted.clone()]));
    assert_eq!(table.manifest.segment(SegmentId(1)), Some(adopted.clone()));
    assert_eq!(segment_path(TABLE, &adopted), "staging/1/part-0.parquet");
}

#[test]
fn the_job_of_a_load_is_open_while_the_load_is_under_way() {
    let mut table = Table::new();
    table.open_load(1, Merge, 1);
    assert!(table.manifest.is_job_open(JobId(job_of(1))));
    table.apply(Change::CancelLoad { load: LoadId(1), reason: "stop".into() });
    assert!(!table.manifest.is_job_open(JobId(job_of(1))));
    let other_load = Change::OpenLoad(OpenLoad {
        load: LoadId(2),
        ..match open_load(1, Merge, 1) {
            Change::OpenLoad(open) => open,
            _ => unreachable!(),
        }
    });
    assert_eq!(table.refused(other_load), RefusedReason::JobExists(JobId(job_of(1))));
}

#[test]
fn what_failed_or_was_cancelled_leaves_nothing() {
    let mut table = Table::new();
    table.prepare(1, Merge, 1, WHOLE);
    table.prepare(2, Merge, 1, WHOLE);
    table.apply(Change::FailLoad { load: LoadId(1), reason: "bad".into(), report_path: Some("r".into()) });
    table.apply(Change::CancelLoad { load: LoadId(2), reason: "no".into() });
    assert_eq!(table.manifest.segment_count(), 0);
    assert_eq!(table.load(1).reason.as_deref(), Some("bad"));
    table.apply(Change::ForgetLoad { load: LoadId(1) });
    table.apply(Change::ForgetLoad { load: LoadId(2) });
    assert_eq!(table.manifest.loads().count(), 0);
}

#[test]
fn an_idempotency_key_names_the_newest_attempt_that_lives() {
    let mut table = Table::new();
    let open = |id: u128| match open_load(id, Merge, 1) {
        Change::OpenLoad(open) => Change::OpenLoad(OpenLoad { idempotency: Some(77), ..open }),
        _ => unreachable!(),
    };
    table.apply(open(1));
    assert_eq!(table.manifest.load_of_key(77).unwrap().id, LoadId(1));
    assert_eq!(table.refused(open(2)), RefusedReason::SameKey(LoadId(1)));
    table.apply(Change::CancelLoad { load: LoadId(1), reason: "no".into() });
    assert_eq!(table.manifest.load_of_key(77), None);
    table.apply(open(2));
    table.apply(pin(2));
    table.apply(prepare(2, vec![]));
    table.apply(commit(2));
    assert_eq!(table.refused(open(3)), RefusedReason::SameKey(LoadId(2)));
    table.apply(Change::RevertLoad { load: LoadId(2), reason: "no".into() });
    table.apply(open(3));
    assert_eq!(table.manifest.load_of_key(77).unwrap().id, LoadId(3));
}

#[test]
fn a_replace_sets_a_floor_until_it_is_reverted() {
    let mut table = Table::new();
    let seq = table.commit(1, Replace, 150, WHOLE);
    let floor =
        Floor { version: 150, commit: seq, load: LoadId(1), sealed: false, lowest_version: Some(100) };
    assert_eq!(table.manifest.floors(), [floor]);
    assert!(floor.hides(149, Place::MAX) && floor.hides(150, Place::loaded(Seq(1))));
    assert!(!floor.hides(150, Place::streamed(Generation(0), Offset(0))));
    assert!(!floor.hides(1, Place::loaded(seq)));
    table.apply(Change::RevertLoad { load: LoadId(1), reason: "bad".into() });
    assert_eq!(table.manifest.floors(), []);
    assert_eq!(table.manifest.rows(), 0);
}

#[test]
fn a_replace_below_a_floor_needs_insistence() {
    let mut table = Table::new();
    table.commit(1, Replace, 150, WHOLE);
    table.prepare(2, Replace, 149, WHOLE);
    assert_eq!(table.refused(commit(2)), RefusedReason::BelowFloor { load: LoadId(1), version: 150 });
    table.apply(Change::CommitLoad { load: LoadId(2), insist: true });
    table.prepare(3, Replace, 150, WHOLE);
    table.apply(commit(3));
    table.prepare(4, Merge, 1, WHOLE);
    table.apply(commit(4));
}

#[test]
fn one_edit_commits_one_load() {
    let mut table = Table::new();
    table.prepare(1, Merge, 1, WHOLE);
    table.prepare(2, Merge, 1, WHOLE);
    assert_eq!(table.refused_all(vec![commit(1), commit(2)]), RefusedReason::Malformed);
}

#[test]
fn a_seal_waits_for_page_tokens_and_ends_the_undo() {
    let mut table = Table::new();
    let committed = table.commit(1, Replace, 150, WHOLE);
    let until_micros = table.load(1).committed_at_micros.unwrap() + 15 * MINUTE;
    assert_eq!(table.refused(Change::SealLoad { load: LoadId(1) }), RefusedReason::TooYoung { until_micros });
    assert!(table.manifest.at_edition(Seq(1)).is_ok());
    table.seal(1);
    assert!(table.manifest.floors()[0].sealed);
    assert_eq!(
        table.refused(Change::RevertLoad { load: LoadId(1), reason: "late".into() }),
        RefusedReason::Sealed(LoadId(1))
    );
    assert_eq!(table.refused(Change::SealLoad { load: LoadId(1) }), RefusedReason::Sealed(LoadId(1)));
    assert_eq!(table.manifest.at_edition(Seq(1)), Err(Unrestorable::Gone { oldest: committed }));
}

#[test]
fn the_ninth_unsealed_load_over_a_range_needs_a_seal() {
    let mut table = Table::new();
    for id in 1..=8 {
        table.commit(id, Merge, 1, &[("a", "m")]);
    }
    // Elsewhere there is room.
    table.commit(100, Merge, 1, &[("n", "z")]);
    // A reverted load is not counted.
    table.apply(Change::RevertLoad { load: LoadId(8), reason: "bad".into() });
    table.commit(9, Merge, 1, &[("a", "m")]);
    table.prepare(10, Merge, 1, &[("m", "n")]);
    let sealable_at_micros = table.load(1).committed_at_micros.unwrap() + 15 * MINUTE;
    let reason = RefusedReason::TooManyUnsealed { oldest: LoadId(1), sealable_at_micros };
    assert_eq!(table.refused(commit(10)), reason);
    // "m" to "n" lies over the nine of both ranges.
    assert_eq!(table.manifest.seals_before_commit(LoadId(10)), [LoadId(1), LoadId(2)]);
    let with_seals =
        vec![Change::SealLoad { load: LoadId(1) }, Change::SealLoad { load: LoadId(2) }, commit(10)];
    assert!(matches!(table.refused_all(with_seals.clone()), RefusedReason::TooYoung { .. }));
    table.now += 16 * MINUTE;
    table.apply_all(with_seals);
    assert!(table.load(1).sealed && table.load(10).is_unsealed());
}

#[test]
fn a_replace_lies_over_every_key() {
    let mut table = Table::new();
    for id in 1..=8 {
        table.commit(id, Replace, 1, &[]);
    }
    table.prepare(9, Merge, 1, &[("m", "n")]);
    assert!(matches!(table.refused(commit(9)), RefusedReason::TooManyUnsealed { oldest: LoadId(1), .. }));
    table.prepare(10, Merge, 1, &[]);
    table.apply(commit(10));
}

#[test]
fn editions_leave_out_and_put_back() {
    let mut table = Table::new();
    let first = table.commit(1, Replace, 100, WHOLE);
    let second = table.commit(2, Replace, 200, WHOLE);
    let reverted = table.apply(Change::RevertLoad { load: LoadId(1), reason: "bad".into() });
    let shown = |edition: Seq| {
        let filter = table.manifest.at_edition(edition).unwrap();
        let loads = [1, 2].map(|id| filter.place_of(LoadId(id)).is_some());
        let floors: Vec<_> = filter.floors().iter().map(|floor| floor.load.0).collect();
        (loads, floors)
    };
    assert_eq!(shown(Seq(1)), ([false, false], vec![]));
    assert_eq!(shown(first), ([true, false], vec![1]));
    assert_eq!(shown(second), ([true, true], vec![1, 2]));
    assert_eq!(shown(reverted), ([false, true], vec![2]));
    assert_eq!(table.manifest.current(), &table.manifest.at_edition(reverted).unwrap());
    let ahead = table.manifest.seq().next();
    assert_eq!(table.manifest.at_edition(ahead), Err(Unrestorable::Ahead { at: reverted }));

    let segments: Vec<_> = table.manifest.segments_for_key(b"c").collect();
    let old = table.manifest.at_edition(first).unwrap();
    let places: Vec<_> = segments.iter().map(|segment| old.base_place(segment)).collect();
    assert_eq!(places, [Some(Place::loaded(first)), None]);
}

#[test]
fn a_reverted_load_is_forgotten_when_no_token_can_put_it_back() {
    let mut table = Table::new();
    table.commit(1, Replace, 100, WHOLE);
    let reverted = table.apply(Change::RevertLoad { load: LoadId(1), reason: "bad".into() });
    let forget = Change::ForgetLoad { load: LoadId(1) };
    assert!(matches!(table.refused(forget.clone()), RefusedReason::TooYoung { .. }));
    table.now += 16 * MINUTE;
    table.apply(forget);
    assert_eq!((table.manifest.segment_count(), table.manifest.loads().count()), (0, 0));
    assert_eq!(table.manifest.at_edition(Seq(1)), Err(Unrestorable::Gone { oldest: reverted }));
    assert!(table.manifest.at_edition(reverted).is_ok());
}

#[test]
fn a_prepared_load_can_be_previewed() {
    let mut table = Table::new();
    let first = table.commit(1, Merge, 100, WHOLE);
    table.prepare(2, Replace, 200, WHOLE);
    let next = table.manifest.seq().next();
    let preview = table.manifest.preview(LoadId(2), None).unwrap();
    assert_eq!(preview.place_of(LoadId(2)), Some(Place::loaded(next)));
    assert_eq!(preview.floors().len(), 1);
    assert!(preview.hides(150, Place::loaded(first)) && !preview.hides(150, Place::loaded(next)));
    // Pinned to an edition, and committed meanwhile: the same answer.
    let committed = table.apply(commit(2));
    let pinned = table.manifest.preview(LoadId(2), Some(first)).unwrap();
    assert_eq!(pinned.place_of(LoadId(2)), Some(Place::loaded(committed)));
    assert_eq!(pinned.floors().len(), 1);
    assert_eq!(&table.manifest.preview(LoadId(2), None).unwrap(), table.manifest.current());
    table.open_load(3, Merge, 1);
    for id in [3, 4] {
        assert_eq!(table.manifest.preview(LoadId(id), None), Err(Unrestorable::NotPrepared(LoadId(id))));
    }
}

#[test]
fn a_floor_goes_when_a_later_one_hides_all_that_it_hides() {
    let mut table = Table::new();
    table.commit(1, Replace, 90, WHOLE);
    table.commit(2, Replace, 100, WHOLE);
    let drop_floor = |id| Change::DropFloor { load: LoadId(id) };
    assert_eq!(table.refused(drop_floor(1)), RefusedReason::FloorNeeded(LoadId(1)));
    table.seal(1);
    assert_eq!(table.refused(drop_floor(1)), RefusedReason::FloorNeeded(LoadId(1)));
    table.seal(2);
    assert_eq!(table.refused(drop_floor(2)), RefusedReason::FloorNeeded(LoadId(2)));
    table.apply(drop_floor(1));
    assert_eq!(table.manifest.floors().len(), 1);
    // The rows of load 3 begin at 100, below the floor at 101: it stays.
    table.commit(3, Replace, 101, &[("a", "b")]);
    table.seal(3);
    table.commit(4, Replace, 200, WHOLE);
    table.seal(4);
    assert_eq!(table.refused(drop_floor(3)), RefusedReason::FloorNeeded(LoadId(3)));
    table.apply(drop_floor(2));
}

#[test]
fn a_sealed_load_is_forgotten_once_it_has_merged_away() {
    let mut table = Table::new();
    let seq = table.commit(1, Replace, 100, WHOLE);
    table.seal(1);
    let forget = Change::ForgetLoad { load: LoadId(1) };
    assert!(matches!(table.refused(forget.clone()), RefusedReason::LoadState { .. }));
    table.open_job(50);
    let mut output = by_job(9, "a", "z", Layer::Mixed { streamed: None, loads: (seq, seq) }, 50);
    output.exact_places = true;
    table.apply(compact(50, &[1000], vec![output]));
    table.apply(forget);
    assert_eq!(table.manifest.floors().len(), 1);
}

#[test]
fn a_replace_states_its_version() {
    let Change::OpenLoad(open) = open_load(1, Replace, 1) else { unreachable!() };
    let without = Change::OpenLoad(OpenLoad { version: None, ..open });
    assert_eq!(Table::new().refused(without), RefusedReason::Malformed);
}
