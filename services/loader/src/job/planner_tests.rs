use std::collections::BTreeSet;

use super::super::facts::tests::note;
use super::super::facts::{Chain, Looked, LookedFile, MergeStep, ReadStep, Tally};
use super::*;
use nacre_types::{KeySchema, TableSettings};
use proptest::prelude::*;

const LIST: &str = "tables/t/j/files-1";

fn plan(unit_bytes: u64) -> Plan {
    Plan {
        key: KeySchema::Bytes,
        declares: false,
        settings: TableSettings::default(),
        late_below: i64::MIN,
        hidden_below: i64::MIN,
        unit_bytes,
    }
}

fn pinned(at: usize, bytes: u64) -> PinnedFile {
    PinnedFile {
        name: format!("f{at:04}"),
        path: format!("staging/f{at:04}"),
        bytes,
        etag: format!("e{at}"),
        version_id: None,
        staged: true,
    }
}

fn looked(file: &PinnedFile, adopted: Option<SegmentNote>, cuts: Vec<u64>) -> LookedFile {
    let rows = adopted.as_ref().map_or(0, |note| note.rows);
    let outcome = if adopted.is_some() { "adopted" } else { "rewritten" };
    let report = LoadFile {
        file: file.name.clone(),
        rows,
        bytes: file.bytes,
        outcome: outcome.into(),
        reason: None,
        hint: None,
    };
    LookedFile { report, adopted, hidden: 0, cuts }
}

/// A file of the model: its bytes, the rows at which it is cut, its rows, and its keys if it can be adopted.
#[derive(Debug, Clone)]
struct File {
    bytes: u64,
    cuts: Vec<u64>,
    rows: u64,
    keys: Option<(u8, u8)>,
}

fn file() -> impl Strategy<Value = File> {
    let keys = proptest::option::of((0..250u8, 0..6u8));
    let cuts = proptest::collection::btree_set(1..99u64, 0..4);
    (1..300u64, cuts, keys).prop_map(|(bytes, cuts, keys)| File {
        bytes,
        cuts: cuts.into_iter().collect(),
        rows: 100,
        keys: keys.map(|(first, more)| (first, first.saturating_add(more))),
    })
}

/// Does the units of one stage, as a loader would. `read`: how often each row of each file was read.
fn work(files: &[File], pinned: &[PinnedFile], facts: &mut Facts, stage: &Stage, read: &mut [Vec<u32>]) {
    let Stage::Units(units) = stage else { return };
    for unit in units {
        match &unit.work {
            Work::Plan => facts.plan = Some(plan(100)),
            Work::Look(first, end) => {
                let files = (*first..*end)
                    .map(|at| {
                        let of = |(first, last): (u8, u8)| {
                            note(at as u128, &format!("{first:03}"), &format!("{last:03}"), 100)
                        };
                        Some(looked(&pinned[at], files[at].keys.map(of), files[at].cuts.clone()))
                    })
                    .collect();
                facts.looked.insert(unit.id, Looked { files, ..Looked::default() });
            }
            Work::Read(slices) => {
                let mut step = ReadStep::default();
                for (nth, slice) in (0..).zip(slices) {
                    let rows = slice.from..slice.until.unwrap_or(files[slice.file].rows);
                    for row in rows.clone() {
                        read[slice.file][row as usize] += 1;
                    }
                    step.tallies.push(Tally { slice: nth, rows: rows.end - rows.start, hidden: 0 });
                }
                // A run over the keys of the first file, so that more adopted ones come to meet it.
                let first = files[slices[0].file].keys.map_or(7, |keys| keys.0);
                let (first, last) = (format!("{first:03}"), format!("{:03}", u16::from(first) + 2));
                step.runs.push(note(unit.id, &first, &last, 10));
                facts.read.insert(unit.id, Chain { steps: vec![step] });
            }
            Work::Cut => {
                let keys = ["303530", "313030"].map(str::to_owned).to_vec();
                facts.cuts.insert(unit.id, Cuts { keys, seconds: 0.0 });
            }
            Work::Merge(_) => {
                facts.merged.insert(unit.id, Chain { steps: vec![MergeStep::default()] });
            }
            Work::Finish => {}
        }
    }
}

proptest! {
    #[test]
    fn every_row_of_a_file_that_is_rewritten_is_in_one_unit_and_of_the_adopted_in_none(
        files in proptest::collection::vec(file(), 0..90),
    ) {
        let list: Vec<PinnedFile> = files.iter().enumerate().map(|(at, file)| pinned(at, file.bytes)).collect();
        let mut facts = Facts::default();
        let mut read: Vec<Vec<u32>> = files.iter().map(|file| vec![0; file.rows as usize]).collect();
        let mut seen = BTreeSet::new();
        let last = loop {
            let now = picture(LIST, &list, &facts).unwrap();
            // Another process that knows the same sees the same.
            prop_assert_eq!(&now, &picture(LIST, &list, &facts).unwrap());
            match &now.stage {
                Stage::Units(units) => {
                    prop_assert!(!units.is_empty());
                    for unit in units {
                        prop_assert!(seen.insert(unit.id), "{} is asked for twice", unit.label);
                        prop_assert!(!matches!(&unit.work, Work::Read(slices) if slices.is_empty()));
                    }
                }
                _ => break now,
            }
            work(&files, &list, &mut facts, &now.stage, &mut read);
        };
        prop_assert!(matches!(last.stage, Stage::Finish(..)));
        prop_assert_eq!(last.progress.files_done, files.len() as u64);
        prop_assert_eq!(last.progress.rows, 100 * files.len() as u64);
        let mut kept: Vec<(Bytes, Bytes)> = Vec::new();
        for (fate, read) in last.fates.iter().zip(&read) {
            let adopted = &fate.as_ref().unwrap().adopted;
            let times = u32::from(adopted.is_none());
            prop_assert!(read.iter().all(|count| *count == times), "{read:?}");
            kept.extend(adopted.as_ref().map(|note| note.keys().unwrap()));
        }
        // What stays adopted lies apart from everything else.
        let runs = last.runs.iter().map(|note| note.keys().unwrap());
        for (at, (first, end)) in kept.iter().enumerate() {
            let others = kept.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, keys)| keys.clone());
            prop_assert!(others.chain(runs.clone()).all(|(min, max)| *end < min || max < *first));
        }
    }

    #[test]
    fn ranges_of_the_merge_hold_each_key_once(cuts in proptest::collection::btree_set("[a-f]{1,3}", 0..9), key in "[a-f]{1,4}") {
        let keys = cuts.iter().map(|key| crate::note::hex(key.as_bytes())).collect();
        let units = merge_units(7, &Cuts { keys, seconds: 0.0 }).unwrap();
        prop_assert_eq!(units.len(), cuts.len() + 1);
        let holds = |unit: &&Unit| match &unit.work {
            Work::Merge(span) => {
                span.behind.as_ref().is_none_or(|behind| key.as_bytes() > &behind[..])
                    && span.through.as_ref().is_none_or(|through| key.as_bytes() <= &through[..])
            }
            _ => false,
        };
        prop_assert_eq!(units.iter().filter(holds).count(), 1);
    }

    #[test]
    fn progress_that_is_joined_is_never_less(one in progress(), other in progress()) {
        let both = joined(&one, &other);
        prop_assert_eq!(&both, &joined(&other, &one));
        prop_assert_eq!(&both, &joined(&both, &one));
        prop_assert!(both.rows >= one.rows && both.files_done >= one.files_done && both.bytes_moved >= one.bytes_moved);
        let looked = |progress: &LoadProgress| progress.adopted_files + progress.rewritten_files;
        prop_assert_eq!(looked(&both), looked(&one).max(looked(&other)));
    }
}

fn progress() -> impl Strategy<Value = LoadProgress> {
    let counts = (0..9u64, 0..9u64, 0..9u64, 0..9u64, 0..9u64);
    counts.prop_map(|(rows, files_done, bytes_moved, adopted_files, rewritten_files)| LoadProgress {
        rows,
        files_done,
        bytes_moved,
        adopted_files,
        rewritten_files,
        seconds: [("sorting".to_owned(), rows as f64)].into(),
        ..LoadProgress::default()
    })
}

#[test]
fn a_result_of_something_else_is_not_found() {
    let files = [pinned(0, 10), pinned(1, 10)];
    let one = look_units(&plan(100), &files);
    let changed = PinnedFile { etag: "other".into(), ..files[1].clone() };
    assert_ne!(one[0].id, look_units(&plan(100), &[files[0].clone(), changed])[0].id);
    assert_ne!(one[0].id, look_units(&plan(99), &files)[0].id, "the plan is part of what it rests on");
    assert_eq!(one, look_units(&plan(100), &files));
    let names = BTreeSet::from([one[0].name("", 0), one[0].name("", 1), one[0].name("0.5", 0)]);
    assert_eq!(names.len(), 3);
}

#[test]
fn small_files_share_a_unit_and_a_large_one_is_several() {
    let files = [pinned(0, 30), pinned(1, 30), pinned(2, 500), pinned(3, 30)];
    let mut facts = Facts { plan: Some(plan(100)), ..Facts::default() };
    let unit = look_units(&plan(100), &files).remove(0);
    let seen = files.iter().map(|file| {
        let cuts = if file.bytes > 100 { vec![20, 40] } else { Vec::new() };
        Some(looked(file, None, cuts))
    });
    facts.looked.insert(unit.id, Looked { files: seen.collect(), ..Looked::default() });
    let Stage::Units(units) = picture(LIST, &files, &facts).unwrap().stage else { panic!() };
    let slices: Vec<Vec<(usize, u64, Option<u64>)>> = units
        .iter()
        .map(|unit| match &unit.work {
            Work::Read(slices) => slices.iter().map(|s| (s.file, s.from, s.until)).collect(),
            _ => panic!(),
        })
        .collect();
    assert_eq!(
        slices,
        [
            vec![(0, 0, None), (1, 0, None), (2, 0, Some(20))],
            vec![(2, 20, Some(40))],
            vec![(2, 40, None)],
            vec![(3, 0, None)]
        ]
    );
}
