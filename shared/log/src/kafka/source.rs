//! Topics of someone else: read from an offset on, and never written to.
//!
//! What the log asks of its own topic is asked of none of these: they may be compacted, be trimmed by time, hold
//! transactions, have times of their producers. Whoever reads them copes with gaps, and is told where they begin.

use super::PartitionMarks;
use super::client::{self, Reach, Voice, failed};
use super::config::{KafkaConfig, TopicId};
use super::tools::{Tools, number};
use bytes::Bytes;
use futures::FutureExt;
use nacre_runtime::{Context, Tasks};
use nacre_types::{Error, Offset, PartitionId, Result};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, TopicPartitionList};
use std::fmt;
use std::sync::Arc;

/// What is taken at once, at most: then others have their turn.
const BATCH_MESSAGES: usize = 2_000;
const BATCH_BYTES: usize = 1 << 20;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignMessage {
    /// Its place in its partition.
    pub offset: u64,
    /// Kafka's time of it in microseconds, whoever set it.
    pub timestamp_micros: Option<i64>,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` = null.
    pub value: Option<Bytes>,
}

/// What a reader comes to know.
#[derive(Debug)]
pub enum ForeignReading {
    /// Messages, in order; of transactions only those that were committed.
    Messages(Vec<ForeignMessage>),
    /// There are no more for now.
    AtEnd,
    /// The place that was read from is not in the partition.
    OutOfRange,
}

/// A topic of someone else.
#[derive(Debug)]
pub struct ForeignTopic {
    tools: Tools,
    config: KafkaConfig,
    reach: Arc<Reach>,
    ctx: Context,
}

impl ForeignTopic {
    /// Makes the clients; asks nothing yet.
    ///
    /// # Errors
    /// `Invalid` (`log-config`).
    pub fn open(config: KafkaConfig, ctx: &Context) -> Result<Self> {
        config.check()?;
        let reach: Arc<Reach> = Arc::default();
        let tools = Tools::new(&config, &reach, ctx)?;
        Ok(Self { tools, config, reach, ctx: ctx.clone() })
    }

    /// The topic's id and how many partitions it has.
    ///
    /// # Errors
    /// `NotFound` (`log-topic-missing`), `Unavailable`, `Forbidden`.
    pub async fn describe(&self) -> Result<(TopicId, u32)> {
        self.tools.id_and_partitions().await
    }

    /// Where a partition begins and ends.
    ///
    /// # Errors
    /// `Unavailable`, `Forbidden`.
    pub async fn marks(&self, partition: PartitionId) -> Result<PartitionMarks> {
        let marks = self.tools.marks(partition).await?;
        Ok(PartitionMarks { start: Offset(marks.low), end: Offset(marks.high) })
    }

    /// Reads a partition from an offset on.
    ///
    /// # Errors
    /// `Invalid` (`log-config`), `Unavailable`.
    pub fn read(&self, partition: PartitionId, from: Offset) -> Result<ForeignReader> {
        let mut properties = self.config.reader();
        properties.extend([
            ("isolation.level", "read_committed".to_owned()),
            ("enable.partition.eof", "true".to_owned()),
        ]);
        let consumer: StreamConsumer<Voice> =
            client::make(properties, RDKafkaLogLevel::Warning, Voice::new(&self.reach))?;
        let mut list = TopicPartitionList::new();
        let own = self.config.to_topic(partition, from)?;
        list.add_partition_offset(&self.config.topic, number(partition), own)
            .and_then(|()| consumer.assign(&list))
            .map_err(|error| failed(format_args!("reading partition {partition}"), &error))?;
        Ok(ForeignReader {
            consumer: Some(consumer),
            what: format!("reading partition {partition} of topic {}", self.config.topic),
            tasks: self.ctx.tasks.clone(),
        })
    }
}

/// A reader of one partition.
pub struct ForeignReader {
    consumer: Option<StreamConsumer<Voice>>,
    what: String,
    tasks: Tasks,
}

impl fmt::Debug for ForeignReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignReader").field("what", &self.what).finish_non_exhaustive()
    }
}

impl Drop for ForeignReader {
    fn drop(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            client::end_elsewhere(consumer, &self.tasks);
        }
    }
}

impl ForeignReader {
    /// What comes next; waits for it. Dropped while it waits, it has taken nothing.
    ///
    /// # Errors
    /// `Unavailable`, `Forbidden`: open another one.
    pub async fn next(&self) -> Result<ForeignReading> {
        let Some(consumer) = &self.consumer else {
            return Err(Error::internal("a reader that was ended is asked"));
        };
        let first = loop {
            match consumer.recv().await {
                Ok(message) => break taken(&message),
                Err(error) => {
                    if let Some(reading) = self.judge(&error)? {
                        return Ok(reading);
                    }
                }
            }
        };
        let size = |message: &ForeignMessage| {
            [&message.key, &message.value].into_iter().flatten().map(|bytes| bytes.len()).sum::<usize>()
        };
        let mut bytes = size(&first);
        let mut messages = vec![first];
        // From here on nothing waits, so that nothing that was taken is lost.
        while messages.len() < BATCH_MESSAGES && bytes < BATCH_BYTES {
            match consumer.recv().now_or_never() {
                Some(Ok(message)) => {
                    let next = taken(&message);
                    bytes += size(&next);
                    messages.push(next);
                }
                // Said again, or seen by who looks at the partition's ends.
                Some(Err(_)) | None => break,
            }
        }
        Ok(ForeignReading::Messages(messages))
    }

    fn judge(&self, error: &KafkaError) -> Result<Option<ForeignReading>> {
        use RDKafkaErrorCode as Code;
        if matches!(error, KafkaError::PartitionEOF(_)) {
            return Ok(Some(ForeignReading::AtEnd));
        }
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            return Err(failed(&self.what, error));
        }
        match error.rdkafka_error_code() {
            Some(Code::PartitionEOF) => Ok(Some(ForeignReading::AtEnd)),
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => Ok(Some(ForeignReading::OutOfRange)),
            Some(
                Code::NotImplemented
                | Code::TopicAuthorizationFailed
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::UnknownTopicId
                | Code::BadMessage
                | Code::InvalidMessage,
            ) => Err(failed(&self.what, error)),
            _ => {
                tracing::debug!(%error, what = self.what, "a reader of a source met an error and goes on");
                Ok(None)
            }
        }
    }
}

fn taken(message: &BorrowedMessage<'_>) -> ForeignMessage {
    ForeignMessage {
        offset: u64::try_from(message.offset()).unwrap_or(u64::MAX),
        timestamp_micros: message.timestamp().to_millis().map(|millis| millis.saturating_mul(1_000)),
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
    }
}

/// Makes a topic with messages, for tests of whoever reads topics of someone else.
#[cfg(any(test, feature = "testing"))]
pub mod testing {
    use super::{Error, KafkaConfig, RDKafkaLogLevel, Reach, Result, Voice, client};
    use rdkafka::admin::{
        AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
    };
    use rdkafka::metadata::MetadataTopic;
    use rdkafka::producer::{FutureProducer, FutureRecord};
    use rdkafka::{Offset, TopicPartitionList};
    use std::sync::Arc;
    use std::time::Duration;

    const LOOKS: u32 = 600;
    const LOOK_PAUSE: Duration = Duration::from_millis(50);
    const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

    /// A producer to a topic that it made, with the settings that are named.
    pub struct Someone {
        producer: FutureProducer<Voice>,
        admin: AdminClient<Voice>,
        topic: String,
    }

    impl std::fmt::Debug for Someone {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Someone").field("topic", &self.topic).finish_non_exhaustive()
        }
    }

    impl Someone {
        /// Makes the topic.
        ///
        /// # Errors
        /// `Internal`: what the broker says.
        pub async fn with_topic(
            config: &KafkaConfig,
            partitions: i32,
            settings: &[(&str, &str)],
        ) -> Result<Self> {
            let someone = Self::of(config)?;
            someone.make(partitions, settings).await?;
            Ok(someone)
        }

        /// Of a topic that is there.
        ///
        /// # Errors
        /// `Invalid`: the settings.
        pub fn of(config: &KafkaConfig) -> Result<Self> {
            let reach: Arc<Reach> = Arc::default();
            Ok(Self {
                producer: client::make(config.producer(), RDKafkaLogLevel::Warning, Voice::new(&reach))?,
                admin: client::make(config.tools(), RDKafkaLogLevel::Emerg, Voice::new(&reach))?,
                topic: config.topic.clone(),
            })
        }

        /// Deletes what lies before an offset of a partition.
        ///
        /// # Errors
        /// `Internal`.
        pub async fn delete_before(&self, partition: i32, offset: i64) -> Result<()> {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&self.topic, partition, Offset::Offset(offset)).map_err(told)?;
            let request = self.admin.delete_records(&list, &AdminOptions::new());
            request.await.map(drop).map_err(told)
        }

        /// Replaces all of the topic's own settings.
        ///
        /// # Errors
        /// `Internal`.
        pub async fn set(&self, settings: &[(&str, &str)]) -> Result<()> {
            let mut change = AlterConfig::new(ResourceSpecifier::Topic(&self.topic));
            for (name, value) in settings {
                change = change.set(name, value);
            }
            let done = self.admin.alter_configs([&change], &AdminOptions::new()).await;
            match done.map_err(told)?.into_iter().next() {
                Some(Err((_, code))) => Err(Error::internal(code.to_string())),
                _ => Ok(()),
            }
        }

        /// Deletes all that lies in the first so many partitions.
        ///
        /// # Errors
        /// `Internal`.
        pub async fn empty(&self, partitions: i32) -> Result<()> {
            let mut list = TopicPartitionList::new();
            for partition in 0..partitions {
                list.add_partition_offset(&self.topic, partition, Offset::End).map_err(told)?;
            }
            self.admin.delete_records(&list, &AdminOptions::new()).await.map(drop).map_err(told)
        }

        /// Makes the topic again.
        ///
        /// # Errors
        /// `Internal`.
        pub async fn make(&self, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
            let mut topic = NewTopic::new(&self.topic, partitions, TopicReplication::Fixed(1));
            for (name, value) in settings {
                topic = topic.set(name, value);
            }
            let made = self.admin.create_topics([&topic], &AdminOptions::new()).await;
            match made.map_err(told)?.into_iter().next() {
                Some(Err((_, code))) => Err(Error::internal(code.to_string())),
                _ => self.until_known(partitions).await,
            }
        }

        /// Deletes the topic.
        ///
        /// # Errors
        /// `Internal`.
        pub async fn delete(&self) -> Result<()> {
            self.admin.delete_topics(&[&self.topic], &AdminOptions::new()).await.map_err(told)?;
            self.until_known(0).await
        }

        /// Waits until the broker knows so many partitions of the topic, each with a leader: it is told after it has answered.
        async fn until_known(&self, partitions: i32) -> Result<()> {
            let wanted = usize::try_from(partitions).unwrap_or(0);
            for _ in 0..LOOKS {
                let known =
                    self.admin.inner().fetch_metadata(Some(&self.topic), LOOK_TIMEOUT).map_err(told)?;
                let led = |topic: &MetadataTopic| {
                    topic.partitions().iter().filter(|partition| partition.leader() >= 0).count()
                };
                if known.topics().iter().map(led).sum::<usize>() == wanted {
                    return Ok(());
                }
                tokio::time::sleep(LOOK_PAUSE).await;
            }
            Err(Error::internal(format!("the broker does not know {wanted} partitions of {}", self.topic)))
        }

        /// Sends a message; answers its offset.
        ///
        /// # Errors
        /// `Internal`.
        pub async fn send(&self, partition: i32, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<u64> {
            let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(&self.topic).partition(partition);
            record.key = key;
            record.payload = value;
            let sent = self.producer.send(record, Duration::from_secs(30)).await;
            sent.map(|delivery| u64::try_from(delivery.offset).unwrap_or(0)).map_err(|(error, _)| told(error))
        }
    }

    fn told(error: rdkafka::error::KafkaError) -> Error {
        Error::internal(error.to_string())
    }
}
