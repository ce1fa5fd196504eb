use super::*;
use crate::kafka::KafkaUrl;
use nacre_types::WriteId;

const P: PartitionId = PartitionId(0);

fn send(producers: &Producers, queued: &Arc<AtomicUsize>) -> oneshot::Receiver<Report> {
    let (reply, report) = oneshot::channel();
    let room = Room::take(queued, 10, 100, P).unwrap();
    producers.send(P, &EncodedRecord::marker(WriteId(1)), Sent { reply, room }).unwrap();
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_met_a_fatal_error_is_replaced_and_still_reports_what_it_had() {
    let ctx = Context::for_tests(1);
    let config = KafkaConfig {
        delivery_timeout: Duration::from_millis(500),
        // Nobody listens there.
        ..KafkaConfig::new(&KafkaUrl::parse("kafka://127.0.0.1:9/t").unwrap())
    };
    let (reach, queued) = (Arc::default(), Arc::default());
    let producers = Producers::new(&config, &reach, &ctx).unwrap();
    let current = || Arc::as_ptr(producers.lane(P).lock().as_ref().unwrap());
    let before = send(&producers, &queued);
    let first = current();
    assert_eq!(queued.load(Ordering::Acquire), 10);
    producers.lane(P).lock().as_ref().unwrap().is_fatal.store(true, Ordering::Release);
    let after = send(&producers, &queued);
    assert_ne!(current(), first);
    assert!(producers.lane(PartitionId(1)).lock().is_none(), "a lane that nobody needs has no producer");
    // Given up after the time-out, not when the producer was replaced.
    let begun = ctx.clock.monotonic();
    for report in [before, after] {
        assert_eq!(report.await.unwrap(), Report::Failed(RDKafkaErrorCode::PurgeQueue));
    }
    assert!(ctx.clock.monotonic() - begun > Duration::from_millis(300));
    assert_eq!(queued.load(Ordering::Acquire), 0);
    drop(producers);
    assert_eq!(ctx.tasks.join_all(Duration::from_secs(10)).await, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_late_ends_its_producer_with_all_that_it_has() {
    let ctx = Context::for_tests(1);
    let config = KafkaConfig {
        delivery_timeout: Duration::from_millis(500),
        ..KafkaConfig::new(&KafkaUrl::parse("kafka://127.0.0.1:9/t").unwrap())
    };
    let (reach, queued) = (Arc::default(), Arc::default());
    let producers = Producers::new(&config, &reach, &ctx).unwrap();
    let first = producers.lane(P).lock().clone().unwrap();
    let late = send(&producers, &queued);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let young = send(&producers, &queued);
    assert!(first.is_usable());
    assert_eq!(late.await.unwrap(), Report::Failed(RDKafkaErrorCode::PurgeQueue));
    assert_eq!(young.await.unwrap(), Report::NotTaken(None), "its turn never came");
    assert!(!first.is_usable() && first.under_way.oldest().is_none());
    let next = send(&producers, &queued);
    assert!(!Arc::ptr_eq(&first, producers.lane(P).lock().as_ref().unwrap()));
    drop((first, producers));
    assert_eq!(next.await.unwrap(), Report::Failed(RDKafkaErrorCode::PurgeQueue));
    assert_eq!(ctx.tasks.join_all(Duration::from_secs(10)).await, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_is_still_held_lets_the_program_end_when_its_last_report_has_come() {
    let ctx = Context::for_tests(1);
    let config = KafkaConfig {
        delivery_timeout: Duration::from_millis(500),
        ..KafkaConfig::new(&KafkaUrl::parse("kafka://127.0.0.1:9/t").unwrap())
    };
    let (reach, queued) = (Arc::default(), Arc::default());
    let producers = Producers::new(&config, &reach, &ctx).unwrap();
    let (first, waits) = (send(&producers, &queued), send(&producers, &queued));
    ctx.tasks.shutdown();
    assert_eq!(first.await.unwrap(), Report::Failed(RDKafkaErrorCode::PurgeQueue));
    assert_eq!(waits.await.unwrap(), Report::NotTaken(None), "its turn would come while the program ends");
    assert_eq!(ctx.tasks.join_all(Duration::from_secs(10)).await, Vec::<&str>::new());
    drop(producers);
}

#[test]
fn a_queue_has_a_bound_and_takes_one_record_of_any_size() {
    let queued = Arc::default();
    let large = Room::take(&queued, 1_000, 100, P).unwrap();
    assert_eq!(Room::take(&queued, 1, 100, P).unwrap_err().code(), "log-queue-full");
    drop(large);
    assert_eq!(queued.load(Ordering::Acquire), 0);
    let held: Vec<Room> = (0..10).map(|_| Room::take(&queued, 10, 100, P).unwrap()).collect();
    assert!(Room::take(&queued, 10, 100, P).is_err());
    drop(held);
}
