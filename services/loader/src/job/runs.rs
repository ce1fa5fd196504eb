//! Files to rewrite become sorted runs, and runs become segments.

use bytes::Bytes;
use nacre_engine::{Built, LoadError, OnDuplicate, PinnedFile, SegmentRows, SegmentSink};
use nacre_manifest::{Layer, Location};
use nacre_segment::WriterSettings;
use nacre_types::{Error, Result, limits};
use tokio::sync::mpsc;

use super::{Done, Faults, Job, Stop};
use crate::checkpoint::{SegmentNote, hex, unhex};
use crate::file::{self, Before, Filled, RowRules};
use crate::merge::{Duplicate, Span, Unique, cuts, merge};
use crate::sort::SortBuffer;
use crate::source;

/// The two buffers of a load: one is read into while the other is sorted and written. The rows of small files share
/// one, so the first may hold rows of earlier files, which are *pending* until it is written.
struct Buffers {
    first: SortBuffer,
    second: SortBuffer,
}

/// A segment of a rewritten load is not closed before it has so many bytes, however little memory there is.
const LEAST_SEGMENT: u64 = 8 << 20;
/// What is read of a run at a time, at least: a few blocks.
const LEAST_WINDOW: u64 = 64 << 10;
/// How many keys of each run say where the merge is cut.
const SAMPLED_KEYS: u32 = 64;

/// What sorting a buffer came to.
enum Sorted {
    /// The buffer is empty again; the run is to be put.
    Run {
        buffer: SortBuffer,
        built: Vec<Built>,
    },
    Duplicate(Duplicate),
}

/// What reading a file came to.
enum FileRead {
    Read(file::Read),
    Duplicate(Duplicate),
}

impl Job<'_> {
    /// Step 3: files become sorted runs.
    pub(super) async fn read_files(
        &mut self,
        files: &[PinnedFile],
        rules: &RowRules,
        on_duplicate: OnDuplicate,
    ) -> Done<()> {
        let mut faults = Faults::default();
        let mut buffers = None;
        for pinned in files {
            self.check().map_err(Stop::Later)?;
            if self.done.files.get(&pinned.name).is_none_or(|done| done.read) {
                continue;
            }
            let held = buffers.take().unwrap_or_else(|| {
                let half = (self.config.sort_bytes / 2).max(1);
                Buffers { first: SortBuffer::new(half), second: SortBuffer::new(half) }
            });
            let only_faults = !faults.is_empty();
            let read = match self.read_file(pinned, rules, on_duplicate, held, only_faults).await {
                Ok((FileRead::Read(read), held)) => {
                    buffers = held;
                    read
                }
                Ok((FileRead::Duplicate(duplicate), _)) => {
                    return Err(self.name_duplicate(files, rules, &duplicate).await);
                }
                Err(error) => {
                    faults.add_or_stop(&pinned.name, error)?;
                    continue;
                }
            };
            if let Some(done) = self.done.files.get_mut(&pinned.name) {
                done.read = true;
                done.report.rows = read.rows;
                done.hidden = read.hidden;
            }
            let in_runs = self.done.rows_read.remove(&pinned.name).unwrap_or(0);
            self.done.pending.insert(pinned.name.clone(), in_runs);
            faults.add(read.errors, read.error_count);
            self.count_done();
            self.tell_now_and_then(true).await;
        }
        faults.check()?;
        if let Some(Buffers { first, .. }) = buffers {
            match self.sort_run(first, on_duplicate).await? {
                Sorted::Run { built, .. } => self.put_runs(built).await?,
                Sorted::Duplicate(duplicate) => {
                    return Err(self.name_duplicate(files, rules, &duplicate).await);
                }
            }
            self.done.pending.clear();
            self.write_checkpoint().await?;
        }
        Ok(())
    }

    /// Reads a file behind the rows that are in runs already. Buffers that fill become runs; what is left stays in
    /// the first buffer of the answer. `only_faults`: the load fails anyway, no more runs are needed.
    async fn read_file(
        &mut self,
        pinned: &PinnedFile,
        rules: &RowRules,
        on_duplicate: OnDuplicate,
        buffers: Buffers,
        only_faults: bool,
    ) -> Result<(FileRead, Option<Buffers>)> {
        let opened = self.open(pinned).await?;
        let (give_empty, mut empty) = mpsc::channel::<SortBuffer>(2);
        let (give_filled, mut filled) = mpsc::channel::<Filled>(1);
        for buffer in [buffers.first, buffers.second] {
            // The channel holds two.
            drop(give_empty.try_send(buffer));
        }
        let before = Before {
            rows: self.done.rows_read.get(&pinned.name).copied().unwrap_or(0),
            hidden: self.done.hidden_in_runs.get(&pinned.name).copied().unwrap_or(0),
        };
        let (name, asked) = (pinned.name.clone(), rules.clone());
        let reading = self.ctx.tasks.spawn_blocking("load-read", move || {
            let read = file::read(&opened, &name, &asked, before, only_faults, &mut empty, &give_filled);
            // Whatever was not used.
            (read, empty.try_recv().ok())
        });
        let mut last = None;
        let mut stopped = Ok(None);
        while let Some(Filled { buffer, in_runs }) = filled.recv().await {
            let Some(in_runs) = in_runs else {
                last = Some(buffer);
                continue;
            };
            // What is left unread here must not pass for read: every way out of this loop is an error.
            if let Err(error) = self.check() {
                stopped = Err(error);
                break;
            }
            match self.sort_run(buffer, on_duplicate).await {
                Ok(Sorted::Run { buffer, built }) => {
                    // Read on while this is put. The reader may have ended.
                    drop(give_empty.try_send(buffer));
                    if let Err(error) = self.put_runs(built).await {
                        stopped = Err(error);
                        break;
                    }
                    self.done.rows_read.insert(pinned.name.clone(), in_runs.rows);
                    self.done.hidden_in_runs.insert(pinned.name.clone(), in_runs.hidden);
                    self.done.pending.clear();
                    self.count_done();
                    if let Err(error) = self.write_checkpoint().await {
                        stopped = Err(error);
                        break;
                    }
                }
                Ok(Sorted::Duplicate(duplicate)) => {
                    stopped = Ok(Some(duplicate));
                    break;
                }
                Err(error) => {
                    stopped = Err(error);
                    break;
                }
            }
        }
        drop((filled, give_empty));
        let (read, spare) = reading.await?;
        if let Some(duplicate) = stopped? {
            return Ok((FileRead::Duplicate(duplicate), None));
        }
        let read = read?;
        source::check_unchanged(self.table.store(), pinned).await?;
        let Some(first) = last else {
            return Err(Error::internal("a file was read and its last rows did not come"));
        };
        let second = spare.unwrap_or_else(|| SortBuffer::new((self.config.sort_bytes / 2).max(1)));
        Ok((FileRead::Read(read), Some(Buffers { first, second })))
    }

    /// Sorts a buffer and makes a run of it, which is to be put.
    async fn sort_run(&mut self, buffer: SortBuffer, on_duplicate: OnDuplicate) -> Result<Sorted> {
        if buffer.is_empty() {
            return Ok(Sorted::Run { buffer, built: Vec::new() });
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
                match unique.admits(&row) {
                    Ok(true) => sink.push(&row)?,
                    Ok(false) => {}
                    Err(duplicate) => return Ok(Sorted::Duplicate(duplicate)),
                }
            }
            sink.finish()?;
            buffer.clear();
            Ok(Sorted::Run { buffer, built })
        });
        sorted.await
    }

    async fn put_runs(&mut self, built: Vec<Built>) -> Result<()> {
        for built in built {
            let note = self.put(built).await?;
            self.done.runs.push(note);
        }
        Ok(())
    }

    async fn put(&mut self, built: Built) -> Result<SegmentNote> {
        let segment = built.to_segment(Location::Job(self.load.job), Layer::Loaded(self.load.id), true);
        self.table.put_load_segment(&segment, &built).await?;
        self.done.progress.bytes_moved += segment.bytes;
        Ok(SegmentNote::of(&segment))
    }

    /// Step 3, second half: runs become segments. A single run is one already.
    pub(super) async fn merge_runs(
        &mut self,
        files: &[PinnedFile],
        rules: &RowRules,
        on_duplicate: OnDuplicate,
    ) -> Done<()> {
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
        // Several segments are in memory at a time: one being written per range, one on its way, one being put.
        let target = self.config.segment_bytes.min((self.config.sort_bytes as u64 / 4).max(LEAST_SEGMENT));
        let spans = self.spans(&runs, target)?;
        let windows = (runs.len() * spans.len()).max(1) as u64;
        let window = (self.config.sort_bytes as u64 / 2 / windows).max(LEAST_WINDOW);
        let (send, mut built) = mpsc::channel::<Built>(1);
        let mut merging = Vec::with_capacity(spans.len());
        for span in spans {
            let (ids, send) = (self.ctx.ids.clone(), send.clone());
            let runs: Vec<_> = runs.iter().map(|run| run.again().reading(window)).collect();
            merging.push(self.ctx.tasks.spawn_blocking("load-merge", move || {
                let mut emit = |segment: Built| {
                    send.blocking_send(segment)
                        .map_err(|_| Error::unavailable("the load was given up").with_code("load-given-up"))
                };
                let sink = SegmentSink::new(&*ids, WriterSettings::default(), target, &mut emit);
                merge(runs, &span, on_duplicate, sink)
            }));
        }
        drop((send, runs));
        while let Some(segment) = built.recv().await {
            self.check().map_err(Stop::Later)?;
            let note = self.put(segment).await?;
            self.done.merged.push(note);
            self.write_checkpoint().await?;
        }
        for merged in merging {
            if let Some(duplicate) = merged.await?? {
                return Err(self.name_duplicate(files, rules, &duplicate).await);
            }
        }
        self.done.merge_done = true;
        Ok(self.write_checkpoint().await?)
    }

    /// The ranges that are still to be merged: cut where an earlier attempt cut them, each behind what that has done.
    fn spans(&mut self, runs: &[SegmentRows], target: u64) -> Result<Vec<Span>> {
        if self.done.merged.is_empty() {
            let bytes: u64 = self.done.runs.iter().map(|note| note.bytes).sum();
            let ranges = (bytes / target.max(1)).clamp(1, self.config.merge_at_once.max(1) as u64) as usize;
            let rows = self.done.runs.iter().map(|note| note.rows);
            let samples = rows.zip(runs).map(|(rows, run)| (rows, run.sample_keys(SAMPLED_KEYS))).collect();
            self.done.cuts = cuts(samples, ranges).iter().map(|key| hex(key)).collect();
        }
        let cuts: Vec<Bytes> = self.done.cuts.iter().map(|key| unhex(key)).collect::<Result<_>>()?;
        let mut spans = Vec::with_capacity(cuts.len() + 1);
        let mut behind = None;
        for through in cuts.into_iter().map(Some).chain([None]) {
            spans.push(Span { behind: behind.clone(), through: through.clone() });
            behind = through;
        }
        for note in &self.done.merged {
            let last = note.to_segment(self.load.id, self.load.job)?.max_key;
            // The range that it lies in: the first that does not end before it.
            let its =
                spans.iter_mut().find(|span| span.through.as_ref().is_none_or(|through| last <= *through));
            if let Some(span) = its.filter(|span| span.behind.as_ref().is_none_or(|behind| *behind < last)) {
                span.behind = Some(last);
            }
        }
        Ok(spans)
    }

    /// Finds the rows of a key and version that is there twice. That reads every rewritten file once more: only a load
    /// that fails pays for it, rather than every row of every load for carrying where it came from.
    async fn name_duplicate(&self, files: &[PinnedFile], rules: &RowRules, duplicate: &Duplicate) -> Stop {
        let detail = duplicate.detail();
        let mut errors = Vec::new();
        for pinned in files {
            if let Err(error) = self.check() {
                return Stop::Later(error);
            }
            if self.done.files.get(&pinned.name).is_none_or(|done| done.adopted.is_some()) {
                continue;
            }
            let (asked, sought, name) = (rules.clone(), duplicate.clone(), pinned.name.clone());
            let found = match self.open(pinned).await {
                Ok(opened) => {
                    self.blocking("load-find", move || file::find(&opened, &name, &asked, &sought)).await
                }
                Err(error) => Err(error),
            };
            let rows = match found {
                Ok(rows) => rows,
                Err(error) => return error.into(),
            };
            errors.extend(rows.into_iter().map(|row| LoadError {
                file: pinned.name.clone(),
                row: Some(row),
                column: None,
                detail: detail.clone(),
            }));
            errors.truncate(limits::LOAD_ERRORS);
        }
        if errors.is_empty() {
            return Stop::fail("", &detail);
        }
        let count = errors.len() as u64;
        Stop::Fail(errors, count)
    }
}
