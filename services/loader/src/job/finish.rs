//! The end of a load's work: guards, and the edits that bring its layer.
//!
//! Whoever sees all results may do this, several at once: each edit is refused or empty where another has made it, and
//! none undoes what another did. A load fails for what a loader found only while it is *pinned*: once prepared, it is
//! what whoever prepared it saw.

use nacre_engine::{BeginLoad, LoadError, LoadMode, LoadReport};
use nacre_manifest::{Layer, LoadGoal, LoadState, Manifest, Segment};
use nacre_types::Result;

use super::facts::Faults;
use super::planner::Picture;
use super::{Done, Job, Stop, fault};
use crate::guards::{Brings, objections};
use crate::note::SegmentNote;

impl Job<'_> {
    pub(super) async fn finish(&self, picture: &Picture, notes: &[SegmentNote]) -> Done<()> {
        let segments: Vec<Segment> =
            notes.iter().map(|note| note.to_segment(self.load.id, self.load.job)).collect::<Result<_>>()?;
        let request = &self.request;
        self.guard(request, &segments, picture)?;
        let fates = || picture.fates.iter().flatten();
        let hidden = match request.mode {
            LoadMode::Merge => fates().map(|fate| fate.hidden).sum(),
            LoadMode::Replace => 0,
        };
        let mut report = self.report(picture);
        report.files.extend(self.pinned.skipped.iter().cloned());
        let plan = self.facts.lock().plan.clone();
        let declares = plan.filter(|plan| plan.declares).map(|plan| plan.key);
        self.table.finish_prepare(self.load, segments, hidden, &report, declares).await?;
        // The goal may have been raised while this worked.
        let goal = self.table.manifest().load(self.load.id).map_or(self.load.goal, |load| load.goal);
        match goal {
            LoadGoal::Commit => self.commit().await,
            LoadGoal::Prepare => Ok(self.table.leave_prepared(self.load.id).await?),
        }
    }

    /// Shows a prepared load. One that cannot be shown fails, prepared as it is.
    pub(super) async fn commit(&self) -> Done<()> {
        self.table.commit_prepared(self.load.id).await.map_err(|error| match Stop::from(error) {
            Stop::Fail(errors, _) => Stop::Refused(errors),
            stop => stop,
        })
    }

    pub(super) fn report(&self, picture: &Picture) -> LoadReport {
        let files = picture.fates.iter().flatten().map(|fate| fate.report.clone()).collect();
        LoadReport { files, errors: Vec::new(), error_count: 0, progress: picture.progress.clone() }
    }

    fn guard(&self, request: &BeginLoad, segments: &[Segment], picture: &Picture) -> Done<()> {
        let brings = Brings {
            mode: request.mode,
            rows: segments.iter().map(|segment| segment.rows).sum(),
            rows_in_files: picture.progress.rows,
            tombstones: segments.iter().map(|segment| segment.tombstones).sum(),
            rows_before: rows_in_sight(&self.table.manifest()),
            rows_said: self.pinned.rows,
        };
        let errors: Vec<LoadError> =
            objections(&request.guards, brings).into_iter().map(|detail| fault("", &detail)).collect();
        let mut faults = Faults::default();
        let count = errors.len() as u64;
        faults.add(errors, count);
        if faults.is_empty() { Ok(()) } else { Err(Stop::Fail(faults.errors, faults.count)) }
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
