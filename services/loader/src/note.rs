//! A segment as the results of units name it.

use bytes::Bytes;
use nacre_manifest::{IndexSpan, Layer, Location, Segment};
use nacre_types::{Error, JobId, LoadId, Result, SegmentId};
use serde::{Deserialize, Serialize};

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
    /// Its first and last key.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn keys(&self) -> Result<(Bytes, Bytes)> {
        Ok((unhex(&self.min_key)?, unhex(&self.max_key)?))
    }

    /// Its last key, as it is written.
    pub(crate) fn last_key(&self) -> &str {
        &self.max_key
    }

    /// Whether it can be what it says.
    pub(crate) fn is_sound(&self) -> bool {
        self.keys().is_ok_and(|(first, last)| first <= last && !first.is_empty())
            && SegmentId::parse(&self.id).is_ok()
    }

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
    bytes.map(Bytes::from).ok_or_else(|| Error::corrupt("a result of a load holds a key that is no hex"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_survive_a_note() {
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
    fn hex_that_is_none_is_corrupt() {
        assert!(unhex("0").is_err() && unhex("zz").is_err());
        assert_eq!(unhex("00ff").unwrap()[..], [0, 255]);
    }
}
