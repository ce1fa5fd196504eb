//! One chunk from its first put to a known outcome.

use super::PlantedBug;
use super::partition::Partition;
use crate::chunk::Chunk;
use nacre_runtime::{Backoff, Shutdown};
use nacre_store::{PutMode, PutOutcome};
use nacre_types::{Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

/// What became of a chunk.
#[derive(Debug)]
pub(super) enum Settled {
    /// It is the true chunk of its number.
    Won,
    /// Another is; no request of this chunk that is still under way can change that.
    Lost(Arc<Chunk>),
    /// Nobody will ever know here, or the program ends before it is known.
    Unknown,
    /// No put of it had, or will have, an effect.
    NotPut(Error),
}

/// What lies at a chunk's name, as far as it may be believed.
enum Judged {
    Settled(Settled),
    /// The name is free, or nothing could be read.
    Open,
}

impl Partition {
    /// Puts the same bytes at the same number until it is known what became of them. It never moves on before: a
    /// request whose answer was lost may still be under way, and would double the records if they went into another
    /// chunk as well.
    pub(super) async fn settle(&self, chunk: &Chunk, stop: &Shutdown) -> Settled {
        let path = match self.paths.chunk(chunk.link.number) {
            Ok(path) => path,
            Err(error) => return Settled::NotPut(error),
        };
        let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_secs(1));
        let mut may_have_happened = false;
        loop {
            let put = self.store.put(&path, chunk.bytes.clone(), PutMode::Create);
            let open_error = match tokio::time::timeout(self.config.attempt_timeout, put).await {
                Ok(Ok(PutOutcome::Stored(_))) => {
                    may_have_happened = true;
                    match self.judge_own(chunk).await {
                        Judged::Settled(settled) => return settled,
                        Judged::Open => None,
                    }
                }
                Ok(Ok(PutOutcome::AlreadyExists | PutOutcome::Mismatch)) => {
                    // Perhaps one's own, by an earlier request, or by this one if a library underneath repeated it.
                    // Until the winner is read and believed, it may have happened.
                    match self.judge_winner(chunk, may_have_happened).await {
                        Judged::Settled(settled) => return settled,
                        Judged::Open => {
                            may_have_happened = !self.bug(PlantedBug::TakeExistsForAnothers);
                            None
                        }
                    }
                }
                Ok(Err(error)) if error.kind() == ErrorKind::Unknown => {
                    may_have_happened = true;
                    if self.bug(PlantedBug::MoveOnAfterUnknown) {
                        return Settled::NotPut(error.with_kind(ErrorKind::Unavailable));
                    }
                    None
                }
                Ok(Err(error)) => Some(error),
                Err(_) => {
                    may_have_happened = true;
                    None
                }
            };
            if !may_have_happened && let Some(error) = open_error {
                return Settled::NotPut(error);
            }
            if stop.is_requested() {
                return Settled::Unknown;
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next(self.ctx.ids.as_ref())) => {}
                () = stop.requested() => {}
            }
        }
    }

    /// After a put that was answered "stored": it counts only if the boundary is still below.
    async fn judge_own(&self, chunk: &Chunk) -> Judged {
        if self.bug(PlantedBug::BelieveCreates) {
            return Judged::Settled(Settled::Won);
        }
        match self.read_boundary().await {
            Ok((boundary, _)) if boundary.trimmed.number < chunk.link.number => Judged::Settled(Settled::Won),
            // Was this the chunk that was read, flushed and trimmed, or a name created again? Nobody can tell.
            Ok((boundary, _)) => {
                self.skip_to(boundary.trimmed);
                Judged::Settled(Settled::Unknown)
            }
            Err(error) => {
                tracing::debug!(%error, "a chunk is stored; whether it counts is not known yet");
                Judged::Open
            }
        }
    }

    /// After "already exists": whose is it, and is it the true one?
    async fn judge_winner(&self, chunk: &Chunk, may_have_happened: bool) -> Judged {
        let number = chunk.link.number;
        let read = self.get_chunk(number).await;
        if !self.bug(PlantedBug::BelieveWinners) {
            match self.read_boundary().await {
                Ok((boundary, _)) if boundary.trimmed.number < number => {}
                Ok((boundary, _)) => {
                    self.skip_to(boundary.trimmed);
                    return Judged::Settled(Settled::Unknown);
                }
                Err(_) => return Judged::Open,
            }
        }
        match read {
            Ok(Some(winner)) if winner.link.id == chunk.link.id => Judged::Settled(Settled::Won),
            Ok(Some(winner)) => Judged::Settled(Settled::Lost(winner)),
            Ok(None) => Judged::Open,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                Judged::Settled(if may_have_happened { Settled::Unknown } else { Settled::NotPut(error) })
            }
            Err(_) => Judged::Open,
        }
    }
}
