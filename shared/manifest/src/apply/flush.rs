//! Rows of the log that are now in segments.

use super::{Draft, malformed};
use crate::{
    Flush, Layer, Location, Refused, RefusedReason, StreamedSpan, is_source_partition, source_generation,
};
use nacre_types::Offset;

impl Draft {
    /// `from` must be the covered offset. Two writers that both believe to own the partition fence each other by that
    /// alone: whoever comes second finds the offset moved. So it is with the partitions of a source; those of one that was
    /// removed or replaced take nothing any more.
    pub(super) fn flush(&mut self, flush: &Flush) -> Result<(), Refused> {
        let Flush { partition, generation, from, to, .. } = *flush;
        let is_source = is_source_partition(partition);
        let covered = if is_source {
            let held = self.next.source.as_ref().is_some_and(|source| source.partitions.contains(&partition));
            held.then(|| self.next.covered(partition))
        } else {
            self.next.covered.get(&partition).copied()
        };
        let Some(covered) = covered else {
            return Err(Refused::new(
                RefusedReason::UnknownPartition(partition),
                format!("the table has no partition {partition}"),
            ));
        };
        if from != covered {
            return Err(Refused::new(
                RefusedReason::NotCovered { covered },
                format!(
                    "the flush of partition {partition} begins at {from}, and the table covers up to {covered}"
                ),
            ));
        }
        if to <= from || to > Offset(1 << 48) {
            return Err(malformed(format!("a flush from {from} to {to} covers nothing, or what no log has")));
        }
        if is_source && generation != source_generation(partition) {
            return Err(malformed(format!(
                "rows of partition {partition} are not of generation {generation}"
            )));
        }
        self.check_segments(&flush.segments)?;
        self.check_disjoint(&flush.segments)?;
        let layer = Layer::Streamed(StreamedSpan { partition, generation, from, to });
        let location = Location::Flush { partition, from };
        for segment in &flush.segments {
            if segment.layer != layer || segment.location != location {
                return Err(malformed(format!(
                    "segment {} of a flush of partition {partition} from {from} to {to} says it is something else",
                    segment.id
                )));
            }
            // Keys of a topic lie in its partitions as somebody else saw fit.
            let at_home = is_source
                || [&segment.min_key, &segment.max_key]
                    .into_iter()
                    .all(|key| self.next.shard_of(key).is_some_and(|shard| shard.partition == partition));
            if !at_home {
                return Err(Refused::new(
                    RefusedReason::UnknownPartition(partition),
                    format!("segment {} has keys whose shard is not on partition {partition}", segment.id),
                ));
            }
        }
        if let Some(drops) = &flush.drops {
            self.admit_drops(drops)?;
        }
        self.exchange(&[], &flush.segments)?;
        self.next.set_covered(partition, to);
        Ok(())
    }
}
