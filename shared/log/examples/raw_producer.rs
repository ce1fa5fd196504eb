//! What a plain producer gets of brokers in trouble: one message to each partition every 50 ms, idempotent, `acks=all`,
//! under the settings that the log itself has. Each line of stdout is an acknowledgement: the partition, and microseconds
//! since the start. Runs until it is killed. `raw_producer BROKERS TOPIC PARTITIONS`

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program of its own")]

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use std::io::Write as _;
use std::time::{Duration, Instant};

struct Tell(Instant);

impl rdkafka::ClientContext for Tell {}

impl ProducerContext for Tell {
    type DeliveryOpaque = Box<i32>;

    fn delivery(&self, result: &DeliveryResult<'_>, partition: Box<i32>) {
        if result.is_ok() {
            let _ = writeln!(std::io::stdout(), "{partition} {}", self.0.elapsed().as_micros());
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, topic, partitions] = words.as_slice() else {
        eprintln!("usage: raw_producer BROKERS TOPIC PARTITIONS");
        std::process::exit(2);
    };
    let made: Result<ThreadedProducer<Tell>, _> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "0")
        .set("message.timeout.ms", "5000")
        .set("request.timeout.ms", "5000")
        .set("retry.backoff.ms", "50")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "500")
        .create_with_context(Tell(Instant::now()));
    let (producer, partitions) = match (made, partitions.parse::<i32>()) {
        (Ok(producer), Ok(partitions)) => (producer, partitions),
        (Err(error), _) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
        (_, Err(error)) => {
            eprintln!("PARTITIONS: {error}");
            std::process::exit(2);
        }
    };
    loop {
        for partition in 0..partitions {
            let record = BaseRecord::<(), [u8], _>::with_opaque_to(topic, Box::new(partition))
                .partition(partition)
                .payload(b"x");
            let _ = producer.send(record);
        }
        if producer.client().fatal_error().is_some() {
            eprintln!("a fatal error");
            std::process::exit(1);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
