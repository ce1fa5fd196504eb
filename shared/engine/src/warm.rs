//! Warming: reading, before anybody waits for it, what will be asked for.
//!
//! What is asked for is known by key (the cache holds single rows, and [`nacre_cache::HeldIndex`] counts blocks and their
//! last rows), so it can be read wherever it will lie: in the segments of a load that is prepared and not yet shown, or at a node that is about to answer
//! for a partition. Warming is a read like any other, so there is nothing that it could get wrong: it goes the same way,
//! with the same filters, and leaves in the cache what the next reader will look for.
//!
//! A load is warmed by whoever is about to commit it ([`Table::commit_prepared`]): here, or at the nodes of a fleet
//! ([`Node::warm_loads_by`]). It may take [`crate::NodeConfig::warm_limit`] and no longer: a load that is not warm is slow
//! for a while, one that waits for ever is late.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::StreamExt as _;
use nacre_cache::HotBlock;
use nacre_manifest::Manifest;
use nacre_types::{Key, LoadId, PartitionId, Result, SegmentId, TableId};

use crate::node::Node;
use crate::shared::Shared;
use crate::{ReadOptions, Table};

/// Keys that are read by one call, and calls at once: how much of a store's bandwidth warming takes.
const KEYS_AT_ONCE: usize = 64;
const CALLS_AT_ONCE: usize = 4;
/// More keys take longer than warming may: of a large memory some are warmed.
pub(crate) const HOT_KEYS_MOST: usize = 1 << 18;
/// What a row that is held by itself counts: more than any block's last row, since it was asked for more than once.
const COUNT_OF_A_ROW: u32 = u32::MAX;
/// Once to fetch, and once more before others come: what was asked for once is the first to go, soon after.
const TIMES: usize = 2;

/// Warms a load of a table where its rows are read, within a time.
pub type Warmer = Arc<dyn Fn(Arc<Table>, LoadId, Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// The keys of one table that are asked for most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HotKeys {
    /// The table.
    pub table: TableId,
    /// The hottest first.
    pub keys: Vec<Key>,
}

impl Node {
    /// From now on loads are warmed by `warmer` before they are shown.
    pub fn warm_loads_by(&self, warmer: Warmer) {
        if self.shared.warmer.set(warmer).is_err() {
            tracing::warn!("how loads are warmed was said twice; the first holds");
        }
    }

    /// The keys of these partitions that are asked for most, of all tables together as many as memory has room for.
    ///
    /// # Errors
    /// `Internal` (a panic).
    pub async fn hot_keys(self: &Arc<Self>, partitions: Vec<PartitionId>) -> Result<Vec<HotKeys>> {
        let node = self.clone();
        // A walk over every index in memory.
        self.shared
            .ctx
            .tasks
            .spawn_blocking("hot-keys", move || {
                let (most, rows) = (node.shared.hot_keys_most(), HotRows::of(&node.shared));
                let mut all = Vec::new();
                for table in node.open_tables() {
                    let is_of = |partition| partitions.contains(&partition);
                    let hot = table.hot_keys(&table.manifest(), &rows, is_of);
                    all.extend(hot.into_iter().map(|(count, key)| (count, table.id(), key)));
                }
                hottest(&mut all, most, |(count, ..)| *count);
                let mut found: Vec<HotKeys> = Vec::new();
                for (_, table, key) in all {
                    match found.iter_mut().find(|hot| hot.table == table) {
                        Some(hot) => hot.keys.push(key),
                        None => found.push(HotKeys { table, keys: vec![key] }),
                    }
                }
                found
            })
            .await
    }
}

/// The keys of rows that memory holds by themselves, by segment.
pub(crate) struct HotRows(HashMap<SegmentId, Vec<Bytes>>);

impl HotRows {
    /// Walks over all that the cache holds.
    pub(crate) fn of(shared: &Shared) -> Self {
        let mut rows: HashMap<SegmentId, Vec<Bytes>> = HashMap::new();
        for (segment, key) in shared.cache.keys_of_rows(HOT_KEYS_MOST) {
            rows.entry(segment).or_default().push(key);
        }
        Self(rows)
    }
}

impl Node {
    /// Reads keys that will be asked for here; answers how many. What cannot be read is left.
    pub async fn warm(self: &Arc<Self>, hot: Vec<HotKeys>, limit: Duration) -> usize {
        let (clock, mut warmed) = (&self.shared.ctx.clock, 0);
        let until = clock.monotonic().saturating_add(limit);
        for HotKeys { table, keys } in hot {
            let left = until.saturating_sub(clock.monotonic());
            match self.table_of(table).await {
                Ok(Some(table)) => warmed += table.warm(keys, None, left).await,
                Ok(None) => {}
                Err(error) => tracing::debug!(%table, %error, "a table was not warmed"),
            }
        }
        warmed
    }
}

impl Table {
    /// Reads the keys that are asked for most as if `load` were committed; answers how many it read.
    ///
    /// # Errors
    /// `Unavailable`, where the table log cannot be read.
    pub async fn warm_load(self: &Arc<Self>, load: LoadId, limit: Duration) -> Result<usize> {
        self.refresh().await?;
        let hot = self.hot_keys_of(|_| true).await?;
        Ok(self.warm(hot, Some(load), limit).await)
    }

    /// The keys of some partitions that are asked for most, those first.
    pub(crate) async fn hot_keys_of(
        self: &Arc<Self>,
        is_of: impl Fn(PartitionId) -> bool + Send + 'static,
    ) -> Result<Vec<Key>> {
        self.hot_keys_in(self.manifest(), is_of).await
    }

    async fn hot_keys_in(
        self: &Arc<Self>,
        manifest: Arc<Manifest>,
        is_of: impl Fn(PartitionId) -> bool + Send + 'static,
    ) -> Result<Vec<Key>> {
        let table = self.clone();
        // A walk over every index in memory.
        let walk = self.shared.ctx.tasks.spawn_blocking("hot-keys", move || {
            let rows = HotRows::of(&table.shared);
            table.hot_keys(&manifest, &rows, is_of).into_iter().map(|(_, key)| key).collect()
        });
        walk.await
    }

    /// Reads keys that this process answers for, so that the next read of them is warm; answers how many. What cannot be
    /// read is left.
    pub async fn warm(self: &Arc<Self>, keys: Vec<Key>, preview: Option<LoadId>, limit: Duration) -> usize {
        let ctx = &self.shared.ctx;
        let until = ctx.clock.monotonic().saturating_add(limit);
        let manifest = self.manifest();
        let is_here = |key: &Key| {
            manifest.shard_of(key).is_some_and(|shard| self.shared.tails.check(shard.partition).is_ok())
        };
        let mut keys: Vec<Key> = keys.into_iter().filter(is_here).collect();
        // Those of one block side by side: it is fetched once.
        keys.sort_unstable();
        let calls = keys.chunks(KEYS_AT_ONCE).map(|keys| async move {
            let left = until.saturating_sub(self.shared.ctx.clock.monotonic());
            if left.is_zero() {
                return 0;
            }
            let now = self.shared.ctx.clock.now_micros();
            let options = ReadOptions { preview, deadline: left, ..ReadOptions::at(now) };
            for _ in 0..TIMES {
                match tokio::time::timeout(left, self.batch_get(keys, &options)).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => {
                        tracing::debug!(table = %self.id(), %error, "some keys were not warmed");
                        return 0;
                    }
                    Err(_) => return 0,
                }
            }
            keys.len()
        });
        // Collected first: a stream that maps lazily would not be Send across the wait.
        let calls: Vec<_> = calls.collect();
        let warmed: Vec<usize> = futures::stream::iter(calls).buffer_unordered(CALLS_AT_ONCE).collect().await;
        let warmed = warmed.iter().sum();
        self.shared.metrics.keys_warmed.inc_by(warmed as u64);
        warmed
    }

    /// Warms, once more, what is hot in what is shown now. While the rows of the edition before were still asked for, those
    /// of a load had to be held beside them: what there was no room for comes now, when nobody asks for the old ones.
    /// `earlier` is what was shown before: what memory holds of that says what is asked for, and then goes. Who still reads
    /// an earlier edition fetches again.
    pub(crate) fn warm_what_is_shown(self: &Arc<Self>, earlier: Arc<Manifest>) {
        let limit = self.shared.config.warm_limit;
        let is_read_here = |partition| self.shared.tails.check(partition).is_ok();
        if limit.is_zero()
            || !self.partitions().into_iter().any(is_read_here)
            || self.is_warming.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let table = self.clone();
        self.shared.ctx.tasks.spawn("warm-shown", async move {
            if let Ok(hot) = table.hot_keys_in(earlier.clone(), |_| true).await {
                let shown: HashSet<SegmentId> = table.manifest().segments().map(|one| one.id()).collect();
                let gone: HashSet<SegmentId> =
                    earlier.segments().map(|one| one.id()).filter(|id| !shown.contains(id)).collect();
                drop(earlier);
                table.shared.cache.forget_rows(|segment| gone.contains(&segment));
                table.warm(hot, None, limit).await;
            }
            table.is_warming.store(false, Ordering::Release);
        });
    }

    /// Warms a load that is about to be shown, wherever it will be read.
    pub(crate) async fn warm_before_commit(self: &Arc<Self>, load: LoadId) {
        let limit = self.shared.config.warm_limit;
        if limit.is_zero() {
            return;
        }
        let began = self.shared.ctx.clock.monotonic();
        match self.shared.warmer.get() {
            Some(warmer) => warmer(self.clone(), load, limit).await,
            None => {
                if let Err(error) = self.warm_load(load, limit).await {
                    tracing::warn!(%load, %error, "the load is shown without being warmed");
                }
            }
        }
        let took = self.shared.ctx.clock.monotonic().saturating_sub(began);
        tracing::debug!(%load, milliseconds = took.as_millis() as u64, "the load is warm");
    }

    /// The keys that are asked for most in the segments of `manifest`, with how often, those first: of rows that are held by themselves, and of each block
    /// the one that was last asked for in it.
    pub(crate) fn hot_keys(
        &self,
        manifest: &Manifest,
        rows: &HotRows,
        is_of: impl Fn(PartitionId) -> bool,
    ) -> Vec<(u32, Key)> {
        let most = self.shared.hot_keys_most();
        let mut keys: Vec<(u32, Key)> = Vec::new();
        let mut push = |count, key: Bytes| {
            let Ok(key) = Key::new(key) else { return };
            if manifest.shard_of(&key).is_some_and(|shard| is_of(shard.partition)) {
                keys.push((count, key));
            }
        };
        let mut all: Vec<(SegmentId, HotBlock)> = Vec::new();
        for segment in manifest.segments() {
            let id = segment.id();
            for key in rows.0.get(&id).into_iter().flatten() {
                push(COUNT_OF_A_ROW, key.clone());
            }
            let Some(index) = self.shared.cache.index_cached(id) else { continue };
            all.extend(index.hot_blocks().map(|hot| (id, hot)));
        }
        hottest(&mut all, most, |(_, hot)| hot.count);
        for (segment, HotBlock { block, count, row }) in all {
            let held = self.shared.cache.get_cached(segment, block);
            let key = match held.filter(|held| (row as usize) < held.len()) {
                Some(held) => Some(held.key_bytes(row as usize)),
                // It has fallen out of memory: its first key is in the same block.
                None => {
                    self.shared.cache.index_cached(segment).and_then(|index| index.block_first_key(block))
                }
            };
            if let Some(key) = key {
                push(count, key);
            }
        }
        // A key may lie in several segments.
        keys.sort_unstable_by(|(a, one), (b, other)| one.cmp(other).then(b.cmp(a)));
        keys.dedup_by(|(_, later), (_, first)| later == first);
        hottest(&mut keys, most, |(count, _)| *count);
        keys
    }
}

/// Keeps the `most` that count most, those first.
fn hottest<T>(all: &mut Vec<T>, most: usize, count: impl Fn(&T) -> u32) {
    if all.len() > most {
        all.select_nth_unstable_by_key(most, |one| Reverse(count(one)));
        all.truncate(most);
    }
    all.sort_by_key(|one| Reverse(count(one)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_are_kept_and_come_first() {
        let mut all: Vec<u32> = (0..100).map(|n| n * 37 % 100).collect();
        hottest(&mut all, 5, |n| *n);
        assert_eq!(all, [99, 98, 97, 96, 95]);
        hottest(&mut all, 50, |n| *n);
        assert_eq!(all.len(), 5);
        hottest(&mut all, 0, |n| *n);
        assert!(all.is_empty());
    }
}
