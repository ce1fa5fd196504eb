//! How fresh a read is.
//!
//! * `eventual`: what this process has. With `max_staleness`, not older than that: the table log must have been read to
//!   its end, and the log's end have been reached, within it.
//! * `session`: every position of the token is in the tail or covered, and the token's edition is reached.
//! * `strong`: after the request arrived the table log is read to its end and applied, then the ends of the partitions
//!   that this map names are asked of the log and reached. In this order: a flush that commits between the two only
//!   moves rows from the tail to segments, and the view holds both.

use std::sync::Arc;
use std::time::Duration;

use nacre_types::{Consistency, Error, PartitionId, Result};
use smallvec::SmallVec;

use super::super::Table;
use crate::view::View;
use crate::{ReadOptions, SessionToken};

/// Whether a read with these options may use this view without waiting for anything.
pub(super) fn is_fresh_enough(view: &View, options: &ReadOptions) -> bool {
    options.session.is_none()
        && match options.consistency.unwrap_or(view.settings.consistency) {
            Consistency::Eventual => options.max_staleness.is_none(),
            // Without a token there is nothing to have seen.
            Consistency::Session => true,
            Consistency::Strong => false,
        }
}

impl Table {
    /// Returns when a read with these options may use the current view.
    pub(super) async fn reach(self: &Arc<Self>, options: &ReadOptions, key: Option<&[u8]>) -> Result<()> {
        let consistency = options.consistency.unwrap_or_else(|| self.view.load().settings.consistency);
        let wanted = match (consistency, &options.session) {
            (Consistency::Eventual, None) => {
                return match options.max_staleness {
                    None => Ok(()),
                    Some(bound) => self.within(options.deadline, self.freshen(bound, key)).await,
                };
            }
            (Consistency::Session, None) => return Ok(()),
            (Consistency::Strong, None) => return self.within(options.deadline, self.reach_end(key)).await,
            (_, Some(token)) => token,
        };
        self.within(options.deadline, async {
            self.reach_token(wanted).await?;
            if consistency == Consistency::Strong { self.reach_end(key).await } else { Ok(()) }
        })
        .await
    }

    async fn within(&self, limit: Duration, work: impl Future<Output = Result<()>>) -> Result<()> {
        tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
            Err(Error::unavailable(
                "the freshness asked for was not reached within the deadline; ask for less, or again",
            )
            .with_code("stale"))
        })
    }

    async fn reach_token(self: &Arc<Self>, token: &SessionToken) -> Result<()> {
        if token.table != self.id {
            return Err(Error::invalid(
                "the session token belongs to another table (was the table dropped and created again?)",
            )
            .with_code("token-other-table"));
        }
        if self.view.load().manifest.edition() < token.edition {
            self.refresh().await?;
            if self.view.load().manifest.edition() < token.edition {
                return Err(Error::invalid("the session token names an edition that the table never had")
                    .with_code("token-other-table"));
            }
        }
        for &(partition, offset) in &token.positions {
            let tailer = self.shared.tailer(partition)?;
            let incarnation = tailer.applied.borrow().as_ref().map(|position| position.incarnation);
            if incarnation.is_some_and(|held| held != token.incarnation) {
                return Err(Error::invalid("the session token belongs to another incarnation of the log")
                    .with_code("token-other-log"));
            }
            tailer.wait_for(offset).await?;
        }
        Ok(())
    }

    /// The partitions that a read of `key`, or of the whole table, depends on.
    pub(crate) fn partitions_of(&self, key: Option<&[u8]>) -> SmallVec<[PartitionId; 4]> {
        let view = self.view.load();
        match key.and_then(|key| view.manifest.shard_of(key)) {
            Some(shard) => SmallVec::from_slice(&[shard.partition]),
            None => view.manifest.partitions().map(|(partition, _)| partition).collect(),
        }
    }

    /// Reads the table log to its end, and the log into the tails to its end.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) async fn reach_end(self: &Arc<Self>, key: Option<&[u8]>) -> Result<()> {
        self.refresh().await?;
        for partition in self.partitions_of(key) {
            let end = self.shared.log.strong_end(partition).await?;
            self.shared.tailer(partition)?.wait_for(end.offset).await?;
        }
        Ok(())
    }

    async fn freshen(self: &Arc<Self>, bound: Duration, key: Option<&[u8]>) -> Result<()> {
        // The tail follows the log as it grows; what can be old is the table log, and both where the log is quiet.
        if u128::from(self.age_micros()) <= bound.as_micros() { Ok(()) } else { self.reach_end(key).await }
    }
}
