//! The first keys of blocks, prefix-compressed: searched as they lie.
//!
//! Entry: varint of the bytes shared with the key before, varint of the bytes that follow, these bytes. Every 16th entry
//! shares nothing and its offset stands in the restart table, so a search is a binary one over whole keys in place and
//! then a walk over at most 16 entries. The walk needs no key put together: it remembers how many bytes `matched` of the
//! last (smaller) key agree with what is sought. An entry that shares more than that with the last one differs from the
//! sought key where the last one did, so it is smaller too; one that shares less went up where the last one still
//! agreed, so it is larger; only at equality are bytes compared.
//!
//! Most searches never come that far. Decoding puts every key together once, and keeps of each the eight bytes behind
//! the prefix that all of them share ([`Heads`], as in a block): eight bytes a block in memory, and a search is a
//! binary one over numbers. Only where the sought key's head equals one of them are keys compared.

use crate::block::head;
use crate::page::put_varint;
use std::cmp::Ordering;

pub(super) const RESTART: usize = 16;

/// Builds the section.
#[derive(Debug, Default)]
pub(super) struct KeysBuilder {
    pub(super) data: Vec<u8>,
    pub(super) restarts: Vec<u32>,
    last: Vec<u8>,
    count: usize,
}

impl KeysBuilder {
    pub(super) fn push(&mut self, key: &[u8]) {
        let shared = if self.count.is_multiple_of(RESTART) {
            self.restarts.push(self.data.len() as u32);
            0
        } else {
            common(&self.last, key)
        };
        put_varint(&mut self.data, shared as u64);
        put_varint(&mut self.data, (key.len() - shared) as u64);
        self.data.extend_from_slice(&key[shared..]);
        self.last.clear();
        self.last.extend_from_slice(key);
        self.count += 1;
    }
}

/// How many leading bytes agree.
pub(crate) fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

/// The section, as it lies in the index.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    pub(super) restarts: &'a [[u8; 4]],
    pub(super) data: &'a [u8],
    pub(super) count: usize,
}

impl<'a> Keys<'a> {
    /// The first entry that is not below `key` (`count` if there is none), and whether it equals it.
    pub(super) fn lower_bound(&self, key: &[u8]) -> (usize, bool) {
        self.search(key, |order| order == Ordering::Less)
    }

    /// The first entry above `key`.
    pub(super) fn upper_bound(&self, key: &[u8]) -> usize {
        self.search(key, |order| order != Ordering::Greater).0
    }

    /// The first entry whose order to `key` is not `before`; `before` holds for a leading part of the entries.
    fn search(&self, key: &[u8], before: impl Fn(Ordering) -> bool) -> (usize, bool) {
        let restart = self.restarts.partition_point(|at| before(self.whole(*at).cmp(key)));
        if restart == 0 {
            return (0, self.restarts.first().is_some_and(|at| self.whole(*at) == key));
        }
        let Some(at) = self.restarts.get(restart - 1) else { return (self.count, false) };
        let mut rest = self.data.get(u32::from_le_bytes(*at) as usize..).unwrap_or_default();
        let end = (restart * RESTART).min(self.count);
        let mut matched = 0;
        for i in (restart - 1) * RESTART..end {
            let Some((shared, suffix)) = take_entry(&mut rest) else { return (self.count, false) };
            match shared.cmp(&matched) {
                Ordering::Greater => {}
                Ordering::Less => return (i, false),
                Ordering::Equal => {
                    let sought = key.get(matched..).unwrap_or_default();
                    let more = common(suffix, sought);
                    matched += more;
                    let order = suffix.get(more).cmp(&sought.get(more));
                    if !before(order) {
                        return (i, order == Ordering::Equal);
                    }
                }
            }
        }
        let equal = self.restarts.get(restart).is_some_and(|at| self.whole(*at) == key);
        (end, equal)
    }

    /// The key of a restart.
    fn whole(&self, at: [u8; 4]) -> &'a [u8] {
        let mut rest = self.data.get(u32::from_le_bytes(at) as usize..).unwrap_or_default();
        take_entry(&mut rest).map_or(&[], |(_, suffix)| suffix)
    }

    /// Puts entry `n` together.
    pub(super) fn get(&self, n: usize) -> Option<Vec<u8>> {
        if n >= self.count {
            return None;
        }
        let at = self.restarts.get(n / RESTART)?;
        let mut rest = self.data.get(u32::from_le_bytes(*at) as usize..)?;
        let mut key = Vec::new();
        for _ in 0..=n % RESTART {
            let (shared, suffix) = take_entry(&mut rest)?;
            key.truncate(shared);
            key.extend_from_slice(suffix);
        }
        Some(key)
    }

    /// Checks that every entry is whole, rises or repeats, has at most `most` bytes and stands where the restarts say;
    /// answers what a search begins with, `None` if anything is wrong.
    pub(super) fn check(&self, most: usize) -> Option<Heads> {
        let (first, last) = (self.get(0)?, self.get(self.count.checked_sub(1)?)?);
        let common = common(&first, &last);
        let mut heads = Vec::with_capacity(self.count);
        let mut rest = self.data;
        let mut last = Vec::new();
        for n in 0..self.count {
            let at = (self.data.len() - rest.len()) as u32;
            if n % RESTART == 0 && self.restarts.get(n / RESTART) != Some(&at.to_le_bytes()) {
                return None;
            }
            let (shared, suffix) = take_entry(&mut rest)?;
            let restart = n % RESTART == 0;
            if shared > last.len() || (restart && shared != 0) || shared + suffix.len() > most {
                return None;
            }
            // Below: the shared part must be all that is shared, or the walk of `search` would be led astray.
            let before = last.get(shared..).unwrap_or_default();
            let rises = match (before.first(), suffix.first()) {
                _ if restart => last.as_slice() <= suffix,
                (Some(a), Some(b)) => a < b,
                (Some(_), None) => false,
                (None, _) => true,
            };
            if !rises || (n == 0 && suffix.is_empty()) {
                return None;
            }
            last.truncate(shared);
            last.extend_from_slice(suffix);
            heads.push(head(last.get(common..)?));
        }
        let prefix = first.get(..common)?.to_vec();
        rest.is_empty().then_some(Heads { prefix, heads })
    }
}

/// What decides most searches: the eight bytes of every key behind the prefix that all share.
#[derive(Debug)]
pub(super) struct Heads {
    prefix: Vec<u8>,
    heads: Vec<u64>,
}

impl Heads {
    /// As [`Keys::lower_bound`]; `keys` are the ones that the heads are of.
    #[inline]
    pub(super) fn lower_bound(&self, keys: &Keys<'_>, key: &[u8]) -> (usize, bool) {
        let Some((before, rest)) = key.split_at_checked(self.prefix.len()).filter(|(b, _)| *b == self.prefix)
        else {
            return (if key < &self.prefix[..] { 0 } else { self.heads.len() }, false);
        };
        debug_assert_eq!(before.len(), self.prefix.len());
        let sought = head(rest);
        let first = self.heads.partition_point(|head| *head < sought);
        if self.heads.get(first) == Some(&sought) { keys.lower_bound(key) } else { (first, false) }
    }

    /// Bytes of memory.
    pub(super) fn heap_bytes(&self) -> usize {
        self.prefix.len() + self.heads.len() * size_of::<u64>()
    }
}

fn take_entry<'a>(rest: &mut &'a [u8]) -> Option<(usize, &'a [u8])> {
    let shared = take_varint(rest)?;
    let length = take_varint(rest)?;
    let (suffix, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some((shared, suffix))
}

/// Keys have 2 KiB at most, so two bytes would do; five is what a `u32` takes.
fn take_varint(rest: &mut &[u8]) -> Option<usize> {
    let mut number = 0_usize;
    for shift in (0..35).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
