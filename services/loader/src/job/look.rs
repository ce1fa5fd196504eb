//! The plan of a load, and looking at its files: which are adopted.

use nacre_engine::{LoadError, PinnedFile};
use nacre_manifest::{IndexSpan, Layer, Location, Segment};
use nacre_segment::foreign::LoadColumns;
use nacre_store::{ObjectPath, PutOutcome};
use nacre_types::{Error, KeySchema, Result, SegmentId};

use super::facts::{Faults, Looked, LookedFile, Plan};
use super::planner::{Unit, Work};
use super::results::Put;
use super::{Done, Job, OrLater, Stop, fault};
use crate::decode::Adoptable;
use crate::file::{self, Outcome, RowRules};
use crate::note::SegmentNote;
use crate::source;

/// Units of looking are claimed several at a time where there are many: most files are small.
fn looks_at_once(open: usize) -> usize {
    (open / 32).min(16)
}

impl Job<'_> {
    fn columns(&self) -> LoadColumns {
        self.request.columns.clone().map_or_else(LoadColumns::default, |names| LoadColumns {
            key: names.key,
            value: names.value,
            pack: names.pack,
            version: names.version,
            expires_at: names.expires_at,
            delete: names.delete,
        })
    }

    /// What is asked of every row, by the load's plan.
    pub(super) fn rules(&self) -> Result<RowRules> {
        let plan = self.facts.lock().plan.clone();
        let plan = plan.ok_or_else(|| Error::internal("a load's files are read before there is a plan"))?;
        Ok(RowRules {
            columns: self.columns(),
            key: plan.key,
            version: self.load.version,
            settings: plan.settings,
            begun_at: self.load.begun_at_micros,
            late_below: plan.late_below,
            hidden_below: plan.hidden_below,
            part_bytes: plan.unit_bytes,
        })
    }

    /// Makes the plan. Each loader that finds none makes one; the first that is put is everybody's.
    pub(super) async fn make_plan(&self, unit: &Unit) -> Done<()> {
        let columns = self.columns();
        let manifest = self.table.manifest();
        let (key, declares) = match &manifest.settings().key {
            Some(schema) => (schema.clone(), false),
            None if columns.key.is_empty() || self.pinned.files.is_empty() => (KeySchema::Bytes, false),
            None => (self.declared_key(&columns).await?, true),
        };
        if declares {
            self.table.check_key_declaration(&key).await?;
        }
        // A load's own floor excepts it; the others hide what lies below them.
        let hidden_below = manifest.floors().iter().map(|floor| floor.version).max().unwrap_or(i64::MIN);
        let (begun_at, lateness) = (self.load.begun_at_micros, self.load.lateness_micros);
        let plan = Plan {
            key,
            declares,
            settings: manifest.settings().clone(),
            late_below: RowRules::late_below(&manifest, begun_at, lateness),
            hidden_below,
            unit_bytes: self.config.unit_bytes.max(1),
        };
        let plan = match self.put_fact(unit, "", &plan).await.or_later()? {
            Put::Ours => plan,
            Put::Theirs(theirs) => theirs,
        };
        self.facts.lock().plan = Some(plan);
        Ok(())
    }

    /// What the first file that can be read makes of the key columns. Files that differ from it are told when they
    /// are read.
    async fn declared_key(&self, columns: &LoadColumns) -> Done<KeySchema> {
        let mut faults = Faults::default();
        for pinned in &self.pinned.files {
            self.check()?;
            let declared = match self.open_file(pinned).await {
                Ok(opened) => {
                    let (columns, folders) = (columns.clone(), source::folder_columns(&pinned.name));
                    self.blocking("load-declare-key", move || opened.declare_key(&columns, &folders)).await
                }
                Err(error) => Err(error),
            };
            match declared {
                Ok(schema) => return Ok(schema),
                Err(error) => faults.add(vec![file_fault(pinned, error)?], 1),
            }
        }
        if faults.is_empty() { Ok(KeySchema::Bytes) } else { Err(Stop::Fail(faults.errors, faults.count)) }
    }

    /// Looks at files that nobody else looks at. Answers whether there were any.
    pub(super) async fn look_at_files(&self) -> Done<bool> {
        let rules = self.rules().or_later()?;
        let mut any = false;
        loop {
            let units = self.take(|work| matches!(work, Work::Look(..)), looks_at_once).await?;
            if units.is_empty() {
                return Ok(any);
            }
            any = true;
            for unit in &units {
                let Work::Look(first, end) = unit.work else { continue };
                self.mark();
                let files = self.pinned.files.get(first..end).unwrap_or_default();
                let mut looked = Looked::default();
                for pinned in files {
                    self.check()?;
                    match self.look_at_file(pinned, &rules).await {
                        Ok(file) => looked.files.push(Some(file)),
                        Err(error) => {
                            looked.faults.add(vec![file_fault(pinned, error)?], 1);
                            looked.files.push(None);
                        }
                    }
                }
                looked.seconds = self.took();
                let looked = match self.put_fact(unit, "", &looked).await.or_later()? {
                    Put::Ours => looked,
                    Put::Theirs(theirs) => theirs,
                };
                self.facts.lock().looked.insert(unit.id, looked);
                self.put_down(unit);
                self.tell_now_and_then().await;
            }
        }
    }

    async fn look_at_file(&self, pinned: &PinnedFile, rules: &RowRules) -> Result<LookedFile> {
        let opened = self.open_file(pinned).await?;
        let (name, asked) = (pinned.name.clone(), rules.clone());
        let outcome = self.blocking("load-look", move || file::look(&opened, &name, &asked)).await?;
        source::check_unchanged(self.table.store(), pinned).await?;
        match outcome {
            Outcome::Rewrite { reason, hint, cuts } => Ok(LookedFile {
                report: file::report(pinned, 0, "rewritten", Some((reason, hint))),
                adopted: None,
                hidden: 0,
                cuts,
            }),
            Outcome::Adopt(adopted) => self.adopt(pinned, *adopted).await,
        }
    }

    async fn adopt(&self, pinned: &PinnedFile, adopted: Adoptable) -> Result<LookedFile> {
        let Adoptable { index, summary, hidden, cuts } = adopted;
        let id = SegmentId(self.ctx.ids.random_u128());
        let (table, job) = (self.table.id(), self.load.job);
        let to = ObjectPath::new(&format!("tables/{table}/{job}/{id}.parquet"))?;
        let from = ObjectPath::new(&pinned.path)?;
        let tag = match self.table.store().copy(&from, &to, &source::tag(pinned)).await? {
            PutOutcome::Stored(tag) => tag,
            // The name has a new random id: an answer was lost.
            PutOutcome::AlreadyExists => self.table.store().head(&to).await?.tag,
            PutOutcome::Mismatch => {
                return Err(Error::invalid(
                    "the file was changed after the load's files were pinned; load again and leave it alone",
                )
                .with_code("load-file-changed"));
            }
        };
        let length = index.len() as u64;
        let index_path = self.table.put_load_object(self.load, &format!("{id}.index"), index).await?;
        let segment = Segment {
            id,
            location: Location::Adopted {
                path: to.as_str().to_owned(),
                tag: tag.etag,
                version_id: tag.version_id,
                index_path: index_path.as_str().to_owned(),
            },
            index: IndexSpan { offset: 0, length },
            layer: Layer::Loaded(self.load.id),
            min_key: summary.min_key,
            max_key: summary.max_key,
            min_version: summary.min_version,
            max_version: summary.max_version,
            rows: summary.rows,
            tombstones: summary.tombstones,
            bytes: summary.bytes,
            max_expires_at: summary.max_expires_at,
            with_place: false,
            exact_places: true,
        };
        let outcome = if pinned.staged { "adopted" } else { "copied" };
        Ok(LookedFile {
            report: file::report(pinned, summary.rows, outcome, None),
            adopted: Some(SegmentNote::of(&segment)),
            hidden,
            cuts,
        })
    }
}

/// An error of a file is told with the others; one of the world ends the attempt.
pub(super) fn file_fault(pinned: &PinnedFile, error: Error) -> Done<LoadError> {
    if !file::is_the_files_fault(&error) {
        return Err(Stop::Later(error));
    }
    Ok(fault(&pinned.name, error.detail()))
}
