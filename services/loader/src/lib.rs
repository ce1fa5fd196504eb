//! The loader: does the work of loads between *pinned* and *prepared*.
//!
//! ```text
//! job        one load from its pinned files to its edit
//! file       one file: adopted, or read and sorted into runs
//! source     where a file's bytes come from
//! decode     files decoded in this process, or in a child
//! child      the decoding child: its caps, its frames, and what it died of
//! sort       a buffer of rows that is sorted and written as a run
//! merge      runs become the load's segments
//! guards     what stops a bad job: pure
//! note       a segment as results name it
//! ```
//!
//! Runs are segments, and merging them is the engine's merge. Nothing here is visible before the load's edit; whatever
//! a loader leaves behind lies under the load's job and is garbage once the load has ended.
//!
//! Several loaders share one load's files, and loads spread over loaders: each begins with those that rank first by a
//! hash of itself and the load, and goes to the next while others hold what is left of one.

pub mod child;
mod decode;
mod file;
mod guards;
mod job;
mod merge;
mod note;
mod sort;
mod source;

pub use decode::Decode;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nacre_engine::Node;
use nacre_runtime::{Context, Shutdown, TaskHandle};
use nacre_types::{LoadId, ProcessId, Result};
use tokio::sync::Semaphore;

use job::Around;

/// How the loader works.
#[derive(Debug, Clone)]
pub struct LoaderConfig {
    /// How often it looks for loads that other processes have pinned.
    pub look_every: Duration,
    /// Memory for rows that are being sorted, in bytes, per load at work. More: fewer runs to merge.
    pub sort_bytes: usize,
    /// Loads worked on at once in this process.
    pub loads_at_once: usize,
    /// What is read as one unit, in bytes of files: small files together, large ones in parts. Smaller: more loaders can
    /// share a load; each unit costs a handful of requests and ends with a short run.
    pub unit_bytes: u64,
    /// Where nothing else is left to do, a unit that shows no new step for so long is done a second time.
    pub patience: Duration,
    /// A segment of a rewritten load is closed at about this size, in bytes of its object, or earlier where `sort_bytes`
    /// is small: several are in memory at a time.
    pub segment_bytes: u64,
    /// Into how many ranges of keys the merge of a load is cut, each merged on a thread of its own.
    pub merge_at_once: usize,
    /// Where strangers' files are decoded.
    pub decode: Decode,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self {
            look_every: Duration::from_millis(500),
            sort_bytes: 192 << 20,
            loads_at_once: 2,
            unit_bytes: 64 << 20,
            patience: Duration::from_secs(60),
            segment_bytes: 64 << 20,
            merge_at_once: 2,
            decode: Decode::InProcess,
        }
    }
}

/// Loads that wait for other loaders, or for their turn, beside those at work.
const WAITING: usize = 16;

/// Runs until `shutdown`, and until the loads at work have come to a point where they can stop. They go on with what is
/// done when a loader runs again. Dropped, it takes them with it, as a crash would.
///
/// # Errors
/// None so far: failures are logged and tried again.
pub async fn run(config: LoaderConfig, node: Arc<Node>, ctx: Context, shutdown: Shutdown) -> Result<()> {
    let mut at_work = AtWork::default();
    let permits = Semaphore::new(config.loads_at_once.max(1));
    let around = Arc::new(Around { config, node, ctx, shutdown, permits });
    let Around { config, node, ctx, shutdown, .. } = &*around;
    loop {
        at_work.0.retain(|_, task| !task.is_finished());
        match node.loads_to_do().await {
            Ok(mut to_do) => {
                to_do.sort_by_key(|(_, load)| rank(node.process(), load.id));
                for (table, load) in to_do {
                    if at_work.0.len() >= config.loads_at_once + WAITING {
                        break;
                    }
                    if at_work.0.contains_key(&load.id) {
                        continue;
                    }
                    let (id, around) = (load.id, around.clone());
                    let task = ctx.tasks.spawn("load", async move { job::run(&around, &table, &load).await });
                    at_work.0.insert(id, task);
                }
            }
            Err(error) => tracing::warn!(%error, "the loads to do could not be read; it is tried again"),
        }
        tokio::select! {
            () = shutdown.requested() => break,
            () = node.loads_changed() => {}
            () = tokio::time::sleep(config.look_every) => {}
        }
    }
    for (load, task) in at_work.0.drain() {
        if let Err(error) = task.await {
            tracing::error!(%load, %error, "the load's task failed");
        }
    }
    Ok(())
}

/// In which order a process takes loads on: another one for each, so that they spread.
fn rank(process: ProcessId, load: LoadId) -> u128 {
    xxhash_rust::xxh3::xxh3_128(format!("{process}/{load}").as_bytes())
}

/// Loads at work here.
#[derive(Default)]
struct AtWork(HashMap<LoadId, TaskHandle<()>>);

impl Drop for AtWork {
    fn drop(&mut self) {
        for task in self.0.values() {
            task.abort();
        }
    }
}
