//! Checkpoints and progress: what a load tells the world, and a loader that takes over.

use std::time::Duration;

use nacre_engine::LoadStatus;
use nacre_manifest::Segment;
use nacre_store::{GetOptions, ObjectPath};
use nacre_types::{Error, ErrorKind, Result};

use super::Job;
use crate::checkpoint::SegmentNote;

impl Job<'_> {
    pub(super) fn segments(&self) -> Result<Vec<Segment>> {
        let adopted = self.done.files.values().filter_map(|file| file.adopted.as_ref());
        adopted.chain(&self.done.merged).map(|note| note.to_segment(self.load.id, self.load.job)).collect()
    }

    /// Takes up what an earlier attempt has done. A checkpoint that is gone or that another release wrote costs only
    /// the work: it is done again.
    pub(super) async fn read_checkpoint(&mut self) -> Result<()> {
        let Some(path) = self.table.told_load_status(self.load.id).await?.checkpoint else { return Ok(()) };
        let read = match self.table.store().get(&ObjectPath::new(&path)?, GetOptions::default()).await {
            Ok(object) => {
                serde_json::from_slice(&object.bytes).map_err(|error| Error::corrupt(error.to_string()))
            }
            Err(error) => Err(error),
        };
        match read {
            Ok(done) => self.done = done,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                tracing::warn!(load = %self.load.id, %path, %error, "the checkpoint is of no use; beginning anew");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let rows = |notes: &[SegmentNote]| notes.iter().map(|note| note.rows).sum::<u64>();
        tracing::info!(
            load = %self.load.id,
            runs = self.done.runs.len(),
            rows_in_runs = rows(&self.done.runs),
            segments = self.done.merged.len(),
            rows_in_segments = rows(&self.done.merged),
            "going on at a checkpoint"
        );
        Ok(())
    }

    pub(super) async fn write_checkpoint(&mut self) -> Result<()> {
        let json = serde_json::to_vec(&self.done.without_pending())
            .map_err(|e| Error::internal(format!("the checkpoint does not encode: {e}")))?;
        let unique = self.ctx.ids.random_u128();
        let path =
            self.table.put_load_object(self.load, &format!("checkpoint-{unique:032x}"), json.into()).await?;
        let told = LoadStatus {
            preparing: true,
            progress: self.done.progress.clone(),
            checkpoint: Some(path.as_str().to_owned()),
        };
        self.told_at = self.ctx.clock.monotonic();
        self.table.tell_load_status(self.load.id, &told).await
    }

    pub(super) async fn tell_now_and_then(&mut self, preparing: bool) {
        if self.ctx.clock.monotonic().saturating_sub(self.told_at) > Duration::from_secs(2) {
            self.tell(preparing).await;
        }
    }

    /// Tells the progress; that it cannot be told stops no load.
    pub(super) async fn tell(&mut self, preparing: bool) {
        self.told_at = self.ctx.clock.monotonic();
        let checkpoint = match self.table.told_load_status(self.load.id).await {
            Ok(told) => told.checkpoint,
            Err(_) => return,
        };
        let told = LoadStatus { preparing, progress: self.done.progress.clone(), checkpoint };
        if let Err(error) = self.table.tell_load_status(self.load.id, &told).await {
            tracing::warn!(load = %self.load.id, %error, "the progress of the load could not be told");
        }
    }
}
