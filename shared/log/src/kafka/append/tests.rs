use super::*;
use crate::LogPosition;
use crate::kafka::client::Reach;
use crate::kafka::partition::Shared;
use crate::kafka::produce::Producers;
use crate::kafka::stamp::{Raw, Stamper};
use crate::kafka::tools::Tools;
use crate::kafka::window::SliceBuilder;
use crate::kafka::{KafkaConfig, KafkaUrl, Starts, TopicRules};
use crate::{Op, RecordBuilder};
use nacre_runtime::Context;
use nacre_types::{Generation, LogIncarnation, PartitionId, TableId};
use std::sync::atomic::AtomicUsize;
use tokio::sync::watch;

const SECOND: Duration = Duration::from_secs(1);
const HOUR_MICROS: i64 = 3_600_000_000;

fn record(id: u128) -> EncodedRecord {
    let mut builder = RecordBuilder::new(TableId(1), Generation(0), WriteId(id));
    builder.push(Op::Put, b"k", b"v", None, None).unwrap();
    builder.finish()
}

/// A partition whose brokers are nowhere, at the end, with records of these append times, relative to now; their write
/// ids are their offsets.
fn partition(times: &[i64]) -> Arc<Partition> {
    let partition = partition_from(Starts::new(|_| Box::pin(async { Ok(None) })));
    // Nobody asks the brokers in these tests.
    partition.is_followed.store(true, Ordering::Release);
    let start = LogPosition::start(LogIncarnation(0));
    partition.learn(|known| known.resume(start, 0));
    let mut stamper = Stamper::new(PartitionId(0), start, &Arc::default());
    let mut slice = SliceBuilder::new(start);
    let now = partition.ctx().clock.now_micros();
    for (offset, time) in (0..).zip(times) {
        let bytes = record(u128::from(offset)).as_bytes().clone();
        let stamped = stamper.stamp(Raw { offset, append_time: Some(now + time), bytes }).unwrap().unwrap();
        slice.push(stamped, 100, stamper.at());
    }
    partition.publish(slice.finish());
    partition
}

fn partition_from(starts: Starts) -> Arc<Partition> {
    let ctx = Context::for_tests(1);
    let config = KafkaConfig::new(&KafkaUrl::parse("kafka://127.0.0.1:9/t").unwrap());
    let reach: Arc<Reach> = Arc::default();
    let shared = Shared {
        rules: TopicRules::of(&config),
        tools: Tools::new(&config, &reach, &ctx).unwrap(),
        producers: Producers::new(&config, &reach, &ctx).unwrap(),
        clients: super::super::share::Clients::default(),
        starts,
        objection: parking_lot::Mutex::new(None),
        max_record_bytes: AtomicUsize::new(1 << 20),
        closed: watch::Sender::new(false),
        reach,
        ctx: ctx.clone(),
        config,
    };
    Arc::new(Partition::new(PartitionId(0), Arc::new(shared), 1 << 20))
}

async fn acknowledge(
    partition: &Partition,
    id: u128,
    floor: u64,
    offset: i64,
    time: Option<i64>,
) -> AppendOutcome {
    let give_up = partition.ctx().clock.monotonic() + SECOND / 10;
    partition.acknowledge(WriteId(id), Offset(floor), offset, time, give_up).await
}

#[tokio::test]
async fn a_report_is_believed_where_the_record_is_read() {
    let partition = partition(&[0, 0, 0]);
    let AppendOutcome::Appended(place) = acknowledge(&partition, 1, 0, 1, Some(1)).await else {
        panic!("not acknowledged")
    };
    assert_eq!(place.offset, Offset(1));
    assert!(place.version.unwrap() > place.append_time, "it is the second of its microsecond");
}

#[tokio::test]
async fn a_report_without_place_or_time_or_below_what_was_read_is_unknown() {
    let partition = partition(&[0, 0, 0]);
    for (id, floor, offset, time) in [
        (1, 0, -1, Some(1)),
        (1, 0, -1_001, Some(1)),
        (1, 0, 1, None),
        (1, 2, 1, Some(1)),
        // Another record lies there.
        (7, 0, 1, Some(1)),
        // Nothing lies there yet, and time is short.
        (3, 0, 3, Some(1)),
    ] {
        let outcome = acknowledge(&partition, id, floor, offset, time).await;
        assert_eq!(outcome, AppendOutcome::Unknown, "{id} at {offset}, not below {floor}, {time:?}");
    }
}

#[tokio::test]
async fn without_a_tail_a_report_is_believed_by_what_it_says_and_has_no_version() {
    let partition = partition(&[]);
    let now = partition.ctx().clock.now_micros();
    let believe = |floor, offset, time| partition.believe(Offset(floor), offset, time);
    let AppendOutcome::Appended(place) = believe(5, 7, Some(now)) else { panic!("not acknowledged") };
    assert_eq!(place, Appended { offset: Offset(7), version: None, append_time: now });
    assert_eq!(partition.newest.load(Ordering::Acquire), 8, "nothing later lies below it");
    for (floor, offset, time) in [
        (0, -1, Some(now)),
        (0, -1_001, Some(now)),
        (0, 1, None),
        (8, 7, Some(now)),
        (0, 9, Some(now + HOUR_MICROS)),
    ] {
        assert_eq!(
            believe(floor, offset, time),
            AppendOutcome::Unknown,
            "{offset}, not below {floor}, {time:?}"
        );
    }
    assert_eq!(partition.newest.load(Ordering::Acquire), 8, "what is not believed is not known");
}

#[tokio::test]
async fn without_a_tail_the_newest_that_is_known_begins_with_what_was_flushed() {
    let partition = partition(&[]);
    partition.begin_newest().await.unwrap();
    assert_eq!(partition.newest.load(Ordering::Acquire), 0);
    let flushed = LogPosition { offset: Offset(40), ..LogPosition::start(LogIncarnation(0)) };
    let mut other = partition_from(Starts::new(move |_| Box::pin(async move { Ok(Some(flushed)) })));
    other.begin_newest().await.unwrap();
    assert_eq!(other.newest.load(Ordering::Acquire), 40);
    other =
        partition_from(Starts::new(|_| Box::pin(async { Err(Error::unavailable("the catalog is away")) })));
    let outcome = other.append(record(1), SECOND / 10).await;
    let AppendOutcome::NotAppended(error) = outcome else { panic!("{outcome:?}") };
    assert!(error.detail().contains("the catalog is away"), "{error}");
}

#[tokio::test]
async fn a_record_under_a_strange_time_is_unknown() {
    let partition = partition(&[0, HOUR_MICROS, -HOUR_MICROS]);
    assert!(matches!(acknowledge(&partition, 0, 0, 0, Some(1)).await, AppendOutcome::Appended(_)));
    for id in [1, 2] {
        assert_eq!(acknowledge(&partition, id, 0, id as i64, Some(1)).await, AppendOutcome::Unknown);
    }
}

#[tokio::test]
async fn what_cannot_be_read_back_is_not_sent() {
    let partition = partition(&[0]);
    partition.tails.store(1, Ordering::SeqCst);
    partition.learn(|known| known.trouble(Error::unavailable("no broker").with_code("log-unreachable")));
    let outcome = partition.append(record(1), SECOND / 10).await;
    let AppendOutcome::NotAppended(error) = outcome else { panic!("{outcome:?}") };
    assert!(error.code() == "log-unreachable" && error.detail().contains("has not read"), "{error}");
    partition.stop(&Error::corrupt("gone").with_code("log-lost"));
    let outcome = partition.append(record(1), SECOND / 10).await;
    let AppendOutcome::NotAppended(error) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.code(), "log-lost");
}

#[tokio::test]
async fn what_the_topic_does_not_take_is_refused() {
    let partition = partition(&[0]);
    partition.shared.max_record_bytes.store(10, Ordering::Relaxed);
    let outcome = partition.append(record(1), SECOND).await;
    let AppendOutcome::NotAppended(error) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.code(), "record-too-long");
    *partition.shared.objection.lock() =
        Some(Error::unavailable("retention").with_code("log-topic-settings"));
    let outcome = partition.append(record(1), SECOND).await;
    let AppendOutcome::NotAppended(error) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.code(), "log-topic-settings");
}
