//! The end of a partition, asked for by many at once.

use super::partition::Partition;
use crate::LogPosition;
use crate::chunk::Link;
use nacre_types::Result;
use std::sync::atomic::{AtomicU64, Ordering};

/// Lets those who ask together share one read, but only one that began after they asked.
#[derive(Debug, Default)]
pub(super) struct EndFlight {
    begun: AtomicU64,
    last: tokio::sync::Mutex<Option<(u64, Link)>>,
}

impl Partition {
    /// Where a reader stands that has read through `link`.
    pub(super) fn position_after(&self, link: &Link) -> LogPosition {
        LogPosition {
            incarnation: self.config.incarnation,
            offset: link.end,
            clock: link.clock,
            chunk: link.number + 1,
        }
    }

    pub(super) async fn end(&self) -> Result<LogPosition> {
        let flight = &self.end_flight;
        let asked = flight.begun.load(Ordering::SeqCst);
        let mut last = flight.last.lock().await;
        if let Some((number, link)) = *last
            && number > asked
        {
            return Ok(self.position_after(&link));
        }
        let number = flight.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let link = self.find_end().await?;
        *last = Some((number, link));
        Ok(self.position_after(&link))
    }
}
