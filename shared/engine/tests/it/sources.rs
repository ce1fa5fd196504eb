//! Tables whose rows come from a topic of someone else, here one in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use nacre_engine::{
    Arrived, Followed, Messages, NodeConfig, SourceConfig, SourcePart, Table, TopicEnds, TopicInfo, Topics,
    WriteOptions,
};
use nacre_runtime::Context;
use nacre_source::{KafkaSpec, Message};
use nacre_store::MemoryStore;
use nacre_types::{Error, Offset, Result, TableSettings};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::harness::{Harness, row};

#[derive(Debug, Default)]
struct State {
    id: u128,
    /// Where each partition begins, and its messages from there.
    partitions: Vec<(u64, Vec<Message>)>,
}

/// A topic in memory.
#[derive(Debug, Default)]
struct Memory(Mutex<State>);

impl Memory {
    fn new(partitions: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { id: 1, partitions: vec![(0, Vec::new()); partitions] })))
    }

    fn send(&self, partition: usize, value: &Value) {
        self.send_bytes(partition, value.to_string().as_bytes());
    }

    fn send_bytes(&self, partition: usize, value: &[u8]) {
        let mut state = self.0.lock();
        let (start, messages) = &mut state.partitions[partition];
        let offset = *start + messages.len() as u64;
        messages.push(Message {
            offset,
            timestamp_micros: Some(5),
            key: None,
            value: Some(value.to_vec().into()),
        });
    }

    fn put(&self, partition: usize, key: &str, version: i64, value: &str) {
        self.send(partition, &json!({"k": key, "v": version, "x": value}));
    }

    fn trim(&self, partition: usize, to: u64) {
        let mut state = self.0.lock();
        let (start, messages) = &mut state.partitions[partition];
        messages.drain(..(to - *start) as usize);
        *start = to;
    }
}

#[derive(Debug)]
struct Shared(Arc<Memory>);

struct Reader(Arc<Memory>, usize, u64);

#[async_trait]
impl Topics for Shared {
    async fn topic(&self, kafka: &KafkaSpec) -> Result<TopicInfo> {
        if kafka.topic != "t" {
            return Err(Error::not_found("no such topic").with_code("source-topic-missing"));
        }
        let state = self.0.0.lock();
        Ok(TopicInfo { id: state.id, partitions: state.partitions.len() as u32 })
    }

    async fn ends(&self, _: &KafkaSpec, partition: u32) -> Result<TopicEnds> {
        let state = self.0.0.lock();
        let (start, messages) = &state.partitions[partition as usize];
        Ok(TopicEnds { start: *start, end: *start + messages.len() as u64 })
    }

    async fn read(&self, _: &KafkaSpec, partition: u32, from: u64) -> Result<Box<dyn Messages>> {
        Ok(Box::new(Reader(self.0.clone(), partition as usize, from)))
    }
}

#[async_trait]
impl Messages for Reader {
    async fn next(&mut self) -> Result<Arrived> {
        let next = {
            let state = self.0.0.lock();
            let (start, messages) = &state.partitions[self.1];
            if self.2 < *start {
                return Ok(Arrived::OutOfRange);
            }
            messages.get((self.2 - start) as usize).cloned()
        };
        match next {
            Some(message) => {
                self.2 += 1;
                Ok(Arrived::Messages(vec![message]))
            }
            None => {
                tokio::time::sleep(Duration::from_millis(5)).await;
                Ok(Arrived::AtEnd)
            }
        }
    }
}

fn declaration() -> Value {
    json!({
        "kafka": {"topic": "t"}, "format": "json",
        "mapping": {"key": ["k"], "value": {"field": "x"}, "version": {"field": "v", "unit": "micros"},
                    "delete": {"null": "x"}},
    })
}

fn quick() -> NodeConfig {
    let source = SourceConfig {
        every: Duration::from_millis(10),
        check_every: Duration::from_millis(20),
        ..SourceConfig::default()
    };
    NodeConfig { source, ..NodeConfig::default() }
}

async fn world(topic: &Arc<Memory>) -> Harness {
    let ctx = Context::for_tests(1);
    let harness = Harness::with(Arc::new(MemoryStore::new(&ctx)), 1, quick()).await;
    harness.node.set_topics(Arc::new(Shared(topic.clone())));
    harness
}

fn part(table: &Table, partition: u32) -> SourcePart {
    SourcePart { table: table.id(), partition }
}

fn applied(table: &Table, partition: usize) -> Offset {
    let manifest = table.manifest();
    manifest.covered(manifest.source().unwrap().partitions[partition])
}

/// Consumes a partition until everything below `to` is applied.
async fn follow(harness: &Harness, table: &Arc<Table>, partition: u32, to: u64) -> Result<Followed> {
    let goes_on = || applied(table, partition as usize) < Offset(to);
    harness.node.follow_source(part(table, partition), &goes_on).await
}

#[tokio::test]
async fn messages_become_rows() {
    let topic = Memory::new(2);
    let harness = world(&topic).await;
    let table = harness.table("t", TableSettings::default()).await;
    topic.put(0, "a", 1, "a1");
    topic.put(0, "a", 3, "a3");
    topic.put(0, "a", 2, "a2");
    topic.put(1, "b", 1, "b1");
    topic.send(1, &json!({"k": "b", "v": 2}));
    harness.node.declare_source(&table, Some(&declaration())).await.unwrap();
    assert_eq!(harness.node.source_parts().await.unwrap(), [part(&table, 0), part(&table, 1)]);
    follow(&harness, &table, 0, 3).await.unwrap();
    follow(&harness, &table, 1, 2).await.unwrap();
    assert_eq!(harness.get(&table, "a").await.as_deref(), Some("a3"));
    assert_eq!(harness.get(&table, "b").await, None);
    // Nothing of it is waited for in the log, and a strong read finds it.
    let options =
        nacre_engine::ReadOptions { consistency: Some(nacre_types::Consistency::Strong), ..harness.read() };
    assert!(table.get(b"a", &options).await.is_ok());
    let error = table.write(vec![row("a", Some("x"), None)], &WriteOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), "table-has-source");
    harness.node.declare_source(&table, None).await.unwrap();
    table.write(vec![row("c", Some("x"), None)], &WriteOptions::default()).await.unwrap();
    assert_eq!(harness.get(&table, "c").await.as_deref(), Some("x"));
    assert_eq!(harness.get(&table, "a").await.as_deref(), Some("a3"));
}

#[tokio::test]
async fn two_consumers_apply_each_message_once() {
    let topic = Memory::new(1);
    let harness = world(&topic).await;
    let table = harness.table("t", TableSettings { max_versions: 0, ..TableSettings::default() }).await;
    harness.node.declare_source(&table, Some(&declaration())).await.unwrap();
    const MESSAGES: u64 = 200;
    let done = AtomicBool::new(false);
    let feed = async {
        for n in 0..MESSAGES {
            topic.put(0, &format!("k{}", n % 7), n as i64 + 1, "x");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let consumer = || async {
        let mut conflicts = 0;
        while applied(&table, 0) < Offset(MESSAGES) {
            match follow(&harness, &table, 0, MESSAGES).await {
                Ok(_) => {}
                Err(error) if error.code() == "flush-not-covered" => conflicts += 1,
                Err(error) => panic!("{error}"),
            }
        }
        done.store(true, Ordering::Relaxed);
        conflicts
    };
    let ((), one, other) = tokio::join!(feed, consumer(), consumer());
    assert!(one + other > 0, "they never met");
    let rows: u64 = table.manifest().segments().map(|segment| segment.rows()).sum();
    assert_eq!(rows, MESSAGES);
    while table.compact_once().await.unwrap().is_some() {}
    let rows: u64 = table.manifest().segments().map(|segment| segment.rows()).sum();
    assert_eq!(rows, MESSAGES, "every version is kept, once");
}

#[tokio::test]
async fn a_message_that_is_no_row_stops_or_is_counted() {
    let topic = Memory::new(1);
    let harness = world(&topic).await;
    let table = harness.table("t", TableSettings::default()).await;
    harness.node.declare_source(&table, Some(&declaration())).await.unwrap();
    topic.put(0, "a", 1, "a1");
    topic.send_bytes(0, b"no json");
    topic.put(0, "a", 2, "a2");
    let error = follow(&harness, &table, 0, 3).await.unwrap_err();
    assert_eq!(error.code(), "source-stopped");
    assert!(error.detail().contains("offset 1 of partition 0 of topic t"), "{error}");
    assert_eq!(applied(&table, 0), Offset(1), "what came before is applied");
    let info = harness.node.source_info(&table).await.unwrap().unwrap();
    let state = info.partitions[0].1.clone().unwrap();
    assert!(state.stopped.is_some() && state.samples[0].0 == 1);
    let mut skip = declaration();
    skip["on_error"] = json!("skip");
    harness.node.declare_source(&table, Some(&skip)).await.unwrap();
    follow(&harness, &table, 0, 3).await.unwrap();
    assert_eq!(harness.get(&table, "a").await.as_deref(), Some("a2"));
    let mut text = String::new();
    harness.node.metrics_text(&mut text);
    assert!(text.contains("nacre_source_faults_total{"), "{text}");
}

#[tokio::test]
async fn what_would_pass_over_messages_stops() {
    let topic = Memory::new(1);
    let harness = world(&topic).await;
    let table = harness.table("t", TableSettings::default()).await;
    for n in 0..5 {
        topic.put(0, "a", n + 1, "x");
    }
    harness.node.declare_source(&table, Some(&declaration())).await.unwrap();
    follow(&harness, &table, 0, 5).await.unwrap();
    // Retention was faster.
    for n in 5..9 {
        topic.put(0, "a", n + 1, "x");
    }
    topic.trim(0, 7);
    let stopped = |result: Result<Followed>| {
        let error = result.unwrap_err();
        assert_eq!(error.code(), "source-stopped");
        error.detail().to_owned()
    };
    let said = stopped(follow(&harness, &table, 0, 9).await);
    assert!(said.contains("begins at offset 7") && said.contains("backfill"), "{said}");
    assert_eq!(applied(&table, 0), Offset(5));
    // Somebody who knows what is lost goes on from there.
    let mut from = declaration();
    from["start"] = json!({"0": 7});
    harness.node.declare_source(&table, Some(&from)).await.unwrap();
    follow(&harness, &table, 0, 9).await.unwrap();
    topic.0.lock().id = 2;
    let said = stopped(follow(&harness, &table, 0, 10).await);
    assert!(said.contains("made again"), "{said}");
    topic.0.lock().id = 1;
    topic.0.lock().partitions[0].1.clear();
    let said = stopped(follow(&harness, &table, 0, 10).await);
    assert!(said.contains("lost messages"), "{said}");
}

#[tokio::test]
async fn declarations_are_checked_and_idempotent() {
    let topic = Memory::new(1);
    let harness = world(&topic).await;
    let table = harness.table("t", TableSettings::default()).await;
    let mut missing = declaration();
    missing["kafka"]["topic"] = json!("u");
    let declare = async |value: Value| harness.node.declare_source(&table, Some(&value)).await;
    assert_eq!(declare(missing).await.unwrap_err().code(), "source-topic-missing");
    let mut wrong = declaration();
    wrong["start"] = json!({"0": 9});
    assert!(declare(wrong).await.unwrap_err().detail().contains("source.start"));
    assert!(table.manifest().source().is_none());
    declare(declaration()).await.unwrap();
    let seq = table.manifest().seq();
    let info = harness.node.source_info(&table).await.unwrap().unwrap();
    let load = info.backfill_load.expect("a load for what the topic no longer has");
    declare(declaration()).await.unwrap();
    assert_eq!(table.manifest().seq(), seq, "again changes nothing");
    assert_eq!(harness.node.source_info(&table).await.unwrap().unwrap().backfill_load, Some(load));
    // A topic that grows is read whole.
    topic.put(0, "a", 1, "a1");
    topic.0.lock().partitions.push((0, Vec::new()));
    topic.put(1, "b", 1, "b1");
    follow(&harness, &table, 0, 1).await.unwrap();
    follow(&harness, &table, 1, 1).await.unwrap();
    assert_eq!(harness.get(&table, "b").await.as_deref(), Some("b1"));
}
