//! `nacre log status` of a log on Kafka: it opens nothing for writing, so that it also answers where a server would not
//! start.

use super::resume::record_of;
use crate::kafka;
use crate::output::{Grid, Out, moment, printable};
use crate::storage::{self, StorageSettings};
use nacre_catalog::Catalog;
use nacre_engine::flushed_through_record;
use nacre_log::kafka::{KafkaConfig, PartitionMarks, TopicRules, describe_topic, topic_marks};
use nacre_log::{FlushedThrough, LogPosition};
use nacre_runtime::Context;
use nacre_store::{LogResume, StoreIdentity};
use nacre_types::{Error, LogIncarnation, PartitionId, Result};
use serde::Serialize;
use std::sync::Arc;

/// What was given up of a partition.
#[derive(Debug, Serialize)]
struct Lost {
    partition: u32,
    from_offset: u64,
    /// Absent = all that was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    to_offset: Option<u64>,
    why: String,
}

/// A `nacre log resume --accept-loss`.
#[derive(Debug, Serialize)]
struct Resumed {
    incarnation: u32,
    at: String,
    by: String,
    log_before: String,
    lost: Vec<Lost>,
}

#[derive(Debug, Serialize)]
struct Partition {
    partition: u32,
    /// What is added to the topic's own offsets.
    base: u64,
    /// The first record that is there.
    start_offset: u64,
    /// Everything before it is in segments; readers start there.
    flushed_through: u64,
    end_offset: u64,
    /// Records that a reader that starts now has to read.
    lag: u64,
    /// The last version given before `flushed_through`.
    clock: i64,
    /// `good`, or what is wrong.
    verdict: String,
}

#[derive(Debug, Serialize)]
struct Status {
    store: String,
    store_id: String,
    log: String,
    incarnation: u32,
    topic: String,
    topic_id: String,
    replicas: u32,
    in_sync: u32,
    /// What is not as it must be.
    faults: Vec<String>,
    partitions: Vec<Partition>,
    /// What was given up so far.
    resumed: Vec<Resumed>,
}

pub(super) async fn status(settings: &StorageSettings, url: &str, out: &Out) -> Result<()> {
    let ctx = Context::system();
    let store = settings.store_url();
    let storage::Found { identity, catalog, .. } = storage::look(settings, &ctx).await?;
    let config = kafka::config(&settings.kafka, url)?;
    let facts = describe_topic(&config, &ctx).await?;
    let mut faults: Vec<String> =
        TopicRules::of(&config).faults(&facts).iter().map(ToString::to_string).collect();
    let name = storage::name_of_topic(&facts);
    if identity.log != name {
        faults.push(format!(
            "the store's log is {:?}, and this is {name:?}: another topic; nacre log resume tells what taking it costs",
            identity.log
        ));
    }
    if let Err(error) = identity.check_resumed() {
        faults.push(error.detail().to_owned());
    }
    let is_own = identity.log == name;
    // Of another topic bases say nothing.
    let mending = if is_own { Arc::new(identity.mending.clone()) } else { Arc::default() };
    let config = KafkaConfig { mending, ..config };
    if facts.in_sync < facts.replicas {
        faults.push(format!(
            "{} of {} replicas are in sync: a broker is away or behind",
            facts.in_sync, facts.replicas
        ));
    }
    let mut partitions = Vec::new();
    for (number, marks) in (0..).zip(topic_marks(&config, &facts, &ctx).await?) {
        partitions.push(partition(&*catalog, number, &identity, marks, is_own).await?);
    }
    let wrong = faults.len() + partitions.iter().filter(|one| one.verdict != "good").count();
    let status = Status {
        store,
        store_id: identity.store_id.to_string(),
        log: identity.log.clone(),
        incarnation: identity.log_incarnation.0,
        topic: facts.name,
        topic_id: facts.id.to_string(),
        replicas: facts.replicas,
        in_sync: facts.in_sync,
        faults,
        partitions,
        resumed: resumed(&*catalog, identity.log_incarnation).await?,
    };
    out.result(&status, text)?;
    if wrong == 0 {
        Ok(())
    } else {
        Err(Error::conflict(format!("{wrong} things are wrong")).with_code("log-status"))
    }
}

fn text(status: &Status) -> String {
    let mut grid = Grid::new(&["partition", ">start", ">flushed", ">end", ">lag", "clock", "verdict"]);
    for one in &status.partitions {
        grid.row([
            one.partition.to_string(),
            one.start_offset.to_string(),
            one.flushed_through.to_string(),
            one.end_offset.to_string(),
            one.lag.to_string(),
            moment(one.clock),
            one.verdict.clone(),
        ]);
    }
    let checks = match status.faults.as_slice() {
        [] => "the topic is as the log must have it".to_owned(),
        faults => faults.iter().map(|fault| format!("wrong: {fault}")).collect::<Vec<_>>().join("\n"),
    };
    let mut past = String::new();
    for one in &status.resumed {
        let lost: Vec<String> = one
            .lost
            .iter()
            .map(|lost| {
                let to = lost.to_offset.map_or_else(|| "the end".to_owned(), |to| to.to_string());
                format!("partition {} from {} to {to}: {}", lost.partition, lost.from_offset, lost.why)
            })
            .collect();
        let line = format!(
            "taken up again {} by {:?} as incarnation {}, before it {}; given up: {}",
            one.at,
            one.by,
            one.incarnation,
            one.log_before,
            lost.join("; ")
        );
        past.push_str(&printable(&line));
        past.push('\n');
    }
    format!(
        "log of {} (incarnation {}): topic {}, id {}, {} of {} replicas in sync\n{checks}\n{}{past}",
        status.store,
        status.incarnation,
        status.topic,
        status.topic_id,
        status.in_sync,
        status.replicas,
        grid.text()
    )
}

async fn partition(
    catalog: &dyn Catalog,
    number: u32,
    identity: &StoreIdentity,
    marks: PartitionMarks,
    is_own: bool,
) -> Result<Partition> {
    let flushed = match catalog.record(&flushed_through_record(PartitionId(number))).await? {
        Some((bytes, _)) => FlushedThrough::decode(&bytes)?.position,
        None => LogPosition::start(identity.log_incarnation),
    };
    let verdict = if is_own {
        verdict(&flushed, marks)
    } else {
        "another topic: its offsets are not the log's".to_owned()
    };
    Ok(Partition {
        partition: number,
        base: if is_own { identity.mending.base(PartitionId(number)) } else { 0 },
        start_offset: marks.start.0,
        flushed_through: flushed.offset.0,
        end_offset: marks.end.0,
        lag: marks.end.0.saturating_sub(flushed.offset.0),
        clock: flushed.clock,
        verdict,
    })
}

/// What was given up, incarnation by incarnation.
async fn resumed(catalog: &dyn Catalog, now: LogIncarnation) -> Result<Vec<Resumed>> {
    let mut all = Vec::new();
    for incarnation in (1..=now.0).map(LogIncarnation) {
        let Some((bytes, _)) = catalog.record(&record_of(incarnation)).await? else { continue };
        let LogResume { incarnation, at_micros, by, log_before, partitions } = LogResume::decode(bytes)?;
        let lost = partitions.into_iter().filter(|one| !one.why.is_empty()).map(|one| Lost {
            partition: one.partition.0,
            from_offset: one.lost_from.0,
            to_offset: one.lost_to.map(|to| to.0),
            why: one.why,
        });
        let lost = lost.collect();
        all.push(Resumed { incarnation: incarnation.0, at: moment(at_micros), by, log_before, lost });
    }
    Ok(all)
}

fn verdict(flushed: &LogPosition, marks: PartitionMarks) -> String {
    if flushed.offset < marks.start {
        let lost = marks.start.0 - flushed.offset.0;
        return format!(
            "lost: {lost} records that were not flushed were deleted; nacre log resume tells what going on costs"
        );
    }
    if flushed.offset > marks.end {
        return "shrunk: it ends before what was flushed; nacre log resume tells what going on costs"
            .to_owned();
    }
    "good".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nacre_types::Offset;

    #[test]
    fn a_partition_that_lacks_what_is_needed_is_told() {
        let flushed = LogPosition { offset: Offset(10), ..LogPosition::start(LogIncarnation(0)) };
        for (start, end, word) in [(0, 20, "good"), (10, 10, "good"), (11, 20, "lost: 1"), (0, 9, "shrunk")] {
            let said = verdict(&flushed, PartitionMarks { start: Offset(start), end: Offset(end) });
            assert!(said.starts_with(word), "{start}..{end}: {said}");
        }
    }
}
