//! How many requests are under way at once.

use nacre_types::{Error, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// More prefixes than these share one lane.
const LANES: usize = 64;

/// A lane per first folder of the store and way: a load that fills `tables/` keeps neither the log nor the catalog
/// waiting, and neither reads nor flushes wait behind uploads and copies. S3 counts its limits by prefix too.
#[derive(Debug)]
pub(super) struct Lanes {
    width: usize,
    open: Mutex<HashMap<(String, Way), Arc<Semaphore>>>,
}

/// What waits for its own kind alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Way {
    Read,
    Write,
    /// Uploads and copies, each of which takes long.
    Bulk,
}

/// The right to one request; it ends when this is dropped.
pub(super) type Place = OwnedSemaphorePermit;

impl Lanes {
    /// At most `width` requests under way in each.
    pub(super) fn new(width: usize) -> Self {
        Self { width, open: Mutex::default() }
    }

    fn lane(&self, path: &str, way: Way) -> Arc<Semaphore> {
        let folder = path.split('/').next().unwrap_or_default();
        let mut open = self.open.lock();
        if let Some(lane) = open.get(&(folder.to_owned(), way)) {
            return lane.clone();
        }
        let folder = if open.len() < LANES { folder.to_owned() } else { String::new() };
        open.entry((folder, way)).or_insert_with(|| Arc::new(Semaphore::new(self.width))).clone()
    }

    /// Waits for a place at most `limit`.
    ///
    /// # Errors
    /// `Unavailable` (`store-busy`): nothing was sent.
    pub(super) async fn enter(&self, path: &str, way: Way, limit: Duration) -> Result<Place> {
        match tokio::time::timeout(limit, self.lane(path, way).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            // A lane is never closed.
            Ok(Err(_)) | Err(_) => Err(Error::unavailable(format!(
                "{} requests to the store are under way already, and none ended within {} ms",
                self.width,
                limit.as_millis()
            ))
            .with_code("store-busy")),
        }
    }

    /// How many places are free.
    pub(super) fn room(&self, path: &str, way: Way) -> usize {
        self.lane(path, way).available_permits()
    }

    /// A place if one is free.
    pub(super) fn try_enter(&self, path: &str, way: Way) -> Option<Place> {
        self.lane(path, way).try_acquire_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_lane_holds_up_its_own_prefix_and_kind_only() {
        let lanes = Lanes::new(2);
        let short = Duration::from_millis(50);
        let held = [
            lanes.enter("tables/1/a", Way::Read, short).await,
            lanes.enter("tables/2", Way::Read, short).await,
        ];
        assert_eq!(lanes.enter("tables/1/a", Way::Read, short).await.unwrap_err().code(), "store-busy");
        assert!(lanes.try_enter("tables/x", Way::Read).is_none());
        assert_eq!((lanes.room("tables/x", Way::Read), lanes.room("tables/x", Way::Write)), (0, 2));
        assert!(lanes.try_enter("tables/x", Way::Write).is_some());
        assert!(lanes.try_enter("tables/x", Way::Bulk).is_some());
        assert!(lanes.try_enter("log/0/1", Way::Read).is_some());
        drop(held);
        assert!(lanes.try_enter("tables/x", Way::Read).is_some());
    }

    #[test]
    fn the_number_of_lanes_is_bounded() {
        let lanes = Lanes::new(1);
        let held: Vec<_> = (0..1_000).filter_map(|n| lanes.try_enter(&format!("{n}/x"), Way::Read)).collect();
        assert_eq!(held.len(), LANES + 1);
    }
}
