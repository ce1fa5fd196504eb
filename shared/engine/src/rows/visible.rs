//! What a reader sees of the rows of one key.
//!
//! The rows above every floor are walked in falling rank. The walk ends at the first tombstone or expired row, also one
//! that lost a tie, and when a row of one version more than `max_versions` is met. Of each version only the highest
//! ranked row is visible. Floors come first: a row under a floor is as if it were not there, so it neither hides nor
//! counts.

use super::{Expiry, Floors};
use nacre_types::{Place, Rank};
use std::cmp::Reverse;

/// What decides a read, besides the rows.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'v> {
    /// The floors of the edition that is read.
    pub floors: &'v Floors,
    /// The table's ttl and what its changes ended.
    pub expiry: Expiry,
    /// How many versions stay visible; 0 = all.
    pub max_versions: u32,
    /// The request's one moment, in microseconds since the epoch.
    pub now: i64,
}

/// A row that may be the answer. `P` is what the caller wants back: the value's bytes, or where they lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<P> {
    /// The row's version.
    pub version: i64,
    /// Origin and position; tells a load's own rows from others.
    pub place: Place,
    /// Which row of its record; 0 for rows of loads and segments.
    pub index: u32,
    /// The row's own expiry, not shortened by the ttl.
    pub expires_at: Option<i64>,
    /// `None` = a tombstone.
    pub value: Option<P>,
}

impl<P> Candidate<P> {
    /// What orders it among the rows of its key.
    pub fn rank(&self) -> Rank {
        Rank { version: self.version, place: self.place, index: self.index }
    }
}

/// Why there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// No row is visible there.
    Row,
    /// A tombstone ended the walk.
    Tombstone,
    /// An expired row ended the walk.
    Expired,
}

/// What became of one row of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is visible.
    Visible,
    /// It is not, and hides nothing: under a floor, or lost a tie. The walk goes on.
    Passed,
    /// It is not, nor is any row that ranks below it.
    End(Absence),
}

/// The walk over the rows of one key, given one by one in falling rank. [`Walk::restart`] begins the next key.
#[derive(Debug, Clone)]
pub struct Walk<'v> {
    rules: Rules<'v>,
    versions: u32,
    last: i64,
}

impl<'v> Walk<'v> {
    /// Before the first row of a key.
    pub fn new(rules: Rules<'v>) -> Self {
        Self { rules, versions: 0, last: 0 }
    }

    /// Before the first row of another key.
    pub fn restart(&mut self) {
        self.versions = 0;
    }

    /// Whether as many versions as may be were seen: only ties of the last one could follow, and none is visible.
    pub fn is_full(&self) -> bool {
        self.rules.max_versions != 0 && self.versions >= self.rules.max_versions
    }

    /// The next row in falling rank.
    #[inline]
    pub fn step(&mut self, version: i64, place: Place, expires_at: Option<i64>, is_tombstone: bool) -> Step {
        if self.rules.floors.hide(version, place) {
            return Step::Passed;
        }
        if is_tombstone {
            return Step::End(Absence::Tombstone);
        }
        if self.rules.expiry.is_expired(version, expires_at, self.rules.now) {
            return Step::End(Absence::Expired);
        }
        if self.versions > 0 && self.last == version {
            return Step::Passed;
        }
        if self.is_full() {
            return Step::End(Absence::Row);
        }
        self.versions = self.versions.saturating_add(1);
        self.last = version;
        Step::Visible
    }
}

/// The answer of a get, and from where down it is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer<P> {
    /// The row, or why there is none.
    pub found: Result<Candidate<P>, Absence>,
    /// Rows that rank below this cannot change the answer: sources that hold only such rows need not be read. `None`
    /// while any row could.
    pub settled: Option<(i64, Place)>,
}

/// Puts candidates into falling rank. Equal ranks keep their order. Free for none or one, and does not allocate for up
/// to twenty.
pub fn sort<P>(rows: &mut [Candidate<P>]) {
    if rows.len() > 1 {
        rows.sort_by_key(|row| Reverse(row.rank()));
    }
}

/// `get(key, as_of)`: the first visible row whose version is at most `as_of`, of rows in any order, which it sorts.
///
/// It may be asked again with more rows while [`Answer::settled`] does not yet exclude the sources that are left.
pub fn get<P: Copy>(rows: &mut [Candidate<P>], rules: Rules<'_>, as_of: i64) -> Answer<P> {
    sort(rows);
    let mut walk = Walk::new(rules);
    for row in rows.iter() {
        let at = Some((row.version, row.place));
        match walk.step(row.version, row.place, row.expires_at, row.value.is_none()) {
            Step::Visible if row.version <= as_of => return Answer { found: Ok(*row), settled: at },
            // All the versions that may be seen are newer than what is asked for.
            Step::Visible if walk.is_full() => return Answer { found: Err(Absence::Row), settled: at },
            Step::Visible | Step::Passed => {}
            Step::End(absence) => return Answer { found: Err(absence), settled: at },
        }
    }
    Answer { found: Err(Absence::Row), settled: None }
}

/// `versions(since, until, limit)`: the visible rows of that closed range of versions, newest first, of rows that are
/// already in falling rank (see [`sort`]); at most `limit`.
pub fn versions<'r, P>(
    rows: &'r [Candidate<P>],
    rules: Rules<'r>,
    since: i64,
    until: i64,
    limit: usize,
) -> impl Iterator<Item = &'r Candidate<P>> {
    let mut walk = Walk::new(rules);
    rows.iter()
        .take_while(move |row| row.version >= since)
        .map_while(move |row| match walk.step(row.version, row.place, row.expires_at, row.value.is_none()) {
            Step::Visible => Some(Some(row)),
            Step::Passed => Some(None),
            Step::End(_) => None,
        })
        .flatten()
        .filter(move |row| row.version <= until)
        .take(limit)
}

#[cfg(test)]
mod tests;
