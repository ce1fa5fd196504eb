//! Rows of a source become segments and one edit.

use std::sync::Arc;

use bytes::Bytes;
use nacre_manifest::{Change, DropGuard, Flush, Layer, Location, StreamedSpan, source_generation};
use nacre_source::SourceRow;
use nacre_types::{Error, Offset, PartitionId, Place, Result, Seq};

use crate::Table;
use crate::flush::write_segments;
use crate::output::put_segment;
use crate::rows::merge::{RowSource, RowView};

/// A row with its place in the topic.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) offset: u64,
    /// Which row of its message.
    pub(super) index: u32,
    pub(super) row: SourceRow,
}

/// What is applied at once.
pub(super) struct Applying {
    pub(super) partition: PartitionId,
    /// The edit whose declaration the rows were decoded by.
    pub(super) declared: Seq,
    pub(super) from: Offset,
    pub(super) to: Offset,
    pub(super) rows: Vec<Placed>,
}

impl Table {
    /// Commits the rows of a source's partition from `from` to `to`. Answers how many are in segments.
    ///
    /// # Errors
    /// `Conflict` (`flush-not-covered`, `source-changed`) where another was faster or the declaration has changed;
    /// `Unavailable`, `Unknown`.
    pub(super) async fn apply_source(self: &Arc<Self>, applying: Applying) -> Result<u64> {
        let Applying { partition, declared, from, to, rows } = applying;
        let manifest = self.manifest();
        let shared = self.shared.clone();
        let generation = source_generation(partition);
        let mut segments = Vec::new();
        let mut drops = None;
        if !rows.is_empty() {
            let now = shared.now_for_drops().await?;
            let sorted = move || vec![SortedRows::new(rows, generation)];
            let (built, dropped) = write_segments(self, manifest.clone(), sorted, now, None).await?;
            let span = StreamedSpan { partition, generation, from, to };
            for built in built {
                let location = Location::Flush { partition, from };
                let segment = built.to_segment(location, Layer::Streamed(span), false);
                shared.ctx.phases.reach("source/put").await;
                put_segment(&shared, self.id(), &segment, built.bytes).await?;
                segments.push(segment);
            }
            drops = dropped.any.then(|| DropGuard {
                now_micros: now,
                settings: manifest.settings_number(),
                late_below: None,
            });
        }
        let written = segments.iter().map(|segment| segment.rows).sum();
        shared.ctx.phases.reach("source/commit").await;
        self.commit(Box::new(move |manifest| {
            if manifest.source().is_none_or(|source| source.declared != declared) {
                return Err(
                    Error::conflict("the source was declared anew or removed").with_code("source-changed")
                );
            }
            if manifest.covered(partition) != from {
                return Err(Error::conflict(format!(
                    "another process applied the source's partition up to {}",
                    manifest.covered(partition)
                ))
                .with_code("flush-not-covered"));
            }
            let segments = segments.clone();
            Ok(vec![Change::Flush(Flush { partition, generation, from, to, segments, drops })])
        }))
        .await?;
        shared.ctx.phases.reach("source/committed").await;
        Ok(written)
    }
}

/// Rows by key ascending and rank descending.
struct SortedRows {
    rows: Vec<(Bytes, Place, Placed)>,
    at: usize,
}

impl SortedRows {
    fn new(rows: Vec<Placed>, generation: nacre_types::Generation) -> Self {
        let mut rows: Vec<_> = rows
            .into_iter()
            .map(|placed| {
                (placed.row.key.clone(), Place::streamed(generation, Offset(placed.offset)), placed)
            })
            .collect();
        rows.sort_by(|(a_key, a_place, a), (b_key, b_place, b)| {
            let rank = |place: &Place, placed: &Placed| (placed.row.version, *place, placed.index);
            a_key.cmp(b_key).then_with(|| rank(b_place, b).cmp(&rank(a_place, a)))
        });
        Self { rows, at: 0 }
    }
}

impl RowSource for SortedRows {
    fn peek(&self) -> Option<RowView<'_>> {
        self.rows.get(self.at).map(|(key, place, placed)| RowView {
            key,
            version: placed.row.version,
            place: *place,
            index: placed.index,
            expires_at: placed.row.expires_at,
            value: placed.row.value.as_deref(),
        })
    }

    fn advance(&mut self) -> Result<()> {
        self.at += 1;
        Ok(())
    }
}
