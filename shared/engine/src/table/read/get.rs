//! Get: the first visible row of one key.

use std::cmp::Reverse;

use bytes::Bytes;
use nacre_cache::CachedRows;
use nacre_segment::{Block, key_hash};
use nacre_types::{Place, SegmentId};
use smallvec::SmallVec;

use super::at_hand::{self, AtHand};
use crate::rows::visible::{self, Candidate, Rules};
use crate::tail::memtable::TailRow;
use crate::view::{Few, Lens, View};
use crate::{Absence, Found, Lookup};

/// A segment whose key range holds the key.
#[derive(Clone, Copy)]
struct Consulted<'v> {
    id: SegmentId,
    /// The place of rows that have none of their own.
    base: Place,
    max_version: i64,
    few: Option<&'v Few>,
}

/// The segments that count under `lens` and whose key range holds `key`, newest versions first.
fn consulted<'v>(view: &'v View, lens: &Lens, key: &[u8], found: &mut SmallVec<[Consulted<'v>; 12]>) {
    if let Some(few) = view.few.as_deref().filter(|_| std::ptr::eq(lens, &*view.lens)) {
        for segment in few.iter().filter(|segment| segment.reaches(key)) {
            let Few { id, base, max_version, .. } = *segment;
            found.push(Consulted { id, base, max_version, few: Some(segment) });
        }
        return;
    }
    for segment in view.manifest.segments_for_key(key) {
        if let Some(base) = lens.filter.base_place(&segment) {
            found.push(Consulted { id: segment.id(), base, max_version: segment.max_version(), few: None });
        }
    }
    if found.len() > 1 {
        // Equal versions keep a fixed order: rows that tie to the last rank as their segments stand here.
        found.sort_unstable_by_key(|segment| (Reverse(segment.max_version), segment.id));
    }
}

/// Where a candidate's value is.
enum Held {
    Tail(TailRow),
    Segment(CachedRows, usize),
}

/// The highest-ranked row above every floor: for `as_of = ∞` it alone decides, and whatever cannot outrank it is not
/// read. `None` where something is lacking: all indexes that are, or the next block.
pub(super) fn top(
    at_hand: &mut AtHand<'_>,
    view: &View,
    lens: &Lens,
    key: &[u8],
    now: i64,
) -> Option<Lookup> {
    let lacked = at_hand.lacks.len();
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
        at_hand.saw_tail();
    }
    let mut segments = SmallVec::new();
    consulted(view, lens, key, &mut segments);
    let hash = if segments.is_empty() { 0 } else { key_hash(key) };
    for segment in &segments {
        if best.as_ref().is_some_and(|held| segment.max_version < held.0) {
            break;
        }
        let Some(index) = at_hand.index(segment.id, segment.few, hash) else { continue };
        // One index more costs little; a block behind a segment that was not looked into may not be needed.
        if at_hand.lacks.len() > lacked || !index.may_contain(hash) {
            continue;
        }
        at_hand.segments += 1;
        'blocks: for number in index.blocks_of(key) {
            let of = at_hand::Block { segment: segment.id, index: &index, number, key, hash };
            let rows = at_hand.rows(&of)?;
            for at in rows.find(key) {
                let (version, place) = (rows.version(at), rows.place(at).unwrap_or(segment.base));
                if lens.floors.hide(version, place) {
                    continue;
                }
                at_hand.touch(&of, &rows, at);
                if best.as_ref().is_none_or(|held| (held.0, held.1) < (version, place)) {
                    best = Some((version, place, 0, Held::Segment(rows, at)));
                }
                break 'blocks;
            }
        }
    }
    if at_hand.lacks.len() > lacked {
        return None;
    }
    let Some((version, _, _, held)) = best else { return Some(Lookup::Absent(Absence::Row)) };
    let (own, value) = match held {
        Held::Tail(row) => (row.expires_at, row.value),
        Held::Segment(rows, at) => (rows.expires_at(at), rows.value_bytes(at)),
    };
    let Some(value) = value else { return Some(Lookup::Absent(Absence::Tombstone)) };
    if view.expiry.is_expired(version, own, now) {
        return Some(Lookup::Absent(Absence::Expired));
    }
    Some(Lookup::Found(Found { version, value, expires_at: view.expiry.expires_at(version, own) }))
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
/// gathered. `None` where something is lacking: all that is known to be.
pub(super) fn gather(
    at_hand: &mut AtHand<'_>,
    view: &View,
    lens: &Lens,
    key: &[u8],
    mut visit: impl FnMut(Lies<'_>),
) -> Option<Gathered> {
    let lacked = at_hand.lacks.len();
    let mut gathered = Gathered::new();
    let mut rows = Vec::new();
    for tail in &view.tails {
        for memtable in &tail.memtables {
            memtable.rows_of(key, tail.covered, &mut rows);
        }
        for row in rows.drain(..) {
            at_hand.saw_tail();
            visit(Lies::Tail(tail.partition, &row));
            gathered.push_tail(row);
        }
    }
    let hash = key_hash(key);
    let mut segments = SmallVec::new();
    consulted(view, lens, key, &mut segments);
    for Consulted { id, base, few, .. } in segments {
        let Some(index) = at_hand.index(id, few, hash) else { continue };
        if !index.may_contain(hash) {
            continue;
        }
        at_hand.segments += 1;
        for number in index.blocks_of(key) {
            let of = at_hand::Block { segment: id, index: &index, number, key, hash };
            let Some(rows) = at_hand.rows(&of) else { continue };
            for at in rows.find(key) {
                visit(Lies::Segment(id, number));
                at_hand.touch(&of, &rows, at);
                gathered.push_block(&rows, at, base);
            }
        }
    }
    (at_hand.lacks.len() == lacked).then_some(gathered)
}

/// Where a gathered row lies.
pub(super) enum Lies<'a> {
    Tail(nacre_types::PartitionId, &'a TailRow),
    Segment(SegmentId, u32),
}

/// The rules of a read of `view` through `lens`.
pub(super) fn rules<'v>(view: &View, lens: &'v Lens, now: i64) -> Rules<'v> {
    Rules { floors: &lens.floors, expiry: view.expiry, max_versions: view.settings.max_versions, now }
}
