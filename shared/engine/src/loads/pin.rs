//! Pinning: from here on the list of files is the load.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nacre_catalog::RecordPut;
use nacre_manifest::{Change, Load, LoadGoal, LoadState as Stored};
use nacre_runtime::Backoff;
use nacre_store::{ObjectMeta, ObjectPath, PutMode};
use nacre_types::{Error, ErrorKind, LoadId, Result, TableId, limits};

use super::begin::staging;
use super::status::{self, PinnedFile, PinnedFiles, UNDER_WAY};
use super::{find, source};
use crate::shared::Shared;
use crate::{BeginLoad, LoadFile, LoadSource, Table};

const LIST_PAGE: usize = 1_000;

impl Table {
    pub(super) async fn pin(
        self: &Arc<Self>,
        load: &Load,
        goal: LoadGoal,
        files: Option<Vec<String>>,
        rows: Option<u64>,
    ) -> Result<()> {
        let request: BeginLoad = serde_json::from_slice(&load.body)
            .map_err(|e| Error::corrupt(format!("the request of load {} does not decode: {e}", load.id)))?;
        let mut pinned = match &request.source {
            None => self.pin_below(&staging(load.id)?, files, true).await?,
            Some(LoadSource::Prefix(url)) => self.pin_below(&source::path(url)?, files, false).await?,
            Some(LoadSource::Files(urls)) => self.pin_urls(urls).await?,
        };
        pinned.rows = rows;
        if pinned.files.len() > limits::LOAD_FILES {
            return Err(Error::invalid(format!(
                "the load has {} files; the limit load_files is {}",
                pinned.files.len(),
                limits::LOAD_FILES
            ))
            .with_code("load-files-many"));
        }
        let unique = self.shared.ctx.ids.random_u128();
        let path = ObjectPath::new(&format!("tables/{}/{}/files-{unique:032x}", self.id(), load.job))?;
        self.shared.store.put(&path, status::encode(&pinned)?, PutMode::Create).await?;
        // Before the edit: a loader that starts after a crash between the two finds a load that has nothing to do.
        change_under_way(&self.shared, self.id(), load.id, true).await?;
        let id = load.id;
        self.commit(Box::new(move |manifest| {
            let held = find(manifest, id)?;
            Ok(match held.state {
                Stored::Open => {
                    vec![Change::PinLoad { load: id, files_path: path.as_str().to_owned(), goal }]
                }
                _ => Vec::new(),
            })
        }))
        .await
        .map(drop)
    }

    async fn pin_below(
        &self,
        folder: &ObjectPath,
        files: Option<Vec<String>>,
        staged: bool,
    ) -> Result<PinnedFiles> {
        let mut pinned = PinnedFiles { files: Vec::new(), skipped: Vec::new(), rows: None };
        if let Some(names) = files {
            let unique: BTreeSet<String> = names.into_iter().collect();
            for name in unique {
                status::check_file_name(&name)?;
                let meta = self.head(&folder.join(&name)?, &name).await?;
                pinned.files.push(PinnedFile::of(name, &meta, staged));
            }
            return Ok(pinned);
        }
        let prefix = format!("{folder}/");
        let mut after: Option<ObjectPath> = None;
        loop {
            let page = self.shared.store.list(&prefix, after.as_ref(), LIST_PAGE).await?;
            let count = page.len();
            after = page.last().map(|meta| meta.path.clone());
            for meta in page {
                let name = meta.path.as_str().strip_prefix(&prefix).unwrap_or(meta.path.as_str()).to_owned();
                match status::is_skipped(&name, meta.size) {
                    Some("its name begins with '.' or '_'") if name == "_begun" => {}
                    Some(why) => pinned.skipped.push(LoadFile {
                        file: name,
                        rows: 0,
                        bytes: meta.size,
                        outcome: "skipped".to_owned(),
                        reason: Some(why.to_owned()),
                        hint: None,
                    }),
                    None => pinned.files.push(PinnedFile::of(name, &meta, staged)),
                }
            }
            if count < LIST_PAGE {
                return Ok(pinned);
            }
        }
    }

    async fn pin_urls(&self, urls: &[String]) -> Result<PinnedFiles> {
        let mut pinned = PinnedFiles { files: Vec::new(), skipped: Vec::new(), rows: None };
        for url in urls.iter().collect::<BTreeSet<_>>() {
            let meta = self.head(&source::path(url)?, url).await?;
            pinned.files.push(PinnedFile::of(url.clone(), &meta, false));
        }
        Ok(pinned)
    }

    async fn head(&self, path: &ObjectPath, name: &str) -> Result<ObjectMeta> {
        self.shared.store.head(path).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::not_found(format!("the load has no file {name}; write it first"))
                .with_code("load-files-missing"),
            _ => error,
        })
    }
}

/// Adds a load to the record of those with work to do, or takes it off.
pub(crate) async fn change_under_way(shared: &Shared, table: TableId, load: LoadId, add: bool) -> Result<()> {
    let entry = format!("{table}/{load}");
    let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(500));
    for _ in 0..20 {
        let held = shared.catalog.record(UNDER_WAY).await?;
        let (mut entries, tag): (BTreeSet<String>, _) = match &held {
            Some((bytes, tag)) => (status::decode(bytes, "list of loads")?, Some(tag)),
            None => (BTreeSet::new(), None),
        };
        let changed = if add { entries.insert(entry.clone()) } else { entries.remove(&entry) };
        if !changed {
            return Ok(());
        }
        if let RecordPut::Stored(_) =
            shared.catalog.put_record(UNDER_WAY, tag, status::encode(&entries)?).await?
        {
            return Ok(());
        }
        tokio::time::sleep(backoff.next(&*shared.ctx.ids)).await;
    }
    Err(Error::unavailable("the list of loads has too many writers; try again"))
}

/// The loads with work to do, as the record has them.
pub(crate) async fn read_under_way(shared: &Shared) -> Result<Vec<(TableId, LoadId)>> {
    let Some((bytes, _)) = shared.catalog.record(UNDER_WAY).await? else { return Ok(Vec::new()) };
    let entries: BTreeSet<String> = status::decode(&bytes, "list of loads")?;
    entries
        .iter()
        .map(|entry| {
            let (table, load) =
                entry.split_once('/').ok_or_else(|| Error::corrupt(format!("list of loads: {entry:?}")))?;
            Ok((TableId::parse(table)?, LoadId::parse(load)?))
        })
        .collect()
}
