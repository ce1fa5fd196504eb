//! The keys of a memtable in order: sorted runs, each at least four times as long as the next.
//!
//! A walk first takes the keys that came since the last one, sorts them into a run and merges runs until lengths fall
//! again by four from one to the next. So a key is moved a few times in its life, whoever walks merges a handful of
//! runs, and whoever only writes and gets pays nothing. Runs are never changed, only replaced: a walk that goes on holds
//! those that it began with.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

/// A run is at least so many times as long as the next.
const RATIO: usize = 4;

/// A key and where its rows lie.
#[derive(Debug, Clone)]
pub(super) struct OrderedKey {
    /// The first 16 bytes, big-endian, zeros behind a short key: unequal ones are ordered as their keys are, and most
    /// comparisons end here, without a step to the record that the key is a slice of.
    first: u128,
    pub(super) bytes: Bytes,
    shard: u32,
    index: u32,
}

impl OrderedKey {
    fn new(bytes: Bytes, shard: usize, index: usize) -> Self {
        Self { first: first_of(&bytes), bytes, shard: shard as u32, index: index as u32 }
    }

    pub(super) fn shard(&self) -> usize {
        self.shard as usize
    }

    pub(super) fn index(&self) -> usize {
        self.index as usize
    }

    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.first.cmp(&other.first).then_with(|| self.bytes.cmp(&other.bytes))
    }

    fn is_before(&self, first: u128, key: &[u8]) -> bool {
        self.first.cmp(&first).then_with(|| self.bytes[..].cmp(key)).is_lt()
    }
}

fn first_of(key: &[u8]) -> u128 {
    let mut first = [0; 16];
    for (to, from) in first.iter_mut().zip(key) {
        *to = *from;
    }
    u128::from_be_bytes(first)
}

type Run = Arc<[OrderedKey]>;

/// What is in order of the keys of `N` shards. A key is in one run.
#[derive(Debug)]
pub(super) struct Order<const N: usize> {
    /// How many of each shard's keys were taken.
    taken: [usize; N],
    fresh: Vec<OrderedKey>,
    runs: Vec<Run>,
}

impl<const N: usize> Default for Order<N> {
    fn default() -> Self {
        Self { taken: [0; N], fresh: Vec::new(), runs: Vec::new() }
    }
}

impl<const N: usize> Order<N> {
    /// Takes the keys of a shard that came since; answers how many.
    pub(super) fn take<'k>(&mut self, shard: usize, keys: impl ExactSizeIterator<Item = &'k Bytes>) -> u64 {
        let Some(taken) = self.taken.get_mut(shard) else { return 0 };
        let (before, now) = (*taken, keys.len());
        *taken = now;
        let new = keys.enumerate().skip(before);
        self.fresh.extend(new.map(|(index, key)| OrderedKey::new(key.clone(), shard, index)));
        (now - before) as u64
    }

    /// Makes a run of what was taken, and lengths fall again.
    pub(super) fn settle(&mut self) {
        let mut run = std::mem::take(&mut self.fresh);
        run.sort_unstable_by(OrderedKey::cmp);
        while let Some(last) = self.runs.pop_if(|last| last.len() < run.len() * RATIO) {
            run = merged(&last, run);
        }
        self.runs.push(run.into());
    }

    pub(super) fn runs(&self) -> Runs {
        Runs(self.runs.clone())
    }
}

fn merged(one: &[OrderedKey], other: Vec<OrderedKey>) -> Vec<OrderedKey> {
    let mut out = Vec::with_capacity(one.len() + other.len());
    let mut one = one.iter().peekable();
    for key in other {
        while let Some(before) = one.next_if(|held| held.cmp(&key).is_lt()) {
            out.push(before.clone());
        }
        out.push(key);
    }
    out.extend(one.cloned());
    out
}

/// Runs as they were at one time.
#[derive(Debug)]
pub(super) struct Runs(Vec<Run>);

impl Runs {
    /// The keys of a range, in order or against it.
    pub(super) fn walk(&self, range: (Bound<&[u8]>, Bound<&[u8]>), reverse: bool) -> Walk<'_> {
        let slices = self.0.iter().map(|run| within(run, range)).filter(|run| !run.is_empty()).collect();
        Walk { slices, reverse }
    }
}

fn within<'r>(run: &'r [OrderedKey], (start, end): (Bound<&[u8]>, Bound<&[u8]>)) -> &'r [OrderedKey] {
    let before = |key: &[u8]| {
        let first = first_of(key);
        run.partition_point(|held| held.is_before(first, key))
    };
    let behind = |key: &[u8]| {
        let at = before(key);
        at + usize::from(run.get(at).is_some_and(|held| held.bytes == key))
    };
    let from = match start {
        Bound::Included(key) => before(key),
        Bound::Excluded(key) => behind(key),
        Bound::Unbounded => 0,
    };
    let to = match end {
        Bound::Included(key) => behind(key),
        Bound::Excluded(key) => before(key),
        Bound::Unbounded => run.len(),
    };
    run.get(from..to).unwrap_or_default()
}

/// Keys of several runs, the next of them first.
pub(super) struct Walk<'r> {
    /// What is left of each run; none is empty.
    slices: Vec<&'r [OrderedKey]>,
    reverse: bool,
}

impl<'r> Iterator for Walk<'r> {
    type Item = &'r OrderedKey;

    fn next(&mut self) -> Option<&'r OrderedKey> {
        // A handful of runs: looking at all of them is quicker than keeping a heap.
        let (nth, key) = if self.reverse {
            let ends = self.slices.iter().enumerate().filter_map(|(nth, run)| Some((nth, run.last()?)));
            ends.max_by(|one, other| one.1.cmp(other.1))?
        } else {
            let heads = self.slices.iter().enumerate().filter_map(|(nth, run)| Some((nth, run.first()?)));
            heads.min_by(|one, other| one.1.cmp(other.1))?
        };
        let slice = &mut self.slices[nth];
        *slice = match self.reverse {
            true => slice.split_last().map_or(&[], |(_, rest)| rest),
            false => slice.split_first().map_or(&[], |(_, rest)| rest),
        };
        if slice.is_empty() {
            self.slices.swap_remove(nth);
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn key(bytes: Vec<u8>) -> OrderedKey {
        OrderedKey::new(bytes.into(), 0, 0)
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
                assert_eq!(key(a.clone()).cmp(&key(b.clone())), a.cmp(b), "{a:?} {b:?}");
                assert_eq!(key(a.clone()).is_before(first_of(b), b), a < b, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_handful_of_runs_however_many_came() {
        let mut order = Order::<1>::default();
        let keys: Vec<Bytes> =
            (0..20_000u32).map(|n| Bytes::from(n.reverse_bits().to_be_bytes().to_vec())).collect();
        for upto in (0..=keys.len()).step_by(100) {
            assert_eq!(order.take(0, keys[..upto].iter()), if upto == 0 { 0 } else { 100 });
            order.settle();
            let lengths: Vec<usize> = order.runs.iter().map(|run| run.len()).collect();
            assert!(lengths.windows(2).all(|two| two[0] >= two[1] * RATIO), "{lengths:?}");
        }
        assert!(order.runs.len() <= 6);
    }

    fn bound(pick: (u8, Vec<u8>)) -> Bound<Vec<u8>> {
        match pick.0 % 3 {
            0 => Bound::Included(pick.1),
            1 => Bound::Excluded(pick.1),
            _ => Bound::Unbounded,
        }
    }

    fn short() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0..3u8, 0..4)
    }

    proptest! {
        #[test]
        fn a_walk_is_that_of_a_sorted_set(
            batches in proptest::collection::vec(proptest::collection::vec(short(), 0..30), 1..8),
            start in (any::<u8>(), short()),
            end in (any::<u8>(), short()),
        ) {
            let mut order = Order::<1>::default();
            let mut keys: Vec<Bytes> = Vec::new();
            let mut set: BTreeSet<Vec<u8>> = BTreeSet::new();
            for batch in batches {
                keys.extend(batch.into_iter().filter(|key| set.insert(key.clone())).map(Bytes::from));
                if order.take(0, keys.iter()) > 0 {
                    order.settle();
                }
            }
            let (start, end) = (bound(start), bound(end));
            let within = |key: &Vec<u8>| {
                (match &start { Bound::Included(b) => key >= b, Bound::Excluded(b) => key > b, Bound::Unbounded => true })
                    && (match &end { Bound::Included(b) => key <= b, Bound::Excluded(b) => key < b, Bound::Unbounded => true })
            };
            let range = (start.as_ref().map(|b| &b[..]), end.as_ref().map(|b| &b[..]));
            let runs = order.runs();
            let forth: Vec<Vec<u8>> = runs.walk(range, false).map(|key| key.bytes.to_vec()).collect();
            let expected: Vec<Vec<u8>> = set.iter().filter(|key| within(key)).cloned().collect();
            prop_assert_eq!(&forth, &expected);
            let mut back: Vec<Vec<u8>> = runs.walk(range, true).map(|key| key.bytes.to_vec()).collect();
            back.reverse();
            prop_assert_eq!(&back, &expected);
            for key in runs.walk(range, false) {
                prop_assert_eq!(&keys[key.index()], &key.bytes);
            }
        }
    }
}
