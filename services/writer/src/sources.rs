//! Who consumes which partition of which source.
//!
//! One consumer per partition of a topic and table, a task each. In a fleet they are placed over the writers like
//! partitions of the log; otherwise whoever has a table's lease consumes all of its partitions. Either only saves work
//! twice: an edit of a second consumer is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nacre_engine::{Duty, Followed, Node, SourcePart};
use nacre_runtime::{Context, Shutdown};
use nacre_types::{ErrorKind, Result, Seq, TableId};
use tokio::sync::mpsc;

use crate::{Assigned, WriterConfig, sleep};

/// After anything but a stop a consumer begins again this soon.
const AGAIN: Duration = Duration::from_secs(1);
/// Ends of consumers that are told at once.
const ENDS: usize = 64;

/// A consumer that runs, or ended.
enum Consumer {
    Runs(Arc<AtomicBool>),
    /// It begins again then, or when the source is declared anew.
    Waits {
        until: Duration,
        declared: Option<Seq>,
    },
}

struct Ended {
    part: SourcePart,
    /// Which of the consumers of the part.
    which: Arc<AtomicBool>,
    result: Result<Followed>,
}

/// Consumes sources until `shutdown`.
///
/// # Errors
/// None so far: failures are logged and tried again.
pub async fn sources(
    config: WriterConfig,
    node: Arc<Node>,
    assigned: Option<Assigned>,
    ctx: Context,
    shutdown: Shutdown,
) -> Result<()> {
    let mut duties: BTreeMap<TableId, Duty> = BTreeMap::new();
    let mut consumers: BTreeMap<SourcePart, Consumer> = BTreeMap::new();
    let mut looked: Option<Duration> = None;
    // Those that do not find room wait with their end.
    let (ended, mut ends) = mpsc::channel::<Ended>(ENDS);
    while !sleep(config.look_every, &shutdown).await {
        let now = ctx.clock.monotonic();
        if looked.is_none_or(|at| now.saturating_sub(at) >= config.open_every) {
            looked = Some(now);
            // Opens the tables, so that the next line finds them.
            if let Err(error) = node.source_parts().await {
                tracing::warn!(%error, "not every source could be looked at; it is tried again");
            }
        }
        while let Ok(Ended { part, which, result }) = ends.try_recv() {
            // One that was let go and ended late is not the one that runs now.
            let runs = |known: &Consumer| matches!(known, Consumer::Runs(runs) if Arc::ptr_eq(runs, &which));
            if consumers.get(&part).is_some_and(runs) {
                consumers.insert(part, rests(&node, part, &result, now));
            }
        }
        let all: BTreeSet<SourcePart> = node.open_source_parts().into_iter().collect();
        let mut ours = BTreeSet::new();
        match &assigned {
            Some(assigned) => ours.extend(all.iter().filter(|part| assigned(part.placed_as())).copied()),
            None => {
                let tables: BTreeSet<TableId> = all.iter().map(|part| part.table).collect();
                for table in tables {
                    let duty = duties.entry(table).or_insert_with(|| node.duty(&format!("source/{table}")));
                    if duty.is_ours().await {
                        ours.extend(all.iter().filter(|part| part.table == table).copied());
                    }
                }
            }
        }
        consumers.retain(|part, consumer| {
            let stays = ours.contains(part);
            if !stays {
                if let Consumer::Runs(goes_on) = consumer {
                    goes_on.store(false, Ordering::Relaxed);
                }
                node.forget_source(*part);
            }
            stays
        });
        for part in ours {
            if may_begin(&node, consumers.get(&part), part, now) {
                let goes_on = Arc::new(AtomicBool::new(true));
                consumers.insert(part, Consumer::Runs(goes_on.clone()));
                let (node, ended, stop) = (node.clone(), ended.clone(), shutdown.clone());
                let which = goes_on.clone();
                ctx.tasks.spawn("source", async move {
                    let goes_on = move || goes_on.load(Ordering::Relaxed) && !stop.is_requested();
                    let result = node.follow_source(part, &goes_on).await;
                    // Nobody listens any more where everything ends.
                    drop(ended.send(Ended { part, which, result }).await);
                });
            }
        }
    }
    for duty in duties.values_mut() {
        duty.release().await;
    }
    Ok(())
}

fn declared(node: &Node, part: SourcePart) -> Option<Seq> {
    let table = node.open_tables().into_iter().find(|table| table.id() == part.table)?;
    table.manifest().source().map(|source| source.declared)
}

fn may_begin(node: &Node, consumer: Option<&Consumer>, part: SourcePart, now: Duration) -> bool {
    match consumer {
        None => true,
        Some(Consumer::Runs(_)) => false,
        Some(Consumer::Waits { until, declared: then }) => now >= *until || declared(node, part) != *then,
    }
}

fn rests(node: &Node, part: SourcePart, result: &Result<Followed>, now: Duration) -> Consumer {
    let wait = match result {
        Ok(_) => Duration::ZERO,
        Err(error) => {
            // One that stopped has said so.
            let is_stop = error.code() == "source-stopped";
            if error.kind() != ErrorKind::Conflict && !is_stop {
                tracing::warn!(table = %part.table, partition = part.partition, %error, "a source is not read; it is tried again");
            }
            // A build or a setting does not change by itself.
            if is_stop || error.kind() == ErrorKind::Invalid {
                node.source_config().retry_every
            } else {
                AGAIN
            }
        }
    };
    Consumer::Waits { until: now + wait, declared: declared(node, part) }
}
