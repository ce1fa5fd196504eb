//! What is left to do of a load: a pure function of its pinned files and of the results that are known.
//!
//! ```text
//! plan     what all go by: the kinds of keys, the floors, the size of units         one result, put once
//! look     batches of files: to be adopted, to be rewritten, or wrong
//! apart    adopted files whose keys meet those of another are rewritten             computed
//! read     round 0: slices of the files to rewrite become sorted runs
//!          round n: those of adopted files whose keys meet a run of a round before
//! cut      keys that cut the merge into ranges                                      one result, put once
//! merge    ranges of keys: runs become segments
//! finish   guards and edits
//! ```
//!
//! Of the adoptable files those stay adopted whose keys lie apart from those of every other file: a get must not have to
//! look into every file of a load, and one key and version twice is only found where rows meet in a merge.
//!
//! A unit is known by a hash of all that its result depends on: the plan, the files and rows, or the runs and keys. So
//! every loader gives the same unit the same name, and a result that was made from something else has another name: it
//! cannot be taken for one of this load as this process knows it.

use std::collections::BTreeMap;

use bytes::Bytes;
use nacre_engine::{LoadFile, LoadProgress, PinnedFile};
use nacre_types::Result;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use super::facts::{Cursor, Cuts, Facts, Faults, Plan, VERSION};
use crate::merge::Span;
use crate::note::{SegmentNote, unhex};

const APART: &str = "partition by key range before sorting, so that files do not overlap";
/// Files and bytes of a unit of looking, about.
const LOOK_FILES: usize = 32;
const LOOK_BYTES: u64 = 256 << 20;
/// Slices of a unit of reading, at most.
const SLICES: usize = 256;

/// Rows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Slice {
    /// Among the pinned files.
    pub(crate) file: usize,
    pub(crate) from: u64,
    /// A row at which a row group begins; `None` = to the end.
    pub(crate) until: Option<u64>,
}

/// What a unit asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Work {
    Plan,
    /// Pinned files from the first to before the second.
    Look(usize, usize),
    Read(Vec<Slice>),
    Cut,
    Merge(Span),
    Finish,
}

/// A piece of a load's work that one loader does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// For people.
    pub(crate) label: String,
    pub(crate) id: u128,
    pub(crate) work: Work,
}

impl Unit {
    fn new(label: String, work: Work, of: &impl Serialize) -> Self {
        // What does not encode has no float, no map and no key that is none: it always does.
        let json = serde_json::to_vec(&(VERSION, &label, of)).unwrap_or_default();
        Self { id: xxh3_128(&json), label, work }
    }

    /// The name of the result of the step that begins at `cursor`. `redo`: one for each name before it whose object does
    /// not decode.
    pub(crate) fn name(&self, cursor: &str, redo: u32) -> String {
        let hash = xxh3_128(format!("{:032x}/{cursor}/{redo}", self.id).as_bytes());
        format!("units/{}-{hash:032x}", self.label)
    }

    /// What a claim calls it.
    pub(crate) fn claim(&self) -> String {
        format!("{}-{:016x}", self.label, self.id as u64)
    }
}

/// What became of a file, as far as it is known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fate {
    pub(crate) report: LoadFile,
    pub(crate) adopted: Option<SegmentNote>,
    pub(crate) hidden: u64,
    pub(crate) cuts: Vec<u64>,
    /// Whether a round reads it.
    is_read: bool,
    /// Slices that are not in runs yet as a whole.
    open_slices: usize,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stage {
    /// These units of one kind, in any order; none is done.
    Units(Vec<Unit>),
    /// The load fails.
    Failed(Faults),
    /// These are its segments: adopted ones and merged ones.
    Finish(Unit, Vec<SegmentNote>),
}

/// A load as the results show it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Picture {
    /// By pinned file; `None` = nobody has looked at it, or it is wrong.
    pub(crate) fates: Vec<Option<Fate>>,
    pub(crate) runs: Vec<SegmentNote>,
    /// Segments that are merged.
    pub(crate) merged: Vec<SegmentNote>,
    /// What is wrong with the files of this phase, so far.
    pub(crate) faults: Faults,
    /// Whether looking is over.
    pub(crate) preparing: bool,
    pub(crate) progress: LoadProgress,
    pub(crate) stage: Stage,
}

/// What is known, and what is to be done. `list` names the list of pinned files.
///
/// # Errors
/// `Corrupt`: results do not fit together.
pub(crate) fn picture(list: &str, files: &[PinnedFile], facts: &Facts) -> Result<Picture> {
    let mut seen = Seen {
        fates: vec![None; files.len()],
        progress: LoadProgress {
            files: files.len() as u64,
            bytes: files.iter().map(|file| file.bytes).sum(),
            ..LoadProgress::default()
        },
        ..Seen::default()
    };
    let stage = seen.stage(list, files, facts)?;
    seen.count();
    let Seen { fates, runs, merged, faults, preparing, progress } = seen;
    Ok(Picture { fates, runs, merged, faults, preparing, progress, stage })
}

#[derive(Default)]
struct Seen {
    fates: Vec<Option<Fate>>,
    runs: Vec<SegmentNote>,
    merged: Vec<SegmentNote>,
    faults: Faults,
    preparing: bool,
    progress: LoadProgress,
}

impl Seen {
    fn stage(&mut self, list: &str, files: &[PinnedFile], facts: &Facts) -> Result<Stage> {
        let Some(plan) = &facts.plan else {
            return Ok(Stage::Units(vec![Unit::new("plan".to_owned(), Work::Plan, &list)]));
        };
        let mut open = Vec::new();
        for unit in look_units(plan, files) {
            let Work::Look(first, end) = unit.work else { continue };
            let Some(looked) = facts.looked.get(&unit.id) else {
                open.push(unit);
                continue;
            };
            self.took("validating", looked.seconds);
            self.faults.join(&looked.faults);
            for (at, file) in (first..end).zip(&looked.files) {
                if let Some(fate) = self.fates.get_mut(at) {
                    *fate = file.as_ref().map(|file| Fate {
                        report: file.report.clone(),
                        adopted: file.adopted.clone(),
                        hidden: file.hidden,
                        cuts: file.cuts.clone(),
                        is_read: false,
                        open_slices: 0,
                    });
                }
            }
        }
        if !open.is_empty() {
            return Ok(Stage::Units(open));
        }
        if !self.faults.is_empty() {
            return Ok(Stage::Failed(std::mem::take(&mut self.faults)));
        }
        self.keep_apart()?;
        self.preparing = true;
        for round in 0.. {
            let units = self.read_units(plan, round, files);
            if units.is_empty() {
                break;
            }
            let open = self.read(units, facts);
            if !open.is_empty() {
                return Ok(Stage::Units(open));
            }
            if !self.faults.is_empty() {
                return Ok(Stage::Failed(std::mem::take(&mut self.faults)));
            }
            self.keep_apart_from_runs()?;
        }
        self.merge(plan, facts)
    }

    /// Takes in what is read of `units`; answers those that are not done.
    fn read(&mut self, units: Vec<Unit>, facts: &Facts) -> Vec<Unit> {
        let mut open = Vec::new();
        for unit in units {
            let Work::Read(slices) = &unit.work else { continue };
            let Some(chain) = facts.read.get(&unit.id) else {
                open.push(unit);
                continue;
            };
            let mut reached = Cursor::default();
            for step in &chain.steps {
                self.took("sorting", step.seconds);
                self.faults.join(&step.faults);
                self.runs.extend(step.runs.iter().cloned());
                for tally in &step.tallies {
                    let slice = slices.get(tally.slice as usize);
                    let fate = slice.and_then(|slice| self.fates.get_mut(slice.file)?.as_mut());
                    if let Some(fate) = fate {
                        fate.report.rows = fate.report.rows.saturating_add(tally.rows);
                        fate.hidden = fate.hidden.saturating_add(tally.hidden);
                    }
                }
                reached = step.next.unwrap_or(Cursor { slice: u32::MAX, row: 0 });
            }
            for slice in slices.iter().take(reached.slice as usize) {
                if let Some(Some(fate)) = self.fates.get_mut(slice.file) {
                    fate.open_slices = fate.open_slices.saturating_sub(1);
                }
            }
            if !chain.is_done() {
                open.push(unit);
            }
        }
        open
    }

    fn merge(&mut self, plan: &Plan, facts: &Facts) -> Result<Stage> {
        if self.runs.len() < 2 {
            // It is a segment already.
            self.merged = self.runs.clone();
        } else {
            let cut = Unit::new("cut".to_owned(), Work::Cut, &(plan, &self.runs));
            let Some(cuts) = facts.cuts.get(&cut.id) else { return Ok(Stage::Units(vec![cut])) };
            self.took("merging", cuts.seconds);
            let mut open = Vec::new();
            for unit in merge_units(cut.id, cuts)? {
                let chain = facts.merged.get(&unit.id);
                for step in chain.iter().flat_map(|chain| &chain.steps) {
                    self.took("merging", step.seconds);
                    self.merged.extend(step.segment.iter().cloned());
                }
                if chain.is_none_or(|chain| !chain.is_done()) {
                    open.push(unit);
                }
            }
            if !open.is_empty() {
                return Ok(Stage::Units(open));
            }
        }
        let adopted = self.fates.iter().flatten().filter_map(|fate| fate.adopted.as_ref());
        let segments: Vec<SegmentNote> = adopted.chain(&self.merged).cloned().collect();
        Ok(Stage::Finish(Unit::new("finish".to_owned(), Work::Finish, &segments), segments))
    }

    fn took(&mut self, phase: &str, seconds: f64) {
        *self.progress.seconds.entry(phase.to_owned()).or_default() += seconds;
    }

    /// Adopted files whose keys meet those of another are rewritten, and so is the other.
    fn keep_apart(&mut self) -> Result<()> {
        let mut ranges: Vec<(usize, Bytes, Bytes)> = Vec::new();
        for (at, fate) in self.fates.iter().enumerate() {
            if let Some(note) = fate.as_ref().and_then(|fate| fate.adopted.as_ref()) {
                let (first, last) = note.keys()?;
                ranges.push((at, first, last));
            }
        }
        ranges.sort_by(|a, b| a.1.cmp(&b.1));
        // The file that reaches furthest so far.
        let mut furthest: Option<(usize, Bytes)> = None;
        for (at, min, max) in ranges {
            if let Some((other, reach)) = furthest.as_ref().filter(|(_, reach)| min <= *reach) {
                let (other, is_further) = (*other, max > *reach);
                self.rewrite(at, &format!("its keys meet those of {}", self.file_name(other)));
                self.rewrite(other, &format!("its keys meet those of {}", self.file_name(at)));
                if !is_further {
                    continue;
                }
            }
            furthest = Some((at, max));
        }
        Ok(())
    }

    /// Adopted files whose keys meet those of a run are rewritten too.
    fn keep_apart_from_runs(&mut self) -> Result<()> {
        let bounds: Vec<(Bytes, Bytes)> = self.runs.iter().map(SegmentNote::keys).collect::<Result<_>>()?;
        let mut meeting = Vec::new();
        for (at, fate) in self.fates.iter().enumerate() {
            let Some(note) = fate.as_ref().and_then(|fate| fate.adopted.as_ref()) else { continue };
            let (first, last) = note.keys()?;
            if bounds.iter().any(|(min, max)| first <= *max && *min <= last) {
                meeting.push(at);
            }
        }
        for at in meeting {
            self.rewrite(at, "its keys meet those of a file that has to be rewritten");
        }
        Ok(())
    }

    fn file_name(&self, at: usize) -> &str {
        self.fates.get(at).and_then(Option::as_ref).map_or("", |fate| fate.report.file.as_str())
    }

    fn rewrite(&mut self, at: usize, reason: &str) {
        let fate = self.fates.get_mut(at).and_then(Option::as_mut);
        if let Some(fate) = fate.filter(|fate| fate.adopted.is_some()) {
            fate.adopted = None;
            fate.hidden = 0;
            fate.report.rows = 0;
            fate.report.outcome = "rewritten".to_owned();
            fate.report.reason = Some(reason.to_owned());
            fate.report.hint = Some(APART.to_owned());
        }
    }

    /// The units of the next round: files that are to be rewritten and that no round has read. A large file is several
    /// slices, of a unit each; small ones share a unit.
    fn read_units(&mut self, plan: &Plan, round: u32, files: &[PinnedFile]) -> Vec<Unit> {
        let mut cutter = Cutter { plan, round, files, units: Vec::new(), slices: Vec::new(), bytes: 0 };
        for (file, fate) in self.fates.iter_mut().enumerate() {
            let Some(fate) = fate.as_mut().filter(|fate| fate.adopted.is_none() && !fate.is_read) else {
                continue;
            };
            fate.is_read = true;
            fate.open_slices = fate.cuts.len() + 1;
            let bytes = files.get(file).map_or(0, |file| file.bytes);
            let mut left = bytes;
            let mut from = 0;
            for until in &fate.cuts {
                cutter.add(Slice { file, from, until: Some(*until) }, plan.unit_bytes);
                left = left.saturating_sub(plan.unit_bytes);
                from = *until;
            }
            cutter.add(Slice { file, from, until: None }, left);
        }
        cutter.finish()
    }

    fn count(&mut self) {
        let fates = || self.fates.iter().flatten();
        let written = self.runs.iter().chain(if self.runs.len() > 1 { &self.merged[..] } else { &[] });
        let progress = &mut self.progress;
        progress.rows = fates().map(|fate| fate.report.rows).fold(0, u64::saturating_add);
        progress.bytes_moved = written.map(|note| note.bytes).fold(0, u64::saturating_add);
        progress.adopted_files = fates().filter(|fate| fate.adopted.is_some()).count() as u64;
        progress.rewritten_files = fates().filter(|fate| fate.adopted.is_none()).count() as u64;
        let is_done = |fate: &&Fate| fate.adopted.is_some() || (fate.is_read && fate.open_slices == 0);
        progress.files_done = fates().filter(is_done).count() as u64;
    }
}

/// Puts slices together to units.
struct Cutter<'a> {
    plan: &'a Plan,
    round: u32,
    files: &'a [PinnedFile],
    units: Vec<Unit>,
    slices: Vec<Slice>,
    bytes: u64,
}

impl Cutter<'_> {
    fn add(&mut self, slice: Slice, bytes: u64) {
        self.slices.push(slice);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= self.plan.unit_bytes || self.slices.len() >= SLICES {
            self.close();
        }
    }

    fn close(&mut self) {
        let slices = std::mem::take(&mut self.slices);
        self.bytes = 0;
        if slices.is_empty() {
            return;
        }
        let of: Vec<_> =
            slices.iter().map(|slice| (self.files.get(slice.file).map(identity), slice)).collect();
        let label = format!("read-{}-{:05}", self.round, self.units.len());
        let unit = Unit::new(label, Work::Read(Vec::new()), &(self.plan, of));
        self.units.push(Unit { work: Work::Read(slices), ..unit });
    }

    fn finish(mut self) -> Vec<Unit> {
        self.close();
        self.units
    }
}

/// What makes a pinned file that file.
fn identity(file: &PinnedFile) -> (&str, &str, &str, Option<&str>) {
    (&file.name, &file.path, &file.etag, file.version_id.as_deref())
}

fn look_units(plan: &Plan, files: &[PinnedFile]) -> Vec<Unit> {
    let mut units = Vec::new();
    let (mut first, mut bytes) = (0, 0_u64);
    for (at, file) in files.iter().enumerate() {
        bytes = bytes.saturating_add(file.bytes);
        let end = at + 1;
        if end - first >= LOOK_FILES || bytes >= LOOK_BYTES || end == files.len() {
            let of: Vec<_> = files.get(first..end).unwrap_or_default().iter().map(identity).collect();
            let label = format!("look-{:05}", units.len());
            units.push(Unit::new(label, Work::Look(first, end), &(plan, of)));
            (first, bytes) = (end, 0);
        }
    }
    units
}

fn merge_units(cut: u128, cuts: &Cuts) -> Result<Vec<Unit>> {
    let mut units = Vec::with_capacity(cuts.keys.len() + 1);
    let mut behind: Option<&String> = None;
    for through in cuts.keys.iter().map(Some).chain([None]) {
        let key = |key: Option<&String>| key.map(|key| unhex(key)).transpose();
        let span = Span { behind: key(behind)?, through: key(through)? };
        let label = format!("merge-{:05}", units.len());
        units.push(Unit::new(label, Work::Merge(span), &(format!("{cut:032x}"), behind, through)));
        behind = through;
    }
    Ok(units)
}

/// Progress that two loaders told, together: neither takes back what the other has seen.
pub(crate) fn joined(one: &LoadProgress, other: &LoadProgress) -> LoadProgress {
    let rewritten_files = one.rewritten_files.max(other.rewritten_files);
    let looked = |progress: &LoadProgress| progress.adopted_files.saturating_add(progress.rewritten_files);
    let mut seconds: BTreeMap<String, f64> = one.seconds.clone();
    for (phase, took) in &other.seconds {
        let held = seconds.entry(phase.clone()).or_default();
        *held = held.max(*took);
    }
    LoadProgress {
        files: one.files.max(other.files),
        files_done: one.files_done.max(other.files_done),
        rows: one.rows.max(other.rows),
        bytes: one.bytes.max(other.bytes),
        bytes_moved: one.bytes_moved.max(other.bytes_moved),
        adopted_files: looked(one).max(looked(other)).saturating_sub(rewritten_files),
        rewritten_files,
        seconds,
    }
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
