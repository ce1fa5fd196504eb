//! Every check alone keeps an object that passes all the others.

use super::proof::{Span, Verdict};
use bytes::Bytes;
use nacre_catalog::EncodedEdit;
use nacre_manifest::{
    Change, Compact, Edit, Flush, IndexSpan, JobKind, Layer, LoadGoal, LoadMode, Location, Manifest,
    OpenLoad, PrepareLoad, Segment, Shard, StreamedSpan, index_path, segment_path,
};
use nacre_types::limits::PAGE_TOKEN_MICROS;
use nacre_types::{
    CommitId, Generation, JobId, LoadId, Offset, PartitionId, SegmentId, Seq, ShardId, TableId, TableSettings,
};

const TABLE: TableId = TableId(0xa);
const P: PartitionId = PartitionId(0);
/// The store's date at the mark.
const MARKED: i64 = 1_000_000_000_000;
/// Long before it.
const OLD: i64 = MARKED - 500_000_000_000;

fn commit_id(seq: u64) -> CommitId {
    CommitId(u128::from(seq) + 1_000)
}

fn edit(seq: u64, change: Change, at: i64) -> (Seq, EncodedEdit) {
    let body = Edit::one(change, at).encode();
    (Seq(seq), EncodedEdit { commit_id: commit_id(seq), predecessor: commit_id(seq - 1), body })
}

/// A table before the mark, and what comes after it.
struct Story {
    manifest: Manifest,
    at: i64,
    span: Option<Span>,
}

impl Story {
    fn new() -> Self {
        let shard = Shard { id: ShardId(0), start: Bytes::new(), partition: P, generation: Generation(0) };
        let create = Change::CreateTable { settings: TableSettings::default(), shards: vec![shard] };
        let manifest = Manifest::empty(TABLE).apply(Seq(1), &Edit::one(create, OLD)).unwrap();
        Self { manifest, at: OLD, span: None }
    }

    fn then(&mut self, change: Change) -> &mut Self {
        let (seq, made) = (self.manifest.seq().next(), Edit::one(change.clone(), self.at));
        self.manifest = self.manifest.apply(seq, &made).unwrap();
        if let Some(span) = &mut self.span {
            span.extend(&[edit(seq.0, change, self.at)]).unwrap();
        }
        self
    }

    fn mark(&mut self) -> &mut Self {
        let manifest = self.manifest.clone();
        let commit = commit_id(manifest.seq().0);
        self.span = Some(Span::of(manifest, commit, MARKED));
        self
    }

    fn open(&mut self, load: u128) -> &mut Self {
        let at = self.at;
        self.then(Change::OpenLoad(OpenLoad {
            load: LoadId(load),
            job: JobId(load),
            mode: LoadMode::Merge,
            version: Some(1),
            begun_at_micros: at,
            idempotency: None,
            body_hash: 0,
            body: Bytes::new(),
        }))
    }

    /// With one segment of the load's job, or an adopted one.
    fn prepare(&mut self, load: u128, segment: Segment) -> &mut Self {
        let (load, job) = (LoadId(load), JobId(load));
        self.then(Change::PinLoad { load, files_path: note(job, "files"), goal: LoadGoal::Prepare });
        let report_path = Some(note(job, "report"));
        let segments = vec![segment];
        self.then(Change::PrepareLoad(PrepareLoad { load, job, segments, rows_hidden: 0, report_path }))
    }

    fn pin(&mut self, load: u128, files_path: String) -> &mut Self {
        self.open(load);
        self.then(Change::PinLoad { load: LoadId(load), files_path, goal: LoadGoal::Prepare })
    }

    fn commit(&mut self, load: u128) -> &mut Self {
        self.then(Change::CommitLoad { load: LoadId(load), insist: false })
    }

    fn cancel(&mut self, load: u128) -> &mut Self {
        self.then(Change::CancelLoad { load: LoadId(load), reason: String::new() })
    }

    fn flush(&mut self, from: u64, to: u64, id: u128) -> &mut Self {
        self.then(Change::Flush(Flush {
            partition: P,
            generation: Generation(0),
            from: Offset(from),
            to: Offset(to),
            segments: vec![streamed(from, to, id, None)],
            drops: None,
        }))
    }

    fn compact(&mut self, job: u128, inputs: &[u128], mut output: Segment) -> &mut Self {
        let job = JobId(job);
        self.then(Change::OpenJob { job, kind: JobKind::Compaction });
        let inputs: Vec<SegmentId> = inputs.iter().map(|id| SegmentId(*id)).collect();
        output.rows = inputs.iter().map(|id| self.manifest.segment(*id).unwrap().rows).sum();
        self.then(Change::Compact(Compact { job, inputs, outputs: vec![output], drops: None }));
        self.then(Change::CloseJob { job })
    }

    fn judge_at(&self, path: &str, modified: i64) -> Verdict {
        self.span.as_ref().unwrap().judge(path, modified)
    }

    fn judge(&self, path: &str) -> Verdict {
        self.judge_at(path, OLD)
    }
}

fn segment(id: u128, location: Location, layer: Layer) -> Segment {
    Segment {
        id: SegmentId(id),
        location,
        index: IndexSpan { offset: 10, length: 10 },
        layer,
        min_key: Bytes::from_static(b"a"),
        max_key: Bytes::from_static(b"b"),
        min_version: 1,
        max_version: 1,
        rows: 2,
        tombstones: 0,
        bytes: 100,
        max_expires_at: None,
        with_place: false,
        exact_places: matches!(layer, Layer::Loaded(_)),
    }
}

fn streamed(from: u64, to: u64, id: u128, job: Option<u128>) -> Segment {
    let (from, to) = (Offset(from), Offset(to));
    let location = job.map_or(Location::Flush { partition: P, from }, |job| Location::Job(JobId(job)));
    let span = StreamedSpan { partition: P, generation: Generation(0), from, to };
    segment(id, location, Layer::Streamed(span))
}

fn loaded(load: u128, id: u128) -> Segment {
    segment(id, Location::Job(JobId(load)), Layer::Loaded(LoadId(load)))
}

fn adopted(load: u128, id: u128, path: &str) -> Segment {
    let location = Location::Adopted {
        path: path.to_owned(),
        tag: "t".to_owned(),
        version_id: None,
        index_path: index_path(TABLE, JobId(load), SegmentId(id)),
    };
    segment(id, location, Layer::Loaded(LoadId(load)))
}

fn of_flush(from: u64, id: u128) -> String {
    segment_path(TABLE, &streamed(from, from + 1, id, None))
}

fn of_job(job: u128, id: u128) -> String {
    segment_path(TABLE, &loaded(job, id))
}

fn note(job: JobId, kind: &str) -> String {
    format!("tables/{TABLE}/{job}/{kind}-{:032x}", 1)
}

fn staged(load: u128) -> String {
    format!("staging/{}/a.parquet", LoadId(load))
}

#[test]
fn a_flush_object_goes_once_the_mark_covers_its_offset() {
    let mut story = Story::new();
    story.mark();
    assert_eq!(story.judge(&of_flush(0, 9)), Verdict::MakerLives);
    // Covered since: it has not been so for a grace.
    story.flush(0, 10, 1);
    assert_eq!(story.judge(&of_flush(0, 9)), Verdict::MakerLives);
    story.mark();
    assert_eq!(story.judge(&of_flush(0, 9)), Verdict::Garbage);
    // The one that was committed, and one that may still be.
    assert_eq!(story.judge(&of_flush(0, 1)), Verdict::Named);
    assert_eq!(story.judge(&of_flush(10, 9)), Verdict::MakerLives);
    // Of a partition that the table does not have.
    let path = format!("tables/{TABLE}/p9-0/{}.parquet", SegmentId(9));
    assert_eq!(story.judge(&path), Verdict::MakerLives);
}

#[test]
fn an_object_of_a_job_goes_once_the_job_was_closed_by_the_mark() {
    let mut story = Story::new();
    story.then(Change::OpenJob { job: JobId(5), kind: JobKind::Compaction }).mark();
    assert_eq!(story.judge(&of_job(5, 9)), Verdict::MakerLives);
    story.then(Change::CloseJob { job: JobId(5) });
    assert_eq!(story.judge(&of_job(5, 9)), Verdict::MakerLives);
    // Opened and closed since the mark.
    story.then(Change::OpenJob { job: JobId(6), kind: JobKind::Compaction });
    story.then(Change::CloseJob { job: JobId(6) });
    assert_eq!(story.judge(&of_job(6, 9)), Verdict::MakerLives);
    story.mark();
    assert_eq!([5, 6].map(|job| story.judge(&of_job(job, 9))), [Verdict::Garbage; 2]);
    assert_eq!(story.judge_at(&of_job(5, 9), MARKED), Verdict::Young);
    assert_eq!(story.judge_at(&of_job(5, 9), MARKED - 1), Verdict::Garbage);
}

#[test]
fn a_load_under_way_keeps_all_that_it_has_made() {
    let every = |story: &Story| {
        let unit = format!("tables/{TABLE}/{}/units/look-00000-{:032x}", JobId(7), 3);
        let index = index_path(TABLE, JobId(7), SegmentId(8));
        [of_job(7, 9), unit, index, note(JobId(7), "files"), staged(7)].map(|path| story.judge(&path))
    };
    let mut story = Story::new();
    story.open(7).mark();
    assert_eq!(every(&story), [Verdict::MakerLives; 5]);
    story.pin(6, note(JobId(6), "files"));
    let of_pinned = [of_job(6, 9), staged(6)];
    assert_eq!(of_pinned.clone().map(|path| story.judge(&path)), [Verdict::MakerLives; 2]);
    story.mark();
    assert_eq!(of_pinned.map(|path| story.judge(&path)), [Verdict::MakerLives; 2]);
    story.cancel(6).prepare(7, loaded(7, 1)).mark();
    assert_eq!(every(&story), [Verdict::MakerLives; 5]);
    assert_eq!(story.judge(&of_job(7, 1)), Verdict::MakerLives);
    // Begun since the mark.
    story.open(8);
    assert_eq!([of_job(8, 9), staged(8)].map(|path| story.judge(&path)), [Verdict::MakerLives; 2]);
    story.cancel(7);
    assert_eq!(every(&story), [Verdict::MakerLives; 5]);
    story.mark();
    let [run, unit, index, files, file] = every(&story);
    assert_eq!([run, unit, index, file], [Verdict::Garbage; 4]);
    // Shown as long as the load is.
    assert_eq!(files, Verdict::Named);
    assert_eq!(story.judge(&note(JobId(7), "report")), Verdict::Named);
    assert_eq!(story.judge(&of_job(7, 1)), Verdict::Garbage);
    story.then(Change::ForgetLoad { load: LoadId(7) });
    assert_eq!(story.judge(&note(JobId(7), "files")), Verdict::Named);
    story.mark();
    assert_eq!(every(&story), [Verdict::Garbage; 5]);
}

#[test]
fn what_any_manifest_of_the_span_names_stays() {
    let mut story = Story::new();
    story.flush(0, 10, 1).flush(10, 20, 2).mark();
    story.compact(5, &[1, 2], streamed(0, 20, 3, Some(5)));
    // Named at the mark, no more at its end.
    assert_eq!([of_flush(0, 1), of_flush(10, 2)].map(|path| story.judge(&path)), [Verdict::Named; 2]);
    story.mark();
    assert_eq!([of_flush(0, 1), of_flush(10, 2)].map(|path| story.judge(&path)), [Verdict::Garbage; 2]);
    assert_eq!(story.judge(&of_job(5, 3)), Verdict::Named);
    // Named neither at the mark nor at the end, only in between: by an index path that says another job.
    story.flush(20, 30, 4);
    story.compact(6, &[3, 4], streamed(0, 30, 5, Some(6)));
    let between = |id| index_path(TABLE, JobId(0xdead), SegmentId(id));
    assert_eq!(story.judge(&between(4)), Verdict::Named);
    story.flush(30, 40, 6);
    story.compact(8, &[5, 6], streamed(0, 40, 7, Some(8)));
    story.open(9).prepare(9, loaded(9, 8)).cancel(9);
    assert_eq!([4, 5, 6, 8].map(|id| story.judge(&between(id))), [Verdict::Named; 4]);
    story.mark();
    assert_eq!([4, 5, 6, 8].map(|id| story.judge(&between(id))), [Verdict::Garbage; 4]);
    assert_eq!(story.judge(&between(7)), Verdict::Named);
}

#[test]
fn lists_and_reports_stay_by_their_paths_whatever_job_these_say() {
    let foreign = |kind: &str, n: u128| format!("tables/{TABLE}/{}/{kind}-{n:032x}", JobId(0xdead));
    let all = [foreign("files", 1), foreign("report", 2), foreign("files", 3), foreign("report", 4)];
    let tell = |story: &mut Story| {
        let [list, report, other, failure] = all.clone();
        story.pin(7, list);
        let prepare = PrepareLoad {
            load: LoadId(7),
            job: JobId(7),
            segments: vec![loaded(7, 1)],
            rows_hidden: 0,
            report_path: Some(report),
        };
        story.then(Change::PrepareLoad(prepare));
        story.pin(8, other);
        let reason = String::new();
        story.then(Change::FailLoad { load: LoadId(8), reason, report_path: Some(failure) });
    };
    let verdicts = |story: &Story| all.clone().map(|path| story.judge(&path));
    let mut story = Story::new();
    story.mark();
    assert_eq!(verdicts(&story), [Verdict::Garbage; 4]);
    tell(&mut story);
    assert_eq!(verdicts(&story), [Verdict::Named; 4], "told since the mark");
    story.mark();
    assert_eq!(verdicts(&story), [Verdict::Named; 4], "told before the mark");
    // Forgotten since the mark: it is the mark's loads that name them.
    story.cancel(7);
    for load in [7, 8] {
        story.then(Change::ForgetLoad { load: LoadId(load) });
    }
    assert_eq!(verdicts(&story), [Verdict::Named; 4]);
    story.mark();
    assert_eq!(verdicts(&story), [Verdict::Garbage; 4]);
}

#[test]
fn a_load_that_can_be_undone_or_put_back_keeps_its_segments() {
    let mut story = Story::new();
    let stage = staged(7);
    story.open(7).prepare(7, loaded(7, 1)).commit(7).mark();
    assert_eq!(story.judge(&of_job(7, 1)), Verdict::Named);
    // What its producer wrote stays until it is sealed; its runs do not.
    assert_eq!(story.judge(&stage), Verdict::MakerLives);
    assert_eq!(story.judge(&of_job(7, 9)), Verdict::Garbage);
    story.then(Change::RevertLoad { load: LoadId(7), reason: String::new() }).mark();
    assert_eq!(story.judge(&of_job(7, 1)), Verdict::Named);
    assert_eq!(story.judge(&stage), Verdict::Garbage);
    story.at += PAGE_TOKEN_MICROS;
    story.then(Change::ForgetLoad { load: LoadId(7) });
    assert_eq!(story.judge(&of_job(7, 1)), Verdict::Named);
    story.mark();
    assert_eq!(story.judge(&of_job(7, 1)), Verdict::Garbage);

    story.open(8).prepare(8, loaded(8, 2)).commit(8);
    story.at += PAGE_TOKEN_MICROS;
    story.then(Change::SealLoad { load: LoadId(8) });
    story.mark();
    assert_eq!(story.judge(&of_job(8, 2)), Verdict::Named);
    assert_eq!(story.judge(&staged(8)), Verdict::Garbage);
}

#[test]
fn an_adopted_file_stays_wherever_it_lies() {
    let in_place = staged(7);
    let mut story = Story::new();
    story.open(7).prepare(7, adopted(7, 1, &in_place)).commit(7);
    story.at += PAGE_TOKEN_MICROS;
    story.then(Change::SealLoad { load: LoadId(7) }).mark();
    let index = index_path(TABLE, JobId(7), SegmentId(1));
    assert_eq!([in_place.clone(), index].map(|path| story.judge(&path)), [Verdict::Named; 2]);
    // Another file of the same place.
    assert_eq!(story.judge(&format!("staging/{}/b.parquet", LoadId(7))), Verdict::Garbage);
    // Brought since the mark.
    let copied = of_job(0xbeef, 9);
    story.open(8).prepare(8, adopted(8, 2, &copied));
    assert_eq!(story.judge(&copied), Verdict::Named);
}

#[test]
fn names_that_are_not_minted_stay_and_manifests_too() {
    let mut story = Story::new();
    story.flush(0, 10, 1).mark();
    let path = of_flush(0, 9);
    assert_eq!(story.judge(&path), Verdict::Garbage);
    assert_eq!(story.judge(&format!("{path}.bak")), Verdict::Stranger);
    let other = path.replace(&TABLE.to_string(), &TableId(0xb).to_string());
    assert_eq!(story.judge(&other), Verdict::Stranger);
    assert_eq!(story.judge(&format!("tables/{TABLE}/manifests/{:020}", 1)), Verdict::Named);
}

#[test]
fn edits_that_do_not_follow_or_restore_prove_nothing() {
    let mut story = Story::new();
    story.flush(0, 10, 1).mark();
    let span = story.span.as_mut().unwrap();
    let open = |job| Change::OpenJob { job: JobId(job), kind: JobKind::Compaction };
    assert!(span.extend(&[edit(4, open(5), OLD)]).is_err());
    let (_, early) = edit(3, open(5), OLD);
    assert!(span.extend(&[(Seq(4), early)]).is_err());
    let (seq, mut other) = edit(3, open(5), OLD);
    other.predecessor = CommitId(1);
    assert!(span.extend(&[(seq, other)]).is_err());
    assert!(span.extend(&[edit(3, Change::RaiseEpoch { epoch: 1 }, OLD)]).is_err());
}
