//! Random edits: the manifest accepts what the naive state accepts, and they stay the same.

use crate::naive::Naive;
use crate::support::*;
use nacre_manifest::*;
use nacre_types::*;
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    /// Which covered offset to claim (0 = the right one), how far, and the bounds of the segments.
    Flush {
        stale: bool,
        length: u64,
        bounds: Vec<u8>,
        exact: bool,
    },
    Open {
        replace: bool,
        version: i64,
        key: Option<u128>,
    },
    Pin(usize),
    Prepare(usize, Vec<u8>),
    Commit(usize, bool),
    Fail(usize),
    Cancel(usize),
    Revert(usize),
    Seal(usize),
    Forget(usize),
    DropFloor(usize),
    Wait(i64),
    OpenJob(u8),
    CloseJob(u8),
    /// Job, which segments, whether the outputs keep exact places where they can.
    Compact {
        job: u8,
        picks: Vec<usize>,
        exact: bool,
        near: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let bounds = || vec(0u8..12, 0..6);
    let load = || 0usize..6;
    prop_oneof![
        4 => (prop::bool::weighted(0.1), 1u64..4, bounds(), any::<bool>())
            .prop_map(|(stale, length, bounds, exact)| Step::Flush { stale, length, bounds, exact }),
        4 => (any::<bool>(), 90i64..110, prop::option::weighted(0.2, 0u128..3))
            .prop_map(|(replace, version, key)| Step::Open { replace, version, key }),
        4 => load().prop_map(Step::Pin),
        4 => (load(), bounds()).prop_map(|(load, bounds)| Step::Prepare(load, bounds)),
        5 => (load(), any::<bool>()).prop_map(|(load, insist)| Step::Commit(load, insist)),
        1 => load().prop_map(Step::Fail),
        1 => load().prop_map(Step::Cancel),
        1 => load().prop_map(Step::Revert),
        4 => load().prop_map(Step::Seal),
        1 => load().prop_map(Step::Forget),
        1 => load().prop_map(Step::DropFloor),
        2 => (0i64..60).prop_map(Step::Wait),
        2 => (0u8..3).prop_map(Step::OpenJob),
        1 => (0u8..3).prop_map(Step::CloseJob),
        6 => (0u8..3, vec(0usize..30, 1..5), any::<bool>(), any::<bool>())
            .prop_map(|(job, picks, exact, near)| Step::Compact { job, picks, exact, near }),
    ]
}

struct Run {
    manifest: Manifest,
    naive: Naive,
    now: i64,
    minted: u128,
}

/// Disjoint ranges between sorted bounds.
fn ranges(bounds: &[u8]) -> Vec<(String, String)> {
    let mut bounds = bounds.to_vec();
    bounds.sort_unstable();
    bounds.dedup();
    let name = |bound: u8| char::from(b'a' + bound).to_string();
    bounds.chunks_exact(2).map(|pair| (name(pair[0]), name(pair[1]))).collect()
}

impl Run {
    fn new() -> Self {
        let create =
            Change::CreateTable { settings: TableSettings::default(), shards: vec![Shard::whole(P0)] };
        let manifest = Manifest::empty(TABLE).apply(Seq(1), &Edit::one(create, NOW)).unwrap();
        Self { manifest, naive: Naive { seq: 1, ..Naive::default() }, now: NOW, minted: 100 }
    }

    fn mint(&mut self) -> u128 {
        self.minted += 1;
        self.minted
    }

    /// The load of a small number, counted from the newest: mostly of those that the step is for, else of all.
    fn load(&self, number: usize, fits: impl Fn(&Load) -> bool) -> LoadId {
        let fitting: Vec<_> = self.manifest.loads().filter(|load| number == 5 || fits(load)).collect();
        let at = number.checked_rem(fitting.len()).unwrap_or(0);
        fitting.iter().rev().nth(at).map_or(LoadId(1), |load| load.id)
    }

    fn change(&mut self, step: Step) -> Option<Change> {
        let reason = String::from("so");
        Some(match step {
            Step::Flush { stale, length, bounds, exact } => {
                let from = self.manifest.covered(P0).0 + u64::from(stale);
                let span = span(from, from + length);
                let segments = ranges(&bounds)
                    .iter()
                    .map(|(min, max)| Segment {
                        with_place: exact,
                        exact_places: exact,
                        ..flushed(self.mint(), min, max, span)
                    })
                    .collect();
                flush(from, from + length, segments)
            }
            Step::Open { replace, version, key } => {
                let mode = if replace { LoadMode::Replace } else { LoadMode::Merge };
                match open_load(self.mint(), mode, version) {
                    Change::OpenLoad(open) => Change::OpenLoad(OpenLoad { idempotency: key, ..open }),
                    other => other,
                }
            }
            Step::Pin(load) => pin(self.load(load, |load| load.state == LoadState::Open).0),
            Step::Prepare(load, bounds) => {
                let load = self.load(load, |load| load.state == LoadState::Pinned);
                let segments = ranges(&bounds)
                    .iter()
                    .map(|(min, max)| by_job(self.mint(), min, max, Layer::Loaded(load), job_of(load.0)))
                    .collect();
                prepare(load.0, segments)
            }
            Step::Commit(load, insist) => {
                let load = self.load(load, |load| load.state == LoadState::Prepared);
                Change::CommitLoad { load, insist }
            }
            Step::Fail(load) => {
                let load = self.load(load, |load| load.state.is_under_way());
                Change::FailLoad { load, reason, report_path: None }
            }
            Step::Cancel(load) => {
                let load = self.load(load, |load| load.state.is_under_way());
                Change::CancelLoad { load, reason }
            }
            Step::Revert(load) => {
                let load = self.load(load, Load::is_unsealed);
                Change::RevertLoad { load, reason }
            }
            Step::Seal(load) => Change::SealLoad { load: self.load(load, Load::is_unsealed) },
            Step::Forget(load) => {
                let load = self.load(load, |load| !load.state.is_under_way());
                Change::ForgetLoad { load }
            }
            Step::DropFloor(load) => {
                let load = self.load(load, |load| load.mode == LoadMode::Replace && load.sealed);
                Change::DropFloor { load }
            }
            Step::Wait(minutes) => {
                self.now += minutes * MINUTE;
                return None;
            }
            Step::OpenJob(job) => Change::OpenJob { job: JobId(job.into()), kind: JobKind::Compaction },
            Step::CloseJob(job) => Change::CloseJob { job: JobId(job.into()) },
            Step::Compact { job, picks, exact, near } => self.compact(job, &picks, exact, near)?,
        })
    }

    fn compact(&mut self, job: u8, picks: &[usize], exact: bool, near: bool) -> Option<Change> {
        let mut all: Vec<_> = self.manifest.segments().map(|segment| segment.to_segment()).collect();
        // Neighbours in the log are merged more often than strangers.
        all.sort_by_key(|segment| (segment.layer.streamed().map(|span| span.from), segment.id));
        let first = *picks.first()?;
        let mut inputs: Vec<Segment> = picks
            .iter()
            .enumerate()
            .filter_map(|(index, pick)| {
                let at = if near { first + index } else { *pick };
                all.get(at % all.len().max(1)).cloned()
            })
            .collect();
        inputs.sort_by_key(|input| input.id);
        inputs.dedup_by_key(|input| input.id);
        let layer = self.manifest.merged_layer(&inputs).unwrap_or(Layer::Streamed(span(0, 1)));
        let with_place = exact || self.manifest.needs_places(&layer, 100);
        let keeps = inputs.iter().all(|input| input.exact_places) && exact;
        let output = Segment {
            min_key: inputs.iter().map(|input| input.min_key.clone()).min()?,
            max_key: inputs.iter().map(|input| input.max_key.clone()).max()?,
            rows: inputs.iter().map(|input| input.rows).sum(),
            with_place,
            exact_places: keeps || matches!(layer, Layer::Loaded(_)),
            ..by_job(self.mint(), "a", "b", layer, job.into())
        };
        Some(Change::Compact(Compact {
            job: JobId(job.into()),
            inputs: inputs.iter().map(|input| input.id).collect(),
            outputs: vec![output],
            drops: None,
        }))
    }

    /// Whether the change held.
    fn apply(&mut self, change: Change) -> bool {
        let expected = self.naive.apply(&change, self.now);
        let edit = Edit::one(change, self.now);
        let edit = Edit::decode(&edit.encode()).unwrap();
        let found = self.manifest.apply(self.manifest.seq().next(), &edit);
        match (found, expected) {
            (Ok(manifest), Some(naive)) => {
                (self.manifest, self.naive) = (manifest, naive);
                true
            }
            (Err(_), None) => false,
            (found, expected) => {
                let verdict = found.map(|_| "held").unwrap_or_else(|refused| panic!("{edit:?}: {refused}"));
                panic!("{edit:?}: it {verdict}, the naive state says {}", expected.is_some());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_manifest_and_the_naive_state_agree(steps in vec(step(), 1..150)) {
        let mut run = Run::new();
        for step in steps {
            if let Some(change) = run.change(step) {
                run.apply(change);
            }
        }
        run.naive.compare(&run.manifest);
        run.manifest.check().unwrap();
        let opened = Manifest::decode(&run.manifest.encode()).unwrap();
        prop_assert!(opened == run.manifest);
        run.naive.compare(&opened);
        for key in ["a", "c", "ca", "f", "l"] {
            let found: Vec<_> = run.manifest.segments_for_key(key.as_bytes()).map(|segment| segment.id()).collect();
            let mut expected: Vec<_> = run.naive.segments.clone();
            expected.retain(|segment| segment.min_key <= key && segment.max_key >= key);
            expected.sort_by(|a, b| (&a.min_key, a.id).cmp(&(&b.min_key, b.id)));
            prop_assert_eq!(found, expected.iter().map(|segment| segment.id).collect::<Vec<_>>());
        }
    }
}

#[test]
fn random_steps_reach_what_they_are_to_test() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut held, mut refused) = ([0; 16], [0; 16]);
    for _ in 0..80 {
        let mut run = Run::new();
        for step in vec(step(), 150).new_tree(&mut runner).unwrap().current() {
            let kind = match &step {
                Step::Flush { .. } => 0,
                Step::Prepare(..) => 1,
                Step::Commit(..) => 2,
                Step::Revert(_) => 3,
                Step::Seal(_) => 4,
                Step::Forget(_) => 5,
                Step::Compact { picks, .. } if picks.len() > 1 => 6,
                _ => 7,
            };
            if let Some(change) = run.change(step) {
                let counts = if run.apply(change) { &mut held } else { &mut refused };
                counts[kind] += 1;
            }
        }
    }
    for kind in 0..7 {
        assert!(held[kind] >= 20 && refused[kind] >= 20, "{kind}: {held:?} held, {refused:?} refused");
    }
}
