//! The rules of the manifest once more, as plainly as can be: lists, walked from end to end.

use crate::support::NOW;
use nacre_manifest::*;
use nacre_types::*;
use std::collections::{BTreeMap, BTreeSet};

const TOKEN: i64 = 15 * 60 * 1_000_000;

#[derive(Clone, Debug)]
pub(crate) struct NaiveLoad {
    pub(crate) id: LoadId,
    pub(crate) job: JobId,
    pub(crate) replace: bool,
    pub(crate) version: i64,
    pub(crate) state: LoadState,
    pub(crate) files: Option<String>,
    pub(crate) commit: Option<(u64, i64)>,
    pub(crate) revert: Option<(u64, i64)>,
    pub(crate) sealed: bool,
    pub(crate) key: Option<u128>,
    pub(crate) ranges: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The state of a table with one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Naive {
    pub(crate) seq: u64,
    pub(crate) covered: u64,
    pub(crate) edition: u64,
    pub(crate) oldest_edition: u64,
    pub(crate) segments: Vec<Segment>,
    pub(crate) loads: Vec<NaiveLoad>,
    /// Commit, version, load, sealed.
    pub(crate) floors: Vec<(u64, i64, LoadId, bool)>,
    pub(crate) jobs: BTreeSet<JobId>,
}

impl Naive {
    /// Applies an edit of one change; `None` = it does not hold.
    pub(crate) fn apply(&self, change: &Change, now: i64) -> Option<Self> {
        let mut next = self.clone();
        next.seq += 1;
        next.change(change, now).then_some(next)
    }

    fn change(&mut self, change: &Change, now: i64) -> bool {
        match change {
            Change::Flush(flush) => {
                let holds = flush.from.0 == self.covered;
                self.covered = flush.to.0;
                self.segments.extend(flush.segments.iter().cloned());
                holds
            }
            Change::OpenLoad(open) => {
                let lives = |load: &&NaiveLoad| {
                    !matches!(load.state, LoadState::Failed | LoadState::Cancelled | LoadState::Reverted)
                };
                let taken = self.loads.iter().any(|load| load.id == open.load)
                    || self
                        .loads
                        .iter()
                        .filter(lives)
                        .any(|load| load.key.is_some() && load.key == open.idempotency);
                self.loads.push(NaiveLoad {
                    id: open.load,
                    job: open.job,
                    replace: open.mode == LoadMode::Replace,
                    version: open.version.unwrap(),
                    state: LoadState::Open,
                    files: None,
                    commit: None,
                    revert: None,
                    sealed: false,
                    key: open.idempotency,
                    ranges: Vec::new(),
                });
                !taken
            }
            Change::PinLoad { load, files_path, .. } => self.with(*load, |load| {
                let holds = load.state == LoadState::Open
                    || (load.state == LoadState::Pinned && load.files.as_ref() == Some(files_path));
                load.state = LoadState::Pinned;
                load.files = Some(files_path.clone());
                holds
            }),
            Change::PrepareLoad(prepare) => {
                self.segments.extend(prepare.segments.iter().cloned());
                let ranges =
                    prepare.segments.iter().map(|s| (s.min_key.to_vec(), s.max_key.to_vec())).collect();
                self.with(prepare.load, |load| {
                    let holds = load.state == LoadState::Pinned;
                    load.state = LoadState::Prepared;
                    load.ranges = ranges;
                    holds
                })
            }
            Change::CommitLoad { load, insist } => self.commit(*load, *insist, now),
            Change::FailLoad { load, .. } => self.end(*load, LoadState::Failed),
            Change::CancelLoad { load, .. } => self.end(*load, LoadState::Cancelled),
            Change::RevertLoad { load, .. } => {
                let seq = self.seq;
                self.edition = seq;
                self.floors.retain(|floor| floor.2 != *load);
                self.with(*load, |load| {
                    let holds = load.state == LoadState::Committed && !load.sealed;
                    load.state = LoadState::Reverted;
                    load.revert = Some((seq, now));
                    holds
                })
            }
            Change::SealLoad { load } => {
                for floor in self.floors.iter_mut().filter(|floor| floor.2 == *load) {
                    floor.3 = true;
                }
                let mut commit = 0;
                let holds = self.with(*load, |load| {
                    let holds = load.state == LoadState::Committed
                        && !load.sealed
                        && load.commit.is_some_and(|(_, at)| now - at >= TOKEN);
                    commit = load.commit.map_or(0, |(seq, _)| seq);
                    load.sealed = true;
                    holds
                });
                self.oldest_edition = self.oldest_edition.max(commit);
                holds
            }
            Change::ForgetLoad { load } => self.forget(*load, now),
            Change::OpenJob { job, .. } => self.jobs.insert(*job),
            Change::CloseJob { job } => self.jobs.remove(job),
            Change::Compact(compact) => self.compact(compact),
            Change::DropFloor { load } => {
                let Some(floor) = self.floors.iter().find(|floor| floor.2 == *load).copied() else {
                    return false;
                };
                // Every load here has rows from version 100 on, or none at all.
                let lowest = |load: LoadId| {
                    self.loads
                        .iter()
                        .find(|l| l.id == load)
                        .map_or(100, |l| if l.ranges.is_empty() { i64::MAX } else { 100 })
                };
                let idle = self.floors.iter().any(|later| {
                    later.3 && later.0 > floor.0 && later.1 >= floor.1 && lowest(later.2) >= floor.1
                });
                self.floors.retain(|floor| floor.2 != *load);
                floor.3 && idle
            }
            other => panic!("the naive state does not know {other:?}"),
        }
    }

    fn with(&mut self, id: LoadId, change: impl FnOnce(&mut NaiveLoad) -> bool) -> bool {
        self.loads.iter_mut().find(|load| load.id == id).is_some_and(change)
    }

    fn load(&self, id: LoadId) -> Option<&NaiveLoad> {
        self.loads.iter().find(|load| load.id == id)
    }

    fn commit(&mut self, id: LoadId, insist: bool, now: i64) -> bool {
        let Some(load) = self.load(id).cloned() else { return false };
        let below = load.replace && self.floors.iter().any(|floor| floor.1 > load.version);
        let hull = |load: &NaiveLoad| {
            let min = load.ranges.iter().map(|range| range.0.clone()).min()?;
            Some((min, load.ranges.iter().map(|range| range.1.clone()).max()?))
        };
        let over = |a: &NaiveLoad, b: &NaiveLoad| match (hull(a), hull(b)) {
            _ if a.replace && b.replace => true,
            (Some(_), _) if b.replace => true,
            (_, Some(_)) if a.replace => true,
            (Some(a), Some(b)) => a.0 <= b.1 && b.0 <= a.1,
            _ => false,
        };
        let unsealed = self
            .loads
            .iter()
            .filter(|other| other.state == LoadState::Committed && !other.sealed && over(&load, other))
            .count();
        let holds = load.state == LoadState::Prepared && (insist || !below) && unsealed < 8;
        let seq = self.seq;
        self.edition = seq;
        if load.replace {
            self.floors.push((seq, load.version, id, false));
        }
        self.with(id, |load| {
            load.state = LoadState::Committed;
            load.commit = Some((seq, now));
            true
        });
        holds
    }

    fn end(&mut self, id: LoadId, state: LoadState) -> bool {
        self.segments.retain(|segment| segment.layer != Layer::Loaded(id));
        self.with(id, |load| {
            let holds = matches!(load.state, LoadState::Open | LoadState::Pinned | LoadState::Prepared);
            load.state = state;
            holds
        })
    }

    fn forget(&mut self, id: LoadId, now: i64) -> bool {
        let Some(load) = self.load(id).cloned() else { return false };
        let alone = self.segments.iter().any(|segment| segment.layer == Layer::Loaded(id));
        let holds = match load.state {
            LoadState::Failed | LoadState::Cancelled => true,
            LoadState::Reverted => load.revert.is_some_and(|(_, at)| now - at >= TOKEN),
            LoadState::Committed => load.sealed && !alone,
            _ => false,
        };
        if let (LoadState::Reverted, Some((seq, _))) = (load.state, load.revert) {
            self.oldest_edition = self.oldest_edition.max(seq);
        }
        self.segments.retain(|segment| segment.layer != Layer::Loaded(id));
        self.loads.retain(|load| load.id != id);
        holds
    }

    /// The places that a segment's rows may have: offsets of the log, and commits.
    fn places(&self, segment: &Segment) -> (BTreeSet<u64>, BTreeSet<u64>) {
        let streamed =
            segment.layer.streamed().map(|span| (span.from.0..span.to.0).collect()).unwrap_or_default();
        let commits = match segment.layer {
            Layer::Loaded(load) => {
                self.load(load).and_then(|load| load.commit).map(|(seq, _)| seq).into_iter().collect()
            }
            Layer::Mixed { loads, .. } => (loads.0.0..=loads.1.0).collect(),
            Layer::Streamed(_) => BTreeSet::new(),
        };
        (streamed, commits)
    }

    fn compact(&mut self, compact: &Compact) -> bool {
        let inputs: Vec<_> = compact
            .inputs
            .iter()
            .filter_map(|id| self.segments.iter().find(|s| s.id == *id).cloned())
            .collect();
        if inputs.len() != compact.inputs.len() || inputs.is_empty() || !self.jobs.contains(&compact.job) {
            return false;
        }
        let first = inputs[0].layer;
        let one_load = matches!(first, Layer::Loaded(_)) && inputs.iter().all(|input| input.layer == first);
        let unsealed = |segment: &Segment| {
            segment.layer.load().is_some_and(|load| !self.load(load).is_some_and(|load| load.sealed))
        };
        if inputs.iter().any(unsealed) && !one_load {
            return false;
        }
        let exact = inputs.iter().chain(&compact.outputs).all(|segment| segment.exact_places);
        if !exact && self.has_between(&inputs) {
            return false;
        }
        self.segments.retain(|segment| !compact.inputs.contains(&segment.id));
        self.segments.extend(compact.outputs.iter().cloned());
        true
    }

    /// Whether a row that is no input's, in their range of keys, may have a place within theirs.
    fn has_between(&self, inputs: &[Segment]) -> bool {
        let min = inputs.iter().map(|input| &input.min_key).min().unwrap();
        let max = inputs.iter().map(|input| &input.max_key).max().unwrap();
        let fill = |set: &BTreeSet<u64>| -> BTreeSet<u64> {
            set.first().zip(set.last()).map(|(first, last)| (*first..=*last).collect()).unwrap_or_default()
        };
        let places: Vec<_> = inputs.iter().map(|input| self.places(input)).collect();
        let offsets = fill(&places.iter().flat_map(|place| place.0.clone()).collect());
        let commits = fill(&places.iter().flat_map(|place| place.1.clone()).collect());
        self.segments.iter().any(|other| {
            let outside = inputs.iter().all(|input| input.id != other.id)
                && other.min_key <= *max
                && *min <= other.max_key;
            let (their_offsets, their_commits) = self.places(other);
            // One and the same place is not between.
            let same_offsets =
                places.iter().all(|(offsets, _)| offsets.is_empty() || *offsets == their_offsets);
            let same_commit = commits.len() == 1 && commits == their_commits;
            outside
                && ((!same_offsets && !offsets.is_disjoint(&their_offsets))
                    || (!same_commit && !commits.is_disjoint(&their_commits)))
        })
    }

    /// The loads that count at an edition, with their floors; `None` = gone or not reached.
    pub(crate) fn at_edition(&self, edition: u64) -> Option<(BTreeSet<LoadId>, BTreeSet<u64>)> {
        if edition > self.seq || edition < self.oldest_edition {
            return None;
        }
        let counts = |load: &&NaiveLoad| {
            load.commit.is_some_and(|(seq, _)| seq <= edition)
                && load.revert.is_none_or(|(seq, _)| seq > edition)
        };
        let loads = self.loads.iter().filter(counts).map(|load| load.id).collect();
        let put_back = self.loads.iter().filter(counts).filter(|load| load.revert.is_some() && load.replace);
        let floors = self.floors.iter().map(|floor| floor.0).filter(|seq| *seq <= edition);
        Some((loads, floors.chain(put_back.filter_map(|load| load.commit.map(|(seq, _)| seq))).collect()))
    }

    /// Holds the manifest against all of this.
    pub(crate) fn compare(&self, manifest: &Manifest) {
        assert_eq!((manifest.seq().0, manifest.edition().0), (self.seq, self.edition));
        assert_eq!(manifest.covered(PartitionId(0)).0, self.covered);
        let by_id = |segments: Vec<Segment>| -> BTreeMap<SegmentId, Segment> {
            segments.into_iter().map(|segment| (segment.id, segment)).collect()
        };
        let found = by_id(manifest.segments().map(|segment| segment.to_segment()).collect());
        assert_eq!(found, by_id(self.segments.clone()));
        let states = |load: &Load| (load.id, load.state, load.sealed, load.commit.map(|seq| seq.0));
        let found: Vec<_> = manifest.loads().map(states).collect();
        let expected: Vec<_> = self
            .loads
            .iter()
            .map(|load| (load.id, load.state, load.sealed, load.commit.map(|(seq, _)| seq)))
            .collect();
        assert_eq!(found, expected);
        let found: Vec<_> = manifest
            .floors()
            .iter()
            .map(|floor| (floor.commit.0, floor.version, floor.load, floor.sealed))
            .collect();
        assert_eq!(found, self.floors);
        for edition in 0..=self.seq + 1 {
            let filter = manifest.at_edition(Seq(edition)).ok();
            let shown = filter.map(|filter| {
                let loads = manifest
                    .loads()
                    .map(|load| load.id)
                    .filter(|load| filter.place_of(*load).is_some())
                    .collect();
                (loads, filter.floors().iter().map(|floor| floor.commit.0).collect())
            });
            assert_eq!(shown, self.at_edition(edition), "edition {edition}");
        }
        for (job, load) in self.loads.iter().map(|load| (load.job, load)) {
            let under_way = matches!(load.state, LoadState::Open | LoadState::Pinned | LoadState::Prepared);
            assert_eq!(manifest.is_job_open(job), under_way);
        }
        assert!(manifest.at_micros() >= NOW);
    }
}
