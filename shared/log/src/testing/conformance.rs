//! What the trait promises, in sentences. Every log passes it over every store.

use super::{OpenProcess, Process};
use crate::{
    AppendOutcome, Appended, Attempts, EncodedRecord, Log, LogPosition, Op, RecordBuilder, RecordKind,
    Stamped, Tail, TailStep, WriteSearch,
};
use nacre_types::{Generation, LogIncarnation, Offset, PartitionId, Seq, TableId, WriteId};
use std::time::Duration;

const P: PartitionId = PartitionId(0);
const LONG: Duration = Duration::from_secs(60);
const START: LogPosition =
    LogPosition { incarnation: LogIncarnation(0), offset: Offset(0), clock: 0, chunk: 1 };

/// Runs the suite. `fresh` makes a new, empty log of two partitions, incarnation 0, and answers what opens processes on
/// it. Nothing that it appends may be refused, nor take longer than a minute.
pub async fn conformance(fresh: impl Fn() -> Box<OpenProcess>) {
    what_is_appended_is_read_by_every_process_with_the_same_places(&*fresh()).await;
    versions_grow_and_a_record_of_versioned_rows_does_not_move_the_clock(&*fresh()).await;
    appends_that_wait_together_each_get_their_own_place_in_order(&*fresh()).await;
    a_waiting_tail_sees_what_another_process_appends(&*fresh()).await;
    a_tail_starts_anywhere_that_the_log_gave_out(&*fresh()).await;
    trimming_restarts_who_stands_below_and_nobody_else(&*fresh()).await;
    a_wholly_trimmed_log_goes_on_where_it_was(&*fresh()).await;
    a_repeat_answers_the_first_place_and_appends_what_is_nowhere(&*fresh()).await;
    partitions_are_apart_and_positions_of_another_log_are_refused(&*fresh()).await;
    notices_and_markers_come_as_they_went(&*fresh()).await;
    trimming_again_or_less_far_changes_nothing(&*fresh()).await;
}

fn rows(id: u128, versions: &[Option<i64>]) -> EncodedRecord {
    let mut builder = RecordBuilder::new(TableId(7), Generation(3), WriteId(id));
    for (index, version) in versions.iter().enumerate() {
        builder.push(Op::Put, format!("key-{index}").as_bytes(), &id.to_be_bytes(), *version, None).unwrap();
    }
    builder.finish()
}

async fn append(process: &Process, record: EncodedRecord) -> Appended {
    match process.log.append(P, record, LONG).await {
        AppendOutcome::Appended(place) => place,
        other => panic!("an append was answered {other:?}"),
    }
}

/// Whether two answers tell of one place; not everybody knows the version.
fn are_one(one: &Appended, other: &Appended) -> bool {
    let versions = one.version.zip(other.version);
    (one.offset, one.append_time) == (other.offset, other.append_time)
        && versions.is_none_or(|(one, other)| one == other)
}

/// Trims; an answer that was lost is asked for again.
async fn trim(log: &dyn Log, through: &LogPosition) {
    loop {
        match log.trim(P, through).await {
            Ok(()) => return,
            Err(error) if error.kind().is_retryable() => {}
            Err(error) => panic!("trim: {error}"),
        }
    }
}

async fn batch(tail: &mut Box<dyn Tail>) -> (Vec<Stamped>, LogPosition) {
    match tokio::time::timeout(LONG, tail.next()).await.expect("a tail waits for ever").unwrap() {
        TailStep::Batch(batch) => (batch.records, batch.next),
        TailStep::Restart => panic!("a tail is told to restart"),
    }
}

async fn read(log: &dyn Log, from: LogPosition, count: usize) -> (Vec<Stamped>, LogPosition) {
    let mut tail = log.tail(P, from).await.unwrap();
    let (mut all, mut at) = (Vec::new(), from);
    while all.len() < count {
        let (records, next) = batch(&mut tail).await;
        all.extend(records);
        at = next;
    }
    (all, at)
}

async fn what_is_appended_is_read_by_every_process_with_the_same_places(open: &OpenProcess) {
    let (a, b, c) = (open(1), open(2), open(3));
    assert_eq!(a.log.end(P).await.unwrap(), START);
    let mut places = Vec::new();
    for id in 0..10 {
        let process = if id % 2 == 0 { &a } else { &b };
        places.push(append(process, rows(id, &[None, Some(4)])).await);
    }
    for process in [&a, &b, &c] {
        let (records, at) = read(&*process.log, START, 10).await;
        for (index, (stamped, place)) in records.iter().zip(&places).enumerate() {
            assert_eq!((stamped.offset, stamped.append_time), (place.offset, place.append_time));
            assert!(place.version.is_none_or(|version| version == stamped.version), "{place:?} {stamped:?}");
            assert_eq!((stamped.offset.0, stamped.record.write_id.0), (index as u64, index as u128));
            let first = stamped.record.rows().next().unwrap();
            assert_eq!((&first.key[..], first.version), (&b"key-0"[..], None));
            assert_eq!(&first.value[..], (index as u128).to_be_bytes());
        }
        assert_eq!(process.log.end(P).await.unwrap(), at);
        assert!(process.log.log_time(P).await.unwrap() >= places.last().unwrap().append_time);
    }
}

async fn versions_grow_and_a_record_of_versioned_rows_does_not_move_the_clock(open: &OpenProcess) {
    let process = open(1);
    // Where a tail is, versions are known.
    let _tail = process.log.tail(P, START).await.unwrap();
    let mut clock = 0;
    for id in 0..20 {
        let unversioned = id % 3 != 0;
        let place = append(
            &process,
            rows(id, &[unversioned.then_some(None).flatten().or((!unversioned).then_some(9))]),
        )
        .await;
        let version = place.version.expect("the process has a tail");
        assert_eq!(version, place.append_time.max(clock + 1));
        if unversioned {
            clock = version;
        }
        assert_eq!(process.log.end(P).await.unwrap().clock, clock);
    }
}

async fn appends_that_wait_together_each_get_their_own_place_in_order(open: &OpenProcess) {
    let process = open(1);
    let appends = (0..300).map(|id| {
        let process = process.clone();
        process.ctx.clone().tasks.spawn("append", async move { append(&process, rows(id, &[None])).await })
    });
    let mut places = Vec::new();
    for append in appends.collect::<Vec<_>>() {
        places.push(append.await.unwrap());
    }
    let (records, _) = read(&*open(2).log, START, 300).await;
    assert_eq!(records.len(), 300);
    for (id, place) in places.iter().enumerate() {
        let stamped = &records[place.offset.0 as usize];
        assert_eq!(stamped.record.write_id.0, id as u128);
        assert!(place.version.is_none_or(|version| version == stamped.version));
    }
    assert!(records.windows(2).all(|pair| pair[0].version < pair[1].version), "versions grow strictly");
}

async fn a_waiting_tail_sees_what_another_process_appends(open: &OpenProcess) {
    let (a, b) = (open(1), open(2));
    let mut tail = a.log.tail(P, START).await.unwrap();
    let waiting = a.ctx.tasks.spawn("tail", async move {
        let (records, _) = batch(&mut tail).await;
        let (more, _) = batch(&mut tail).await;
        (records[0].record.write_id, more[0].record.write_id)
    });
    append(&b, rows(1, &[None])).await;
    append(&a, rows(2, &[None])).await;
    assert_eq!(waiting.await.unwrap(), (WriteId(1), WriteId(2)));
}

async fn a_tail_starts_anywhere_that_the_log_gave_out(open: &OpenProcess) {
    let process = open(1);
    for id in 0..30 {
        append(&process, rows(id, &[None])).await;
    }
    let (all, end) = read(&*process.log, START, 30).await;
    let other = open(2);
    let mut tail = other.log.tail(P, START).await.unwrap();
    let mut before = 0;
    while before < 30 {
        let (records, next) = batch(&mut tail).await;
        before += records.len();
        if before < 30 {
            let (rest, at) = read(&*open(3).log, next, 30 - before).await;
            assert_eq!((&rest[..], at), (&all[before..], end));
        }
    }
}

async fn trimming_restarts_who_stands_below_and_nobody_else(open: &OpenProcess) {
    let (a, b) = (open(1), open(2));
    for id in 0..5 {
        append(&a, rows(id, &[None])).await;
    }
    let (_, middle) = read(&*a.log, START, 5).await;
    for id in 5..10 {
        append(&a, rows(id, &[None])).await;
    }
    trim(&*a.log, &middle).await;
    let mut below = b.log.tail(P, START).await.unwrap();
    for _ in 0..2 {
        assert_eq!(tokio::time::timeout(LONG, below.next()).await.unwrap().unwrap(), TailStep::Restart);
    }
    let (records, end) = read(&*b.log, middle, 5).await;
    assert_eq!(records[0].offset, middle.offset);
    assert_eq!(b.log.end(P).await.unwrap(), end);
}

async fn a_wholly_trimmed_log_goes_on_where_it_was(open: &OpenProcess) {
    let a = open(1);
    for id in 0..5 {
        append(&a, rows(id, &[None])).await;
    }
    let end = a.log.end(P).await.unwrap();
    trim(&*a.log, &end).await;
    let b = open(2);
    assert_eq!(b.log.end(P).await.unwrap(), end);
    let place = append(&b, rows(5, &[None])).await;
    assert_eq!(place.offset, Offset(5));
    assert!(place.version.is_none_or(|version| version > end.clock));
    let place = append(&a, rows(6, &[None])).await;
    assert_eq!(place.offset, Offset(6));
    let (records, _) = read(&*open(3).log, end, 2).await;
    assert_eq!(records[1].record.write_id, WriteId(6));
}

async fn a_repeat_answers_the_first_place_and_appends_what_is_nowhere(open: &OpenProcess) {
    let (a, b) = (open(1), open(2));
    let first = a.ctx.clock.now_micros();
    let place = append(&a, rows(1, &[None])).await;
    append(&a, rows(2, &[None])).await;
    let attempts = Attempts { first, over: a.ctx.clock.now_micros() };
    let found = b.log.find_write(P, WriteId(1), attempts, LONG).await.unwrap();
    assert!(matches!(found, WriteSearch::Found(found) if are_one(&found, &place)), "{found:?} {place:?}");
    let again = b.log.repeat(P, rows(1, &[None]), attempts, LONG).await;
    assert!(
        matches!(again, AppendOutcome::Appended(again) if are_one(&again, &place)),
        "{again:?} {place:?}"
    );
    let WriteSearch::NotFound { .. } = b.log.find_write(P, WriteId(9), attempts, LONG).await.unwrap() else {
        panic!("found what is not there");
    };
    let AppendOutcome::Appended(fresh) = b.log.repeat(P, rows(9, &[None]), attempts, LONG).await else {
        panic!("a repeat of nothing is an append");
    };
    assert!(fresh.offset > place.offset);
    let end = a.log.end(P).await.unwrap();
    trim(&*a.log, &end).await;
    assert_eq!(b.log.find_write(P, WriteId(1), attempts, LONG).await.unwrap(), WriteSearch::Trimmed);
    assert_eq!(b.log.repeat(P, rows(1, &[None]), attempts, LONG).await, AppendOutcome::Unknown);
}

async fn partitions_are_apart_and_positions_of_another_log_are_refused(open: &OpenProcess) {
    let process = open(1);
    assert_eq!(process.log.partitions(), 2);
    let AppendOutcome::Appended(place) = process.log.append(PartitionId(1), rows(1, &[None]), LONG).await
    else {
        panic!("not appended")
    };
    assert_eq!(place.offset, Offset(0));
    assert_eq!(process.log.end(P).await.unwrap(), START);
    assert_eq!(process.log.end(PartitionId(2)).await.unwrap_err().code(), "partition-unknown");
    let AppendOutcome::NotAppended(error) = process.log.append(PartitionId(2), rows(1, &[None]), LONG).await
    else {
        panic!("appended to a partition that is not there")
    };
    assert_eq!(error.code(), "partition-unknown");
    let stranger = LogPosition { incarnation: LogIncarnation(1), ..START };
    assert_eq!(process.log.tail(P, stranger).await.unwrap_err().code(), "log-incarnation");
    assert_eq!(process.log.trim(P, &stranger).await.unwrap_err().code(), "log-incarnation");
    let beyond = LogPosition { offset: Offset(50), chunk: 50, ..START };
    assert_eq!(process.log.trim(P, &beyond).await.unwrap_err().code(), "trim-beyond-end");
}

async fn notices_and_markers_come_as_they_went(open: &OpenProcess) {
    let process = open(1);
    append(&process, EncodedRecord::notice(WriteId(1), TableId(4), Seq(77))).await;
    let marker = append(&process, EncodedRecord::marker(WriteId(2))).await;
    let mut builder = RecordBuilder::new(TableId(1), Generation(2), WriteId(3));
    builder.push(Op::Delete, &[0, 0xFF], b"ignored", Some(-5), Some(i64::MAX)).unwrap();
    let rows_place = append(&process, builder.finish()).await;
    let (records, at) = read(&*open(2).log, START, 3).await;
    assert_eq!(
        (records[0].record.table, &records[0].record.kind),
        (TableId(4), &RecordKind::Notice { seq: Seq(77) })
    );
    assert_eq!((records[1].record.write_id, &records[1].record.kind), (WriteId(2), &RecordKind::Marker));
    assert_eq!(records[1].offset, marker.offset);
    let row = records[2].record.rows().next().unwrap();
    assert_eq!((row.op, &row.key[..], &row.value[..]), (Op::Delete, &[0, 0xFF][..], &b""[..]));
    assert_eq!((row.version, row.expires_at), (Some(-5), Some(i64::MAX)));
    assert_eq!((records[2].record.generation, rows_place.offset), (Generation(2), Offset(2)));
    assert_eq!(at.clock, 0, "nothing of this was given a version");
}

async fn trimming_again_or_less_far_changes_nothing(open: &OpenProcess) {
    let (a, b) = (open(1), open(2));
    for id in 0..3 {
        append(&a, rows(id, &[None])).await;
    }
    let (_, middle) = read(&*a.log, START, 3).await;
    for id in 3..6 {
        append(&a, rows(id, &[None])).await;
    }
    let end = a.log.end(P).await.unwrap();
    trim(&*a.log, &end).await;
    for process in [&a, &b] {
        trim(&*process.log, &end).await;
        trim(&*process.log, &middle).await;
        trim(&*process.log, &START).await;
    }
    assert_eq!(open(3).log.end(P).await.unwrap(), end);
    let mut tail = b.log.tail(P, middle).await.unwrap();
    assert_eq!(tokio::time::timeout(LONG, tail.next()).await.unwrap().unwrap(), TailStep::Restart);
}
