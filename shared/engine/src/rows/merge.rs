//! Many sorted sources of rows as one, by key ascending and rank descending.
//!
//! Flush, compaction, scans and the external sort of loads all go through here. It is a loser tree (Knuth, The Art of
//! Computer Programming 3, 5.4.1): one comparison per level for each row. Each source's head is kept beside the tree as
//! eight bytes of key and its rank, so that most comparisons touch no source.

use nacre_types::{Place, Rank, Result};
use std::cmp::Ordering;

/// A row where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowView<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Its version.
    pub version: i64,
    /// Origin and position.
    pub place: Place,
    /// Which row of its record; 0 for rows of loads and segments.
    pub index: u32,
    /// Its own expiry, not shortened by the ttl.
    pub expires_at: Option<i64>,
    /// `None` = a tombstone.
    pub value: Option<&'a [u8]>,
}

impl RowView<'_> {
    /// What orders it among the rows of its key.
    pub fn rank(&self) -> Rank {
        Rank { version: self.version, place: self.place, index: self.index }
    }
}

/// Rows by key ascending and rank descending, one at a time.
pub trait RowSource {
    /// The row where the source stands; `None` at its end. Cheap, and the same until [`RowSource::advance`].
    fn peek(&self) -> Option<RowView<'_>>;

    /// Goes on to the next row; at the end it does nothing.
    ///
    /// # Errors
    /// Whatever stands between the source and its rows. The source must not be used again.
    fn advance(&mut self) -> Result<()>;
}

/// The rows of all sources in order. Rows that tie to the last come from the source that was given first.
#[derive(Debug)]
pub struct Merge<S> {
    sources: Vec<S>,
    heads: Vec<Head>,
    /// `tree[0]` is the winner; `tree[n]` the loser of the match at inner node `n`, whose children are `2n` and `2n + 1`;
    /// source `i` is the leaf `sources.len() + i`.
    tree: Vec<usize>,
}

/// What is compared of a source's row without asking the source.
#[derive(Debug, Clone, Copy)]
struct Head {
    /// The first eight bytes of the key, big-endian, zeros behind a short one: unequal prefixes are ordered as their
    /// keys are.
    prefix: u64,
    rank: Rank,
    is_end: bool,
}

impl Head {
    fn of(row: Option<RowView<'_>>) -> Self {
        match row {
            Some(row) => Self { prefix: prefix(row.key), rank: row.rank(), is_end: false },
            None => Self { prefix: 0, rank: Rank { version: 0, place: Place::MIN, index: 0 }, is_end: true },
        }
    }
}

fn prefix(key: &[u8]) -> u64 {
    if let Some(first) = key.first_chunk::<8>() {
        return u64::from_be_bytes(*first);
    }
    let mut padded = [0; 8];
    for (to, from) in padded.iter_mut().zip(key) {
        *to = *from;
    }
    u64::from_be_bytes(padded)
}

impl<S: RowSource> Merge<S> {
    /// Over sources that each stand at their first row.
    pub fn new(sources: Vec<S>) -> Self {
        let heads = sources.iter().map(|source| Head::of(source.peek())).collect();
        let count = sources.len();
        let mut merge = Self { sources, heads, tree: vec![0; count.max(1)] };
        // Plays every match from the leaves up.
        let mut winners = vec![0; 2 * count.max(1)];
        for (i, winner) in winners.iter_mut().skip(count).take(count).enumerate() {
            *winner = i;
        }
        for node in (1..count).rev() {
            let (a, b) = (winners[2 * node], winners[2 * node + 1]);
            let (winner, loser) = if merge.precedes(a, b) { (a, b) } else { (b, a) };
            winners[node] = winner;
            merge.tree[node] = loser;
        }
        if count > 0 {
            merge.tree[0] = winners[1];
        }
        merge
    }

    /// The row that comes next; `None` when all sources have ended.
    #[inline]
    pub fn peek(&self) -> Option<RowView<'_>> {
        self.sources.get(self.tree[0])?.peek()
    }

    /// Which source the next row comes from.
    #[inline]
    pub fn source(&self) -> usize {
        self.tree[0]
    }

    /// Goes on to the next row; at the end it does nothing.
    ///
    /// # Errors
    /// Those of the source. The merge must not be used again.
    #[inline]
    pub fn advance(&mut self) -> Result<()> {
        let mut winner = self.tree[0];
        let Some(source) = self.sources.get_mut(winner) else { return Ok(()) };
        source.advance()?;
        self.heads[winner] = Head::of(source.peek());
        // The new head plays the losers on its way up; everyone else's matches stand.
        let mut node = (winner + self.sources.len()) / 2;
        while node > 0 {
            let rival = self.tree[node];
            if self.precedes(rival, winner) {
                self.tree[node] = winner;
                winner = rival;
            }
            node /= 2;
        }
        self.tree[0] = winner;
        Ok(())
    }

    /// Goes past every row of the next row's key.
    ///
    /// # Errors
    /// Those of the sources.
    pub fn skip_key(&mut self) -> Result<()> {
        let Some(row) = self.peek() else { return Ok(()) };
        let key = row.key.to_vec();
        while self.peek().is_some_and(|row| row.key == key) {
            self.advance()?;
        }
        Ok(())
    }

    /// The sources, where they stand.
    pub fn into_sources(self) -> Vec<S> {
        self.sources
    }

    /// Whether source `a`'s row comes before source `b`'s.
    #[inline]
    fn precedes(&self, a: usize, b: usize) -> bool {
        let (x, y) = (&self.heads[a], &self.heads[b]);
        if x.is_end || y.is_end {
            return !x.is_end || (y.is_end && a < b);
        }
        x.prefix
            .cmp(&y.prefix)
            .then_with(|| self.compare_keys(a, b))
            .then_with(|| y.rank.cmp(&x.rank))
            .then_with(|| a.cmp(&b))
            == Ordering::Less
    }

    fn compare_keys(&self, a: usize, b: usize) -> Ordering {
        let key = |source: usize| self.sources.get(source).and_then(S::peek).map(|row| row.key);
        key(a).cmp(&key(b))
    }
}

#[cfg(test)]
mod tests;
