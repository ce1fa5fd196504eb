//! Which loads and floors count: now, at an older edition, or in a preview.

use crate::{Floor, Layer, Load, LoadState, Manifest, SegmentRef};
use nacre_types::{Error, LoadId, Place, Seq};

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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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
        match segment.layer() {
            Layer::Streamed(span) => Some(Place::streamed(span.generation, span.from)),
            Layer::Loaded(load) => self.place_of(load),
            Layer::Mixed { streamed: Some(span), .. } => Some(Place::streamed(span.generation, span.from)),
            Layer::Mixed { streamed: None, loads: (low, _) } => Some(Place::loaded(low)),
        }
    }

    /// Whether a floor hides the row.
    pub fn hides(&self, version: i64, place: Place) -> bool {
        self.floors.iter().any(|floor| floor.hides(version, place))
    }
}

impl EditionFilter {
    /// The loads that `counts` accepts, and the floors of `floors` and of the reverted ones among those loads.
    fn new<'a>(edition: Seq, loads: impl Iterator<Item = &'a Load>, floors: Vec<Floor>) -> Self {
        let mut filter = Self { edition, loads: Vec::new(), floors };
        for load in loads {
            let Some(commit) = load.commit else { continue };
            filter.loads.push((load.id, Place::loaded(commit)));
            if load.state == LoadState::Reverted {
                filter.floors.extend(load.floor(commit));
            }
        }
        filter.loads.sort_unstable_by_key(|(id, _)| *id);
        filter.floors.sort_by_key(|floor| floor.commit);
        filter
    }

    pub(crate) fn of(manifest: &Manifest) -> Self {
        let committed = manifest.loads().filter(|load| load.state == LoadState::Committed);
        Self::new(manifest.edition, committed, manifest.floors.to_vec())
    }

    fn show(&mut self, load: &Load, commit: Seq) {
        if let Err(at) = self.loads.binary_search_by(|(id, _)| id.cmp(&load.id)) {
            self.loads.insert(at, (load.id, Place::loaded(commit)));
            self.floors.extend(load.floor(commit));
            self.floors.sort_by_key(|floor| floor.commit);
        }
    }
}

impl Manifest {
    /// The table as it is: every committed load that is not reverted.
    pub fn current(&self) -> &EditionFilter {
        &self.current
    }

    /// The table as `edition` showed it: leaves out loads committed since, puts back loads reverted since.
    ///
    /// # Errors
    /// [`Unrestorable::Gone`] and [`Unrestorable::Ahead`].
    pub fn at_edition(&self, edition: Seq) -> Result<EditionFilter, Unrestorable> {
        if edition > self.seq {
            return Err(Unrestorable::Ahead { at: self.seq });
        }
        if edition < self.restorable_from {
            return Err(Unrestorable::Gone { oldest: self.restorable_from });
        }
        let floors = self.floors.iter().filter(|floor| floor.commit <= edition).copied().collect();
        Ok(EditionFilter::new(edition, self.loads().filter(|load| load.counts_at(edition)), floors))
    }

    /// The table as it would be if the prepared `load` were committed next, on top of `edition` (`None` = as it is).
    /// A load that has been committed meanwhile is shown at its own place.
    ///
    /// # Errors
    /// All of [`Unrestorable`].
    pub fn preview(&self, load: LoadId, edition: Option<Seq>) -> Result<EditionFilter, Unrestorable> {
        let mut filter = match edition {
            Some(edition) => self.at_edition(edition)?,
            None => self.current().clone(),
        };
        let shown = self.load(load).ok_or(Unrestorable::NotPrepared(load))?;
        match (shown.state, shown.commit) {
            (LoadState::Prepared, _) => filter.show(shown, self.seq.next()),
            (LoadState::Committed, Some(commit)) => filter.show(shown, commit),
            _ => return Err(Unrestorable::NotPrepared(load)),
        }
        Ok(filter)
    }
}

impl From<Unrestorable> for Error {
    fn from(cause: Unrestorable) -> Self {
        match cause {
            Unrestorable::Gone { oldest } => Self::conflict(format!(
                "the edition is no longer there; the oldest that can be restored is {oldest}: begin the scan again"
            ))
            .with_code("edition-gone"),
            Unrestorable::Ahead { at } => {
                Self::unavailable(format!("the edition is not reached yet; the manifest stands at {at}"))
                    .with_code("edition-ahead")
            }
            Unrestorable::NotPrepared(load) => {
                Self::conflict(format!("load {load} is not prepared, so there is nothing to preview"))
                    .with_code("load-not-prepared")
            }
        }
    }
}
