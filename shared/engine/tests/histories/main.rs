//! The engine equals the model: two thousand random histories. `NACRE_HISTORIES` says how many,
//! `NACRE_HISTORIES_SEED` where to begin. One hundred thousand, with at least a hundred for each pair of things that
//! can meet:
//!
//! ```text
//! cargo run --release -p nacre-engine --example histories -- --count 100000 --seed 1
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    unreachable_pub
)]

mod suite;

use suite::ops::{History, Op, Row, Setup, Step};
use suite::pairs::Feature;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn every_history_reads_as_the_model_says() {
    let count = number("NACRE_HISTORIES", 2_000);
    match suite::run_many(number("NACRE_HISTORIES_SEED", 1), count, |_| ()) {
        Err(failure) => panic!("{failure}"),
        Ok(pairs) => {
            pairs.print();
            let rare = pairs.below((count / 500) as u32);
            assert!(rare.is_empty(), "too seldom: {rare:#?}");
        }
    }
}

/// Tombstones go where the table sets `max_lateness`; the model keeps them all.
#[test]
fn histories_of_tables_with_a_lateness_read_as_the_model_says() {
    let (first, count) = (number("NACRE_HISTORIES_SEED", 1), number("NACRE_HISTORIES", 2_000) / 4);
    let mut met = [0; 2];
    for seed in first..first + count {
        let history = History::draw_late(seed);
        match suite::run(&history) {
            Ok(had) => {
                for (count, feature) in met.iter_mut().zip([Feature::DroppedLate, Feature::RefusedLate]) {
                    *count += u64::from(had.has(feature));
                }
            }
            Err(why) => panic!("{}", suite::shrink::report(seed, history, why)),
        }
    }
    println!("of {count} histories {met:?} dropped late tombstones and refused late rows");
    assert!(met.into_iter().all(|met| met >= count / 20), "{met:?} of {count}");
}

fn setup() -> Setup {
    Setup {
        max_versions: 0,
        ttl_seconds: None,
        undo_window_seconds: 900,
        split: false,
        trims: false,
        tiny_segments: false,
        skew: 0,
        lateness_seconds: None,
    }
}

fn row(version: u8) -> Row {
    Row { key: 0, put: true, version: Some(version), expires: None }
}

fn replace(v: u8, insist: bool) -> Op {
    Op::Load { replace: true, v, rows: vec![row(v)], segments: 1, insist, commit: true, pages: 1 }
}

fn history(steps: impl IntoIterator<Item = (u8, Op)>) -> History {
    let steps = steps.into_iter().map(|(slot, op)| Step { slot, op });
    let checked = steps.flat_map(|step| [step, Step { slot: 0, op: Op::Check { seed: 1 } }]);
    History { setup: setup(), steps: checked.collect() }
}

/// It used to be told that there is no such load, until the next poll.
#[test]
fn a_process_reverts_a_load_that_another_committed_a_moment_ago() {
    let mut history = history([
        (1, Op::Write { rows: vec![row(2)] }),
        (0, replace(5, true)),
        (1, Op::Revert { which: 0 }),
        (0, replace(5, true)),
    ]);
    // Without a look in between: a strong read would have told it.
    history.steps.remove(3);
    let met = suite::run(&history).unwrap();
    assert!(met.has(Feature::Revert) && met.has(Feature::TwoNodes));
}

/// Every refusal of an edit used to have the code `edit-refused`. The suite checks what it has.
#[test]
fn a_replace_below_a_floor_is_refused_by_its_own_code() {
    suite::run(&history([(0, replace(5, true)), (0, replace(3, false)), (0, replace(3, true))])).unwrap();
}

/// Eight loads that can be undone, and the ninth seals the oldest once that is old enough; before, it is throttled.
#[test]
fn the_ninth_load_seals_the_first() {
    let mut steps: Vec<(u8, Op)> = (0..9).map(|_| (0, replace(5, true))).collect();
    steps.push((0, Op::Pass { micros: 16 * suite::ops::MINUTE }));
    steps.push((0, Op::Commit { which: 0 }));
    let met = suite::run(&history(steps)).unwrap();
    assert!(met.has(Feature::Seal));
}
