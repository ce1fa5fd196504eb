//! What a load looks like from outside.

use std::sync::Arc;

use nacre_manifest::{Load, LoadState as Stored};
use nacre_store::{GetOptions, ObjectPath};
use nacre_types::{LoadId, Result, limits};

use super::begin::staging;
use super::find;
use super::status::{self, LoadReport, LoadStatus, PinnedFiles, status_record};
use crate::{LoadError, LoadFile, LoadInfo, LoadMode, LoadState, Table};

impl Table {
    /// Describes a load.
    ///
    /// # Errors
    /// `NotFound` (`load-not-found`).
    pub async fn load(self: &Arc<Self>, id: LoadId) -> Result<LoadInfo> {
        let manifest = self.manifest_with(id).await?;
        let load = find(&manifest, id)?;
        let status = match load.state {
            Stored::Open => LoadStatus::default(),
            _ => self.told_load_status(id).await?,
        };
        let report = self.load_report(load).await?;
        let state = match load.state {
            Stored::Open => LoadState::Open,
            Stored::Pinned if status.preparing => LoadState::Preparing,
            Stored::Pinned => LoadState::Validating,
            Stored::Prepared => LoadState::Prepared,
            Stored::Committed => LoadState::Committed,
            Stored::Failed => LoadState::Failed,
            Stored::Cancelled => LoadState::Cancelled,
            Stored::Reverted => LoadState::Reverted,
        };
        let (mut errors, mut error_count) = (report.errors, report.error_count);
        if let (Stored::Failed, Some(reason), true) = (load.state, &load.reason, errors.is_empty()) {
            errors.push(LoadError { file: String::new(), row: None, column: None, detail: reason.clone() });
            error_count = 1;
        }
        errors.truncate(limits::LOAD_ERRORS);
        let revertible = load.is_unsealed().then_some(load.committed_at_micros).flatten();
        let is_done = matches!(load.state, Stored::Committed | Stored::Reverted);
        Ok(LoadInfo {
            id,
            state,
            mode: match load.mode {
                nacre_manifest::LoadMode::Merge => LoadMode::Merge,
                nacre_manifest::LoadMode::Replace => LoadMode::Replace,
            },
            version: load.version,
            begun_at_micros: load.begun_at_micros,
            staging_url: self.staging_url(id)?,
            progress: if report.progress.files > 0 { report.progress } else { status.progress },
            rows_hidden: (load.mode == nacre_manifest::LoadMode::Merge && load.commit.is_some())
                .then_some(load.rows_hidden),
            revertible_until_micros: revertible
                .map(|at| at.saturating_add(manifest.settings().undo_window_micros())),
            edition: load.reverted.or(load.commit).filter(|_| is_done),
            token: is_done.then(|| self.token()),
            errors,
            error_count,
        })
    }

    /// All loads that the table log still knows, oldest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn loads(self: &Arc<Self>) -> Result<Vec<LoadInfo>> {
        self.refresh().await?;
        let ids: Vec<LoadId> = self.manifest().loads().map(|load| load.id).collect();
        let mut loads = Vec::with_capacity(ids.len());
        for id in ids {
            loads.push(self.load(id).await?);
        }
        Ok(loads)
    }

    /// What became of each file of a load, as far as it is known.
    ///
    /// # Errors
    /// `NotFound` (`load-not-found`).
    pub async fn load_files(self: &Arc<Self>, id: LoadId) -> Result<Vec<LoadFile>> {
        let manifest = self.manifest_with(id).await?;
        let load = find(&manifest, id)?;
        if load.report_path.is_some() {
            return Ok(self.load_report(load).await?.files);
        }
        let Some(pinned) = self.pinned_files(load).await? else { return Ok(Vec::new()) };
        let waiting = pinned.files.into_iter().map(|file| LoadFile {
            file: file.name,
            rows: 0,
            bytes: file.bytes,
            outcome: "pending".to_owned(),
            reason: None,
            hint: None,
        });
        Ok(waiting.chain(pinned.skipped).collect())
    }

    /// The pinned list of a load; `None` while it is open.
    pub(crate) async fn pinned_files(&self, load: &Load) -> Result<Option<PinnedFiles>> {
        let Some(path) = &load.files_path else { return Ok(None) };
        let object = self.shared.store.get(&ObjectPath::new(path)?, GetOptions::default()).await?;
        status::decode(&object.bytes, "list of a load's files").map(Some)
    }

    /// What the load's loader told last.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn told_load_status(&self, id: LoadId) -> Result<LoadStatus> {
        match self.shared.catalog.record(&status_record(id)).await? {
            Some((bytes, _)) => status::decode(&bytes, "progress of a load"),
            None => Ok(LoadStatus::default()),
        }
    }

    async fn load_report(&self, load: &Load) -> Result<LoadReport> {
        let Some(path) = &load.report_path else { return Ok(LoadReport::default()) };
        let object = self.shared.store.get(&ObjectPath::new(path)?, GetOptions::default()).await?;
        status::decode(&object.bytes, "report of a load")
    }

    /// Where a producer writes the files of a load: a directory, or a URL below the store's.
    fn staging_url(&self, id: LoadId) -> Result<String> {
        let path = staging(id)?;
        Ok(match self.shared.store.local_path(&path) {
            Some(local) => format!("file://{}", local.display()),
            None => self.shared.store.url(&path).unwrap_or_else(|| format!("store:{path}")),
        })
    }
}
