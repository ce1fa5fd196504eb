//! The life of a load, as its caller sees it: begin, write files, prepare or commit, cancel, revert.
//!
//! Everything that decides is an edit of the table log. The work between *pinned* and *prepared* is a loader's
//! ([`work`]); this module pins, shows, and does what needs no work.
//!
//! Commit pins the files first: an explicit list, or one listing, with size and tag of each, written to an immutable
//! object that the edit names. From then on the list is the load; a file that changes later fails it.

mod begin;
mod describe;
mod pin;
mod source;
mod split;
mod status;
mod streamed;
mod tidy;
mod work;

pub use begin::finish_load_file;
pub use status::{LoadBoard, LoadReport, LoadStatus, PinnedFile, PinnedFiles, check_file_name};

use std::sync::Arc;

use nacre_manifest::{Change, Load, LoadGoal, LoadState as Stored, Manifest};
use nacre_types::{Error, LoadId, Result};

use crate::{LoadInfo, Table};

/// The load, or 404.
fn find(manifest: &Manifest, load: LoadId) -> Result<&Load> {
    manifest
        .load(load)
        .ok_or_else(|| Error::not_found(format!("there is no load {load}")).with_code("load-not-found"))
}

impl Table {
    /// A manifest that knows the load, if there is one: another process may have begun it a moment ago.
    async fn manifest_with(self: &Arc<Self>, load: LoadId) -> Result<Arc<Manifest>> {
        if self.manifest().load(load).is_none() {
            self.refresh().await?;
        }
        Ok(self.manifest())
    }
}

fn wrong_state(load: &Load, wanted: &str) -> Error {
    Error::conflict(format!("load {} is {}; it cannot be {wanted}", load.id, load.state.name()))
        .with_code("load-state")
}

impl Table {
    /// Pins the files, if that is not done, and asks for the load to be committed. Answers at once; [`Table::load`]
    /// tells when it is done. `files`: exactly these names; `None` = one listing. `rows`: their number, if it is known.
    ///
    /// # Errors
    /// `NotFound` (`load-not-found`, `load-files-missing`); `Conflict` (`load-state`).
    pub async fn commit_load(
        self: &Arc<Self>,
        load: LoadId,
        files: Option<Vec<String>>,
        rows: Option<u64>,
    ) -> Result<LoadInfo> {
        self.advance_load(load, LoadGoal::Commit, files, rows).await
    }

    /// As [`Table::commit_load`], but stops at *prepared*.
    ///
    /// # Errors
    /// Those of [`Table::commit_load`].
    pub async fn prepare_load(
        self: &Arc<Self>,
        load: LoadId,
        files: Option<Vec<String>>,
        rows: Option<u64>,
    ) -> Result<LoadInfo> {
        self.advance_load(load, LoadGoal::Prepare, files, rows).await
    }

    async fn advance_load(
        self: &Arc<Self>,
        id: LoadId,
        goal: LoadGoal,
        files: Option<Vec<String>>,
        rows: Option<u64>,
    ) -> Result<LoadInfo> {
        // What is to be done hangs on how far the load is, and another process may have taken it there.
        self.refresh().await?;
        let manifest = self.manifest();
        let load = find(&manifest, id)?;
        match (load.state, goal) {
            (Stored::Open, _) => self.pin(load, goal, files, rows).await?,
            (Stored::Pinned, LoadGoal::Commit) if load.goal == LoadGoal::Prepare => {
                let files_path = load.files_path.clone().unwrap_or_default();
                self.commit(Box::new(move |manifest| {
                    let held = find(manifest, id)?;
                    Ok(match held.state {
                        Stored::Pinned => {
                            vec![Change::PinLoad {
                                load: id,
                                files_path: files_path.clone(),
                                goal: LoadGoal::Commit,
                            }]
                        }
                        _ => Vec::new(),
                    })
                }))
                .await?;
                // A loader that was done in between has read the old goal and left the load prepared.
                if self.manifest().load(id).is_some_and(|load| load.state == Stored::Prepared) {
                    self.commit_prepared(id).await?;
                }
            }
            (Stored::Prepared, LoadGoal::Commit) => self.commit_prepared(id).await?,
            (Stored::Pinned | Stored::Prepared | Stored::Committed, _) => {}
            (_, LoadGoal::Commit) => return Err(wrong_state(load, "committed")),
            (_, LoadGoal::Prepare) => return Err(wrong_state(load, "prepared")),
        }
        // One permit stays: a loader that is busy looking looks again.
        self.shared.loads_changed.notify_one();
        self.load(id).await
    }

    /// Gives the load up; nothing of it was ever visible.
    ///
    /// # Errors
    /// `Conflict` (`load-state`) for one that is committed: revert it.
    pub async fn cancel_load(self: &Arc<Self>, id: LoadId) -> Result<LoadInfo> {
        self.commit(Box::new(move |manifest| {
            let load = find(manifest, id)?;
            match load.state {
                Stored::Cancelled | Stored::Failed => Ok(Vec::new()),
                state if state.is_under_way() => {
                    Ok(vec![Change::CancelLoad { load: id, reason: "cancelled by its caller".to_owned() }])
                }
                _ => Err(wrong_state(load, "cancelled")),
            }
        }))
        .await?;
        self.load(id).await
    }

    /// Undoes a committed load: the table is as if it had never been committed.
    ///
    /// # Errors
    /// `Conflict` (`load-sealed`) after its undo window; `Conflict` (`load-state`).
    pub async fn revert_load(self: &Arc<Self>, id: LoadId) -> Result<LoadInfo> {
        self.commit(Box::new(move |manifest| {
            let load = find(manifest, id)?;
            match load.state {
                Stored::Reverted => Ok(Vec::new()),
                Stored::Committed if load.sealed => Err(Error::conflict(format!(
                    "the undo window of load {id} is over and it is sealed; load the earlier data again"
                ))
                .with_code("load-sealed")),
                Stored::Committed => {
                    Ok(vec![Change::RevertLoad { load: id, reason: "reverted by its caller".to_owned() }])
                }
                _ => Err(wrong_state(load, "reverted")),
            }
        }))
        .await?;
        self.load(id).await
    }
}
