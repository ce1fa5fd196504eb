//! Topics that are not, or do not stay, as the log must have them.

use super::world::{Flushed, LONG, Operator, P, START, broker, config, name, open, topic, until};
use nacre_log::kafka::{KafkaConfig, PartitionMarks, topic_marks};
use nacre_log::{AppendOutcome, EncodedRecord, Log, LogPosition, Op, RecordBuilder, TailStep};
use nacre_runtime::Context;
use nacre_types::{ErrorKind, Generation, Offset, TableId, WriteId};
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::time::Duration;

fn record(id: u128) -> EncodedRecord {
    let mut builder = RecordBuilder::new(TableId(7), Generation(0), WriteId(id));
    builder.push(Op::Put, b"key", &id.to_be_bytes(), None, None).unwrap();
    builder.finish()
}

async fn append(log: &dyn Log, id: u128) -> Offset {
    match log.append(P, record(id), LONG).await {
        AppendOutcome::Appended(place) => place.offset,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_that_forget_compact_or_take_writers_times_are_refused() {
    let Some(address) = broker() else { return };
    let operator = Operator::at(&address);
    for setting in [
        ("retention.ms", "604800000"),
        ("retention.bytes", "1000000000"),
        ("cleanup.policy", "compact"),
        ("message.timestamp.type", "CreateTime"),
        ("unclean.leader.election.enable", "true"),
    ] {
        let topic = name();
        operator.make(&topic, &[setting]).await;
        let opened = open(&config(&address, &topic), &Flushed::default(), &Context::for_tests(1)).await;
        let error = opened.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "log-topic-settings"));
        assert!(error.detail().contains(setting.0) && error.detail().contains(setting.1), "{error}");
    }
    let topic = name();
    operator.make(&topic, &[]).await;
    assert!(open(&config(&address, &topic), &Flushed::default(), &Context::for_tests(1)).await.is_ok());
    let three = KafkaConfig { replicas: 3, ..config(&address, &topic) };
    let error = open(&three, &Flushed::default(), &Context::for_tests(1)).await.unwrap_err();
    assert!(
        error.detail().contains("replication factor") && error.detail().contains("min.insync.replicas"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_told_to_forget_takes_no_appends_until_it_is_mended() {
    let Some(address) = broker() else { return };
    let config = topic(&address, 1).await;
    let log = open(&config, &Flushed::default(), &Context::for_tests(1)).await.unwrap();
    append(&log, 1).await;
    let operator = Operator::at(&address);
    let right = [
        ("message.timestamp.type", "LogAppendTime"),
        ("cleanup.policy", "delete"),
        ("retention.bytes", "-1"),
        ("unclean.leader.election.enable", "false"),
        ("min.insync.replicas", "1"),
    ];
    operator.set(&config.topic, &[&right[..], &[("retention.ms", "86400000")]].concat()).await;
    let mut id = 1;
    until("appends are refused", async || {
        id += 1;
        match log.append(P, record(id), LONG).await {
            AppendOutcome::NotAppended(error) => {
                assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "log-topic-settings"));
                true
            }
            _ => false,
        }
    })
    .await;
    let mut tail = log.tail(P, START).await.unwrap();
    assert!(matches!(tail.next().await.unwrap(), TailStep::Batch(_)), "what is there is read");
    operator.set(&config.topic, &[&right[..], &[("retention.ms", "-1")]].concat()).await;
    until("appends are taken again", async || {
        id += 1;
        matches!(log.append(P, record(id), LONG).await, AppendOutcome::Appended(_))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_made_again_is_another_log_and_stops_everything() {
    let Some(address) = broker() else { return };
    let config = topic(&address, 1).await;
    let flushed = Flushed::default();
    let log = open(&config, &flushed, &Context::for_tests(1)).await.unwrap();
    let recorded = KafkaConfig { topic_id: Some(log.facts().id), ..config.clone() };
    append(&log, 1).await;
    let mut tail = log.tail(P, START).await.unwrap();
    assert!(matches!(tail.next().await.unwrap(), TailStep::Batch(_)));
    let operator = Operator::at(&address);
    operator.delete(&config.topic).await;
    // The brokers may know the old one for a moment.
    tokio::time::sleep(Duration::from_secs(1)).await;
    operator.make(&config.topic, &[]).await;
    let error = loop {
        match tokio::time::timeout(LONG, tail.next()).await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "log-topic-recreated"), "{error}");
    let AppendOutcome::NotAppended(error) = log.append(P, record(2), LONG).await else { panic!("appended") };
    assert_eq!(error.code(), "log-topic-recreated");
    assert_eq!(log.end(P).await.unwrap_err().code(), "log-topic-recreated");
    let error = open(&recorded, &flushed, &Context::for_tests(2)).await.unwrap_err();
    assert_eq!(error.code(), "log-topic-recreated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_deleted_before_they_were_flushed_stop_the_log_and_say_so() {
    let Some(address) = broker() else { return };
    let config = topic(&address, 1).await;
    let flushed = Flushed::default();
    let log = open(&config, &flushed, &Context::for_tests(1)).await.unwrap();
    for id in 0..6 {
        append(&log, id).await;
    }
    // It has read everything before it is gone.
    let mut before = log.tail(P, START).await.unwrap();
    assert_eq!(log.end(P).await.unwrap().offset, Offset(6));
    Operator::at(&address).delete_before(&config.topic, 4).await;
    let other = open(&config, &flushed, &Context::for_tests(2)).await.unwrap();
    let error = other.tail(P, START).await.unwrap().next().await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "log-lost"), "{error}");
    assert!(error.detail().contains("offset 4"), "{error}");
    let AppendOutcome::NotAppended(error) = other.append(P, record(9), LONG).await else {
        panic!("appended")
    };
    assert_eq!(error.code(), "log-lost");
    // Had it been flushed, a reader below would be told to begin anew.
    let middle = {
        let mut at = START;
        while at.offset < Offset(5) {
            let TailStep::Batch(batch) = before.next().await.unwrap() else { panic!("restart") };
            at = batch.next;
        }
        at
    };
    flushed.advance(P, middle);
    let third = open(&config, &flushed, &Context::for_tests(3)).await.unwrap();
    let mut below = third.tail(P, START).await.unwrap();
    for _ in 0..2 {
        assert_eq!(below.next().await.unwrap(), TailStep::Restart);
    }
    assert_eq!(third.end(P).await.unwrap(), log.end(P).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trim_beyond_what_was_flushed_is_refused() {
    let Some(address) = broker() else { return };
    let config = topic(&address, 1).await;
    let flushed = Flushed::default();
    let log = open(&config, &flushed, &Context::for_tests(1)).await.unwrap();
    append(&log, 1).await;
    let end = log.end(P).await.unwrap();
    assert_eq!(log.trim(P, &end).await.unwrap_err().code(), "trim-beyond-flushed");
    flushed.advance(P, end);
    log.trim(P, &end).await.unwrap();
    let marks = topic_marks(&config, log.facts(), &Context::for_tests(2)).await.unwrap();
    assert_eq!(marks, [PartitionMarks { start: Offset(1), end: Offset(1) }]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_does_not_fit_the_log_is_corrupt() {
    let Some(address) = broker() else { return };
    let config = topic(&address, 1).await;
    let log = open(&config, &Flushed::default(), &Context::for_tests(1)).await.unwrap();
    append(&log, 1).await;
    append(&log, 2).await;
    for offset in [1, 2] {
        let wrong = LogPosition { offset: Offset(offset), clock: 77, ..START };
        let error = log.tail(P, wrong).await.unwrap().next().await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "log-position"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_message_stops_the_log_after_what_came_before_it() {
    let Some(address) = broker() else { return };
    let config = topic(&address, 1).await;
    let log = open(&config, &Flushed::default(), &Context::for_tests(1)).await.unwrap();
    append(&log, 1).await;
    let mut stranger = rdkafka::ClientConfig::new();
    stranger.set("bootstrap.servers", &address).set("compression.type", "zstd");
    let stranger: FutureProducer = stranger.create().unwrap();
    let message =
        FutureRecord::<(), _>::to(&config.topic).partition(0).payload("I am somebody else's message");
    stranger.send(message, LONG).await.unwrap();
    let mut tail = log.tail(P, START).await.unwrap();
    assert!(matches!(tail.next().await.unwrap(), TailStep::Batch(_)));
    let error = tokio::time::timeout(LONG, tail.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.detail().contains("partition 0, offset 1"), "{error}");
}
