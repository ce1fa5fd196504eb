//! Which files are adopted.

use bytes::Bytes;
use nacre_engine::PinnedFile;
use nacre_manifest::{IndexSpan, Layer, Location, Segment};
use nacre_store::{ObjectPath, PutOutcome};
use nacre_types::{Error, Result, SegmentId};

use super::{Done, Faults, Job, Stop};
use crate::checkpoint::{FileDone, SegmentNote};
use crate::decode::Adoptable;
use crate::file::{self, Outcome, RowRules};
use crate::source;

const APART: &str = "partition by key range before sorting, so that files do not overlap";

impl Job<'_> {
    /// Step 1: which files can be adopted.
    pub(super) async fn look_at_files(&mut self, files: &[PinnedFile], rules: &RowRules) -> Done<()> {
        let mut faults = Faults::default();
        for pinned in files {
            self.check().map_err(Stop::Later)?;
            if self.done.files.contains_key(&pinned.name) {
                continue;
            }
            match self.look_at_file(pinned, rules).await {
                Ok(done) => {
                    self.done.files.insert(pinned.name.clone(), done);
                }
                Err(error) => faults.add_or_stop(&pinned.name, error)?,
            }
            self.tell_now_and_then(false).await;
        }
        faults.check()
    }

    async fn look_at_file(&self, pinned: &PinnedFile, rules: &RowRules) -> Result<FileDone> {
        let opened = self.open(pinned).await?;
        let (name, asked) = (pinned.name.clone(), rules.clone());
        let outcome = self.blocking("load-look", move || file::look(&opened, &name, &asked)).await?;
        source::check_unchanged(self.table.store(), pinned).await?;
        match outcome {
            Outcome::Rewrite { reason, hint } => Ok(FileDone {
                report: file::report(pinned, 0, "rewritten", Some((reason, hint))),
                adopted: None,
                read: false,
                hidden: 0,
            }),
            Outcome::Adopt(adopted) => self.adopt(pinned, *adopted).await,
        }
    }

    async fn adopt(&self, pinned: &PinnedFile, adopted: Adoptable) -> Result<FileDone> {
        let Adoptable { index, summary, hidden } = adopted;
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
        Ok(FileDone {
            report: file::report(pinned, summary.rows, outcome, None),
            adopted: Some(SegmentNote::of(&segment)),
            read: true,
            hidden,
        })
    }

    /// Step 2: adopted files whose keys meet those of another are rewritten, and so is the other.
    pub(super) fn keep_apart(&mut self, files: &[PinnedFile]) {
        let mut ranges: Vec<(String, Bytes, Bytes)> = files
            .iter()
            .filter_map(|file| {
                let segment = self.adopted(&file.name)?;
                Some((file.name.clone(), segment.min_key, segment.max_key))
            })
            .collect();
        ranges.sort_by(|a, b| a.1.cmp(&b.1));
        // The file that reaches furthest so far.
        let mut furthest: Option<(String, Bytes)> = None;
        for (name, min, max) in ranges {
            if let Some((other, reach)) = furthest.as_ref().filter(|(_, reach)| min <= *reach) {
                let (other, is_further) = (other.clone(), max > *reach);
                self.rewrite(&name, &format!("its keys meet those of {other}"));
                self.rewrite(&other, &format!("its keys meet those of {name}"));
                if !is_further {
                    continue;
                }
            }
            furthest = Some((name, max));
        }
        self.count_done();
    }

    /// Adopted files whose keys meet those of a run are rewritten too. Answers whether there were any.
    pub(super) fn keep_apart_from_runs(&mut self) -> bool {
        let bounds: Vec<(Bytes, Bytes)> = self
            .done
            .runs
            .iter()
            .filter_map(|note| note.to_segment(self.load.id, self.load.job).ok())
            .map(|run| (run.min_key, run.max_key))
            .collect();
        let meeting: Vec<String> = self
            .done
            .files
            .keys()
            .filter(|name| {
                self.adopted(name).is_some_and(|segment| {
                    bounds.iter().any(|(min, max)| segment.min_key <= *max && *min <= segment.max_key)
                })
            })
            .cloned()
            .collect();
        for name in &meeting {
            self.rewrite(name, "its keys meet those of a file that has to be rewritten");
        }
        self.count_done();
        !meeting.is_empty()
    }

    fn adopted(&self, name: &str) -> Option<Segment> {
        self.done.files.get(name)?.adopted.as_ref()?.to_segment(self.load.id, self.load.job).ok()
    }

    fn rewrite(&mut self, name: &str, reason: &str) {
        if let Some(done) = self.done.files.get_mut(name).filter(|done| done.adopted.is_some()) {
            done.adopted = None;
            done.read = false;
            done.hidden = 0;
            done.report.outcome = "rewritten".to_owned();
            done.report.reason = Some(reason.to_owned());
            done.report.hint = Some(APART.to_owned());
        }
    }

    pub(super) fn count_done(&mut self) {
        let files = self.done.files.values();
        // Of a file that is being read: what lasts.
        let rows = self.done.files.iter().map(|(name, file)| match file.read {
            true => file.report.rows,
            false => self.done.rows_read.get(name).copied().unwrap_or(0),
        });
        let progress = &mut self.done.progress;
        progress.rows = rows.sum();
        progress.adopted_files = files.clone().filter(|file| file.adopted.is_some()).count() as u64;
        progress.rewritten_files = files.clone().filter(|file| file.adopted.is_none()).count() as u64;
        progress.files_done = files.filter(|file| file.read).count() as u64;
    }
}
