//! Garbage: objects that nobody names any more, and that nobody can name any more.
//!
//! Loads that fail and processes that die leave objects: staged files, runs, results of units, segments and indexes below
//! a job's folder, segments of a flush that was not committed. Compactions leave their inputs. All of them go by the same
//! proof, per table, and nothing else ever goes: not edits, records, manifest snapshots, carried rows or the log.
//!
//! # Stored state
//! One record `garbage/<table>` per table, the **mark**: {sequence, commit id, the manifest snapshot of it, the store's date
//! then, loads whose staging places may hold something}. Whoever collects may replace it, if it is unchanged, and only
//! by a newer one. Any mark that was ever true may be used at any later time: an older one only proves less.
//!
//! # A collection
//! 1. Read the mark. If there is none, take one: read the table log to its end, then the store's date, write the manifest
//!    as a snapshot, put the record. Nothing goes then.
//! 2. If the mark is younger than the grace by the store's date, wait.
//! 3. Read the mark's manifest, and fold all edits behind it: the *span* ([`proof`]). Edits that are gone, a snapshot that does
//!    not decode, a restore in between: no proof. Nothing goes, a new mark is taken.
//! 4. List the table's folder, and the staging place of each of its loads that had ended by the mark, a page at a time.
//!    After each page the edits since are read: an object that was listed is of a job that was opened before, and that the
//!    edits show. Then each object is judged, and what is garbage is deleted, so many in one run.
//! 5. When everything has been listed, a new mark takes the place of the old one.
//!
//! So an object goes between one grace and somewhat more than two after it was last named. The grace is at least the
//! time that a store can be restored to; it is far longer than a page token's life.
//!
//! # Why it is safe
//! The listing only finds candidates: what it misses stays, what it shows wrongly is judged by its name and the table's
//! log. No name is ever used twice for something else, so a delete that is under way for hours hits nothing but its object.
//! (Results of units have names that follow from what they rest on: a loader that slept may put one again after its load
//! has ended, which nobody reads.) A reader with an old view meets an object that is gone, reads the table log, and asks
//! again; or answers Unavailable.
//!
//! Two collectors do the same deletes twice. A crash loses where the listing stood; the next run begins it again with
//! the same mark. On a bucket with versions a delete leaves the bytes as a version that is not current; rules of the
//! bucket decide how long.

mod mark;
mod name;
mod proof;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::StreamExt as _;
use nacre_catalog::EDITS_GONE;
use nacre_store::{ObjectMeta, ObjectPath};
use nacre_types::{Error, ErrorKind, LoadId, Result};

use crate::Table;
use crate::table::read_snapshot;
use mark::Held;
use proof::{Span, Verdict};

/// When and how fast garbage goes.
#[derive(Debug, Clone)]
pub struct GarbageConfig {
    /// How long nobody must have named an object: at least the catalog's restore window, and longer than a page token
    /// lives. Longer: more space, older states that can be looked at.
    pub grace: Duration,
    /// A table is looked at this often while there is something to do.
    pub every: Duration,
    /// Most objects of a table that go in one run.
    pub deletes: usize,
    /// Say what would go, and delete nothing.
    pub dry_run: bool,
}

impl Default for GarbageConfig {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(24 * 3600),
            every: Duration::from_secs(600),
            deletes: 1_000,
            dry_run: false,
        }
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GarbageReport {
    /// Objects that went; in a dry run those that would have.
    pub collected: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were looked at and left.
    pub kept: u64,
    /// Objects that were left since their names are none that nacre mints.
    pub unknown: u64,
    /// Everything has been looked at; the next collection begins after the grace.
    pub done: bool,
}

const LIST_PAGE: usize = 1_000;
/// Pages of one run: others wait for their turn.
const PAGES: usize = 100;
const DELETES_AT_ONCE: usize = 8;
const EDITS: usize = 256;

/// Where the collection of a table's garbage stands in this process.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    /// Not looked at before (monotonic).
    not_before: Duration,
    pass: Option<Pass>,
}

/// A collection with one mark.
#[derive(Debug)]
struct Pass {
    held: Held,
    span: Span,
    /// What is still to be listed.
    folders: VecDeque<Folder>,
    /// Within the first of them.
    after: Option<ObjectPath>,
    /// Loads whose staging places are to be listed again by the next mark.
    staged: BTreeSet<LoadId>,
}

#[derive(Debug)]
struct Folder {
    prefix: String,
    /// Whose staging place it is.
    load: Option<LoadId>,
}

enum Begun {
    Pass(Box<Pass>),
    /// Nothing can be proven before so long.
    Wait(Duration),
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Whether the next try may find what this one did not.
fn is_passing(error: &Error) -> bool {
    use ErrorKind::{Overloaded, Throttled, Unavailable, Unknown};
    matches!(error.kind(), Unavailable | Overloaded | Throttled | Unknown)
}

impl Table {
    /// Collects garbage if it is time to; `None` = it is not.
    ///
    /// # Errors
    /// `Unavailable`, `Unknown`: nothing is lost, the next run goes on. `Corrupt`: nothing was collected.
    pub async fn collect_garbage_when_due(self: &Arc<Self>) -> Result<Option<GarbageReport>> {
        let now = self.shared.ctx.clock.monotonic();
        // Whoever is at it needs no help.
        let Ok(mut collector) = self.garbage.try_lock() else { return Ok(None) };
        if now < collector.not_before {
            return Ok(None);
        }
        collector.not_before = now.saturating_add(self.shared.config.garbage.every);
        self.collect(&mut collector).await.map(Some)
    }

    /// Collects garbage now, as far as there is proof.
    ///
    /// # Errors
    /// Those of [`Table::collect_garbage_when_due`].
    pub async fn collect_garbage(self: &Arc<Self>) -> Result<GarbageReport> {
        let mut collector = self.garbage.lock().await;
        self.collect(&mut collector).await
    }

    async fn collect(self: &Arc<Self>, collector: &mut Collector) -> Result<GarbageReport> {
        let mut report = GarbageReport::default();
        let run = self.run_collection(collector, &mut report).await;
        let metrics = &self.shared.metrics;
        metrics.objects_kept.inc_by(report.kept);
        metrics.objects_unknown.inc_by(report.unknown);
        if run.is_err() {
            metrics.garbage_failures.inc();
        }
        if report.collected > 0 || report.unknown > 0 {
            let GarbageReport { collected, bytes, kept, unknown, .. } = report;
            let dry_run = self.shared.config.garbage.dry_run;
            tracing::info!(table = %self.id(), dry_run, collected, bytes, kept, unknown, "collected garbage");
        }
        run.map(|()| report)
    }

    async fn run_collection(
        self: &Arc<Self>,
        collector: &mut Collector,
        report: &mut GarbageReport,
    ) -> Result<()> {
        let mut pass = match collector.pass.take() {
            Some(pass) => pass,
            None => match self.begin_pass().await? {
                Begun::Pass(pass) => *pass,
                Begun::Wait(wait) => {
                    let until = self.shared.ctx.clock.monotonic().saturating_add(wait);
                    collector.not_before = collector.not_before.max(until);
                    return Ok(());
                }
            },
        };
        for _ in 0..PAGES {
            let Some(folder) = pass.folders.pop_front() else {
                if let Err(error) = self.take_garbage_mark(Some(&pass.held), pass.staged.clone()).await {
                    collector.pass = Some(pass);
                    return Err(error);
                }
                let until =
                    self.shared.ctx.clock.monotonic().saturating_add(self.shared.config.garbage.grace);
                collector.not_before = collector.not_before.max(until);
                report.done = true;
                return Ok(());
            };
            match self.collect_page(&mut pass, &folder, report).await {
                Ok(true) => pass.after = None,
                Ok(false) => pass.folders.push_front(folder),
                // What proved is gone or not to be read: the next run begins anew.
                Err(error) if !is_passing(&error) => return Err(error),
                Err(error) => {
                    pass.folders.push_front(folder);
                    collector.pass = Some(pass);
                    return Err(error);
                }
            }
            if report.collected >= self.shared.config.garbage.deletes as u64 {
                break;
            }
        }
        collector.pass = Some(pass);
        Ok(())
    }

    /// Reads the mark and what the table's log has said since; takes a mark where there is none that proves anything.
    async fn begin_pass(self: &Arc<Self>) -> Result<Begun> {
        let grace = self.shared.config.garbage.grace;
        let Some(mut held) = self.garbage_mark().await? else {
            self.take_garbage_mark(None, BTreeSet::new()).await?;
            return Ok(Begun::Wait(grace));
        };
        let age = self.shared.store.date_micros().await?.saturating_sub(held.mark.at_micros);
        if age < micros(grace) {
            // One of a date that is to come, from before a clock was set right, is not waited for.
            if age >= -micros(grace) {
                let left = u64::try_from(micros(grace).saturating_sub(age)).unwrap_or(0);
                return Ok(Begun::Wait(Duration::from_micros(left).min(grace)));
            }
            self.take_garbage_mark(Some(&held), held.mark.loads()?).await?;
            return Ok(Begun::Wait(grace));
        }
        match self.read_span(&held).await {
            Ok(span) => self.pass_over(held, span).map(|pass| Begun::Pass(Box::new(pass))),
            Err(error) if error.code() != EDITS_GONE && is_passing(&error) => Err(error),
            Err(error) => {
                tracing::warn!(table = %self.id(), %error, "garbage cannot be proven from the last mark; a new one is taken");
                held.is_sound = false;
                self.take_garbage_mark(Some(&held), held.mark.loads()?).await?;
                Ok(Begun::Wait(grace))
            }
        }
    }

    async fn read_span(&self, held: &Held) -> Result<Span> {
        let snapshot = held.mark.snapshot()?;
        let manifest = read_snapshot(&*self.shared.store, self.id(), &snapshot).await?;
        let at = held.mark.at_micros;
        // A table may have a million segments.
        let whole = move || Span::of(manifest, snapshot.commit_id, at);
        let mut span = self.shared.ctx.tasks.spawn_blocking("garbage-span", whole).await?;
        self.read_to_the_end(&mut span).await?;
        Ok(span)
    }

    async fn read_to_the_end(&self, span: &mut Span) -> Result<()> {
        loop {
            let edits = self.shared.catalog.read(self.id(), span.head().seq(), EDITS).await?;
            span.extend(&edits)?;
            if edits.len() < EDITS {
                return Ok(());
            }
        }
    }

    fn pass_over(&self, held: Held, span: Span) -> Result<Pass> {
        let mut loads = held.mark.loads()?;
        loads.extend(span.loads());
        let tables = Folder { prefix: format!("tables/{}/", self.id()), load: None };
        let (over, staged): (Vec<LoadId>, Vec<LoadId>) =
            loads.into_iter().partition(|load| span.is_load_over(*load));
        let staging =
            over.into_iter().map(|load| Folder { prefix: format!("staging/{load}/"), load: Some(load) });
        Ok(Pass {
            held,
            span,
            folders: [tables].into_iter().chain(staging).collect(),
            after: None,
            staged: staged.into_iter().collect(),
        })
    }

    /// Lists a page, judges it, deletes what may go. `Ok(true)` = it was the folder's last.
    async fn collect_page(
        self: &Arc<Self>,
        pass: &mut Pass,
        folder: &Folder,
        report: &mut GarbageReport,
    ) -> Result<bool> {
        let config = &self.shared.config.garbage;
        let page = match self.shared.store.list(&folder.prefix, pass.after.as_ref(), LIST_PAGE).await {
            Ok(page) => page,
            // A name that no store of objects has: somebody put it into the folder.
            Err(error) if error.kind() == ErrorKind::Invalid => {
                tracing::warn!(table = %self.id(), folder = folder.prefix, %error, "garbage is not looked for where this lies");
                report.unknown += 1;
                pass.staged.extend(folder.load);
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        if !page.is_empty() {
            pass.staged.extend(folder.load);
            // Behind the listing: who made what was listed had begun before it.
            self.read_to_the_end(&mut pass.span).await?;
        }
        let room = (config.deletes as u64).saturating_sub(report.collected);
        let (mut garbage, mut looked_at) = (Vec::new(), 0_usize);
        let (mut kept, mut unknown) = (0, 0);
        for meta in &page {
            if garbage.len() as u64 >= room {
                break;
            }
            looked_at += 1;
            match pass.span.judge(meta.path.as_str(), meta.modified_micros) {
                Verdict::Garbage => garbage.push(meta),
                Verdict::Stranger => unknown += 1,
                Verdict::MakerLives | Verdict::Named | Verdict::Young => kept += 1,
            }
        }
        self.delete_all(&garbage, report).await?;
        report.kept += kept;
        report.unknown += unknown;
        if let Some(last) = looked_at.checked_sub(1).and_then(|at| page.get(at)) {
            pass.after = Some(last.path.clone());
        }
        Ok(looked_at == page.len() && page.len() < LIST_PAGE)
    }

    async fn delete_all(&self, garbage: &[&ObjectMeta], report: &mut GarbageReport) -> Result<()> {
        let dry_run = self.shared.config.garbage.dry_run;
        let delete = |meta: ObjectMeta| async move {
            tracing::debug!(table = %self.id(), path = %meta.path, dry_run, "garbage");
            if !dry_run {
                self.shared.ctx.phases.reach("garbage/delete").await;
                self.shared.store.delete(&meta.path).await?;
                self.shared.metrics.objects_collected.inc();
                self.shared.metrics.bytes_collected.inc_by(meta.size);
            }
            Ok::<u64, Error>(meta.size)
        };
        let all: Vec<_> = garbage.iter().map(|meta| delete((*meta).clone())).collect();
        let mut deletes = futures::stream::iter(all).buffer_unordered(DELETES_AT_ONCE);
        while let Some(deleted) = deletes.next().await {
            report.bytes += deleted?;
            report.collected += 1;
        }
        Ok(())
    }
}
