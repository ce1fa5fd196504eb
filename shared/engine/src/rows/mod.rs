//! The pure rules over the rows of one key in falling rank: what a reader sees ([`visible`]), how sorted sources become
//! one ([`merge`]), and what may be dropped for good ([`keep`]).
//!
//! Nothing here does I/O, knows segments or allocates per row. Everything that answers a read or rewrites rows calls
//! these functions, so that chapter 2 of the design stands in one place; `nacre-model`, which shares no code with it,
//! checks it.
//!
//! Falling rank is (version, place, index), each descending. Rows that still tie (the same key and version twice in one
//! load) rank in the order in which they are given, and every caller must give them in the same order every time: rows
//! of one segment as the file has them, segments of one load by their position in the manifest.

pub mod keep;
pub mod merge;
pub mod visible;

use nacre_types::{Place, Seq, TableSettings};
use smallvec::SmallVec;

/// The rank of a replace load's floor: it hides every row that ranks below it, except the load's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// The *V* of the replace.
    pub version: i64,
    /// [`Place::loaded`] of the load's commit; the load's own rows carry exactly this place.
    pub place: Place,
}

impl Floor {
    /// The floor of the replace load at `version` that the edit `commit` committed.
    pub fn new(version: i64, commit: Seq) -> Self {
        Self { version, place: Place::loaded(commit) }
    }

    /// Whether it hides a row of this version and place.
    pub fn hides(self, version: i64, place: Place) -> bool {
        (version, place) < (self.version, self.place) && place != self.place
    }
}

/// The floors that hold for a read or a job; all of them hide.
#[derive(Debug, Clone, Default)]
pub struct Floors {
    floors: SmallVec<[Floor; 4]>,
    /// The highest (version, place): most rows rank above it, which is all that needs to be asked.
    highest: Option<(i64, Place)>,
}

impl Floors {
    /// Whether any of them hides a row of this version and place.
    #[inline]
    pub fn hide(&self, version: i64, place: Place) -> bool {
        match self.highest {
            Some(highest) if (version, place) < highest => {
                self.floors.iter().any(|floor| floor.hides(version, place))
            }
            _ => false,
        }
    }

    /// The floors, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = Floor> + '_ {
        self.floors.iter().copied()
    }
}

impl FromIterator<Floor> for Floors {
    fn from_iter<I: IntoIterator<Item = Floor>>(floors: I) -> Self {
        let floors: SmallVec<[Floor; 4]> = floors.into_iter().collect();
        let highest = floors.iter().map(|floor| (floor.version, floor.place)).max();
        Self { floors, highest }
    }
}

/// What of a table's settings and history decides when a row expires.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expiry {
    /// The table's ttl, in microseconds.
    pub ttl_micros: Option<i64>,
    /// Rows of this version or an older one are expired; `None` until a change of the ttl raises it.
    pub expired_below: Option<i64>,
}

impl Expiry {
    /// Of a table with these settings; `expired_below` as the manifest has it, `i64::MIN` where it was never raised.
    pub fn of(settings: &TableSettings, expired_below: i64) -> Self {
        Self {
            ttl_micros: settings.ttl_micros(),
            expired_below: (expired_below > i64::MIN).then_some(expired_below),
        }
    }

    /// Whether the table's ttl or `expired_below` alone has ended a row of this version. Whatever ranks below such a row
    /// has ended too, also what arrives later, so such a row has nothing to hide.
    #[inline]
    pub fn ended(&self, version: i64, now: i64) -> bool {
        self.expired_below.is_some_and(|below| version <= below)
            || self.ttl_micros.is_some_and(|ttl| version.saturating_add(ttl) <= now)
    }

    /// Whether a row of this version with its own `expires_at` is expired at `now`.
    #[inline]
    pub fn is_expired(&self, version: i64, expires_at: Option<i64>, now: i64) -> bool {
        expires_at.is_some_and(|at| at <= now) || self.ended(version, now)
    }

    /// When a row that is not yet expired by `expired_below` will be: what `nacre-expires-at` shows. `None` = never.
    pub fn expires_at(&self, version: i64, own: Option<i64>) -> Option<i64> {
        match (self.ttl_micros.map(|ttl| version.saturating_add(ttl)), own) {
            (Some(by_ttl), Some(own)) => Some(by_ttl.min(own)),
            (by_ttl, own) => by_ttl.or(own),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nacre_types::{Generation, Offset};

    #[test]
    fn a_floor_hides_what_ranks_below_it_but_not_its_own_load() {
        let floors: Floors = [Floor::new(10, Seq(5))].into_iter().collect();
        let streamed = Place::streamed(Generation(0), Offset(1));
        assert!(floors.hide(9, streamed) && !floors.hide(10, streamed));
        assert!(floors.hide(10, Place::loaded(Seq(4))), "a repeat of the same V hides the load before it");
        assert!(!floors.hide(10, Place::loaded(Seq(6))), "a later load of the same V stays");
        assert!(floors.hide(9, Place::loaded(Seq(6))), "a later load below V is hidden");
        assert!(!floors.hide(3, Place::loaded(Seq(5))), "its own rows stay");
    }

    #[test]
    fn all_floors_hold_and_each_excepts_only_its_own_load() {
        let floors: Floors = [Floor::new(10, Seq(5)), Floor::new(7, Seq(6))].into_iter().collect();
        assert!(floors.hide(6, Place::loaded(Seq(5))), "own load of the higher floor, below the lower one");
        assert!(floors.hide(8, Place::loaded(Seq(6))), "own load of the lower floor, below the higher one");
        assert!(!floors.hide(8, Place::loaded(Seq(5))));
    }

    #[test]
    fn a_table_that_never_raised_expired_below_shows_its_smallest_version() {
        let expiry = Expiry::of(&TableSettings::default(), i64::MIN);
        assert!(!expiry.is_expired(i64::MIN, None, 0));
        let raised = Expiry { expired_below: Some(4), ttl_micros: None };
        assert!(raised.is_expired(4, None, 0) && !raised.is_expired(5, None, 0));
    }

    #[test]
    fn expiry_is_judged_at_its_very_moment_and_the_ttl_cannot_be_outlived() {
        let expiry = Expiry { ttl_micros: Some(10), expired_below: None };
        assert!(!expiry.is_expired(5, Some(100), 14) && expiry.is_expired(5, Some(100), 15));
        assert!(expiry.is_expired(5, Some(7), 7) && !expiry.ended(5, 7));
        assert_eq!(expiry.expires_at(5, Some(100)), Some(15));
        assert_eq!(expiry.expires_at(5, Some(7)), Some(7));
        assert!(!expiry.is_expired(i64::MAX, None, i64::MAX - 1), "the sum saturates");
    }
}
