//! What the tables of a store hold of each partition of the log: for who looks after the log without a node.

use std::collections::BTreeMap;
use std::sync::Arc;

use nacre_catalog::Catalog;
use nacre_runtime::Context;
use nacre_store::ObjectStore;
use nacre_types::{Offset, PartitionId, Result, TableId};

use crate::names::Names;
use crate::table::read_manifest;

/// What segments hold of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartitionCover {
    /// Highest offset that some table's segments reach.
    pub through: Offset,
    /// The newest version in segments with rows at or above the offset that was asked about; also a version that its
    /// writer brought.
    pub newest_version: Option<i64>,
}

/// What the segments of all tables, dropped ones among them, hold of each partition that a table's rows are written to.
/// `above`: by partition the offset from which on [`PartitionCover::newest_version`] is asked for; from 0 where it is not
/// named.
///
/// # Errors
/// `Corrupt`, `Unavailable`.
pub async fn covered_partitions(
    catalog: &Arc<dyn Catalog>,
    store: &dyn ObjectStore,
    above: &BTreeMap<PartitionId, Offset>,
    ctx: &Context,
) -> Result<BTreeMap<PartitionId, PartitionCover>> {
    let names = Names::new(catalog.clone(), ctx.clone());
    let mut covers: BTreeMap<PartitionId, PartitionCover> = BTreeMap::new();
    for namespace in names.list().await? {
        let record = match names.read(&namespace).await {
            // Named in the list and not made: whoever made it crashed.
            Err(error) if error.code() == "namespace-not-found" => continue,
            record => record?,
        };
        for entry in record.tables.values() {
            let table = TableId::parse(&entry.id)?;
            let Some(manifest) = read_manifest(&**catalog, store, table).await? else { continue };
            for (partition, through) in manifest.partitions() {
                let cover = covers.entry(partition).or_default();
                cover.through = cover.through.max(through);
            }
            for segment in manifest.segments() {
                let Some(span) = segment.layer().streamed() else { continue };
                let Some(cover) = covers.get_mut(&span.partition) else { continue };
                if span.to > above.get(&span.partition).copied().unwrap_or_default() {
                    cover.newest_version = cover.newest_version.max(Some(segment.max_version()));
                }
            }
        }
    }
    Ok(covers)
}
