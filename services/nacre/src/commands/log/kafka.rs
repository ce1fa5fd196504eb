//! `nacre log status` of a log on Kafka: it opens nothing for writing, so that it also answers where a server would not
//! start.

use crate::kafka;
use crate::output::{Grid, Out, moment};
use crate::storage::{self, StorageSettings};
use nacre_catalog::Catalog;
use nacre_engine::flushed_through_record;
use nacre_log::kafka::{PartitionMarks, TopicRules, describe_topic, topic_marks};
use nacre_log::{FlushedThrough, LogPosition};
use nacre_runtime::Context;
use nacre_types::{Error, LogIncarnation, PartitionId, Result};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Partition {
    partition: u32,
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
}

pub(super) async fn status(settings: &StorageSettings, url: &str, out: &Out) -> Result<()> {
    let ctx = Context::system();
    let store = settings.store_url();
    let (identity, catalog) = storage::look(settings, &ctx).await?;
    let config = kafka::config(&settings.kafka, url)?;
    let facts = describe_topic(&config, &ctx).await?;
    let mut faults: Vec<String> =
        TopicRules::of(&config).faults(&facts).iter().map(ToString::to_string).collect();
    let name = storage::name_of_topic(&facts);
    if identity.log != name {
        faults.push(format!("the store's log is {:?}, and this is {name:?}: another topic", identity.log));
    }
    if facts.in_sync < facts.replicas {
        faults.push(format!(
            "{} of {} replicas are in sync: a broker is away or behind",
            facts.in_sync, facts.replicas
        ));
    }
    let mut partitions = Vec::new();
    for (number, marks) in (0..).zip(topic_marks(&config, &facts, &ctx).await?) {
        partitions.push(partition(&*catalog, number, identity.log_incarnation, marks).await?);
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
    format!(
        "log of {} (incarnation {}): topic {}, id {}, {} of {} replicas in sync\n{checks}\n{}",
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
    incarnation: LogIncarnation,
    marks: PartitionMarks,
) -> Result<Partition> {
    let flushed = match catalog.record(&flushed_through_record(PartitionId(number))).await? {
        Some((bytes, _)) => FlushedThrough::decode(&bytes)?.position,
        None => LogPosition::start(incarnation),
    };
    Ok(Partition {
        partition: number,
        start_offset: marks.start.0,
        flushed_through: flushed.offset.0,
        end_offset: marks.end.0,
        lag: marks.end.0.saturating_sub(flushed.offset.0),
        clock: flushed.clock,
        verdict: verdict(&flushed, marks),
    })
}

fn verdict(flushed: &LogPosition, marks: PartitionMarks) -> String {
    if flushed.offset < marks.start {
        let lost = marks.start.0 - flushed.offset.0;
        return format!("lost: {lost} records that were not flushed were deleted");
    }
    if flushed.offset > marks.end {
        return "shrunk: it ends before what was flushed".to_owned();
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
