//! Many appenders on one table.

use super::edit;
use crate::{Append, Catalog, EncodedEdit, append_until_known};
use nacre_runtime::{Backoff, Context};
use nacre_types::{CommitId, Seq, TableId};
use std::sync::Arc;
use std::time::Duration;

const TABLE: TableId = TableId(11);

/// What a race showed.
#[derive(Debug, Default)]
pub struct RaceReport {
    /// Edits that their appenders know to be committed.
    pub committed: usize,
    /// Edits whose outcome stayed unknown.
    pub unknown: usize,
    /// Certain rejections, each followed by another try.
    pub conflicts: usize,
    /// The most rejections that one edit met.
    pub worst: usize,
    told: Vec<(EncodedEdit, Append)>,
}

impl RaceReport {
    fn add(&mut self, other: Self) {
        self.committed += other.committed;
        self.unknown += other.unknown;
        self.conflicts += other.conflicts;
        self.worst = self.worst.max(other.worst);
        self.told.extend(other.told);
    }

    /// Compares what appenders were told with the log as it stands when nothing is under way any more.
    ///
    /// # Panics
    /// Where an edit that was said to be committed is not where it was said to be, where one that was said to be
    /// rejected is there, or where one is there twice.
    pub async fn check(&self, catalog: &dyn Catalog) {
        let log = catalog.read(TABLE, Seq(0), usize::MAX).await.unwrap();
        let mut ids: Vec<CommitId> = log.iter().map(|(_, edit)| edit.commit_id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), log.len(), "an edit was committed twice");
        for (edit, outcome) in &self.told {
            let found = log.iter().find(|(_, found)| found.commit_id == edit.commit_id);
            match outcome {
                Append::Committed(seq) => {
                    assert_eq!(found, Some(&(*seq, edit.clone())), "a committed edit was lost")
                }
                Append::Conflict { .. } => assert_eq!(found, None, "a rejected edit was committed"),
                Append::Unknown => {}
            }
        }
    }
}

/// Lets one appender per handle commit `each` edits, `pause` apart, every conflict answered by reading on and trying
/// again with a new commit id. An appender whose edit stays unknown after `limit` ends, as one that lost its job.
pub async fn appenders(
    handles: Vec<(Arc<dyn Catalog>, Context)>,
    each: usize,
    pause: Duration,
    limit: Duration,
) -> RaceReport {
    let tasks = nacre_runtime::Tasks::new();
    let running: Vec<_> = handles
        .into_iter()
        .map(|(catalog, ctx)| tasks.spawn("appender", appender(catalog, ctx, each, pause, limit)))
        .collect();
    let mut report = RaceReport::default();
    for appender in running {
        report.add(appender.await.unwrap());
    }
    report
}

async fn appender(
    catalog: Arc<dyn Catalog>,
    ctx: Context,
    each: usize,
    pause: Duration,
    limit: Duration,
) -> RaceReport {
    let mut report = RaceReport::default();
    let mut at = (Seq(0), CommitId(0));
    for n in 0..each {
        if !pause.is_zero() {
            tokio::time::sleep(pause.mul_f64(ctx.ids.random_u64() as f64 / u64::MAX as f64 * 2.0)).await;
        }
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
        let mut conflicts = 0;
        loop {
            // A catalog that is away for a moment is asked again.
            if let Ok(news) = catalog.read(TABLE, at.0, usize::MAX).await
                && let Some((seq, edit)) = news.last()
            {
                at = (*seq, edit.commit_id);
            }
            let edit = edit(&ctx, at.1, format!("edit {n} of {:x}", ctx.ids.random_u64()));
            let outcome = append_until_known(&*catalog, &ctx, TABLE, at.0, &edit, limit).await;
            let Ok(outcome) = outcome else { continue };
            report.told.push((edit.clone(), outcome));
            match outcome {
                Append::Committed(seq) => {
                    at = (seq, edit.commit_id);
                    report.committed += 1;
                    break;
                }
                Append::Conflict { .. } => {
                    conflicts += 1;
                    tokio::time::sleep(backoff.next(&*ctx.ids)).await;
                }
                Append::Unknown => {
                    report.unknown += 1;
                    return report;
                }
            }
        }
        report.conflicts += conflicts;
        report.worst = report.worst.max(conflicts);
    }
    report
}
