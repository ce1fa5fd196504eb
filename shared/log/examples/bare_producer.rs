//! What a broker takes from one idempotent producer with `acks=all` and nothing else around it: the measure beside which
//! writes of the whole store are told (`cargo xtask bench fleet`).
//!
//! ```text
//! bare_producer BROKERS TOPIC SECONDS ROWS_A_MESSAGE
//! ```
//!
//! Prints one JSON line. A row is 16 bytes of key and 200 of value, which compresses by about half.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

#[derive(Clone, Default)]
struct Counted(Arc<[AtomicU64; 2]>);

impl ClientContext for Counted {}
impl ProducerContext for Counted {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.0[usize::from(result.is_err())].fetch_add(1, Relaxed);
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    let mut next = |what: &str| words.next().expect(what);
    let (brokers, topic) = (next("BROKERS"), next("TOPIC"));
    let seconds: u64 = next("SECONDS").parse().unwrap();
    let rows: u64 = next("ROWS_A_MESSAGE").parse().unwrap();
    let counted = Counted::default();
    let producer: ThreadedProducer<Counted> = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("batch.size", "1048576")
        .set("compression.type", "lz4")
        .set("queue.buffering.max.kbytes", "262144")
        .create_with_context(counted.clone())
        .unwrap();
    let metadata = producer.client().fetch_metadata(Some(&topic), Duration::from_secs(10)).unwrap();
    let partitions = metadata.topics()[0].partitions().len() as i32;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    // Messages are made beforehand: the producer is measured, not the making.
    let messages: Vec<Vec<u8>> = (0..64)
        .map(|_| {
            let row = |random: &mut dyn FnMut() -> u64| {
                let letters = (0..136).map(|_| b'a' + (random() % 26) as u8).collect::<Vec<_>>();
                [letters, vec![b'.'; 80]].concat()
            };
            (0..rows).flat_map(|_| row(&mut random)).collect()
        })
        .collect();
    let began = Instant::now();
    let mut sent = 0_u64;
    while began.elapsed() < Duration::from_secs(seconds) {
        let payload = &messages[(sent % 64) as usize];
        let record =
            BaseRecord::<(), [u8]>::to(&topic).payload(payload).partition((sent % partitions as u64) as i32);
        match producer.send(record) {
            Ok(()) => sent += 1,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    let acknowledged = counted.0[0].load(Relaxed);
    let took = began.elapsed().as_secs_f64();
    producer.flush(Duration::from_secs(30)).unwrap();
    let failed = counted.0[1].load(Relaxed);
    let per_second = acknowledged as f64 * rows as f64 / took;
    println!("{{\"rows_per_second\": {per_second:.0}, \"failed\": {failed}, \"partitions\": {partitions}}}");
}
