//! Producers: a few side by side, each rebuilt after a fatal error, and when a record was not delivered in time.
//!
//! An idempotent producer that met a fatal error takes nothing more, and is replaced. It is not dropped then: dropping
//! purges what waits and what is under way, and whoever waits would be told a failure that may have been a success. It
//! is kept until the last delivery report has come; the delivery time-out bounds that.
//!
//! # Why the time-out is ours
//!
//! Brokers know a record that is sent again by the producer's id, its *epoch* and a sequence number. When librdkafka's
//! own time-out (`message.timeout.ms`) takes a record out of the middle, the numbers have a gap; it then raises the epoch,
//! numbers what waits anew, and sends it: also records of any partition that were sent before under the old epoch, whose
//! answers were lost with a leader, and which are in the log already. No broker can tell, and acknowledged records are
//! there twice, seconds apart, over what was written in between. So librdkafka is told no time-out. A record that was not
//! delivered in time ends its producer: nothing is handed to it any more, everything that it still has is purged, which
//! answers *unknown*, and another takes its place. Records of partitions that are well share that fate: rarely, and as
//! unknowns, which repeats settle.
//!
//! # Why one batch of a partition at a time, in lanes
//!
//! librdkafka raises the epoch for another reason too: a request of a partition that was sent while the one before it failed
//! (a leader moved) is refused as out of order, and it "recovers" by renumbering everything that its producer has, with the
//! same harm: also what another partition's leader had taken and could not answer for. One request under way at a broker
//! does not prevent that. librdkafka makes the next request of a partition while one is under way, and sends it to a new
//! leader before the old one has answered. So it never has two of a partition: a *gate* holds back a partition's records
//! while some are with the producer, and hands over all that wait when the last of those is reported. They go as one
//! batch, as librdkafka waits a little (`linger.ms`) after the first, and there are never more of them than one batch
//! takes. Should a thread stand still for longer than that in the middle of handing over, there are two batches, and
//! the harm would still need a leader that moves at the same time, twice.
//!
//! Requests of different partitions wait for each other at a broker, so there are several producers, each for its part of the
//! partitions; they are made when they are first needed.

use super::border::to_log;
use super::client::{self, Reach, heard, speak};
use super::config::KafkaConfig;
use super::gate::Gate;
use super::polled::Polled;
use super::tools::number;
use crate::record::EncodedRecord;
use nacre_runtime::Context;
use nacre_store::LogMending;
use nacre_types::{Error, PartitionId, Result};
use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig};
use rdkafka::{ClientContext, Message, Timestamp};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

#[cfg(test)]
mod tests;

/// Producers of one process. Each has a thread for each broker; each has one request under way at each.
const LANES: usize = 8;
/// What is handed over together, at most: within `batch.size` and `batch.num.messages`, so that it is one batch.
const GROUP_BYTES: usize = 512 << 10;
const GROUP: usize = 4_096;
/// What Kafka adds to a record, at most, in its batch.
const FRAMING_BYTES: usize = 64;
/// How often a producer is looked at: whether something is late, or all has come.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a delivery report says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    /// It is in the log. librdkafka also says so without knowing where or when: both are to be looked at.
    Delivered { offset: i64, append_time: Option<i64> },
    /// It is longer than brokers take, by their own word: it is not in the log.
    TooLong,
    /// It was never handed over, and is not in the log: librdkafka did not take it, or the producer ended before its turn.
    NotTaken(Option<RDKafkaErrorCode>),
    /// Nobody knows.
    Failed(RDKafkaErrorCode),
}

/// Room in the queue, given back when the record is delivered or given up.
#[derive(Debug)]
pub(super) struct Room {
    queued: Arc<AtomicUsize>,
    bytes: usize,
}

impl Room {
    /// Takes room for a record; always where nothing waits.
    ///
    /// # Errors
    /// `Overloaded` (`log-queue-full`).
    pub(super) fn take(
        queued: &Arc<AtomicUsize>,
        bytes: usize,
        max: usize,
        partition: PartitionId,
    ) -> Result<Self> {
        let before = queued.fetch_add(bytes, Ordering::AcqRel);
        let room = Self { queued: queued.clone(), bytes };
        if before > 0 && before.saturating_add(bytes) > max {
            return Err(Error::overloaded(format!(
                "{before} bytes wait for partition {partition} of the log; at most {max} may"
            ))
            .with_code("log-queue-full"));
        }
        Ok(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.queued.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Goes along with a record until its report has come, whether or not its caller still waits.
pub(super) struct Sent {
    pub(super) reply: oneshot::Sender<Report>,
    pub(super) room: Room,
}

/// What a producer has taken and not reported yet: when it was handed over.
#[derive(Debug, Default)]
struct UnderWay(Mutex<(u64, BTreeMap<u64, Duration>)>);

impl UnderWay {
    fn enter(self: &Arc<Self>, now: Duration) -> Way {
        let mut held = self.0.lock();
        held.0 += 1;
        let number = held.0;
        held.1.insert(number, now);
        Way { all: self.clone(), number }
    }

    /// When the record was handed over that waits the longest.
    fn oldest(&self) -> Option<Duration> {
        self.0.lock().1.values().next().copied()
    }
}

/// One record's place there, until its report has come.
struct Way {
    all: Arc<UnderWay>,
    number: u64,
}

impl Drop for Way {
    fn drop(&mut self) {
        self.all.0.lock().1.remove(&self.number);
    }
}

/// What librdkafka keeps beside a record.
struct Handed {
    partition: PartitionId,
    sent: Sent,
    way: Way,
}

impl Handed {
    fn report(self, report: Report) {
        let Self { sent: Sent { reply, room }, way, .. } = self;
        // Before anybody is told: who is told finds it gone.
        drop((room, way));
        // Nobody need wait any more.
        let _ = reply.send(report);
    }
}

/// A record that waits at the gate of its partition.
struct Waiting {
    record: EncodedRecord,
    handed: Box<Handed>,
}

/// The gates of a producer's partitions.
struct Gates {
    all: Mutex<BTreeMap<PartitionId, Gate<Waiting>>>,
    /// Told when some partition's next group may go.
    freed: Notify,
}

/// What a producer's own thread calls.
struct Deliveries {
    /// What is counted as the topic counts is reported as the log does.
    mending: Arc<LogMending>,
    reach: Arc<Reach>,
    is_fatal: Arc<AtomicBool>,
    gates: Arc<Gates>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        speak(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.is_fatal.store(true, Ordering::Release);
        }
        heard(&self.reach, &error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Handed>;

    fn delivery(&self, result: &DeliveryResult<'_>, handed: Box<Handed>) {
        let report = match result {
            Ok(message) => {
                self.reach.found();
                let append_time = match message.timestamp() {
                    Timestamp::LogAppendTime(millis) => Some(millis.saturating_mul(1_000)),
                    Timestamp::CreateTime(_) | Timestamp::NotAvailable => None,
                };
                Report::Delivered { offset: self.offset(message.partition(), message.offset()), append_time }
            }
            Err((error, _)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::MessageSizeTooLarge) => Report::TooLong,
                Some(code) => {
                    if code == RDKafkaErrorCode::Fatal {
                        self.is_fatal.store(true, Ordering::Release);
                    }
                    Report::Failed(code)
                }
                None => Report::Failed(RDKafkaErrorCode::Unknown),
            },
        };
        let partition = handed.partition;
        handed.report(report);
        if self.gates.all.lock().get_mut(&partition).is_some_and(Gate::done) {
            self.gates.freed.notify_one();
        }
    }
}

impl Deliveries {
    /// One that librdkafka does not know is negative, and stays so.
    fn offset(&self, partition: i32, offset: i64) -> i64 {
        let (Ok(partition), Ok(own)) = (u32::try_from(partition), u64::try_from(offset)) else { return -1 };
        i64::try_from(to_log(&self.mending, PartitionId(partition), own)).unwrap_or(-1)
    }
}

struct Generation {
    producer: Polled<Deliveries>,
    is_fatal: Arc<AtomicBool>,
    /// Something was late: it takes nothing more.
    is_late: AtomicBool,
    under_way: Arc<UnderWay>,
    gates: Arc<Gates>,
    topic: String,
}

impl Generation {
    fn is_usable(&self) -> bool {
        !self.is_fatal.load(Ordering::Acquire) && !self.is_late.load(Ordering::Acquire)
    }

    /// Gives up everything that it has, if something waits for longer than `limit`, and what is handed to it later by
    /// somebody who had not seen that.
    fn look(&self, now: Duration, limit: Duration) {
        let Some(oldest) = self.under_way.oldest() else { return };
        if now.saturating_sub(oldest) >= limit && !self.is_late.swap(true, Ordering::AcqRel) {
            tracing::warn!(
                "a record was not delivered to the log in time; what its producer has is given up"
            );
        }
        if self.is_late.load(Ordering::Acquire) {
            self.producer.purge(PurgeConfig::default().queue().inflight().non_blocking());
        }
        if !self.is_usable() {
            let waiting: Vec<Waiting> = self.gates.all.lock().values_mut().flat_map(Gate::give_up).collect();
            waiting.into_iter().for_each(|waiting| waiting.handed.report(Report::NotTaken(None)));
        }
    }

    /// Lets a record in, and hands over what may go now.
    fn enter(&self, partition: PartitionId, waiting: Waiting) {
        let bytes = waiting.record.len().saturating_add(FRAMING_BYTES);
        let mut gates = self.gates.all.lock();
        let gate = gates.entry(partition).or_default();
        gate.enter(bytes, waiting);
        self.hand_over(partition, gate);
    }

    /// Hands over the next groups of all partitions whose last one was reported.
    fn release(&self) {
        for (partition, gate) in &mut *self.gates.all.lock() {
            self.hand_over(*partition, gate);
        }
    }

    fn hand_over(&self, partition: PartitionId, gate: &mut Gate<Waiting>) {
        loop {
            let group = gate.next(GROUP_BYTES, GROUP);
            let mut refused = 0;
            let many = group.len();
            for Waiting { record, handed } in group {
                let message = BaseRecord::<[u8], [u8], Box<Handed>>::with_opaque_to(&self.topic, handed)
                    .partition(number(partition))
                    .payload(record.as_bytes().as_ref());
                if let Err((error, message)) = self.producer.send(message) {
                    let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                    message.delivery_opaque.report(Report::NotTaken(Some(code)));
                    gate.done();
                    refused += 1;
                }
            }
            if refused < many || many == 0 {
                return;
            }
        }
    }
}

pub(super) struct Producers {
    config: KafkaConfig,
    reach: Arc<Reach>,
    ctx: Context,
    /// Each partition has its lane, which has a producer once it is needed.
    lanes: [Mutex<Option<Arc<Generation>>>; LANES],
}

impl fmt::Debug for Producers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Producers")
    }
}

impl Drop for Producers {
    fn drop(&mut self) {
        for lane in &mut self.lanes {
            if let Some(last) = lane.get_mut().take() {
                retire(last, &self.ctx, self.config.settled_after() * 2);
            }
        }
    }
}

impl Producers {
    pub(super) fn new(config: &KafkaConfig, reach: &Arc<Reach>, ctx: &Context) -> Result<Self> {
        let made = Self {
            config: config.clone(),
            reach: reach.clone(),
            ctx: ctx.clone(),
            lanes: Default::default(),
        };
        // Settings that librdkafka does not take are told now.
        made.usable(PartitionId(0))?;
        Ok(made)
    }

    fn lane(&self, partition: PartitionId) -> &Mutex<Option<Arc<Generation>>> {
        &self.lanes[partition.0 as usize % LANES]
    }

    /// Takes a record, which goes when its turn has come. `sent` is answered once, when its report comes.
    ///
    /// # Errors
    /// It was not taken, and certainly is not in the log: `Unavailable`.
    pub(super) fn send(&self, partition: PartitionId, record: &EncodedRecord, sent: Sent) -> Result<()> {
        let generation = self.usable(partition)?;
        let way = generation.under_way.enter(self.ctx.clock.monotonic());
        let handed = Box::new(Handed { partition, sent, way });
        generation.enter(partition, Waiting { record: record.clone(), handed });
        Ok(())
    }

    /// A partition's producer, a new one where there is none, or the old one met a fatal error or was late.
    fn usable(&self, partition: PartitionId) -> Result<Arc<Generation>> {
        let mut current = self.lane(partition).lock();
        match &*current {
            Some(generation) if generation.is_usable() => Ok(generation.clone()),
            _ => {
                let fresh = generation(&self.config, &self.reach, &self.ctx)?;
                if let Some(old) = current.replace(fresh.clone()) {
                    if let Some((_, why)) = old.producer.client().fatal_error() {
                        tracing::error!(
                            why,
                            "a producer of the log met a fatal error and is replaced; what it had taken is unknown"
                        );
                    }
                    retire(old, &self.ctx, self.config.settled_after() * 2);
                }
                Ok(fresh)
            }
        }
    }
}

/// What it means that a record of so many bytes was not taken.
pub(super) fn not_taken(why: Option<RDKafkaErrorCode>, bytes: usize) -> Error {
    match why {
        Some(RDKafkaErrorCode::QueueFull) => {
            Error::overloaded("too many records wait for the brokers").with_code("log-queue-full")
        }
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => too_long(bytes),
        Some(code) => {
            Error::unavailable(format!("the record was not taken: {code}")).with_code("log-unreachable")
        }
        None => Error::unavailable("records before this one were not delivered to the log in time")
            .with_code("log-unreachable"),
    }
}

pub(super) fn too_long(bytes: usize) -> Error {
    Error::invalid(format!("the record has {bytes} bytes, more than the topic's max.message.bytes lets in"))
        .with_code("record-too-long")
}

fn generation(config: &KafkaConfig, reach: &Arc<Reach>, ctx: &Context) -> Result<Arc<Generation>> {
    let is_fatal = Arc::new(AtomicBool::new(false));
    let gates = Arc::new(Gates { all: Mutex::default(), freed: Notify::new() });
    let deliveries = Deliveries {
        mending: config.mending.clone(),
        reach: reach.clone(),
        is_fatal: is_fatal.clone(),
        gates: gates.clone(),
    };
    let made = Arc::new(Generation {
        producer: Polled::make(config.producer(), RDKafkaLogLevel::Warning, deliveries)?,
        is_fatal,
        is_late: AtomicBool::new(false),
        under_way: Arc::default(),
        gates: gates.clone(),
        topic: config.topic.clone(),
    });
    let (held, clock, limit) = (Arc::downgrade(&made), ctx.clock.clone(), config.delivery_timeout);
    let stop = ctx.tasks.shutdown_token();
    ctx.tasks.spawn("log deliveries", async move {
        loop {
            let freed = tokio::time::timeout(LOOK_EVERY, gates.freed.notified()).await;
            let Some(generation) = held.upgrade() else { return };
            if freed.is_ok() {
                generation.release();
            }
            generation.look(clock.monotonic(), limit);
            // A log that closes takes nothing more, and whoever holds it may outlive the program's tasks.
            if stop.is_requested() && generation.under_way.oldest().is_none() {
                return;
            }
        }
    });
    Ok(made)
}

/// Lets a producer end when its last report has come. Its reports come within the delivery time-out; `limit` is longer.
fn retire(old: Arc<Generation>, ctx: &Context, limit: Duration) {
    if tokio::runtime::Handle::try_current().is_err() {
        // Nobody is left to wait for the reports; what is under way is still sent.
        let _ = old.producer.flush(limit);
        return;
    }
    let clock = ctx.clock.clone();
    let tasks = ctx.tasks.clone();
    ctx.tasks.spawn("log producer ends", async move {
        let begun = clock.monotonic();
        while old.under_way.oldest().is_some() && clock.monotonic().saturating_sub(begun) < limit {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        client::end_elsewhere(old, &tasks);
    });
}
