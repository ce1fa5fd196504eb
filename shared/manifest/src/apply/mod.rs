//! `Manifest::apply`: does an edit hold, and what is the state after it.
//!
//! The append of an edit is conditional on the sequence number alone; that it is *right* is decided here, by every
//! process that reads it, from the state before it and nothing else. So a zombie writer, a compaction that slept or a
//! loader that ran twice cannot do harm: its edit is refused against the fresh state, and it redoes the work or gives up.
//! A rule that is not checked here does not exist.
//!
//! Changes of one edit are applied in order to a [`Draft`], each seeing those before it, and only a draft that all of
//! them left whole becomes the next manifest.

mod checks;
mod compact;
mod flush;
mod jobs;
mod layers;
mod load;
mod source;
mod table;

use crate::{Change, Edit, EditionFilter, Load, Manifest, Refused, RefusedReason};
use nacre_types::{LoadId, Seq};
use std::sync::Arc;

impl Manifest {
    /// The state after `edit`, which becomes edit `seq`. The cost follows the edit, not the table; only the change
    /// that takes a load's segments away again looks at all segments within the range of its keys.
    ///
    /// # Errors
    /// [`Refused`] where the edit does not hold; nothing has changed then.
    pub fn apply(&self, seq: Seq, edit: &Edit) -> Result<Self, Refused> {
        if seq != self.seq.next() {
            return Err(Refused::new(
                RefusedReason::WrongSeq { expected: self.seq.next() },
                format!("edit {seq} does not follow edit {}", self.seq),
            ));
        }
        if edit.changes.is_empty() {
            return Err(malformed("the edit has no changes"));
        }
        let mut draft = Draft {
            next: Self { seq, at_micros: self.at_micros.max(edit.at_micros), ..self.clone() },
            at_micros: edit.at_micros,
            committed: None,
        };
        for change in &edit.changes {
            draft.change(change)?;
        }
        Ok(draft.finish())
    }
}

/// The next manifest while it is being made.
struct Draft {
    next: Manifest,
    at_micros: i64,
    /// The load that this edit committed.
    committed: Option<LoadId>,
}

impl Draft {
    fn change(&mut self, change: &Change) -> Result<(), Refused> {
        self.check_alive(change)?;
        match change {
            Change::CreateTable { settings, shards } => self.create_table(settings, shards),
            Change::SetSettings(change) => self.set_settings(change),
            Change::Flush(change) => self.flush(change),
            Change::OpenLoad(change) => self.open_load(change),
            Change::PinLoad { load, files_path, goal } => self.pin_load(*load, files_path, *goal),
            Change::PrepareLoad(change) => self.prepare_load(change),
            Change::CommitLoad { load, insist } => self.commit_load(*load, *insist),
            Change::FailLoad { load, reason, report_path } => {
                self.fail_load(*load, reason, report_path.as_deref())
            }
            Change::CancelLoad { load, reason } => self.cancel_load(*load, reason),
            Change::RevertLoad { load, reason } => self.revert_load(*load, reason),
            Change::SealLoad { load } => self.seal_load(*load),
            Change::ForgetLoad { load } => self.forget_load(*load),
            Change::OpenJob { job, kind } => self.open_job(*job, *kind),
            Change::CloseJob { job } => self.close_job(*job),
            Change::Compact(change) => self.compact(change),
            Change::Expire { segments, drops } => self.expire(segments, drops),
            Change::DropFloor { load } => self.drop_floor(*load),
            Change::SplitShard(change) => self.split_shard(change),
            Change::DropTable => self.drop_table(),
            Change::UndropTable => self.undrop_table(),
            Change::RaiseEpoch { epoch } => self.raise_epoch(*epoch),
            Change::DeclareSource(change) => self.declare_source(change),
            Change::GrowSource { starts } => self.grow_source(starts),
            Change::RemoveSource => self.remove_source(),
        }
    }

    /// Before the creation there is only the creation; after a drop only what brings work under way to its end.
    fn check_alive(&self, change: &Change) -> Result<(), Refused> {
        if !self.next.is_created() {
            return match change {
                Change::CreateTable { .. } | Change::RaiseEpoch { .. } => Ok(()),
                _ => Err(Refused::new(RefusedReason::NoTable, "the table has not been created")),
            };
        }
        let ends_work = matches!(
            change,
            Change::CreateTable { .. }
                | Change::Flush(_)
                | Change::FailLoad { .. }
                | Change::CancelLoad { .. }
                | Change::ForgetLoad { .. }
                | Change::CloseJob { .. }
                | Change::Compact(_)
                | Change::Expire { .. }
                | Change::DropTable
                | Change::UndropTable
                | Change::RaiseEpoch { .. }
        );
        match self.next.dropped {
            Some(dropped) if !ends_work => Err(Refused::new(
                RefusedReason::TableDropped,
                format!("the table was dropped by edit {}; undrop it first", dropped.seq),
            )),
            _ => Ok(()),
        }
    }

    fn finish(mut self) -> Manifest {
        self.next.current = Arc::new(EditionFilter::of(&self.next));
        self.next
    }

    fn load(&self, load: LoadId) -> Result<&Load, Refused> {
        self.next
            .load(load)
            .ok_or_else(|| Refused::new(RefusedReason::NoLoad(load), format!("the table has no load {load}")))
    }

    /// The entry of a load that is there, to be changed.
    fn load_mut(&mut self, load: LoadId) -> Result<&mut Load, Refused> {
        let loads = Arc::make_mut(&mut self.next.loads);
        let known = loads.iter_mut().rev().find(|known| known.id == load);
        known
            .map(Arc::make_mut)
            .ok_or_else(|| Refused::new(RefusedReason::NoLoad(load), format!("the table has no load {load}")))
    }
}

fn malformed(detail: impl Into<String>) -> Refused {
    Refused::new(RefusedReason::Malformed, detail)
}
