use super::*;
use bytes::Bytes;
use nacre_manifest::{Edit, JobKind, LoadGoal, LoadMode, OpenLoad, PrepareLoad, Shard};
use nacre_types::{Generation, JobId, LoadId, PartitionId, Seq, ShardId, TableId, TableSettings};

/// A table whose edits are made at chosen moments.
struct Told(Manifest);

impl Told {
    fn new() -> Self {
        let shard = Shard {
            id: ShardId(0),
            start: Bytes::new(),
            partition: PartitionId(0),
            generation: Generation(0),
        };
        let create = Change::CreateTable { settings: TableSettings::default(), shards: vec![shard] };
        Self(Manifest::empty(TableId(1)).apply(Seq(1), &Edit::one(create, 0)).unwrap())
    }

    fn at(&mut self, moment: i64, change: Change) {
        self.0 = self.0.apply(self.0.seq().next(), &Edit::one(change, moment)).unwrap();
    }

    fn open(&mut self, load: u128, moment: i64) {
        self.at(
            moment,
            Change::OpenLoad(OpenLoad {
                load: LoadId(load),
                job: JobId(load),
                mode: LoadMode::Merge,
                version: Some(1),
                begun_at_micros: moment,
                idempotency: None,
                body_hash: 0,
                body: Bytes::new(),
            }),
        );
    }

    fn prepare(&mut self, load: u128, moment: i64) {
        let (load, job) = (LoadId(load), JobId(load));
        let pin = Change::PinLoad { load, files_path: "f".to_owned(), goal: LoadGoal::Prepare };
        self.at(moment, pin);
        let prepare = PrepareLoad { load, job, segments: Vec::new(), rows_hidden: 0, report_path: None };
        self.at(moment, Change::PrepareLoad(prepare));
    }

    fn commit(&mut self, load: u128, moment: i64) {
        self.at(moment, Change::CommitLoad { load: LoadId(load), insist: false });
    }

    /// Does what is due, and that it can be done at this moment is part of the test.
    fn tidy(&mut self, moment: i64) -> Vec<Change> {
        let changes = due(&self.0, moment);
        if !changes.is_empty() {
            let edit = Edit { changes: changes.clone(), at_micros: moment };
            self.0 = self.0.apply(self.0.seq().next(), &edit).unwrap();
        }
        changes
    }

    fn state(&self, load: u128) -> Option<Stored> {
        self.0.load(LoadId(load)).map(|load| load.state)
    }
}

#[test]
fn an_open_load_lapses_after_a_week_and_is_forgotten_two_weeks_later() {
    let mut table = Told::new();
    table.open(1, 5);
    assert!(table.tidy(WEEK + 4).is_empty());
    assert_eq!(table.tidy(WEEK + 5).len(), 1);
    assert_eq!(table.state(1), Some(Stored::Cancelled));
    assert!(!table.0.is_job_open(JobId(1)), "its objects are garbage from here on");
    assert!(table.tidy(3 * WEEK + 4).is_empty());
    assert_eq!(table.tidy(3 * WEEK + 5), [Change::ForgetLoad { load: LoadId(1) }]);
    assert_eq!(table.state(1), None);
}

#[test]
fn a_prepared_load_has_a_week_at_least() {
    let mut table = Told::new();
    table.open(1, 0);
    table.prepare(1, WEEK - 1);
    assert!(table.tidy(2 * WEEK - 1).is_empty());
    assert_eq!(table.state(1), Some(Stored::Prepared));
    assert_eq!(table.tidy(2 * WEEK).len(), 1);
    assert_eq!(table.state(1), Some(Stored::Cancelled));
    assert_eq!(table.tidy(3 * WEEK).len(), 1);
    assert_eq!(table.state(1), None);
}

#[test]
fn a_load_whose_files_are_pinned_and_that_no_loader_ends_lapses_too() {
    let mut table = Told::new();
    table.open(1, 0);
    let pin = Change::PinLoad { load: LoadId(1), files_path: "f".to_owned(), goal: LoadGoal::Commit };
    table.at(1, pin);
    assert!(table.tidy(2 * WEEK - 1).is_empty());
    assert_eq!(table.tidy(2 * WEEK).len(), 1);
}

#[test]
fn a_committed_load_is_sealed_when_its_window_is_over_and_forgotten_when_nothing_of_it_is_left() {
    let mut table = Told::new();
    table.open(1, 0);
    table.prepare(1, 0);
    table.commit(1, 7);
    assert!(table.tidy(DAY + 6).is_empty());
    assert_eq!(table.tidy(DAY + 7), [Change::SealLoad { load: LoadId(1) }]);
    assert!(table.tidy(30 * DAY + 6).is_empty());
    assert_eq!(table.tidy(30 * DAY + 7), [Change::ForgetLoad { load: LoadId(1) }]);
}

#[test]
fn a_reverted_load_is_forgotten_a_week_after_its_revert() {
    let mut table = Told::new();
    table.open(1, 0);
    table.prepare(1, 0);
    table.commit(1, 0);
    table.at(9, Change::RevertLoad { load: LoadId(1), reason: "no".to_owned() });
    assert!(table.tidy(WEEK + 8).is_empty());
    assert_eq!(table.tidy(WEEK + 9), [Change::ForgetLoad { load: LoadId(1) }]);
}

#[test]
fn a_job_of_a_process_that_died_is_closed_after_a_day() {
    let mut table = Told::new();
    table.at(3, Change::OpenJob { job: JobId(9), kind: JobKind::Compaction });
    assert!(table.tidy(DAY + 2).is_empty());
    assert_eq!(table.tidy(DAY + 3), [Change::CloseJob { job: JobId(9) }]);
    assert!(!table.0.is_job_open(JobId(9)));
}
