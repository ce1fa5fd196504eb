//! One load, from its pinned files to the edit that brings its layer.
//!
//! 1. Every file is looked at: it can be adopted, or has to be rewritten, or is wrong.
//! 2. Of the adoptable files those stay adopted whose key ranges lie apart: a get must not have to look into every
//!    file of a load. The others are rewritten too.
//! 3. Files to rewrite are read into sorted runs, and the runs are merged.
//! 4. Guards; then the edit *prepared*, and if that was asked for the edit *committed*.
//!
//! After each file, run and merged segment a checkpoint says what is done. An error of the world (a store that does
//! not answer) ends this attempt, and the next goes on at the checkpoint; an error of a file fails the load.

use std::sync::Arc;
use std::time::Duration;

use nacre_engine::{Built, LoadError, LoadMode, LoadReport, LoadStatus, PinnedFile, SegmentSink, Table};
use nacre_manifest::{IndexSpan, Layer, Load, LoadGoal, LoadState, Location, Segment};
use nacre_runtime::{Context, Shutdown};
use nacre_segment::WriterSettings;
use nacre_segment::foreign::{Caps, LoadColumns, declare_key};
use nacre_store::{GetOptions, ObjectPath, PutOutcome};
use nacre_types::{Error, KeySchema, Result, SegmentId, limits};
use tokio::sync::mpsc;

use crate::LoaderConfig;
use crate::checkpoint::{Checkpoint, FileDone, SegmentNote};
use crate::file::{self, Filled, Outcome, RowRules};
use crate::guards::{Brings, objections};
use crate::merge::{Unique, merge};
use crate::sort::SortBuffer;
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
        let error = LoadError { file: file.to_owned(), row: None, column: None, detail: detail.to_owned() };
        Self::Fail(vec![error], 1)
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
    let mut job = Job {
        config,
        ctx,
        shutdown,
        table,
        load,
        done: Checkpoint::default(),
        told_at: Duration::ZERO,
        checkpoints: 0,
    };
    match job.work().await {
        Ok(()) => tracing::info!(load = %id, table = %table.id(), "the load's work is done"),
        Err(Stop::Later(error)) => {
            tracing::warn!(load = %id, %error, "the load is interrupted; it goes on at its checkpoint");
        }
        Err(Stop::Fail(errors, error_count)) => {
            let reason = errors.first().map_or_else(String::new, |error| error.detail.clone());
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
    checkpoints: u32,
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
        let columns = request.columns.clone().map_or_else(LoadColumns::default, |names| LoadColumns {
            key: names.key,
            value: names.value,
            pack: names.pack,
            version: names.version,
            expires_at: names.expires_at,
            delete: names.delete,
        });
        let rules = self.rules(columns, &pinned.files).await?;
        self.tell(false).await;

        let began = self.ctx.clock.monotonic();
        self.look_at_files(&pinned.files, &rules).await?;
        self.keep_apart(&pinned.files);
        self.phase("validating", began);

        let began = self.ctx.clock.monotonic();
        self.tell(true).await;
        self.read_files(&pinned.files, &rules, request.on_duplicate).await?;
        self.phase("sorting", began);
        let began = self.ctx.clock.monotonic();
        self.merge_runs(request.on_duplicate).await?;
        self.phase("merging", began);

        let segments = self.segments()?;
        let brings = Brings {
            mode: request.mode,
            rows: segments.iter().map(|segment| segment.rows).sum(),
            tombstones: segments.iter().map(|segment| segment.tombstones).sum(),
            rows_before: self.table.manifest().rows(),
            rows_said: pinned.rows,
        };
        let objections = objections(&request.guards, brings);
        if !objections.is_empty() {
            let errors: Vec<LoadError> = objections
                .into_iter()
                .map(|detail| LoadError { file: String::new(), row: None, column: None, detail })
                .collect();
            let count = errors.len() as u64;
            return Err(Stop::Fail(errors, count));
        }
        let hidden = match request.mode {
            LoadMode::Merge => self.done.files.values().map(|file| file.hidden).sum(),
            LoadMode::Replace => 0,
        };
        let mut report = self.report();
        report.files.extend(pinned.skipped);
        self.table.finish_prepare(self.load, segments, hidden, &report).await?;
        // The goal may have been raised while this worked.
        let goal = self.table.manifest().load(self.load.id).map_or(self.load.goal, |load| load.goal);
        Ok(match goal {
            LoadGoal::Commit => self.table.commit_prepared(self.load.id).await?,
            LoadGoal::Prepare => self.table.leave_prepared(self.load.id).await?,
        })
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
    fn check(&self) -> Done<()> {
        if self.shutdown.is_requested() {
            return Err(Stop::Later(Error::unavailable("the process is stopping")));
        }
        if !self.table.is_load_under_way(self.load.id) {
            return Err(Stop::Later(Error::conflict("the load was cancelled")));
        }
        Ok(())
    }

    async fn rules(&self, columns: LoadColumns, files: &[PinnedFile]) -> Done<RowRules> {
        let table = self.table;
        let manifest = table.manifest();
        let key = match (&manifest.settings().key, files.first()) {
            (Some(schema), _) => schema.clone(),
            (None, None) => KeySchema::Bytes,
            (None, Some(first)) => {
                let opened = source::open(table.store(), first).await.map_err(|e| named(first, e))?;
                let (named_columns, folders) = (columns.clone(), source::folder_columns(&first.name));
                let declare = move || declare_key(&*opened, &named_columns, &folders, &Caps::default());
                let schema = self.blocking("load-declare-key", declare).await.map_err(|e| named(first, e))?;
                if !columns.key.is_empty() {
                    table.declare_key(schema.clone()).await?;
                }
                schema
            }
        };
        // A load's own floor excepts it; the others hide what lies below them.
        let hidden_below = manifest.floors().iter().map(|floor| floor.version).max().unwrap_or(i64::MIN);
        Ok(RowRules {
            columns,
            key,
            version: self.load.version,
            settings: manifest.settings().clone(),
            begun_at: self.load.begun_at_micros,
            late_below: RowRules::late_below(&manifest, self.load.begun_at_micros, self.load.lateness_micros),
            hidden_below,
        })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.ctx.tasks.spawn_blocking(name, work).await?
    }

    /// Step 1: which files can be adopted.
    async fn look_at_files(&mut self, files: &[PinnedFile], rules: &RowRules) -> Done<()> {
        let mut errors = Vec::new();
        let mut error_count = 0;
        for pinned in files {
            self.check()?;
            if self.done.files.contains_key(&pinned.name) {
                continue;
            }
            match self.look_at_file(pinned, rules).await {
                Ok(done) => {
                    self.done.files.insert(pinned.name.clone(), done);
                }
                Err(error) if file::is_the_files_fault(&error) => {
                    error_count += 1;
                    if errors.len() < limits::LOAD_ERRORS {
                        let detail = error.detail().to_owned();
                        errors.push(LoadError { file: pinned.name.clone(), row: None, column: None, detail });
                    }
                }
                Err(error) => return Err(Stop::Later(error)),
            }
            self.tell_now_and_then(false).await;
        }
        if error_count > 0 { Err(Stop::Fail(errors, error_count)) } else { Ok(()) }
    }

    async fn look_at_file(&self, pinned: &PinnedFile, rules: &RowRules) -> Result<FileDone> {
        let opened = source::open(self.table.store(), pinned).await?;
        let (name, asked) = (pinned.name.clone(), rules.clone());
        let outcome = self.blocking("load-look", move || file::look(&opened, &name, &asked)).await?;
        source::check_unchanged(self.table.store(), pinned).await?;
        let adopted = match outcome {
            Outcome::Rewrite { reason, hint } => {
                return Ok(FileDone {
                    report: file::report(pinned, 0, "rewritten", Some((reason, hint))),
                    adopted: None,
                    read: false,
                    hidden: 0,
                });
            }
            Outcome::Adopt(adopted) => adopted,
        };
        let summary = &adopted.summary;
        let id = SegmentId(self.ctx.ids.random_u128());
        let (table, job) = (self.table.id(), self.load.job);
        let to = ObjectPath::new(&format!("tables/{table}/{job}/{id}.parquet"))?;
        let from = ObjectPath::new(&pinned.path)?;
        let tag = match self.table.store().copy(&from, &to, &source::tag(pinned)).await? {
            PutOutcome::Stored(tag) => tag,
            PutOutcome::AlreadyExists => self.table.store().head(&to).await?.tag,
            PutOutcome::Mismatch => {
                return Err(Error::invalid("the file was changed after the load's files were pinned")
                    .with_code("load-file-changed"));
            }
        };
        let index = adopted.index.encode();
        let length = index.len() as u64;
        let index_path = self.table.put_load_object(self.load, &format!("{id}.index"), index).await?;
        let segment = Segment {
            id,
            location: Location::Adopted {
                path: to.as_str().to_owned(),
                tag: tag.etag,
                version_id: tag.version_id,
                index_path: index_path.as_str().to_owned(),
            },
            index: IndexSpan { offset: 0, length },
            layer: Layer::Loaded(self.load.id),
            min_key: summary.min_key.clone(),
            max_key: summary.max_key.clone(),
            min_version: summary.min_version,
            max_version: summary.max_version,
            rows: summary.rows,
            tombstones: summary.tombstones,
            bytes: summary.bytes,
            max_expires_at: summary.max_expires_at,
            with_place: false,
            exact_places: true,
        };
        // Exact where all or none of the file's rows are hidden; rows between are told as none.
        let hidden = if summary.max_version < rules.hidden_below { summary.rows } else { 0 };
        let outcome = if pinned.staged { "adopted" } else { "copied" };
        Ok(FileDone {
            report: file::report(pinned, summary.rows, outcome, None),
            adopted: Some(SegmentNote::of(&segment)),
            read: true,
            hidden,
        })
    }

    /// Step 2: adopted files whose keys meet those of an earlier one are rewritten.
    fn keep_apart(&mut self, files: &[PinnedFile]) {
        let (load, job) = (self.load.id, self.load.job);
        let mut ranges: Vec<(String, Segment)> = files
            .iter()
            .filter_map(|file| {
                let note = self.done.files.get(&file.name)?.adopted.as_ref()?;
                Some((file.name.clone(), note.to_segment(load, job).ok()?))
            })
            .collect();
        ranges.sort_by(|a, b| a.1.min_key.cmp(&b.1.min_key));
        let mut last: Option<(String, bytes::Bytes)> = None;
        for (name, segment) in ranges {
            match &last {
                Some((other, max_key)) if segment.min_key <= *max_key => {
                    if let Some(done) = self.done.files.get_mut(&name) {
                        done.adopted = None;
                        done.read = false;
                        done.hidden = 0;
                        done.report.outcome = "rewritten".to_owned();
                        done.report.reason = Some(format!("its keys meet those of {other}"));
                        done.report.hint = Some(
                            "partition by key range before sorting, so that files do not overlap".to_owned(),
                        );
                    }
                }
                _ => last = Some((name, segment.max_key)),
            }
        }
        let files = self.done.files.values();
        self.done.progress.adopted_files = files.clone().filter(|file| file.adopted.is_some()).count() as u64;
        self.done.progress.rewritten_files = files.filter(|file| file.adopted.is_none()).count() as u64;
        self.count_done();
    }

    fn count_done(&mut self) {
        let files = self.done.files.values();
        self.done.progress.files_done = files.clone().filter(|file| file.read).count() as u64;
        self.done.progress.rows = files.map(|file| file.report.rows).sum();
    }

    /// Step 3: files become sorted runs.
    async fn read_files(
        &mut self,
        files: &[PinnedFile],
        rules: &RowRules,
        on_duplicate: nacre_engine::OnDuplicate,
    ) -> Done<()> {
        let mut errors = Vec::new();
        let mut error_count = 0;
        for pinned in files {
            self.check()?;
            if self.done.files.get(&pinned.name).is_none_or(|done| done.read) {
                continue;
            }
            let read = match self.read_file(pinned, rules, on_duplicate).await {
                Ok(read) => read,
                Err(error) if file::is_the_files_fault(&error) => {
                    let detail = error.detail().to_owned();
                    let error = LoadError { file: pinned.name.clone(), row: None, column: None, detail };
                    file::Read { errors: vec![error], error_count: 1, ..file::Read::default() }
                }
                Err(error) => return Err(Stop::Later(error)),
            };
            error_count += read.error_count;
            errors.extend(read.errors);
            errors.truncate(limits::LOAD_ERRORS);
            if let Some(done) = self.done.files.get_mut(&pinned.name) {
                done.read = true;
                done.report.rows = read.rows;
                done.hidden = read.hidden;
            }
            self.done.rows_read.remove(&pinned.name);
            self.count_done();
            if error_count == 0 {
                self.write_checkpoint().await?;
            }
        }
        if error_count > 0 { Err(Stop::Fail(errors, error_count)) } else { Ok(()) }
    }

    async fn read_file(
        &mut self,
        pinned: &PinnedFile,
        rules: &RowRules,
        on_duplicate: nacre_engine::OnDuplicate,
    ) -> Result<file::Read> {
        let opened = source::open(self.table.store(), pinned).await?;
        let (give_empty, mut empty) = mpsc::channel::<SortBuffer>(2);
        let (give_filled, mut filled) = mpsc::channel::<Filled>(1);
        for _ in 0..2 {
            // The channel holds two.
            drop(give_empty.try_send(SortBuffer::new(self.config.sort_bytes / 2)));
        }
        let skip = self.done.rows_read.get(&pinned.name).copied().unwrap_or(0);
        let (name, asked) = (pinned.name.clone(), rules.clone());
        let reading = self.ctx.tasks.spawn_blocking("load-read", move || {
            file::read(opened, &name, &asked, skip, &mut empty, &give_filled)
        });
        let mut sort_error = None;
        while let Some(Filled { buffer, rows_read }) = filled.recv().await {
            if !self.table.is_load_under_way(self.load.id) || self.shutdown.is_requested() {
                break;
            }
            match self.write_run(buffer, on_duplicate).await {
                Ok(buffer) => {
                    if rows_read != u64::MAX {
                        self.done.rows_read.insert(pinned.name.clone(), rows_read);
                        self.write_checkpoint().await?;
                    }
                    // The reader may have ended.
                    drop(give_empty.try_send(buffer));
                }
                Err(error) => {
                    sort_error = Some(error);
                    break;
                }
            }
        }
        drop((filled, give_empty));
        let read = reading.await?;
        if let Some(error) = sort_error {
            return Err(error);
        }
        let read = read?;
        source::check_unchanged(self.table.store(), pinned).await?;
        Ok(read)
    }

    /// Sorts a buffer and puts it as a run. Answers the buffer, empty.
    async fn write_run(
        &mut self,
        buffer: SortBuffer,
        on_duplicate: nacre_engine::OnDuplicate,
    ) -> Result<SortBuffer> {
        if buffer.is_empty() {
            return Ok(buffer);
        }
        let ids = self.ctx.ids.clone();
        let sorted = self.blocking("load-sort", move || {
            let mut buffer = buffer;
            buffer.sort();
            let mut built = Vec::new();
            let mut emit = |segment: Built| {
                built.push(segment);
                Ok(())
            };
            let mut sink = SegmentSink::new(&*ids, WriterSettings::default(), u64::MAX, &mut emit);
            let mut unique = Unique::new(on_duplicate);
            for row in buffer.rows() {
                if unique.admits(&row)? {
                    sink.push(&row)?;
                }
            }
            sink.finish()?;
            buffer.clear();
            Ok((built, buffer))
        });
        let (built, buffer) = sorted.await?;
        for built in built {
            let note = self.put(built).await?;
            self.done.runs.push(note);
        }
        Ok(buffer)
    }

    async fn put(&mut self, built: Built) -> Result<SegmentNote> {
        let segment = built.to_segment(Location::Job(self.load.job), Layer::Loaded(self.load.id), true);
        self.table.put_load_segment(&segment, &built).await?;
        self.done.progress.bytes_moved += segment.bytes;
        Ok(SegmentNote::of(&segment))
    }

    /// Step 3, second half: runs become segments. A single run is one already.
    async fn merge_runs(&mut self, on_duplicate: nacre_engine::OnDuplicate) -> Done<()> {
        if self.done.merge_done {
            return Ok(());
        }
        if self.done.runs.len() < 2 {
            self.done.merged = self.done.runs.clone();
            self.done.merge_done = true;
            return Ok(());
        }
        let mut runs = Vec::with_capacity(self.done.runs.len());
        for note in &self.done.runs {
            runs.push(self.table.open_run(&note.to_segment(self.load.id, self.load.job)?).await?);
        }
        let behind = match self.done.merged.last() {
            Some(note) => Some(note.to_segment(self.load.id, self.load.job)?.max_key),
            None => None,
        };
        let (send, mut built) = mpsc::channel::<Built>(1);
        let (ids, target) = (self.ctx.ids.clone(), self.config.segment_bytes);
        let merging = self.ctx.tasks.spawn_blocking("load-merge", move || {
            let mut emit = |segment: Built| {
                send.blocking_send(segment)
                    .map_err(|_| Error::unavailable("the load was given up").with_code("load-given-up"))
            };
            let sink = SegmentSink::new(&*ids, WriterSettings::default(), target, &mut emit);
            merge(runs, behind.as_deref(), on_duplicate, sink)
        });
        while let Some(segment) = built.recv().await {
            self.check()?;
            let note = self.put(segment).await?;
            self.done.merged.push(note);
            self.write_checkpoint().await?;
        }
        merging.await??;
        self.done.merge_done = true;
        Ok(self.write_checkpoint().await?)
    }

    fn segments(&self) -> Result<Vec<Segment>> {
        let adopted = self.done.files.values().filter_map(|file| file.adopted.as_ref());
        adopted.chain(&self.done.merged).map(|note| note.to_segment(self.load.id, self.load.job)).collect()
    }

    async fn read_checkpoint(&mut self) -> Result<()> {
        let Some(path) = self.table.told_load_status(self.load.id).await?.checkpoint else { return Ok(()) };
        let object = self.table.store().get(&ObjectPath::new(&path)?, GetOptions::default()).await?;
        self.done = serde_json::from_slice(&object.bytes)
            .map_err(|e| Error::corrupt(format!("checkpoint {path} does not decode: {e}")))?;
        tracing::info!(load = %self.load.id, runs = self.done.runs.len(), "going on at a checkpoint");
        Ok(())
    }

    async fn write_checkpoint(&mut self) -> Result<()> {
        self.checkpoints += 1;
        let json = serde_json::to_vec(&self.done)
            .map_err(|e| Error::internal(format!("the checkpoint does not encode: {e}")))?;
        let unique = self.ctx.ids.random_u128();
        let path =
            self.table.put_load_object(self.load, &format!("checkpoint-{unique:032x}"), json.into()).await?;
        let told = LoadStatus {
            preparing: true,
            progress: self.done.progress.clone(),
            checkpoint: Some(path.as_str().to_owned()),
        };
        self.told_at = self.ctx.clock.monotonic();
        self.table.tell_load_status(self.load.id, &told).await
    }

    async fn tell_now_and_then(&mut self, preparing: bool) {
        if self.ctx.clock.monotonic().saturating_sub(self.told_at) > Duration::from_secs(2) {
            self.tell(preparing).await;
        }
    }

    /// Tells the progress; that it cannot be told stops no load.
    async fn tell(&mut self, preparing: bool) {
        self.told_at = self.ctx.clock.monotonic();
        let checkpoint = match self.table.told_load_status(self.load.id).await {
            Ok(told) => told.checkpoint,
            Err(_) => return,
        };
        let told = LoadStatus { preparing, progress: self.done.progress.clone(), checkpoint };
        if let Err(error) = self.table.tell_load_status(self.load.id, &told).await {
            tracing::warn!(load = %self.load.id, %error, "the progress of the load could not be told");
        }
    }
}

fn named(file: &PinnedFile, error: Error) -> Stop {
    if file::is_the_files_fault(&error) { Stop::fail(&file.name, error.detail()) } else { Stop::Later(error) }
}
