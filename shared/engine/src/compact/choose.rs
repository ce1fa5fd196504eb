//! Which segments are merged next: a pure decision over a manifest.
//!
//! The segments of one flush or compaction share a span of the log and have disjoint key ranges: a *run*. A get looks
//! into at most one segment of each run, so runs are what is counted. Runs of one partition follow each other in the
//! log. Whenever [`RUNS_MERGED`] neighbours are of about one size, they become one (size-tiered compaction): a row is
//! rewritten once per tier, and with a factor of four the number of runs grows with the logarithm of the table's
//! streamed bytes. Where more runs than [`RUNS_MOST`] stand, the cheapest neighbours are merged whatever their sizes.
//!
//! Only streamed segments are merged, and only whole runs that follow each other without a gap: that is what the
//! manifest's contiguity rule asks for. Loads keep their layers.

use nacre_manifest::{Manifest, SegmentRef, StreamedSpan};
use nacre_types::SegmentId;

/// Neighbours of about one size that are merged into one.
const RUNS_MERGED: usize = 4;
/// Runs are of about one size when the largest is at most this many times the smallest.
const SIZE_RATIO: u64 = 4;
/// With more runs than this in one partition some are merged whatever their sizes.
const RUNS_MOST: usize = 9;
/// Runs below this size are all taken to be of this size.
const RUN_BYTES_MIN: u64 = 4 << 20;

/// A merge to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionPlan {
    /// The segments that are merged.
    pub inputs: Vec<SegmentId>,
    /// The positions of the log that the outputs hold.
    pub span: StreamedSpan,
    /// Bytes of the inputs.
    pub bytes: u64,
}

#[derive(Debug, Clone)]
struct Run {
    span: StreamedSpan,
    bytes: u64,
    inputs: Vec<SegmentId>,
}

/// The next merge, if one is due.
pub fn choose(manifest: &Manifest) -> Option<CompactionPlan> {
    let mut runs = runs(manifest.segments());
    runs.sort_by_key(|run| (run.span.partition, run.span.generation, run.span.from));
    runs.chunk_by(|a, b| a.span.partition == b.span.partition && a.span.generation == b.span.generation)
        .filter_map(choose_in_partition)
        .min_by_key(|plan| plan.bytes)
}

fn runs<'a>(segments: impl Iterator<Item = SegmentRef<'a>>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut by_span = hashbrown::HashMap::new();
    for segment in segments {
        let nacre_manifest::Layer::Streamed(span) = segment.layer() else { continue };
        let at = *by_span.entry(span).or_insert_with(|| {
            runs.push(Run { span, bytes: 0, inputs: Vec::new() });
            runs.len() - 1
        });
        if let Some(run) = runs.get_mut(at) {
            run.bytes += segment.bytes();
            run.inputs.push(segment.id());
        }
    }
    runs
}

/// `runs` in the order of the log. Spans between them that no run has are empty: their rows were dropped, or there
/// were none.
fn choose_in_partition(runs: &[Run]) -> Option<CompactionPlan> {
    let size = |run: &Run| run.bytes.max(RUN_BYTES_MIN);
    let alike = runs
        .windows(RUNS_MERGED)
        .filter(|window| {
            let largest = window.iter().map(size).max().unwrap_or(0);
            let smallest = window.iter().map(size).min().unwrap_or(0);
            largest <= smallest.saturating_mul(SIZE_RATIO)
        })
        .min_by_key(|window| total(window));
    let forced = || {
        (runs.len() > RUNS_MOST)
            .then(|| runs.windows(runs.len() + 2 - RUNS_MOST).min_by_key(|window| total(window)))
            .flatten()
    };
    alike.or_else(forced).map(plan)
}

fn total(window: &[Run]) -> u64 {
    window.iter().map(|run| run.bytes).sum()
}

fn plan(window: &[Run]) -> CompactionPlan {
    let first = window.first().map_or_else(
        || StreamedSpan {
            partition: nacre_types::PartitionId(0),
            generation: nacre_types::Generation(0),
            from: nacre_types::Offset(0),
            to: nacre_types::Offset(0),
        },
        |run| run.span,
    );
    let to = window.last().map_or(first.to, |run| run.span.to);
    CompactionPlan {
        inputs: window.iter().flat_map(|run| run.inputs.iter().copied()).collect(),
        span: StreamedSpan { to, ..first },
        bytes: total(window),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nacre_types::{Generation, Offset, PartitionId};

    fn run(from: u64, mebibytes: u64) -> Run {
        let span = StreamedSpan {
            partition: PartitionId(0),
            generation: Generation(0),
            from: Offset(from),
            to: Offset(from + 1),
        };
        Run { span, bytes: mebibytes << 20, inputs: vec![SegmentId(u128::from(from))] }
    }

    fn chosen(sizes: &[u64]) -> Option<(u64, u64)> {
        let runs: Vec<Run> = sizes.iter().enumerate().map(|(at, &size)| run(at as u64, size)).collect();
        choose_in_partition(&runs).map(|plan| (plan.span.from.0, plan.span.to.0))
    }

    #[test]
    fn four_neighbours_of_one_size_are_merged() {
        assert_eq!(chosen(&[10, 12, 9]), None);
        assert_eq!(chosen(&[100, 10, 12, 9, 11]), Some((1, 5)));
        assert_eq!(chosen(&[100, 10, 1_000, 9, 11]), None);
    }

    #[test]
    fn tiny_runs_count_as_one_size() {
        assert_eq!(chosen(&[0, 4, 1, 2]), Some((0, 4)));
    }

    #[test]
    fn too_many_runs_are_merged_whatever_their_sizes() {
        let sizes = [1 << 20, 1 << 17, 1 << 14, 1 << 11, 1 << 8, 1 << 5, 1 << 20, 1 << 17, 1 << 14, 1 << 11];
        assert!(chosen(&sizes).is_some());
    }

    #[test]
    fn a_steady_stream_keeps_few_runs() {
        let mut runs: Vec<Run> = Vec::new();
        for minute in 0..500 {
            runs.push(run(minute, 300));
            while let Some(plan) = choose_in_partition(&runs) {
                let at = runs.iter().position(|run| run.span.from == plan.span.from).unwrap();
                let end = runs.iter().position(|run| run.span.to == plan.span.to).unwrap();
                runs.splice(at..=end, [Run { span: plan.span, bytes: plan.bytes, inputs: plan.inputs }]);
            }
            assert!(runs.len() <= 12, "{} runs after {minute} minutes", runs.len());
        }
    }
}
