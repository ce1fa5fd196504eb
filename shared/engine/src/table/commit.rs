//! Appending edits to a table log.
//!
//! Whoever wants to change a table proposes: a closure that looks at a manifest and answers the changes to make, or
//! why they cannot be made (any more). Proposals of one table in one process queue up; one task at a time takes all
//! that wait, lets each see the manifest as the ones before it would leave it, and appends their changes as one edit.
//! On a conflict the new edits are read and applied and every proposal is asked again, on fresh state: nothing is
//! rebased blindly.
//!
//! The task is not a request's: a client that goes away does not cancel an append half way. What is proposed is
//! carried through or known not to have happened.
//!
//! **Unknown.** When an append's outcome stays unknown past the limit, its proposers are told `Unknown`, and the edit
//! is kept. Nothing else is appended to this table by this process before the same bytes, put again at the same
//! sequence, are known to have won or lost. A process that dies here leaves everything; the edit is or is not in the
//! log, and either is a whole state.
//!
//! **Gone.** A catalog may let edits go that a snapshot covers. Who slept for so long that the next edit is one of them
//! starts from the snapshot, as if the table were opened anew. An append that was in doubt then stays unknown to its
//! proposers for ever; but the log has passed its sequence, so nothing of it is under way, and others may follow.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use nacre_catalog::{Append, EDITS_GONE, EncodedEdit, append_until_known};
use nacre_log::{AppendOutcome, EncodedRecord};
use nacre_manifest::{Change, Edit, Manifest};
use nacre_runtime::Backoff;
use nacre_types::{CommitId, Error, Result, Seq, WriteId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Table;

/// Looks at a manifest and says what to change; no changes = there is nothing to do any more.
pub(crate) type Proposal = Box<dyn FnMut(&Manifest) -> Result<Vec<Change>> + Send>;

/// The first pause after a lost race is twice what the append took, at least this.
const PAUSE_LEAST: Duration = Duration::from_millis(2);
/// Later ones are up to so many times longer, and at least this.
const PAUSES_GROW: u32 = 32;
const PAUSE_LATER: Duration = Duration::from_millis(200);
const PAUSE_MOST: Duration = Duration::from_secs(2);
const APPEND_LIMIT: Duration = Duration::from_secs(20);
const NOTICE_LIMIT: Duration = Duration::from_secs(5);
const CONFLICTS: usize = 40;
const COMBINED: usize = 32;
/// A manifest snapshot is written after this many edits.
const SNAPSHOT_EVERY: u64 = 256;

struct Waiting {
    propose: Proposal,
    reply: oneshot::Sender<Result<Arc<Manifest>>>,
}

/// What became of the proposals of a batch.
struct Combined {
    edit: Edit,
    /// The manifest with the edit; `None` where there is nothing to change.
    next: Option<Manifest>,
    accepted: Vec<Waiting>,
    refused: Vec<(Waiting, Error)>,
}

/// Proposals of one table that wait for their turn.
#[derive(Default)]
pub(crate) struct CommitQueue {
    waiting: Mutex<VecDeque<Waiting>>,
}

impl std::fmt::Debug for CommitQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommitQueue").field("waiting", &self.waiting.lock().len()).finish()
    }
}

/// Where this process stands in the table log. Held by whoever reads or appends edits.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// Commit id of the last applied edit: the next one names it as its predecessor.
    pub(crate) commit_id: CommitId,
    /// An append whose outcome is not known.
    pub(crate) unsettled: Option<(Seq, EncodedEdit)>,
    /// Sequence of the newest snapshot that this process knows of.
    pub(crate) snapshot: Seq,
}

impl Table {
    /// Proposes changes and waits until they are committed, refused or unknown. Answers the manifest that has them.
    ///
    /// # Errors
    /// What the proposal answered; `Conflict` where the manifest refuses its changes; `Unknown`.
    pub(crate) async fn commit(self: &Arc<Self>, propose: Proposal) -> Result<Arc<Manifest>> {
        let (reply, answer) = oneshot::channel();
        let first = {
            let mut waiting = self.commits.waiting.lock();
            waiting.push_back(Waiting { propose, reply });
            waiting.len() == 1
        };
        // Whoever finds the queue empty starts the task that drains it; the others are taken along.
        if first {
            let table = self.clone();
            self.shared.ctx.tasks.spawn("table-commit", async move { table.drain_commits().await });
        }
        answer
            .await
            .unwrap_or_else(|_| Err(Error::unknown("the process is stopping; the outcome is not known")))
    }

    async fn drain_commits(self: Arc<Self>) {
        let mut cursor = self.cursor.lock().await;
        loop {
            let batch: Vec<Waiting> = {
                let mut waiting = self.commits.waiting.lock();
                let many = waiting.len().min(COMBINED);
                waiting.drain(..many).collect()
            };
            if batch.is_empty() {
                return;
            }
            self.commit_batch(&mut cursor, batch).await;
        }
    }

    async fn commit_batch(self: &Arc<Self>, cursor: &mut Cursor, mut batch: Vec<Waiting>) {
        let mut backoff = None;
        let mut has_looked = false;
        for _ in 0..CONFLICTS {
            if let Err(error) = self.settle(cursor).await {
                return reply_all(batch, &Err(error));
            }
            let Combined { edit, next, accepted, refused } = self.combine(batch);
            batch = accepted;
            // What is refused may be so only because this process has not read what another did: a load that was begun
            // there, an undo that happened there. So it looks before it says no.
            if !refused.is_empty() && !has_looked {
                has_looked = true;
                let before = self.seq();
                if let Err(error) = self.read_edits(cursor).await {
                    batch.extend(refused.into_iter().map(|(waiting, _)| waiting));
                    return reply_all(batch, &Err(error));
                }
                if self.seq() > before {
                    batch.extend(refused.into_iter().map(|(waiting, _)| waiting));
                    continue;
                }
            }
            for (waiting, error) in refused {
                drop(waiting.reply.send(Err(error)));
            }
            let Some(next) = next else { return reply_all(batch, &Ok(self.view().manifest.clone())) };
            let encoded = EncodedEdit {
                commit_id: CommitId(self.shared.ctx.ids.random_u128()),
                predecessor: cursor.commit_id,
                body: edit.encode(),
            };
            let at = self.view().manifest.seq();
            self.shared.ctx.phases.reach("commit/append").await;
            let begun = self.shared.ctx.clock.monotonic();
            match append_until_known(
                &*self.shared.catalog,
                &self.shared.ctx,
                self.id,
                at,
                &encoded,
                APPEND_LIMIT,
            )
            .await
            {
                Ok(Append::Committed(_)) => {
                    self.shared.ctx.phases.reach("commit/appended").await;
                    cursor.commit_id = encoded.commit_id;
                    let next = Arc::new(next);
                    self.publish_manifest(next.clone());
                    self.maybe_snapshot(cursor, &next);
                    self.give_notice(&edit, next.seq()).await;
                    return reply_all(batch, &Ok(next));
                }
                Ok(Append::Conflict { .. }) => {
                    self.shared.metrics.commit_conflicts.inc();
                    // A catalog that takes long to refuse is asked by many: those who come back within the time of one
                    // append of another lose again.
                    let took = self.shared.ctx.clock.monotonic().saturating_sub(begun);
                    let pause = backoff.get_or_insert_with(|| {
                        let first = (2 * took).clamp(PAUSE_LEAST, PAUSE_MOST);
                        Backoff::new(first, (PAUSES_GROW * first).clamp(PAUSE_LATER, PAUSE_MOST))
                    });
                    // First the wait, then the look: what was read before a wait is old again after it.
                    tokio::time::sleep(pause.next(&*self.shared.ctx.ids)).await;
                    if let Err(error) = self.read_edits(cursor).await {
                        return reply_all(batch, &Err(error));
                    }
                }
                Ok(Append::Unknown) => {
                    cursor.unsettled = Some((at, encoded));
                    let detail =
                        format!("the append of edit {} to table {} was not answered", at.next(), self.id);
                    return reply_all(batch, &Err(Error::unknown(detail).with_code("commit-unknown")));
                }
                Err(error) => {
                    if error.code() == EDITS_GONE
                        && let Err(error) = self.read_edits(cursor).await
                    {
                        tracing::warn!(table = %self.id, %error, "a table is still behind its snapshot");
                    }
                    return reply_all(batch, &Err(error));
                }
            }
        }
        let error = Error::throttled(format!("table {} has too many writers of edits; try again", self.id));
        reply_all(batch, &Err(error.with_code("commit-contention")));
    }

    /// Tells the other processes, if there are any, through the log that they read anyway. A load or revert is answered
    /// only when its notices are durable; for everything else, and where a notice fails, the slow poll is enough.
    async fn give_notice(self: &Arc<Self>, edit: &Edit, seq: Seq) {
        if self.shared.presence.is_alone() {
            return;
        }
        let makes_edition = edit
            .changes
            .iter()
            .any(|change| matches!(change, Change::CommitLoad { .. } | Change::RevertLoad { .. }));
        let table = self.clone();
        let notice = async move {
            let notices = table.partitions().into_iter().map(async |partition| {
                let id = WriteId(table.shared.ctx.ids.random_u128());
                let record = EncodedRecord::notice(id, table.id, seq);
                let outcome = table.shared.log.append(partition, record, NOTICE_LIMIT).await;
                if !matches!(outcome, AppendOutcome::Appended(_)) {
                    tracing::debug!(table = %table.id, "a notice was not appended; the others poll");
                }
            });
            futures::future::join_all(notices).await;
        };
        if makes_edition {
            notice.await;
        } else {
            self.shared.ctx.tasks.spawn("notice", notice);
        }
    }

    /// Asks every proposal and folds what they answer into one edit, without those that fail or whose changes the
    /// manifest refuses.
    fn combine(&self, batch: Vec<Waiting>) -> Combined {
        let base = self.view().manifest.clone();
        let seq = base.seq().next();
        let mut edit = Edit { changes: Vec::new(), at_micros: self.shared.ctx.clock.now_micros() };
        let mut folded: Option<Manifest> = None;
        let mut accepted = Vec::with_capacity(batch.len());
        let mut refusals = Vec::new();
        for mut waiting in batch {
            match (waiting.propose)(folded.as_ref().unwrap_or(&base)) {
                Err(error) => refusals.push((waiting, error)),
                Ok(changes) if changes.is_empty() => accepted.push(waiting),
                Ok(changes) => {
                    let kept = edit.changes.len();
                    edit.changes.extend(changes);
                    match base.apply(seq, &edit) {
                        Ok(next) => {
                            folded = Some(next);
                            accepted.push(waiting);
                        }
                        Err(refused) => {
                            edit.changes.truncate(kept);
                            // Kind and code are the reason's: a floor in the way is a Conflict, too many loads that
                            // can still be undone are Throttled.
                            refusals.push((waiting, Error::from(refused)));
                        }
                    }
                }
            }
        }
        Combined { edit, next: folded, accepted, refused: refusals }
    }

    /// Puts an append whose outcome is unknown again until it is known.
    pub(super) async fn settle(self: &Arc<Self>, cursor: &mut Cursor) -> Result<()> {
        let Some((at, encoded)) = cursor.unsettled.clone() else { return Ok(()) };
        let outcome =
            append_until_known(&*self.shared.catalog, &self.shared.ctx, self.id, at, &encoded, APPEND_LIMIT)
                .await;
        match outcome {
            Ok(Append::Unknown) => Err(Error::unavailable(format!(
                "an earlier append to table {} is still not answered; nothing can be appended before it is",
                self.id
            ))
            .with_code("commit-unsettled")),
            Ok(Append::Committed(_) | Append::Conflict { .. }) => {
                cursor.unsettled = None;
                self.read_edits(cursor).await
            }
            Err(error) if error.code() == EDITS_GONE => {
                tracing::warn!(table = %self.id, %error, "what became of an append will not be known");
                cursor.unsettled = None;
                self.read_edits(cursor).await
            }
            Err(error) => Err(error),
        }
    }

    /// Reads and applies the edits after what this process has, and publishes each.
    pub(super) async fn read_edits(self: &Arc<Self>, cursor: &mut Cursor) -> Result<()> {
        const PAGE: usize = 64;
        loop {
            let at = self.view().manifest.seq();
            let edits = match self.shared.catalog.read(self.id, at, PAGE).await {
                Ok(edits) => edits,
                Err(error) if error.code() == EDITS_GONE => return self.start_from_snapshot(cursor).await,
                Err(error) => return Err(error),
            };
            let count = edits.len();
            let Some((next, commit_id)) = fold(&self.view().manifest, cursor.commit_id, &edits)? else {
                return Ok(());
            };
            cursor.commit_id = commit_id;
            self.publish_manifest(Arc::new(next));
            if count < PAGE {
                return Ok(());
            }
        }
    }

    /// Reads the table as an open does, since the edits after what this process has are gone.
    async fn start_from_snapshot(self: &Arc<Self>, cursor: &mut Cursor) -> Result<()> {
        let at = self.view().manifest.seq();
        let opened = super::open::read_table(&self.shared, self.id).await?;
        let Some(opened) = opened.filter(|opened| opened.manifest.seq() > at) else {
            return Err(Error::corrupt(format!(
                "the edits of table {} after {at} are gone, and its snapshot is no newer",
                self.id
            )));
        };
        tracing::info!(table = %self.id, %at, seq = %opened.manifest.seq(), "went on from a snapshot");
        // What is in doubt stays in doubt.
        let unsettled = cursor.unsettled.take();
        *cursor = Cursor { unsettled, ..opened.cursor };
        self.publish_manifest(Arc::new(opened.manifest));
        Ok(())
    }

    fn maybe_snapshot(self: &Arc<Self>, cursor: &mut Cursor, manifest: &Arc<Manifest>) {
        if manifest.seq().0 < cursor.snapshot.0 + SNAPSHOT_EVERY {
            return;
        }
        cursor.snapshot = manifest.seq();
        let (table, manifest, commit_id) = (self.clone(), manifest.clone(), cursor.commit_id);
        self.shared.ctx.tasks.spawn("manifest-snapshot", async move {
            if let Err(error) = super::open::write_snapshot(&table.shared, &manifest, commit_id).await {
                tracing::warn!(table = %table.id, %error, "manifest snapshot was not written; it is tried again later");
            }
        });
    }
}

/// Applies `edits`, which follow `manifest`; `None` where there are none.
///
/// # Errors
/// `Corrupt` where a committed edit does not follow, does not decode or is refused: a reader stops there, it never
/// skips.
pub(crate) fn fold(
    manifest: &Manifest,
    mut last: CommitId,
    edits: &[(Seq, EncodedEdit)],
) -> Result<Option<(Manifest, CommitId)>> {
    let mut folded: Option<Manifest> = None;
    for (seq, encoded) in edits {
        let base = folded.as_ref().unwrap_or(manifest);
        let corrupt = |why: String| Error::corrupt(format!("edit {seq} of table {}: {why}", base.table()));
        if *seq != base.seq().next() {
            return Err(corrupt(format!("it does not follow edit {}", base.seq())));
        }
        if encoded.predecessor != last {
            return Err(corrupt(format!("it names predecessor {}, the log has {last}", encoded.predecessor)));
        }
        let edit = Edit::decode(&encoded.body)
            .map_err(|e| e.context(format!("edit {seq} of table {}", base.table())))?;
        let next = base.apply(*seq, &edit).map_err(|refused| corrupt(format!("it is refused: {refused}")))?;
        last = encoded.commit_id;
        folded = Some(next);
    }
    Ok(folded.map(|manifest| (manifest, last)))
}

fn reply_all(batch: Vec<Waiting>, answer: &Result<Arc<Manifest>>) {
    for waiting in batch {
        // A proposer that went away does not want to know.
        drop(waiting.reply.send(answer.clone()));
    }
}
