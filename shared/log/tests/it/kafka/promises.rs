//! What every log promises, on a real broker.

use super::world::{Flushed, LONG, P, START, broker, config, fresh, name, open, topic, until};
use nacre_log::kafka::{KafkaConfig, create_topic, describe_topic};
use nacre_log::testing::{StormPlan, TestClock, conformance, storm};
use nacre_log::{AppendOutcome, EncodedRecord, Log, Op, RecordBuilder, TailStep};
use nacre_runtime::{Clock, Context, SystemClock};
use nacre_types::{ErrorKind, Generation, Offset, TableId, WriteId};
use std::sync::Arc;
use std::time::Duration;

fn record(id: u128, bytes: usize) -> EncodedRecord {
    let mut builder = RecordBuilder::new(TableId(7), Generation(0), WriteId(id));
    builder.push(Op::Put, b"key", &vec![7; bytes], None, None).unwrap();
    builder.finish()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_log_conforms_on_kafka() {
    let Some(address) = broker() else { return };
    conformance(|| fresh(&address)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn acknowledged_records_are_read_once_in_order_by_every_reader() {
    let Some(address) = broker() else { return };
    let report = storm(&*fresh(&address), 1, &StormPlan::default()).await.unwrap();
    assert!(report.acknowledged > 75 && report.trims > 5, "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn repeats_sent_anywhere_append_once() {
    let Some(address) = broker() else { return };
    let plan = StormPlan {
        processes: 2,
        appends: 12,
        deadline: Duration::from_secs(2),
        trim_every: None,
        ..StormPlan::default()
    };
    let report = storm(&*fresh(&address), 2, &plan).await.unwrap();
    assert!(report.acknowledged > 30 && report.unknown == 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_nacre_makes_is_as_the_log_must_have_it_and_is_made_once() {
    let Some(address) = broker() else { return };
    let (ctx, config) = (Context::system(), config(&address, &name()));
    assert_eq!(describe_topic(&config, &ctx).await.unwrap_err().code(), "log-topic-missing");
    let made = create_topic(&config, 3, &ctx).await.unwrap();
    assert_eq!((made.partitions, made.replicas), (3, 1));
    assert_eq!(describe_topic(&config, &ctx).await.unwrap(), made);
    assert_eq!(create_topic(&config, 3, &ctx).await.unwrap_err().code(), "log-topic-exists");
    let log = open(&KafkaConfig { topic_id: Some(made.id), ..config.clone() }, &Flushed::default(), &ctx)
        .await
        .unwrap();
    assert_eq!((log.partitions(), log.facts()), (3, &made));
    let three = KafkaConfig { replicas: 3, topic: name(), ..config };
    assert_eq!(create_topic(&three, 1, &ctx).await.unwrap_err().code(), "log-topic-refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_appends_reads_nothing_and_who_asked_stops_reading() {
    let Some(address) = broker() else { return };
    let config = KafkaConfig { idle_after: Duration::from_millis(300), ..topic(&address, 1).await };
    let log = open(&config, &Flushed::default(), &Context::for_tests(1)).await.unwrap();
    let append = async |id: u64| match log.append(P, record(u128::from(id), 10), LONG).await {
        AppendOutcome::Appended(place) => place,
        other => panic!("{other:?}"),
    };
    for id in 0..3 {
        let place = append(id).await;
        assert_eq!((place.offset, place.version), (Offset(id), None));
    }
    assert_eq!(log.followed(), 0);
    for round in 1..3 {
        assert_eq!(log.end(P).await.unwrap().offset, Offset(2 + round));
        assert_eq!(log.followed(), 1);
        until("nobody reads", async || log.followed() == 0).await;
        assert_eq!(append(2 + round).await.version, None);
    }
    let mut tail = log.tail(P, START).await.unwrap();
    let TailStep::Batch(batch) = tail.next().await.unwrap() else { panic!("restart") };
    assert_eq!(batch.records.first().unwrap().offset, Offset(0));
    let place = append(9).await;
    assert!(place.version.is_some() && log.followed() == 1, "beside a tail it is read back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strong_end_is_behind_what_was_acknowledged_and_shared_by_those_who_wait() {
    let Some(address) = broker() else { return };
    let config = topic(&address, 1).await;
    let (a, b) = (Context::for_tests(1), Context::for_tests(2));
    let one = open(&config, &Flushed::default(), &a).await.unwrap();
    let two = Arc::new(open(&config, &Flushed::default(), &b).await.unwrap());
    let AppendOutcome::Appended(place) = one.append(P, record(1, 10), LONG).await else {
        panic!("not appended")
    };
    assert!(two.strong_end(P).await.unwrap().offset > place.offset);
    let before = two.end(P).await.unwrap().offset;
    let asked: Vec<_> = (0..50)
        .map(|_| {
            let two = two.clone();
            b.tasks.spawn("strong", async move { two.strong_end(P).await.unwrap() })
        })
        .collect();
    for ask in asked {
        assert!(ask.await.unwrap().offset > before);
    }
    let markers = two.end(P).await.unwrap().offset.0 - before.0;
    assert!(markers <= 10, "{markers} markers for 50 who asked at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_records_go_through_and_larger_ones_are_refused_as_such() {
    let Some(address) = broker() else { return };
    let config = topic(&address, 1).await;
    let log = open(&config, &Flushed::default(), &Context::for_tests(1)).await.unwrap();
    let AppendOutcome::Appended(_) = log.append(P, record(1, 900 << 10), LONG).await else {
        panic!("not appended")
    };
    let many: usize = 14;
    let mut builder = RecordBuilder::new(TableId(7), Generation(0), WriteId(2));
    for n in 0..many {
        builder.push(Op::Put, format!("{n}").as_bytes(), &vec![n as u8; 1 << 20], None, None).unwrap();
    }
    let AppendOutcome::Appended(place) = log.append(P, builder.finish(), LONG).await else {
        panic!("not appended")
    };
    let other = open(&config, &Flushed::default(), &Context::for_tests(2)).await.unwrap();
    let mut tail = other.tail(P, START).await.unwrap();
    let mut read = 0;
    while read < 2 {
        let TailStep::Batch(batch) = tail.next().await.unwrap() else { panic!("restart") };
        read += batch.records.len();
        let last = batch.records.last().unwrap();
        assert_eq!(last.offset, if read == 2 { place.offset } else { Offset(0) });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_time_far_from_ones_own_clock_is_not_acknowledged_and_is_read_by_all() {
    let Some(address) = broker() else { return };
    let config = topic(&address, 1).await;
    // The test's clock stands in 2023.
    let astray = Context::for_tests(1).with_clock(Arc::new(TestClock::new(0)));
    let log = open(&config, &Flushed::default(), &astray).await.unwrap();
    assert_eq!(log.append(P, record(1, 10), LONG).await, AppendOutcome::Unknown);
    assert!(
        log.log_time(P).await.unwrap() < SystemClock::new().now_micros() - 1_000_000_000,
        "it is not believed"
    );
    let right = open(&config, &Flushed::default(), &Context::for_tests(2)).await.unwrap();
    let mut tail = right.tail(P, START).await.unwrap();
    let TailStep::Batch(batch) = tail.next().await.unwrap() else { panic!("restart") };
    let AppendOutcome::Appended(next) = right.append(P, record(2, 10), LONG).await else {
        panic!("not appended")
    };
    assert_eq!((batch.records[0].record.write_id, next.offset), (WriteId(1), Offset(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_overloaded_and_nothing_of_it_is_in_the_log() {
    let Some(address) = broker() else { return };
    let config = KafkaConfig {
        max_queued_bytes: 64 << 10,
        batching: nacre_log::kafka::Batching { linger: Duration::from_millis(200), batch_bytes: 4 << 20 },
        ..topic(&address, 1).await
    };
    let ctx = Context::for_tests(1);
    let log = Arc::new(open(&config, &Flushed::default(), &ctx).await.unwrap());
    log.end(P).await.unwrap();
    let appends: Vec<_> = (0..40)
        .map(|id| {
            let log = log.clone();
            ctx.tasks.spawn("append", async move { log.append(P, record(id, 8 << 10), LONG).await })
        })
        .collect();
    let (mut taken, mut refused) = (0, 0);
    for append in appends {
        match append.await.unwrap() {
            AppendOutcome::Appended(_) => taken += 1,
            AppendOutcome::NotAppended(error) => {
                assert_eq!((error.kind(), error.code()), (ErrorKind::Overloaded, "log-queue-full"));
                refused += 1;
            }
            AppendOutcome::Unknown => panic!("it is known"),
        }
    }
    assert!(taken >= 7 && refused >= 20, "{taken} taken, {refused} refused");
    assert_eq!(log.end(P).await.unwrap().offset, Offset(taken));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_dropped_takes_nothing_more_and_loses_nothing() {
    let Some(address) = broker() else { return };
    let config = topic(&address, 1).await;
    let ctx = Context::for_tests(1);
    let log = open(&config, &Flushed::default(), &ctx).await.unwrap();
    let mut tail = log.tail(P, START).await.unwrap();
    let AppendOutcome::Appended(_) = log.append(P, record(1, 10), LONG).await else { panic!("not appended") };
    drop(log);
    assert!(matches!(tail.next().await, Ok(TailStep::Batch(_))), "what was read is delivered");
    assert_eq!(tail.next().await.unwrap_err().code(), "log-closing");
    drop(tail);
    ctx.tasks.shutdown();
    assert_eq!(ctx.tasks.join_all(LONG).await, Vec::<&str>::new());
}
