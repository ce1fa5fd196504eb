//! Tables whose rows come from topics of someone else on a real broker, while the program is killed again and again.

use crate::harness::{Http, Server};
use crate::kafka::broker;
use nacre_log::kafka::source::ForeignTopic;
use nacre_log::kafka::source::testing::Someone;
use nacre_log::kafka::{KafkaConfig, KafkaUrl};
use nacre_runtime::Context;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const PARTITIONS: usize = 3;
const KEYS: u64 = 61;
const LIMIT: Duration = Duration::from_secs(120);

/// What a message is about: its key, its version and its value; no value deletes.
struct Event {
    key: u64,
    version: i64,
    value: Option<String>,
}

/// Some thousand changes, the same each time.
fn events(count: u64) -> Vec<Event> {
    let mut state = 7u64;
    (0..count)
        .map(|n| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = (state >> 33) % KEYS;
            let value = (!(state >> 40).is_multiple_of(13)).then(|| format!("v{n}"));
            Event { key, version: n as i64 + 1, value }
        })
        .collect()
}

fn debezium(event: &Event) -> Vec<u8> {
    let row = |value: &Option<String>| json!({"id": format!("k{}", event.key), "name": value});
    let (op, before, after) = match &event.value {
        Some(_) if event.version % 3 == 0 => ("c", Value::Null, row(&event.value)),
        Some(_) => ("u", row(&None), row(&event.value)),
        None => ("d", row(&None), Value::Null),
    };
    let envelope = json!({"op": op, "before": before, "after": after, "source": {"lsn": event.version}});
    let wrapped = if event.version % 2 == 0 { json!({"schema": {}, "payload": envelope}) } else { envelope };
    wrapped.to_string().into_bytes()
}

/// A mutation in Thrift's binary protocol: type, binlog header with epoch and id, entity.
fn thrift(event: &Event) -> Vec<u8> {
    let mut out = vec![8, 0, 1];
    let kind: i32 = if event.value.is_some() { 2 } else { 3 };
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[12, 0, 5]);
    for (id, number) in [(7u8, event.version / 1_000), (8, event.version % 1_000)] {
        out.extend_from_slice(&[10, 0, id]);
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.push(0);
    out.extend_from_slice(&[13, 0, 7, 11, 11, 0, 0, 0, 2]);
    let mut text = |text: &str| {
        out.extend_from_slice(&(text.len() as i32).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    };
    for part in ["id", &format!("k{}", event.key), "name", event.value.as_deref().unwrap_or("")] {
        text(part);
    }
    out.push(0);
    out
}

/// The topic of a source and what goes into it.
struct Feed {
    table: &'static str,
    topic: String,
    encode: fn(&Event) -> Vec<u8>,
    version_of: fn(&Event) -> i64,
    source: Value,
}

fn feeds() -> [Feed; 2] {
    let name = || format!("nacre-source-{:032x}", Context::system().ids.random_u128());
    let (one, other) = (name(), name());
    [
        Feed {
            table: "debezium",
            source: json!({
                "kafka": {"topic": one}, "format": "debezium",
                "mapping": {"key": ["id"], "value": {"field": "name"}, "version": {"field": "@source.lsn", "unit": "number"}},
            }),
            topic: one,
            encode: debezium,
            version_of: |event| event.version,
        },
        Feed {
            table: "thrift",
            source: json!({
                "kafka": {"topic": other}, "format": "thrift",
                "mapping": {
                    "key": ["id"], "value": {"field": "name"},
                    "version": {"epoch": "@binlog_header.leader_epoch", "id": "@binlog_header.id"},
                },
            }),
            topic: other,
            encode: thrift,
            version_of: |event| ((event.version / 1_000) << 43) | (event.version % 1_000),
        },
    ]
}

fn someone(
    address: &str,
    topic: &str,
    runtime: &tokio::runtime::Runtime,
    settings: &[(&str, &str)],
) -> Someone {
    let url = KafkaUrl::parse(&format!("kafka://{address}/{topic}")).unwrap();
    let config = KafkaConfig { replicas: 1, ..KafkaConfig::new(&url) };
    let someone = runtime.block_on(Someone::with_topic(&config, PARTITIONS as i32, settings)).unwrap();
    // The brokers hear of it one after the other.
    let topic = ForeignTopic::open(config, &Context::system()).unwrap();
    wait("the topic is there", || runtime.block_on(topic.describe()).is_ok());
    someone
}

fn source_of(http: &Http, table: &str) -> Value {
    let (status, body) = http.ask("GET", &format!("/v1/namespaces/default/tables/{table}"), "");
    assert_eq!(status, 200, "{body}");
    body["source"].clone()
}

fn applied(source: &Value) -> u64 {
    source["partitions"].as_array().unwrap().iter().map(|part| part["applied_offset"].as_u64().unwrap()).sum()
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "{what} was not so within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A version is a number, or a text where a double could not hold it.
fn number(value: &Value) -> i64 {
    value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn every_message_is_applied_once_however_often_the_program_is_killed() {
    let Some(address) = broker() else { return };
    const COUNT: u64 = 3_000;
    const KILLS: usize = 5;
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let feeds = feeds();
    let topics: Vec<Someone> =
        feeds.iter().map(|feed| someone(&address, &feed.topic, &runtime, &[])).collect();
    let start = || Server::start(folder.path(), &["--source-brokers", &address]);
    let mut server = start();
    for feed in &feeds {
        let mut source = feed.source.clone();
        source["kafka"]["brokers"] = json!(address);
        let body = json!({"version_kind": "number", "max_versions": 0, "source": source}).to_string();
        let (status, made) =
            Http::of(&server).ask("PUT", &format!("/v1/namespaces/default/tables/{}", feed.table), &body);
        assert_eq!(status, 201, "{made}");
        assert!(made["source"]["backfill_load"].is_string(), "{made}");
    }
    let events = events(COUNT);
    let mut last = 0;
    for part in events.chunks(events.len() / KILLS) {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                runtime.block_on(async {
                    for event in part {
                        for (feed, topic) in feeds.iter().zip(&topics) {
                            let partition = (event.key % PARTITIONS as u64) as i32;
                            topic.send(partition, None, Some(&(feed.encode)(event))).await.unwrap();
                        }
                    }
                });
            });
            // While messages go on to come.
            let http = Http::of(&server);
            let sum = || feeds.iter().map(|feed| applied(&source_of(&http, feed.table))).sum::<u64>();
            wait("something more was applied", || sum() > last);
            last = sum();
            // The next one runs before the last is killed: for a moment there are two.
            std::mem::replace(&mut server, start()).kill();
        });
    }
    let http = Http::of(&server);
    for feed in &feeds {
        wait("everything was applied", || applied(&source_of(&http, feed.table)) == COUNT);
        let source = source_of(&http, feed.table);
        assert!(
            source["partitions"].as_array().unwrap().iter().all(|part| part["stopped"].is_null()),
            "{source}"
        );
        check(&http, feed, &events);
    }
    assert_eq!(server.stop(), 0);
}

/// Holds a table against what the messages say.
fn check(http: &Http, feed: &Feed, events: &[Event]) {
    let mut by_key: BTreeMap<u64, Vec<&Event>> = BTreeMap::new();
    for event in events {
        by_key.entry(event.key).or_default().push(event);
    }
    let base = format!("/v1/namespaces/default/tables/{}/rows", feed.table);
    for (key, events) in by_key {
        let last = events.iter().max_by_key(|event| event.version).unwrap();
        let (status, bytes) = http.bytes(&format!("{base}/k{key}"));
        match &last.value {
            Some(value) => assert_eq!((status, &*bytes), (200, value.as_bytes()), "k{key}"),
            None => assert_eq!(status, 404, "k{key}"),
        }
        let (status, told) = http.ask("GET", &format!("{base}/k{key}:explain"), "");
        assert_eq!(status, 200, "{told}");
        let rows = told["rows"].as_array().unwrap();
        let mut versions: Vec<i64> = rows.iter().map(|row| number(&row["version"])).collect();
        versions.sort_unstable();
        assert!(versions.windows(2).all(|pair| pair[0] != pair[1]), "k{key} has a row twice: {told}");
        let mut visible: Vec<i64> =
            rows.iter().filter(|row| row["visible"] == true).map(|row| number(&row["version"])).collect();
        visible.sort_unstable();
        let deleted = events.iter().filter(|event| event.value.is_none()).map(|event| event.version).max();
        let expected: Vec<i64> = events
            .iter()
            .filter(|event| Some(event.version) > deleted)
            .map(|event| (feed.version_of)(event))
            .collect();
        assert_eq!(visible, expected, "k{key}");
    }
}

#[test]
fn a_topic_that_is_not_what_was_declared_stops_its_source() {
    let Some(address) = broker() else { return };
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let [feed, _] = feeds();
    let server = Server::start(folder.path(), &["--source-brokers", &address]);
    let http = Http::of(&server);
    let path = "/v1/namespaces/default/tables/t";
    let mut source = feed.source.clone();
    let declare = |source: &Value| {
        http.ask("PUT", path, json!({"version_kind": "number", "source": source}).to_string())
    };
    source["kafka"]["brokers"] = json!("elsewhere:9092");
    let (status, problem) = declare(&source);
    assert!(
        status == 422 && problem["detail"].as_str().unwrap().contains("source.kafka.brokers"),
        "{problem}"
    );
    source["kafka"]["brokers"] = json!(address);
    let (status, problem) = declare(&source);
    assert!(status == 404 && problem["type"].as_str().unwrap().contains("source-topic-missing"), "{problem}");
    assert_eq!(http.ask("GET", path, "").0, 404, "no table without the source that was asked for");

    let topic = someone(&address, &feed.topic, &runtime, &[]);
    let (status, made) = declare(&source);
    assert_eq!(status, 201, "{made}");
    let event = Event { key: 1, version: 1, value: Some("one".into()) };
    runtime.block_on(topic.send(0, None, Some(&debezium(&event)))).unwrap();
    wait("it was applied", || applied(&source_of(&http, "t")) == 1);
    assert_eq!(http.bytes(&format!("{path}/rows/k1")).1, b"one");
    let (status, problem) = http.ask("PUT", &format!("{path}/rows/k1"), "x");
    assert!(status == 409 && problem["type"].as_str().unwrap().contains("table-has-source"), "{problem}");
    let shown = server.ask(&["table", "describe", "t"]).well();
    assert!(shown.contains("debezium of topic") && shown.contains("applied below 1"), "{shown}");

    let stopped = || source_of(&http, "t")["partitions"][0]["stopped"].as_str().map(str::to_owned);
    runtime.block_on(topic.send(0, None, Some(b"canary"))).unwrap();
    wait("it stopped", || stopped().is_some_and(|why| why.contains("offset 1") && !why.contains("canary")));
    let bad = json!({"max_versions": 7, "source": {"on_error": "shrug"}}).to_string();
    let (status, problem) = http.ask("PATCH", path, bad);
    assert_eq!(status, 422, "{problem}");
    let table = http.ask("GET", path, "").1;
    assert_ne!(number(&table["max_versions"]), 7, "what came with a bad source is not applied: {table}");
    let (status, body) = http.ask("PATCH", path, json!({"source": {"on_error": "skip"}}).to_string());
    assert_eq!(status, 200, "{body}");
    wait("it goes on", || applied(&source_of(&http, "t")) == 2 && stopped().is_none());

    runtime.block_on(topic.delete()).unwrap();
    wait("it is gone", || {
        stopped().is_some_and(|why| why.contains("not there") || why.contains("made again"))
    });
    let (status, body) = http.ask("PATCH", path, json!({"source": null}).to_string());
    assert!(status == 200 && body["source"].is_null(), "{body}");
    let (status, body) = http.ask("PUT", &format!("{path}/rows/k1"), "x");
    assert!(status < 300, "{body}");
    assert_eq!(server.stop(), 0);
}
