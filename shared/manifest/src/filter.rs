//! Which loads and floors count: now, at an older edition, or in a preview.

use crate::{Floor, Manifest, SegmentRef};
use nacre_types::{LoadId, Place, Seq};

/// Why an edition or preview cannot be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrestorable {
    /// The edition is too old: a load was sealed or forgotten since. The answer is 410.
    Gone {
        /// The oldest edition that can still be restored.
        oldest: Seq,
    },
    /// This manifest has not reached the edition.
    Ahead {
        /// Where this manifest stands.
        at: Seq,
    },
    /// There is no such load, or it is not prepared.
    NotPrepared(LoadId),
}

/// Which loads count and which floors hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditionFilter {
    pub(crate) edition: Seq,
    /// The loads that count, by id, with the place of their rows.
    pub(crate) loads: Vec<(LoadId, Place)>,
    pub(crate) floors: Vec<Floor>,
}

impl EditionFilter {
    /// The edition that is shown.
    pub fn edition(&self) -> Seq {
        self.edition
    }

    /// The floors that hold, by commit.
    pub fn floors(&self) -> &[Floor] {
        &self.floors
    }

    /// The place of a load's rows; `None` = the load does not count.
    pub fn place_of(&self, load: LoadId) -> Option<Place> {
        let at = self.loads.binary_search_by(|(id, _)| id.cmp(&load)).ok()?;
        self.loads.get(at).map(|(_, place)| *place)
    }

    /// The place of a segment's rows that have none of their own; `None` = the segment does not count and must not be
    /// read.
    pub fn base_place(&self, segment: &SegmentRef<'_>) -> Option<Place> {
        let _ = segment;
        todo!()
    }

    /// Whether a floor hides the row.
    pub fn hides(&self, version: i64, place: Place) -> bool {
        self.floors.iter().any(|floor| floor.hides(version, place))
    }
}

impl Manifest {
    /// The table as it is: every committed load that is not reverted.
    pub fn current(&self) -> &EditionFilter {
        todo!()
    }

    /// The table as `edition` showed it: leaves out loads committed since, puts back loads reverted since.
    ///
    /// # Errors
    /// [`Unrestorable::Gone`] and [`Unrestorable::Ahead`].
    pub fn at_edition(&self, edition: Seq) -> Result<EditionFilter, Unrestorable> {
        let _ = edition;
        todo!()
    }

    /// The table as it would be if the prepared `load` were committed next, on top of `edition` (`None` = as it is).
    /// A load that is committed meanwhile counts as it is.
    ///
    /// # Errors
    /// All of [`Unrestorable`].
    pub fn preview(&self, load: LoadId, edition: Option<Seq>) -> Result<EditionFilter, Unrestorable> {
        let _ = (load, edition);
        todo!()
    }
}
