//! Short ways to make segments, edits and tables.

use bytes::Bytes;
use nacre_manifest::*;
use nacre_types::*;

pub(crate) const TABLE: TableId = TableId(0xAB);
/// A moment in 2023, in microseconds.
pub(crate) const NOW: i64 = 1_700_000_000_000_000;
pub(crate) const MINUTE: i64 = 60_000_000;
pub(crate) const P0: PartitionId = PartitionId(0);
pub(crate) const P1: PartitionId = PartitionId(1);

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn span(from: u64, to: u64) -> StreamedSpan {
    StreamedSpan { partition: P0, generation: Generation(0), from: Offset(from), to: Offset(to) }
}

/// Ten rows of versions 100 to 200.
pub(crate) fn segment(id: u128, min: &str, max: &str, layer: Layer, location: Location) -> Segment {
    Segment {
        id: SegmentId(id),
        location,
        index: IndexSpan { offset: 4000, length: 96 },
        layer,
        min_key: bytes(min),
        max_key: bytes(max),
        min_version: 100,
        max_version: 200,
        rows: 10,
        tombstones: 0,
        bytes: 4200,
        max_expires_at: None,
        with_place: false,
        exact_places: matches!(layer, Layer::Loaded(_)),
    }
}

pub(crate) fn flushed(id: u128, min: &str, max: &str, span: StreamedSpan) -> Segment {
    let location = Location::Flush { partition: span.partition, from: span.from };
    segment(id, min, max, Layer::Streamed(span), location)
}

pub(crate) fn by_job(id: u128, min: &str, max: &str, layer: Layer, job: u128) -> Segment {
    segment(id, min, max, layer, Location::Job(JobId(job)))
}

/// A flush of partition 0.
pub(crate) fn flush(from: u64, to: u64, segments: Vec<Segment>) -> Change {
    Change::Flush(Flush {
        partition: P0,
        generation: Generation(0),
        from: Offset(from),
        to: Offset(to),
        segments,
        drops: None,
    })
}

pub(crate) fn drops() -> DropGuard {
    DropGuard { now_micros: NOW, settings: 1, late_below: None }
}

/// A table and its next edit; time passes by a millisecond with each.
#[derive(Clone)]
pub(crate) struct Table {
    pub(crate) manifest: Manifest,
    pub(crate) now: i64,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self::with(TableSettings::default())
    }

    pub(crate) fn with(settings: TableSettings) -> Self {
        let mut table = Self { manifest: Manifest::empty(TABLE), now: NOW };
        table.apply(Change::CreateTable { settings, shards: vec![Shard::whole(P0)] });
        table
    }

    pub(crate) fn try_all(&self, changes: Vec<Change>) -> Result<Manifest, Refused> {
        let edit = Edit { changes, at_micros: self.now };
        let read_back = Edit::decode(&edit.encode()).unwrap();
        assert_eq!(read_back, edit);
        self.manifest.apply(self.manifest.seq().next(), &edit)
    }

    pub(crate) fn apply_all(&mut self, changes: Vec<Change>) -> Seq {
        self.manifest = self.try_all(changes).unwrap();
        self.manifest.check().unwrap();
        let read_back = Manifest::decode(&self.manifest.encode()).unwrap();
        assert_eq!(read_back, self.manifest);
        read_back.check().unwrap();
        self.now += 1_000;
        self.manifest.seq()
    }

    pub(crate) fn apply(&mut self, change: Change) -> Seq {
        self.apply_all(vec![change])
    }

    #[track_caller]
    pub(crate) fn refused(&self, change: Change) -> RefusedReason {
        self.refused_all(vec![change])
    }

    #[track_caller]
    pub(crate) fn refused_all(&self, changes: Vec<Change>) -> RefusedReason {
        match self.try_all(changes) {
            Ok(_) => panic!("the edit was to be refused"),
            Err(refused) => {
                assert!(!refused.detail.is_empty());
                refused.reason
            }
        }
    }

    pub(crate) fn open_load(&mut self, id: u128, mode: LoadMode, version: i64) {
        self.apply(open_load(id, mode, version));
    }

    /// Opens, pins and prepares a load of these key ranges; its segments have ids `1000 * id` and on.
    pub(crate) fn prepare(&mut self, id: u128, mode: LoadMode, version: i64, ranges: &[(&str, &str)]) {
        self.open_load(id, mode, version);
        self.apply(pin(id));
        let segments = ranges
            .iter()
            .zip(1000 * id..)
            .map(|((min, max), segment)| by_job(segment, min, max, Layer::Loaded(LoadId(id)), job_of(id)))
            .collect();
        self.apply(prepare(id, segments));
    }

    /// The same, and commits it.
    pub(crate) fn commit(&mut self, id: u128, mode: LoadMode, version: i64, ranges: &[(&str, &str)]) -> Seq {
        self.prepare(id, mode, version, ranges);
        self.apply(commit(id))
    }

    pub(crate) fn seal(&mut self, id: u128) -> Seq {
        self.now += 16 * MINUTE;
        self.apply(Change::SealLoad { load: LoadId(id) })
    }

    pub(crate) fn load(&self, id: u128) -> &Load {
        self.manifest.load(LoadId(id)).unwrap()
    }

    pub(crate) fn open_job(&mut self, id: u128) {
        self.apply(Change::OpenJob { job: JobId(id), kind: JobKind::Compaction });
    }
}

pub(crate) fn job_of(load: u128) -> u128 {
    0xF000 + load
}

pub(crate) fn open_load(id: u128, mode: LoadMode, version: i64) -> Change {
    Change::OpenLoad(OpenLoad {
        load: LoadId(id),
        job: JobId(job_of(id)),
        mode,
        version: Some(version),
        begun_at_micros: NOW,
        idempotency: None,
        body_hash: 7,
        body: bytes("{\"mode\":\"merge\"}"),
    })
}

pub(crate) fn pin(id: u128) -> Change {
    Change::PinLoad { load: LoadId(id), files_path: format!("loads/{id}/files"), goal: LoadGoal::Commit }
}

pub(crate) fn prepare(id: u128, segments: Vec<Segment>) -> Change {
    Change::PrepareLoad(PrepareLoad {
        load: LoadId(id),
        job: JobId(job_of(id)),
        segments,
        rows_hidden: 3,
        report_path: Some("loads/report".into()),
    })
}

pub(crate) fn commit(id: u128) -> Change {
    Change::CommitLoad { load: LoadId(id), insist: false }
}

pub(crate) fn compact(job: u128, inputs: &[u128], outputs: Vec<Segment>) -> Change {
    Change::Compact(Compact {
        job: JobId(job),
        inputs: inputs.iter().map(|id| SegmentId(*id)).collect(),
        outputs,
        drops: Some(drops()),
    })
}
