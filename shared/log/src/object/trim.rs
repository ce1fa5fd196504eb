//! Trimming: first the boundary is raised, durably, then chunks are deleted.

use super::PlantedBug;
use super::partition::Partition;
use crate::LogPosition;
use crate::boundary::Boundary;
use crate::chunk::{Chunk, Link};
use futures::future::join_all;
use nacre_store::{PutMode, PutOutcome};
use nacre_types::{Error, Result};
use std::sync::Arc;

/// Deletes under way at once.
const DELETES: u64 = 16;
/// How often raising the boundary is tried against other trimmers.
const RAISES: u32 = 20;

impl Partition {
    pub(super) async fn trim(&self, through: &LogPosition) -> Result<()> {
        // A position inside a chunk keeps that chunk.
        let last = through.chunk.saturating_sub(1);
        if self.bug(PlantedBug::DeleteBeforeBoundary) {
            self.delete_chunks(1, last).await?;
        }
        let boundary = self.raise_boundary(last, through).await?;
        let from = (*self.deleted.lock()).max(boundary.deleted);
        self.delete_chunks(from + 1, boundary.trimmed.number).await?;
        let mut deleted = self.deleted.lock();
        *deleted = (*deleted).max(boundary.trimmed.number);
        Ok(())
    }

    /// Answers the boundary that stands, at `last` or above.
    async fn raise_boundary(&self, last: u64, through: &LogPosition) -> Result<Boundary> {
        for _ in 0..RAISES {
            let (standing, tag) = self.read_boundary().await?;
            if standing.trimmed.number >= last {
                return Ok(standing);
            }
            let Some(trimmed) = self.end_of_chunk(last).await? else {
                // Absent or trimmed by now: only the boundary tells which.
                let (now, _) = self.read_boundary().await?;
                if now.trimmed.number >= last {
                    return Ok(now);
                }
                return Err(beyond_end(through));
            };
            if trimmed.end > through.offset {
                return Err(beyond_end(through));
            }
            let deleted = standing.deleted.max(*self.deleted.lock());
            let raised = Boundary { trimmed, deleted };
            let mode = tag.map_or(PutMode::Create, PutMode::Replace);
            let bytes = raised.encode(self.id, self.config.incarnation);
            match self.attempt_write(self.store.put(&self.paths.boundary, bytes, mode)).await? {
                PutOutcome::Stored(_) => return Ok(raised),
                // Another trimmer, or one's own request after all: look again.
                PutOutcome::AlreadyExists | PutOutcome::Mismatch => {}
            }
        }
        Err(Error::unavailable("others keep raising the log's boundary").with_code("log-trim-contended"))
    }

    async fn end_of_chunk(&self, number: u64) -> Result<Option<Link>> {
        if let Some(chunk) = self.in_window(number) {
            return Ok(Some(chunk.link));
        }
        Ok(self.true_chunk(number).await?.map(|chunk| chunk.link))
    }

    async fn delete_chunks(&self, from: u64, through: u64) -> Result<()> {
        let mut next = from;
        while next <= through {
            let until = through.min(next + DELETES - 1);
            let deletes = (next..=until).map(|number| async move {
                let path = self.paths.chunk(number)?;
                self.attempt_write(self.store.delete(&path)).await
            });
            for deleted in join_all(deletes).await {
                deleted?;
            }
            next = until + 1;
        }
        Ok(())
    }

    /// Deletes chunks at or below the boundary that a crash or a sleeper left behind: a listing finds them, the
    /// boundary proves them. Answers how many.
    pub(super) async fn sweep(&self, limit: usize) -> Result<usize> {
        let (boundary, _) = self.read_boundary().await?;
        let last = self.paths.chunk(boundary.trimmed.number)?;
        let mut swept = 0;
        for meta in self.attempt(self.store.list(&self.paths.chunks(), None, limit)).await? {
            // Names have 20 digits: their order is their numbers'.
            if meta.path > last {
                break;
            }
            self.attempt_write(self.store.delete(&meta.path)).await?;
            swept += 1;
        }
        Ok(swept)
    }
}

fn beyond_end(through: &LogPosition) -> Error {
    Error::invalid(format!(
        "trim through offset {} (chunk {}): no such place in the log; only a position that the log gave out may be \
         trimmed through",
        through.offset, through.chunk
    ))
    .with_code("trim-beyond-end")
}

impl Partition {
    /// The true chunk of a number that was passed; `None` where it is trimmed (or never was).
    pub(super) async fn true_chunk(&self, number: u64) -> Result<Option<Arc<Chunk>>> {
        use super::read::Run;
        if let Some(chunk) = self.in_window(number) {
            return Ok(Some(chunk));
        }
        Ok(match self.read_run(number, 1).await? {
            Run::Trimmed(_) => None,
            Run::Chunks { chunks, .. } => chunks.into_iter().next(),
        })
    }
}
