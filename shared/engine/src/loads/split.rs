//! Where shards are cut before a load shows itself, so that none is born too big.
//!
//! A cut is an edit over the same files and moves nothing, so it goes into the edit that brings the load's layer, before
//! its rows are seen. If the load is cancelled after all, the shards stay cut, which costs nothing but their names.

use bytes::Bytes;
use nacre_manifest::{Manifest, Segment, Shard, SplitShard};
use nacre_types::{Result, ShardId};

use crate::Table;

/// Most cuts of one load: its edit stays small. The rest is cut by the next load.
const CUTS_MAX: usize = 4_096;
/// A load's segment of more than this part of a shard is sampled; of others half counts where they begin and half where
/// they end, which is near enough for a short one, and puts the middle of a wide one in the middle.
const SAMPLED_FROM: u64 = 16;
/// Keys sampled of a segment, for every shard's size that it has.
const SAMPLES_PER_SHARD: u64 = 32;
const SAMPLES_MAX: u64 = 4_096;

/// Bytes that lie at a key or a little behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) at: Bytes,
    pub(super) bytes: u64,
}

impl Table {
    /// What `segments` weigh, and with them what the table holds already unless they replace it; in key order.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`: a large segment's index cannot be read.
    pub(super) async fn weights(&self, segments: &[Segment], replaces: bool) -> Result<Vec<Weight>> {
        let shard_bytes = self.shared.config.shard_bytes;
        let manifest = self.manifest();
        let held = if replaces { 0 } else { manifest.bytes() };
        if held + segments.iter().map(|segment| segment.bytes).sum::<u64>() <= shard_bytes {
            return Ok(Vec::new());
        }
        let mut weights = Vec::new();
        for segment in segments {
            if segment.bytes <= shard_bytes / SAMPLED_FROM {
                weights.extend(ends(segment.min_key.clone(), segment.max_key.clone(), segment.bytes));
                continue;
            }
            let count = (segment.bytes / (shard_bytes / SAMPLES_PER_SHARD).max(1)).clamp(1, SAMPLES_MAX);
            let keys = self.open_run(segment).await?.sample_keys(count as u32);
            let each = segment.bytes / keys.len().max(1) as u64;
            weights.extend(keys.into_iter().map(|at| Weight { at, bytes: each }));
        }
        let work = move || {
            if !replaces {
                let held = manifest.segments();
                weights.extend(held.flat_map(|held| ends(held.min_key(), held.max_key(), held.bytes())));
            }
            weights.sort_unstable_by(|one, other| one.at.cmp(&other.at));
            weights
        };
        // A table may have a million segments.
        self.shared.ctx.tasks.spawn_blocking("load-weights", work).await
    }
}

fn ends(first: Bytes, last: Bytes, bytes: u64) -> [Weight; 2] {
    [Weight { at: first, bytes: bytes - bytes / 2 }, Weight { at: last, bytes: bytes / 2 }]
}

/// The cuts for `weights`, which are in key order, in the shards of a manifest.
pub(super) fn splits(manifest: &Manifest, weights: &[Weight], shard_bytes: u64) -> Vec<SplitShard> {
    cuts(manifest.shards(), manifest.next_shard_id(), weights, shard_bytes)
}

fn cuts(shards: &[Shard], mut new: ShardId, weights: &[Weight], shard_bytes: u64) -> Vec<SplitShard> {
    let mut out = Vec::new();
    let mut rest = weights;
    for (nth, shard) in shards.iter().enumerate() {
        let end = shards.get(nth + 1).map(|next| &next.start);
        let (inside, behind) =
            rest.split_at(rest.partition_point(|weight| end.is_none_or(|end| weight.at < end)));
        rest = behind;
        let total: u64 = inside.iter().map(|weight| weight.bytes).sum();
        let parts = total.div_ceil(shard_bytes.max(1));
        let (mut seen, mut part) = (0, 1);
        // The piece that a cut would cut: the cut before has made it.
        let (mut piece, mut begins) = (shard.id, &shard.start);
        for weight in inside {
            // Cut as soon as the parts so far have their share.
            if part < parts
                && u128::from(seen) * u128::from(parts) >= u128::from(total) * u128::from(part)
                && weight.at > begins
                && out.len() < CUTS_MAX
            {
                out.push(SplitShard { shard: piece, at: weight.at.clone(), new });
                (piece, begins) = (new, &weight.at);
                new = new.next();
                while part < parts
                    && u128::from(seen) * u128::from(parts) >= u128::from(total) * u128::from(part)
                {
                    part += 1;
                }
            }
            seen += weight.bytes;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use nacre_types::{Generation, PartitionId};
    use proptest::prelude::*;

    fn shard(id: u32, start: &'static [u8]) -> Shard {
        Shard {
            start: Bytes::from_static(start),
            partition: PartitionId(id),
            generation: Generation(0),
            id: ShardId(id),
        }
    }

    fn weight(key: u8, bytes: u64) -> Weight {
        Weight { at: Bytes::copy_from_slice(&[key]), bytes }
    }

    fn said(cuts: &[SplitShard]) -> Vec<(u32, u8, u32)> {
        cuts.iter().map(|cut| (cut.shard.0, cut.at[0], cut.new.0)).collect()
    }

    #[test]
    fn a_small_table_stays_whole() {
        let weights: Vec<_> = (0..10).map(|key| weight(key, 10)).collect();
        assert_eq!(cuts(&[shard(0, b"")], ShardId(1), &weights, 100), []);
    }

    #[test]
    fn a_large_one_is_cut_evenly_and_each_cut_cuts_the_piece_of_the_last() {
        let weights: Vec<_> = (0..40).map(|key| weight(key, 10)).collect();
        let cuts = cuts(&[shard(0, b"")], ShardId(1), &weights, 100);
        assert_eq!(said(&cuts), [(0, 10, 1), (1, 20, 2), (2, 30, 3)]);
    }

    #[test]
    fn only_the_shard_that_grows_too_big_is_cut() {
        let weights: Vec<_> = (0..40).map(|key| weight(key, if key < 20 { 1 } else { 10 })).collect();
        let cuts = cuts(&[shard(7, b""), shard(3, b"\x14")], ShardId(8), &weights, 100);
        assert_eq!(said(&cuts), [(3, 30, 8)]);
    }

    #[test]
    fn one_heavy_key_cannot_be_cut() {
        let cuts = cuts(&[shard(0, b"")], ShardId(1), &[weight(5, 1_000), weight(6, 1)], 100);
        assert_eq!(said(&cuts), [(0, 6, 1)]);
    }

    proptest! {
        #[test]
        fn cuts_lie_strictly_inside_their_pieces_and_leave_none_too_big(
            weights in proptest::collection::vec((any::<u8>(), 1..50u64), 0..300),
            starts in proptest::collection::btree_set(1..255u8, 0..4),
        ) {
            let mut weights: Vec<_> = weights.into_iter().map(|(key, bytes)| weight(key, bytes)).collect();
            weights.sort_by(|one, other| one.at.cmp(&other.at));
            let mut starts: Vec<Bytes> = starts.into_iter().map(|key| Bytes::copy_from_slice(&[key])).collect();
            starts.insert(0, Bytes::new());
            let mut shards: Vec<Shard> = starts
                .iter()
                .enumerate()
                .map(|(id, start)| Shard { start: start.clone(), ..shard(id as u32, b"") })
                .collect();
            let limit = 1_000;
            for cut in cuts(&shards, ShardId(shards.len() as u32), &weights, limit) {
                let at = shards.iter().position(|shard| shard.id == cut.shard).unwrap();
                prop_assert!(shards[at].start < cut.at);
                prop_assert!(shards.get(at + 1).is_none_or(|next| cut.at < next.start));
                prop_assert_eq!(cut.new.0 as usize, shards.len());
                shards.insert(at + 1, Shard { id: cut.new, start: cut.at, ..shards[at].clone() });
            }
            for (nth, shard) in shards.iter().enumerate() {
                let end = shards.get(nth + 1).map(|next| &next.start);
                let inside: Vec<_> = weights
                    .iter()
                    .filter(|weight| weight.at >= shard.start && end.is_none_or(|end| weight.at < end))
                    .collect();
                let bytes: u64 = inside.iter().map(|weight| weight.bytes).sum();
                // Too big by less than two of the heaviest keys.
                let mut of_key = std::collections::BTreeMap::new();
                for weight in inside {
                    *of_key.entry(weight.at.clone()).or_insert(0) += weight.bytes;
                }
                let heaviest = of_key.values().copied().max().unwrap_or(0);
                prop_assert!(bytes <= limit + 2 * heaviest, "{bytes} in shard {nth}");
            }
        }
    }
}
