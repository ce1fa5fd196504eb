//! The writer: turns the tails of the log's partitions into segments, and keeps the number of segments small.
//!
//! It decides *when*; *what* and *how* is the engine's ([`nacre_engine::Node::flush`], [`nacre_engine::Table::compact_once`]).
//! Several writers may run on one store: flush edits fence each other by the offset that they begin at, so a second one
//! costs work, never a row.

mod sources;

pub use sources::sources;

use std::sync::Arc;
use std::time::Duration;

use nacre_engine::{Duty, FlushMode, Node};
use nacre_runtime::{Context, Shutdown};
use nacre_types::{ErrorKind, PartitionId, Result};

/// When the writer looks and works.
#[derive(Debug, Clone)]
pub struct WriterConfig {
    /// How often it looks whether a tail has grown too large. Shorter: a tighter bound on memory.
    pub look_every: Duration,
    /// How often it looks for segments to merge and loads to seal.
    pub tidy_every: Duration,
    /// How often it looks for tables that it does not know, where it looks after all of them.
    pub open_every: Duration,
    /// How often it asks its tables whether garbage is to be collected; each is then looked at by its own pace.
    pub collect_every: Duration,
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self {
            look_every: Duration::from_millis(200),
            tidy_every: Duration::from_secs(1),
            open_every: Duration::from_secs(15),
            collect_every: Duration::from_secs(10),
        }
    }
}

/// Which partitions this process flushes, where placement says so.
pub type Assigned = Arc<dyn Fn(PartitionId) -> bool + Send + Sync>;

/// Runs until `shutdown`. What is not flushed then stays in the log and is read again at the next start.
///
/// `assigned`: in a fleet, where each partition has one writer by placement. Without it, whoever has the partition's lease
/// flushes it. Either only saves work twice: what must not happen twice is refused where it is committed.
///
/// # Errors
/// None so far: failures are logged and tried again.
pub async fn run(
    config: WriterConfig,
    node: Arc<Node>,
    assigned: Option<Assigned>,
    ctx: Context,
    shutdown: Shutdown,
) -> Result<()> {
    let mut tasks = Vec::new();
    for partition in 0..node.partitions() {
        let (config, node, ctx, shutdown) = (config.clone(), node.clone(), ctx.clone(), shutdown.clone());
        let (tasks_of, assigned) = (ctx.tasks.clone(), assigned.clone());
        tasks.push(tasks_of.spawn("flush", async move {
            let partition = PartitionId(partition);
            let turn = match assigned {
                Some(assigned) => Turn::Placed(assigned),
                None => Turn::Leased(Box::new(node.duty(&format!("writer/{:05}", partition.0)))),
            };
            flush_when_due(&config, &node, &ctx, &shutdown, partition, turn).await;
        }));
    }
    for task in tasks {
        task.await?;
    }
    Ok(())
}

/// How soon a flush that failed is tried again; twice as long each time,
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// and no longer than this.
const RETRY_MOST: Duration = Duration::from_secs(4);

/// Whose turn it is to flush a partition.
enum Turn {
    Placed(Assigned),
    Leased(Box<Duty>),
}

impl Turn {
    async fn is_ours(&mut self, node: &Node, partition: PartitionId) -> bool {
        match self {
            // A flush begins at the tail's end: it can wait until there is a tail.
            Self::Placed(assigned) => assigned(partition) && node.answers_for(partition),
            Self::Leased(duty) => duty.is_ours().await,
        }
    }

    async fn release(&mut self) {
        if let Self::Leased(duty) = self {
            duty.release().await;
        }
    }
}

async fn flush_when_due(
    config: &WriterConfig,
    node: &Arc<Node>,
    ctx: &Context,
    shutdown: &Shutdown,
    partition: PartitionId,
    mut turn: Turn,
) {
    let mut last = ctx.clock.monotonic();
    let (mut not_before, mut wait) = (Duration::ZERO, RETRY_FIRST);
    let mut through = None;
    while !sleep(config.look_every, shutdown).await {
        if !turn.is_ours(node, partition).await {
            node.note_flushed(partition, None);
            continue;
        }
        let bytes = node.tail_bytes(partition);
        let began = ctx.clock.monotonic();
        if bytes == 0 {
            node.note_flushed(partition, Some(began));
        }
        let is_due = bytes > 0 && ctx.clock.monotonic().saturating_sub(last) >= node.flush_config().every;
        if (!is_due && bytes < node.flush_config().tail_bytes) || began < not_before {
            continue;
        }
        match node.flush(partition, FlushMode::Due).await {
            Ok(report) => {
                (last, wait) = (began, RETRY_FIRST);
                node.note_flushed(partition, Some(began));
                // Rows of quiet tables stay carried for hours; that they still are is no news.
                if through.replace(report.through) == Some(report.through) && report.tables_flushed == 0 {
                    continue;
                }
                tracing::info!(
                    %partition,
                    through = %report.through,
                    tables = report.tables_flushed,
                    rows = report.rows_flushed,
                    carried = report.rows_carried,
                    "flushed"
                );
            }
            Err(error) => {
                node.note_flush_failed();
                // It stays due: a store that was away is not waited for until the next flush would be.
                not_before = ctx.clock.monotonic().saturating_add(wait);
                wait = (wait * 2).min(RETRY_MOST);
                tracing::warn!(%partition, %error, "the flush failed; it is tried again");
            }
        }
    }
    turn.release().await;
}

/// Merges segments, seals loads, settles lateness and collects garbage, until `shutdown`; one process of a store at a time, by a lease.
/// `every_table`: also of tables that nobody has asked this process for.
///
/// # Errors
/// None so far: failures are logged and tried again.
pub async fn tidy(
    config: WriterConfig,
    node: Arc<Node>,
    every_table: bool,
    ctx: Context,
    shutdown: Shutdown,
) -> Result<()> {
    let mut duty = node.duty("maintainer");
    let mut opened: Option<Duration> = None;
    let mut collected: Option<Duration> = None;
    // Held by a round of collecting garbage: one at a time, beside the merging, which is not to wait for it.
    let round = Arc::new(());
    while !sleep(config.tidy_every, &shutdown).await {
        if !duty.is_ours().await {
            continue;
        }
        let now = ctx.clock.monotonic();
        if every_table && opened.is_none_or(|at| now.saturating_sub(at) >= config.open_every) {
            opened = Some(now);
            if let Err(error) = node.open_all_tables().await {
                tracing::warn!(%error, "not every table could be opened; it is tried again");
            }
        }
        let is_due = collected.is_none_or(|at| now.saturating_sub(at) >= config.collect_every);
        if is_due && Arc::strong_count(&round) == 1 {
            collected = Some(now);
            let (node, shutdown, round) = (node.clone(), shutdown.clone(), round.clone());
            ctx.tasks.spawn("garbage", async move {
                collect_garbage(&node, &shutdown).await;
                drop(round);
            });
        }
        for table in node.open_tables() {
            loop {
                match table.compact_once().await {
                    Ok(Some(report)) => tracing::info!(
                        table = %table.id(),
                        inputs = report.inputs,
                        outputs = report.outputs,
                        rows = report.rows_in,
                        "merged segments"
                    ),
                    Ok(None) => break,
                    Err(error) => {
                        // Another process was faster, or a store does not answer: the next round looks again.
                        if error.kind() != ErrorKind::Conflict {
                            tracing::warn!(table = %table.id(), %error, "a compaction failed; it is tried again");
                        }
                        break;
                    }
                }
                if shutdown.is_requested() || !duty.is_ours().await {
                    break;
                }
            }
            if shutdown.is_requested() {
                break;
            }
            if let Err(error) = table.tidy_loads().await {
                tracing::warn!(table = %table.id(), %error, "loads could not be sealed; it is tried again");
            }
            if let Err(error) = table.settle_lateness().await {
                tracing::warn!(table = %table.id(), %error, "max_lateness is not in force yet; it is tried again");
            }
        }
    }
    duty.release().await;
    Ok(())
}

/// One round over the open tables; each says by itself whether it is time to.
async fn collect_garbage(node: &Arc<Node>, shutdown: &Shutdown) {
    for table in node.open_tables() {
        if shutdown.is_requested() {
            return;
        }
        if let Err(error) = table.collect_garbage_when_due().await {
            tracing::warn!(table = %table.id(), %error, "garbage could not be collected; it is tried again");
        }
    }
}

/// Sleeps; `true` = stop.
async fn sleep(duration: Duration, shutdown: &Shutdown) -> bool {
    tokio::select! {
        () = shutdown.requested() => true,
        () = tokio::time::sleep(duration) => false,
    }
}
