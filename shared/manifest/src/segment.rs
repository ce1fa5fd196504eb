//! A segment as edits bring it and as lookups give it back: the unpacked form.

use bytes::Bytes;
use nacre_types::{Generation, JobId, LoadId, Offset, PartitionId, SegmentId, Seq, TableId};

/// Where the index lies: inside the segment's own object for a native segment, in an object of its own (then from 0)
/// for an adopted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct IndexSpan {
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

/// Where a segment's object lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// Made by a flush: the name carries the partition and the covered offset that the flush began at.
    Flush {
        /// The partition that was flushed.
        partition: PartitionId,
        /// The table's covered offset when it was made.
        from: Offset,
    },
    /// Made by a job: a compaction, or a load that rewrote its files.
    Job(JobId),
    /// A producer's file, taken as it lies.
    Adopted {
        /// Its path in the store.
        path: String,
        /// The etag that its bytes must have.
        tag: String,
        /// The version id that its bytes must be read with, on a versioned bucket.
        version_id: Option<String>,
        /// The object that holds its index.
        index_path: String,
    },
}

/// Streamed positions of one partition: `from` (inclusive) to `to` (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamedSpan {
    /// The partition of the log.
    pub partition: PartitionId,
    /// The generation of the range's assignment to it.
    pub generation: Generation,
    /// First offset.
    pub from: Offset,
    /// The offset after the last.
    pub to: Offset,
}

/// What the rows of a segment are: which positions of the log, or which load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layer {
    /// Rows of the log. A row without a `rank` column has the place of `from`.
    Streamed(StreamedSpan),
    /// Rows of one load, which may be anything from prepared to sealed or reverted; their place is its commit.
    Loaded(LoadId),
    /// Rows of sealed loads, and of the log if `streamed` says so, merged by a compaction.
    Mixed {
        /// The positions of the streamed rows, if there are any.
        streamed: Option<StreamedSpan>,
        /// Lowest and highest commit sequence of the loads merged in, inclusive.
        loads: (Seq, Seq),
    },
}

impl Layer {
    /// The streamed positions among the rows.
    pub fn streamed(&self) -> Option<StreamedSpan> {
        match self {
            Self::Streamed(span) => Some(*span),
            Self::Mixed { streamed, .. } => *streamed,
            Self::Loaded(_) => None,
        }
    }

    /// The load that all rows belong to, where it is one that still stands alone.
    pub fn load(&self) -> Option<LoadId> {
        if let Self::Loaded(load) = self { Some(*load) } else { None }
    }
}

/// One immutable sorted Parquet object of a table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Segment {
    /// Its id; the name of a native object ends in it.
    pub id: SegmentId,
    /// Where its object lies.
    pub location: Location,
    /// Where its index lies.
    pub index: IndexSpan,
    /// What its rows are.
    pub layer: Layer,
    /// Smallest key, exactly.
    pub min_key: Bytes,
    /// Largest key, exactly.
    pub max_key: Bytes,
    /// Smallest version, exactly.
    pub min_version: i64,
    /// Largest version, exactly.
    pub max_version: i64,
    /// Rows, tombstones among them. At least 1.
    pub rows: u64,
    /// Tombstones among the rows.
    pub tombstones: u64,
    /// Length of the object in bytes.
    pub bytes: u64,
    /// Latest moment at which a row of its own accord expires, in microseconds; `None` = some row has none.
    pub max_expires_at: Option<i64>,
    /// Whether the object has a `rank` column.
    pub with_place: bool,
    /// Whether every row's place is exactly its own: that of its record, or that of its load's commit. Always so for a
    /// [`Layer::Loaded`]; for others only where the `rank` column says each row's own offset instead of the start of
    /// a segment it once came from. Inputs that are all exact may be merged without being contiguous.
    pub exact_places: bool,
}

/// The path of a segment's object in the store.
///
/// `tables/<table>/p<partition>-<from>/<id>.parquet` for a flush, `tables/<table>/<job>/<id>.parquet` for a job, and
/// whatever the producer called it for an adopted one.
pub fn segment_path(table: TableId, segment: &Segment) -> String {
    SegmentName::path_of(table, segment.id, &segment.location)
}

/// The path of the index of an adopted segment, which is named by the job that adopted it:
/// `tables/<table>/<job>/<id>.index`.
pub fn index_path(table: TableId, job: JobId, segment: SegmentId) -> String {
    format!("tables/{table}/{job}/{segment}.index")
}

/// What made a native segment's object, as its path says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SegmentOrigin {
    /// A flush of this partition that began at this covered offset.
    Flush {
        /// The partition.
        partition: PartitionId,
        /// The covered offset.
        from: Offset,
    },
    /// A job.
    Job(JobId),
}

/// The path of a native segment taken apart; garbage collection proves with it that nobody can commit the object any
/// more (the job is closed, or the offset covered).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SegmentName {
    /// The table.
    pub table: TableId,
    /// What made it.
    pub origin: SegmentOrigin,
    /// The segment.
    pub id: SegmentId,
}

impl SegmentName {
    /// The path that this name has.
    pub fn path(&self) -> String {
        let Self { table, id, .. } = self;
        match self.origin {
            SegmentOrigin::Flush { partition, from } => {
                format!("tables/{table}/p{partition}-{from}/{id}.parquet")
            }
            SegmentOrigin::Job(job) => format!("tables/{table}/{job}/{id}.parquet"),
        }
    }

    /// Reads a path back; `None` for anything that [`SegmentName::path`] does not give.
    pub fn parse(path: &str) -> Option<Self> {
        let mut parts = path.strip_prefix("tables/")?.splitn(3, '/');
        let table = TableId::parse(parts.next()?).ok()?;
        let made_by = parts.next()?;
        let id = SegmentId::parse(parts.next()?.strip_suffix(".parquet")?).ok()?;
        let origin = if let Some(flush) = made_by.strip_prefix('p') {
            let (partition, from) = flush.split_once('-')?;
            SegmentOrigin::Flush {
                partition: PartitionId(partition.parse().ok()?),
                from: Offset(from.parse().ok()?),
            }
        } else {
            SegmentOrigin::Job(JobId::parse(made_by).ok()?)
        };
        let name = Self { table, origin, id };
        (name.path() == path).then_some(name)
    }

    pub(crate) fn path_of(table: TableId, id: SegmentId, location: &Location) -> String {
        let origin = match location {
            Location::Flush { partition, from } => {
                SegmentOrigin::Flush { partition: *partition, from: *from }
            }
            Location::Job(job) => SegmentOrigin::Job(*job),
            Location::Adopted { path, .. } => return path.clone(),
        };
        Self { table, origin, id }.path()
    }
}
