//! What may be dropped for good: the one rule of flush, compaction and expiry.
//!
//! A job sees *some* rows of a key: those of its inputs. Other rows lie in segments outside the job and in the log; late
//! rows, loads and replaces will still arrive, and loads that are not sealed may be reverted. No answer of chapter 2, now
//! or later, may depend on whether the job ran. Hence, in this order:
//!
//! 1. A row under a **sealed** floor goes, unless it is the floor's own. A sealed floor never goes away (or only when
//!    another covers it), and floors come first for readers too, so such a row can neither be seen nor hide.
//! 2. Of the rest, in falling rank, a row of one version more than `max_versions` goes: those above it in the job hide it
//!    for ever, for they go only to something that hides it too (a floor above them is above it; `max_versions` is only
//!    ever lowered).
//! 3. What ranks below a tombstone or expired row of the job goes, for the same reason.
//! 4. Of one version, a put below a kept one goes, but only if it would not expire before it. It would end the walk at
//!    that moment, and older rows would come back if it were gone. What is compared is the rows' own `expires_at`: the ttl
//!    may change. A tombstone that lost a tie stays likewise.
//! 5. Where the ttl (or `expired_below`) has ended a row it goes, put or tombstone: all that it could hide has ended too.
//! 6. A tombstone, and an expired row, which from here on is one, goes only where no row of its version or an older one
//!    can be anywhere outside the job nor arrive any more ([`KeepContext::late_below`]). An expired row that may not go
//!    becomes a tombstone of its rank.
//!
//! Floors of loads that are not sealed do not appear here at all: nothing is dropped on their account. It follows that a
//! job must not mix the rows of a load that is not sealed with any others: a tombstone of that load would take them
//! with it, and a revert could not bring them back. Its own rows among themselves are fine, they come and go together.
//! Where such a load is not committed yet, its rows are judged with a place above every commit that there is: it will
//! rank above floors of its own *V* that are there already.
//!
//! No row needs to know what ranks below it, so a job judges rows as they come out of the merge.

use super::{Expiry, Floors};
use nacre_types::Place;

/// What a job may rely on. It must stand in the job's edit, so that `apply` can refuse it where the settings changed.
#[derive(Debug, Clone, Copy)]
pub struct KeepContext<'m> {
    /// The floors of sealed replaces, and of no others.
    pub sealed_floors: &'m Floors,
    /// The ttl and what its changes ended.
    pub expiry: Expiry,
    /// How many versions stay visible; 0 = all.
    pub max_versions: u32,
    /// The now for drops: not later than any moment at which a read will be judged.
    pub now: i64,
    /// A row of a version below this cannot arrive any more, neither by the log nor by a load that is open or yet to
    /// come. `None` where the table has no `max_lateness`.
    pub late_below: Option<i64>,
}

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Keep,
    /// It goes.
    Drop,
    /// A tombstone of its version and rank, without expiry, takes its place.
    Bury,
}

/// Judges the rows of one key after the other, each key's in falling rank.
#[derive(Debug, Clone)]
pub struct Keeper<'m> {
    context: KeepContext<'m>,
    /// A tombstone or expired row of the job was met: everything below it goes.
    ended: bool,
    versions: u32,
    last: i64,
    /// The latest own expiry among the kept puts of the version `last`; `i64::MAX` = never.
    last_expires: i64,
}

impl<'m> Keeper<'m> {
    /// Before the first row of a key.
    pub fn new(context: KeepContext<'m>) -> Self {
        Self { context, ended: false, versions: 0, last: 0, last_expires: 0 }
    }

    /// Before the first row of another key.
    #[inline]
    pub fn restart(&mut self) {
        self.ended = false;
        self.versions = 0;
    }

    /// Judges the next row of the key in falling rank.
    ///
    /// `oldest_outside` is asked only where a tombstone may go otherwise: the lowest version that a row of this key may
    /// have outside the job, in any segment (of loads that are not sealed, prepared ones, and reverted ones that a page
    /// token can put back, too) and in the part of the log that the table does not cover. `None` = there is none.
    #[inline]
    pub fn judge(
        &mut self,
        version: i64,
        place: Place,
        expires_at: Option<i64>,
        is_tombstone: bool,
        oldest_outside: impl FnOnce() -> Option<i64>,
    ) -> Verdict {
        let context = self.context;
        if context.sealed_floors.hide(version, place) {
            return Verdict::Drop;
        }
        let tie = self.versions > 0 && self.last == version;
        let beyond = !tie && context.max_versions != 0 && self.versions >= context.max_versions;
        if beyond || self.ended {
            return Verdict::Drop;
        }
        if context.expiry.ended(version, context.now) {
            self.ended = true;
            return Verdict::Drop;
        }
        let is_expired = expires_at.is_some_and(|at| at <= context.now);
        if is_tombstone || is_expired {
            self.ended = true;
            let arrives = context.late_below.is_none_or(|late| version >= late);
            return if !arrives && oldest_outside().is_none_or(|oldest| oldest > version) {
                Verdict::Drop
            } else if is_tombstone && expires_at.is_none() {
                Verdict::Keep
            } else {
                Verdict::Bury
            };
        }
        let expires = expires_at.unwrap_or(i64::MAX);
        if tie {
            if expires >= self.last_expires {
                return Verdict::Drop;
            }
            return Verdict::Keep;
        }
        self.versions = self.versions.saturating_add(1);
        self.last = version;
        self.last_expires = expires;
        Verdict::Keep
    }
}

/// Whether every row of a segment may go without being read: its rows have versions up to `max_version` and places
/// within `places` (both ends included).
pub fn whole_segment_goes(context: &KeepContext<'_>, max_version: i64, places: (Place, Place)) -> bool {
    let (lowest, highest) = places;
    context.expiry.ended(max_version, context.now)
        || context.sealed_floors.iter().any(|floor| {
            let may_hold_own = lowest <= floor.place && floor.place <= highest;
            (max_version, highest) < (floor.version, floor.place) && !may_hold_own
        })
}

#[cfg(test)]
mod tests;
