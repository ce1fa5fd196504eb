//! The flush of one table.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use nacre_manifest::{Change, DropGuard, Flush, Layer, Location, StreamedSpan};
use nacre_segment::WriterSettings;
use nacre_types::{Error, Generation, Offset, PartitionId, Place, Result};

use crate::Table;
use crate::output::{Built, Dropped, SegmentSink, put_segment, write_kept};
use crate::outside::{Outside, Own};
use crate::rows::keep::{KeepContext, Keeper};
use crate::rows::merge::{Merge, RowSource, RowView};
use crate::rows::{Expiry, Floor, Floors};
use crate::tail::memtable::{MemTable, TailRow};
use crate::view::covered_place;

/// Taken off the now for drops: clocks differ.
pub(crate) const DROP_MARGIN_MICROS: i64 = 60 * 1_000_000;
const PAGE: usize = 512;

/// Flushes the rows of `partition` below `to`. Answers how many were written.
pub(super) async fn flush_table(table: &Arc<Table>, partition: PartitionId, to: Offset) -> Result<u64> {
    let view = table.view().clone();
    let manifest = view.manifest.clone();
    let from = manifest.covered(partition);
    if from >= to {
        return Ok(0);
    }
    let covered = covered_place(from);
    let memtables: Vec<Arc<MemTable>> = view
        .tails
        .iter()
        .filter(|tail| tail.partition == partition)
        .flat_map(|tail| tail.memtables.iter())
        .filter(|memtable| memtable.sealed_at().is_some_and(|end| end <= to))
        .cloned()
        .collect();
    let shared = table.shared.clone();
    let now = shared.now_for_drops().await?;
    let oldest = memtables.iter().filter_map(|memtable| memtable.oldest_version()).min();
    let own = Own { flushed: Some((partition, covered_place(to))), ..Own::default() };
    let outside = Outside::look(table, now, oldest.unwrap_or(i64::MAX), own).await;
    let sources = move || {
        memtables.into_iter().map(|memtable| MemTableSource::new(memtable, covered)).collect::<Vec<_>>()
    };
    let (built, dropped) = write_segments(table, manifest.clone(), sources, now, outside).await?;
    let span = StreamedSpan { partition, generation: Generation(0), from, to };
    let mut segments = Vec::with_capacity(built.len());
    for built in built {
        let segment = built.to_segment(Location::Flush { partition, from }, Layer::Streamed(span), false);
        table.shared.ctx.phases.reach("flush/put").await;
        put_segment(&table.shared, table.id(), &segment, built.bytes).await?;
        segments.push(segment);
    }
    let rows = segments.iter().map(|segment| segment.rows).sum();
    let drops = dropped.any.then(|| DropGuard {
        now_micros: now,
        settings: manifest.settings_number(),
        late_below: dropped.late.map(|late| late.below),
    });
    table.shared.ctx.phases.reach("flush/commit").await;
    table
        .commit(Box::new(move |manifest| {
            if manifest.covered(partition) != from {
                return Err(Error::conflict(format!(
                    "partition {partition} was flushed by another process up to {}",
                    manifest.covered(partition)
                ))
                .with_code("flush-not-covered"));
            }
            if let Some(late) = &dropped.late {
                late.check(manifest)?;
            }
            let segments = segments.clone();
            Ok(vec![Change::Flush(Flush { partition, generation: Generation(0), from, to, segments, drops })])
        }))
        .await?;
    table.shared.ctx.phases.reach("flush/committed").await;
    Ok(rows)
}

/// Writes rows that are sorted as segments, without what may be dropped. `sources` is called where work may block.
pub(crate) async fn write_segments<S: RowSource + 'static>(
    table: &Arc<Table>,
    manifest: Arc<nacre_manifest::Manifest>,
    sources: impl FnOnce() -> Vec<S> + Send + 'static,
    now: i64,
    outside: Option<Outside>,
) -> Result<(Vec<Built>, Dropped)> {
    let shared = table.shared.clone();
    let target = shared.config.flush.segment_bytes;
    let written = shared.ctx.clone().tasks.spawn_blocking("flush-write", move || {
        let sealed_floors = sealed_floors(&manifest);
        let settings = manifest.settings();
        let keeper = Keeper::new(KeepContext {
            sealed_floors: &sealed_floors,
            expiry: Expiry::of(settings, manifest.expired_below()),
            max_versions: settings.max_versions,
            now,
            late_below: outside.as_ref().map(Outside::limit),
        });
        let mut built = Vec::new();
        let mut emit = |segment: Built| {
            built.push(segment);
            Ok(())
        };
        let sink = SegmentSink::new(&*shared.ctx.ids, WriterSettings::default(), target, &mut emit);
        let dropped = write_kept(Merge::new(sources()), keeper, sink, outside)?;
        Ok::<_, Error>((built, dropped))
    });
    written.await?
}

/// The floors under which rows may be dropped.
pub(crate) fn sealed_floors(manifest: &nacre_manifest::Manifest) -> Floors {
    manifest
        .floors()
        .iter()
        .filter(|floor| floor.sealed)
        .map(|floor| Floor::new(floor.version, floor.commit))
        .collect()
}

/// The rows of a memtable, a page at a time.
struct MemTableSource {
    memtable: Arc<MemTable>,
    covered: Place,
    rows: Vec<(Bytes, TailRow)>,
    at: usize,
    resume: Option<Bytes>,
}

impl MemTableSource {
    fn new(memtable: Arc<MemTable>, covered: Place) -> Self {
        let mut source = Self { memtable, covered, rows: Vec::with_capacity(PAGE), at: 0, resume: None };
        source.resume = source.memtable.page(
            (Bound::Unbounded, Bound::Unbounded),
            false,
            covered,
            PAGE,
            &mut source.rows,
        );
        source.skip_empty();
        source
    }

    /// Reads on until a page has rows or nothing is left.
    fn skip_empty(&mut self) {
        while self.at >= self.rows.len() {
            let Some(from) = self.resume.take() else { return };
            self.rows.clear();
            self.at = 0;
            let range = (Bound::Excluded(&from[..]), Bound::Unbounded);
            self.resume = self.memtable.page(range, false, self.covered, PAGE, &mut self.rows);
        }
    }
}

impl RowSource for MemTableSource {
    fn peek(&self) -> Option<RowView<'_>> {
        self.rows.get(self.at).map(|(key, row)| RowView {
            key,
            version: row.rank.version,
            place: row.rank.place,
            index: row.rank.index,
            expires_at: row.expires_at,
            value: row.value.as_deref(),
        })
    }

    fn advance(&mut self) -> Result<()> {
        self.at += 1;
        self.skip_empty();
        Ok(())
    }
}
