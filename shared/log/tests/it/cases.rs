//! Single counter-examples, each by script.

use crate::world::{config, context, open};
use bytes::Bytes;
use nacre_log::testing::{JitterStore, TestClock};
use nacre_log::{
    AppendOutcome, Appended, EncodedRecord, Log, LogPosition, ObjectLog, ObjectLogConfig, Op, RecordBuilder,
    Stamped, Tail, TailStep,
};
use nacre_runtime::{Clock, Context};
use nacre_store::testing::{Fault, FaultyStore, Operation};
use nacre_store::{
    GetOptions, MemoryStore, Metered, Object, ObjectMeta, ObjectPath, ObjectStore, ObjectTag, PutMode,
    PutOutcome, Upload,
};
use nacre_types::{Generation, LogIncarnation, Offset, PartitionId, Result, TableId, WriteId};
use std::sync::Arc;
use std::time::Duration;

const P: PartitionId = PartitionId(0);
const SECOND: Duration = Duration::from_secs(1);

fn record(id: u128) -> EncodedRecord {
    let mut builder = RecordBuilder::new(TableId(1), Generation(0), WriteId(id));
    builder.push(Op::Put, b"key", b"value", None, None).unwrap();
    builder.finish()
}

fn start() -> LogPosition {
    LogPosition::start(LogIncarnation(0))
}

struct Place {
    memory: Arc<dyn ObjectStore>,
    clock: Arc<TestClock>,
}

impl Place {
    fn new() -> Self {
        Self { memory: Arc::new(MemoryStore::new(&context(0))), clock: Arc::new(TestClock::new(0)) }
    }

    fn context(&self, seed: u64) -> Context {
        Context::for_tests(seed).with_clock(self.clock.clone())
    }

    fn process(&self, seed: u64) -> ObjectLog {
        open(self.memory.clone(), &self.context(seed), config())
    }

    /// A process whose way to the store is scripted.
    fn scripted(&self, seed: u64) -> (ObjectLog, Arc<FaultyStore>) {
        let faulty = FaultyStore::new(self.memory.clone(), seed);
        let config = ObjectLogConfig { attempt_timeout: SECOND, ..config() };
        (open(Arc::new(faulty.clone()), &self.context(seed), config), faulty)
    }
}

async fn append(log: &ObjectLog, id: u128) -> Appended {
    match log.append(P, record(id), 60 * SECOND).await {
        AppendOutcome::Appended(place) => place,
        other => panic!("an append was answered {other:?}"),
    }
}

async fn ids(log: &ObjectLog, from: LogPosition) -> Vec<u128> {
    let end = log.end(P).await.unwrap();
    let mut tail = log.tail(P, from).await.unwrap();
    let (mut at, mut ids) = (from, Vec::new());
    while at.offset < end.offset {
        let (records, next) = batch(&mut tail).await;
        ids.extend(records.iter().map(|stamped| stamped.record.write_id.0));
        at = next;
    }
    ids
}

async fn batch(tail: &mut Box<dyn Tail>) -> (Vec<Stamped>, LogPosition) {
    match tokio::time::timeout(600 * SECOND, tail.next()).await.unwrap().unwrap() {
        TailStep::Batch(batch) => (batch.records, batch.next),
        TailStep::Restart => panic!("told to restart"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_whose_answer_is_lost_late_or_second_is_appended_once() {
    for fault in [
        Fault::LostAnswer,
        Fault::LostRequest,
        Fault::UnderWay,
        Fault::SentTwice,
        Fault::NoAnswer,
        Fault::SlowAnswer(10 * SECOND),
        Fault::Unavailable,
    ] {
        let place = Place::new();
        let (log, faulty) = place.scripted(1);
        append(&log, 1).await;
        faulty.script(Operation::Put, "chunks/", fault);
        assert_eq!(append(&log, 2).await.offset, Offset(1), "{fault:?}");
        while faulty.deliver().await {}
        append(&log, 3).await;
        assert_eq!(ids(&place.process(2), start()).await, [1, 2, 3], "{fault:?}");
        assert_eq!(faulty.unmet(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn already_exists_may_be_ones_own_until_it_is_read() {
    let place = Place::new();
    let (log, faulty) = place.scripted(1);
    append(&log, 1).await;
    faulty.script(Operation::Put, "chunks/", Fault::SentTwice);
    faulty.script(Operation::Read, "chunks/", Fault::Unavailable);
    faulty.script(Operation::Put, "chunks/", Fault::Unavailable);
    assert_eq!(append(&log, 2).await.offset, Offset(1));
    assert_eq!(faulty.unmet(), 0);
    assert_eq!(ids(&place.process(2), start()).await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_a_sleeper_creates_below_the_boundary_is_neither_acknowledged_nor_read() {
    let place = Place::new();
    let (sleeper, faulty) = place.scripted(1);
    append(&sleeper, 1).await;
    // Its put of chunk 2 stays under way, and so do all that follow: the caller's deadline passes.
    for _ in 0..20 {
        faulty.script(Operation::Put, "chunks/", Fault::UnderWay);
    }
    assert_eq!(sleeper.append(P, record(666), SECOND).await, AppendOutcome::Unknown);
    // Another process takes chunk 2, all is flushed and trimmed.
    let other = place.process(2);
    append(&other, 2).await;
    let flushed = other.end(P).await.unwrap();
    other.trim(P, &flushed).await.unwrap();
    // Now the first request arrives, and the name is free again.
    assert!(faulty.deliver().await);
    let late = place.process(3);
    let mut below =
        late.tail(P, LogPosition { offset: Offset(1), clock: 0, chunk: 2, ..start() }).await.unwrap();
    assert_eq!(below.next().await.unwrap(), TailStep::Restart, "what lies there is not believed");
    assert_eq!(late.end(P).await.unwrap(), flushed);
    append(&late, 3).await;
    assert_eq!(ids(&late, flushed).await, [3]);
    // The garbage collector finds what it left.
    assert_eq!(late.sweep(P, 100).await.unwrap(), 1);
    assert_eq!(late.sweep(P, 100).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_moves_on_while_a_chunk_is_unknown_and_what_waits_is_withdrawn_by_its_deadline() {
    let place = Place::new();
    let (log, faulty) = place.scripted(1);
    append(&log, 1).await;
    for _ in 0..6 {
        faulty.script(Operation::Put, "chunks/", Fault::UnderWay);
    }
    let log = Arc::new(log);
    let tasks = place.context(9).tasks;
    let first = tasks.spawn("append", {
        let log = log.clone();
        async move { log.append(P, record(2), Duration::from_micros(2_500)).await }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    let AppendOutcome::NotAppended(error) = log.append(P, record(3), Duration::from_millis(1)).await else {
        panic!("it was in no chunk");
    };
    assert_eq!(error.code(), "append-timeout");
    assert_eq!(first.await.unwrap(), AppendOutcome::Unknown);
    // The same bytes go to the same chunk until it is known; only then comes the next record.
    let fourth = append(&log, 4).await;
    assert_eq!(fourth.offset, Offset(2));
    while faulty.deliver().await {}
    assert_eq!(ids(&place.process(2), start()).await, [1, 2, 4]);
}

#[tokio::test(start_paused = true)]
async fn an_append_while_the_store_is_away_certainly_did_not_happen() {
    let place = Place::new();
    let (log, faulty) = place.scripted(1);
    append(&log, 1).await;
    for _ in 0..10_000 {
        faulty.script(Operation::Put, "chunks/", Fault::Unavailable);
    }
    let AppendOutcome::NotAppended(error) = log.append(P, record(2), SECOND).await else {
        panic!("no put had an effect");
    };
    assert_eq!(error.code(), "store-away");
    assert!(error.detail().contains("deadline"), "{error}");
    assert_eq!(ids(&place.process(2), start()).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_clock_is_wrong_reads_and_does_not_append() {
    let place = Place::new();
    append(&place.process(1), 1).await;
    for ahead in [-120_000_000, 120_000_000] {
        let ctx = Context::for_tests(2).with_clock(Arc::new(TestClock::new(ahead)));
        let log = open(place.memory.clone(), &ctx, config());
        let AppendOutcome::NotAppended(error) = log.append(P, record(2), 60 * SECOND).await else {
            panic!("its time would become the log's");
        };
        assert_eq!(error.code(), "clock-skew");
        assert_eq!(ids(&log, start()).await, [1]);
    }
    let ctx = Context::for_tests(3).with_clock(Arc::new(TestClock::new(20_000_000)));
    append(&open(place.memory.clone(), &ctx, config()), 3).await;
}

#[tokio::test(start_paused = true)]
async fn own_appends_reach_own_tails_without_reading_their_chunks() {
    let place = Place::new();
    let metered = Arc::new(Metered::new(place.memory.clone()));
    let log = open(metered.clone(), &place.context(1), config());
    let mut tail = log.tail(P, start()).await.unwrap();
    for id in 0..100 {
        append(&log, id).await;
        assert_eq!(batch(&mut tail).await.0[0].record.write_id.0, id);
    }
    let counts = metered.counters();
    assert_eq!(counts.put.requests, 101, "a put for every chunk and a touch of the beacon: {counts:?}");
    assert!(counts.get.requests < 110, "the boundary after every put, and little else: {counts:?}");
}

#[tokio::test(start_paused = true)]
async fn another_process_is_seen_within_fifty_milliseconds_also_after_a_quiet_while() {
    let place = Place::new();
    let (writer, reader) = (place.process(1), place.process(2));
    let mut tail = reader.tail(P, start()).await.unwrap();
    for (id, quiet) in [(0, 0), (1, 1), (2, 60), (3, 500)] {
        let waiting = place.context(id as u64).tasks.spawn("tail", {
            let clock = place.clock.clone();
            async move {
                let (records, _) = batch(&mut tail).await;
                (records[0].record.write_id.0, clock.monotonic(), tail)
            }
        });
        tokio::time::sleep(quiet * SECOND).await;
        append(&writer, id).await;
        let appended = place.clock.monotonic();
        let (seen, at, back) = waiting.await.unwrap();
        tail = back;
        assert_eq!(seen, id);
        assert!(at - appended <= Duration::from_millis(50), "{:?} after {quiet} s", at - appended);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tail_that_is_asked_for_a_moment_at_a_time_gets_on() {
    let place = Place::new();
    let log = place.process(1);
    for id in 0..20 {
        append(&log, id).await;
    }
    let slow = Arc::new(JitterStore::new(place.memory.clone(), 5, Duration::from_millis(50)));
    let other = open(slow, &place.context(2), config());
    let mut tail = other.tail(P, start()).await.unwrap();
    let mut seen = 0;
    for _ in 0..10_000 {
        if let Ok(step) = tokio::time::timeout(Duration::from_millis(1), tail.next()).await {
            let TailStep::Batch(batch) = step.unwrap() else { panic!("nothing was trimmed") };
            seen += batch.records.len();
        }
    }
    assert_eq!(seen, 20);
}

#[tokio::test(start_paused = true)]
async fn an_idle_process_asks_little_of_a_remote_store() {
    let place = Place::new();
    let metered = Arc::new(Metered::new(place.memory.clone()));
    let remote = ObjectLogConfig { partitions: 4, ..ObjectLogConfig::remote() };
    let reader = Arc::new(open(metered.clone(), &place.context(1), remote.clone()));
    let tasks = place.context(7).tasks;
    for partition in (0..4).map(PartitionId) {
        let reader = reader.clone();
        tasks.spawn("tail", async move {
            let mut tail = reader.tail(partition, start()).await.unwrap();
            while tail.next().await.is_ok() {}
        });
    }
    tokio::time::sleep(60 * SECOND).await;
    let before = metered.counters();
    tokio::time::sleep(600 * SECOND).await;
    let after = metered.counters();
    let asked = after.head.requests + after.get.requests - before.head.requests - before.get.requests;
    assert!((400..1_800).contains(&asked), "{asked} requests in ten idle minutes of four partitions");
    assert_eq!(after.put.requests, 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_process_finds_the_end_of_a_long_log_with_few_reads() {
    let place = Place::new();
    let log = place.process(1);
    for id in 0..1_000 {
        append(&log, id).await;
    }
    let metered = Arc::new(Metered::new(place.memory.clone()));
    let other = open(metered.clone(), &place.context(2), config());
    assert_eq!(other.end(P).await.unwrap(), log.end(P).await.unwrap());
    let counts = metered.counters();
    assert!(counts.get.requests + counts.head.requests < 50, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_slept_through_a_trim_goes_on_without_an_unknown() {
    let place = Place::new();
    let (sleeper, other) = (place.process(1), place.process(2));
    append(&sleeper, 1).await;
    for id in 2..20 {
        append(&other, id).await;
    }
    let end = other.end(P).await.unwrap();
    other.trim(P, &end).await.unwrap();
    tokio::time::sleep(3_600 * SECOND).await;
    assert_eq!(append(&sleeper, 20).await.offset, Offset(19));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_chunk_stops_readers_and_appenders_loudly() {
    let place = Place::new();
    let log = place.process(1);
    append(&log, 1).await;
    append(&log, 2).await;
    let page = place.memory.list("log/0/0/chunks/", None, 10).await.unwrap();
    let victim = page[1].path.clone();
    place.memory.delete(&victim).await.unwrap();
    place.memory.put(&victim, b"junk".as_slice().into(), nacre_store::PutMode::Create).await.unwrap();
    let other = place.process(2);
    let mut tail = other.tail(P, start()).await.unwrap();
    assert_eq!(batch(&mut tail).await.0.len(), 1);
    for _ in 0..2 {
        assert_eq!(tail.next().await.unwrap_err().kind(), nacre_types::ErrorKind::Corrupt);
    }
    let AppendOutcome::NotAppended(error) = other.append(P, record(3), SECOND).await else {
        panic!("the chain is broken");
    };
    assert_eq!(error.kind(), nacre_types::ErrorKind::Corrupt);
}

#[tokio::test(start_paused = true)]
async fn a_closing_process_refuses_what_waits() {
    let place = Place::new();
    let ctx = place.context(1);
    let log = open(place.memory.clone(), &ctx, config());
    append(&log, 1).await;
    ctx.tasks.shutdown();
    let AppendOutcome::NotAppended(error) = log.append(P, record(2), SECOND).await else {
        panic!("appended while closing");
    };
    assert_eq!(error.code(), "log-closing");
    assert!(ctx.tasks.join_all(SECOND).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_full_says_overloaded() {
    let place = Place::new();
    let (faulty_log, faulty) = {
        let faulty = FaultyStore::new(place.memory.clone(), 1);
        let config = ObjectLogConfig { max_queued_bytes: 400, ..config() };
        (Arc::new(open(Arc::new(faulty.clone()), &place.context(1), config)), faulty)
    };
    append(&faulty_log, 1).await;
    faulty.script(Operation::Put, "chunks/", Fault::SlowAnswer(SECOND));
    let tasks = place.context(9).tasks;
    let appends: Vec<_> = (2..12)
        .map(|id| {
            let log = faulty_log.clone();
            tasks.spawn("append", async move { log.append(P, record(id), 60 * SECOND).await })
        })
        .collect();
    let mut overloaded = 0;
    for append in appends {
        match append.await.unwrap() {
            AppendOutcome::Appended(_) => {}
            AppendOutcome::NotAppended(error) => {
                assert_eq!(error.code(), "log-queue-full");
                overloaded += 1;
            }
            AppendOutcome::Unknown => panic!("known"),
        }
    }
    assert!((1..10).contains(&overloaded), "{overloaded}");
}

/// Not a test: `cargo test -p nacre-log --test it -- --ignored --nocapture throughput`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn throughput_on_a_local_directory() {
    let folder = tempfile::tempdir().unwrap();
    let ctx = Context::for_tests(1);
    let store = Arc::new(nacre_store::LocalStore::open(folder.path(), &ctx).unwrap());
    let log = Arc::new(open(store, &ctx, ObjectLogConfig::default()));
    let value = [7; 200];
    let begun = ctx.clock.monotonic();
    let writers: Vec<_> = (0..32u128)
        .map(|writer| {
            let log = log.clone();
            ctx.tasks.spawn("writer", async move {
                for number in 0..200u128 {
                    let mut builder = RecordBuilder::with_capacity(
                        TableId(1),
                        Generation(0),
                        WriteId(writer << 64 | number),
                        25_000,
                    );
                    for row in 0..100u128 {
                        builder
                            .push(Op::Put, &(number * 100 + row).to_be_bytes(), &value, None, None)
                            .unwrap();
                    }
                    let outcome = log.append(P, builder.finish(), 60 * SECOND).await;
                    assert!(matches!(outcome, AppendOutcome::Appended(_)));
                }
            })
        })
        .collect();
    let mut tail = log.tail(P, start()).await.unwrap();
    let mut rows = 0;
    while rows < 640_000 {
        for stamped in batch(&mut tail).await.0 {
            rows += stamped.record.rows().count();
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let took = ctx.clock.monotonic() - begun;
    println!("{:.0} rows/s written and read in {took:?}", 640_000.0 / took.as_secs_f64());
}

/// Callers that wait for an answer before they send the next would otherwise take turns in two halves for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_were_answered_together_share_the_next_chunk() {
    const CALLERS: u128 = 8;
    const ROUNDS: u128 = 10;
    let slow = Arc::new(SlowPuts(MemoryStore::new(&Context::for_tests(0))));
    let ctx = Context::for_tests(1);
    let log = Arc::new(open(slow, &ctx, config()));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let log = log.clone();
            ctx.tasks.spawn("caller", async move {
                for round in 0..ROUNDS {
                    append(&log, 1 + caller + round * CALLERS).await;
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let end = log.end(P).await.unwrap();
    assert_eq!(end.offset.0, (CALLERS * ROUNDS) as u64);
    // The first chunk has whoever comes first; in halves it would be 20.
    let chunks = end.chunk - start().chunk;
    assert!(chunks <= 15, "{chunks} chunks");
}

/// A store in memory whose puts take as long as a sync does.
#[derive(Debug)]
struct SlowPuts(MemoryStore);

#[async_trait::async_trait]
impl ObjectStore for SlowPuts {
    async fn put(&self, path: &ObjectPath, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        tokio::time::sleep(Duration::from_millis(40)).await;
        self.0.put(path, body, mode).await
    }
    async fn get(&self, path: &ObjectPath, options: GetOptions) -> Result<Object> {
        self.0.get(path, options).await
    }
    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        self.0.head(path).await
    }
    async fn list(&self, prefix: &str, after: Option<&ObjectPath>, limit: usize) -> Result<Vec<ObjectMeta>> {
        self.0.list(prefix, after, limit).await
    }
    async fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.0.delete(path).await
    }
    async fn copy(&self, from: &ObjectPath, to: &ObjectPath, if_tag: &ObjectTag) -> Result<PutOutcome> {
        self.0.copy(from, to, if_tag).await
    }
    async fn upload(&self, path: &ObjectPath) -> Result<Box<dyn Upload>> {
        self.0.upload(path).await
    }
    fn local_path(&self, _: &ObjectPath) -> Option<std::path::PathBuf> {
        None
    }
    async fn date_micros(&self) -> Result<i64> {
        self.0.date_micros().await
    }
}
