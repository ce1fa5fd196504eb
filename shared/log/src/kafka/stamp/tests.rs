use super::*;
use crate::{EncodedRecord, Op, RecordBuilder};
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
    Stamper::new(P, LogPosition { offset: Offset(10), clock: 5_000, ..LogPosition::start(LogIncarnation(0)) })
}

#[test]
fn versions_follow_the_append_time_and_never_stand_still() {
    let mut stamper = stamper();
    let stamped = stamper.stamp(raw(10, 9_000, rows(None))).unwrap();
    assert_eq!((stamped.version, stamped.append_time, stamper.at().clock), (9_000, 9_000, 9_000));
    // The same millisecond, and a broker whose clock is behind the one before.
    assert_eq!(stamper.stamp(raw(11, 9_000, rows(None))).unwrap().version, 9_001);
    let stamped = stamper.stamp(raw(12, 8_000, rows(None))).unwrap();
    assert_eq!((stamped.version, stamped.append_time), (9_002, 8_000));
    assert_eq!(stamper.at().offset, Offset(13));
}

#[test]
fn records_that_bring_their_versions_do_not_move_the_clock() {
    let mut stamper = stamper();
    assert_eq!(stamper.stamp(raw(10, 9_000, rows(Some(1)))).unwrap().version, 9_000);
    let marker = EncodedRecord::marker(WriteId(1)).as_bytes().clone();
    assert_eq!(stamper.stamp(raw(11, 9_000, marker)).unwrap().version, 9_000);
    assert_eq!(stamper.at().clock, 5_000);
}

#[test]
fn two_who_start_at_one_place_agree_wherever_one_stops() {
    let records: Vec<Raw> =
        (0..50).map(|n| raw(10 + n, 5_000 + (n as i64 * 7) % 40, rows((n % 3 == 0).then_some(1)))).collect();
    let mut whole = stamper();
    let all: Vec<Stamped> = records.iter().map(|raw| whole.stamp(raw.clone()).unwrap()).collect();
    let mut first = stamper();
    for (n, raw) in records.iter().enumerate() {
        let mut second = Stamper::new(P, first.at());
        for (raw, expected) in records[n..].iter().zip(&all[n..]) {
            assert_eq!(second.stamp(raw.clone()).unwrap(), *expected);
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
