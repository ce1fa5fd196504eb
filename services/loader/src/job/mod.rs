//! One load, from its pinned files to the edit that brings its layer, by however many loaders there are.
//!
//! ```text
//! planner  what is left to do: a pure function of the pinned files and the results
//! facts    results of units
//! results  … in the store: put once, found by whoever comes next
//! board    claims: who works on what, a hint
//! look     the plan, and looking at files
//! read     files become sorted runs
//! merge    runs become segments
//! finish   guards and edits
//! ```
//!
//! **Claims are hints, results are facts.** A load's work is cut into units whose names follow from the load alone, so
//! all loaders mean the same. What a unit came to is an immutable object that is put if there is none: the first counts,
//! and whoever comes second goes on from it; what he has written lies under the load's job and is garbage. A unit of
//! reading or merging is done in steps, each a result of its own that begins where the one before it ends. So a loader
//! that takes over goes on behind the last step, and nobody keeps a checkpoint that could lag or be overwritten.
//!
//! | what happens | what follows |
//! |---|---|
//! | killed after writing runs, before their result | the step is done again; the runs are garbage |
//! | killed after a result, before the next claim | nothing is lost; its claim counts until its heartbeat is missed |
//! | two do the same unit | the second to put a step finds one, drops its own and leaves the unit |
//! | a sleeper wakes after the load has ended | its objects lie under an ended job; every edit asks for *pinned* |
//! | a result does not decode | its name is passed over, by all: the step is done under the next name |
//! | a result of another plan, other files, other cuts | it has another name: nobody finds it |
//!
//! An error of the world (a store that does not answer) ends this attempt, and the next goes on; an error of a file is a
//! result, so that all of them are told, and the load fails when the phase is done.
//!
//! Why no work list with leases per unit, written by one coordinator? Then the list must be written before anybody works,
//! a coordinator's death stops all, and a lease that lapses wrongly would have to be fenced. Here nothing needs fencing.

mod board;
mod facts;
mod finish;
mod look;
mod merge;
mod planner;
mod read;
mod results;

pub(crate) use facts::{Cursor, Faults, Tally};
pub(crate) use planner::Unit;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nacre_engine::{BeginLoad, LoadError, LoadReport, Node, PinnedFile, PinnedFiles, Table};
use nacre_manifest::{Load, LoadState};
use nacre_runtime::{Context, Shutdown};
use nacre_types::{Error, Result};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::LoaderConfig;
use crate::decode::Opened;
use crate::file;
use crate::merge::Duplicate;
use crate::note::SegmentNote;
use crate::source;
use board::Board;
use facts::Facts;
use planner::{Stage, Work};

/// Why this loader's part in a load ends before the load is prepared.
enum Stop {
    /// The load is wrong: it fails, and says so. What is wrong, and how much there is of it.
    Fail(Vec<LoadError>, u64),
    /// The load is prepared and may not be shown: it fails.
    Refused(Vec<LoadError>),
    /// The load fails once it is known where the two rows are.
    Duplicate(Duplicate),
    /// The world is wrong: try again.
    Later(Error),
    /// Others have ended it, or its caller.
    Over,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        if file::is_the_files_fault(&error) { Self::fail("", error.detail()) } else { Self::Later(error) }
    }
}

impl Stop {
    fn fail(file: &str, detail: &str) -> Self {
        Self::Fail(vec![fault(file, detail)], 1)
    }
}

/// Something wrong with a whole file, or with the load where `file` is empty.
fn fault(file: &str, detail: &str) -> LoadError {
    LoadError { file: file.to_owned(), row: None, column: None, detail: detail.to_owned() }
}

type Done<T> = std::result::Result<T, Stop>;

/// What goes wrong with a load's own records, results and segments is never a fault of its files.
trait OrLater<T> {
    fn or_later(self) -> Done<T>;
}

impl<T> OrLater<T> for Result<T> {
    fn or_later(self) -> Done<T> {
        self.map_err(Stop::Later)
    }
}

/// What a loader's loads share.
pub(crate) struct Around {
    pub(crate) config: LoaderConfig,
    pub(crate) node: Arc<Node>,
    pub(crate) ctx: Context,
    pub(crate) shutdown: Shutdown,
    /// One for each load at work; who only waits for other loaders holds none.
    pub(crate) permits: Semaphore,
}

/// Works on a load until it is prepared, committed, failed or cancelled, or until something does not answer.
pub(crate) async fn run(around: &Around, table: &Arc<Table>, load: &Load) {
    let id = load.id;
    let (mut stop, mut job) = (None, None);
    match Job::open(around, table, load).await {
        Ok(opened) => {
            let job = job.insert(opened);
            if let Err(why) = job.work(&around.permits).await {
                stop = Some(match why {
                    Stop::Duplicate(duplicate) => job.name_duplicate(&duplicate).await,
                    why => why,
                });
            }
            job.in_hand.lock().clear();
            job.tell(true).await;
        }
        Err(why) => stop = Some(why),
    }
    let (errors, count, from) = match stop {
        None => return tracing::info!(load = %id, table = %table.id(), "the load's work is done"),
        Some(Stop::Over) => return tracing::info!(load = %id, "the load has ended without this loader"),
        Some(Stop::Later(error)) => {
            return tracing::warn!(load = %id, %error, "the load is interrupted; it goes on with what is done");
        }
        Some(Stop::Duplicate(duplicate)) => (vec![fault("", &duplicate.detail())], 1, LoadState::Pinned),
        Some(Stop::Fail(errors, count)) => (errors, count, LoadState::Pinned),
        Some(Stop::Refused(errors)) => {
            let count = errors.len() as u64;
            (errors, count, LoadState::Prepared)
        }
    };
    let reason = errors.first().map_or_else(String::new, |error| match &error.file[..] {
        "" => error.detail.clone(),
        file => format!("{file}: {}", error.detail),
    });
    tracing::warn!(load = %id, %reason, count, "the load failed");
    let held = job.and_then(|job| Some(job.report(&job.picture().ok()?))).unwrap_or_default();
    let report = LoadReport { errors, error_count: count, ..held };
    if let Err(error) = table.fail_load(load, from, &reason, &report).await {
        tracing::warn!(load = %id, %error, "that the load failed could not be written; it is tried again");
    }
}

struct Job<'a> {
    config: &'a LoaderConfig,
    ctx: &'a Context,
    shutdown: &'a Shutdown,
    node: &'a Arc<Node>,
    table: &'a Arc<Table>,
    load: &'a Load,
    request: BeginLoad,
    pinned: PinnedFiles,
    facts: Mutex<Facts>,
    /// Units that this process works on.
    in_hand: Mutex<BTreeSet<u128>>,
    board: tokio::sync::Mutex<Board>,
    /// Until when it is told what the work took (monotonic).
    marked: Mutex<Duration>,
}

impl<'a> Job<'a> {
    async fn open(around: &'a Around, table: &'a Arc<Table>, load: &'a Load) -> Done<Self> {
        let Around { config, node, ctx, shutdown, .. } = around;
        let pinned = match load.state {
            LoadState::Prepared => PinnedFiles { files: Vec::new(), skipped: Vec::new(), rows: None },
            _ => table.files_of_load(load).await?,
        };
        Ok(Self {
            config,
            ctx,
            shutdown,
            node,
            table,
            load,
            request: table.load_request(load)?,
            pinned,
            facts: Mutex::default(),
            in_hand: Mutex::default(),
            board: tokio::sync::Mutex::default(),
            marked: Mutex::new(ctx.clock.monotonic()),
        })
    }

    async fn work(&self, permits: &Semaphore) -> Done<()> {
        let acquire = || async {
            tokio::select! {
                () = self.shutdown.requested() => Err(Stop::Later(stopping())),
                permit = permits.acquire() => permit.map_err(|_| Stop::Later(stopping())),
            }
        };
        let (mut runs, mut is_first) = (None, true);
        loop {
            let permit = acquire().await?;
            if self.load.state == LoadState::Prepared {
                return self.commit().await;
            }
            if self.go_on(&mut runs, std::mem::take(&mut is_first)).await? {
                return Ok(());
            }
            // Others have the rest. Their results are looked for, not waited for: claims are hints.
            drop(permit);
            self.wait().await?;
        }
    }

    /// Does what others do not. Answers whether the load is finished; else there is nothing to do here for now.
    async fn go_on(&self, runs: &mut Option<merge::Runs>, is_first: bool) -> Done<bool> {
        self.check()?;
        let mut picture = self.gather().await.or_later()?;
        if is_first && !picture.runs.is_empty() {
            let rows = |notes: &[SegmentNote]| notes.iter().map(|note| note.rows).sum::<u64>();
            let (rows_in_runs, rows_in_segments) = (rows(&picture.runs), rows(&picture.merged));
            tracing::info!(load = %self.load.id, rows_in_runs, rows_in_segments, "going on with what is done");
        }
        loop {
            self.check()?;
            let open = match &picture.stage {
                Stage::Failed(faults) => return Err(Stop::Fail(faults.errors.clone(), faults.count)),
                Stage::Finish(_, segments) => {
                    let is_ours = !self.take(|work| *work == Work::Finish, |_| 1).await?.is_empty();
                    if is_ours {
                        self.finish(&picture, segments).await?;
                    }
                    return Ok(is_ours);
                }
                Stage::Units(open) => open,
            };
            let Some(unit) = open.first() else { return Ok(false) };
            let did = match &unit.work {
                Work::Plan => self.make_plan(unit).await.map(|()| true)?,
                Work::Look(..) => self.look_at_files().await?,
                Work::Read(_) => self.read_files().await?,
                Work::Cut => {
                    self.mark();
                    let opened = self.open_runs(&picture.runs).await?;
                    self.cut(unit, &picture.runs, &opened).await?;
                    *runs = Some(opened);
                    true
                }
                Work::Merge(_) => {
                    let opened = match runs.take() {
                        Some(opened) => opened,
                        None => self.open_runs(&picture.runs).await?,
                    };
                    self.merge_runs(runs.insert(opened)).await?
                }
                Work::Finish => false,
            };
            if !did {
                return Ok(false);
            }
            picture = self.picture().or_later()?;
        }
    }

    async fn wait(&self) -> Done<()> {
        tokio::select! {
            () = self.shutdown.requested() => return Err(Stop::Later(stopping())),
            () = tokio::time::sleep(self.config.look_every) => {}
        }
        self.table.refresh().await.or_later()
    }

    /// Whether to go on.
    fn check(&self) -> Done<()> {
        if self.shutdown.is_requested() {
            return Err(Stop::Later(stopping()));
        }
        let manifest = self.table.manifest();
        match manifest.load(self.load.id) {
            Some(load) if load.state == LoadState::Pinned => Ok(()),
            _ => Err(Stop::Over),
        }
    }

    /// From here on time counts for the next result.
    fn mark(&self) {
        *self.marked.lock() = self.ctx.clock.monotonic();
    }

    /// Seconds since the last result of this process: they add up to the time that it worked.
    fn took(&self) -> f64 {
        let now = self.ctx.clock.monotonic();
        let since = std::mem::replace(&mut *self.marked.lock(), now);
        now.saturating_sub(since).as_secs_f64()
    }

    async fn open_file(&self, pinned: &PinnedFile) -> Result<Opened> {
        source::open(self.table.store(), pinned, &self.config.decode).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.ctx.tasks.spawn_blocking(name, work).await?
    }
}

fn stopping() -> Error {
    Error::unavailable("the process is stopping")
}
