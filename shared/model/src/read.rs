//! What is seen.

use crate::model::{Load, LoadMode, LoadState, Model, Origin, Position, StoredRow};

/// How to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// The one moment at which expiry is judged.
    pub now: i64,
    /// Versions above it are not answered.
    pub as_of: i64,
    /// The table as loads and reverts up to this edit left it; `None` = all of them.
    pub edition: Option<u64>,
    /// A prepared load, shown as if it had been committed last.
    pub preview: Option<u64>,
}

impl Read {
    /// The newest, at this moment.
    pub fn at(now: i64) -> Self {
        Self { now, as_of: i64::MAX, edition: None, preview: None }
    }
}

/// A visible row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its version.
    pub version: i64,
    /// Its value.
    pub value: Vec<u8>,
    /// When it expires, all told; `None` = never.
    pub expires_at: Option<i64>,
}

/// What orders the rows of one key: version, then streamed over loaded, then the commit of the load or the place in the
/// log.
type Rank = (i64, (bool, u64, Option<Position>));

impl Model {
    /// `get(key, as_of)`: the first visible row whose version is at most `as_of`.
    pub fn get(&self, key: &[u8], read: &Read) -> Option<Found> {
        self.visible(key, read).into_iter().find(|row| row.version <= read.as_of)
    }

    /// `versions(since, until, limit)`: the visible rows in that closed range, newest first. `as_of` plays no part.
    pub fn versions(&self, key: &[u8], since: i64, until: i64, limit: usize, read: &Read) -> Vec<Found> {
        let mut rows = self.visible(key, read);
        rows.retain(|row| since <= row.version && row.version <= until);
        rows.truncate(limit);
        rows
    }

    /// `scan`: the `get` of each key from `start` to before `end` (`None` = to the last), in key order.
    pub fn scan(&self, start: &[u8], end: Option<&[u8]>, read: &Read) -> Vec<(Vec<u8>, Found)> {
        self.rows
            .keys()
            .filter(|key| key.as_slice() >= start && end.is_none_or(|end| key.as_slice() < end))
            .filter_map(|key| Some((key.clone(), self.get(key, read)?)))
            .collect()
    }

    /// Every visible row of a key, newest first.
    fn visible(&self, key: &[u8], read: &Read) -> Vec<Found> {
        let mut rows: Vec<(Rank, &StoredRow)> = Vec::new();
        for row in self.rows.get(key).into_iter().flatten() {
            if let Some(place) = self.place(row, read) {
                rows.push(((row.version, place), row));
            }
        }
        rows.retain(|(rank, row)| !self.is_under_a_floor(*rank, row, read));
        // Stable: of a load's rows with the same key and version the first given ranks highest.
        rows.sort_by(|(a, _), (b, _)| b.cmp(a));

        let mut visible: Vec<Found> = Vec::new();
        for (_, row) in rows {
            let Some(value) = &row.value else { break };
            if self.is_expired(row, read.now) {
                break;
            }
            if visible.last().is_some_and(|newer| newer.version == row.version) {
                continue;
            }
            if self.settings.max_versions != 0 && visible.len() == self.settings.max_versions as usize {
                break;
            }
            visible.push(Found {
                version: row.version,
                value: value.clone(),
                expires_at: self.expires_at(row),
            });
        }
        visible
    }

    /// Origin and position; `None` for a row of a load that this read does not count.
    fn place(&self, row: &StoredRow, read: &Read) -> Option<(bool, u64, Option<Position>)> {
        match row.origin {
            Origin::Streamed(position) => Some((true, 0, Some(position))),
            Origin::Loaded(load) => Some((false, self.counts(load, read)?, None)),
        }
    }

    /// The commit of a load, if this read counts it.
    fn counts(&self, number: u64, read: &Read) -> Option<u64> {
        let load = &self.loads[&number];
        let edition = read.edition.unwrap_or(u64::MAX);
        match load.state {
            LoadState::Prepared if read.preview == Some(number) => Some(u64::MAX),
            LoadState::Prepared => None,
            LoadState::Committed(at) => (at <= edition).then_some(at),
            LoadState::Reverted(at, until) => (at <= edition && edition < until).then_some(at),
        }
    }

    fn is_under_a_floor(&self, rank: Rank, row: &StoredRow, read: &Read) -> bool {
        let below = |number: u64, load: &Load| {
            load.mode == LoadMode::Replace
                && row.origin != Origin::Loaded(number)
                && self
                    .counts(number, read)
                    .is_some_and(|commit| rank < (load.version, (false, commit, None)))
        };
        self.loads.iter().any(|(number, load)| below(*number, load))
    }

    fn is_expired(&self, row: &StoredRow, now: i64) -> bool {
        self.expired_below.is_some_and(|below| row.version <= below)
            || self.expires_at(row).is_some_and(|at| at <= now)
    }

    fn expires_at(&self, row: &StoredRow) -> Option<i64> {
        let by_ttl = self.settings.ttl.map(|ttl| row.version.saturating_add(ttl));
        match (by_ttl, row.expires_at) {
            (Some(by_ttl), Some(own)) => Some(by_ttl.min(own)),
            (Some(at), None) | (None, Some(at)) => Some(at),
            (None, None) => None,
        }
    }
}
