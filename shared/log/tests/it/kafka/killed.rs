//! A broker that dies in the middle.

use super::broker::{Cluster, jars};
use super::world::{Flushed, LONG, P, START, config, name, open, until};
use nacre_log::kafka::{KafkaConfig, create_topic, describe_topic};
use nacre_log::{AppendOutcome, Appended, Attempts, EncodedRecord, Log, Op, RecordBuilder, TailStep};
use nacre_runtime::Context;
use nacre_types::{Generation, Offset, TableId, WriteId};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

fn record(id: u128) -> EncodedRecord {
    let mut builder = RecordBuilder::new(TableId(7), Generation(0), WriteId(id));
    builder.push(Op::Put, b"key", &id.to_be_bytes(), None, None).unwrap();
    builder.finish()
}

/// So much is acknowledged before a broker is killed, and after the last one is back.
const BETWEEN_KILLS: usize = 100;

/// What one writer was told.
#[derive(Default)]
struct Told {
    acknowledged: Vec<(WriteId, Appended)>,
    refused: Vec<WriteId>,
    /// With the time of the first attempt.
    unknown: Vec<(WriteId, i64)>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broker_that_is_killed_loses_no_acknowledged_record_and_unknowns_settle() {
    let Some(jars) = jars() else { return };
    writes_through_kills(Cluster::start(&jars, 1).await, 1, &[0, 0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_three_brokers_one_after_the_other_is_killed_and_nothing_acknowledged_is_lost() {
    let Some(jars) = jars() else { return };
    writes_through_kills(Cluster::start(&jars, 3).await, 3, &[0, 1, 2]).await;
}

/// Writers write while brokers are killed and started again, in this order; then everything that they were told holds.
async fn writes_through_kills(mut cluster: Cluster, replicas: u32, kills: &[usize]) {
    let config = KafkaConfig { replicas, ..config(&cluster.address(), &name()) };
    until("there are brokers enough for the topic", async || {
        create_topic(&config, 1, &Context::system()).await.is_ok_and(|made| made.in_sync == replicas)
            || describe_topic(&config, &Context::system()).await.is_ok_and(|made| made.in_sync == replicas)
    })
    .await;
    let ctx = Context::for_tests(1);
    let log = Arc::new(open(&config, &Flushed::default(), &ctx).await.unwrap());
    let is_over = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let more = async || {
        let enough = acknowledged.load(Ordering::SeqCst) + BETWEEN_KILLS;
        until("writes are acknowledged", async || acknowledged.load(Ordering::SeqCst) >= enough).await;
    };
    let writers: Vec<_> = (0..4u128)
        .map(|writer| {
            let (log, ctx, is_over) = (log.clone(), ctx.clone(), is_over.clone());
            let acknowledged = acknowledged.clone();
            ctx.clone().tasks.spawn("writer", async move {
                let mut told = Told::default();
                for number in 0.. {
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    let id = WriteId(writer << 64 | number);
                    let first = ctx.clock.now_micros();
                    match log.append(P, record(id.0), Duration::from_secs(2)).await {
                        AppendOutcome::Appended(place) => {
                            acknowledged.fetch_add(1, Ordering::SeqCst);
                            told.acknowledged.push((id, place));
                        }
                        AppendOutcome::NotAppended(_) => told.refused.push(id),
                        AppendOutcome::Unknown => told.unknown.push((id, first)),
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                told
            })
        })
        .collect();
    for &number in kills {
        more().await;
        cluster.kill(number);
        tokio::time::sleep(Duration::from_secs(2)).await;
        cluster.start_again(number).await;
        // With all in sync again, the next one may die.
        until("all replicas are in sync", async || {
            describe_topic(&config, &Context::system()).await.is_ok_and(|facts| facts.in_sync == replicas)
        })
        .await;
    }
    more().await;
    is_over.store(true, Ordering::SeqCst);
    let mut told = Told::default();
    for writer in writers {
        let one = writer.await.unwrap();
        told.acknowledged.extend(one.acknowledged);
        told.refused.extend(one.refused);
        told.unknown.extend(one.unknown);
    }
    println!(
        "{} acknowledged, {} refused, {} unknown",
        told.acknowledged.len(),
        told.refused.len(),
        told.unknown.len()
    );

    // Another process settles what is unknown: it is in the log once afterwards, be it by the first attempt.
    let other = Context::for_tests(2);
    let settler = Arc::new(open(&config, &Flushed::default(), &other).await.unwrap());
    let settled: Vec<_> = told
        .unknown
        .iter()
        .map(|&(id, first)| {
            let (settler, over) = (settler.clone(), other.clock.now_micros());
            other.tasks.spawn("settle", async move {
                let attempts = Attempts { first, over };
                (id, settler.repeat(P, record(id.0), attempts, LONG).await)
            })
        })
        .collect();
    for settled in settled {
        match settled.await.unwrap() {
            (id, AppendOutcome::Appended(place)) => told.acknowledged.push((id, place)),
            (id, outcome) => panic!("{id} settles as {outcome:?}"),
        }
    }

    let end = settler.end(P).await.unwrap();
    let reader = open(&config, &Flushed::default(), &Context::for_tests(3)).await.unwrap();
    let mut tail = reader.tail(P, START).await.unwrap();
    let mut seen: HashMap<WriteId, Appended> = HashMap::new();
    let mut at = Offset(0);
    while at < end.offset {
        let TailStep::Batch(batch) = tail.next().await.unwrap() else { panic!("restart") };
        for stamped in batch.records {
            let (offset, version, append_time) = (stamped.offset, Some(stamped.version), stamped.append_time);
            let place = Appended { offset, version, append_time };
            assert!(
                seen.insert(stamped.record.write_id, place).is_none(),
                "twice: {}",
                stamped.record.write_id
            );
        }
        at = batch.next.offset;
    }
    for (id, place) in &told.acknowledged {
        let there = seen.get(id).unwrap_or_else(|| panic!("acknowledged, and not there: {id}"));
        assert_eq!((there.offset, there.append_time), (place.offset, place.append_time), "{id}");
        assert!(place.version.is_none() || place.version == there.version, "{id}");
    }
    for id in &told.refused {
        assert!(!seen.contains_key(id), "refused, and there: {id}");
    }
}
