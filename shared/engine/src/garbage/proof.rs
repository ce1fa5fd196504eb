//! Whether an object is garbage: a pure decision over what a table's log said since a mark.
//!
//! The *span* is every manifest of the table from the mark's to the newest that was read: the mark's manifest, and all
//! that the edits since have named. An object goes only if each of these holds:
//!
//! | check | against |
//! |---|---|
//! | its name is one that nacre mints | files that somebody put there |
//! | its maker had ended by the mark: the job was not open then nor opened since; the load was over; the flush began below what was covered | what is still to be committed |
//! | no manifest of the span names it | what is read, and what an older view, a page token, a restore still reads |
//! | the store dates it before the mark | what somebody who sleeps has only just put |
//!
//! A maker that has ended does not begin again: an edit that brings segments must name an open job, a load that is under
//! way, or the covered offset, and jobs and loads that are closed stay closed. So what is proven once stays true. A file that
//! is adopted is the load's own copy below its job (`load-foreign-object`): one that lay in the place of a load that is over
//! could be judged, and then named.

use std::collections::HashSet;
use std::sync::Arc;

use nacre_catalog::EncodedEdit;
use nacre_manifest::{Change, Edit, Load, LoadState, Location, Manifest, Segment};
use nacre_types::{CommitId, Error, JobId, LoadId, Result, SegmentId, Seq};
use xxhash_rust::xxh3::xxh3_128;

use super::name::{Kind, Maker, Named};
use crate::table::fold;

/// What becomes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may go.
    Garbage,
    /// Its name is no name that nacre mints.
    Stranger,
    /// Whoever made it may still bring it in, or could at the mark.
    MakerLives,
    /// A manifest of the span names it; or it is a manifest.
    Named,
    /// It is younger than the mark.
    Young,
}

/// The manifests of a table from a mark to the newest that was read.
#[derive(Debug)]
pub(super) struct Span {
    mark: Arc<Manifest>,
    /// When it was the newest, at least, by the store's date.
    marked_at_micros: i64,
    head: Arc<Manifest>,
    head_commit: CommitId,
    /// Segments that edits since the mark have brought.
    brought: HashSet<SegmentId>,
    /// Hashes of all paths that are named as such. Two that are equal by chance keep an object that could go.
    paths: HashSet<u128>,
    /// Jobs that were open at the mark, or opened since.
    jobs: HashSet<JobId>,
    /// Loads that were begun since the mark.
    begun: HashSet<LoadId>,
}

impl Span {
    /// The span of one manifest, whose last edit is `commit`. Looks at all of its segments.
    pub(super) fn of(mark: Manifest, commit: CommitId, marked_at_micros: i64) -> Self {
        let mark = Arc::new(mark);
        let mut span = Self {
            marked_at_micros,
            head: mark.clone(),
            head_commit: commit,
            brought: HashSet::new(),
            paths: HashSet::new(),
            jobs: mark.jobs().iter().map(|job| job.id).collect(),
            begun: HashSet::new(),
            mark,
        };
        let mark = span.mark.clone();
        for segment in mark.segments() {
            span.name_location(&segment.location());
        }
        for load in mark.loads() {
            if load.state.is_under_way() {
                span.jobs.insert(load.job);
            }
            span.name_paths(load.files_path.iter().chain(&load.report_path));
        }
        span
    }

    /// The newest manifest.
    pub(super) fn head(&self) -> &Manifest {
        &self.head
    }

    /// Adds the edits after the newest manifest.
    ///
    /// # Errors
    /// `Corrupt` where they do not follow; `Conflict` where a restore is among them, for what was so before it is not
    /// what is so now.
    pub(super) fn extend(&mut self, edits: &[(Seq, EncodedEdit)]) -> Result<()> {
        let Some((head, commit)) = fold(&self.head, self.head_commit, edits)? else { return Ok(()) };
        for (_, encoded) in edits {
            for change in &Edit::decode(&encoded.body)?.changes {
                self.note(change)?;
            }
        }
        (self.head, self.head_commit) = (Arc::new(head), commit);
        Ok(())
    }

    fn note(&mut self, change: &Change) -> Result<()> {
        match change {
            Change::Flush(flush) => self.bring(&flush.segments),
            Change::Compact(compact) => self.bring(&compact.outputs),
            Change::OpenLoad(open) => {
                self.begun.insert(open.load);
                self.jobs.insert(open.job);
            }
            Change::PinLoad { files_path, .. } => self.name_paths([files_path]),
            Change::PrepareLoad(prepare) => {
                self.bring(&prepare.segments);
                self.name_paths(&prepare.report_path);
            }
            Change::FailLoad { report_path, .. } => self.name_paths(report_path),
            Change::OpenJob { job, .. } => drop(self.jobs.insert(*job)),
            Change::RaiseEpoch { .. } => {
                return Err(Error::conflict("the table was restored since the mark"));
            }
            Change::CreateTable { .. }
            | Change::SetSettings(_)
            | Change::CommitLoad { .. }
            | Change::CancelLoad { .. }
            | Change::RevertLoad { .. }
            | Change::SealLoad { .. }
            | Change::ForgetLoad { .. }
            | Change::CloseJob { .. }
            | Change::Expire { .. }
            | Change::DropFloor { .. }
            | Change::SplitShard(_)
            | Change::DropTable
            | Change::UndropTable
            | Change::DeclareSource(_)
            | Change::GrowSource { .. }
            | Change::RemoveSource => {}
        }
        Ok(())
    }

    fn bring(&mut self, segments: &[Segment]) {
        for segment in segments {
            self.brought.insert(segment.id);
            self.name_location(&segment.location);
        }
    }

    fn name_location(&mut self, location: &Location) {
        // Those of other locations end in the segment's id.
        if let Location::Adopted { path, index_path, .. } = location {
            self.name_paths([path, index_path]);
        }
    }

    fn name_paths<'a>(&mut self, paths: impl IntoIterator<Item = &'a String>) {
        self.paths.extend(paths.into_iter().map(|path| xxh3_128(path.as_bytes())));
    }

    /// Whether the load had ended by the mark, so that nobody wants what its producer wrote. One that was committed has
    /// not while it can be undone. One that the mark does not know was forgotten before, if the caller knows it to be
    /// the table's.
    pub(super) fn is_load_over(&self, load: LoadId) -> bool {
        let over = |load: &Load| match load.state {
            LoadState::Open | LoadState::Pinned | LoadState::Prepared => false,
            LoadState::Committed => load.sealed,
            LoadState::Failed | LoadState::Cancelled | LoadState::Reverted => true,
        };
        !self.begun.contains(&load) && self.mark.load(load).is_none_or(over)
    }

    /// All loads that the table has had within the span.
    pub(super) fn loads(&self) -> impl Iterator<Item = LoadId> + '_ {
        self.mark.loads().map(|load| load.id).chain(self.begun.iter().copied())
    }

    fn has_ended(&self, maker: Maker) -> bool {
        match maker {
            Maker::Flush { partition, from } => self.mark.covered(partition) > from,
            Maker::Job(job) => !self.jobs.contains(&job),
            Maker::Producer(load) => self.is_load_over(load),
        }
    }

    fn names(&self, named: &Named, path: &str) -> bool {
        let by_id = |id| {
            self.mark.segment_ref(id).is_some()
                || self.head.segment_ref(id).is_some()
                || self.brought.contains(&id)
        };
        named.segment.is_some_and(by_id) || self.paths.contains(&xxh3_128(path.as_bytes()))
    }

    /// What becomes of an object that a listing of a folder of the table, or of one of its loads' staging place, showed
    /// before the newest edits were read.
    pub(super) fn judge(&self, path: &str, modified_micros: i64) -> Verdict {
        let named = match Kind::of(self.mark.table(), path) {
            Kind::Candidate(named) => named,
            Kind::Manifest => return Verdict::Named,
            Kind::Stranger => return Verdict::Stranger,
        };
        if !self.has_ended(named.maker) {
            return Verdict::MakerLives;
        }
        if self.names(&named, path) {
            return Verdict::Named;
        }
        if modified_micros >= self.marked_at_micros {
            return Verdict::Young;
        }
        Verdict::Garbage
    }
}
