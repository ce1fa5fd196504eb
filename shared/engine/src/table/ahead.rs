//! Warming what others flushed or merged, before it is shown here.
//!
//! The moment that the edit of a flush is taken over, rows that were in the tail's memory lie in a segment that nobody here
//! has read: the next get of each would wait for the store. So a process that is told of an edit looks at it first, reads
//! what is new into its memory, and then takes it over. Who cannot wait (a strong read, a session, a request of several
//! keys) reads the table log by itself and may find the new segments cold: slow, not wrong. Until then reads are answered
//! from the edition before, as if the notice had come so much later; [`LIMIT`] bounds that.
//!
//! A flush's segments are read whole, as far as they fit into a part of the memory: what was written lately is asked for
//! most. Of what a compaction wrote, the blocks with keys that are hot now are read.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::StreamExt as _;
use nacre_manifest::{Change, Edit, Manifest, Segment};
use nacre_segment::key_hash;
use nacre_types::{Key, Result, SegmentId};

use super::Table;
use super::commit::fold;
use super::read::Fetcher;
use crate::Receipt;

/// No edit is taken over later than this for its segments' sake.
const LIMIT: Duration = Duration::from_secs(1);
/// Edits that are looked at together; who is further behind is cold anyway.
const EDITS: usize = 64;
/// Of the memory for blocks, what flushes of one notice may fill: one in so many bytes. Less than the small queue of S3-FIFO,
/// so that what was read stays until it is asked for.
const PART_OF_MEMORY: u64 = 16;
/// What a block takes in memory, at most times, for each of its bytes in the store.
const DECODED: u64 = 3;
const SEGMENTS_AT_ONCE: usize = 4;

/// How much of a segment is read.
enum Wanted {
    Whole,
    Hot,
}

/// What the table will be.
struct Ahead {
    manifest: Manifest,
    segments: Vec<(SegmentId, Wanted)>,
}

impl Table {
    /// Reads what the next edits bring, or takes them over at once where nothing is to be read, or where a load is shown or
    /// undone: nodes must not lag there, and a load was warmed before it was committed.
    pub(super) async fn warm_ahead(self: &Arc<Self>) {
        let limit = self.shared.config.warm_limit.min(LIMIT);
        let is_read_here = |partition| self.shared.tails.check(partition).is_ok();
        if limit.is_zero() || !self.partitions().into_iter().any(is_read_here) {
            return;
        }
        match self.look_ahead().await {
            Ok(Some(ahead)) => {
                if tokio::time::timeout(limit, self.warm_segments(&ahead)).await.is_err() {
                    tracing::debug!(table = %self.id, "new segments are shown before all of them is warm");
                }
            }
            Ok(None) => {}
            // Whoever takes the edits over meets it again.
            Err(error) => tracing::debug!(table = %self.id, %error, "the next edits could not be looked at"),
        }
    }

    /// The next edits, if there is something to read before they are taken over; else it has taken them over.
    async fn look_ahead(self: &Arc<Self>) -> Result<Option<Ahead>> {
        let mut cursor = self.cursor.lock().await;
        let manifest = self.manifest();
        let edits = self.shared.catalog.read(self.id, manifest.seq(), EDITS).await?;
        let Some((next, commit_id)) = fold(&manifest, cursor.commit_id, &edits)? else { return Ok(None) };
        let mut makes_edition = false;
        let room = self.shared.cache.stats().blocks.memory_capacity / PART_OF_MEMORY / DECODED;
        let (mut segments, mut taken) = (Vec::new(), 0);
        for (_, encoded) in &edits {
            for change in Edit::decode(&encoded.body)?.changes {
                match change {
                    Change::Flush(flush) if self.shared.tails.check(flush.partition).is_ok() => {
                        for Segment { id, bytes, .. } in flush.segments {
                            taken += bytes;
                            segments.extend((taken <= room).then_some((id, Wanted::Whole)));
                        }
                    }
                    Change::Compact(compact) => {
                        segments.extend(compact.outputs.iter().map(|output| (output.id, Wanted::Hot)));
                    }
                    Change::CommitLoad { .. } | Change::RevertLoad { .. } => makes_edition = true,
                    _ => {}
                }
            }
        }
        if segments.is_empty() || makes_edition {
            cursor.commit_id = commit_id;
            self.publish_manifest(Arc::new(next));
            return Ok(None);
        }
        Ok(Some(Ahead { manifest: next, segments }))
    }

    async fn warm_segments(self: &Arc<Self>, ahead: &Ahead) {
        let is_hot = ahead.segments.iter().any(|(_, wanted)| matches!(wanted, Wanted::Hot));
        let shared = self.shared.clone();
        let is_here = move |partition| shared.tails.check(partition).is_ok();
        let hot = if is_hot { self.hot_keys_of(is_here).await.unwrap_or_default() } else { Vec::new() };
        let reads: Vec<_> =
            ahead.segments.iter().map(|(id, wanted)| self.warm_segment(ahead, *id, wanted, &hot)).collect();
        let read: Vec<u64> = futures::stream::iter(reads).buffer_unordered(SEGMENTS_AT_ONCE).collect().await;
        self.shared.metrics.blocks_warmed.inc_by(read.iter().sum());
    }

    /// Reads one segment as far as it is wanted; answers how many blocks.
    async fn warm_segment(&self, ahead: &Ahead, id: SegmentId, wanted: &Wanted, hot: &[Key]) -> u64 {
        // A later one of the edits may have taken it away again.
        let Some(segment) = ahead.manifest.segment_ref(id) else { return 0 };
        let mut fetcher = Fetcher { shared: &self.shared, table: self.id, receipt: Receipt::default() };
        let Ok(index) = fetcher.index(&segment).await else { return 0 };
        let mut read = 0;
        let warmed = async {
            match wanted {
                Wanted::Whole => {
                    for block in 0..index.block_count() {
                        fetcher.block_of_run(&segment, &index, block).await?;
                        read += 1;
                    }
                }
                Wanted::Hot => {
                    let within = segment.min_key()..=segment.max_key();
                    let keys = hot.iter().filter(|key| within.contains(&&key[..]));
                    let mut blocks: Vec<(u32, &Key)> =
                        keys.flat_map(|key| index.blocks_of(key).map(move |block| (block, key))).collect();
                    blocks.sort_unstable();
                    for of_block in blocks.chunk_by(|one, other| one.0 == other.0) {
                        let Some((number, _)) = of_block.first() else { continue };
                        let block = fetcher.block(&segment, &index, *number).await?;
                        for (_, key) in of_block {
                            self.shared.cache.keep_rows(id, *number, &block, key, key_hash(key));
                        }
                        read += 1;
                    }
                }
            }
            Result::<()>::Ok(())
        };
        if let Err(error) = warmed.await {
            tracing::debug!(table = %self.id, segment = %id, %error, "a new segment was not warmed");
        }
        read
    }
}
