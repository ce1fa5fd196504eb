//! Topics of someone else, as tables name them for their sources.
//!
//! Which brokers may be named is the operator's word: the log's, and those of `--source-brokers`. Anything else would let
//! whoever may declare a source make this process connect anywhere, and show its user there.

use crate::kafka;
use crate::storage::StorageSettings;
use async_trait::async_trait;
use nacre_engine::{Arrived, Messages, TopicEnds, TopicInfo, Topics};
use nacre_log::kafka::KafkaUrl;
use nacre_log::kafka::source::{ForeignReader, ForeignReading, ForeignTopic};
use nacre_runtime::Context;
use nacre_source::{KafkaSpec, Message};
use nacre_types::{Error, Offset, PartitionId, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// Topics whose clients are kept.
const KEPT: usize = 64;

/// Topics on Kafka.
#[derive(Debug)]
pub(crate) struct KafkaTopics {
    settings: StorageSettings,
    ctx: Context,
    open: Mutex<HashMap<KafkaSpecKey, Arc<ForeignTopic>>>,
}

type KafkaSpecKey = (String, String);

impl KafkaTopics {
    pub(crate) fn new(settings: &StorageSettings, ctx: &Context) -> Arc<Self> {
        Arc::new(Self { settings: settings.clone(), ctx: ctx.clone(), open: Mutex::default() })
    }

    fn find(&self, kafka: &KafkaSpec) -> Result<Arc<ForeignTopic>> {
        let brokers = self.brokers(kafka)?;
        let key = (brokers.clone(), kafka.topic.clone());
        if let Some(topic) = self.open.lock().get(&key) {
            return Ok(topic.clone());
        }
        let url = format!("kafka://{brokers}/{}", kafka.topic);
        let topic = Arc::new(ForeignTopic::open(kafka::config(&self.settings.kafka, &url)?, &self.ctx)?);
        let mut open = self.open.lock();
        if open.len() >= KEPT {
            open.clear();
        }
        open.insert(key, topic.clone());
        Ok(topic)
    }

    fn brokers(&self, kafka: &KafkaSpec) -> Result<String> {
        let invalid =
            |what: String| Error::invalid(format!("source.kafka.{what}")).with_code("source-invalid");
        let log = self.settings.kafka_url().map(KafkaUrl::parse).transpose()?;
        let Some(named) = &kafka.brokers else {
            let log = log.ok_or_else(|| {
                invalid("brokers: the log is not on Kafka; name the brokers of the topic".to_owned())
            })?;
            // Everybody's rows are in it.
            if log.topic == kafka.topic {
                return Err(invalid(format!("topic: {} is the log itself", kafka.topic)));
            }
            return Ok(log.brokers);
        };
        let of_log = log.as_ref().map_or("", |log| log.brokers.as_str());
        let is_allowed = |broker: &str| {
            of_log
                .split(',')
                .chain(self.settings.kafka.source_brokers.iter().map(String::as_str))
                .any(|b| b == broker)
        };
        if let Some(broker) = named.split(',').find(|broker| !is_allowed(broker)) {
            return Err(invalid(format!(
                "brokers: {broker} is none that the operator allows; --source-brokers lists them"
            )));
        }
        if log.is_some_and(|log| {
            log.topic == kafka.topic && named.split(',').any(|b| log.brokers.split(',').any(|l| l == b))
        }) {
            return Err(invalid(format!("topic: {} is the log itself", kafka.topic)));
        }
        Ok(named.clone())
    }
}

/// The log's words for a topic that is missing are about the log.
fn of_source(kafka: &KafkaSpec, error: Error) -> Error {
    match error.code() {
        "log-topic-missing" => Error::not_found(format!(
            "source.kafka.topic: there is no topic {} on these brokers",
            kafka.topic
        ))
        .with_code("source-topic-missing"),
        _ => error.context(format!("topic {}", kafka.topic)),
    }
}

#[async_trait]
impl Topics for KafkaTopics {
    async fn topic(&self, kafka: &KafkaSpec) -> Result<TopicInfo> {
        let (id, partitions) = self.find(kafka)?.describe().await.map_err(|error| of_source(kafka, error))?;
        Ok(TopicInfo { id: id.0, partitions })
    }

    async fn ends(&self, kafka: &KafkaSpec, partition: u32) -> Result<TopicEnds> {
        let marks =
            self.find(kafka)?.marks(PartitionId(partition)).await.map_err(|error| of_source(kafka, error))?;
        Ok(TopicEnds { start: marks.start.0, end: marks.end.0 })
    }

    async fn read(&self, kafka: &KafkaSpec, partition: u32, from: u64) -> Result<Box<dyn Messages>> {
        let reader = self.find(kafka)?.read(PartitionId(partition), Offset(from))?;
        Ok(Box::new(KafkaMessages(reader)))
    }
}

struct KafkaMessages(ForeignReader);

#[async_trait]
impl Messages for KafkaMessages {
    async fn next(&mut self) -> Result<Arrived> {
        Ok(match self.0.next().await? {
            ForeignReading::Messages(messages) => Arrived::Messages(
                messages
                    .into_iter()
                    .map(|message| Message {
                        offset: message.offset,
                        timestamp_micros: message.timestamp_micros,
                        key: message.key,
                        value: message.value,
                    })
                    .collect(),
            ),
            ForeignReading::AtEnd => Arrived::AtEnd,
            ForeignReading::OutOfRange => Arrived::OutOfRange,
        })
    }
}
