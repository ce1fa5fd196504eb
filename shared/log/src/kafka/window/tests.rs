use super::*;
use crate::kafka::stamp::Stamper;
use crate::{Op, RecordBuilder};
use nacre_types::{Generation, LogIncarnation, PartitionId, TableId};

fn start(offset: u64) -> LogPosition {
    LogPosition { offset: Offset(offset), ..LogPosition::start(LogIncarnation(0)) }
}

fn raw(offset: u64) -> Raw {
    let mut builder = RecordBuilder::new(TableId(1), Generation(0), WriteId(u128::from(offset)));
    builder.push(Op::Put, b"k", &[7; 100], None, None).unwrap();
    let append_time = Some(1_000 + offset as i64);
    Raw { offset, append_time, bytes: builder.finish().as_bytes().clone() }
}

/// The slice of `count` records from `at` on.
fn slice(at: LogPosition, count: u64) -> Slice {
    let mut stamper = Stamper::new(PartitionId(0), at, &Arc::default());
    let mut builder = SliceBuilder::new(at);
    for offset in at.offset.0..at.offset.0 + count {
        let raw = raw(offset);
        let bytes = raw.bytes.len();
        let stamped = stamper.stamp(raw).unwrap().unwrap();
        builder.push(stamped, bytes, stamper.at());
    }
    builder.finish()
}

fn known(slices: &[u64]) -> Known {
    let mut known = Known::new(1 << 20);
    known.resume(start(0), 0);
    for count in slices {
        let at = known.at().unwrap();
        known.publish(slice(at, *count));
    }
    known
}

#[test]
fn tails_find_their_place_in_the_window() {
    let known = known(&[3, 4]);
    let whole = slice(start(0), 7);
    for offset in 0..7 {
        let clock = whole.clocks[offset];
        let at = LogPosition { offset: Offset(offset as u64), clock, ..start(0) };
        let Look::Records(found, index) = known.look(&at) else { panic!("offset {offset} is in memory") };
        assert_eq!(found.records[index], whole.records[offset]);
        let Look::WrongClock(right) = known.look(&LogPosition { clock: clock + 1, ..at }) else {
            panic!("a wrong clock is seen")
        };
        assert_eq!(right, clock);
    }
    assert!(matches!(known.look(&known.at().unwrap()), Look::Wait));
    assert!(matches!(known.look(&start(7)), Look::WrongClock(_)));
    assert!(matches!(known.look(&start(99)), Look::Wait));
}

#[test]
fn what_memory_no_longer_holds_is_read_again() {
    let mut known = Known::new(400);
    known.resume(start(0), 0);
    for _ in 0..5 {
        known.publish(slice(known.at().unwrap(), 2));
    }
    assert!(matches!(known.look(&start(0)), Look::Behind));
    assert!(known.window.len() < 5 && known.bytes <= 400);
    let last = known.window.back().unwrap().start;
    assert!(matches!(known.look(&last), Look::Records(_, 0)), "the newest slice stays");
}

#[test]
fn who_waits_for_an_offset_is_told_when_it_is_read() {
    let mut known = known(&[2]);
    let mut before = known.place(Offset(1));
    assert_eq!(before.try_recv().unwrap().write_id, WriteId(1));
    let mut later = known.place(Offset(3));
    assert!(later.try_recv().is_err());
    known.publish(slice(known.at().unwrap(), 3));
    let place = later.try_recv().unwrap();
    assert_eq!(
        (place.write_id, place.appended.offset, place.appended.append_time),
        (WriteId(3), Offset(3), 1_003)
    );
    drop(known.place(Offset(9)));
    known.tidy();
    assert!(known.waiters.is_empty());
}

#[test]
fn a_jump_leaves_nothing_of_what_was_known() {
    let mut known = known(&[2]);
    let mut below = known.place(Offset(4));
    let mut above = known.place(Offset(11));
    known.resume(start(10), 12);
    assert!(matches!(below.try_recv(), Err(oneshot::error::TryRecvError::Closed)), "nobody will know");
    assert!(matches!(known.look(&start(1)), Look::Behind));
    assert_eq!(known.phase(), &Phase::Behind(None));
    known.publish(slice(start(10), 2));
    assert_eq!(above.try_recv().unwrap().write_id, WriteId(11));
    assert_eq!(known.phase(), &Phase::AtEnd);
    assert_eq!((known.first(), known.checkpoint(Offset(9))), (Some(start(10)), None));
}

#[test]
fn a_reader_that_stopped_delivers_what_it_had_and_then_says_why() {
    let mut known = known(&[2]);
    let mut waiting = known.place(Offset(5));
    known.stop(Error::corrupt("gone"));
    known.trouble(Error::unavailable("later"));
    assert!(waiting.try_recv().is_err() && known.place(Offset(5)).try_recv().is_err());
    assert!(matches!(known.look(&start(0)), Look::Records(..)));
    assert!(matches!(known.look(&known.at().unwrap()), Look::Stopped(_)));
}

#[test]
fn checkpoints_are_thinned_and_keep_the_first() {
    let mut known = known(&[]);
    for _ in 0..3 * CHECKPOINTS {
        let at = known.at().unwrap();
        known.since_checkpoint = CHECKPOINT_BYTES;
        known.publish(slice(at, 1));
    }
    assert!(known.checkpoints.len() <= CHECKPOINTS);
    assert_eq!(known.first(), Some(start(0)));
    let end = known.at().unwrap().offset.0;
    let near = known.checkpoint(Offset(end)).unwrap().offset.0;
    assert!(near + 8 > end, "{near} of {end}");
    assert!(known.checkpoints.windows(2).all(|pair| pair[0].offset < pair[1].offset));
}
