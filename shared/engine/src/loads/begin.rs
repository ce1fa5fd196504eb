//! Begin: a load's request is checked, stored with it, and given a place to write files to.

use std::sync::Arc;

use bytes::Bytes;
use nacre_manifest::{Change, OpenLoad};
use nacre_store::{ObjectPath, PutMode, Upload};
use nacre_types::{Error, JobId, KeySchema, LoadId, Result};

use super::{find, source, status, wrong_state};
use crate::{BeginLoad, Created, LoadInfo, LoadMode, LoadVersion, Table};

impl Table {
    /// Begins a load. `body` is the request as it came: a repeat with the same idempotency key must have the same one.
    ///
    /// # Errors
    /// `Invalid` (`load-version`, `version-ahead`, `load-source`); `Conflict` (`idempotency-key-body`, `load-key`).
    pub async fn begin_load(
        self: &Arc<Self>,
        request: &BeginLoad,
        body: Bytes,
        idempotency_key: Option<&str>,
    ) -> Result<Created<LoadInfo>> {
        self.check_not_dropped()?;
        self.check_key_columns(request)?;
        request.source.as_ref().map_or(Ok(()), source::check)?;
        let mut log_time = i64::MAX;
        for partition in self.partitions() {
            log_time = log_time.min(self.shared.log.log_time(partition).await?);
        }
        let version = self.load_version(request, log_time)?;
        let idempotency = idempotency_key.map(|key| xxhash_rust::xxh3::xxh3_128(key.as_bytes()));
        let body_hash = xxhash_rust::xxh3::xxh3_128(&body);
        let stored = Bytes::from(
            serde_json::to_vec(request)
                .map_err(|e| Error::internal(format!("the request does not encode: {e}")))?,
        );
        let minted = LoadId(self.shared.ctx.ids.random_u128());
        let job = JobId(self.shared.ctx.ids.random_u128());
        let mode = match request.mode {
            LoadMode::Merge => nacre_manifest::LoadMode::Merge,
            LoadMode::Replace => nacre_manifest::LoadMode::Replace,
        };
        let manifest = self
            .commit(Box::new(move |manifest| {
                if let Some(earlier) = idempotency.and_then(|key| manifest.load_of_key(key)) {
                    if earlier.id != minted && earlier.body_hash != body_hash {
                        return Err(Error::conflict(format!(
                            "the Idempotency-Key was used for load {} with another body",
                            earlier.id
                        ))
                        .with_code("idempotency-key-body"));
                    }
                    return Ok(Vec::new());
                }
                Ok(vec![Change::OpenLoad(OpenLoad {
                    load: minted,
                    job,
                    mode,
                    version,
                    begun_at_micros: log_time,
                    idempotency,
                    body_hash,
                    body: stored.clone(),
                })])
            }))
            .await?;
        let id = match idempotency.and_then(|key| manifest.load_of_key(key)) {
            Some(load) => load.id,
            None => minted,
        };
        // So that a folder is there to write to; files whose names begin with '_' are no part of a load.
        let marker = staging(id)?.join("_begun")?;
        self.shared.store.put(&marker, Bytes::from_static(b"nacre\n"), PutMode::Create).await?;
        let info = self.load(id).await?;
        Ok(if id == minted { Created::New(info) } else { Created::Same(info) })
    }

    /// What can be said before any file is there. Whether the columns' types fit is seen when they are read.
    fn check_key_columns(&self, request: &BeginLoad) -> Result<()> {
        let named = request.columns.as_ref().map_or(0, |columns| columns.key.len());
        let parts = match &self.settings().key {
            Some(KeySchema::Bytes) => 1,
            Some(KeySchema::Parts(parts)) => parts.len(),
            None => return Ok(()),
        };
        if named == 0 || named == parts {
            return Ok(());
        }
        Err(Error::conflict(format!(
            "columns.key names {named} columns, and keys of the table have {parts} parts; name as many, or none if one \
             column `key` holds the packed key"
        ))
        .with_code("load-key"))
    }

    fn load_version(&self, request: &BeginLoad, log_time: i64) -> Result<Option<i64>> {
        let by_column = request.columns.as_ref().is_some_and(|columns| columns.version.is_some());
        let version = match request.version {
            Some(LoadVersion::At(version)) => Some(version),
            Some(LoadVersion::Now) => Some(log_time),
            None if by_column && request.mode == LoadMode::Merge => None,
            None => {
                return Err(Error::invalid(
                    "version: say an integer (microseconds since the epoch) or \"now\"; it may be left out only in a \
                     merge whose columns.version names a column",
                )
                .with_code("load-version"));
            }
        };
        if let Some(version) = version {
            self.settings().check_version(version, log_time).map_err(|e| e.context("version"))?;
        }
        Ok(version)
    }

    /// Opens a file of a load for writing; it is there, whole, once the upload has finished.
    ///
    /// # Errors
    /// `Invalid` (`file-name`); `NotFound` (`load-not-found`); `Conflict` (`load-state`) once the files are pinned.
    pub async fn upload_load_file(self: &Arc<Self>, load: LoadId, name: &str) -> Result<Box<dyn Upload>> {
        status::check_file_name(name)?;
        let manifest = self.manifest_with(load).await?;
        let held = find(&manifest, load)?;
        if held.state != nacre_manifest::LoadState::Open {
            return Err(wrong_state(held, "given more files"));
        }
        self.shared.store.upload(&staging(load)?.join(name)?).await
    }

    /// [`Table::upload_load_file`] for a body in memory.
    ///
    /// # Errors
    /// Those, and `Conflict` (`load-file-exists`) for a name that is there.
    pub async fn put_load_file(self: &Arc<Self>, load: LoadId, name: &str, body: Bytes) -> Result<()> {
        let mut upload = self.upload_load_file(load, name).await?;
        upload.write(body).await?;
        finish_load_file(upload, name).await
    }
}

/// Finishes the upload of a load's file.
///
/// # Errors
/// `Conflict` (`load-file-exists`) for a name that is there.
pub async fn finish_load_file(upload: Box<dyn Upload>, name: &str) -> Result<()> {
    match upload.finish().await? {
        nacre_store::PutOutcome::Stored(_) => Ok(()),
        _ => Err(Error::conflict(format!("the load has a file {name} already; files are never overwritten"))
            .with_code("load-file-exists")),
    }
}

/// Where the producer of a load writes its files.
pub(super) fn staging(load: LoadId) -> Result<ObjectPath> {
    ObjectPath::new(&format!("staging/{load}"))
}
