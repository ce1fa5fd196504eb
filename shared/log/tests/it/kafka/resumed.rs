//! Topics that are taken up with bases and holes, as a store's identity has them after a resume.

use super::world::{Flushed, LONG, P, START, broker, open, topic};
use nacre_log::kafka::{KafkaConfig, PartitionMarks, examine, topic_marks};
use nacre_log::{
    AppendOutcome, Attempts, EncodedRecord, Log, LogPosition, Op, RecordBuilder, Stamped, TailStep,
    WriteSearch,
};
use nacre_runtime::Context;
use nacre_store::{LogHole, LogMending};
use nacre_types::{Generation, Offset, TableId, WriteId};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use std::sync::Arc;

const BASE: u64 = 3 << 32;

fn record(id: u128) -> EncodedRecord {
    let mut builder = RecordBuilder::new(TableId(7), Generation(0), WriteId(id));
    builder.push(Op::Put, b"key", &id.to_be_bytes(), None, None).unwrap();
    builder.finish()
}

async fn append(log: &dyn Log, id: u128) -> u64 {
    match log.append(P, record(id), LONG).await {
        AppendOutcome::Appended(place) => place.offset.0,
        other => panic!("{other:?}"),
    }
}

/// What a tail reads up to an offset, and where it stands.
async fn read(log: &dyn Log, from: LogPosition, until: u64) -> (Vec<Stamped>, LogPosition) {
    let mut tail = log.tail(P, from).await.unwrap();
    let (mut all, mut at) = (Vec::new(), from);
    while at.offset.0 < until {
        match tokio::time::timeout(LONG, tail.next()).await.unwrap().unwrap() {
            TailStep::Batch(batch) => {
                all.extend(batch.records);
                at = batch.next;
            }
            TailStep::Restart => panic!("restart"),
        }
    }
    (all, at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_base_everything_counts_from_there() {
    let Some(address) = broker() else { return };
    let plain = topic(&address, 1).await;
    let mending = Arc::new(LogMending { bases: vec![BASE], holes: Vec::new() });
    let config = KafkaConfig { mending, ..plain.clone() };
    let (flushed, ctx) = (Flushed::default(), Context::for_tests(1));
    let start = LogPosition { offset: Offset(BASE), clock: 77, ..START };
    flushed.advance(P, start);
    let log = open(&config, &flushed, &ctx).await.unwrap();
    let first = ctx.clock.now_micros();
    assert_eq!(append(&log, 1).await, BASE, "believed, without a tail");
    let (all, at) = read(&log, start, BASE + 1).await;
    assert_eq!((all[0].offset, at.offset), (Offset(BASE), Offset(BASE + 1)));
    let _tail = log.tail(P, at).await.unwrap();
    assert_eq!(append(&log, 2).await, BASE + 1, "read back, beside a tail");
    assert_eq!(log.end(P).await.unwrap().offset, Offset(BASE + 2));
    assert!(log.strong_end(P).await.unwrap().offset >= Offset(BASE + 3));
    // A repeat of a write that may, less the clocks' margin, be from before the topic's beginning cannot know.
    for since in [100, first] {
        let attempts = Attempts { first: since, over: first };
        let searched = log.find_write(P, WriteId(9), attempts, LONG).await.unwrap();
        assert_eq!(searched, WriteSearch::Trimmed, "it may have been in the topic that is gone");
    }
    flushed.advance(P, at);
    log.trim(P, &at).await.unwrap();
    let own = topic_marks(&plain, log.facts(), &ctx).await.unwrap()[0];
    assert_eq!(own.start, Offset(1));
    assert_eq!(
        topic_marks(&config, log.facts(), &ctx).await.unwrap(),
        [PartitionMarks { start: Offset(BASE + 1), end: Offset(BASE + own.end.0) }]
    );
    // Nothing before the base is ever taken for what is there.
    let other = open(&config, &Flushed::default(), &Context::for_tests(2)).await.unwrap();
    assert_eq!(other.tail(P, START).await.unwrap().next().await.unwrap_err().code(), "log-lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stops_readers_is_found_and_once_it_is_a_hole_they_pass() {
    let Some(address) = broker() else { return };
    let plain = topic(&address, 1).await;
    let log = open(&plain, &Flushed::default(), &Context::for_tests(1)).await.unwrap();
    for id in 0..3 {
        assert_eq!(append(&log, id).await, id as u64);
    }
    drop(log);
    // Each transaction is a message and a mark; the last mark is the partition's last offset.
    let mut stranger = rdkafka::ClientConfig::new();
    stranger.set("bootstrap.servers", &address).set("transactional.id", &plain.topic);
    let stranger: FutureProducer = stranger.create().unwrap();
    stranger.init_transactions(LONG).unwrap();
    for payload in [&b"I am somebody else's message"[..], record(9).as_bytes()] {
        stranger.begin_transaction().unwrap();
        let message = FutureRecord::<(), _>::to(&plain.topic).partition(0).payload(payload);
        stranger.send(message, LONG).await.unwrap();
        stranger.commit_transaction(LONG).unwrap();
    }
    let ctx = Context::for_tests(2);
    let mut told = Vec::new();
    let mut tell = |at: Offset| told.push(at.0);
    let found = examine(&plain, P, START, Offset(7), &mut tell, &ctx).await.unwrap();
    assert!(told.is_sorted() && told.last() >= Some(&6), "{told:?}");
    let stretches: Vec<_> = found.obstacles.iter().map(|one| (one.from.0, one.to.0)).collect();
    assert_eq!(stretches, [(3, 4), (4, 5), (6, 7)], "{found:?}");
    assert_eq!(found.records, 4);

    let hole = |&(from, to): &(u64, u64)| LogHole { partition: P, from: Offset(from), to: Offset(to) };
    let mending = Arc::new(LogMending { bases: Vec::new(), holes: stretches.iter().map(hole).collect() });
    let config = KafkaConfig { mending, ..plain };
    let found = examine(&config, P, START, Offset(7), &mut |_| (), &ctx).await.unwrap();
    assert!(found.obstacles.is_empty(), "{found:?}");
    let log = open(&config, &Flushed::default(), &ctx).await.unwrap();
    assert_eq!(log.end(P).await.unwrap().offset, Offset(7));
    let _tail = log.tail(P, log.end(P).await.unwrap()).await.unwrap();
    assert_eq!(append(&log, 10).await, 7);
    assert_eq!(append(&log, 11).await, 8);
    let (all, end) = read(&log, START, 9).await;
    let offsets: Vec<_> = all.iter().map(|stamped| stamped.offset.0).collect();
    assert_eq!(offsets, [0, 1, 2, 5, 7, 8]);
    // Whoever starts anywhere, in a hole too, computes the same; in memory, and from the brokers.
    let flushed = Flushed::default();
    flushed.advance(P, LogPosition { offset: Offset(6), clock: all[3].version, ..START });
    let other = open(&config, &flushed, &Context::for_tests(3)).await.unwrap();
    for log in [&log as &dyn Log, &other] {
        for (index, stamped) in all.iter().enumerate() {
            let clock = index.checked_sub(1).map_or(0, |before| all[before].version);
            let before = index.checked_sub(1).map_or(0, |before| all[before].offset.0 + 1);
            for offset in before..=stamped.offset.0 {
                let from = LogPosition { offset: Offset(offset), clock, ..START };
                let (rest, at) = read(log, from, 9).await;
                assert_eq!((&rest[..], at), (&all[index..], end), "from {offset}");
            }
        }
    }
}
