//! Reading chunks so that they may be believed.

use super::PlantedBug;
use super::partition::Partition;
use crate::boundary::Boundary;
use crate::chunk::{Chunk, Link};
use crate::codec::corrupt;
use futures::future::join_all;
use nacre_store::{GetOptions, ObjectTag};
use nacre_types::{Error, ErrorKind, Result};
use std::sync::Arc;

/// How many chunks are asked for at once by a reader that is behind.
pub(super) const CATCH_UP: u64 = 8;

/// What a read of chunks from some number on found.
#[derive(Debug)]
pub(super) enum Run {
    /// True chunks, in order; `ended` = the one after them is truly absent. They are published.
    Chunks { chunks: Vec<Arc<Chunk>>, ended: bool },
    /// The number that was asked for lies at or below the boundary: nothing is known of it.
    Trimmed(Boundary),
}

impl Partition {
    /// The boundary and the tag by which it is replaced.
    pub(super) async fn read_boundary(&self) -> Result<(Boundary, Option<ObjectTag>)> {
        match self.attempt(self.store.get(&self.paths.boundary, GetOptions::default())).await {
            Ok(object) => {
                let boundary = Boundary::decode(&object.bytes, self.id, self.config.incarnation)?;
                Ok((boundary, Some(object.meta.tag)))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok((Boundary::NONE, None)),
            Err(error) => Err(error.context("reading the boundary of the log")),
        }
    }

    /// Reads one chunk without asking whether it may be believed; `None` = absent.
    pub(super) async fn get_chunk(&self, number: u64) -> Result<Option<Arc<Chunk>>> {
        let path = self.paths.chunk(number)?;
        let object = match self.attempt(self.store.get(&path, GetOptions::default())).await {
            Ok(object) => object,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let chunk = Chunk::decode(object.bytes).map_err(|error| error.context(&path))?;
        let whose = (chunk.partition, chunk.incarnation, chunk.link.number);
        if whose != (self.id, self.config.incarnation, number) {
            return Err(corrupt("log chunk", format_args!("{path} says that it is chunk {whose:?}")));
        }
        Ok(Some(Arc::new(chunk)))
    }

    /// Reads up to `width` chunks from `first` on and the boundary afterwards. Only then is anything believed, be it a
    /// chunk or its absence: below the boundary a name may have been deleted, and created again by a sleeper.
    pub(super) async fn read_run(&self, first: u64, width: u64) -> Result<Run> {
        let answers = join_all((first..first + width).map(|number| self.get_chunk(number))).await;
        let mut chunks: Vec<Arc<Chunk>> = Vec::new();
        let mut ended = false;
        let mut failed: Option<Error> = None;
        for answer in answers {
            match answer {
                Ok(Some(chunk)) => chunks.push(chunk),
                Ok(None) => {
                    ended = true;
                    break;
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if !self.bug(PlantedBug::BelieveReads) {
            let (boundary, _) = self.read_boundary().await?;
            if boundary.trimmed.number >= first {
                return Ok(Run::Trimmed(boundary));
            }
        }
        if chunks.is_empty()
            && let Some(error) = failed
        {
            return Err(error);
        }
        for pair in chunks.windows(2) {
            if let [before, after] = pair {
                after.check_follows(&before.link)?;
            }
        }
        for chunk in &chunks {
            self.publish(chunk)?;
        }
        if ended {
            self.confirm(first + chunks.len() as u64 - 1);
        }
        Ok(Run::Chunks { chunks, ended })
    }

    /// Finds the end of the log, reading little: the true chunks above the boundary have no gap, so whether a number
    /// exists tells on which side of the end it lies, and the last step is a believed absence.
    pub(super) async fn find_end(&self) -> Result<Link> {
        let mut known = self.tip();
        // Every turn either finds the end, moves forward or meets a boundary that has moved.
        for _ in 0..1_000 {
            let low = match known {
                Some(link) => link,
                None => {
                    let (boundary, _) = self.read_boundary().await?;
                    self.skip_to(boundary.trimmed);
                    boundary.trimmed
                }
            };
            match self.read_run(low.number + 1, 1).await? {
                Run::Trimmed(boundary) => {
                    self.skip_to(boundary.trimmed);
                    known = Some(boundary.trimmed);
                }
                Run::Chunks { chunks, ended } => {
                    if ended {
                        return Ok(low);
                    }
                    let far = self.gallop(low.number + 1).await?;
                    known = match far {
                        Some(far) => Some(far),
                        None => chunks.last().map(|chunk| chunk.link).or(known),
                    };
                }
            }
        }
        Err(Error::unavailable("the log is trimmed or appended to faster than its end can be found")
            .with_code("log-end-moves"))
    }

    /// From a chunk that exists to one near the end: doubling steps, then halving. What it says is a hint until the
    /// chunk it names has been read and believed; `None` = it found nothing better.
    async fn gallop(&self, exists: u64) -> Result<Option<Link>> {
        let (mut low, mut step) = (exists, 1);
        let mut high = loop {
            let probe = low + step;
            if !self.exists(probe).await? {
                break probe;
            }
            low = probe;
            step *= 2;
        };
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.exists(middle).await? { low = middle } else { high = middle }
        }
        match self.read_run(low, 1).await? {
            Run::Chunks { chunks, .. } => Ok(chunks.last().map(|chunk| chunk.link)),
            Run::Trimmed(boundary) => {
                self.skip_to(boundary.trimmed);
                Ok(Some(boundary.trimmed))
            }
        }
    }

    /// Whether the name is taken; not to be believed in either way.
    pub(super) async fn exists(&self, number: u64) -> Result<bool> {
        match self.attempt(self.store.head(&self.paths.chunk(number)?)).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}
