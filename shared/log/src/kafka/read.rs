//! A reader of one partition by librdkafka, from an offset on.
//!
//! It is assigned by hand, joins no group, commits nothing, and begins where it is told or not at all. It has a client of
//! its own ([`Reader::open`]) or takes its partition's part of what one client reads for many ([`Reader::share`]).

use super::border::to_log;
use super::client::{self, Reach, Voice, failed};
use super::config::KafkaConfig;
use super::share::Share;
use super::stamp::Raw;
use super::tools::number;
use bytes::Bytes;
use futures::FutureExt;
use nacre_runtime::{Context, Tasks};
use nacre_store::LogMending;
use nacre_types::{Error, Offset, PartitionId, Result};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Timestamp, TopicPartitionList};
use std::fmt;
use std::sync::Arc;

/// What is taken at once, at most: then others have their turn.
const BATCH_RECORDS: usize = 2_000;
const BATCH_BYTES: usize = 1 << 20;

/// Where messages come from.
enum Supply {
    Own(StreamConsumer<Voice>),
    Shared(Share),
}

impl Supply {
    async fn recv(&self) -> std::result::Result<BorrowedMessage<'_>, KafkaError> {
        match self {
            Self::Own(consumer) => consumer.recv().await,
            Self::Shared(share) => share.recv().await,
        }
    }
}

pub(super) struct Reader {
    /// `None` only while it ends.
    supply: Option<Supply>,
    partition: PartitionId,
    /// What is counted as the topic counts goes out as the log does.
    mending: Arc<LogMending>,
    reach: Arc<Reach>,
    tasks: Tasks,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("partition", &self.partition).finish_non_exhaustive()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(supply) = self.supply.take() {
            if let Supply::Shared(share) = &supply {
                share.give_up();
            }
            client::end_elsewhere(supply, &self.tasks);
        }
    }
}

/// What a reader comes to know.
#[derive(Debug)]
pub(super) enum Reading {
    /// Records, in order.
    Records(Vec<Raw>),
    /// The place that it stands at is not in the partition: it says so once and then for ever nothing.
    OutOfRange,
    /// Nothing but that a broker was away; it goes on by itself.
    Nothing,
}

impl Reader {
    /// A reader with a client of its own.
    pub(super) fn open(
        config: &KafkaConfig,
        reach: &Arc<Reach>,
        ctx: &Context,
        partition: PartitionId,
        from: Offset,
    ) -> Result<Self> {
        let consumer: StreamConsumer<Voice> =
            client::make(config.reader(), RDKafkaLogLevel::Warning, Voice::new(reach))?;
        let mut list = TopicPartitionList::new();
        let own = config.to_topic(partition, from)?;
        list.add_partition_offset(&config.topic, number(partition), own)
            .and_then(|()| consumer.assign(&list))
            .map_err(|error| failed(format_args!("reading partition {partition}"), &error))?;
        let (reach, tasks) = (reach.clone(), ctx.tasks.clone());
        let mending = config.mending.clone();
        Ok(Self { supply: Some(Supply::Own(consumer)), partition, mending, reach, tasks })
    }

    /// A reader of a share.
    pub(super) fn share(
        share: Share,
        config: &KafkaConfig,
        reach: &Arc<Reach>,
        ctx: &Context,
        partition: PartitionId,
    ) -> Self {
        let (mending, reach, tasks) = (config.mending.clone(), reach.clone(), ctx.tasks.clone());
        Self { supply: Some(Supply::Shared(share)), partition, mending, reach, tasks }
    }

    /// What comes next; waits for it. Dropped while it waits, it has taken nothing.
    ///
    /// # Errors
    /// `Unavailable`: open another one. `Corrupt`.
    pub(super) async fn next(&self) -> Result<Reading> {
        let Some(supply) = &self.supply else {
            return Err(Error::internal("a reader that was ended is asked"));
        };
        let first = match supply.recv().await {
            Ok(message) => raw(&message, &self.mending, self.partition),
            Err(error) => return self.judge(&error),
        };
        self.reach.found();
        let mut bytes = first.bytes.len();
        let mut records = vec![first];
        // From here on nothing waits, so that nothing that was taken is lost.
        while records.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            match supply.recv().now_or_never() {
                Some(Ok(message)) => {
                    let next = raw(&message, &self.mending, self.partition);
                    bytes += next.bytes.len();
                    records.push(next);
                }
                Some(Err(error)) => match self.judge(&error) {
                    Ok(Reading::Nothing) => {}
                    // What was taken comes first. Whoever reads on finds the same again: a watch over the partition's
                    // ends tells, where librdkafka says it once.
                    Ok(_) | Err(_) => break,
                },
                None => break,
            }
        }
        Ok(Reading::Records(records))
    }

    fn judge(&self, error: &KafkaError) -> Result<Reading> {
        use RDKafkaErrorCode as Code;
        let what = format!("reading partition {}", self.partition);
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            return Err(failed(what, error));
        }
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => Ok(Reading::OutOfRange),
            Some(Code::NotImplemented) => Err(Error::corrupt(format!(
                "{what}: a batch is compressed in a way that this build does not know; another program wrote it"
            ))
            .with_code("log-compression")),
            Some(
                Code::TopicAuthorizationFailed
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::UnknownTopicId
                | Code::BadMessage
                | Code::InvalidMessage,
            ) => Err(failed(what, error)),
            // The group is a name and nothing more; connections come and go.
            _ => {
                tracing::debug!(%error, what, "a reader of the log met an error and goes on");
                Ok(Reading::Nothing)
            }
        }
    }
}

/// A message, counted as the log counts.
pub(super) fn raw(message: &BorrowedMessage<'_>, mending: &LogMending, partition: PartitionId) -> Raw {
    let append_time = match message.timestamp() {
        Timestamp::LogAppendTime(millis) => Some(millis.saturating_mul(1_000)),
        Timestamp::CreateTime(_) | Timestamp::NotAvailable => None,
    };
    Raw {
        offset: u64::try_from(message.offset()).map_or(u64::MAX, |offset| to_log(mending, partition, offset)),
        append_time,
        bytes: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
    }
}
