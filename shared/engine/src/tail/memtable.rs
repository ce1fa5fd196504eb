//! Rows that are in the log and not yet in segments: an ordered map in memory, filled by one task and read by many.
//!
//! A table's tail is a short list of these, one after another in the log. Each holds the rows of the offsets
//! `[from, end)`; the last one is still being filled. Rows are never taken out of one: a whole memtable goes when the
//! manifest that covers it is served and its last reader has let go of it.
//!
//! The map is a lock-free skip list from key to the chain of that key's rows. A chain has a lock of its own, held for
//! a few instructions and never across anything that waits.

use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use crossbeam_skiplist::SkipMap;
use nacre_types::{Offset, Place, Rank};
use parking_lot::Mutex;
use smallvec::SmallVec;

/// A row of the tail, without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TailRow {
    /// What orders it among the rows of its key; exact.
    pub(crate) rank: Rank,
    /// Its own expiry.
    pub(crate) expires_at: Option<i64>,
    /// `None` = a tombstone.
    pub(crate) value: Option<Bytes>,
}

/// The rows of one key in rising rank: what arrives is mostly newest, so it goes to the end.
type Chain = Mutex<SmallVec<[TailRow; 1]>>;

/// A key with its first bytes beside it: finding a row's place compares it with some twenty others, and most of those
/// comparisons end here, in the map's node, without a step to the record that the key is a slice of.
#[derive(Debug, Clone)]
struct TailKey {
    /// The first 16 bytes, big-endian, zeros behind a short key: unequal ones are ordered as their keys are.
    first: u128,
    bytes: Bytes,
}

impl TailKey {
    fn new(bytes: Bytes) -> Self {
        let mut first = [0; 16];
        for (to, from) in first.iter_mut().zip(&bytes) {
            *to = *from;
        }
        Self { first: u128::from_be_bytes(first), bytes }
    }
}

impl Ord for TailKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.first.cmp(&other.first).then_with(|| self.bytes.cmp(&other.bytes))
    }
}

impl PartialOrd for TailKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for TailKey {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for TailKey {}

/// Reads look with a slice: its order is the same.
impl std::borrow::Borrow<[u8]> for TailKey {
    fn borrow(&self) -> &[u8] {
        &self.bytes
    }
}

/// What a row costs beside its key and value, roughly: map node, chain, row.
const ROW_OVERHEAD_BYTES: u64 = 192;

/// Rows of one table from a run of offsets of one partition.
pub(crate) struct MemTable {
    rows: SkipMap<TailKey, Chain>,
    row_count: AtomicU64,
    byte_count: AtomicU64,
    /// The offset after the last row, once the memtable is sealed; `u64::MAX` until then.
    end: AtomicU64,
    newest_version: std::sync::atomic::AtomicI64,
    oldest_version: std::sync::atomic::AtomicI64,
}

impl std::fmt::Debug for MemTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemTable").field("rows", &self.row_count()).finish_non_exhaustive()
    }
}

impl MemTable {
    pub(crate) fn new() -> Self {
        Self {
            rows: SkipMap::new(),
            row_count: AtomicU64::new(0),
            byte_count: AtomicU64::new(0),
            end: AtomicU64::new(u64::MAX),
            newest_version: std::sync::atomic::AtomicI64::new(i64::MIN),
            oldest_version: std::sync::atomic::AtomicI64::new(i64::MAX),
        }
    }

    /// Adds a row. The same row twice (same rank) stays one: a tail that starts again meets rows that it has.
    pub(crate) fn insert(&self, key: Bytes, row: TailRow) {
        let bytes = key.len() as u64 + row.value.as_ref().map_or(0, |v| v.len() as u64) + ROW_OVERHEAD_BYTES;
        let version = row.rank.version;
        let entry = self.rows.get_or_insert_with(TailKey::new(key), Chain::default);
        let mut chain = entry.value().lock();
        let at = match chain.last() {
            None => 0,
            Some(last) if last.rank < row.rank => chain.len(),
            Some(_) => match chain.binary_search_by(|held| held.rank.cmp(&row.rank)) {
                Ok(_) => return,
                Err(at) => at,
            },
        };
        chain.insert(at, row);
        drop(chain);
        self.row_count.fetch_add(1, Ordering::Relaxed);
        self.byte_count.fetch_add(bytes, Ordering::Relaxed);
        self.newest_version.fetch_max(version, Ordering::Relaxed);
        // One task inserts, so nothing is lost between the two; most rows are not the oldest.
        if version < self.oldest_version.load(Ordering::Relaxed) {
            self.oldest_version.store(version, Ordering::Relaxed);
        }
    }

    /// The highest-ranked row of `key` among those at or above `covered`.
    pub(crate) fn top(&self, key: &[u8], covered: Place) -> Option<TailRow> {
        let entry = self.rows.get(key)?;
        let chain = entry.value().lock();
        chain.iter().rev().find(|row| row.rank.place >= covered).cloned()
    }

    /// Appends the rows of `key` at or above `covered` to `out`, in falling rank.
    pub(crate) fn rows_of(&self, key: &[u8], covered: Place, out: &mut Vec<TailRow>) {
        if let Some(entry) = self.rows.get(key) {
            let chain = entry.value().lock();
            out.extend(chain.iter().rev().filter(|row| row.rank.place >= covered).cloned());
        }
    }

    /// Up to `limit` keys from `start` to `end`, each with its rows at or above `covered` in falling rank (keys
    /// without such rows are left out), in key order or against it. Also says where to go on: the last key seen, if
    /// there may be more.
    pub(crate) fn page(
        &self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        reverse: bool,
        covered: Place,
        limit: usize,
        out: &mut Vec<(Bytes, TailRow)>,
    ) -> Option<Bytes> {
        let mut seen = 0;
        let mut last = None;
        let mut visit = |entry: crossbeam_skiplist::map::Entry<'_, TailKey, Chain>| {
            let chain = entry.value().lock();
            for row in chain.iter().rev().filter(|row| row.rank.place >= covered) {
                out.push((entry.key().bytes.clone(), row.clone()));
            }
            seen += 1;
            last = Some(entry.key().bytes.clone());
            seen < limit
        };
        if is_empty(&range) {
            return None;
        }
        let mut entries = self.rows.range::<[u8], _>(range);
        loop {
            let next = if reverse { entries.next_back() } else { entries.next() };
            match next {
                None => return None,
                Some(entry) => {
                    if !visit(entry) {
                        return last;
                    }
                }
            }
        }
    }

    /// Rows held.
    pub(crate) fn row_count(&self) -> u64 {
        self.row_count.load(Ordering::Relaxed)
    }

    /// Bytes held, roughly.
    pub(crate) fn byte_count(&self) -> u64 {
        self.byte_count.load(Ordering::Relaxed)
    }

    /// The largest version held.
    pub(crate) fn newest_version(&self) -> Option<i64> {
        Some(self.newest_version.load(Ordering::Relaxed)).filter(|_| self.row_count() > 0)
    }

    /// The smallest version held.
    pub(crate) fn oldest_version(&self) -> Option<i64> {
        Some(self.oldest_version.load(Ordering::Relaxed)).filter(|_| self.row_count() > 0)
    }

    /// No row at or after `end` will come any more.
    pub(crate) fn seal(&self, end: Offset) {
        self.end.store(end.0, Ordering::Release);
    }

    /// The offset after the last row; `None` while it is being filled.
    pub(crate) fn sealed_at(&self) -> Option<Offset> {
        let end = self.end.load(Ordering::Acquire);
        (end != u64::MAX).then_some(Offset(end))
    }
}

fn is_empty(range: &(Bound<&[u8]>, Bound<&[u8]>)) -> bool {
    match range {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end) | Bound::Included(end)) => {
            start >= end
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nacre_types::Generation;

    fn row(version: i64, offset: u64, value: &'static str) -> TailRow {
        TailRow {
            rank: Rank { version, place: Place::streamed(Generation(0), Offset(offset)), index: 0 },
            expires_at: None,
            value: Some(Bytes::from_static(value.as_bytes())),
        }
    }

    fn place(offset: u64) -> Place {
        Place::streamed(Generation(0), Offset(offset))
    }

    #[test]
    fn the_highest_rank_wins_whatever_the_order_of_arrival() {
        let table = MemTable::new();
        for (version, offset, value) in [(5, 1, "a"), (7, 2, "b"), (6, 3, "c"), (7, 4, "d")] {
            table.insert(Bytes::from_static(b"k"), row(version, offset, value));
        }
        assert_eq!(table.top(b"k", Place::MIN).unwrap().value.unwrap(), "d");
        let mut rows = Vec::new();
        table.rows_of(b"k", Place::MIN, &mut rows);
        let versions: Vec<i64> = rows.iter().map(|row| row.rank.version).collect();
        assert_eq!(versions, [7, 7, 6, 5]);
        assert_eq!(table.newest_version(), Some(7));
    }

    #[test]
    fn keys_are_in_the_order_of_their_bytes() {
        let mut keys: Vec<Vec<u8>> = vec![vec![]];
        for length in [1, 15, 16, 17, 40] {
            for last in [0, 1, 127, 128, 255] {
                for fill in [0, 128] {
                    let mut key = vec![fill; length];
                    key[length - 1] = last;
                    keys.push(key);
                }
            }
        }
        for a in &keys {
            for b in &keys {
                let (one, other) = (TailKey::new(a.clone().into()), TailKey::new(b.clone().into()));
                assert_eq!(one.cmp(&other), a.cmp(b), "{a:?} {b:?}");
                assert_eq!(one == other, a == b);
            }
        }
    }

    #[test]
    fn the_same_row_twice_stays_one() {
        let table = MemTable::new();
        for _ in 0..2 {
            table.insert(Bytes::from_static(b"k"), row(5, 1, "a"));
        }
        assert_eq!(table.row_count(), 1);
    }

    #[test]
    fn covered_rows_are_not_shown() {
        let table = MemTable::new();
        table.insert(Bytes::from_static(b"k"), row(9, 1, "covered"));
        table.insert(Bytes::from_static(b"k"), row(5, 2, "not"));
        assert_eq!(table.top(b"k", place(2)).unwrap().value.unwrap(), "not");
        assert!(table.top(b"k", place(3)).is_none());
    }

    #[test]
    fn pages_go_both_ways_and_say_where_to_go_on() {
        let table = MemTable::new();
        for key in ["a", "b", "c", "d"] {
            table.insert(Bytes::from_static(key.as_bytes()), row(1, 1, key));
        }
        let keys = |out: &[(Bytes, TailRow)]| out.iter().map(|(key, _)| key[0] as char).collect::<String>();
        let mut out = Vec::new();
        let next = table.page((Bound::Included(b"b"), Bound::Unbounded), false, Place::MIN, 2, &mut out);
        assert_eq!((keys(&out).as_str(), next.as_deref()), ("bc", Some(&b"c"[..])));
        out.clear();
        let next = table.page((Bound::Unbounded, Bound::Excluded(b"c")), true, Place::MIN, 9, &mut out);
        assert_eq!((keys(&out).as_str(), next), ("ba", None));
        out.clear();
        assert_eq!(
            table.page((Bound::Included(b"c"), Bound::Excluded(b"b")), false, Place::MIN, 9, &mut out),
            None
        );
        assert!(out.is_empty());
    }
}
