//! Heads: which snapshot they name, and the edits that go because of it.

use super::DynamoCatalog;
use super::answer::{Failed, HOPELESS};
use super::item::{self, Fields, Head, item_of};
use crate::SnapshotRef;
use nacre_runtime::Backoff;
use nacre_types::{Result, Seq, TableId};
use serde_json::json;
use std::time::Duration;

pub(super) const NEWER: &str = "attribute_not_exists(snap_seq) OR snap_seq < :seq";
pub(super) const NAME: &str = "SET snap_seq = :seq, snap_ref = :ref, format_version = :format";
pub(super) const UNMARKED: &str = "attribute_exists(pk) AND attribute_not_exists(expires_at)";
pub(super) const MARK: &str = "SET expires_at = :when";
pub(super) const LESS_SWEPT: &str = "attribute_not_exists(swept_seq) OR swept_seq < :seq";
pub(super) const SWEEP: &str = "SET swept_seq = :seq";

/// How often a head is tried against appenders, whose transactions hold it for moments.
const ATTEMPTS: usize = 8;
/// How long an edit stays after a snapshot that covers it was named.
const WEEK_SECONDS: i64 = 7 * 24 * 3_600;
/// Edits that one snapshot marks at most; more, after crashes, are left to the next ones.
const SWEPT_AT_ONCE: u64 = 1_024;
/// Edits that are marked together.
const MARKED_TOGETHER: usize = 16;

impl DynamoCatalog {
    pub(super) async fn name_snapshot(&self, table: TableId, snapshot: &SnapshotRef) -> Result<()> {
        let what = format!("naming a snapshot of table {table}");
        let (seq, reference) = item::snapshot_values(snapshot);
        let request = json!({
            "TableName": self.wire.table(),
            "Key": item::key(&self.log_key(table), 0),
            "ConditionExpression": NEWER,
            "UpdateExpression": NAME,
            "ExpressionAttributeValues": { ":seq": seq, ":ref": reference, ":format": item::format() },
            "ReturnValues": "ALL_NEW",
        });
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        for attempt in 1.. {
            let error = match self.wire.write("UpdateItem", &request).await {
                Ok(answer) => {
                    let head = match item_of(&answer, "Attributes") {
                        Some(item) => Fields::open(item, &what, "head-corrupt")?.head()?,
                        None => self.read_head(table).await?,
                    };
                    self.sweep(table, &head).await;
                    return Ok(());
                }
                // One at least as new is named.
                Err(Failed::Condition) => return Ok(()),
                Err(Failed::Unknown(error) | Failed::No(error)) => error,
            };
            if attempt == ATTEMPTS || HOPELESS.contains(&error.code()) {
                return Err(error.context(what));
            }
            tokio::time::sleep(backoff.next(&*self.wire.ctx.ids)).await;
        }
        Ok(())
    }

    /// Gives the edits that the head's snapshot covers their week. What fails is left to the next snapshot.
    async fn sweep(&self, table: TableId, head: &Head) {
        let Some(snapshot) = &head.snapshot else { return };
        // What has no edits yet is not swept past: those that come would be forgotten.
        let covered = snapshot.seq.min(head.stands());
        let end = Seq(covered.0.min(head.swept.0.saturating_add(SWEPT_AT_ONCE)));
        let when = self.wire.date_micros().div_euclid(1_000_000).saturating_add(WEEK_SECONDS);
        let when = item::number(u64::try_from(when).unwrap_or_default());
        let pk = self.log_key(table);
        let edits: Vec<u64> = (head.swept.0..end.0).map(|n| n.saturating_add(1)).collect();
        if edits.is_empty() {
            return;
        }
        for together in edits.chunks(MARKED_TOGETHER) {
            let marked = together.iter().map(|seq| {
                let request = json!({
                    "TableName": self.wire.table(),
                    "Key": item::key(&pk, *seq),
                    // Without this an edit that is gone would come back as an item with nothing in it.
                    "ConditionExpression": UNMARKED,
                    "UpdateExpression": MARK,
                    "ExpressionAttributeValues": { ":when": when },
                });
                async move { self.wire.write("UpdateItem", &request).await }
            });
            for marked in futures::future::join_all(marked).await {
                match marked {
                    Ok(_) | Err(Failed::Condition) => {}
                    Err(Failed::Unknown(error) | Failed::No(error)) => {
                        tracing::debug!(%table, %error, "covered edits are given their week later");
                        return;
                    }
                }
            }
        }
        let request = json!({
            "TableName": self.wire.table(),
            "Key": item::key(&pk, 0),
            "ConditionExpression": LESS_SWEPT,
            "UpdateExpression": SWEEP,
            "ExpressionAttributeValues": { ":seq": item::number(end.0) },
        });
        match self.wire.write("UpdateItem", &request).await {
            Ok(_) | Err(Failed::Condition) => {}
            Err(Failed::Unknown(error) | Failed::No(error)) => {
                tracing::debug!(%table, %error, "covered edits are looked at once more, later");
            }
        }
    }
}
