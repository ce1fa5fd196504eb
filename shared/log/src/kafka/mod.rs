//! The log over a Kafka topic.
//!
//! # What is stored, and who may write it
//!
//! One topic; a record of the log is the value of one message, sent to its partition by number, without a key. Offsets
//! are Kafka's, in a log that was taken up again plus a base. Any process may append; there is no owner, no lease, no group and no committed offset. Where readers
//! start is the catalog's `flushed_through` and nothing else ([`Starts`]).
//!
//! The topic must keep what it took, in order, without holes, under the brokers' time: append-time timestamps, no
//! compaction, **no retention by time or size**, no unclean election, enough replicas. `verdict` says so as a pure
//! function; it is asked at the start and again every few seconds (`watch`). The topic is known by its id, because a
//! topic that was deleted and made again has the same name and soon the same offsets, and leader epochs do not tell.
//!
//! # One reader per partition, in the processes that need one
//!
//! Versions are not stored. They follow from one computation over the whole partition, `max(append time, clock + 1)`, from
//! an (offset, clock) that the catalog knows. Kafka tells an appender an offset and a time, not the clock there; and it
//! tells whoever asks for the end an offset and no clock. Both need somebody who has read everything before. So a process
//! that has a tail of a partition, or asks for its end, has one **follower** of it, and everything else stands on it:
//!
//! - *tails* take what the follower has in memory, and read by themselves only what is older (`window`, `tail`);
//! - *an append beside a tail is acknowledged when the follower reads it*, at the offset that the delivery report names,
//!   under the write id that was sent (`append`). Its version is then what every reader computes. It costs one fetch after
//!   the report, about a millisecond, which the process's own tail, and so the caller, waits for anyway: an acknowledged
//!   write is visible to the next read. *A process without a tail* (a dispatcher of a fleet) reads nothing: it believes a
//!   report that names an append time and an offset at or above the newest that it knows (librdkafka also reports success
//!   without either), and cannot tell the version. If it read back too, each dispatcher would read the whole log;
//! - *the end* is the leader's high watermark, asked for after the call began, once the follower has read so far (`end`).
//!   A leader that lost its office and has not heard of it answers with an old end; what strong reads rest on is a marker
//!   that enough replicas took ([`Log::strong_end`]), shared by all who wait for one.
//!
//! # Appending
//!
//! 1. Refuse (certainly not appended) where the topic is not as it must be, no broker answers, the queue is full, or a
//!    follower that is needed is not at the end: a process that cannot read back cannot acknowledge.
//! 2. Hand it to an idempotent producer with `acks=all` (`produce`). From here on there is no "certainly not".
//! 3. A report in time, with a time, at or above where the follower stood before the sending, or, without one, above what
//!    the catalog and earlier reports had told by then: else **unknown**.
//! 4. The follower, where there is one, reads it there: else **unknown**.
//! 5. Its append time is within a minute of this machine's clock: else alarmed, and **unknown**. It counts for readers all
//!    the same: what readers compute must not depend on their own clocks.
//!
//! # Crash cases
//!
//! - *After sending:* the record may be in the log or come to be for as long as the delivery time-out. The caller was told
//!   nothing or unknown; [`Log::repeat`] finds out (`search`).
//! - *A caller that goes away:* its record goes on; nobody else appends it.
//! - *A producer that met a fatal error:* is replaced, and kept until its last report has come.
//! - *A broker that dies:* librdkafka goes on with the next leader; sequence numbers keep records single and in order.
//! - *A reader that is overtaken by the trimming:* is told to restart, if the catalog stands at or above the partition's
//!   start; else records were lost that somebody still needed, and everything of this partition stops with that.
//!
//! # Trimming
//!
//! DeleteRecords below a position that `flushed_through`, read freshly, has passed, in the topic of the right id. Offsets
//! never come free again, so there is no boundary record here: the partition's own start is one.
//!
//! # A topic in the place of a lost one, and what cannot be read
//!
//! An operator may give up what is lost (`nacre log resume --accept-loss`). The store's identity then tells every process alike
//! what is added to the topic's own offsets, so that the log's never go backwards (`border`), and which stretches all readers
//! pass over (`stamp`). Here nothing is ever given up.
//!
//! # Why not just…
//!
//! - *…believe every delivery report as it is?* It has no clock, and now and then no offset.
//! - *…give the clock in a header of each message?* Whoever writes it has read the partition only so far; two appenders
//!   would hand out one clock twice.
//! - *…read only after appends that were given a version?* Then the follower's place is not the end, `end` has no clock,
//!   and each tail fetches for itself.
//! - *…commit offsets to Kafka?* The flush edit is the truth of what is covered; a second truth drifts.
//! - *…transactions?* They fence producers, not readers' versions, and their markers make holes in the offsets.
//! - *…append times as versions as they are?* Milliseconds tie, and fall by what two brokers' clocks differ when the
//!   leader changes.
//! - *…start at the partition's first record where nothing else is known?* The clock there is unknown: the same row would
//!   get another version.

mod append;
mod border;
mod client;
mod config;
mod end;
mod examine;
mod follow;
mod gate;
mod partition;
mod polled;
mod produce;
mod read;
mod search;
mod share;
pub mod source;
mod stamp;
mod tail;
mod tools;
mod topic_id;
mod trim;
mod verdict;
mod watch;
mod window;

pub use self::config::{
    Batching, KafkaConfig, KafkaSecurity, KafkaUrl, Sasl, SaslMechanism, Secret, Tls, TopicId,
};
pub use self::examine::{Examined, Obstacle, examine};
pub use self::partition::Starts;
pub use self::verdict::{TopicFacts, TopicFault, TopicRules};

use self::client::Reach;
use self::partition::{Partition, Shared};
use self::produce::Producers;
use self::share::Clients;
use self::tail::KafkaTail;
use self::tools::Tools;
use crate::{AppendOutcome, Attempts, EncodedRecord, Log, LogPosition, Tail, WriteSearch};
use async_trait::async_trait;
use nacre_runtime::Context;
use nacre_types::{Error, Offset, PartitionId, Result, WriteId};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch as channel;

/// So much of each partition is kept in memory however many there are.
const LEAST_WINDOW_BYTES: usize = 1 << 20;

impl TopicRules {
    /// What a log asks of its topic.
    pub fn of(config: &KafkaConfig) -> Self {
        Self { id: config.topic_id, partitions: 1, replicas: config.replicas, in_sync: config.in_sync() }
    }
}

/// What the brokers say of a topic.
///
/// # Errors
/// `NotFound` (`log-topic-missing`), `Invalid` (`log-config`), `Unavailable` (`log-unreachable`), `Forbidden`
/// (`log-forbidden`).
pub async fn describe_topic(config: &KafkaConfig, ctx: &Context) -> Result<TopicFacts> {
    config.check()?;
    Tools::new(config, &Arc::default(), ctx)?.facts().await
}

/// Makes a topic as the log must have it, and answers what it is.
///
/// # Errors
/// `Conflict` (`log-topic-exists`), `Invalid` (`log-config`, `log-topic-refused`), `Unavailable`, `Forbidden`.
pub async fn create_topic(config: &KafkaConfig, partitions: u32, ctx: &Context) -> Result<TopicFacts> {
    config.check()?;
    if partitions == 0 {
        return Err(Error::invalid("a topic has at least one partition").with_code("log-config"));
    }
    let tools = Tools::new(config, &Arc::default(), ctx)?;
    tools.create(partitions, config).await?;
    let until = ctx.clock.monotonic().saturating_add(config.attempt_timeout);
    loop {
        // The brokers hear of it one after the other.
        match tools.facts().await {
            Err(error) if error.code() == "log-topic-missing" && ctx.clock.monotonic() < until => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            told => return told,
        }
    }
}

/// Where a partition begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionMarks {
    /// Of the first record that was not trimmed.
    pub start: Offset,
    /// After the last record.
    pub end: Offset,
}

/// Where the partitions of a topic begin and end, in their order.
///
/// # Errors
/// As [`describe_topic`].
pub async fn topic_marks(
    config: &KafkaConfig,
    facts: &TopicFacts,
    ctx: &Context,
) -> Result<Vec<PartitionMarks>> {
    let tools = Tools::new(config, &Arc::default(), ctx)?;
    let mut all = Vec::new();
    for partition in 0..facts.partitions {
        let marks = tools.marks(PartitionId(partition)).await?;
        all.push(PartitionMarks { start: Offset(marks.low), end: Offset(marks.high) });
    }
    Ok(all)
}

/// A log over a Kafka topic.
#[derive(Debug)]
pub struct KafkaLog {
    shared: Arc<Shared>,
    partitions: Vec<Arc<Partition>>,
    facts: TopicFacts,
}

impl KafkaLog {
    /// The log in a topic that is as it must be; what is in it is read when it is first used. Dropped, it takes no
    /// appends any more; what is under way is still sent.
    ///
    /// # Errors
    /// `Invalid` (`log-config`, `log-topic-settings`), `Corrupt` (`log-topic-recreated`), `NotFound`
    /// (`log-topic-missing`), `Unavailable`, `Forbidden`.
    pub async fn open(config: KafkaConfig, starts: Starts, ctx: &Context) -> Result<Self> {
        config.check()?;
        let reach: Arc<Reach> = Arc::default();
        let tools = Tools::new(&config, &reach, ctx)?;
        let facts = tools.facts().await?;
        let rules = TopicRules::of(&config);
        rules.judge(&facts)?;
        // From now on it is this topic and no other.
        let rules = TopicRules { id: Some(facts.id), partitions: facts.partitions, ..rules };
        let producers = Producers::new(&config, &reach, ctx)?;
        let shared = Arc::new(Shared {
            config,
            rules,
            ctx: ctx.clone(),
            reach,
            tools,
            producers,
            clients: Clients::default(),
            starts,
            objection: parking_lot::Mutex::new(None),
            max_record_bytes: AtomicUsize::new(watch::max_record_bytes(&facts)),
            closed: channel::Sender::new(false),
        });
        let count = usize::try_from(facts.partitions).unwrap_or(usize::MAX).max(1);
        let window_bytes = (shared.config.window_bytes / count).max(LEAST_WINDOW_BYTES);
        let partitions: Vec<Arc<Partition>> = (0..facts.partitions)
            .map(|id| Arc::new(Partition::new(PartitionId(id), shared.clone(), window_bytes)))
            .collect();
        ctx.tasks.spawn("log watch", watch::watch(shared.clone(), partitions.clone()));
        Ok(Self { shared, partitions, facts })
    }

    /// What the brokers said of the topic when the log was opened.
    pub fn facts(&self) -> &TopicFacts {
        &self.facts
    }

    /// How many partitions this process reads now: those that it has tails of, and those whose end it was asked for lately.
    pub fn followed(&self) -> usize {
        self.partitions.iter().filter(|partition| partition.is_followed.load(Ordering::SeqCst)).count()
    }

    fn partition(&self, id: PartitionId) -> Result<&Arc<Partition>> {
        let found = usize::try_from(id.0).ok().and_then(|index| self.partitions.get(index));
        found.ok_or_else(|| {
            Error::invalid(format!("partition {id}: the log has {} partitions", self.partitions.len()))
                .with_code("partition-unknown")
        })
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        self.shared.closed.send_replace(true);
    }
}

#[async_trait]
impl Log for KafkaLog {
    fn partitions(&self) -> u32 {
        self.facts.partitions
    }

    async fn append(
        &self,
        partition: PartitionId,
        record: EncodedRecord,
        deadline: Duration,
    ) -> AppendOutcome {
        match self.partition(partition) {
            Ok(partition) => partition.append(record, deadline).await,
            Err(error) => AppendOutcome::NotAppended(error),
        }
    }

    async fn tail(&self, partition: PartitionId, from: LogPosition) -> Result<Box<dyn Tail>> {
        let partition = self.partition(partition)?;
        partition.check_position(&from)?;
        Ok(Box::new(KafkaTail::new(partition.clone(), from)))
    }

    async fn end(&self, partition: PartitionId) -> Result<LogPosition> {
        self.partition(partition)?.end().await
    }

    async fn strong_end(&self, partition: PartitionId) -> Result<LogPosition> {
        self.partition(partition)?.proven_end().await
    }

    async fn trim(&self, partition: PartitionId, through: &LogPosition) -> Result<()> {
        self.partition(partition)?.trim(through).await
    }

    async fn log_time(&self, partition: PartitionId) -> Result<i64> {
        let partition = self.partition(partition)?;
        partition.reach_end(self.shared.config.attempt_timeout).await?;
        let now = self.shared.ctx.clock.now_micros();
        let last = partition.known(|known| known.time());
        Ok(if last > now && partition.is_time_believed(last) { last } else { now })
    }

    async fn find_write(
        &self,
        partition: PartitionId,
        write_id: WriteId,
        attempts: Attempts,
        deadline: Duration,
    ) -> Result<WriteSearch> {
        self.partition(partition)?.find_write(write_id, attempts, deadline).await
    }

    async fn repeat(
        &self,
        partition: PartitionId,
        record: EncodedRecord,
        attempts: Attempts,
        deadline: Duration,
    ) -> AppendOutcome {
        match self.partition(partition) {
            Ok(partition) => partition.repeat(record, attempts, deadline).await,
            Err(error) => AppendOutcome::NotAppended(error),
        }
    }
}
