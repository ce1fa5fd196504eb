//! What a loader needs of the engine: which loads wait, how it tells its progress, and the edits that end its work.

use std::sync::Arc;

use bytes::Bytes;
use nacre_catalog::RecordPut;
use nacre_manifest::{
    Change, Load, LoadGoal, LoadMode, LoadState as Stored, Location, Manifest, PrepareLoad, Segment,
    SetSettings,
};
use nacre_store::{ObjectPath, PutMode};
use nacre_types::tuple::kind_name;
use nacre_types::{KeySchema, LoadId, Result, TableSettings};

use super::find;
use super::pin::{change_under_way, read_under_way};
use super::split::splits;
use super::status::{self, LoadBoard, LoadReport, LoadStatus, PinnedFiles, status_record};
use crate::node::Node;
use crate::output::{Built, put_segment};
use crate::{BeginLoad, Table};
use nacre_types::Error;

impl Node {
    /// Loads with work for a loader: pinned and not prepared, or prepared and to be committed. Opens their tables.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn loads_to_do(self: &Arc<Self>) -> Result<Vec<(Arc<Table>, Load)>> {
        let mut to_do = Vec::new();
        for (table_id, load_id) in read_under_way(&self.shared).await? {
            let Some(table) = self.table_by_id(table_id).await? else { continue };
            let manifest = table.manifest();
            match manifest.load(load_id) {
                Some(load) if load.state == Stored::Pinned => to_do.push((table, load.clone())),
                Some(load) if load.state == Stored::Prepared && load.goal == LoadGoal::Commit => {
                    to_do.push((table, load.clone()));
                }
                // Listed before the edit that pins it.
                Some(load) if load.state == Stored::Open => {}
                _ => {
                    table.refresh().await?;
                    if table.manifest().load(load_id).is_none_or(|load| !load.state.is_under_way()) {
                        change_under_way(&self.shared, table_id, load_id, false).await?;
                    }
                }
            }
        }
        Ok(to_do)
    }

    /// Returns when a load was pinned or cancelled in this process. Loads of other processes are found by looking.
    pub async fn loads_changed(&self) {
        self.shared.loads_changed.notified().await;
    }
}

impl Table {
    /// The request that began a load.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn load_request(&self, load: &Load) -> Result<BeginLoad> {
        serde_json::from_slice(&load.body)
            .map_err(|e| Error::corrupt(format!("the request of load {} does not decode: {e}", load.id)))
    }

    /// The pinned files of a load.
    ///
    /// # Errors
    /// `Unavailable`; `Corrupt`; `Conflict` (`load-state`) while it is open.
    pub async fn files_of_load(&self, load: &Load) -> Result<PinnedFiles> {
        self.pinned_files(load).await?.ok_or_else(|| super::wrong_state(load, "worked on"))
    }

    /// Whether the load is still to be worked on; a cancelled one is not.
    pub fn is_load_under_way(&self, load: LoadId) -> bool {
        self.manifest().load(load).is_some_and(|load| load.state.is_under_way())
    }

    /// Whether a load may say that keys of the table are `schema`: nothing else has yet, and the table holds no rows, nor
    /// does the log hold any of it. [`Table::finish_prepare`] declares it, so that a load that fails leaves nothing
    /// behind.
    ///
    /// # Errors
    /// `Conflict` (`load-key`) where the table's keys are others.
    pub async fn check_key_declaration(self: &Arc<Self>, schema: &KeySchema) -> Result<()> {
        let is_bytes = *schema == KeySchema::Bytes;
        match &self.settings().key {
            Some(held) if held == schema => Ok(()),
            // Keys so far were bytes.
            None if is_bytes => Ok(()),
            None if self.manifest().segment_count() == 0 && !self.has_streamed_rows().await? => Ok(()),
            held => Err(other_key(held.clone().unwrap_or_default(), schema)),
        }
    }

    /// A load's board. One that does not decode reads as empty: it is replaced.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn load_board(&self, load: LoadId) -> Result<LoadBoard> {
        Ok(match self.shared.catalog.record(&status_record(load)).await? {
            Some((bytes, tag)) => {
                let status = status::decode(&bytes, "progress of a load").unwrap_or_default();
                LoadBoard { status, tag: Some(tag) }
            }
            None => LoadBoard::default(),
        })
    }

    /// Replaces a load's board if it is still as `held`. `None` = it is not, or nobody knows.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn put_load_board(
        &self,
        load: LoadId,
        held: &LoadBoard,
        status: LoadStatus,
    ) -> Result<Option<LoadBoard>> {
        let bytes = status::encode(&status)?;
        match self.shared.catalog.put_record(&status_record(load), held.tag.as_ref(), bytes).await? {
            RecordPut::Stored(tag) => Ok(Some(LoadBoard { status, tag: Some(tag) })),
            RecordPut::Conflict | RecordPut::Unknown => Ok(None),
        }
    }

    /// Puts a segment that a load has built.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn put_load_segment(&self, segment: &Segment, built: &Built) -> Result<()> {
        self.shared.ctx.phases.reach("rewrite/put").await;
        put_segment(&self.shared, self.id(), segment, built.bytes.clone()).await?;
        self.shared.ctx.phases.reach("rewrite/done").await;
        Ok(())
    }

    /// Puts an object below the load's job, for example the index of an adopted file. Answers its path.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn put_load_object(&self, load: &Load, name: &str, bytes: Bytes) -> Result<ObjectPath> {
        let path = ObjectPath::new(&format!("tables/{}/{}/{name}", self.id(), load.job))?;
        self.shared.store.put(&path, bytes, PutMode::Create).await?;
        Ok(path)
    }

    /// The rows of a run that a load has written. Where a run holds no place, all rows have the same.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    pub async fn open_run(&self, run: &Segment) -> Result<crate::SegmentRows> {
        crate::SegmentRows::open(&self.shared, self.id(), run, nacre_types::Place::MIN).await
    }

    async fn put_report(&self, load: &Load, report: &LoadReport) -> Result<String> {
        let unique = self.shared.ctx.ids.random_u128();
        let path =
            self.put_load_object(load, &format!("report-{unique:032x}"), status::encode(report)?).await?;
        Ok(path.as_str().to_owned())
    }

    /// An adopted file is the load's own copy. In the place of another's, or of a load that is over, the garbage's collector
    /// may have judged it before this load named it.
    fn check_adopted(&self, load: &Load, segments: &[Segment]) -> Result<()> {
        let own = format!("tables/{}/{}/", self.id(), load.job);
        for segment in segments {
            if let Location::Adopted { path, .. } = &segment.location
                && !path.starts_with(&own)
            {
                return Err(Error::internal(format!(
                    "load {} would adopt {path}, which is not below {own}: garbage may be collected there",
                    load.id
                ))
                .with_code("load-foreign-object"));
            }
        }
        Ok(())
    }

    /// Brings the load's layer: pinned → prepared, and cuts the shards that it would make too big. `declares`: the same
    /// edit says that keys of the table are these.
    ///
    /// # Errors
    /// `Conflict` where the load was cancelled meanwhile, or (`load-key`) another said what keys are.
    pub async fn finish_prepare(
        self: &Arc<Self>,
        load: &Load,
        segments: Vec<Segment>,
        rows_hidden: u64,
        report: &LoadReport,
        declares: Option<KeySchema>,
    ) -> Result<()> {
        self.check_adopted(load, &segments)?;
        if let Some(schema) = &declares {
            self.check_key_declaration(schema).await?;
        }
        self.shared.ctx.phases.reach("commit/prepare").await;
        let report_path = Some(self.put_report(load, report).await?);
        let mut log_time = i64::MIN;
        for partition in self.partitions() {
            log_time = log_time.max(self.shared.log.log_time(partition).await?);
        }
        let weights = self.weights(&segments, load.mode == LoadMode::Replace).await?;
        let shard_bytes = self.shared.config.shard_bytes;
        let (id, job) = (load.id, load.job);
        self.commit(Box::new(move |manifest| {
            let held = find(manifest, id)?;
            Ok(match held.state {
                Stored::Pinned => {
                    let cuts = splits(manifest, &weights, shard_bytes).into_iter().map(Change::SplitShard);
                    let declared = key_change(manifest, declares.as_ref(), log_time)?;
                    let prepared = Change::PrepareLoad(PrepareLoad {
                        load: id,
                        job,
                        segments: segments.clone(),
                        rows_hidden,
                        report_path: report_path.clone(),
                    });
                    declared.into_iter().chain(cuts).chain([prepared]).collect()
                }
                Stored::Prepared | Stored::Committed => Vec::new(),
                _ => return Err(super::wrong_state(held, "prepared")),
            })
        }))
        .await
        .map(drop)
    }

    /// Shows a prepared load, once what is hot is warm in it: one edit. Loads that are too many to stay unsealed are sealed in it.
    ///
    /// # Errors
    /// `Conflict` (`load-below-floor`); `Throttled` (`too-many-unsealed-loads`) where the oldest is too young to seal.
    pub async fn commit_prepared(self: &Arc<Self>, id: LoadId) -> Result<()> {
        if self.manifest().load(id).is_some_and(|load| load.state == Stored::Prepared) {
            self.warm_before_commit(id).await;
        }
        self.shared.ctx.phases.reach("commit/show").await;
        let insist = {
            let manifest = self.manifest();
            self.load_request(find(&manifest, id)?)?.guards.allow_older
        };
        self.commit(Box::new(move |manifest| {
            let held = find(manifest, id)?;
            match held.state {
                Stored::Committed => Ok(Vec::new()),
                Stored::Prepared => {
                    let seals =
                        manifest.seals_before_commit(id).into_iter().map(|load| Change::SealLoad { load });
                    Ok(seals.chain([Change::CommitLoad { load: id, insist }]).collect())
                }
                _ => Err(super::wrong_state(held, "committed")),
            }
        }))
        .await?;
        self.shared.ctx.phases.reach("commit/shown").await;
        self.shared.metrics.loads_committed.inc();
        change_under_way(&self.shared, self.id(), id, false).await
    }

    /// The load is prepared and was not asked to be committed: nothing is left to do for now.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn leave_prepared(&self, id: LoadId) -> Result<()> {
        change_under_way(&self.shared, self.id(), id, false).await
    }

    /// Gives the load up and says why, if it still is as it was when that was found: `from` = pinned for what is wrong
    /// with its files, prepared for one that may not be shown.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn fail_load(
        self: &Arc<Self>,
        load: &Load,
        from: Stored,
        reason: &str,
        report: &LoadReport,
    ) -> Result<()> {
        let report_path = Some(self.put_report(load, report).await?);
        let (id, reason) = (load.id, reason.to_owned());
        self.commit(Box::new(move |manifest| {
            let held = find(manifest, id)?;
            Ok(if held.state == from {
                vec![Change::FailLoad { load: id, reason: reason.clone(), report_path: report_path.clone() }]
            } else {
                Vec::new()
            })
        }))
        .await?;
        if self.is_load_under_way(id) {
            return Ok(());
        }
        self.shared.metrics.loads_failed.inc();
        change_under_way(&self.shared, self.id(), id, false).await
    }
}

fn other_key(held: KeySchema, wanted: &KeySchema) -> Error {
    Error::conflict(format!(
        "the load's keys are {}, the table's are {}; name key columns that fit the table's",
        described(wanted),
        described(&held)
    ))
    .with_code("load-key")
}

fn described(schema: &KeySchema) -> String {
    match schema {
        KeySchema::Bytes => "bytes".to_owned(),
        KeySchema::Parts(parts) => {
            let parts: Vec<String> =
                parts.iter().map(|part| format!("{} ({})", part.name, kind_name(part.kind))).collect();
            format!("[{}]", parts.join(", "))
        }
    }
}

/// The change that declares what keys are, if it is not so already.
fn key_change(
    manifest: &Manifest,
    declares: Option<&KeySchema>,
    log_time_micros: i64,
) -> Result<Option<Change>> {
    let Some(schema) = declares else { return Ok(None) };
    match &manifest.settings().key {
        Some(held) if held == schema => Ok(None),
        None if *schema == KeySchema::Bytes || manifest.segment_count() == 0 => {
            let settings = TableSettings { key: Some(schema.clone()), ..manifest.settings().clone() };
            Ok(Some(Change::SetSettings(SetSettings {
                settings,
                log_time_micros,
                lateness_from: Vec::new(),
            })))
        }
        held => Err(other_key(held.clone().unwrap_or_default(), schema)),
    }
}
