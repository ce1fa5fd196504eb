use super::super::Floor;
use super::*;
use bug::{Bug, Options};
use history::History;
use nacre_types::{Generation, Offset, Seq};

mod bug;
mod history;

fn streamed(offset: u64) -> Place {
    Place::streamed(Generation(0), Offset(offset))
}

fn context(floors: &Floors) -> KeepContext<'_> {
    KeepContext {
        sealed_floors: floors,
        expiry: Expiry::default(),
        max_versions: 0,
        now: 1_000,
        late_below: None,
    }
}

/// Judges rows of one key: (version, place, own expiry, whether it is a tombstone).
fn judge(
    context: KeepContext<'_>,
    oldest_outside: Option<i64>,
    rows: &[(i64, Place, Option<i64>, bool)],
) -> Vec<Verdict> {
    let mut keeper = Keeper::new(context);
    rows.iter()
        .map(|(version, place, expires, gone)| {
            keeper.judge(*version, *place, *expires, *gone, || oldest_outside)
        })
        .collect()
}

use Verdict::{Bury, Drop, Keep};

#[test]
fn rows_under_a_sealed_floor_go_first_and_neither_hide_nor_count() {
    let floors: Floors = [Floor::new(10, Seq(4))].into_iter().collect();
    let own = Place::loaded(Seq(4));
    let rows = [
        (9, streamed(3), None, true),
        (8, streamed(2), None, false),
        (7, own, None, false),
        (6, own, None, false),
    ];
    let two = KeepContext { max_versions: 2, ..context(&floors) };
    assert_eq!(judge(two, None, &rows), [Drop, Drop, Keep, Keep]);
}

#[test]
fn versions_beyond_the_limit_go_tombstones_too() {
    let floors = Floors::default();
    let one = KeepContext { max_versions: 1, ..context(&floors) };
    let rows = [(9, streamed(3), None, false), (9, streamed(2), None, true), (8, streamed(1), None, true)];
    assert_eq!(judge(one, Some(0), &rows), [Keep, Keep, Drop], "the tombstone that lost a tie stays");
    let rows = [(9, streamed(3), None, false), (8, streamed(1), None, true)];
    assert_eq!(judge(one, Some(0), &rows), [Keep, Drop]);
}

#[test]
fn what_ranks_below_a_tombstone_or_expired_row_goes_and_the_expired_row_is_buried() {
    let floors = Floors::default();
    let rows =
        [(9, streamed(3), None, false), (8, streamed(2), Some(1_000), false), (7, streamed(1), None, false)];
    assert_eq!(judge(context(&floors), Some(0), &rows), [Keep, Bury, Drop]);
    let rows = [(9, streamed(3), None, true), (9, streamed(2), None, false), (1, streamed(1), None, true)];
    assert_eq!(judge(context(&floors), Some(0), &rows), [Keep, Drop, Drop]);
}

#[test]
fn a_put_that_lost_a_tie_stays_while_it_would_expire_first() {
    let floors = Floors::default();
    let rows = [
        (9, streamed(5), Some(5_000), false),
        (9, streamed(4), Some(4_000), false),
        (9, streamed(3), Some(5_000), false),
        (9, streamed(2), Some(4_500), false),
        (9, streamed(1), None, false),
        (8, streamed(0), None, false),
    ];
    assert_eq!(judge(context(&floors), None, &rows), [Keep, Keep, Drop, Keep, Drop, Keep]);
}

#[test]
fn the_ttl_ends_rows_and_tombstones_alike() {
    let floors = Floors::default();
    let expiry = Expiry { ttl_micros: Some(100), expired_below: None };
    let ttl = KeepContext { expiry, ..context(&floors) };
    let rows =
        [(901, streamed(3), None, false), (900, streamed(2), None, true), (5, streamed(1), None, false)];
    assert_eq!(judge(ttl, Some(0), &rows), [Keep, Drop, Drop]);
    let expiry = Expiry { ttl_micros: None, expired_below: Some(900) };
    assert_eq!(judge(KeepContext { expiry, ..context(&floors) }, Some(0), &rows), [Keep, Drop, Drop]);
}

#[test]
fn a_tombstone_goes_by_lateness_only_where_nothing_as_old_is_left() {
    let floors = Floors::default();
    let late = KeepContext { late_below: Some(10), ..context(&floors) };
    let gone = |version| [(version, streamed(1), None, true)];
    assert_eq!(judge(context(&floors), None, &gone(9)), [Keep], "without max_lateness tombstones stay");
    assert_eq!(judge(late, None, &gone(9)), [Drop]);
    assert_eq!(judge(late, Some(10), &gone(9)), [Drop]);
    assert_eq!(judge(late, Some(9), &gone(9)), [Keep]);
    assert_eq!(judge(late, None, &gone(10)), [Keep], "a row of its version may still arrive");
    assert_eq!(judge(late, None, &[(9, streamed(1), Some(7), false)]), [Drop], "so does an expired row");
}

#[test]
fn a_segment_goes_unread_where_each_of_its_rows_would() {
    let floors: Floors = [Floor::new(10, Seq(4))].into_iter().collect();
    let loaded = |seq| Place::loaded(Seq(seq));
    let context = context(&floors);
    assert!(whole_segment_goes(&context, 9, (streamed(0), streamed(9))));
    assert!(!whole_segment_goes(&context, 10, (streamed(0), streamed(9))));
    assert!(whole_segment_goes(&context, 10, (loaded(1), loaded(3))));
    assert!(!whole_segment_goes(&context, 9, (loaded(1), loaded(5))), "the floor's own rows may be in it");
    let expiry = Expiry { ttl_micros: Some(100), expired_below: None };
    let ttl = KeepContext { expiry, ..context };
    assert!(whole_segment_goes(&ttl, 900, (loaded(4), loaded(4))));
    assert!(!whole_segment_goes(&ttl, 901, (loaded(4), loaded(4))));
}

fn run(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        for options in [Options::exact(), Options::approximate()] {
            if let Err(story) = History::run(seed, options) {
                panic!("seed {seed}, {options:?}:\n{story}");
            }
        }
    }
}

#[test]
fn no_answer_ever_depends_on_what_was_dropped() {
    run(0..2_000);
}

#[test]
#[ignore = "takes minutes: for whoever changes a rule"]
fn no_answer_ever_depends_on_what_was_dropped_in_two_million_histories() {
    run(0..1_000_000);
}

#[test]
fn every_weakened_rule_is_seen() {
    for bug in Bug::ALL {
        let seen = (0..100_000).find(|seed| History::run(*seed, Options::exact().with(bug)).is_err());
        assert!(seen.is_some(), "{bug:?} was not seen");
    }
}
