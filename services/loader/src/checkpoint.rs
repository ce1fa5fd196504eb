//! What of a load is done, so that a loader that takes over goes on there.
//!
//! A checkpoint is an immutable JSON object under the load's job; the load's status record names the newest. A pointer
//! that is lost or lags costs work that is done again, never a wrong load: every object that a checkpoint names is
//! complete before the checkpoint is written. For the same reason it needs no version of its own: what does not decode
//! is left alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use nacre_engine::{LoadFile, LoadProgress};
use nacre_manifest::{IndexSpan, Layer, Location, Segment};
use nacre_types::{Error, JobId, LoadId, Result, SegmentId};
use serde::{Deserialize, Serialize};

/// What is done.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Checkpoint {
    /// Files that were looked at, by name.
    pub(crate) files: BTreeMap<String, FileDone>,
    /// Sorted runs of rewritten files.
    pub(crate) runs: Vec<SegmentNote>,
    /// Rows of a file whose runs are all there, while it is being read.
    pub(crate) rows_read: BTreeMap<String, u64>,
    /// How many of those a floor hides.
    pub(crate) hidden_in_runs: BTreeMap<String, u64>,
    /// The load's rewritten segments so far. None reaches over a cut.
    pub(crate) merged: Vec<SegmentNote>,
    /// The keys, as hex, at which the merge is cut into ranges; a cut is the last key of its range.
    pub(crate) cuts: Vec<String>,
    /// Whether all runs are merged.
    pub(crate) merge_done: bool,
    /// The counters.
    pub(crate) progress: LoadProgress,
    /// Files whose last rows are in a buffer and in no run yet, with the number of those that are in runs.
    #[serde(skip)]
    pub(crate) pending: BTreeMap<String, u64>,
}

impl Checkpoint {
    /// What outlives this process: pending files are still to be read from where their runs end.
    pub(crate) fn without_pending(&self) -> Self {
        let mut lasting = self.clone();
        for (name, in_runs) in std::mem::take(&mut lasting.pending) {
            if let Some(file) = lasting.files.get_mut(&name) {
                file.read = false;
            }
            lasting.rows_read.insert(name, in_runs);
        }
        lasting
    }
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FileDone {
    /// What the load's report will say.
    pub(crate) report: LoadFile,
    /// The segment that it is, if it can be adopted.
    pub(crate) adopted: Option<SegmentNote>,
    /// Whether its rows are all in runs.
    pub(crate) read: bool,
    /// Rows that a floor hides.
    pub(crate) hidden: u64,
}

/// A segment, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentNote {
    id: String,
    index: (u64, u64),
    min_key: String,
    max_key: String,
    versions: (i64, i64),
    pub(crate) rows: u64,
    pub(crate) tombstones: u64,
    pub(crate) bytes: u64,
    max_expires_at: Option<i64>,
    adopted: Option<AdoptedNote>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct AdoptedNote {
    path: String,
    etag: String,
    version_id: Option<String>,
    index_path: String,
}

impl SegmentNote {
    pub(crate) fn of(segment: &Segment) -> Self {
        let adopted = match &segment.location {
            Location::Adopted { path, tag, version_id, index_path } => Some(AdoptedNote {
                path: path.clone(),
                etag: tag.clone(),
                version_id: version_id.clone(),
                index_path: index_path.clone(),
            }),
            _ => None,
        };
        Self {
            id: segment.id.to_string(),
            index: (segment.index.offset, segment.index.length),
            min_key: hex(&segment.min_key),
            max_key: hex(&segment.max_key),
            versions: (segment.min_version, segment.max_version),
            rows: segment.rows,
            tombstones: segment.tombstones,
            bytes: segment.bytes,
            max_expires_at: segment.max_expires_at,
            adopted,
        }
    }

    /// The segment of `load`.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn to_segment(&self, load: LoadId, job: JobId) -> Result<Segment> {
        let location = match &self.adopted {
            Some(note) => Location::Adopted {
                path: note.path.clone(),
                tag: note.etag.clone(),
                version_id: note.version_id.clone(),
                index_path: note.index_path.clone(),
            },
            None => Location::Job(job),
        };
        Ok(Segment {
            id: SegmentId::parse(&self.id)?,
            location,
            index: IndexSpan { offset: self.index.0, length: self.index.1 },
            layer: Layer::Loaded(load),
            min_key: unhex(&self.min_key)?,
            max_key: unhex(&self.max_key)?,
            min_version: self.versions.0,
            max_version: self.versions.1,
            rows: self.rows,
            tombstones: self.tombstones,
            bytes: self.bytes,
            max_expires_at: self.max_expires_at,
            with_place: false,
            exact_places: true,
        })
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}

pub(crate) fn unhex(text: &str) -> Result<Bytes> {
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    let bytes: Option<Vec<u8>> = text
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect();
    bytes.map(Bytes::from).ok_or_else(|| Error::corrupt("a checkpoint holds a key that is no hex"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_survive_a_checkpoint() {
        let segment = Segment {
            id: SegmentId(7),
            location: Location::Job(JobId(3)),
            index: IndexSpan { offset: 1, length: 2 },
            layer: Layer::Loaded(LoadId(9)),
            min_key: Bytes::from_static(b"\x00a"),
            max_key: Bytes::from_static(b"\xff"),
            min_version: -1,
            max_version: 5,
            rows: 10,
            tombstones: 1,
            bytes: 100,
            max_expires_at: Some(3),
            with_place: false,
            exact_places: true,
        };
        let json = serde_json::to_string(&SegmentNote::of(&segment)).unwrap();
        let note: SegmentNote = serde_json::from_str(&json).unwrap();
        assert_eq!(note.to_segment(LoadId(9), JobId(3)).unwrap(), segment);
    }

    #[test]
    fn files_whose_rows_are_in_memory_only_are_not_done() {
        let file = FileDone {
            report: LoadFile {
                file: "a".into(),
                rows: 9,
                bytes: 1,
                outcome: "rewritten".into(),
                reason: None,
                hint: None,
            },
            adopted: None,
            read: true,
            hidden: 0,
        };
        let mut done = Checkpoint::default();
        done.files.insert("a".into(), file.clone());
        done.files.insert("b".into(), file);
        done.pending.insert("b".into(), 4);
        let lasting = done.without_pending();
        assert!(lasting.files["a"].read && !lasting.files["b"].read);
        assert_eq!(lasting.rows_read, BTreeMap::from([("b".to_owned(), 4)]));
    }

    #[test]
    fn hex_that_is_none_is_corrupt() {
        assert!(unhex("0").is_err() && unhex("zz").is_err());
        assert_eq!(unhex("00ff").unwrap()[..], [0, 255]);
    }
}
