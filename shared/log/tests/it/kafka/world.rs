//! Topics, and processes on them.

use async_trait::async_trait;
use nacre_log::kafka::{KafkaConfig, KafkaLog, KafkaUrl, Starts, create_topic};
use nacre_log::testing::{OpenProcess, Process};
use nacre_log::{AppendOutcome, Attempts, EncodedRecord, Log, LogPosition, Tail, WriteSearch};
use nacre_runtime::Context;
use nacre_types::{LogIncarnation, PartitionId, Result, WriteId};
use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const P: PartitionId = PartitionId(0);
pub(crate) const LONG: Duration = Duration::from_secs(60);
pub(crate) const START: LogPosition =
    LogPosition { incarnation: LogIncarnation(0), offset: nacre_types::Offset(0), clock: 0, chunk: 1 };

/// The broker that runs; says so where there is none.
pub(crate) fn broker() -> Option<String> {
    let address = std::env::var("NACRE_TEST_KAFKA").ok();
    if address.is_none() {
        println!(
            "NOTICE: skipped, NACRE_TEST_KAFKA is not set (a broker, as host:port; cargo xtask test starts one)"
        );
    }
    address
}

/// A topic's name that nobody had.
pub(crate) fn name() -> String {
    format!("nacre-test-{:032x}", Context::system().ids.random_u128())
}

pub(crate) fn config(address: &str, topic: &str) -> KafkaConfig {
    let url = KafkaUrl::parse(&format!("kafka://{address}/{topic}")).unwrap();
    KafkaConfig {
        replicas: 1,
        delivery_timeout: Duration::from_millis(1_500),
        attempt_timeout: Duration::from_secs(5),
        check_every: Duration::from_millis(500),
        ..KafkaConfig::new(&url)
    }
}

/// Makes a topic as it must be.
pub(crate) async fn topic(address: &str, partitions: u32) -> KafkaConfig {
    let config = config(address, &name());
    create_topic(&config, partitions, &Context::system()).await.unwrap();
    config
}

/// The catalog's `flushed_through` records, as one map.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flushed(Arc<Mutex<HashMap<PartitionId, LogPosition>>>);

impl Flushed {
    pub(crate) fn starts(&self) -> Starts {
        let held = self.0.clone();
        Starts::new(move |partition| {
            let at = held.lock().get(&partition).copied();
            Box::pin(async move { Ok(at) })
        })
    }

    pub(crate) fn advance(&self, partition: PartitionId, to: LogPosition) {
        let mut held = self.0.lock();
        let at = held.entry(partition).or_insert(to);
        if to.offset > at.offset {
            *at = to;
        }
    }
}

pub(crate) async fn open(config: &KafkaConfig, flushed: &Flushed, ctx: &Context) -> Result<KafkaLog> {
    KafkaLog::open(config.clone(), flushed.starts(), ctx).await
}

/// A log whose trims follow an advance of `flushed_through`, as the engine's do.
#[derive(Debug)]
pub(crate) struct Flushing {
    pub(crate) log: KafkaLog,
    pub(crate) flushed: Flushed,
}

#[async_trait]
impl Log for Flushing {
    fn partitions(&self) -> u32 {
        self.log.partitions()
    }
    async fn append(
        &self,
        partition: PartitionId,
        record: EncodedRecord,
        deadline: Duration,
    ) -> AppendOutcome {
        self.log.append(partition, record, deadline).await
    }
    async fn tail(&self, partition: PartitionId, from: LogPosition) -> Result<Box<dyn Tail>> {
        self.log.tail(partition, from).await
    }
    async fn end(&self, partition: PartitionId) -> Result<LogPosition> {
        self.log.end(partition).await
    }
    async fn strong_end(&self, partition: PartitionId) -> Result<LogPosition> {
        self.log.strong_end(partition).await
    }
    async fn trim(&self, partition: PartitionId, through: &LogPosition) -> Result<()> {
        let end = self.log.end(partition).await?;
        if through.incarnation == end.incarnation && through.offset <= end.offset {
            self.flushed.advance(partition, *through);
        }
        self.log.trim(partition, through).await
    }
    async fn log_time(&self, partition: PartitionId) -> Result<i64> {
        self.log.log_time(partition).await
    }
    async fn find_write(
        &self,
        partition: PartitionId,
        write_id: WriteId,
        attempts: Attempts,
        deadline: Duration,
    ) -> Result<WriteSearch> {
        self.log.find_write(partition, write_id, attempts, deadline).await
    }
    async fn repeat(
        &self,
        partition: PartitionId,
        record: EncodedRecord,
        attempts: Attempts,
        deadline: Duration,
    ) -> AppendOutcome {
        self.log.repeat(partition, record, attempts, deadline).await
    }
}

/// A new topic of two partitions, and what opens processes on it. Wants a runtime of several threads.
pub(crate) fn fresh(address: &str) -> Box<OpenProcess> {
    let config = now(topic(address, 2));
    let flushed = Flushed::default();
    Box::new(move |number| {
        let ctx = Context::for_tests(number);
        let log = now(open(&config, &flushed, &ctx)).unwrap();
        Process { log: Arc::new(Flushing { log, flushed: flushed.clone() }), ctx }
    })
}

fn now<T>(work: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(work))
}

/// What an operator does to topics behind the log's back.
pub(crate) struct Operator {
    admin: AdminClient<DefaultClientContext>,
}

impl Operator {
    pub(crate) fn at(address: &str) -> Self {
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", address);
        Self { admin: config.create().unwrap() }
    }

    fn options() -> AdminOptions {
        AdminOptions::new().request_timeout(Some(LONG)).operation_timeout(Some(LONG))
    }

    /// Makes a topic of one partition with settings of one's own beside the right ones.
    pub(crate) async fn make(&self, topic: &str, settings: &[(&str, &str)]) {
        let right = [
            ("message.timestamp.type", "LogAppendTime"),
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            ("unclean.leader.election.enable", "false"),
            ("min.insync.replicas", "1"),
        ];
        let mut new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
        for (name, value) in right {
            let said = settings.iter().find(|(other, _)| *other == name);
            new = new.set(name, said.map_or(value, |(_, value)| value));
        }
        for made in self.admin.create_topics([&new], &Self::options()).await.unwrap() {
            made.unwrap();
        }
    }

    pub(crate) async fn delete(&self, topic: &str) {
        for gone in self.admin.delete_topics(&[topic], &Self::options()).await.unwrap() {
            gone.unwrap();
        }
    }

    /// Replaces all settings of a topic.
    pub(crate) async fn set(&self, topic: &str, settings: &[(&str, &str)]) {
        let mut change = AlterConfig::new(ResourceSpecifier::Topic(topic));
        for (name, value) in settings {
            change = change.set(name, value);
        }
        for done in self.admin.alter_configs([&change], &Self::options()).await.unwrap() {
            done.unwrap();
        }
    }

    /// Deletes what lies before an offset of the first partition.
    pub(crate) async fn delete_before(&self, topic: &str, offset: i64) {
        let mut list = rdkafka::TopicPartitionList::new();
        list.add_partition_offset(topic, 0, rdkafka::Offset::Offset(offset)).unwrap();
        self.admin.delete_records(&list, &Self::options()).await.unwrap();
    }
}

/// Looks again and again until something holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..2_400 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came to hold that {what}");
}
