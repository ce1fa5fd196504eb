//! The writer: turns the tails of the log's partitions into segments, and keeps the number of segments small.
//!
//! It decides *when*; *what* and *how* is the engine's ([`nacre_engine::Node::flush`], [`nacre_engine::Table::compact_once`]).
//! Several writers may run on one store: flush edits fence each other by the offset that they begin at, so a second one
//! costs work, never a row.

use std::sync::Arc;
use std::time::Duration;

use nacre_engine::{FlushMode, Node};
use nacre_runtime::{Context, Shutdown};
use nacre_types::{ErrorKind, PartitionId, Result};

/// When the writer looks and works.
#[derive(Debug, Clone)]
pub struct WriterConfig {
    /// How often it looks whether a tail has grown too large. Shorter: a tighter bound on memory.
    pub look_every: Duration,
    /// How often it looks for segments to merge and loads to seal.
    pub tidy_every: Duration,
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self { look_every: Duration::from_millis(200), tidy_every: Duration::from_secs(1) }
    }
}

/// Runs until `shutdown`. What is not flushed then stays in the log and is read again at the next start.
///
/// # Errors
/// None so far: failures are logged and tried again.
pub async fn run(config: WriterConfig, node: Arc<Node>, ctx: Context, shutdown: Shutdown) -> Result<()> {
    let mut tasks = Vec::new();
    for partition in 0..node.partitions() {
        let (config, node, ctx, shutdown) = (config.clone(), node.clone(), ctx.clone(), shutdown.clone());
        let tasks_of = ctx.tasks.clone();
        tasks.push(tasks_of.spawn("flush", async move {
            flush_when_due(&config, &node, &ctx, &shutdown, PartitionId(partition)).await;
        }));
    }
    let (tidy_node, tidy_shutdown, tidy_config) = (node.clone(), shutdown.clone(), config.clone());
    tasks.push(
        ctx.tasks.spawn("compaction", async move { tidy(&tidy_config, &tidy_node, &tidy_shutdown).await }),
    );
    for task in tasks {
        task.await?;
    }
    Ok(())
}

async fn flush_when_due(
    config: &WriterConfig,
    node: &Arc<Node>,
    ctx: &Context,
    shutdown: &Shutdown,
    partition: PartitionId,
) {
    let mut last = ctx.clock.monotonic();
    let mut through = None;
    let mut duty = node.duty(&format!("writer/{:05}", partition.0));
    while !sleep(config.look_every, shutdown).await {
        if !duty.is_ours().await {
            node.note_flushed(partition, None);
            continue;
        }
        let bytes = node.tail_bytes(partition);
        let began = ctx.clock.monotonic();
        if bytes == 0 {
            node.note_flushed(partition, Some(began));
        }
        let is_due = bytes > 0 && ctx.clock.monotonic().saturating_sub(last) >= node.flush_config().every;
        if !is_due && bytes < node.flush_config().tail_bytes {
            continue;
        }
        last = began;
        match node.flush(partition, FlushMode::Due).await {
            Ok(report) => {
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
                tracing::warn!(%partition, %error, "the flush failed; it is tried again");
            }
        }
    }
    duty.release().await;
}

async fn tidy(config: &WriterConfig, node: &Arc<Node>, shutdown: &Shutdown) {
    let mut duty = node.duty("maintainer");
    while !sleep(config.tidy_every, shutdown).await {
        if !duty.is_ours().await {
            continue;
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
}

/// Sleeps; `true` = stop.
async fn sleep(duration: Duration, shutdown: &Shutdown) -> bool {
    tokio::select! {
        () = shutdown.requested() => true,
        () = tokio::time::sleep(duration) => false,
    }
}
