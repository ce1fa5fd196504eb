//! The watch: every few seconds the topic and the ends of its partitions are looked at again.
//!
//! What was right at the start need not stay so: somebody sets a retention, or deletes the topic and makes it again. And
//! librdkafka says once that a reader stands outside of its partition, or not at all: one that stands before the end and
//! does not move is made anew.

use super::partition::{Partition, Shared};
use super::verdict::TopicFacts;
use nacre_types::{ErrorKind, Offset, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often brokers that do not answer are asked.
const LOST_EVERY: Duration = Duration::from_millis(300);
/// Left around a record for what Kafka writes there.
const FRAMING_BYTES: usize = 4 << 10;

/// Longest record that a topic takes.
pub(super) fn max_record_bytes(facts: &TopicFacts) -> usize {
    let said = facts.settings.get("max.message.bytes").and_then(|text| text.parse::<usize>().ok());
    said.map_or(usize::MAX, |bytes| bytes.saturating_sub(FRAMING_BYTES))
}

/// Runs until the log is closed.
pub(super) async fn watch(shared: Arc<Shared>, partitions: Vec<Arc<Partition>>) {
    let stop = shared.ctx.tasks.shutdown_token();
    let mut closed = shared.closed.subscribe();
    let mut looks = Vec::new();
    looks.resize(partitions.len(), Look::default());
    let rounds = async {
        loop {
            tokio::select! {
                () = tokio::time::sleep(shared.config.check_every) => {}
                () = shared.reach.becomes(false) => tokio::time::sleep(LOST_EVERY).await,
            }
            if let Err(error) = look_at_topic(&shared, &partitions).await {
                tracing::debug!(%error, "the log's topic could not be looked at");
                continue;
            }
            for (partition, look) in partitions.iter().zip(&mut looks) {
                if let Err(error) = look.compare(partition).await {
                    tracing::debug!(partition = %partition.id, %error, "a partition's ends could not be looked at");
                }
            }
        }
    };
    tokio::select! {
        () = stop.requested() => {}
        _ = closed.wait_for(|closed| *closed) => {}
        () = rounds => {}
    }
}

/// Whether the topic is still as it must be. A topic that is not believed any more stops all readers; one with other
/// settings takes no appends until it is mended.
async fn look_at_topic(shared: &Shared, partitions: &[Arc<Partition>]) -> Result<()> {
    let facts = match shared.tools.facts().await {
        Ok(facts) => facts,
        Err(error) if error.code() == "log-topic-missing" => {
            // Deleted, or a broker that has just come back and does not know it yet: nothing can be appended either way.
            object(shared, Some(error.with_kind(ErrorKind::Unavailable)));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    shared.max_record_bytes.store(max_record_bytes(&facts), Ordering::Relaxed);
    match shared.rules.judge(&facts) {
        Ok(()) => object(shared, None),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::error!(%error, "the log is another topic now");
            for partition in partitions {
                partition.stop(&error);
            }
            object(shared, Some(error));
        }
        Err(error) => object(shared, Some(error.with_kind(ErrorKind::Unavailable))),
    }
    Ok(())
}

fn object(shared: &Shared, objection: Option<nacre_types::Error>) {
    let mut held = shared.objection.lock();
    match (&*held, &objection) {
        (None, Some(error)) => tracing::error!(%error, "the log takes no appends"),
        (Some(_), None) => tracing::info!("the log's topic is as it must be again"),
        _ => {}
    }
    *held = objection;
}

/// What the last look at a partition saw.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    at: Option<Offset>,
    end: u64,
}

impl Look {
    async fn compare(&mut self, partition: &Arc<Partition>) -> Result<()> {
        // Where the reader stood before the question: an end before that is no race.
        let Some(at) = partition.at() else { return compare_newest(partition).await };
        let marks = partition.shared.tools.marks(partition.id).await?;
        partition.known(|known| known.tidy());
        let before = std::mem::replace(self, Self { at: Some(at.offset), end: marks.high });
        if let Err(error) = partition.check_end(at.offset, marks.high) {
            if error.kind() == ErrorKind::Corrupt {
                let why = partition.explain(error).await;
                partition.stop(&why);
            }
            return Ok(());
        }
        let stands_still = before.at == Some(at.offset) && before.end > at.offset.0;
        let is_below = at.offset.0 < marks.low;
        if is_below || (stands_still && partition.at().is_some_and(|now| now.offset == at.offset)) {
            tracing::warn!(
                partition = %partition.id, at = %at.offset, low = marks.low, high = marks.high,
                "the log's reader stands still before the end; it begins anew"
            );
            partition.kick.notify_one();
        }
        Ok(())
    }
}

/// Of a partition that is only appended to: whether it still reaches as far as was acknowledged.
async fn compare_newest(partition: &Arc<Partition>) -> Result<()> {
    let newest = partition.newest.load(Ordering::Acquire);
    if newest == 0 {
        return Ok(());
    }
    let high = partition.shared.tools.marks(partition.id).await?.high;
    match partition.check_end(Offset(newest), high) {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            let why = partition.explain(error).await;
            partition.stop(&why);
        }
        _ => {}
    }
    Ok(())
}
