//! One load, from its pinned files to the edit that brings its layer.
//!
//! 1. Every file is looked at: it can be adopted, or has to be rewritten, or is wrong.
//! 2. Of the adoptable files those stay adopted whose keys lie apart from those of every other file: a get must not
//!    have to look into every file of a load, and one key and version twice is only found where rows meet in a merge.
//!    The others are rewritten too.
//! 3. Files to rewrite are read into sorted runs, and the runs are merged.
//! 4. Guards; then the edit *prepared*, and if that was asked for the edit *committed*.
//!
//! After each run and merged segment a checkpoint says what is done. An error of the world (a store that does not
//! answer) ends this attempt, and the next goes on at the checkpoint; an error of a file fails the load.

mod look;
mod runs;
mod told;

use std::sync::Arc;
use std::time::Duration;

use nacre_engine::{BeginLoad, LoadError, LoadMode, LoadReport, PinnedFile, Table};
use nacre_manifest::{Layer, Load, LoadGoal, LoadState, Manifest, Segment};
use nacre_runtime::{Context, Shutdown};
use nacre_segment::foreign::LoadColumns;
use nacre_types::{Error, KeySchema, Result, limits};

use crate::LoaderConfig;
use crate::checkpoint::Checkpoint;
use crate::decode::Opened;
use crate::file::{self, RowRules};
use crate::guards::{Brings, objections};
use crate::source;

/// Why a load ends without being prepared.
enum Stop {
    /// The load is wrong: it fails, and says so.
    Fail(Vec<LoadError>, u64),
    /// The world is: try again.
    Later(Error),
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

/// What is wrong with the files of a load: the first thousand, and how many in all.
#[derive(Default)]
struct Faults {
    errors: Vec<LoadError>,
    count: u64,
}

impl Faults {
    fn add(&mut self, errors: Vec<LoadError>, count: u64) {
        self.count += count;
        self.errors.extend(errors);
        self.errors.truncate(limits::LOAD_ERRORS);
    }

    /// Takes in an error of a file; one of the world ends the attempt.
    fn add_or_stop(&mut self, file: &str, error: Error) -> Done<()> {
        if !file::is_the_files_fault(&error) {
            return Err(Stop::Later(error));
        }
        self.add(vec![fault(file, error.detail())], 1);
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn check(self) -> Done<()> {
        if self.is_empty() { Ok(()) } else { Err(Stop::Fail(self.errors, self.count)) }
    }
}

type Done<T> = std::result::Result<T, Stop>;

/// Works on a load until it is prepared, committed, failed or cancelled, or until something does not answer.
pub(crate) async fn run(
    config: &LoaderConfig,
    ctx: &Context,
    shutdown: &Shutdown,
    table: &Arc<Table>,
    load: &Load,
) {
    let id = load.id;
    let mut job =
        Job { config, ctx, shutdown, table, load, done: Checkpoint::default(), told_at: Duration::ZERO };
    match job.work().await {
        Ok(()) => tracing::info!(load = %id, table = %table.id(), "the load's work is done"),
        Err(Stop::Later(error)) => {
            tracing::warn!(load = %id, %error, "the load is interrupted; it goes on at its checkpoint");
        }
        Err(Stop::Fail(errors, error_count)) => {
            let reason = errors.first().map_or_else(String::new, |error| match &error.file[..] {
                "" => error.detail.clone(),
                file => format!("{file}: {}", error.detail),
            });
            tracing::warn!(load = %id, %reason, error_count, "the load failed");
            let report = LoadReport { errors, error_count, ..job.report() };
            if let Err(error) = table.fail_load(load, &reason, &report).await {
                tracing::warn!(load = %id, %error, "that the load failed could not be written; it is tried again");
            }
        }
    }
}

struct Job<'a> {
    config: &'a LoaderConfig,
    ctx: &'a Context,
    shutdown: &'a Shutdown,
    table: &'a Arc<Table>,
    load: &'a Load,
    done: Checkpoint,
    told_at: Duration,
}

impl Job<'_> {
    async fn work(&mut self) -> Done<()> {
        if self.load.state == LoadState::Prepared {
            return Ok(self.table.commit_prepared(self.load.id).await?);
        }
        self.read_checkpoint().await?;
        let request = self.table.load_request(self.load)?;
        let pinned = self.table.files_of_load(self.load).await?;
        let progress = &mut self.done.progress;
        progress.files = pinned.files.len() as u64;
        progress.bytes = pinned.files.iter().map(|file| file.bytes).sum();
        let rules = self.rules(&request, &pinned.files).await?;
        self.tell(false).await;

        let began = self.ctx.clock.monotonic();
        self.look_at_files(&pinned.files, &rules).await?;
        self.keep_apart(&pinned.files);
        self.phase("validating", began);
        self.tell(true).await;

        loop {
            let began = self.ctx.clock.monotonic();
            self.read_files(&pinned.files, &rules, request.on_duplicate).await?;
            self.phase("sorting", began);
            if !self.keep_apart_from_runs() {
                break;
            }
        }
        let began = self.ctx.clock.monotonic();
        self.merge_runs(&pinned.files, &rules, request.on_duplicate).await?;
        self.phase("merging", began);

        let segments = self.segments()?;
        self.guard(&request, &segments, pinned.rows)?;
        let hidden = match request.mode {
            LoadMode::Merge => self.done.files.values().map(|file| file.hidden).sum(),
            LoadMode::Replace => 0,
        };
        let mut report = self.report();
        report.files.extend(pinned.skipped);
        let declares = rules.declares.then(|| rules.key.clone());
        self.table.finish_prepare(self.load, segments, hidden, &report, declares).await?;
        // The goal may have been raised while this worked.
        let goal = self.table.manifest().load(self.load.id).map_or(self.load.goal, |load| load.goal);
        match goal {
            LoadGoal::Commit => self.table.commit_prepared(self.load.id).await?,
            LoadGoal::Prepare => self.table.leave_prepared(self.load.id).await?,
        }
        Ok(())
    }

    fn guard(&self, request: &BeginLoad, segments: &[Segment], rows_said: Option<u64>) -> Done<()> {
        let brings = Brings {
            mode: request.mode,
            rows: segments.iter().map(|segment| segment.rows).sum(),
            rows_in_files: self.done.files.values().map(|file| file.report.rows).sum(),
            tombstones: segments.iter().map(|segment| segment.tombstones).sum(),
            rows_before: rows_in_sight(&self.table.manifest()),
            rows_said,
        };
        let errors: Vec<LoadError> =
            objections(&request.guards, brings).into_iter().map(|detail| fault("", &detail)).collect();
        let mut faults = Faults::default();
        let count = errors.len() as u64;
        faults.add(errors, count);
        faults.check()
    }

    fn report(&self) -> LoadReport {
        let files = self.done.files.values().map(|file| file.report.clone()).collect();
        LoadReport { files, errors: Vec::new(), error_count: 0, progress: self.done.progress.clone() }
    }

    fn phase(&mut self, name: &str, began: Duration) {
        let took = self.ctx.clock.monotonic().saturating_sub(began).as_secs_f64();
        *self.done.progress.seconds.entry(name.to_owned()).or_default() += took;
    }

    /// Whether to go on.
    fn check(&self) -> Result<()> {
        if self.shutdown.is_requested() {
            return Err(Error::unavailable("the process is stopping"));
        }
        if !self.table.is_load_under_way(self.load.id) {
            // Not the load's fault: there is nothing left that could fail.
            return Err(Error::unavailable("the load was cancelled"));
        }
        Ok(())
    }

    async fn rules(&self, request: &BeginLoad, files: &[PinnedFile]) -> Done<RowRules> {
        let columns = request.columns.clone().map_or_else(LoadColumns::default, |names| LoadColumns {
            key: names.key,
            value: names.value,
            pack: names.pack,
            version: names.version,
            expires_at: names.expires_at,
            delete: names.delete,
        });
        let manifest = self.table.manifest();
        let (key, declares) = match &manifest.settings().key {
            Some(schema) => (schema.clone(), false),
            None if columns.key.is_empty() || files.is_empty() => (KeySchema::Bytes, false),
            None => (self.declared_key(&columns, files).await?, true),
        };
        if declares {
            self.table.check_key_declaration(&key)?;
        }
        // A load's own floor excepts it; the others hide what lies below them.
        let hidden_below = manifest.floors().iter().map(|floor| floor.version).max().unwrap_or(i64::MIN);
        Ok(RowRules {
            columns,
            key,
            declares,
            version: self.load.version,
            settings: manifest.settings().clone(),
            begun_at: self.load.begun_at_micros,
            late_below: RowRules::late_below(&manifest, self.load.begun_at_micros, self.load.lateness_micros),
            hidden_below,
        })
    }

    /// What the first file that can be read makes of the key columns. Files that differ from it are told when they
    /// are read.
    async fn declared_key(&self, columns: &LoadColumns, files: &[PinnedFile]) -> Done<KeySchema> {
        let mut faults = Faults::default();
        for pinned in files {
            self.check().map_err(Stop::Later)?;
            let declared = match self.open(pinned).await {
                Ok(opened) => {
                    let (columns, folders) = (columns.clone(), source::folder_columns(&pinned.name));
                    self.blocking("load-declare-key", move || opened.declare_key(&columns, &folders)).await
                }
                Err(error) => Err(error),
            };
            match declared {
                Ok(schema) => return Ok(schema),
                Err(error) => faults.add_or_stop(&pinned.name, error)?,
            }
        }
        faults.check()?;
        Ok(KeySchema::Bytes)
    }

    async fn open(&self, pinned: &PinnedFile) -> Result<Opened> {
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

/// Rows in segments that no floor hides as a whole: what a replace is compared with. Without the floors every replace
/// of the same size within one undo window would seem to shrink the table.
fn rows_in_sight(manifest: &Manifest) -> u64 {
    let floor = manifest.floors().iter().max_by_key(|floor| floor.rank());
    let is_in_sight = |layer: Layer, max_version: i64| match layer {
        Layer::Loaded(id) => {
            let Some(load) = manifest.load(id).filter(|load| load.state == LoadState::Committed) else {
                return false;
            };
            floor.is_none_or(|floor| {
                floor.load == id
                    || max_version > floor.version
                    || (max_version == floor.version && load.commit > Some(floor.commit))
            })
        }
        Layer::Streamed { .. } | Layer::Mixed { .. } => {
            floor.is_none_or(|floor| max_version >= floor.version)
        }
    };
    manifest
        .segments()
        .filter(|segment| is_in_sight(segment.layer(), segment.max_version()))
        .map(|segment| segment.rows())
        .fold(0, u64::saturating_add)
}
