//! Appending until it is known.
//!
//! An attempt whose answer is lost is under way for as long as nobody has read what lies at its sequence. The appender
//! therefore has one move: put the same bytes, with the same commit id, at the same sequence again. If the first attempt
//! had landed, or lands meanwhile, the repeat finds the own commit id; if another's edit lies there, no attempt can land
//! any more; if neither, the repeat itself may settle it. Looking for the commit id and not finding it says nothing, and
//! an appender that moved on to the next sequence after such a look would commit twice.

use crate::{Append, Catalog, EDITS_GONE, EncodedEdit};
use nacre_runtime::{Backoff, Context};
use nacre_types::{ErrorKind, Result, Seq, TableId};
use std::time::Duration;

const FIRST_WAIT: Duration = Duration::from_millis(2);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// A request that is not answered for so long is left under way, and the next one is sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Puts the same bytes at the same sequence again until it is known what became of them, for at most `limit`
/// (monotonic). `Unknown` only when the limit is over: then the caller answers unknown, and leaves everything.
///
/// Dropping the future is a crash: whatever was sent may land.
///
/// # Errors
/// As [`Catalog::append`], and only when no attempt is in doubt: the edit is certainly not there and will not come. But
/// `Unknown` ([`EDITS_GONE`]) as soon as it is told: no further attempt will tell more, and none can have an effect.
pub async fn append_until_known(
    catalog: &dyn Catalog,
    ctx: &Context,
    table: TableId,
    expected: Seq,
    edit: &EncodedEdit,
    limit: Duration,
) -> Result<Append> {
    let begun = ctx.clock.monotonic();
    let left = || limit.saturating_sub(ctx.clock.monotonic().saturating_sub(begun));
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut in_doubt = false;
    loop {
        let patience = left().min(PATIENCE);
        let failed = match tokio::time::timeout(patience, catalog.append(table, expected, edit)).await {
            Ok(Ok(Append::Unknown)) | Err(_) => {
                in_doubt = true;
                None
            }
            Ok(Ok(known)) => return Ok(known),
            Ok(Err(error)) if error.code() == EDITS_GONE => return Err(error),
            Ok(Err(error)) => {
                in_doubt |= error.kind() == ErrorKind::Unknown;
                Some(error)
            }
        };
        let wait = backoff.next(&*ctx.ids);
        // A disk does not become free by waiting, and whoever waits cannot tell its client why.
        let full = failed.as_ref().is_some_and(|error| error.code() == "disk-full") && !in_doubt;
        let hopeless = full || failed.as_ref().is_some_and(|error| !error.kind().is_retryable());
        if hopeless || left() <= wait {
            return match failed {
                Some(error) if !in_doubt => Err(error),
                other => {
                    tracing::warn!(%table, seq = expected.next().0, commit_id = %edit.commit_id, error = ?other,
                        "the outcome of an append stays unknown");
                    Ok(Append::Unknown)
                }
            };
        }
        tokio::time::sleep(wait).await;
    }
}
