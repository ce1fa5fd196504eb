//! `nacre log resume`: what a log on Kafka lost, and going on without it.

mod carry_out;
mod plan;
mod reading;

use self::plan::{Placed, Seen, place};
use self::reading::Reading;
use super::Resume;
use crate::commands::serve;
use crate::kafka;
use crate::output::{Grid, Out, note};
use crate::storage::{Found, StorageSettings};
use crate::telemetry::{self, LogFormat};
use crate::{phases, storage};
pub(super) use carry_out::record_of;
use nacre_catalog::Catalog;
use nacre_catalog::heartbeat::{self, Process};
use nacre_engine::{covered_partitions, flushed_through_record};
use nacre_fleet::Member;
use nacre_log::kafka::{
    KafkaConfig, Obstacle, PartitionMarks, TopicFacts, TopicRules, describe_topic, examine, topic_marks,
};
use nacre_log::{FlushedThrough, LogPosition};
use nacre_runtime::Context;
use nacre_store::{LogHole, LogMending, LogResume, ResumedPartition, StoreIdentity};
use nacre_types::{Error, LogIncarnation, Offset, PartitionId, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The format level from which on programs read an identity with bases, holes and plans.
const LEVEL: u32 = 2;
/// Longest name of who accepts a loss, in bytes.
const BY_BYTES: usize = 256;

/// A partition, and what becomes of it.
#[derive(Debug)]
struct Judged {
    placed: Placed,
    obstacles: Vec<Obstacle>,
    /// Records that readers will read.
    records: u64,
}

/// What is to be done.
#[derive(Debug)]
struct Plan {
    name: String,
    partitions: Vec<Judged>,
    mending: LogMending,
    /// Whether the topic is the one that the store had.
    is_same: bool,
}

impl Plan {
    fn is_needed(&self) -> bool {
        let is_well = |one: &Judged| one.placed.why.is_empty() && one.obstacles.is_empty();
        !self.is_same || !self.partitions.iter().all(is_well)
    }
}

#[derive(Debug, Serialize)]
struct Hole {
    from: u64,
    to: u64,
    why: String,
}

#[derive(Debug, Serialize)]
struct Partition {
    partition: u32,
    /// What had happened; empty where nothing had.
    why: String,
    /// The first offset that is given up, as the log counted before.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_from: Option<u64>,
    /// The offset after the last; absent = all that was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost_to: Option<u64>,
    /// Readers start here.
    start_offset: u64,
    /// Records that are read from there.
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<u64>,
    /// What readers pass over.
    holes: Vec<Hole>,
}

#[derive(Debug, Serialize)]
struct Told {
    store: String,
    log_before: String,
    log: String,
    /// The log's incarnation afterwards.
    incarnation: u32,
    /// `nothing`, `would` (nothing was changed), `done`.
    state: &'static str,
    partitions: Vec<Partition>,
}

pub(super) async fn resume(asked: &Resume, url: &str, out: &Out) -> Result<()> {
    if asked.by.len() > BY_BYTES {
        return Err(Error::invalid(format!("by: at most {BY_BYTES} bytes")).with_code("by-too-long"));
    }
    let ctx = Context::system().with_phases(phases::observed(asked.phase_socket.as_deref()));
    let settings = &*asked.storage;
    let found = storage::look(settings, &ctx).await?;
    let alive = if asked.accept_loss { alive(settings, &*found.catalog).await? } else { Vec::new() };
    if let Some(resume) = &found.identity.resume {
        return go_on(asked, &found, resume, &alive, out, &ctx).await;
    }
    let plan = decide(settings, url, &found, &ctx).await?;
    if !plan.is_needed() {
        return out.result(&told(settings, &found.identity, &plan, "nothing"), text);
    }
    if found.identity.format_level < LEVEL {
        return Err(Error::conflict(format!(
            "a log that is taken up again wants format level {LEVEL}, and the store has {}: start this release everywhere, \
             then run nacre format upgrade",
            found.identity.format_level
        ))
        .with_code("format-level"));
    }
    if !asked.accept_loss {
        out.result(&told(settings, &found.identity, &plan, "would"), text)?;
        return if asked.dry_run { Ok(()) } else { Err(not_accepted()) };
    }
    refuse_alive(&alive)?;
    telemetry::begin(LogFormat::Json, "warn,nacre::audit=info")?;
    let begun = begun(&found.identity, &plan, &asked.by, &ctx);
    carry_out::begin(&*found.store, &found.identity, &begun, &ctx).await?;
    ctx.phases.reach("resume/begun").await;
    if let Some(resume) = &begun.resume {
        audit(&begun, resume, "the log is taken up again, its losses accepted");
    }
    let done = carry_out::finish(&*found.store, &*found.catalog, &begun, &ctx).await?;
    debug_assert!(done.resume.is_none());
    out.result(&told(settings, &found.identity, &plan, "done"), text)
}

/// Finishes what somebody began; nothing is decided any more.
async fn go_on(
    asked: &Resume,
    found: &Found,
    resume: &LogResume,
    alive: &[Process],
    out: &Out,
    ctx: &Context,
) -> Result<()> {
    let partition = |one: &ResumedPartition| Partition {
        partition: one.partition.0,
        why: one.why.clone(),
        lost_from: (one.lost_to != Some(one.lost_from)).then_some(one.lost_from.0),
        lost_to: one.lost_to.filter(|to| *to != one.lost_from).map(|to| to.0),
        start_offset: one.start.0,
        records: None,
        holes: Vec::new(),
    };
    let told = |state| Told {
        store: asked.storage.store_url(),
        log_before: resume.log_before.clone(),
        log: found.identity.log.clone(),
        incarnation: resume.incarnation.0,
        state,
        partitions: resume.partitions.iter().map(partition).collect(),
    };
    if !asked.accept_loss {
        out.result(&told("would"), text)?;
        return if asked.dry_run { Ok(()) } else { found.identity.check_resumed() };
    }
    refuse_alive(alive)?;
    telemetry::begin(LogFormat::Json, "warn,nacre::audit=info")?;
    audit(&found.identity, resume, "a resume of the log that was begun is finished");
    carry_out::finish(&*found.store, &*found.catalog, &found.identity, ctx).await?;
    out.result(&told("done"), text)
}

fn not_accepted() -> Error {
    Error::conflict(
        "nothing was changed; what is told above is given up for good with --accept-loss. Before that: are these the right \
         brokers and the right topic, and can what is lost be brought back?",
    )
    .with_code("loss-not-accepted")
}

fn audit(identity: &StoreIdentity, resume: &LogResume, what: &str) {
    let lost: Vec<String> = resume
        .partitions
        .iter()
        .filter(|one| !one.why.is_empty())
        .map(|one| match one.lost_to {
            Some(to) => format!("{}: {}..{to} ({})", one.partition, one.lost_from, one.why),
            None => format!("{}: all from {} on ({})", one.partition, one.lost_from, one.why),
        })
        .collect();
    tracing::info!(
        target: "nacre::audit",
        store_id = %identity.store_id,
        by = resume.by,
        incarnation = resume.incarnation.0,
        log_before = resume.log_before,
        log = identity.log,
        lost = lost.join("; "),
        "{what}"
    );
}

/// The processes whose hearts beat.
async fn alive(settings: &StorageSettings, catalog: &dyn Catalog) -> Result<Vec<Process>> {
    let config = serve::presence(&settings.store_url(), settings.catalog_url()).heartbeat;
    if !heartbeat::registered(catalog).await?.is_empty() {
        note(&format!(
            "processes are registered; for {} seconds this looks whether they are alive",
            config.dead_after.as_secs().max(1)
        ));
    }
    heartbeat::alive(catalog, config).await
}

fn refuse_alive(alive: &[Process]) -> Result<()> {
    if alive.is_empty() {
        return Ok(());
    }
    let name = |process: &Process| match Member::decode(process).ok().flatten() {
        Some(member) if !member.name.is_empty() => member.name,
        _ => process.id.to_string(),
    };
    let names: Vec<String> = alive.iter().map(name).collect();
    Err(Error::conflict(format!(
        "these processes run on the store: {}; stop all of them first: they know the log as it was",
        names.join(", ")
    ))
    .with_code("processes-alive"))
}

/// Looks at the topic, at what is known of the log, and reads what readers would read.
async fn decide(settings: &StorageSettings, url: &str, found: &Found, ctx: &Context) -> Result<Plan> {
    let identity = &found.identity;
    let config = kafka::config(&settings.kafka, url)?;
    let facts = describe_topic(&config, ctx).await?;
    // What no server would start on is not taken up either.
    TopicRules::of(&config).judge(&facts)?;
    let name = storage::name_of_topic(&facts);
    if !identity.log.starts_with("kafka ") {
        return Err(Error::invalid(format!(
            "the store's log is {:?}, not one on Kafka, and has lost nothing: leave --log out",
            identity.log
        ))
        .with_code("store-identity"));
    }
    let is_same = identity.log == name;
    let (mut placed, marks) = placed(found, &config, &facts, is_same, ctx).await?;
    let mut mending = LogMending { bases: placed.iter().map(|one| one.base).collect(), holes: Vec::new() };
    if mending.bases.iter().all(|base| *base == 0) {
        mending.bases.clear();
    }
    // Of the holes so far those that readers can still meet.
    let still =
        |hole: &&LogHole| placed.iter().any(|one| one.partition == hole.partition && one.start < hole.to);
    mending.holes = identity.mending.holes.iter().filter(still).copied().collect();
    let config = KafkaConfig {
        incarnation: LogIncarnation(identity.log_incarnation.0.saturating_add(1)),
        topic_id: Some(facts.id),
        mending: Arc::new(mending.clone()),
        ..config
    };
    let mut partitions = Vec::new();
    for (placed, marks) in placed.drain(..).zip(marks) {
        let (partition, end) = (placed.partition, Offset(placed.base.saturating_add(marks.end.0)));
        let from = LogPosition {
            offset: placed.start,
            clock: placed.clock,
            ..LogPosition::start(config.incarnation)
        };
        let mut reading = Reading::new(partition, from.offset, end, ctx.clock.monotonic());
        let mut tell = |at| reading.tell(at, ctx.clock.monotonic());
        let examined = examine(&config, partition, from, end, &mut tell, ctx).await?;
        reading.end();
        mending.holes.extend(examined.obstacles.iter().map(|obstacle| LogHole {
            partition,
            from: obstacle.from,
            to: obstacle.to,
        }));
        partitions.push(Judged { placed, obstacles: examined.obstacles, records: examined.records });
    }
    Ok(Plan { name, partitions, mending, is_same })
}

/// Where each partition goes on, and its marks.
async fn placed(
    found: &Found,
    config: &KafkaConfig,
    facts: &TopicFacts,
    is_same: bool,
    ctx: &Context,
) -> Result<(Vec<Placed>, Vec<PartitionMarks>)> {
    let identity = &found.identity;
    let mut before = BTreeMap::new();
    for partition in (0..facts.partitions).map(PartitionId) {
        if let Some(position) = flushed_through(&*found.catalog, partition).await? {
            before.insert(partition, position);
        }
    }
    let above = before.iter().map(|(partition, position)| (*partition, position.offset)).collect();
    let covers = covered_partitions(&found.catalog, &*found.store, &above, ctx).await?;
    if let Some(last) = covers.keys().next_back().filter(|last| last.0 >= facts.partitions) {
        return Err(Error::invalid(format!(
            "the topic has {} partitions, and tables write to partition {last}: make one with {} or more",
            facts.partitions,
            last.0 + 1
        ))
        .with_code("log-topic-partitions"));
    }
    // As the topic counts: the config says nothing of bases.
    let marks = topic_marks(config, facts, ctx).await?;
    let now = ctx.clock.now_micros();
    let mut all = Vec::new();
    for (partition, marks) in (0..).map(PartitionId).zip(&marks) {
        let seen = Seen {
            partition,
            before: before.get(&partition).copied(),
            cover: covers.get(&partition).copied().unwrap_or_default(),
            marks: *marks,
            flushed: flushed_through(&*found.catalog, partition).await?,
        };
        all.push(place(&seen, is_same, identity.mending.base(partition), identity.log_incarnation, now)?);
    }
    Ok((all, marks))
}

async fn flushed_through(catalog: &dyn Catalog, partition: PartitionId) -> Result<Option<LogPosition>> {
    let record = catalog.record(&flushed_through_record(partition)).await?;
    record.map(|(bytes, _)| FlushedThrough::decode(&bytes).map(|flushed| flushed.position)).transpose()
}

/// The identity that takes the plan.
fn begun(before: &StoreIdentity, plan: &Plan, by: &str, ctx: &Context) -> StoreIdentity {
    let incarnation = LogIncarnation(before.log_incarnation.0.saturating_add(1));
    let resumed = |one: &Judged| {
        let Placed { partition, start, clock, lost, why, .. } = one.placed.clone();
        let holes =
            one.obstacles.iter().map(|hole| format!("{}..{} passed over: {}", hole.from, hole.to, hole.why));
        let why = Some(why).filter(|why| !why.is_empty()).into_iter().chain(holes).collect::<Vec<_>>();
        let (lost_from, lost_to) = lost.unwrap_or((start, Some(start)));
        ResumedPartition { partition, start, clock, lost_from, lost_to, why: why.join("; ") }
    };
    let resume = LogResume {
        incarnation,
        at_micros: ctx.clock.now_micros(),
        by: by.to_owned(),
        log_before: before.log.clone(),
        partitions: plan.partitions.iter().map(resumed).collect(),
    };
    StoreIdentity {
        log: plan.name.clone(),
        log_incarnation: incarnation,
        mending: plan.mending.clone(),
        resume: Some(resume),
        ..before.clone()
    }
}

fn told(settings: &StorageSettings, before: &StoreIdentity, plan: &Plan, state: &'static str) -> Told {
    let partition = |one: &Judged| Partition {
        partition: one.placed.partition.0,
        why: one.placed.why.clone(),
        lost_from: one.placed.lost.map(|(from, _)| from.0),
        lost_to: one.placed.lost.and_then(|(_, to)| to).map(|to| to.0),
        start_offset: one.placed.start.0,
        records: Some(one.records),
        holes: one
            .obstacles
            .iter()
            .map(|hole| Hole { from: hole.from.0, to: hole.to.0, why: hole.why.clone() })
            .collect(),
    };
    let raised = u32::from(state != "nothing");
    Told {
        store: settings.store_url(),
        log_before: before.log.clone(),
        log: plan.name.clone(),
        incarnation: before.log_incarnation.0.saturating_add(raised),
        state,
        partitions: plan.partitions.iter().map(partition).collect(),
    }
}

fn text(told: &Told) -> String {
    if told.state == "nothing" {
        return format!("the log of {} is well: there is nothing to resume", told.store);
    }
    let mut grid = Grid::new(&["partition", ">lost from", ">to", ">records", ">goes on at", ">reads", "why"]);
    for one in &told.partitions {
        let (from, to, count) = match (one.lost_from, one.lost_to) {
            (None, _) => (String::new(), String::new(), "0".to_owned()),
            (Some(from), Some(to)) => (from.to_string(), to.to_string(), to.saturating_sub(from).to_string()),
            (Some(from), None) => (from.to_string(), "the end".to_owned(), "?".to_owned()),
        };
        let number = one.partition.to_string();
        let why = if one.why.is_empty() { "it is well".to_owned() } else { one.why.clone() };
        let reads = one.records.map_or_else(String::new, |records| records.to_string());
        grid.row([number.clone(), from, to, count, one.start_offset.to_string(), reads, why]);
        for hole in &one.holes {
            let why = format!("passed over: {}", hole.why);
            let count = hole.to.saturating_sub(hole.from).to_string();
            let cells = [number.clone(), hole.from.to_string(), hole.to.to_string(), count];
            let [number, from, to, count] = cells;
            grid.row([number, from, to, count, String::new(), String::new(), why]);
        }
    }
    let what = match told.state {
        "done" => "was taken up again; servers may start",
        _ => "can be taken up again, and what is told here is then given up for good; nothing was changed",
    };
    let log = match told.log_before == told.log {
        true => told.log.clone(),
        false => format!("{}, in the place of {}", told.log, told.log_before),
    };
    format!("log of {} {what}\n{log} (incarnation {})\n{}", told.store, told.incarnation, grid.text())
}
