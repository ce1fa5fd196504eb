//! Answers to gets of hot keys, kept for a moment.
//!
//! A key that is asked for more often than any other costs one node of the fleet all of it. So a dispatcher that is asked
//! for one key many times within a moment answers the next few itself. Only `eventual` gets of the table as it is: a
//! session, `strong`, a bound on staleness, an older edition, a preview and `as_of` go to the nodes. What is kept is
//! younger than [`KEPT`], which is less than nodes differ by anyway.
//!
//! A write through this process is seen by the next read through it as far as the nodes have it: the writer forgets the
//! key's answer before it is told, and an answer that was under way at that time is not kept (each shard counts what it
//! was made to forget). Rows that expire within the moment are told so.
//!
//! Keys that are not hot pay for a hash and one atomic add.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hashbrown::HashMap;
use nacre_engine::{Lookup, ReadOptions, Receipt, Source};
use nacre_types::{Consistency, Key, TableId};
use parking_lot::Mutex;

use crate::reads::Seen;

/// How long an answer is kept, and the moment within which requests are counted.
const KEPT: Duration = Duration::from_millis(100);
/// A key is hot that is asked for so often within the moment.
const HOT: u64 = 16;
/// Counters: keys that share one are hot together, which costs a lock.
const CELLS: usize = 1 << 14;
/// Of a counter's lower half: hot since the moment before, and how often in this one.
const CARRIED: u64 = 1 << 31;
const COUNT: u64 = CARRIED - 1;
const SHARDS: usize = 16;
/// Longer values are not kept, and a shard holds no more than so many bytes; what is kept is old soon, so a full shard is
/// emptied.
const VALUE_BYTES: usize = 64 << 10;
const SHARD_BYTES: usize = 1 << 20;
const OVERHEAD_BYTES: usize = 256;

/// The hot keys of a dispatcher.
#[derive(Debug)]
pub struct HotKeys {
    /// Moment in the upper half, count in the lower.
    cells: Box<[AtomicU64]>,
    shards: [Mutex<Shard>; SHARDS],
    hits: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    kept: HashMap<(TableId, Arc<[u8]>), Kept>,
    bytes: usize,
    /// How often something was forgotten.
    forgotten: u64,
}

#[derive(Debug)]
struct Kept {
    answer: Seen<Lookup>,
    /// When it was asked for.
    at: Duration,
}

/// A hot key whose answer is to be kept.
pub(crate) struct Wanted {
    hash: u64,
    forgotten: u64,
    at: Duration,
}

/// What is known of a key.
pub(crate) enum Hot {
    /// This is its answer.
    Kept(Seen<Lookup>),
    /// Its answer is worth keeping.
    Wanted(Wanted),
    /// Nothing.
    No,
}

impl Default for HotKeys {
    fn default() -> Self {
        Self {
            cells: (0..CELLS).map(|_| AtomicU64::new(0)).collect(),
            shards: Default::default(),
            hits: AtomicU64::new(0),
        }
    }
}

impl HotKeys {
    /// Counts a get at `now` (of a clock that never steps back), and answers it where that may be.
    pub(crate) fn ask(
        &self,
        (table, default): (TableId, Consistency),
        key: &[u8],
        options: &ReadOptions,
        now: Duration,
    ) -> Hot {
        let eventual = options.consistency.unwrap_or(default) == Consistency::Eventual;
        let as_it_is = options.as_of == i64::MAX
            && options.edition.is_none()
            && options.preview.is_none()
            && options.max_staleness.is_none();
        if !eventual || !as_it_is {
            return Hot::No;
        }
        let hash = hash_of(table, key);
        if !self.count(hash, now) {
            return Hot::No;
        }
        let mut shard = self.shard(hash).lock();
        match shard.kept.get(&Asked(table, key)) {
            Some(kept) if now.saturating_sub(kept.at) < KEPT && !has_expired(kept, options.now_micros) => {
                self.hits.fetch_add(1, Relaxed);
                Hot::Kept(kept.answer.clone())
            }
            Some(_) => {
                shard.remove(table, key);
                Hot::Wanted(Wanted { hash, forgotten: shard.forgotten, at: now })
            }
            None => Hot::Wanted(Wanted { hash, forgotten: shard.forgotten, at: now }),
        }
    }

    /// Keeps the answer to a hot key, which came at `now`.
    pub(crate) fn keep(
        &self,
        wanted: &Wanted,
        table: TableId,
        key: &[u8],
        answer: &Seen<Lookup>,
        now: Duration,
    ) {
        let value = match &answer.value {
            Lookup::Found(found) => found.value.len(),
            Lookup::Absent(_) => 0,
        };
        // One that took longer may be older than what a writer looks for when it forgets.
        if value > VALUE_BYTES || now.saturating_sub(wanted.at) >= KEPT {
            return;
        }
        let bytes = value + key.len() + OVERHEAD_BYTES;
        let mut shard = self.shard(wanted.hash).lock();
        if shard.forgotten != wanted.forgotten {
            return;
        }
        shard.remove(table, key);
        if shard.bytes + bytes > SHARD_BYTES {
            shard.kept.clear();
            shard.bytes = 0;
        }
        shard.bytes += bytes;
        // From here on it costs no node anything.
        let edition = answer.receipt.edition;
        let receipt = Receipt { source: Source::Memory, edition, ..Receipt::default() };
        let answer = Seen { receipt, ..answer.clone() };
        shard.kept.insert((table, key.into()), Kept { answer, at: wanted.at });
    }

    /// Forgets the answers to keys that were written, before the writer is told.
    pub(crate) fn forget(&self, table: TableId, keys: &[Key], now: Duration) {
        let oldest = moment(now).saturating_sub(2);
        for key in keys {
            let hash = hash_of(table, key);
            // Nobody has asked for it lately: nothing is kept, nor under way to be.
            if self.cell(hash).load(Relaxed) >> 32 < oldest {
                continue;
            }
            let mut shard = self.shard(hash).lock();
            shard.forgotten += 1;
            shard.remove(table, key);
        }
    }

    /// Gets that were answered from here.
    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Relaxed)
    }

    /// Counts a request for a key; answers whether the key is hot. Races lose a count now and then.
    fn count(&self, hash: u64, now: Duration) -> bool {
        let (cell, moment) = (self.cell(hash), moment(now));
        let seen = cell.load(Relaxed);
        let count = seen & COUNT;
        if seen >> 32 == moment {
            cell.fetch_add(1, Relaxed);
            return seen & CARRIED != 0 || count + 1 >= HOT;
        }
        // What was hot a moment ago stays so for this one: else each moment would begin with a burst at the node.
        let carried = seen >> 32 == moment.wrapping_sub(1) && count >= HOT;
        cell.store(moment << 32 | u64::from(carried) << 31 | 1, Relaxed);
        carried
    }

    fn cell(&self, hash: u64) -> &AtomicU64 {
        // CELLS of them, a power of two.
        &self.cells[hash as usize & (CELLS - 1)]
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        &self.shards[(hash >> 32) as usize & (SHARDS - 1)]
    }
}

impl Shard {
    fn remove(&mut self, table: TableId, key: &[u8]) {
        if let Some((_, kept)) = self.kept.remove_entry(&Asked(table, key)) {
            let value = match kept.answer.value {
                Lookup::Found(found) => found.value.len(),
                Lookup::Absent(_) => 0,
            };
            self.bytes -= value + key.len() + OVERHEAD_BYTES;
        }
    }
}

/// A key as it is asked for, without a copy.
#[derive(Hash)]
struct Asked<'k>(TableId, &'k [u8]);

impl hashbrown::Equivalent<(TableId, Arc<[u8]>)> for Asked<'_> {
    fn equivalent(&self, kept: &(TableId, Arc<[u8]>)) -> bool {
        self.0 == kept.0 && *self.1 == *kept.1
    }
}

fn has_expired(kept: &Kept, now_micros: i64) -> bool {
    match &kept.answer.value {
        Lookup::Found(found) => found.expires_at.is_some_and(|at| at <= now_micros),
        Lookup::Absent(_) => false,
    }
}

fn hash_of(table: TableId, key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(key, table.0 as u64)
}

/// The number of a moment.
fn moment(now: Duration) -> u64 {
    (now.as_millis() / KEPT.as_millis()) as u64 & 0xffff_ffff
}

#[cfg(test)]
mod tests;
