use super::*;
use crate::{EncodedRecord, Op, RecordBuilder};
use nacre_store::LogHole;
use nacre_types::{Generation, LogIncarnation, TableId, WriteId};

const P: PartitionId = PartitionId(3);

fn rows(version: Option<i64>) -> Bytes {
    let mut builder = RecordBuilder::new(TableId(1), Generation(0), WriteId(2));
    builder.push(Op::Put, b"k", b"v", version, None).unwrap();
    builder.finish().as_bytes().clone()
}

fn raw(offset: u64, append_time: i64, bytes: Bytes) -> Raw {
    Raw { offset, append_time: Some(append_time), bytes }
}

fn stamper() -> Stamper {
    with_holes(&[])
}

fn with_holes(holes: &[(u64, u64)]) -> Stamper {
    let at = LogPosition { offset: Offset(10), clock: 5_000, ..LogPosition::start(LogIncarnation(0)) };
    let hole = |&(from, to): &(u64, u64)| LogHole { partition: P, from: Offset(from), to: Offset(to) };
    let mending = LogMending { holes: holes.iter().map(hole).collect(), ..LogMending::default() };
    Stamper::new(P, at, &Arc::new(mending))
}

fn stamped(stamper: &mut Stamper, raw: Raw) -> Stamped {
    stamper.stamp(raw).unwrap().expect("no hole")
}

#[test]
fn versions_follow_the_append_time_and_never_stand_still() {
    let mut stamper = stamper();
    let first = stamped(&mut stamper, raw(10, 9_000, rows(None)));
    assert_eq!((first.version, first.append_time, stamper.at().clock), (9_000, 9_000, 9_000));
    // The same millisecond, and a broker whose clock is behind the one before.
    assert_eq!(stamped(&mut stamper, raw(11, 9_000, rows(None))).version, 9_001);
    let third = stamped(&mut stamper, raw(12, 8_000, rows(None)));
    assert_eq!((third.version, third.append_time), (9_002, 8_000));
    assert_eq!(stamper.at().offset, Offset(13));
}

#[test]
fn records_that_bring_their_versions_do_not_move_the_clock() {
    let mut stamper = stamper();
    assert_eq!(stamped(&mut stamper, raw(10, 9_000, rows(Some(1)))).version, 9_000);
    let marker = EncodedRecord::marker(WriteId(1)).as_bytes().clone();
    assert_eq!(stamped(&mut stamper, raw(11, 9_000, marker)).version, 9_000);
    assert_eq!(stamper.at().clock, 5_000);
}

#[test]
fn two_who_start_at_one_place_agree_wherever_one_stops() {
    let records: Vec<Raw> =
        (0..50).map(|n| raw(10 + n, 5_000 + (n as i64 * 7) % 40, rows((n % 3 == 0).then_some(1)))).collect();
    let mut whole = stamper();
    let all: Vec<Stamped> = records.iter().map(|raw| stamped(&mut whole, raw.clone())).collect();
    let mut first = stamper();
    for (n, raw) in records.iter().enumerate() {
        let mut second = Stamper::new(P, first.at(), &Arc::default());
        for (raw, expected) in records[n..].iter().zip(&all[n..]) {
            assert_eq!(stamped(&mut second, raw.clone()), *expected);
        }
        assert_eq!(second.at(), whole.at());
        first.stamp(raw.clone()).unwrap();
    }
}

#[test]
fn what_two_readers_could_see_differently_is_corrupt() {
    for (raw, code) in [
        (raw(11, 9_000, rows(None)), "log-gap"),
        (raw(9, 9_000, rows(None)), "log-gap"),
        (Raw { append_time: None, ..raw(10, 0, rows(None)) }, "log-append-time"),
        (raw(10, -1_000, rows(None)), "log-append-time"),
        (raw(10, 9_000, Bytes::from_static(b"stranger")), "newer-format"),
        (raw(10, 9_000, Bytes::new()), "log-corrupt"),
    ] {
        let mut stamper = stamper();
        let error = stamper.stamp(raw).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(stamper.at().offset, Offset(10));
    }
}

#[test]
fn holes_are_passed_over_wherever_one_starts_and_change_no_version() {
    let stranger = |offset| raw(offset, 9_000, Bytes::from_static(b"stranger"));
    // Offsets 12 and 13 hold a stranger's messages, 15 to 17 nothing at all.
    let records = [
        raw(10, 9_000, rows(None)),
        raw(11, 9_000, rows(None)),
        stranger(12),
        stranger(13),
        raw(14, 9_000, rows(None)),
        raw(18, 9_000, rows(None)),
    ];
    let mut whole = with_holes(&[(12, 13), (13, 14), (15, 18)]);
    let mut all = Vec::new();
    for record in &records {
        let before = whole.at();
        let mut second =
            Stamper::new(P, LogPosition { offset: Offset(record.offset.min(12)), ..before }, &whole.mending);
        if record.offset >= 12 {
            assert_eq!(second.at().offset, Offset(14), "nobody stands in a hole");
        }
        let got = whole.stamp(record.clone()).unwrap();
        if record.offset < 12 {
            assert_eq!(second.stamp(record.clone()).unwrap(), got);
        }
        all.extend(got.map(|stamped| (stamped.offset.0, stamped.version)));
    }
    assert_eq!(all, [(10, 9_000), (11, 9_001), (14, 9_002), (18, 9_003)]);
    assert_eq!(whole.at().offset, Offset(19));
    // What a hole does not name is a gap still.
    let mut other = with_holes(&[(12, 13)]);
    stamped(&mut other, raw(10, 9_000, rows(None)));
    stamped(&mut other, raw(11, 9_000, rows(None)));
    assert_eq!(other.at().offset, Offset(13));
    assert_eq!(other.stamp(stranger(13)).unwrap_err().code(), "newer-format");
    assert_eq!(other.stamp(raw(10, 9_000, rows(None))).unwrap_err().code(), "log-gap", "read already");
}
