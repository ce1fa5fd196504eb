//! A view: one manifest plus the tail from exactly where that manifest ends.
//!
//! A read takes one view and keeps it to its end. The view keeps its memtables alive, so rows may leave the tail the
//! moment the manifest that covers them is published: readers of the old view still see them, readers of the new one
//! find them in segments. Old manifest with new tail cannot happen, because both are in the one pointer that is
//! swapped; and rows that the manifest covers but a memtable still holds (another process flushed up to the middle of
//! it) are passed over by their place.

use std::sync::Arc;

use arc_swap::ArcSwapWeak;
use bytes::Bytes;
use nacre_cache::HeldIndex;
use nacre_manifest::{EditionFilter, Manifest, Unrestorable};
use nacre_types::{
    Error, Generation, LoadId, Offset, PartitionId, Place, Result, SegmentId, Seq, TableSettings,
};
use smallvec::SmallVec;

use crate::rows::{Expiry, Floor, Floors};
use crate::tail::memtable::MemTable;

/// One manifest and the tail from where it ends.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) settings: Arc<TableSettings>,
    /// The table as it is.
    pub(crate) lens: Arc<Lens>,
    /// The segments that count for `lens`, where they are few.
    pub(crate) few: Option<Arc<[Few]>>,
    pub(crate) expiry: Expiry,
    pub(crate) tails: SmallVec<[PartitionTail; 1]>,
}

/// Which loads count and which floors hold for a read.
#[derive(Debug)]
pub(crate) struct Lens {
    pub(crate) filter: EditionFilter,
    pub(crate) floors: Floors,
}

/// With at most this many segments a get looks at all of them, which is faster than a walk down the manifest's tree
/// that unpacks what it meets.
const FEW: u64 = 24;

/// What a get needs to know of a segment before it looks into it.
pub(crate) struct Few {
    pub(crate) id: SegmentId,
    /// The place of rows that have none of their own.
    pub(crate) base: Place,
    pub(crate) max_version: i64,
    min_key: Bytes,
    max_key: Bytes,
    /// Where the index was, if it still is in memory. Weak: what may stay is for the cache to say.
    pub(crate) index: ArcSwapWeak<HeldIndex>,
}

impl std::fmt::Debug for Few {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Few").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Few {
    /// The segments that count, if they are few, newest versions first.
    fn of(manifest: &Manifest, lens: &Lens) -> Option<Arc<[Self]>> {
        if manifest.segment_count() > FEW {
            return None;
        }
        let counted = manifest.segments().filter_map(|segment| {
            lens.filter.base_place(&segment).map(|base| Self {
                id: segment.id(),
                base,
                max_version: segment.max_version(),
                min_key: segment.min_key(),
                max_key: segment.max_key(),
                index: ArcSwapWeak::default(),
            })
        });
        let mut few: Vec<Self> = counted.collect();
        few.sort_by_key(|segment| (std::cmp::Reverse(segment.max_version), segment.id));
        Some(few.into())
    }

    /// Whether its key range holds `key`.
    pub(crate) fn reaches(&self, key: &[u8]) -> bool {
        key >= self.min_key && key <= self.max_key
    }
}

impl Lens {
    fn of(filter: EditionFilter) -> Self {
        let floors = filter.floors().iter().map(|floor| Floor::new(floor.version, floor.commit)).collect();
        Self { filter, floors }
    }
}

impl View {
    /// The lens of a read: the table as it is, at an older edition, or with a prepared load.
    ///
    /// # Errors
    /// `NotFound` (`load-not-prepared`); `Conflict` (`edition-gone`), which the API answers as 410; `Unavailable`
    /// (`edition-ahead`).
    pub(crate) fn lens(&self, edition: Option<Seq>, preview: Option<LoadId>) -> Result<Arc<Lens>> {
        let filter = match (preview, edition) {
            (None, None) => return Ok(self.lens.clone()),
            (None, Some(edition)) if edition == self.manifest.edition() => return Ok(self.lens.clone()),
            (None, Some(edition)) => self.manifest.at_edition(edition),
            (Some(load), edition) => self.manifest.preview(load, edition),
        };
        filter.map(|filter| Arc::new(Lens::of(filter))).map_err(|why| match why {
            Unrestorable::Gone { oldest } => Error::conflict(format!(
                "the edition cannot be shown any more; the oldest that can is {oldest}. Begin the scan again"
            ))
            .with_code("edition-gone"),
            Unrestorable::Ahead { at } => {
                Error::unavailable(format!("this node has reached edition {at} only"))
                    .with_code("edition-ahead")
            }
            Unrestorable::NotPrepared(load) => {
                Error::not_found(format!("load {load} is not prepared")).with_code("load-not-prepared")
            }
        })
    }
}

/// The rows of one partition that the manifest does not cover.
#[derive(Debug, Clone)]
pub(crate) struct PartitionTail {
    pub(crate) partition: PartitionId,
    /// Rows below this place are in segments.
    pub(crate) covered: Place,
    /// In the order of the log.
    pub(crate) memtables: SmallVec<[Arc<MemTable>; 2]>,
}

/// What a table's view is made of; guarded by a lock and changed in memory only.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) settings: Arc<TableSettings>,
    pub(crate) lens: Arc<Lens>,
    few: Option<Arc<[Few]>>,
    pub(crate) tails: Vec<(PartitionId, Vec<Arc<MemTable>>)>,
}

impl Live {
    /// No tail yet.
    pub(crate) fn new(manifest: Manifest) -> Self {
        let settings = Arc::new(manifest.settings().clone());
        let lens = Arc::new(Lens::of(manifest.current().clone()));
        let few = Few::of(&manifest, &lens);
        Self { manifest: Arc::new(manifest), settings, lens, few, tails: Vec::new() }
    }

    /// Takes a newer manifest and lets go of the memtables that it covers.
    pub(crate) fn set_manifest(&mut self, manifest: Arc<Manifest>) {
        if manifest.settings() != &*self.settings {
            self.settings = Arc::new(manifest.settings().clone());
        }
        self.lens = Arc::new(Lens::of(manifest.current().clone()));
        self.few = Few::of(&manifest, &self.lens);
        self.manifest = manifest;
        self.drop_covered();
    }

    /// The memtable that rows of `partition` go to now; a new one where the last is sealed.
    pub(crate) fn active(&mut self, partition: PartitionId) -> (Arc<MemTable>, bool) {
        let at = match self.tails.iter().position(|(p, _)| *p == partition) {
            Some(at) => at,
            None => {
                self.tails.push((partition, Vec::new()));
                self.tails.len() - 1
            }
        };
        let memtables = &mut self.tails[at].1;
        match memtables.last() {
            Some(last) if last.sealed_at().is_none() => (last.clone(), false),
            _ => {
                let fresh = Arc::new(MemTable::new());
                memtables.push(fresh.clone());
                (fresh, true)
            }
        }
    }

    /// Lets go of the memtables that the manifest covers wholly.
    fn drop_covered(&mut self) {
        for (partition, memtables) in &mut self.tails {
            let covered = self.manifest.covered(*partition);
            memtables.retain(|memtable| memtable.sealed_at().is_none_or(|end| end > covered));
        }
    }

    /// The view of this state.
    pub(crate) fn view(&self) -> View {
        let tails = self
            .tails
            .iter()
            .filter(|(_, memtables)| !memtables.is_empty())
            .map(|(partition, memtables)| PartitionTail {
                partition: *partition,
                covered: covered_place(self.manifest.covered(*partition)),
                memtables: memtables.iter().cloned().collect(),
            })
            .collect();
        let settings = self.manifest.settings();
        View {
            lens: self.lens.clone(),
            few: self.few.clone(),
            expiry: Expiry::of(settings, self.manifest.expired_below()),
            settings: self.settings.clone(),
            manifest: self.manifest.clone(),
            tails,
        }
    }
}

/// The place of the first row that is not covered. Ranges do not move between partitions yet, so the generation of
/// every row is 0; with moves, coverage will be of (generation, offset).
pub(crate) fn covered_place(offset: Offset) -> Place {
    Place::streamed(Generation(0), offset)
}
