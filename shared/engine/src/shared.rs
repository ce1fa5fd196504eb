//! What every part of a node uses.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use nacre_cache::BlockCache;
use nacre_catalog::Catalog;
use nacre_log::Log;
use nacre_runtime::Context;
use nacre_store::ObjectStore;
use nacre_types::{PartitionId, Result};

use crate::backlog::Backlog;
use crate::metrics::Metrics;
use crate::node::NodeConfig;
use crate::presence::Presence;
use crate::source::{Board, Topics};
use crate::tail::held::Tails;
use crate::warm::Warmer;

/// The world, the three stores, the cache and the tails of one node.
pub(crate) struct Shared {
    pub(crate) ctx: Context,
    pub(crate) presence: Presence,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) cache: BlockCache,
    pub(crate) config: NodeConfig,
    pub(crate) metrics: Metrics,
    /// A load was pinned or cancelled in this process.
    pub(crate) loads_changed: tokio::sync::Notify,
    pub(crate) tails: Tails,
    pub(crate) backlog: Backlog,
    /// How loads are warmed; here, where nobody said so.
    pub(crate) warmer: OnceLock<Warmer>,
    /// How topics of someone else are read.
    pub(crate) topics: OnceLock<Arc<dyn Topics>>,
    pub(crate) sources: Board,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("store", &self.store).field("log", &self.log).finish_non_exhaustive()
    }
}

impl Shared {
    /// Bytes of a partition that wait to be flushed: counted where its tail is held, else estimated.
    pub(crate) fn waiting_bytes(&self, partition: PartitionId) -> u64 {
        match self.tails.get(partition) {
            Ok(tailer) => tailer.pending_bytes.load(Ordering::Relaxed),
            Err(_) => self.backlog.bytes(partition),
        }
    }

    /// How many keys memory has room for that are hot: one a block, and those of single rows.
    pub(crate) fn hot_keys_most(&self) -> usize {
        let stats = self.cache.stats();
        usize::try_from(stats.blocks.entries + stats.rows.entries)
            .unwrap_or(usize::MAX)
            .min(crate::warm::HOT_KEYS_MOST)
    }

    /// The now for drops: the earlier of the store's date and one's own clock, less a margin. A row that is expired then
    /// is expired for every reader. The partitions' log times are not asked: they are never before one's own clock.
    pub(crate) async fn now_for_drops(&self) -> Result<i64> {
        let now = self.ctx.clock.now_micros().min(self.store.date_micros().await?);
        Ok(now.saturating_sub(crate::flush::DROP_MARGIN_MICROS))
    }
}
