//! The loader: does the work of loads between *pinned* and *prepared*.
//!
//! ```text
//! job        one load from its pinned files to its edit
//! file       one file: adopted, or read and sorted into runs
//! source     where a file's bytes come from
//! sort       a buffer of rows that is sorted and written as a run
//! merge      runs become the load's segments
//! guards     what stops a bad job: pure
//! checkpoint what is done, so that a loader that takes over goes on there
//! ```
//!
//! Runs are segments, and merging them is the engine's merge. Nothing here is visible before the load's edit; whatever
//! a loader leaves behind lies under the load's job and is garbage once the load has ended.

mod checkpoint;
mod file;
mod guards;
mod job;
mod merge;
mod sort;
mod source;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use nacre_engine::Node;
use nacre_runtime::{Context, Shutdown};
use nacre_types::{LoadId, Result};
use parking_lot::Mutex;

/// How the loader works.
#[derive(Debug, Clone)]
pub struct LoaderConfig {
    /// How often it looks for loads that other processes have pinned.
    pub look_every: Duration,
    /// Memory for rows that are being sorted, in bytes, per load at work. More: fewer runs to merge.
    pub sort_bytes: usize,
    /// Loads worked on at once.
    pub loads_at_once: usize,
    /// A segment of a rewritten load is closed at about this size, in bytes of its object.
    pub segment_bytes: u64,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self {
            look_every: Duration::from_millis(500),
            sort_bytes: 192 << 20,
            loads_at_once: 2,
            segment_bytes: 64 << 20,
        }
    }
}

/// Runs until `shutdown`. A load that is under way then goes on at its checkpoint when a loader runs again.
///
/// # Errors
/// None so far: failures are logged and tried again.
pub async fn run(config: LoaderConfig, node: Arc<Node>, ctx: Context, shutdown: Shutdown) -> Result<()> {
    let at_work: Arc<Mutex<HashSet<LoadId>>> = Arc::default();
    let mut duty = node.duty("loader");
    loop {
        if !duty.is_ours().await {
            if sleep(config.look_every, &shutdown).await {
                return Ok(());
            }
            continue;
        }
        match node.loads_to_do().await {
            Ok(to_do) => {
                for (table, load) in to_do {
                    let is_free = at_work.lock().len() < config.loads_at_once;
                    if !is_free || !at_work.lock().insert(load.id) {
                        continue;
                    }
                    let (config, ctx, shutdown, at_work) =
                        (config.clone(), ctx.clone(), shutdown.clone(), at_work.clone());
                    let tasks = ctx.tasks.clone();
                    tasks.spawn("load", async move {
                        job::run(&config, &ctx, &shutdown, &table, &load).await;
                        at_work.lock().remove(&load.id);
                    });
                }
            }
            Err(error) => tracing::warn!(%error, "the loads to do could not be read; it is tried again"),
        }
        tokio::select! {
            () = shutdown.requested() => {
                duty.release().await;
                return Ok(());
            }
            () = node.loads_changed() => {}
            () = tokio::time::sleep(config.look_every) => {}
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
