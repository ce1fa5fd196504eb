//! The sentences of chapter 2, one by one.

use super::*;

const K: &[u8] = b"k";

fn at(offset: u64) -> Position {
    Position { generation: 0, offset, index: 0 }
}

fn keeping(max_versions: u32) -> Model {
    Model::new(Settings { max_versions, ttl: None })
}

fn row(version: i64, value: &str) -> LoadRow {
    LoadRow {
        key: K.to_vec(),
        version: Some(version),
        value: Some(value.as_bytes().to_vec()),
        expires_at: None,
    }
}

fn seen(model: &Model, now: i64) -> Vec<String> {
    let rows = model.versions(K, i64::MIN, i64::MAX, usize::MAX, &Read::at(now));
    rows.into_iter().map(|row| String::from_utf8(row.value).unwrap()).collect()
}

fn load(model: &mut Model, number: u64, mode: LoadMode, version: i64, rows: Vec<LoadRow>) {
    model.prepare(number, mode, version, rows);
    model.commit(number, number);
}

#[test]
fn a_later_put_of_the_same_version_wins_and_streams_win_over_loads() {
    let mut model = keeping(0);
    model.put(K, 5, at(1), b"late", None);
    model.put(K, 5, at(0), b"early", None);
    load(&mut model, 1, LoadMode::Merge, 5, vec![row(5, "load")]);
    assert_eq!(seen(&model, 0), ["late"]);
    model.put(K, 5, Position { generation: 0, offset: 1, index: 1 }, b"same record", None);
    assert_eq!(seen(&model, 0), ["same record"]);
}

#[test]
fn a_tombstone_that_lost_a_tie_still_hides_what_ranks_below_it() {
    let mut model = keeping(0);
    model.put(K, 3, at(0), b"old", None);
    model.delete(K, 5, at(1));
    model.put(K, 5, at(2), b"new", None);
    assert_eq!(seen(&model, 0), ["new"]);
}

#[test]
fn a_tombstone_hides_what_arrives_later_below_it() {
    let mut model = keeping(0);
    model.delete(K, 5, at(0));
    model.put(K, 4, at(1), b"late", None);
    assert!(seen(&model, 0).is_empty());
}

#[test]
fn what_an_expired_row_hid_stays_hidden() {
    let mut model = keeping(0);
    model.put(K, 3, at(0), b"three", None);
    model.put(K, 5, at(1), b"five", Some(100));
    assert_eq!(seen(&model, 99), ["five", "three"]);
    assert!(seen(&model, 100).is_empty());
}

#[test]
fn as_of_and_ranges_look_at_visible_rows_only() {
    let mut model = keeping(2);
    for version in 1..=4 {
        model.put(K, version, at(version as u64), version.to_string().as_bytes(), None);
    }
    let value = |as_of| model.get(K, &Read { as_of, ..Read::at(0) }).map(|row| row.version);
    assert_eq!((value(9), value(3), value(2)), (Some(4), Some(3), None));
    assert_eq!(model.versions(K, 1, 3, 9, &Read::at(0)).len(), 1);
    assert_eq!(model.versions(K, 1, 4, 1, &Read::at(0))[0].version, 4);
}

#[test]
fn a_replace_hides_all_but_its_own_and_what_ranks_above() {
    let mut model = keeping(0);
    model.put(K, 9, at(0), b"below", None);
    model.put(K, 10, at(1), b"streamed at V", None);
    load(&mut model, 1, LoadMode::Merge, 10, vec![row(10, "earlier load"), row(11, "newer")]);
    load(&mut model, 2, LoadMode::Replace, 10, vec![row(10, "own"), row(4, "own, below V")]);
    model.put(K, 8, at(2), b"late", None);
    load(&mut model, 3, LoadMode::Merge, 9, vec![row(9, "later load below V")]);
    assert_eq!(seen(&model, 0), ["newer", "streamed at V", "own, below V"]);
    load(&mut model, 4, LoadMode::Replace, 5, vec![row(5, "5")]);
    assert_eq!(seen(&model, 0), ["newer", "streamed at V"], "floors of several replaces all hold");
}

#[test]
fn a_revert_is_as_if_the_load_had_never_been_committed() {
    let mut model = keeping(0);
    model.put(K, 3, at(0), b"three", None);
    load(&mut model, 1, LoadMode::Replace, 10, vec![row(10, "ten")]);
    model.put(K, 4, at(1), b"four", None);
    assert_eq!(seen(&model, 0), ["ten"]);
    model.revert(1, 2);
    assert_eq!(seen(&model, 0), ["four", "three"]);
    let old = Read { edition: Some(1), ..Read::at(0) };
    assert_eq!(model.get(K, &old).unwrap().value, b"ten", "an older edition puts it back");
    assert_eq!(model.get(K, &Read { edition: Some(0), ..old }).unwrap().value, b"four");
}

#[test]
fn a_prepared_load_is_seen_only_by_who_names_it() {
    let mut model = keeping(0);
    model.put(K, 3, at(0), b"three", None);
    model.prepare(7, LoadMode::Replace, 10, [row(10, "ten")]);
    assert_eq!(seen(&model, 0), ["three"]);
    let preview = Read { preview: Some(7), ..Read::at(0) };
    assert_eq!(model.get(K, &preview).unwrap().value, b"ten");
    assert_eq!(model.scan(b"", None, &preview).len(), 1);
}

#[test]
fn a_changed_ttl_brings_nothing_back() {
    let mut model = Model::new(Settings { max_versions: 0, ttl: Some(10) });
    model.put(K, 5, at(0), b"five", None);
    model.put(K, 9, at(1), b"nine", None);
    assert_eq!(seen(&model, 14), ["nine", "five"]);
    assert_eq!(seen(&model, 15), ["nine"]);
    model.set_ttl(None, 16);
    assert_eq!((seen(&model, 100), model.expired_below()), (vec!["nine".to_owned()], Some(6)));
}

#[test]
fn the_logs_clock_never_gives_a_version_twice() {
    let mut clock = Clock::default();
    assert_eq!([clock.give(5), clock.give(5), clock.give(3), clock.give(9)], [5, 6, 7, 9]);
}

#[test]
fn lateness_refuses_below_its_bounds() {
    let rule = LateRule { limit: Some(10), late_below: Some(3) };
    assert!(rule.refuses(89, 100) && !rule.refuses(90, 100));
    assert!(rule.refuses(2, 0) && !rule.refuses(3, 0));
}
