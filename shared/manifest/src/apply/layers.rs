//! Which positions and loads a set of segments holds, and whether others lie between.

use super::malformed;
use crate::{Layer, Manifest, Refused, RefusedReason, Segment, SegmentRef, StreamedSpan};
use nacre_types::{LoadId, Seq};

/// What the inputs of a compaction hold.
#[derive(Debug, Default)]
pub(super) struct Hull {
    /// Per partition the smallest span that holds all, and whether each input's is exactly that.
    spans: Vec<(StreamedSpan, bool)>,
    /// Lowest and highest commit.
    commits: Option<(Seq, Seq)>,
    /// The one load that all inputs are of.
    pub(super) only: Option<LoadId>,
}

impl Hull {
    /// # Errors
    /// `Unsealed` for a load that can still be undone beside anything else; `Malformed` for positions of several
    /// generations of a partition.
    pub(super) fn of(manifest: &Manifest, segments: &[Segment]) -> Result<Self, Refused> {
        let mut hull = Self::default();
        let alone = segments.first().and_then(|segment| segment.layer.load());
        hull.only = alone.filter(|load| segments.iter().all(|segment| segment.layer.load() == Some(*load)));
        for segment in segments {
            if let Some(span) = segment.layer.streamed() {
                hull.add_span(span)?;
            }
            match segment.layer {
                Layer::Mixed { loads: (low, high), .. } => hull.add_commits(low, high),
                Layer::Loaded(id) => {
                    let load = manifest.load(id).filter(|load| load.sealed);
                    match load.and_then(|load| load.commit) {
                        Some(commit) => hull.add_commits(commit, commit),
                        None if hull.only.is_some() => {}
                        None => {
                            return Err(Refused::new(
                                RefusedReason::Unsealed(id),
                                format!(
                                    "load {id} can still be undone, so its segments are merged with no others"
                                ),
                            ));
                        }
                    }
                }
                Layer::Streamed(_) => {}
            }
        }
        Ok(hull)
    }

    fn add_span(&mut self, span: StreamedSpan) -> Result<(), Refused> {
        let known = self.spans.iter_mut().find(|(known, _)| known.partition == span.partition);
        let Some((known, same)) = known else {
            self.spans.push((span, true));
            return Ok(());
        };
        if known.generation != span.generation {
            return Err(malformed(format!(
                "positions of generations {} and {} of partition {} in one compaction",
                known.generation, span.generation, span.partition
            )));
        }
        *same &= *known == span;
        known.from = known.from.min(span.from);
        known.to = known.to.max(span.to);
        Ok(())
    }

    fn add_commits(&mut self, low: Seq, high: Seq) {
        let (known_low, known_high) = self.commits.unwrap_or((low, high));
        self.commits = Some((known_low.min(low), known_high.max(high)));
    }

    /// The layer of an output, where all streamed rows are of one partition.
    pub(super) fn layer(&self) -> Result<Layer, Refused> {
        let streamed = match &self.spans[..] {
            [] => None,
            [(span, _)] => Some(*span),
            _ => {
                return Err(malformed(
                    "one segment holds streamed rows of one partition only: cut the outputs there",
                ));
            }
        };
        match (streamed, self.commits, self.only) {
            (None, _, Some(load)) => Ok(Layer::Loaded(load)),
            (Some(span), None, _) => Ok(Layer::Streamed(span)),
            (streamed, Some(loads), _) => Ok(Layer::Mixed { streamed, loads }),
            (None, None, None) => Err(malformed("no inputs")),
        }
    }

    /// Whether an output may say that it is of this layer: it claims nothing that is not among the inputs.
    pub(super) fn holds(&self, layer: &Layer) -> bool {
        let span_held = |span: StreamedSpan| {
            self.spans.iter().any(|(known, _)| {
                known.partition == span.partition
                    && known.generation == span.generation
                    && known.from <= span.from
                    && span.to <= known.to
            })
        };
        match layer {
            Layer::Loaded(load) => self.only == Some(*load),
            Layer::Streamed(span) => span_held(*span),
            Layer::Mixed { streamed, loads: (low, high) } => {
                // The rows of a load that can still be undone stay under its name.
                let commits = self
                    .commits
                    .is_some_and(|(known_low, known_high)| known_low <= *low && *high <= known_high);
                commits && streamed.is_none_or(span_held)
            }
        }
    }

    /// Whether a segment that is no input has rows between those of the inputs: then a row of an input and one of that
    /// segment could not be told apart by the place that the output lends its rows. Committed loads count, reverted
    /// ones too, since a page token can put them back; one that is not committed will rank above all.
    pub(super) fn has_between(&self, manifest: &Manifest, other: &SegmentRef<'_>) -> bool {
        let layer = other.layer();
        if let (Some(only), Layer::Loaded(load)) = (self.only, layer)
            && only == load
        {
            return false;
        }
        let commits = match layer {
            Layer::Mixed { loads, .. } => Some(loads),
            Layer::Loaded(load) => {
                manifest.load(load).and_then(|load| load.commit).map(|commit| (commit, commit))
            }
            Layer::Streamed(_) => None,
        };
        let commit_between = match (self.commits, commits) {
            (Some((low, high)), Some((other_low, other_high))) => {
                // Rows of one and the same commit have one place wherever they lie.
                let same = low == high && other_low == other_high && low == other_low;
                !same && other_low <= high && low <= other_high
            }
            _ => false,
        };
        commit_between || layer.streamed().is_some_and(|span| self.has_span_between(span))
    }

    fn has_span_between(&self, other: StreamedSpan) -> bool {
        self.spans.iter().any(|(span, all_same)| {
            span.partition == other.partition
                && span.generation == other.generation
                && !(*all_same && *span == other)
                && other.from < span.to
                && span.from < other.to
        })
    }
}

impl Manifest {
    /// The layer of a compaction's output made of rows of `inputs`: the inputs of the job whose key ranges overlap the
    /// output's.
    ///
    /// # Errors
    /// [`Refused`] where they cannot be merged: an unsealed load with others, several generations, or streamed rows of
    /// several partitions (cut the outputs at the shards' bounds, and pass each its own inputs).
    pub fn merged_layer(&self, inputs: &[Segment]) -> Result<Layer, Refused> {
        Hull::of(self, inputs)?.layer()
    }

    /// Whether a segment of this layer, with rows of versions from `min_version` on, needs a `rank` column: it holds
    /// streamed and loaded rows, or those of several loads that a floor committed among them tells apart.
    pub fn needs_places(&self, layer: &Layer, min_version: i64) -> bool {
        match layer {
            Layer::Streamed(_) | Layer::Loaded(_) => false,
            Layer::Mixed { streamed: Some(_), .. } => true,
            Layer::Mixed { streamed: None, loads: (low, high) } => {
                let tells_apart =
                    |version: i64, commit: Seq| version >= min_version && *low <= commit && commit <= *high;
                let floors = self.floors().iter().any(|floor| tells_apart(floor.version, floor.commit));
                let restorable = || {
                    self.loads().any(|load| {
                        load.commit
                            .and_then(|commit| load.floor(commit))
                            .is_some_and(|floor| tells_apart(floor.version, floor.commit))
                    })
                };
                low < high && (floors || restorable())
            }
        }
    }
}
