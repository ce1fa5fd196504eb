//! Rows that are in the log and not yet in segments: found by key through a hash table, walked in key order through
//! sorted runs.
//!
//! A table's tail is a short list of these, one after another in the log. Each holds the rows of the offsets
//! `[from, end)`; the last one is still being filled. Rows are never taken out of one: a whole memtable goes when the
//! manifest that covers it is served and its last reader has let go of it.
//!
//! Gets and writes are most of the work and need no order, so they meet only a hash table, cut into shards whose locks
//! are held for one key's lookup or insertion, never across anything that waits. A list in key order (a skip list) costs each of them some twenty steps that miss the processor's caches; here it is two or three. The
//! order is made when somebody walks, from the keys that came since the last walk ([`super::order`]).

use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use hashbrown::{DefaultHashBuilder, HashTable};
use nacre_types::{Offset, Place, Rank};
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;

use super::order::{Order, Runs};

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

/// Locks; more than threads meet here.
const SHARDS: usize = 32;
/// What a row costs beside its key and value, roughly: its entry with room to grow, the hash table's slot, its place in
/// the order.
const ROW_OVERHEAD_BYTES: u64 = 288;
/// So many keys without order are put in order before a walk asks for it: a walk finds little left to do.
const UNORDERED_MAX: u64 = 8_192;

/// A key and its rows in rising rank: what arrives is mostly newest, so it goes to the end.
#[derive(Debug)]
struct Entry {
    key: Bytes,
    hash: u64,
    rows: SmallVec<[TailRow; 1]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inserted {
    NewKey,
    NewRow,
    /// It was there already.
    Not,
}

/// Some of the keys. Entries are never moved to another index.
#[derive(Debug, Default)]
struct Shard {
    entries: Vec<Entry>,
    by_hash: HashTable<u32>,
}

impl Shard {
    fn find(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        let is_it = |&at: &u32| self.entries.get(at as usize).is_some_and(|entry| entry.key == key);
        let at = *self.by_hash.find(hash, is_it)?;
        self.entries.get(at as usize)
    }

    /// Adds a row.
    fn insert(&mut self, hash: u64, key: Bytes, row: TailRow) -> Inserted {
        let Self { entries, by_hash } = self;
        let is_it = |&at: &u32| entries.get(at as usize).is_some_and(|entry| entry.key == key);
        let found = by_hash.find(hash, is_it).copied();
        let Some(entry) = found.and_then(|at| entries.get_mut(at as usize)) else {
            // A memtable is sealed long before it has four billion keys.
            let at = entries.len() as u32;
            entries.push(Entry { key, hash, rows: SmallVec::from_buf([row]) });
            by_hash.insert_unique(hash, at, |&at| entries.get(at as usize).map_or(0, |entry| entry.hash));
            return Inserted::NewKey;
        };
        let rows = &mut entry.rows;
        let at = match rows.last() {
            Some(last) if last.rank < row.rank => rows.len(),
            _ => match rows.binary_search_by(|held| held.rank.cmp(&row.rank)) {
                Ok(_) => return Inserted::Not,
                Err(at) => at,
            },
        };
        rows.insert(at, row);
        Inserted::NewRow
    }
}

/// Rows of one table from a run of offsets of one partition.
pub(crate) struct MemTable {
    hasher: DefaultHashBuilder,
    shards: [RwLock<Shard>; SHARDS],
    order: Mutex<Order<SHARDS>>,
    row_count: AtomicU64,
    key_count: AtomicU64,
    byte_count: AtomicU64,
    ordered_count: AtomicU64,
    /// The offset after the last row, once the memtable is sealed; `u64::MAX` until then.
    end: AtomicU64,
    newest_version: AtomicI64,
    oldest_version: AtomicI64,
}

impl std::fmt::Debug for MemTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemTable").field("rows", &self.row_count()).finish_non_exhaustive()
    }
}

impl MemTable {
    pub(crate) fn new() -> Self {
        Self {
            hasher: DefaultHashBuilder::default(),
            shards: std::array::from_fn(|_| RwLock::default()),
            order: Mutex::default(),
            row_count: AtomicU64::new(0),
            key_count: AtomicU64::new(0),
            byte_count: AtomicU64::new(0),
            ordered_count: AtomicU64::new(0),
            end: AtomicU64::new(u64::MAX),
            newest_version: AtomicI64::new(i64::MIN),
            oldest_version: AtomicI64::new(i64::MAX),
        }
    }

    /// The hash of a key and its shard. The hash table uses the lowest and the highest bits, the choice of a shard others.
    fn place_of(&self, key: &[u8]) -> (u64, &RwLock<Shard>) {
        let hash = self.hasher.hash_one(key);
        (hash, &self.shards[(hash >> 40) as usize % SHARDS])
    }

    /// Adds rows; several threads may. The same row twice (same rank) stays one: a tail that starts again meets rows that
    /// it has.
    pub(crate) fn insert(&self, rows: impl IntoIterator<Item = (Bytes, TailRow)>) {
        let (mut count, mut keys, mut bytes, mut newest, mut oldest) = (0, 0, 0, i64::MIN, i64::MAX);
        for (key, row) in rows {
            let value_bytes = row.value.as_ref().map_or(0, |v| v.len() as u64);
            let row_bytes = key.len() as u64 + value_bytes + ROW_OVERHEAD_BYTES;
            let version = row.rank.version;
            let (hash, shard) = self.place_of(&key);
            let inserted = shard.write().insert(hash, key, row);
            if inserted != Inserted::Not {
                count += 1;
                keys += u64::from(inserted == Inserted::NewKey);
                bytes += row_bytes;
                newest = newest.max(version);
                oldest = oldest.min(version);
            }
        }
        self.newest_version.fetch_max(newest, Ordering::Relaxed);
        self.oldest_version.fetch_min(oldest, Ordering::Relaxed);
        self.row_count.fetch_add(count, Ordering::Relaxed);
        self.key_count.fetch_add(keys, Ordering::Relaxed);
        self.byte_count.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The highest-ranked row of `key` among those at or above `covered`.
    pub(crate) fn top(&self, key: &[u8], covered: Place) -> Option<TailRow> {
        let (hash, shard) = self.place_of(key);
        let shard = shard.read();
        shard.find(hash, key)?.rows.iter().rev().find(|row| row.rank.place >= covered).cloned()
    }

    /// Appends the rows of `key` at or above `covered` to `out`, in falling rank.
    pub(crate) fn rows_of(&self, key: &[u8], covered: Place, out: &mut Vec<TailRow>) {
        let (hash, shard) = self.place_of(key);
        if let Some(entry) = shard.read().find(hash, key) {
            out.extend(entry.rows.iter().rev().filter(|row| row.rank.place >= covered).cloned());
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
        let mut last = None;
        let mut seen = 0;
        for key in self.ordered().walk(range, reverse) {
            let shard = self.shards[key.shard()].read();
            if let Some(entry) = shard.entries.get(key.index()) {
                let rows = entry.rows.iter().rev().filter(|row| row.rank.place >= covered);
                out.extend(rows.map(|row| (entry.key.clone(), row.clone())));
            }
            drop(shard);
            seen += 1;
            if seen == limit {
                last = Some(key.bytes.clone());
                break;
            }
        }
        last
    }

    /// Every key in order, those included that were inserted before this call.
    fn ordered(&self) -> Runs {
        let mut order = self.order.lock();
        self.settle(&mut order);
        order.runs()
    }

    fn settle(&self, order: &mut Order<SHARDS>) {
        let mut added = 0;
        for (number, shard) in self.shards.iter().enumerate() {
            let shard = shard.read();
            added += order.take(number, shard.entries.iter().map(|entry| &entry.key));
        }
        if added > 0 {
            order.settle();
            self.ordered_count.fetch_add(added, Ordering::Relaxed);
        }
    }

    /// Whether many keys wait to be put in order.
    pub(crate) fn wants_order(&self) -> bool {
        self.key_count.load(Ordering::Relaxed) > self.ordered_count.load(Ordering::Relaxed) + UNORDERED_MAX
    }

    /// Puts the keys that came since in order, so that the next walk need not.
    pub(crate) fn put_in_order(&self) {
        // Whoever holds it does the same.
        if let Some(mut order) = self.order.try_lock() {
            self.settle(&mut order);
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
            table.insert([(Bytes::from_static(b"k"), row(version, offset, value))]);
        }
        assert_eq!(table.top(b"k", Place::MIN).unwrap().value.unwrap(), "d");
        let mut rows = Vec::new();
        table.rows_of(b"k", Place::MIN, &mut rows);
        let versions: Vec<i64> = rows.iter().map(|row| row.rank.version).collect();
        assert_eq!(versions, [7, 7, 6, 5]);
        assert_eq!(table.newest_version(), Some(7));
    }

    #[test]
    fn threads_that_insert_at_once_lose_nothing_and_walkers_see_what_was_there() {
        let table = MemTable::new();
        let name = |lane: u64, n: u64| Bytes::from(format!("k{:05}", (n * 7 + lane) % 5_000));
        let walk = || {
            let mut rows = Vec::new();
            table.page((Bound::Unbounded, Bound::Unbounded), false, Place::MIN, usize::MAX, &mut rows);
            assert!(rows.is_sorted_by_key(|(key, row)| (key.clone(), std::cmp::Reverse(row.rank))));
            rows.len() as u64
        };
        let (lanes, each) = (4, 5_000);
        std::thread::scope(|scope| {
            for lane in 0..lanes {
                let table = &table;
                scope.spawn(move || {
                    for some in (0..each).collect::<Vec<_>>().chunks(97) {
                        let offset = |n: u64| n * lanes + lane;
                        table.insert(some.iter().map(|&n| (name(lane, n), row(5, offset(n), "v"))));
                    }
                });
            }
            let mut before = 0;
            while before < lanes * each {
                let at_least = table.row_count();
                let seen = walk();
                assert!(seen >= before.max(at_least), "{seen} of {at_least}");
                before = seen;
                table.put_in_order();
            }
        });
        assert_eq!((walk(), table.row_count()), (lanes * each, lanes * each));
        assert!(!table.wants_order());
        for n in 0..5_000 {
            let mut rows = Vec::new();
            table.rows_of(format!("k{n:05}").as_bytes(), Place::MIN, &mut rows);
            assert_eq!(rows.len(), 4, "{n}");
        }
    }

    #[test]
    fn the_same_row_twice_stays_one() {
        let table = MemTable::new();
        for _ in 0..2 {
            table.insert([(Bytes::from_static(b"k"), row(5, 1, "a"))]);
        }
        assert_eq!(table.row_count(), 1);
    }

    #[test]
    fn covered_rows_are_not_shown() {
        let table = MemTable::new();
        table.insert([(Bytes::from_static(b"k"), row(9, 1, "covered"))]);
        table.insert([(Bytes::from_static(b"k"), row(5, 2, "not"))]);
        assert_eq!(table.top(b"k", place(2)).unwrap().value.unwrap(), "not");
        assert!(table.top(b"k", place(3)).is_none());
    }

    #[test]
    fn pages_go_both_ways_and_say_where_to_go_on() {
        let table = MemTable::new();
        for key in ["a", "b", "c", "d"] {
            table.insert([(Bytes::from_static(key.as_bytes()), row(1, 1, key))]);
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
