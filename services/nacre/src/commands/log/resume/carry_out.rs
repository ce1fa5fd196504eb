//! Carrying a resume out.
//!
//! Stored state: the store's identity (which log, its incarnation, bases, holes, and the plan of a resume under way), a
//! `flushed_through` per partition, and a record `log-resume/<incarnation>` per resume. All are replaced if unchanged.
//!
//! 1. The identity takes the whole plan: the commit point. What is given up was decided, and stands, from here on.
//! 2. Every partition's `flushed_through` is raised to where the plan starts it, in the new incarnation; `carried` stays: its
//!    rows lie below.
//! 3. The plan is kept as a record, for whoever asks later.
//! 4. The identity drops the plan.
//!
//! Between 1 and 4 no process starts (`log-resume-unfinished`), and running the command again goes on at 2 with the same plan:
//! each step finds its own effect. Before 1 nothing has happened.
//!
//! *A process that runs nevertheless*, because it started after somebody looked: it knows the old incarnation. Its readers
//! refuse a start of the new one. Its flushes may move a `flushed_through` that is still of the old incarnation, which is
//! then carried on from there, if that is further (rows below it are covered, by it); never one of the new incarnation, which
//! is higher by order whatever its offset. Its flush edits are of offsets below the new start, and fenced by `from`. What it
//! appends lies in the topic at or behind the new start, or is not acknowledged: its newest known offset lies above. *Two
//! who run the command at once:* one of them changes the identity, the other is told so.
//!
//! *Why the identity first?* The other way round a crash leaves partitions of an incarnation that nobody has, and no plan.

use nacre_catalog::{Catalog, RecordPut};
use nacre_engine::flushed_through_record;
use nacre_log::{FlushedThrough, LogPosition};
use nacre_runtime::{Backoff, Context};
use nacre_store::{LogResume, ObjectStore, ResumedPartition, StoreIdentity};
use nacre_types::{Error, LogIncarnation, Result};
use std::time::Duration;

#[cfg(test)]
mod tests;

const ATTEMPTS: usize = 20;

/// Where the record of a resume is kept.
pub(in crate::commands::log) fn record_of(incarnation: LogIncarnation) -> String {
    format!("log-resume/{:05}", incarnation.0)
}

/// Decides: from now on it is done, now or later.
///
/// # Errors
/// As [`StoreIdentity::replace`].
pub(super) async fn begin(
    store: &dyn ObjectStore,
    before: &StoreIdentity,
    next: &StoreIdentity,
    ctx: &Context,
) -> Result<()> {
    StoreIdentity::replace(store, before, next, ctx).await
}

/// Does what was decided and is not done yet; answers the identity as it is then.
///
/// # Errors
/// `Unavailable`, `Unknown`: do it again. `Corrupt`.
pub(super) async fn finish(
    store: &dyn ObjectStore,
    catalog: &dyn Catalog,
    begun: &StoreIdentity,
    ctx: &Context,
) -> Result<StoreIdentity> {
    let Some(resume) = &begun.resume else { return Ok(begun.clone()) };
    for partition in &resume.partitions {
        raise(catalog, resume, partition, ctx).await?;
        ctx.phases.reach("resume/raised").await;
    }
    keep(catalog, resume, ctx).await?;
    ctx.phases.reach("resume/kept").await;
    let done = StoreIdentity { resume: None, ..begun.clone() };
    StoreIdentity::replace(store, begun, &done, ctx).await?;
    Ok(done)
}

/// Raises the `flushed_through` of a partition, unless it is raised already.
async fn raise(
    catalog: &dyn Catalog,
    resume: &LogResume,
    partition: &ResumedPartition,
    ctx: &Context,
) -> Result<()> {
    let name = flushed_through_record(partition.partition);
    let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(500));
    for _ in 0..ATTEMPTS {
        let held = catalog.record(&name).await?;
        let (tag, before) = match &held {
            Some((bytes, tag)) => (Some(tag), FlushedThrough::decode(bytes)?),
            None => (None, FlushedThrough::start(LogIncarnation(0))),
        };
        if tag.is_some() && before.position.incarnation >= resume.incarnation {
            return Ok(());
        }
        let position = LogPosition {
            incarnation: resume.incarnation,
            offset: partition.start.max(before.position.offset),
            clock: partition.clock.max(before.position.clock),
            chunk: before.position.chunk,
        };
        let next = FlushedThrough { position, carried: before.carried };
        // Whatever came of it is read in the next round.
        match catalog.put_record(&name, tag, next.encode()).await? {
            RecordPut::Stored(_) => return Ok(()),
            RecordPut::Conflict | RecordPut::Unknown => {
                tokio::time::sleep(backoff.next(&*ctx.ids)).await;
            }
        }
    }
    Err(Error::unknown(format!("it is not known whether {name} was raised; run the command again")))
}

async fn keep(catalog: &dyn Catalog, resume: &LogResume, ctx: &Context) -> Result<()> {
    let name = record_of(resume.incarnation);
    let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(500));
    for _ in 0..ATTEMPTS {
        if catalog.record(&name).await?.is_some() {
            return Ok(());
        }
        match catalog.put_record(&name, None, resume.encode()).await? {
            RecordPut::Stored(_) => return Ok(()),
            RecordPut::Conflict | RecordPut::Unknown => {
                tokio::time::sleep(backoff.next(&*ctx.ids)).await;
            }
        }
    }
    Err(Error::unknown(format!("it is not known whether {name} is kept; run the command again")))
}
