use super::*;

const NOW: i64 = 1_000_000_000_000_000;
const INCARNATION: LogIncarnation = LogIncarnation(3);

fn at(offset: u64, clock: i64) -> LogPosition {
    LogPosition { offset: Offset(offset), clock, ..LogPosition::start(INCARNATION) }
}

/// A partition that is flushed through 100.
fn seen(start: u64, end: u64) -> Seen {
    Seen {
        partition: PartitionId(1),
        before: Some(at(100, 7)),
        cover: PartitionCover { through: Offset(90), newest_version: None },
        marks: PartitionMarks { start: Offset(start), end: Offset(end) },
        flushed: Some(at(100, 7)),
    }
}

fn placed(seen: &Seen, is_same: bool, base: u64) -> Placed {
    place(seen, is_same, base, INCARNATION, NOW).unwrap()
}

#[test]
fn a_partition_that_is_well_stays_where_it_is() {
    for (start, end) in [(0, 200), (100, 200), (0, 100), (100, 100)] {
        let placed = placed(&seen(start, end), true, 0);
        assert_eq!(
            (placed.base, placed.start.0, placed.clock, placed.lost, &placed.why[..]),
            (0, 100, 7, None, "")
        );
    }
    let never = Seen { before: None, flushed: None, cover: PartitionCover::default(), ..seen(0, 50) };
    assert_eq!((placed(&never, true, 0).start.0, placed(&never, true, 0).lost), (0, None));
    // It went on while it was looked at.
    let trimmed = Seen { flushed: Some(at(160, 8)), ..seen(150, 170) };
    assert_eq!((placed(&trimmed, true, 0).start.0, placed(&trimmed, true, 0).lost), (160, None));
    let grown = Seen { flushed: Some(at(230, 8)), ..seen(0, 200) };
    assert_eq!((placed(&grown, true, 0).start.0, placed(&grown, true, 0).lost), (230, None));
}

#[test]
fn what_was_deleted_is_lost_and_nothing_else_is() {
    let told = placed(&seen(120, 200), true, 0);
    assert_eq!((told.base, told.start.0, told.clock), (0, 120, 7));
    assert_eq!(told.lost, Some((Offset(100), Some(Offset(120)))));
    // As the log counts, where it has a base.
    let told = placed(
        &Seen { marks: PartitionMarks { start: Offset(20), end: Offset(60) }, ..seen(0, 0) },
        true,
        90,
    );
    assert_eq!((told.base, told.start.0), (90, 110));
}

#[test]
fn another_topic_goes_on_above_all_that_is_known_of_the_old_one() {
    for known in [0, 1, 100, ROOM - 1, ROOM, ROOM + 1, 5 * ROOM + 17] {
        let (flushed, covered) = (Some(at(known / 2, 7)), Offset(known));
        for (before, through) in [(flushed, covered), (Some(at(known, 7)), Offset(0))] {
            let cover = PartitionCover { through, newest_version: None };
            let seen = Seen { before, flushed: before, cover, ..seen(4, 9) };
            let told = placed(&seen, false, 17);
            assert!(told.base >= known + ROOM && told.base < known + 2 * ROOM, "{known}: {told:?}");
            assert_eq!((told.start.0, told.clock), (told.base + 4, 7));
            assert_eq!(told.lost, Some((before.unwrap().offset, None)));
        }
    }
}

#[test]
fn a_topic_that_lost_its_end_goes_on_behind_what_is_left() {
    let told = placed(&seen(0, 80), true, 0);
    assert_eq!((told.base, told.start.0), (2 * ROOM, 2 * ROOM + 80));
    assert_eq!(told.lost, Some((Offset(100), None)));
    // Also where only segments know more.
    let cover = PartitionCover { through: Offset(150), newest_version: None };
    assert_eq!(placed(&Seen { cover, ..seen(0, 140) }, true, 0).base, 2 * ROOM);
}

#[test]
fn the_clock_passes_what_segments_hold_but_no_writers_own_version_carries_it_away() {
    let told = |newest| {
        let cover = PartitionCover { through: Offset(150), newest_version: Some(newest) };
        placed(&Seen { cover, ..seen(0, 9) }, false, 0).clock
    };
    assert_eq!(told(5), 7);
    assert_eq!(told(NOW - 1), NOW - 1);
    assert_eq!(told(i64::MAX), NOW + AHEAD_MICROS);
    // Where nothing is lost, no record that is left gets another version.
    let cover = PartitionCover { through: Offset(150), newest_version: Some(NOW) };
    assert_eq!(placed(&Seen { cover, ..seen(0, 200) }, true, 0).clock, 7);
}

#[test]
fn a_start_of_another_incarnation_is_not_well() {
    let old = LogPosition { incarnation: LogIncarnation(2), ..at(100, 7) };
    let told = placed(&Seen { flushed: Some(old), ..seen(0, 200) }, true, 0);
    assert!(told.why.contains("incarnation 2"), "{told:?}");
}

#[test]
fn offsets_that_ranks_have_no_room_for_are_refused() {
    let far = Seen { before: Some(at(OFFSETS - ROOM, 7)), ..seen(0, 9) };
    assert_eq!(place(&far, false, 0, INCARNATION, NOW).unwrap_err().code(), "log-offsets-exhausted");
    let long = seen(0, OFFSETS - 3 * ROOM);
    assert_eq!(place(&long, false, 0, INCARNATION, NOW).unwrap_err().code(), "log-offsets-exhausted");
}
