//! Reading a partition for what stops readers: for the operator who decides whether to go on behind it.
//!
//! It reads as every reader does, from a position to an end that was asked for before; notes what cannot be read, and goes on
//! behind it with the same clock, as readers will who pass over it.

use super::client::{self, Reach, Voice, failed};
use super::config::KafkaConfig;
use super::read::raw;
use super::stamp::{Raw, Stamper};
use super::tools::{Tools, number};
use crate::LogPosition;
use nacre_runtime::Context;
use nacre_types::{Error, Offset, PartitionId, Result};
use rdkafka::TopicPartitionList;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// So often, each by a client of its own, the brokers must say that there is nothing more before it is believed: one that
/// was just elected may not know its own end for a moment.
const END_LOOKS: u32 = 3;
const END_PAUSE: Duration = Duration::from_secs(1);
/// Version bytes of formats to come. What begins with another is no record of this log at all.
const NEWER_VERSIONS: std::ops::Range<u8> = 2..32;

/// A stretch of a partition that readers do not get past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Its first offset, as the log counts.
    pub from: Offset,
    /// The offset after its last.
    pub to: Offset,
    /// What is wrong with it.
    pub why: String,
}

/// What the records of a partition are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Examined {
    /// Records that readers read.
    pub records: u64,
    /// What they do not get past, in order.
    pub obstacles: Vec<Obstacle>,
}

/// Reads a partition from `from` to `end`, and tells behind each message where it stands.
///
/// # Errors
/// `Corrupt` (`newer-format`) for a record of a newer program: run that; (`log-lost`) where the partition begins after `from`;
/// `Unavailable`, `Forbidden`, `Invalid` (`log-config`).
pub async fn examine(
    config: &KafkaConfig,
    partition: PartitionId,
    from: LogPosition,
    end: Offset,
    tell: &mut (dyn FnMut(Offset) + Send),
    ctx: &Context,
) -> Result<Examined> {
    let mut course = Course::new(config, partition, from);
    let reach: Arc<Reach> = Arc::default();
    let mut looks = 0;
    while course.at() < end {
        let before = course.at();
        read(&mut course, config, end, tell, &reach, ctx).await?;
        if course.at() >= end {
            break;
        }
        // It was told that there is nothing more, before the end.
        looks = if course.at() == before { looks + 1 } else { 1 };
        if looks >= END_LOOKS {
            course.nothing_until(end);
        } else {
            tokio::time::sleep(END_PAUSE).await;
        }
    }
    Ok(course.examined)
}

/// Reads on by a client of its own until `end`, or until the brokers say that there is nothing more.
async fn read(
    course: &mut Course,
    config: &KafkaConfig,
    end: Offset,
    tell: &mut (dyn FnMut(Offset) + Send),
    reach: &Arc<Reach>,
    ctx: &Context,
) -> Result<()> {
    let partition = course.partition;
    let low = Tools::new(config, reach, ctx)?.marks(partition).await?.low;
    if course.at().0 < low {
        return Err(super::stamp::lost(partition, course.at(), low));
    }
    let mut properties = config.reader();
    properties.push(("enable.partition.eof", "true".to_owned()));
    let consumer: StreamConsumer<Voice> =
        client::make(properties, RDKafkaLogLevel::Warning, Voice::new(reach))?;
    let what = format!("reading partition {partition}");
    let mut list = TopicPartitionList::new();
    let own = config.to_topic(partition, course.at())?;
    list.add_partition_offset(&config.topic, number(partition), own)
        .and_then(|()| consumer.assign(&list))
        .map_err(|error| failed(&what, &error))?;
    let reading = async {
        while course.at() < end {
            match consumer.recv().await {
                Ok(message) => {
                    course.take(raw(&message, &config.mending, partition), end)?;
                    tell(course.at());
                }
                Err(error) if is_end(&error) => return Ok(()),
                Err(error) => judge(&what, &error)?,
            }
        }
        Ok::<(), Error>(())
    };
    let read = reading.await;
    client::end_elsewhere(consumer, &ctx.tasks);
    read
}

fn is_end(error: &KafkaError) -> bool {
    matches!(error, KafkaError::PartitionEOF(_))
        || error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF)
}

/// Connections come and go; whatever else is said ends the reading.
fn judge(what: &str, error: &KafkaError) -> Result<()> {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::NotLeaderForPartition
            | Code::LeaderNotAvailable,
        ) => Ok(()),
        _ => Err(failed(what, error)),
    }
}

/// Where the reading stands, and what it has met.
struct Course {
    partition: PartitionId,
    stamper: Stamper,
    config: KafkaConfig,
    examined: Examined,
}

impl Course {
    fn new(config: &KafkaConfig, partition: PartitionId, from: LogPosition) -> Self {
        let stamper = Stamper::new(partition, from, &config.mending);
        Self { partition, stamper, config: config.clone(), examined: Examined::default() }
    }

    fn at(&self) -> Offset {
        self.stamper.at().offset
    }

    /// The next message, if it is one before `end`.
    fn take(&mut self, raw: Raw, end: Offset) -> Result<()> {
        let (offset, first) = (Offset(raw.offset), raw.bytes.first().copied());
        if offset > self.at() {
            let to = offset.min(end);
            self.obstacle(
                to,
                "nothing is there: compacted away, deleted, or a transaction's mark".to_owned(),
            );
        }
        if offset >= end {
            return Ok(());
        }
        match self.stamper.stamp(raw) {
            Ok(stamped) => {
                self.examined.records += u64::from(stamped.is_some());
                Ok(())
            }
            // Nothing is done twice by a reader that begins anew: it begins at `at`.
            Err(error) if offset < self.at() => Err(error),
            Err(error)
                if error.code() == "newer-format"
                    && first.is_some_and(|byte| byte == 1 || NEWER_VERSIONS.contains(&byte)) =>
            {
                Err(error.context("a newer program wrote to this log; resume it with that one"))
            }
            Err(error) => {
                self.obstacle(offset.next(), what_is_wrong(&error));
                Ok(())
            }
        }
    }

    fn nothing_until(&mut self, end: Offset) {
        self.obstacle(end, "nothing is there, though the partition ends behind it".to_owned());
    }

    /// From where it stands to `to`; goes on there.
    fn obstacle(&mut self, to: Offset, why: String) {
        let from = self.at();
        match self.examined.obstacles.last_mut() {
            Some(last) if last.to == from && last.why == why => last.to = to,
            _ => self.examined.obstacles.push(Obstacle { from, to, why }),
        }
        let at = LogPosition { offset: to, ..self.stamper.at() };
        self.stamper = Stamper::new(self.partition, at, &self.config.mending);
    }
}

/// In a few words; the error itself tells what to do, which is being done.
fn what_is_wrong(error: &Error) -> String {
    match error.code() {
        "log-append-time" => "a record without append time, which was never acknowledged".to_owned(),
        "newer-format" => "a stranger's message".to_owned(),
        _ => "a message that is no record of this log, or damaged".to_owned(),
    }
}
