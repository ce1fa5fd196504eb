//! From a segment's id to its smallest key, with which the tree finds it.
//!
//! A persistent hash trie: 16 branches a level by the bits of a 32-bit hash of the id, leaves of packed entries. An
//! entry is the hash, the length of the key and the key; two ids with the same hash are told apart by the tree. Why not
//! a table of places in the tree: a block that is split would move half of its segments, and every one of them would
//! have to be written anew here.

use crate::encoding::wire::{In, Out};
use nacre_types::SegmentId;
use std::sync::Arc;

/// Most bytes of a leaf's entries before it is split.
const LEAF_BYTES: usize = 4096;
/// Levels that a 32-bit hash can tell apart.
const LEVELS: u32 = 8;

#[derive(Clone)]
pub(super) enum Trie {
    Leaf(Arc<[u8]>),
    Branch(Arc<[Option<Trie>; 16]>),
}

/// An entry to add, or one to take away.
#[derive(Clone, Copy)]
pub(super) struct IdOp<'a> {
    pub(super) hash: u32,
    pub(super) key: &'a [u8],
    pub(super) remove: bool,
}

/// Ids are random, but tests and simulators count; so the bits are mixed (splitmix64's finaliser).
pub(super) fn hash(id: SegmentId) -> u32 {
    let mut bits = (id.0 >> 64) as u64 ^ (id.0 as u64).rotate_left(32);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((bits ^ (bits >> 31)) >> 32) as u32
}

fn nibble(hash: u32, level: u32) -> usize {
    (hash >> (28 - 4 * level)) as usize & 0xF
}

/// The trie after `ops`, which are sorted by hash.
pub(super) fn update(trie: Option<&Trie>, ops: &[IdOp<'_>]) -> Option<Trie> {
    update_level(trie, ops, 0)
}

fn update_level(trie: Option<&Trie>, ops: &[IdOp<'_>], level: u32) -> Option<Trie> {
    if ops.is_empty() {
        return trie.cloned();
    }
    match trie {
        Some(Trie::Branch(branches)) => {
            let mut branches = (**branches).clone();
            let mut rest = ops;
            while let Some(first) = rest.first() {
                let branch = nibble(first.hash, level);
                let (mine, others) =
                    rest.split_at(rest.partition_point(|op| nibble(op.hash, level) <= branch));
                rest = others;
                if let Some(slot) = branches.get_mut(branch) {
                    *slot = update_level(slot.as_ref(), mine, level + 1);
                }
            }
            branches.iter().any(Option::is_some).then(|| Trie::Branch(Arc::new(branches)))
        }
        Some(Trie::Leaf(bytes)) => {
            let mut entries: Vec<_> = Entries(In::new(bytes)).collect();
            for op in ops.iter().filter(|op| op.remove) {
                if let Some(at) = entries.iter().position(|&(hash, key)| hash == op.hash && key == op.key) {
                    entries.remove(at);
                }
            }
            entries.extend(ops.iter().filter(|op| !op.remove).map(|op| (op.hash, op.key)));
            entries.sort_unstable();
            make(&entries, level)
        }
        None => {
            let mut entries: Vec<_> =
                ops.iter().filter(|op| !op.remove).map(|op| (op.hash, op.key)).collect();
            entries.sort_unstable();
            make(&entries, level)
        }
    }
}

/// A trie of sorted entries that agree in their first `level` nibbles.
fn make(entries: &[(u32, &[u8])], level: u32) -> Option<Trie> {
    let size: usize = entries.iter().map(|(_, key)| 5 + key.len()).sum();
    if entries.is_empty() {
        return None;
    }
    if size <= LEAF_BYTES || level == LEVELS || entries.len() <= 8 {
        let mut out = Out(Vec::with_capacity(size + entries.len()));
        for (hash, key) in entries {
            out.raw(&hash.to_be_bytes());
            out.bytes(key);
        }
        return Some(Trie::Leaf(out.0.into()));
    }
    let mut branches: [Option<Trie>; 16] = Default::default();
    let mut rest = entries;
    for (branch, slot) in branches.iter_mut().enumerate() {
        let (mine, others) = rest.split_at(rest.partition_point(|(hash, _)| nibble(*hash, level) <= branch));
        rest = others;
        *slot = make(mine, level + 1);
    }
    Some(Trie::Branch(Arc::new(branches)))
}

/// The smallest keys of the segments whose ids have this hash.
pub(super) fn keys_of(mut trie: Option<&Trie>, hash: u32) -> impl Iterator<Item = &[u8]> {
    let mut level = 0;
    while let Some(Trie::Branch(branches)) = trie {
        trie = branches.get(nibble(hash, level)).and_then(Option::as_ref);
        level += 1;
    }
    let entries = if let Some(Trie::Leaf(bytes)) = trie { &bytes[..] } else { &[] };
    Entries(In::new(entries)).filter(move |(found, _)| *found == hash).map(|(_, key)| key)
}

struct Entries<'a>(In<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let hash = u32::from_be_bytes(self.0.take(4).try_into().ok()?);
        Some((hash, self.0.bytes()))
    }
}

impl Trie {
    /// Number of entries.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Leaf(bytes) => Entries(In::new(bytes)).count() as u64,
            Self::Branch(branches) => branches.iter().flatten().map(Self::len).sum(),
        }
    }

    /// Bytes on the heap below.
    pub(super) fn heap_bytes(&self) -> usize {
        let counters = 2 * size_of::<usize>();
        counters
            + match self {
                Self::Leaf(bytes) => bytes.len(),
                Self::Branch(branches) => {
                    size_of_val(&**branches) + branches.iter().flatten().map(Self::heap_bytes).sum::<usize>()
                }
            }
    }
}
