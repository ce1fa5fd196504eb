//! Rows in order become segments: what flush, compaction and loads write.

use bytes::Bytes;
use nacre_manifest::{IndexSpan, Layer, Location, Segment, segment_path};
use nacre_runtime::Ids;
use nacre_segment::{SegmentRow, SegmentSummary, SegmentWriter, WriterSettings};
use nacre_store::{ObjectPath, PutMode, PutOutcome};
use nacre_types::{Error, Result, SegmentId, TableId};

use crate::outside::{LateDrops, Outside};
use crate::rows::keep::{Keeper, Verdict};
use crate::rows::merge::{Merge, RowSource};
use crate::shared::Shared;

/// A segment that is written and not yet put.
#[derive(Debug)]
pub struct Built {
    /// Its id, newly minted.
    pub id: SegmentId,
    /// The whole object.
    pub bytes: Bytes,
    /// What the manifest will say of it.
    pub summary: SegmentSummary,
}

impl Built {
    /// As an edit brings it.
    pub fn to_segment(&self, location: Location, layer: Layer, exact_places: bool) -> Segment {
        let summary = &self.summary;
        Segment {
            id: self.id,
            location,
            index: IndexSpan { offset: summary.index.offset, length: summary.index.length },
            layer,
            min_key: summary.min_key.clone(),
            max_key: summary.max_key.clone(),
            min_version: summary.min_version,
            max_version: summary.max_version,
            rows: summary.rows,
            tombstones: summary.tombstones,
            bytes: summary.bytes,
            max_expires_at: summary.max_expires_at,
            with_place: summary.with_place,
            exact_places,
        }
    }
}

/// Cuts a run of rows in order into segments of about a size; rows of one key stay in one segment.
pub struct SegmentSink<'a> {
    ids: &'a dyn Ids,
    settings: WriterSettings,
    target_bytes: u64,
    current: Option<SegmentWriter<Vec<u8>>>,
    last_key: Vec<u8>,
    emit: &'a mut dyn FnMut(Built) -> Result<()>,
}

impl<'a> SegmentSink<'a> {
    /// Segments go to `emit` as they are finished.
    pub fn new(
        ids: &'a dyn Ids,
        settings: WriterSettings,
        target_bytes: u64,
        emit: &'a mut dyn FnMut(Built) -> Result<()>,
    ) -> Self {
        Self { ids, settings, target_bytes, current: None, last_key: Vec::new(), emit }
    }

    /// Adds the next row.
    ///
    /// # Errors
    /// `Internal` for rows out of order; whatever `emit` answers.
    pub fn push(&mut self, row: &SegmentRow<'_>) -> Result<()> {
        let is_full = self.current.as_ref().is_some_and(|writer| writer.bytes_written() >= self.target_bytes);
        if is_full && row.key != self.last_key {
            self.finish_current()?;
        }
        if is_full || self.current.is_none() {
            self.last_key.clear();
            self.last_key.extend_from_slice(row.key);
        }
        let writer = match &mut self.current {
            Some(writer) => writer,
            None => {
                self.current.insert(SegmentWriter::new(Vec::with_capacity(1 << 20), self.settings.clone())?)
            }
        };
        writer.push(row)?;
        // Only needed where a segment may end; copying every key would cost more than it is worth.
        if writer.bytes_written() >= self.target_bytes && self.last_key != row.key {
            self.last_key.clear();
            self.last_key.extend_from_slice(row.key);
        }
        Ok(())
    }

    fn finish_current(&mut self) -> Result<()> {
        if let Some(writer) = self.current.take() {
            let (bytes, summary) = writer.finish()?;
            (self.emit)(Built { id: SegmentId(self.ids.random_u128()), bytes: bytes.into(), summary })?;
        }
        Ok(())
    }

    /// Finishes the last segment.
    ///
    /// # Errors
    /// Whatever `emit` answers.
    pub fn finish(mut self) -> Result<()> {
        self.finish_current()
    }
}

/// What a job left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Something.
    pub(crate) any: bool,
    /// Tombstones by lateness.
    pub(crate) late: Option<LateDrops>,
}

/// Writes what `keeper` keeps of a purely streamed merge; places are not written. `outside` knows the rows that are not
/// among them, where tombstones may go by lateness.
pub(crate) fn write_kept<S: RowSource>(
    mut rows: Merge<S>,
    mut keeper: Keeper<'_>,
    mut sink: SegmentSink<'_>,
    mut outside: Option<Outside>,
) -> Result<Dropped> {
    let mut dropped = false;
    let mut key = Vec::new();
    while let Some(row) = rows.peek() {
        if row.key != key {
            key.clear();
            key.extend_from_slice(row.key);
            keeper.restart();
        }
        let out = SegmentRow {
            key: row.key,
            version: row.version,
            place: None,
            expires_at: row.expires_at,
            value: row.value,
        };
        let oldest_outside = || match &mut outside {
            Some(outside) => outside.oldest(row.key, row.version),
            None => Some(i64::MIN),
        };
        match keeper.judge(row.version, row.place, row.expires_at, row.value.is_none(), oldest_outside) {
            Verdict::Keep => sink.push(&out)?,
            Verdict::Bury => {
                dropped = true;
                sink.push(&SegmentRow { expires_at: None, value: None, ..out })?;
            }
            Verdict::Drop => dropped = true,
        }
        rows.advance()?;
    }
    sink.finish()?;
    Ok(Dropped { any: dropped, late: outside.and_then(|outside| outside.drops()) })
}

/// Puts a built segment and its index into the cache's reach; complete and durable when this returns.
pub(crate) async fn put_segment(
    shared: &Shared,
    table: TableId,
    segment: &Segment,
    bytes: Bytes,
) -> Result<()> {
    let path = ObjectPath::new(&segment_path(table, segment))?;
    let start = segment.index.offset as usize;
    let index =
        bytes.get(start..start.saturating_add(segment.index.length as usize)).map(Bytes::copy_from_slice);
    match shared.store.put(&path, bytes, PutMode::Create).await? {
        PutOutcome::Stored(_) => {}
        // The name has a new random id: only this very put can have made it (its first answer was lost).
        PutOutcome::AlreadyExists => {}
        PutOutcome::Mismatch => return Err(Error::internal("a create was answered as a replace")),
    }
    if let Some(index) = index {
        // Whoever reads the new segment first need not fetch its index.
        let index = nacre_segment::SegmentIndex::decode(index)?;
        shared.cache.insert_index(segment.id, index);
    }
    Ok(())
}
