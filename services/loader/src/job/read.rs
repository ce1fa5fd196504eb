//! Files to rewrite become sorted runs.
//!
//! Two buffers go round: one is read into while the other is sorted and written. They go round over the ends of units,
//! so that the next unit is read while the last rows of the one before it are sorted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nacre_engine::{Built, LoadError, PinnedFile, SegmentSink};
use nacre_manifest::{Layer, Location};
use nacre_segment::WriterSettings;
use nacre_types::{Error, Result, limits};
use tokio::sync::mpsc;

use super::facts::{Cursor, ReadStep, Step};
use super::look::file_fault;
use super::planner::{Slice, Unit, Work};
use super::{Done, Job, OrLater, Stop};
use crate::file::{self, Filled, Filling, Reading, RowRules};
use crate::merge::{Duplicate, Unique};
use crate::note::SegmentNote;
use crate::sort::SortBuffer;
use crate::source;

/// What sorting a buffer came to.
enum Sorted {
    /// The buffer is empty again; the run is to be put.
    Run {
        buffer: SortBuffer,
        built: Vec<Built>,
    },
    Duplicate(Duplicate),
}

/// What does not change from unit to unit.
struct Hands {
    empty: mpsc::Receiver<SortBuffer>,
    give_empty: mpsc::Sender<SortBuffer>,
    filled: mpsc::Sender<Filled>,
}

impl Job<'_> {
    /// Reads units that nobody else reads. Answers whether there were any.
    pub(super) async fn read_files(&self) -> Done<bool> {
        let rules = self.rules().or_later()?;
        self.mark();
        let (give_empty, empty) = mpsc::channel::<SortBuffer>(2);
        let (send_filled, filled) = mpsc::channel::<Filled>(1);
        for _ in 0..2 {
            // The channel holds two.
            drop(give_empty.try_send(SortBuffer::new((self.config.sort_bytes / 2).max(1))));
        }
        let hands = Hands { empty, give_empty: give_empty.clone(), filled: send_filled };
        let (any, ()) =
            tokio::try_join!(self.read_units(hands, &rules), self.write_runs(filled, give_empty))?;
        Ok(any)
    }

    async fn read_units(&self, mut hands: Hands, rules: &RowRules) -> Done<bool> {
        let mut any = false;
        loop {
            let units = self.take(|work| matches!(work, Work::Read(_)), |_| 1).await?;
            let Some(unit) = units.into_iter().next() else { return Ok(any) };
            any = true;
            hands = self.read_unit(unit, hands, rules).await?;
        }
    }

    async fn read_unit(&self, unit: Unit, hands: Hands, rules: &RowRules) -> Done<Hands> {
        let Work::Read(slices) = unit.work.clone() else { return Ok(hands) };
        let Some((step, begin)) = self.begin_of(&unit, &slices) else {
            self.put_down(&unit);
            return Ok(hands);
        };
        let Hands { empty, give_empty, filled } = hands;
        let only_faults = !self.picture().or_later()?.faults.is_empty();
        let unit = Arc::new(Reading { unit, begin: step, is_lost: AtomicBool::new(false) });
        let mut filling = Filling {
            buffer: None,
            empty,
            filled,
            unit: unit.clone(),
            tallies: Vec::new(),
            faults: Default::default(),
            only_faults,
        };
        for (nth, slice) in (0..).zip(&slices).skip(begin.slice as usize) {
            self.check()?;
            let Some(pinned) = self.pinned.files.get(slice.file) else { continue };
            let from = if nth == begin.slice { begin.row } else { slice.from };
            let read;
            (filling, read) = self.read_slice(pinned, rules, (nth, from, slice.until), filling).await?;
            if unit.is_lost.load(Ordering::Relaxed) {
                break;
            }
            if let Err(error) = read {
                filling.faults.add(vec![file_fault(pinned, error)?], 1);
            }
        }
        let last = filling.step(None);
        let Filling { empty, filled, .. } = filling;
        let gone = |_| Stop::Later(Error::unavailable("the sorting has ended"));
        filled.send(last).await.map_err(gone)?;
        Ok(Hands { empty, give_empty, filled })
    }

    /// Where a unit is to be read from: behind its known steps. Both as the next step's name has it and as a place.
    fn begin_of(&self, unit: &Unit, slices: &[Slice]) -> Option<(String, Cursor)> {
        let first = Cursor { slice: 0, row: slices.first().map_or(0, |slice| slice.from) };
        let mut facts = self.facts.lock();
        let chain = facts.read.entry(unit.id).or_default();
        let at = match chain.steps.last() {
            Some(last) => last.next?,
            None => first,
        };
        Some((chain.cursor()?, at))
    }

    /// Reads a slice into buffers. An outer error is one of the world.
    async fn read_slice(
        &self,
        pinned: &PinnedFile,
        rules: &RowRules,
        slice: (u32, u64, Option<u64>),
        filling: Filling,
    ) -> Done<(Filling, Result<()>)> {
        let opened = match self.open_file(pinned).await {
            Ok(opened) => opened,
            Err(error) => return Ok((filling, Err(error))),
        };
        let (name, asked) = (pinned.name.clone(), rules.clone());
        let reading = self.ctx.tasks.spawn_blocking("load-read", move || {
            let mut filling = filling;
            let read = file::read(&opened, &name, &asked, slice, &mut filling);
            (filling, read)
        });
        let (filling, read) = reading.await.map_err(Stop::Later)?;
        let read = match read {
            Ok(()) => source::check_unchanged(self.table.store(), pinned).await,
            Err(error) => Err(error),
        };
        Ok((filling, read))
    }

    /// Sorts what was filled, and puts the runs and the steps that bring them.
    async fn write_runs(
        &self,
        mut filled: mpsc::Receiver<Filled>,
        give_empty: mpsc::Sender<SortBuffer>,
    ) -> Done<()> {
        // Where the next step of the unit begins that is being read.
        let mut at: Option<(u128, String)> = None;
        while let Some(Filled { unit: reading, buffer, next, tallies, faults, only_faults }) =
            filled.recv().await
        {
            let unit = &reading.unit;
            let mut step = ReadStep { next, tallies, faults, only_faults, ..ReadStep::default() };
            let begun = at.take().filter(|(id, _)| *id == unit.id);
            let begin = begun.map_or_else(|| reading.begin.clone(), |(_, begin)| begin);
            if reading.is_lost.load(Ordering::Relaxed) {
                if let Some(mut buffer) = buffer {
                    buffer.clear();
                    drop(give_empty.try_send(buffer));
                }
                self.put_down(unit);
                continue;
            }
            self.check()?;
            if let Some(mut buffer) = buffer {
                let mut built = Vec::new();
                if step.only_faults {
                    buffer.clear();
                } else {
                    match self.sort_run(buffer).await.or_later()? {
                        Sorted::Run { buffer: empty, built: runs } => (buffer, built) = (empty, runs),
                        Sorted::Duplicate(duplicate) => return Err(Stop::Duplicate(duplicate)),
                    }
                }
                // Read on while this is put. The reader may have ended.
                drop(give_empty.try_send(buffer));
                for built in built {
                    step.runs.push(self.put(built).await.or_later()?);
                }
            }
            step.seconds = self.took();
            let next = step.next();
            if !self.put_step(unit, &begin, step).await.or_later()? {
                tracing::info!(load = %self.load.id, unit = %unit.label, "another loader is further with a unit");
                reading.is_lost.store(true, Ordering::Relaxed);
            }
            match next {
                Some(next) => at = Some((unit.id, next)),
                None => self.put_down(unit),
            }
            self.tell_now_and_then().await;
        }
        Ok(())
    }

    /// Sorts a buffer and makes a run of it, which is to be put.
    async fn sort_run(&self, buffer: SortBuffer) -> Result<Sorted> {
        if buffer.is_empty() {
            return Ok(Sorted::Run { buffer, built: Vec::new() });
        }
        let (ids, on_duplicate) = (self.ctx.ids.clone(), self.request.on_duplicate);
        self.blocking("load-sort", move || {
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
        })
        .await
    }

    pub(super) async fn put(&self, built: Built) -> Result<SegmentNote> {
        let segment = built.to_segment(Location::Job(self.load.job), Layer::Loaded(self.load.id), true);
        self.table.put_load_segment(&segment, &built).await?;
        Ok(SegmentNote::of(&segment))
    }

    /// Finds the rows of a key and version that is there twice. That reads every rewritten file once more: only a load
    /// that fails pays for it, rather than every row of every load for carrying where it came from.
    pub(super) async fn name_duplicate(&self, duplicate: &Duplicate) -> Stop {
        self.try_name_duplicate(duplicate).await.unwrap_or_else(|stop| stop)
    }

    async fn try_name_duplicate(&self, duplicate: &Duplicate) -> Done<Stop> {
        let detail = duplicate.detail();
        let mut errors = Vec::new();
        let rules = self.rules().or_later()?;
        for (pinned, fate) in self.pinned.files.iter().zip(self.picture().or_later()?.fates) {
            self.check()?;
            if fate.is_none_or(|fate| fate.adopted.is_some()) {
                continue;
            }
            let (asked, sought, name) = (rules.clone(), duplicate.clone(), pinned.name.clone());
            let opened = self.open_file(pinned).await?;
            let rows =
                self.blocking("load-find", move || file::find(&opened, &name, &asked, &sought)).await?;
            errors.extend(rows.into_iter().map(|row| LoadError {
                file: pinned.name.clone(),
                row: Some(row),
                column: None,
                detail: detail.clone(),
            }));
            errors.truncate(limits::LOAD_ERRORS);
        }
        if errors.is_empty() {
            return Ok(Stop::fail("", &detail));
        }
        let count = errors.len() as u64;
        Ok(Stop::Fail(errors, count))
    }
}
