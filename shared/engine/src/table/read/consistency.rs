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

use nacre_types::{Consistency, Error, Key, KeyRange, PartitionId, Result};
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

/// Which part of a table a read is about.
#[derive(Clone, Copy)]
pub(crate) enum Touch<'a> {
    /// One key.
    Key(&'a [u8]),
    /// Several.
    Keys(&'a [Key]),
    /// A range of keys.
    Range(&'a KeyRange),
    /// All of it.
    Table,
}

impl View {
    /// The partitions that a read depends on, each once.
    pub(crate) fn partitions(&self, touch: Touch<'_>) -> SmallVec<[PartitionId; 4]> {
        let mut found: SmallVec<[PartitionId; 4]> = SmallVec::new();
        let mut add = |partition: PartitionId| {
            if !found.contains(&partition) {
                found.push(partition);
            }
        };
        match touch {
            Touch::Key(key) => {
                self.manifest.shard_of(key).into_iter().for_each(|shard| add(shard.partition));
            }
            Touch::Keys(keys) => keys
                .iter()
                .filter_map(|key| self.manifest.shard_of(key))
                .for_each(|shard| add(shard.partition)),
            Touch::Range(range) => {
                let shards = self.manifest.shards();
                let first = shards.partition_point(|shard| shard.start <= range.start).saturating_sub(1);
                let is_within =
                    |shard: &&nacre_manifest::Shard| range.end.as_ref().is_none_or(|end| shard.start < *end);
                shards[first..].iter().take_while(is_within).for_each(|shard| add(shard.partition));
            }
            Touch::Table => self.manifest.partitions().for_each(|(partition, _)| add(partition)),
        }
        found
    }
}

impl Table {
    /// Whether this process has the tails that a read depends on. To be asked *after* `view` was taken: what is held then
    /// was held before, and `view` has it.
    ///
    /// # Errors
    /// `Unavailable` (`not-held`).
    #[inline]
    pub(crate) fn check_held(&self, view: &View, touch: Touch<'_>) -> Result<()> {
        let tails = &self.shared.tails;
        if tails.holds_all() {
            return Ok(());
        }
        view.partitions(touch).into_iter().try_for_each(|partition| tails.check(partition))
    }

    /// Returns when a read with these options may use the current view.
    pub(super) async fn reach(self: &Arc<Self>, options: &ReadOptions, touch: Touch<'_>) -> Result<()> {
        let consistency = options.consistency.unwrap_or_else(|| self.view.load().settings.consistency);
        let wanted = match (consistency, &options.session) {
            (Consistency::Eventual, None) => {
                return match options.max_staleness {
                    None => Ok(()),
                    Some(bound) => self.within(options.deadline, self.freshen(bound, touch)).await,
                };
            }
            (Consistency::Session, None) => return Ok(()),
            (Consistency::Strong, None) => return self.within(options.deadline, self.reach_end(touch)).await,
            (_, Some(token)) => token,
        };
        self.within(options.deadline, async {
            self.reach_token(wanted, touch).await?;
            if consistency == Consistency::Strong { self.reach_end(touch).await } else { Ok(()) }
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

    async fn reach_token(self: &Arc<Self>, token: &SessionToken, touch: Touch<'_>) -> Result<()> {
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
        let touched = self.view.load().partitions(touch);
        for &(partition, offset) in token.positions.iter().filter(|(held, _)| touched.contains(held)) {
            let tailer = self.shared.tails.get(partition)?;
            let incarnation = tailer.applied.borrow().as_ref().map(|position| position.incarnation);
            if incarnation.is_some_and(|held| held != token.incarnation) {
                return Err(Error::invalid("the session token belongs to another incarnation of the log")
                    .with_code("token-other-log"));
            }
            tailer.wait_for(offset).await?;
        }
        Ok(())
    }

    /// The partitions that the table's rows are written to.
    pub(crate) fn partitions(&self) -> SmallVec<[PartitionId; 4]> {
        self.view.load().partitions(Touch::Table)
    }

    /// Reads the table log to its end, and the log into the tails to its end.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) async fn reach_end(self: &Arc<Self>, touch: Touch<'_>) -> Result<()> {
        self.refresh().await?;
        let touched = self.view.load().partitions(touch);
        for partition in touched {
            let end = self.shared.log.strong_end(partition).await?;
            self.shared.tails.get(partition)?.wait_for(end.offset).await?;
        }
        Ok(())
    }

    async fn freshen(self: &Arc<Self>, bound: Duration, touch: Touch<'_>) -> Result<()> {
        // The tail follows the log as it grows; what can be old is the table log, and both where the log is quiet.
        if u128::from(self.age_micros()) <= bound.as_micros() { Ok(()) } else { self.reach_end(touch).await }
    }
}
