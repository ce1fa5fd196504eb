//! Questions to the brokers and the few things that are done to a topic: its facts, its ends, its making, its trimming.
//!
//! librdkafka's questions block; each is asked on a thread that may, and has a limit of its own.

use super::client::{self, Reach, Voice, failed};
use super::config::{KafkaConfig, TopicId};
use super::topic_id::{self, Described};
use super::verdict::{TopicFacts, settings_of_a_new_topic};
use crate::record::MAX_RECORD_BYTES;
use nacre_runtime::Context;
use nacre_types::{Error, Offset, PartitionId, Result};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset as KafkaOffset, TopicPartitionList};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where a partition begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    /// Of the first record that is there.
    pub(super) low: u64,
    /// After the last record that is on enough replicas.
    pub(super) high: u64,
}

struct Clients {
    admin: AdminClient<Voice>,
    asks: BaseConsumer<Voice>,
}

/// How long a client tries to connect where all that is wanted is what it says of it.
const TRY: Duration = Duration::from_secs(2);

/// Between two questions to a partition whose leader is being elected.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Whether a partition's leader is not known, or does not know of it, for the moment.
fn is_moving(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{LeaderNotAvailable, NotLeaderForPartition};
    matches!(error.rdkafka_error_code(), Some(LeaderNotAvailable | NotLeaderForPartition))
}

impl Clients {
    /// Connects, if it can: the client that asks says what comes of that, which the other one cannot. Blocks.
    fn try_to_connect(&self, topic: &str) {
        drop(self.asks.fetch_metadata(Some(topic), TRY));
        self.hear();
    }

    /// Takes what the client that asks has to say, now and then, or it would pile up.
    fn hear(&self) {
        for _ in 0..100 {
            drop(self.asks.poll(Duration::ZERO));
        }
    }
}

pub(super) struct Tools {
    clients: Option<Arc<Clients>>,
    topic: Arc<str>,
    /// What comes in is counted as the topic counts, and what goes out as the log does.
    config: KafkaConfig,
    /// Brokers and protocol, for those who do not reach them.
    asked: String,
    timeout: Duration,
    reach: Arc<Reach>,
    ctx: Context,
}

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tools").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        if let Some(clients) = self.clients.take() {
            client::end_elsewhere(clients, &self.ctx.tasks);
        }
    }
}

/// Kafka counts partitions in i32.
pub(super) fn number(partition: PartitionId) -> i32 {
    i32::try_from(partition.0).unwrap_or(i32::MAX)
}

impl Tools {
    pub(super) fn new(config: &KafkaConfig, reach: &Arc<Reach>, ctx: &Context) -> Result<Self> {
        // Nobody takes the words of an admin client: it had better say none, or they would pile up.
        let admin = client::make(config.tools(), RDKafkaLogLevel::Emerg, Voice::new(reach))?;
        let asks = client::make(config.tools(), RDKafkaLogLevel::Warning, Voice::new(reach))?;
        Ok(Self {
            clients: Some(Arc::new(Clients { admin, asks })),
            topic: config.topic.as_str().into(),
            config: config.clone(),
            asked: format!("{} by {}", config.brokers, config.security.protocol()),
            timeout: config.attempt_timeout,
            reach: reach.clone(),
            ctx: ctx.clone(),
        })
    }

    fn clients(&self) -> Result<Arc<Clients>> {
        self.clients.clone().ok_or_else(|| Error::internal("a log that was ended is asked"))
    }

    fn options(&self) -> AdminOptions {
        AdminOptions::new().request_timeout(Some(self.timeout)).operation_timeout(Some(self.timeout))
    }

    /// Asks something on a thread that may block. An answer of any kind shows that a broker is there.
    async fn ask<T: Send + 'static>(
        &self,
        name: &'static str,
        question: impl FnOnce(&Clients, &str, Duration) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (clients, topic, timeout) = (self.clients()?, self.topic.clone(), self.timeout);
        let work = move || {
            let answer = question(&clients, &topic, timeout);
            if answer.as_ref().is_err_and(|error: &Error| error.code() == "log-unreachable") {
                clients.try_to_connect(&topic);
            }
            answer
        };
        match self.ctx.tasks.spawn_blocking(name, work).await? {
            Ok(answer) => {
                self.reach.found();
                Ok(answer)
            }
            Err(error) => Err(self.where_asked(error)),
        }
    }

    /// Who does not find a broker looks at the addresses first, and then at how they are spoken to. What librdkafka says
    /// of its connections tells a wrong password from a wrong certificate and both from a wrong port.
    fn where_asked(&self, error: Error) -> Error {
        if error.code() != "log-unreachable" {
            return error;
        }
        let why = self.reach.why().map_or_else(String::new, |why| format!("; {why}"));
        Error::unavailable(format!(
            "{} (asked of {}{why}); look at log (NACRE_LOG) and the settings kafka_security, kafka_user and kafka_ca_file",
            error.detail(),
            self.asked
        ))
        .with_code("log-unreachable")
    }

    /// What the brokers say of the topic.
    ///
    /// # Errors
    /// `NotFound` (`log-topic-missing`), `Unavailable`, `Forbidden`.
    pub(super) async fn facts(&self) -> Result<TopicFacts> {
        let described = self.describe().await?;
        let what = "the topic's settings";
        let resource = [ResourceSpecifier::Topic(&self.topic)];
        let answer = self.clients()?.admin.describe_configs(&resource, &self.options()).await;
        let mut settings = BTreeMap::new();
        for resource in answer.map_err(|error| failed(what, &error))? {
            let resource = resource.map_err(|code| failed(what, &KafkaError::AdminOp(code)))?;
            for entry in resource.entries {
                if let Some(value) = entry.value {
                    settings.insert(entry.name, value);
                }
            }
        }
        Ok(TopicFacts {
            name: self.topic.to_string(),
            id: described.id,
            partitions: described.partitions,
            replicas: described.replicas,
            in_sync: described.in_sync,
            settings,
        })
    }

    /// The topic's id now.
    pub(super) async fn topic_id(&self) -> Result<TopicId> {
        Ok(self.describe().await?.id)
    }

    /// The topic's id and how many partitions it has: what a reader of a topic of someone else may ask.
    pub(super) async fn id_and_partitions(&self) -> Result<(TopicId, u32)> {
        let described = self.describe().await?;
        Ok((described.id, described.partitions))
    }

    async fn describe(&self) -> Result<Described> {
        self.ask("log topic", |clients, topic, limit| {
            // First by the client that may wait: the other one takes a core for as long as no broker is there (in librdkafka
            // 2.12 each try to connect wakes the request that waits for it, which has it tried again).
            let found = clients.asks.fetch_metadata(Some(topic), limit);
            found.map_err(|error| failed(format_args!("the brokers of topic {topic}"), &error))?;
            topic_id::describe(clients.admin.inner(), topic, limit)
        })
        .await
    }

    /// Where a partition begins and ends, as its leader says now.
    pub(super) async fn marks(&self, partition: PartitionId) -> Result<Marks> {
        let Marks { low, high } = self.own_marks(partition).await?;
        let to_log = |mark| self.config.to_log(partition, mark);
        Ok(Marks { low: to_log(low), high: to_log(high) })
    }

    /// A partition whose leader is being elected, as those of a topic that was just made, is asked again.
    async fn own_marks(&self, partition: PartitionId) -> Result<Marks> {
        let begun = self.ctx.clock.monotonic();
        loop {
            match self.marks_of_leader(partition).await? {
                Ok(marks) => return Ok(marks),
                Err(moving) if self.ctx.clock.monotonic().saturating_sub(begun) >= self.timeout => {
                    return Err(self.where_asked(moving));
                }
                Err(_) => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
    }

    /// Inside: that it has no leader who knows that it is one.
    async fn marks_of_leader(&self, partition: PartitionId) -> Result<Result<Marks>> {
        self.ask("log ends", move |clients, topic, limit| {
            clients.hear();
            let what = format_args!("the ends of partition {partition}");
            let (low, high) = match clients.asks.fetch_watermarks(topic, number(partition), limit) {
                Ok(marks) => marks,
                Err(error) if is_moving(&error) => return Ok(Err(failed(what, &error))),
                Err(error) => return Err(failed(what, &error)),
            };
            let mark = |mark: i64| {
                u64::try_from(mark).map_err(|_| {
                    Error::unavailable(format!(
                        "the brokers do not know the ends of partition {partition} yet"
                    ))
                    .with_code("log-unreachable")
                })
            };
            Ok(Ok(Marks { low: mark(low)?, high: mark(high)? }))
        })
        .await
    }

    /// The first offset whose record was appended at or after a time, microseconds since the epoch; `None` = none is so
    /// late.
    pub(super) async fn offset_at(&self, partition: PartitionId, micros: i64) -> Result<Option<u64>> {
        let found = self.own_offset_at(partition, micros).await?;
        Ok(found.map(|offset| self.config.to_log(partition, offset)))
    }

    async fn own_offset_at(&self, partition: PartitionId, micros: i64) -> Result<Option<u64>> {
        self.ask("log times", move |clients, topic, limit| {
            let what = format_args!("a time of partition {partition}");
            let mut list = TopicPartitionList::new();
            // Times travel in the field for offsets, and are never negative.
            let millis = KafkaOffset::Offset(micros.div_euclid(1_000).max(0));
            list.add_partition_offset(topic, number(partition), millis)
                .and_then(|()| clients.asks.offsets_for_times(list, limit))
                .and_then(|answer| {
                    let Some(found) = answer.find_partition(topic, number(partition)) else {
                        return Ok(None);
                    };
                    found.error()?;
                    Ok(match found.offset() {
                        KafkaOffset::Offset(offset) => u64::try_from(offset).ok(),
                        _ => None,
                    })
                })
                .map_err(|error| failed(what, &error))
        })
        .await
    }

    /// Deletes the records of a partition before an offset.
    pub(super) async fn delete_before(&self, partition: PartitionId, offset: Offset) -> Result<()> {
        let what = format!("trimming partition {partition}");
        let options = self.options();
        let own = self.config.to_topic(partition, offset)?;
        let request = {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&self.topic, number(partition), own)
                .map_err(|error| failed(&what, &error))?;
            self.clients()?.admin.delete_records(&list, &options)
        };
        let answer = request.await.map_err(|error| failed(&what, &error))?;
        let found = answer.find_partition(&self.topic, number(partition));
        found.map_or(Ok(()), |found| found.error()).map_err(|error| failed(&what, &error))?;
        self.reach.found();
        Ok(())
    }

    /// Makes the topic.
    ///
    /// # Errors
    /// `Conflict` (`log-topic-exists`), `Invalid` (`log-topic-refused`), `Unavailable`, `Forbidden`.
    pub(super) async fn create(&self, partitions: u32, config: &KafkaConfig) -> Result<()> {
        let in_sync = config.in_sync().to_string();
        let longest = (MAX_RECORD_BYTES + (64 << 10)).to_string();
        let replicas = i32::try_from(config.replicas).unwrap_or(i32::MAX);
        let count = i32::try_from(partitions).unwrap_or(i32::MAX);
        let mut topic = NewTopic::new(&self.topic, count, TopicReplication::Fixed(replicas))
            .set("min.insync.replicas", &in_sync)
            .set("max.message.bytes", &longest);
        for (name, value) in settings_of_a_new_topic() {
            topic = topic.set(name, value);
        }
        let what = format!("making topic {}", self.topic);
        // Whether there are brokers at all, and why not.
        self.ask("log brokers", |clients, topic, limit| {
            let found = clients.asks.fetch_metadata(Some(topic), limit);
            found.map(drop).map_err(|error| failed("the brokers", &error))
        })
        .await?;
        let request = self.clients()?.admin.create_topics([&topic], &self.options());
        for made in request.await.map_err(|error| failed(&what, &error))? {
            if let Err((name, code)) = made {
                return Err(match code {
                    RDKafkaErrorCode::TopicAlreadyExists => Error::conflict(format!(
                        "there is a topic {name} already; nacre log status says whether it is as the log must have it"
                    ))
                    .with_code("log-topic-exists"),
                    RDKafkaErrorCode::InvalidReplicationFactor => Error::invalid(format!(
                        "{what}: there are fewer than {replicas} brokers; --replicas says on how many each record lies"
                    ))
                    .with_code("log-topic-refused"),
                    RDKafkaErrorCode::InvalidPartitions
                    | RDKafkaErrorCode::InvalidTopic
                    | RDKafkaErrorCode::InvalidConfig
                    | RDKafkaErrorCode::PolicyViolation => {
                        Error::invalid(format!("{what}: the brokers refuse it: {code}")).with_code("log-topic-refused")
                    }
                    other => failed(&what, &KafkaError::AdminOp(other)),
                });
            }
        }
        Ok(())
    }
}
