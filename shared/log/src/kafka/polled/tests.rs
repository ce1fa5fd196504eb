use super::*;
use crate::kafka::{KafkaConfig, KafkaUrl};
use rdkafka::producer::DefaultProducerContext;

#[test]
fn the_end_of_a_producer_is_the_end_of_its_thread() {
    // Nobody listens there.
    let config = KafkaConfig::new(&KafkaUrl::parse("kafka://127.0.0.1:9/t").unwrap());
    let polled = Polled::make(config.producer(), RDKafkaLogLevel::Emerg, DefaultProducerContext).unwrap();
    let producer = Arc::downgrade(&polled.producer);
    assert_eq!(producer.strong_count(), 2, "its thread has it too");
    drop(polled);
    assert_eq!(producer.strong_count(), 0);
}
