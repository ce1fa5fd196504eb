use super::super::Floor;
use super::*;
use nacre_types::{Generation, Offset, Seq};

const STREAM: Place = Place::MAX;

fn at(offset: u64) -> Place {
    Place::streamed(Generation(0), Offset(offset))
}

fn put(version: i64, place: Place, value: &'static str) -> Candidate<&'static str> {
    Candidate { version, place, index: 0, expires_at: None, value: Some(value) }
}

fn gone(version: i64, place: Place) -> Candidate<&'static str> {
    Candidate { version, place, index: 0, expires_at: None, value: None }
}

fn expiring(version: i64, place: Place, value: &'static str, at: i64) -> Candidate<&'static str> {
    Candidate { expires_at: Some(at), ..put(version, place, value) }
}

fn rules(floors: &Floors, max_versions: u32) -> Rules<'_> {
    Rules { floors, expiry: Expiry::default(), max_versions, now: 1_000 }
}

fn found(
    rows: &[Candidate<&'static str>],
    rules: Rules<'_>,
    as_of: i64,
) -> std::result::Result<&'static str, Absence> {
    let mut rows = rows.to_vec();
    get(&mut rows, rules, as_of).found.map(|row| row.value.unwrap())
}

fn seen(rows: &[Candidate<&'static str>], rules: Rules<'_>) -> Vec<&'static str> {
    let mut rows = rows.to_vec();
    sort(&mut rows);
    versions(&rows, rules, i64::MIN, i64::MAX, usize::MAX).map(|row| row.value.unwrap()).collect()
}

#[test]
fn the_highest_rank_wins_whatever_the_order_given() {
    let floors = Floors::default();
    let loaded = Place::loaded(Seq(9));
    let rows = [put(5, loaded, "load"), put(4, at(8), "old"), put(5, at(1), "stream")];
    assert_eq!(found(&rows, rules(&floors, 1), i64::MAX), Ok("stream"));
    assert_eq!(found(&[put(5, at(1), "first"), put(5, at(2), "second")], rules(&floors, 1), 5), Ok("second"));
    let same = [put(5, loaded, "first in file"), put(5, loaded, "second in file")];
    assert_eq!(found(&same, rules(&floors, 1), 5), Ok("first in file"));
    let record = [put(5, at(1), "zero"), Candidate { index: 1, ..put(5, at(1), "one") }];
    assert_eq!(found(&record, rules(&floors, 1), 5), Ok("one"));
}

#[test]
fn max_versions_is_final_for_as_of() {
    let floors = Floors::default();
    let rows = [put(5, at(1), "five"), put(3, at(0), "three")];
    assert_eq!(found(&rows, rules(&floors, 1), 4), Err(Absence::Row));
    assert_eq!(found(&rows, rules(&floors, 2), 4), Ok("three"));
    assert_eq!(found(&rows, rules(&floors, 0), 3), Ok("three"));
    assert_eq!(found(&rows, rules(&floors, 0), 2), Err(Absence::Row));
}

#[test]
fn a_tombstone_hides_what_ranks_below_it_also_when_it_lost_a_tie() {
    let floors = Floors::default();
    let rows = [put(5, at(9), "winner"), gone(5, at(4)), put(3, at(0), "old")];
    assert_eq!(seen(&rows, rules(&floors, 0)), ["winner"]);
    assert_eq!(found(&rows, rules(&floors, 0), 4), Err(Absence::Tombstone));
    assert_eq!(found(&[gone(5, at(4)), put(5, at(3), "x")], rules(&floors, 0), 9), Err(Absence::Tombstone));
}

#[test]
fn an_expired_row_is_absent_and_what_it_hid_stays_hidden() {
    let floors = Floors::default();
    let rows = [expiring(5, at(9), "five", 1_000), put(3, at(0), "three")];
    assert_eq!(found(&rows, rules(&floors, 0), 9), Err(Absence::Expired));
    assert_eq!(found(&rows, Rules { now: 999, ..rules(&floors, 0) }, 9), Ok("five"));
    let lost = [put(5, at(9), "five"), expiring(5, at(8), "loser", 1_000), put(3, at(0), "three")];
    assert_eq!(seen(&lost, rules(&floors, 0)), ["five"], "an expired row that lost a tie still hides");
    assert_eq!(seen(&lost, Rules { now: 999, ..rules(&floors, 0) }), ["five", "three"]);
}

#[test]
fn rows_under_a_floor_neither_hide_nor_count() {
    let floors: Floors = [Floor::new(10, Seq(4))].into_iter().collect();
    let own = Place::loaded(Seq(4));
    let rows = [gone(8, at(1)), put(7, at(0), "seven"), put(3, own, "own"), put(2, own, "own too")];
    assert_eq!(seen(&rows, rules(&floors, 2)), ["own", "own too"]);
    assert_eq!(seen(&[put(10, at(1), "stays"), put(9, at(2), "goes")], rules(&floors, 0)), ["stays"]);
}

#[test]
fn versions_are_a_closed_range_newest_first_and_limited() {
    let floors = Floors::default();
    let mut rows = [put(1, at(0), "1"), put(2, at(1), "2"), put(3, at(2), "3"), put(4, at(3), "4")];
    sort(&mut rows);
    let list = |max, since, until, limit| -> Vec<&str> {
        versions(&rows, rules(&floors, max), since, until, limit).map(|row| row.value.unwrap()).collect()
    };
    assert_eq!(list(0, 2, 3, 9), ["3", "2"]);
    assert_eq!(list(0, 2, 4, 1), ["4"]);
    assert_eq!(list(2, 1, 3, 9), ["3"], "newer versions outside the range count for max_versions");
    assert!(list(0, 5, 9, 9).is_empty() && list(0, 1, 9, 0).is_empty());
}

#[test]
fn an_answer_says_from_where_down_it_is_settled() {
    let floors = Floors::default();
    let two = rules(&floors, 2);
    assert_eq!(get::<&str>(&mut [], two, 9).settled, None);
    assert_eq!(get(&mut [put(5, at(1), "x")], two, 9).settled, Some((5, at(1))));
    assert_eq!(get(&mut [put(5, at(1), "x")], two, 4).settled, None, "an older version may come");
    assert_eq!(get(&mut [put(5, at(1), "x")], rules(&floors, 1), 4).settled, Some((5, at(1))));
    assert_eq!(get(&mut [gone(5, STREAM)], two, 9).settled, Some((5, STREAM)));
    let floored: Floors = [Floor::new(10, Seq(4))].into_iter().collect();
    assert_eq!(get(&mut [put(5, at(1), "x")], rules(&floored, 1), 9).settled, None);
}
