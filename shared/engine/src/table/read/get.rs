//! Get: the first visible row of one key.

use bytes::Bytes;
use nacre_cache::CachedBlock;
use nacre_manifest::SegmentRef;
use nacre_segment::{Block, key_hash};
use nacre_types::{Place, Result};
use smallvec::SmallVec;

use super::fetch::Fetcher;
use crate::rows::visible::{self, Candidate, Rules};
use crate::tail::memtable::TailRow;
use crate::view::{Lens, View};
use crate::{Absence, Found, Lookup, Source};

/// Segments that hold a key's range, with the place of rows that have none of their own, newest versions first.
pub(super) type Consulted<'v> = SmallVec<[(SegmentRef<'v>, Place); 12]>;

/// The segments that count under `lens` and whose key range holds `key`.
pub(super) fn consulted<'v>(view: &'v View, lens: &Lens, key: &'v [u8]) -> Consulted<'v> {
    let mut segments: Consulted<'v> = view
        .manifest
        .segments_for_key(key)
        .filter_map(|segment| lens.filter.base_place(&segment).map(|base| (segment, base)))
        .collect();
    if segments.len() > 1 {
        // Equal versions keep a fixed order: rows that tie to the last rank as their segments stand here.
        segments
            .sort_by(|a, b| b.0.max_version().cmp(&a.0.max_version()).then_with(|| a.0.id().cmp(&b.0.id())));
    }
    segments
}

/// Where a candidate's value is.
enum Held {
    Tail(TailRow),
    Block(CachedBlock, usize),
}

/// The highest-ranked row above every floor: for `as_of = ∞` it alone decides, and whatever cannot outrank it is not
/// read.
pub(super) async fn top(
    fetcher: &mut Fetcher<'_>,
    view: &View,
    lens: &Lens,
    key: &[u8],
    now: i64,
) -> Result<Lookup> {
    let mut best: Option<(i64, Place, u32, Held)> = None;
    for tail in &view.tails {
        for memtable in tail.memtables.iter().rev() {
            let Some(row) = memtable.top(key, tail.covered) else { continue };
            let rank = row.rank;
            // A streamed row is under a floor with all that it outranks in the tail.
            if lens.floors.hide(rank.version, rank.place) {
                continue;
            }
            if best
                .as_ref()
                .is_none_or(|held| (held.0, held.1, held.2) < (rank.version, rank.place, rank.index))
            {
                best = Some((rank.version, rank.place, rank.index, Held::Tail(row)));
            }
        }
    }
    if best.is_some() {
        fetcher.receipt.source = Source::Tail;
    }
    let segments = consulted(view, lens, key);
    let hash = if segments.is_empty() { 0 } else { key_hash(key) };
    for (segment, base) in &segments {
        if best.as_ref().is_some_and(|held| segment.max_version() < held.0) {
            break;
        }
        let index = fetcher.index(segment).await?;
        if !index.may_contain(hash) {
            continue;
        }
        fetcher.receipt.segments += 1;
        'blocks: for number in index.blocks_of(key) {
            let block = fetcher.block(segment, &index, number).await?;
            for at in block.find(key) {
                let row = block.row(at);
                let place = row.place.unwrap_or(*base);
                if lens.floors.hide(row.version, place) {
                    continue;
                }
                if best.as_ref().is_none_or(|held| (held.0, held.1) < (row.version, place)) {
                    best = Some((row.version, place, 0, Held::Block(block.clone(), at)));
                }
                break 'blocks;
            }
        }
    }
    let Some((version, _, _, held)) = best else { return Ok(Lookup::Absent(Absence::Row)) };
    let (own, value) = match held {
        Held::Tail(row) => (row.expires_at, row.value),
        Held::Block(block, at) => (block.row(at).expires_at, block.value_bytes(at)),
    };
    let Some(value) = value else { return Ok(Lookup::Absent(Absence::Tombstone)) };
    if view.expiry.is_expired(version, own, now) {
        return Ok(Lookup::Absent(Absence::Expired));
    }
    Ok(Lookup::Found(Found { version, value, expires_at: view.expiry.expires_at(version, own) }))
}

/// Every row of a key, wherever it lies.
pub(super) struct Gathered {
    /// What the rules see; the value is an index into `values`.
    pub(super) candidates: Vec<Candidate<usize>>,
    pub(super) values: Vec<Bytes>,
}

impl Gathered {
    pub(super) fn new() -> Self {
        Self { candidates: Vec::new(), values: Vec::new() }
    }

    pub(super) fn clear(&mut self) {
        self.candidates.clear();
        self.values.clear();
    }

    pub(super) fn push_tail(&mut self, row: TailRow) {
        let value = row.value.map(|value| self.keep(value));
        let rank = row.rank;
        self.candidates.push(Candidate {
            version: rank.version,
            place: rank.place,
            index: rank.index,
            expires_at: row.expires_at,
            value,
        });
    }

    pub(super) fn push_block(&mut self, block: &Block, at: usize, base: Place) {
        let row = block.row(at);
        let value = block.value_bytes(at).map(|value| self.keep(value));
        self.candidates.push(Candidate {
            version: row.version,
            place: row.place.unwrap_or(base),
            index: 0,
            expires_at: row.expires_at,
            value,
        });
    }

    fn keep(&mut self, value: Bytes) -> usize {
        self.values.push(value);
        self.values.len() - 1
    }

    /// The first visible row at or below `as_of`.
    pub(super) fn lookup(&mut self, rules: Rules<'_>, as_of: i64) -> Lookup {
        match visible::get(&mut self.candidates, rules, as_of).found {
            Ok(row) => match row.value.and_then(|at| self.values.get(at)) {
                Some(value) => Lookup::Found(Found {
                    version: row.version,
                    value: value.clone(),
                    expires_at: rules.expiry.expires_at(row.version, row.expires_at),
                }),
                None => Lookup::Absent(Absence::Tombstone),
            },
            Err(visible::Absence::Row) => Lookup::Absent(Absence::Row),
            Err(visible::Absence::Tombstone) => Lookup::Absent(Absence::Tombstone),
            Err(visible::Absence::Expired) => Lookup::Absent(Absence::Expired),
        }
    }
}

/// Gathers every row of `key`, in falling rank. `visit` is told where each lies, in the order in which they are
/// gathered.
pub(super) async fn gather(
    fetcher: &mut Fetcher<'_>,
    view: &View,
    lens: &Lens,
    key: &[u8],
    mut visit: impl FnMut(Lies<'_>) + Send,
) -> Result<Gathered> {
    let mut gathered = Gathered::new();
    let mut rows = Vec::new();
    for tail in &view.tails {
        for memtable in &tail.memtables {
            memtable.rows_of(key, tail.covered, &mut rows);
        }
        for row in rows.drain(..) {
            fetcher.receipt.source = fetcher.receipt.source.max(Source::Tail);
            visit(Lies::Tail(tail.partition, &row));
            gathered.push_tail(row);
        }
    }
    let hash = key_hash(key);
    for (segment, base) in consulted(view, lens, key) {
        let index = fetcher.index(&segment).await?;
        if !index.may_contain(hash) {
            continue;
        }
        fetcher.receipt.segments += 1;
        for number in index.blocks_of(key) {
            let block = fetcher.block(&segment, &index, number).await?;
            for at in block.find(key) {
                visit(Lies::Segment(&segment, number));
                gathered.push_block(&block, at, base);
            }
        }
    }
    Ok(gathered)
}

/// Where a gathered row lies.
pub(super) enum Lies<'a> {
    Tail(nacre_types::PartitionId, &'a TailRow),
    Segment(&'a SegmentRef<'a>, u32),
}

/// The rules of a read of `view` through `lens`.
pub(super) fn rules<'v>(view: &View, lens: &'v Lens, now: i64) -> Rules<'v> {
    Rules { floors: &lens.floors, expiry: view.expiry, max_versions: view.settings.max_versions, now }
}
