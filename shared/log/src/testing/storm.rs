//! Appenders of several processes, readers and a trimmer, all at once, over whatever store the processes see.
//!
//! What must hold: every reader sees the same record with the same version at an offset, offsets have no gap, every
//! acknowledged record is where its acknowledgement said, once, and a record that was refused is nowhere.

use super::{OpenProcess, Process};
use crate::{
    AppendOutcome, Appended, Attempts, EncodedRecord, LogPosition, Op, RecordBuilder, Stamped, TailStep,
};
use nacre_runtime::{Ids, SeededIds};
use nacre_types::{ErrorKind, Generation, LogIncarnation, Offset, PartitionId, TableId, WriteId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const PARTITION: PartitionId = PartitionId(0);

/// How much of what happens.
#[derive(Debug, Clone)]
pub struct StormPlan {
    /// Processes that append; each has two appenders and one reader.
    pub processes: u64,
    /// Appends of each appender.
    pub appends: u64,
    /// Longest pause between appends of one appender.
    pub pause: Duration,
    /// Within which an append must be answered.
    pub deadline: Duration,
    /// How often the flusher flushes and trims; `None` = never.
    pub trim_every: Option<Duration>,
    /// Whether unknown appends are repeated.
    pub repeat: bool,
}

impl Default for StormPlan {
    fn default() -> Self {
        Self {
            processes: 3,
            appends: 25,
            pause: Duration::from_millis(30),
            deadline: Duration::from_secs(2),
            trim_every: Some(Duration::from_millis(20)),
            repeat: true,
        }
    }
}

/// What happened, so that a test can see that its storm was one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StormReport {
    /// Records in the log at the end.
    pub records: u64,
    /// Appends acknowledged.
    pub acknowledged: u64,
    /// Appends that certainly failed.
    pub refused: u64,
    /// Appends of which nobody knows.
    pub unknown: u64,
    /// How often a reader was overtaken by the trimming.
    pub restarts: u64,
    /// How often the log was trimmed.
    pub trims: u64,
}

type Seen = (WriteId, i64, i64);

#[derive(Debug)]
struct World {
    /// What any reader saw at an offset; all must agree.
    seen: Mutex<BTreeMap<u64, Seen>>,
    acknowledged: Mutex<Vec<(WriteId, Appended)>>,
    refused: Mutex<HashSet<WriteId>>,
    unknown: AtomicU64,
    restarts: AtomicU64,
    trims: AtomicU64,
    /// The catalog's record `flushed_through`.
    flushed: Mutex<LogPosition>,
    wrong: Mutex<Option<String>>,
    /// Where readers may stop.
    end: Mutex<Option<Offset>>,
    stop_trimming: AtomicBool,
}

impl World {
    fn wrong(&self, what: String) {
        self.wrong.lock().get_or_insert(what);
    }

    fn is_wrong(&self) -> bool {
        self.wrong.lock().is_some()
    }

    fn observe(&self, who: &str, stamped: &Stamped) {
        let now = (stamped.record.write_id, stamped.version, stamped.append_time);
        let before = *self.seen.lock().entry(stamped.offset.0).or_insert(now);
        if before != now {
            self.wrong(format!("{who} sees {now:?} at offset {}, another saw {before:?}", stamped.offset));
        }
    }

    fn done(&self, at: Offset) -> bool {
        self.is_wrong() || self.end.lock().is_some_and(|end| at >= end)
    }
}

/// Runs a storm on a fresh log.
///
/// # Errors
/// A sentence that says what did not hold.
pub async fn storm(open: &OpenProcess, seed: u64, plan: &StormPlan) -> Result<StormReport, String> {
    let world = Arc::new(World {
        seen: Mutex::default(),
        acknowledged: Mutex::default(),
        refused: Mutex::default(),
        unknown: AtomicU64::new(0),
        restarts: AtomicU64::new(0),
        trims: AtomicU64::new(0),
        flushed: Mutex::new(LogPosition::start(LogIncarnation(0))),
        wrong: Mutex::new(None),
        end: Mutex::new(None),
        stop_trimming: AtomicBool::new(false),
    });
    let spawner = open(u64::MAX).ctx;
    let mut appenders = Vec::new();
    let mut readers = Vec::new();
    let processes: Vec<Process> = (0..plan.processes).map(open).collect();
    for (number, process) in (0..).zip(&processes) {
        for appender in 0..2 {
            let ids = SeededIds::new(seed ^ (number * 2 + appender + 1) << 20);
            appenders.push(spawner.tasks.spawn(
                "appender",
                append(process.clone(), processes.clone(), world.clone(), plan.clone(), ids),
            ));
        }
        readers.push(
            spawner.tasks.spawn("reader", read(format!("reader {number}"), process.clone(), world.clone())),
        );
    }
    let flusher = open(1_000);
    readers.push(spawner.tasks.spawn("reader", read("late reader".into(), open(1_001), world.clone())));
    let trimmer = spawner.tasks.spawn("flusher", flush(flusher, world.clone(), plan.clone()));
    for appender in appenders {
        appender.await.map_err(|error| error.to_string())?;
    }
    world.stop_trimming.store(true, Ordering::SeqCst);
    let last = open(2_000);
    settle_end(&last, &world, seed).await;
    for reader in readers {
        reader.await.map_err(|error| error.to_string())?;
    }
    trimmer.await.map_err(|error| error.to_string())?;
    check(&world)
}

/// Appends one last record and reads the end: whatever was under way is decided.
async fn settle_end(process: &Process, world: &World, seed: u64) {
    let ids = SeededIds::new(seed ^ 0xE17D);
    loop {
        let id = WriteId(ids.random_u128());
        match process.log.append(PARTITION, EncodedRecord::marker(id), Duration::from_secs(30)).await {
            AppendOutcome::Appended(place) => {
                world.acknowledged.lock().push((id, place));
                break;
            }
            AppendOutcome::NotAppended(_) => drop(world.refused.lock().insert(id)),
            AppendOutcome::Unknown => {}
        }
        if world.is_wrong() {
            return;
        }
    }
    loop {
        match process.log.end(PARTITION).await {
            Ok(end) => {
                *world.end.lock() = Some(end.offset);
                return;
            }
            Err(error) if error.is_retryable_read() => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => return world.wrong(format!("the end: {error}")),
        }
    }
}

trait Retryable {
    fn is_retryable_read(&self) -> bool;
}

impl Retryable for nacre_types::Error {
    fn is_retryable_read(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unavailable | ErrorKind::Unknown)
    }
}

async fn append(
    process: Process,
    processes: Vec<Process>,
    world: Arc<World>,
    plan: StormPlan,
    ids: SeededIds,
) {
    for _ in 0..plan.appends {
        if world.is_wrong() {
            return;
        }
        let pause = u64::try_from(plan.pause.as_nanos()).unwrap();
        tokio::time::sleep(Duration::from_nanos(ids.random_u64() % pause.max(1))).await;
        let id = WriteId(ids.random_u128());
        let mut builder = RecordBuilder::new(TableId(1), Generation(0), id);
        let version = ids.random_u64().is_multiple_of(3).then_some(5);
        builder.push(Op::Put, b"key", &id.to_bytes(), version, None).unwrap();
        let record = builder.finish();
        let first = process.ctx.clock.now_micros();
        let append = process.log.append(PARTITION, record.clone(), plan.deadline);
        let mut outcome = if ids.random_u64().is_multiple_of(8) {
            // The caller goes away: as good as unknown.
            let patience = Duration::from_micros(ids.random_u64() % 20_000);
            tokio::time::timeout(patience, append).await.unwrap_or(AppendOutcome::Unknown)
        } else {
            append.await
        };
        if plan.repeat && outcome == AppendOutcome::Unknown {
            let over = process.ctx.clock.now_micros();
            let attempts = Attempts { first, over };
            // A load balancer sends the repeat anywhere.
            let other = ids.random_u64() % plan.processes;
            let Some(other) = processes.get(usize::try_from(other).unwrap()) else { return };
            outcome = other.log.repeat(PARTITION, record, attempts, plan.deadline * 4).await;
        }
        match outcome {
            AppendOutcome::Appended(place) => world.acknowledged.lock().push((id, place)),
            AppendOutcome::NotAppended(error) if error.kind() == ErrorKind::Corrupt => {
                world.wrong(format!("append: {error}"));
            }
            AppendOutcome::NotAppended(_) => drop(world.refused.lock().insert(id)),
            AppendOutcome::Unknown => drop(world.unknown.fetch_add(1, Ordering::SeqCst)),
        }
    }
}

async fn read(who: String, process: Process, world: Arc<World>) {
    let mut at = *world.flushed.lock();
    let mut tail = process.log.tail(PARTITION, at).await.unwrap();
    let mut quiet = 0;
    while !world.done(at.offset) {
        match tokio::time::timeout(Duration::from_secs(1), tail.next()).await {
            Err(_) => {
                // A limit, so that a reader that waits for what never comes is a failure and not a hang.
                quiet += 1;
                if quiet > 600 {
                    return world.wrong(format!("{who} waits at {at:?} for ever"));
                }
            }
            Ok(Ok(TailStep::Batch(batch))) => {
                quiet = 0;
                for stamped in &batch.records {
                    if stamped.offset != at.offset {
                        world.wrong(format!("{who} stands at {} and is given {}", at.offset, stamped.offset));
                    }
                    world.observe(&who, stamped);
                    at.offset = stamped.offset.next();
                }
                at = batch.next;
            }
            Ok(Ok(TailStep::Restart)) => {
                let flushed = *world.flushed.lock();
                if flushed.offset <= at.offset {
                    world.wrong(format!("{who} is told to restart at {at:?}, flushed is {flushed:?}"));
                }
                world.restarts.fetch_add(1, Ordering::SeqCst);
                at = flushed;
                tail = process.log.tail(PARTITION, at).await.unwrap();
            }
            Ok(Err(error)) if error.is_retryable_read() => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(Err(error)) => return world.wrong(format!("{who} at {at:?}: {error}")),
        }
    }
}

/// Reads everything in order, "commits" it by having seen it, advances `flushed_through`, then trims.
async fn flush(process: Process, world: Arc<World>, plan: StormPlan) {
    let mut at = *world.flushed.lock();
    let mut tail = process.log.tail(PARTITION, at).await.unwrap();
    let mut turns = 0;
    while !world.done(at.offset) {
        turns += 1;
        if turns > 1_000_000 {
            return world.wrong(format!("the flusher turns at {at:?} for ever"));
        }
        let next = tokio::time::timeout(plan.trim_every.unwrap_or(Duration::from_secs(1)), tail.next()).await;
        match next {
            Err(_) => {}
            Ok(Ok(TailStep::Batch(batch))) => {
                for stamped in &batch.records {
                    if stamped.offset != at.offset {
                        world.wrong(format!(
                            "the flusher stands at {} and is given {}",
                            at.offset, stamped.offset
                        ));
                    }
                    world.observe("the flusher", stamped);
                    at.offset = stamped.offset.next();
                }
                at = batch.next;
                continue;
            }
            Ok(Ok(TailStep::Restart)) => {
                return world
                    .wrong(format!("the flusher is told to restart at {at:?}, its own flushed_through"));
            }
            Ok(Err(error)) if error.is_retryable_read() => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(Err(error)) => return world.wrong(format!("the flusher: {error}")),
        }
        if plan.trim_every.is_some() && !world.stop_trimming.load(Ordering::SeqCst) {
            *world.flushed.lock() = at;
            match process.log.trim(PARTITION, &at).await {
                Ok(()) => drop(world.trims.fetch_add(1, Ordering::SeqCst)),
                Err(error) if error.is_retryable_read() => {}
                Err(error) => return world.wrong(format!("trim: {error}")),
            }
        }
    }
}

fn check(world: &World) -> Result<StormReport, String> {
    if let Some(wrong) = world.wrong.lock().take() {
        return Err(wrong);
    }
    let seen = world.seen.lock();
    let end = world.end.lock().map_or(0, |end| end.0);
    if !seen.keys().copied().eq(0..end) {
        return Err(format!("{} records were read of {end}", seen.len()));
    }
    let mut places: HashMap<WriteId, u64> = HashMap::new();
    for (offset, (id, _, _)) in seen.iter() {
        if let Some(before) = places.insert(*id, *offset) {
            return Err(format!("record {id} is in the log twice, at {before} and {offset}"));
        }
    }
    for (id, place) in world.acknowledged.lock().iter() {
        let is_there = |(found, version, time): &(WriteId, i64, i64)| {
            *found == *id && place.version.is_none_or(|it| it == *version) && *time == place.append_time
        };
        let found = seen.get(&place.offset.0);
        if !found.is_some_and(is_there) {
            return Err(format!("{id} was acknowledged as {place:?}; there is {found:?}"));
        }
    }
    for id in world.refused.lock().iter() {
        if let Some(offset) = places.get(id) {
            return Err(format!("record {id} was refused and is at offset {offset}"));
        }
    }
    Ok(StormReport {
        records: end,
        acknowledged: world.acknowledged.lock().len() as u64,
        refused: world.refused.lock().len() as u64,
        unknown: world.unknown.load(Ordering::SeqCst),
        restarts: world.restarts.load(Ordering::SeqCst),
        trims: world.trims.load(Ordering::SeqCst),
    })
}
