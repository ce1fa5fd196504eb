//! What parent and child say to each other. Both are the same program: nothing here is kept.

use std::path::PathBuf;

use bytes::Bytes;
use nacre_segment::foreign::{LoadColumns, Problem, RowBatch, RowRef};
use nacre_segment::{IndexSpan, SegmentSummary};
use nacre_types::{Error, ErrorKind, KeySchema, Result};
use serde::{Deserialize, Serialize};

/// What the child is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) file: Place,
    pub(super) memory_bytes: u64,
    pub(super) seconds: u64,
    pub(super) work: Work,
}

/// Where the file is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Place {
    /// On this machine.
    Here(PathBuf),
    /// With the parent, who reads of it what the child asks for. Its length in bytes.
    Asked(u64),
}

/// Most bytes that are asked for at once; larger ranges are asked for piece by piece.
pub(super) const PIECE_BYTES: u64 = 8 << 20;

/// What is to be done with the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Work {
    Declare {
        columns: LoadColumns,
        folders: Vec<(String, String)>,
    },
    Look {
        columns: LoadColumns,
        key: KeySchema,
        version: Option<i64>,
        folders: Vec<(String, String)>,
        hidden_below: Option<i64>,
        /// Where the file is this long it is also told where its reading can be cut into parts of this size.
        part_bytes: u64,
    },
    Rows {
        columns: LoadColumns,
        key: KeySchema,
        folders: Vec<(String, String)>,
        skip_rows: u64,
        until_row: Option<u64>,
    },
}

/// The first frame of an answer; an error may also come later.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Head {
    Key(KeySchema),
    /// A frame with the index follows.
    Adopt {
        summary: Summary,
        hidden: u64,
        cuts: Vec<u64>,
    },
    Rewrite {
        reason: String,
        hint: String,
        cuts: Vec<u64>,
    },
    /// Frames of rows follow.
    Open {
        has_versions: bool,
    },
    Failed {
        kind: String,
        detail: String,
    },
}

impl Head {
    pub(super) fn failed(error: &Error) -> Self {
        Self::Failed { kind: error.kind().name().to_owned(), detail: error.detail().to_owned() }
    }
}

/// The error that a child told. Of the kinds only those matter that say whose fault it is.
pub(super) fn error_of(kind: &str, detail: String) -> Error {
    let kinds = [ErrorKind::Invalid, ErrorKind::Corrupt, ErrorKind::NotFound, ErrorKind::Unavailable];
    let kind = kinds.into_iter().find(|known| known.name() == kind).unwrap_or(ErrorKind::Internal);
    Error::new(kind, detail).with_code("load-file")
}

/// A [`SegmentSummary`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Summary {
    rows: u64,
    tombstones: u64,
    bytes: u64,
    raw_bytes: u64,
    min_key: Vec<u8>,
    max_key: Vec<u8>,
    min_version: i64,
    max_version: i64,
    max_expires_at: Option<i64>,
    index: (u64, u64),
    with_place: bool,
}

impl From<&SegmentSummary> for Summary {
    fn from(summary: &SegmentSummary) -> Self {
        Self {
            rows: summary.rows,
            tombstones: summary.tombstones,
            bytes: summary.bytes,
            raw_bytes: summary.raw_bytes,
            min_key: summary.min_key.to_vec(),
            max_key: summary.max_key.to_vec(),
            min_version: summary.min_version,
            max_version: summary.max_version,
            max_expires_at: summary.max_expires_at,
            index: (summary.index.offset, summary.index.length),
            with_place: summary.with_place,
        }
    }
}

impl From<Summary> for SegmentSummary {
    fn from(summary: Summary) -> Self {
        Self {
            rows: summary.rows,
            tombstones: summary.tombstones,
            bytes: summary.bytes,
            raw_bytes: summary.raw_bytes,
            min_key: Bytes::from(summary.min_key),
            max_key: Bytes::from(summary.max_key),
            min_version: summary.min_version,
            max_version: summary.max_version,
            max_expires_at: summary.max_expires_at,
            index: IndexSpan { offset: summary.index.0, length: summary.index.1 },
            with_place: summary.with_place,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct WireProblem {
    row: u64,
    column: Option<String>,
    detail: String,
}

// A batch: u64 first row, u64 problems, u32 length of their descriptions, u32 rows; the descriptions as JSON; a head
// of 32 bytes per row: u32 row (after the first), u32 key bytes, u32 value bytes, u32 flags, i64 version, i64 expiry;
// keys and values.
const BATCH_HEAD: usize = 24;
const ROW_HEAD: usize = 32;
const HAS_VALUE: u32 = 1;
const HAS_VERSION: u32 = 2;
const EXPIRES: u32 = 4;

/// Encodes a batch into `out`, which is cleared.
pub(super) fn encode_batch(batch: &RowBatch, out: &mut Vec<u8>) -> std::io::Result<()> {
    out.clear();
    let described: Vec<WireProblem> = batch
        .problems()
        .iter()
        .map(|problem| WireProblem {
            row: problem.row,
            column: problem.column.clone(),
            detail: problem.detail.clone(),
        })
        .collect();
    let described = if described.is_empty() { Vec::new() } else { serde_json::to_vec(&described)? };
    let too_long = |_| std::io::Error::other("a batch beyond 4 GiB");
    let rows = batch.len();
    out.extend_from_slice(&batch.first_row().to_le_bytes());
    out.extend_from_slice(&batch.problem_count().to_le_bytes());
    out.extend_from_slice(&u32::try_from(described.len()).map_err(too_long)?.to_le_bytes());
    out.extend_from_slice(&u32::try_from(rows).map_err(too_long)?.to_le_bytes());
    out.extend_from_slice(&described);
    let heads = out.len();
    out.resize(heads + rows * ROW_HEAD, 0);
    for (nth, row) in batch.rows().enumerate() {
        let value = row.value.unwrap_or_default();
        let flags = if row.value.is_some() { HAS_VALUE } else { 0 }
            | if row.version.is_some() { HAS_VERSION } else { 0 }
            | if row.expires_at.is_some() { EXPIRES } else { 0 };
        let after = u32::try_from(row.file_row.saturating_sub(batch.first_row())).map_err(too_long)?;
        let at = heads + nth * ROW_HEAD;
        if let Some(head) = out.get_mut(at..at + ROW_HEAD) {
            let (four, eight) = head.split_at_mut(16);
            let numbers = [
                after,
                u32::try_from(row.key.len()).map_err(too_long)?,
                u32::try_from(value.len()).map_err(too_long)?,
                flags,
            ];
            for (slot, number) in four.chunks_exact_mut(4).zip(numbers) {
                slot.copy_from_slice(&number.to_le_bytes());
            }
            let moments = [row.version.unwrap_or_default(), row.expires_at.unwrap_or_default()];
            for (slot, number) in eight.chunks_exact_mut(8).zip(moments) {
                slot.copy_from_slice(&number.to_le_bytes());
            }
        }
        out.extend_from_slice(row.key);
        out.extend_from_slice(value);
    }
    Ok(())
}

/// A batch that came through the pipe.
pub(crate) struct Piped<'a> {
    first_row: u64,
    problem_count: u64,
    problems: Vec<Problem>,
    heads: &'a [u8],
    bytes: &'a [u8],
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

impl<'a> Piped<'a> {
    /// Checks the bounds of every row.
    ///
    /// # Errors
    /// `Internal`: the frame's checksum was right, so that the child wrote nonsense.
    pub(super) fn decode(body: &'a [u8]) -> Result<Self> {
        Self::try_decode(body).ok_or_else(|| {
            Error::internal("the decoding child wrote a batch that is none").with_code("load-child")
        })
    }

    fn try_decode(body: &'a [u8]) -> Option<Self> {
        let described = u32_at(body, 16)? as usize;
        let rows = u32_at(body, 20)? as usize;
        let (described, rest) = body.get(BATCH_HEAD..)?.split_at_checked(described)?;
        let (heads, bytes) = rest.split_at_checked(rows.checked_mul(ROW_HEAD)?)?;
        let mut wanted = 0usize;
        for head in heads.chunks_exact(ROW_HEAD) {
            wanted = wanted.checked_add(u32_at(head, 4)? as usize)?.checked_add(u32_at(head, 8)? as usize)?;
        }
        if wanted != bytes.len() {
            return None;
        }
        let problems: Vec<WireProblem> =
            if described.is_empty() { Vec::new() } else { serde_json::from_slice(described).ok()? };
        let problems = problems
            .into_iter()
            .map(|problem| Problem { row: problem.row, column: problem.column, detail: problem.detail })
            .collect();
        Some(Self { first_row: u64_at(body, 0)?, problem_count: u64_at(body, 8)?, problems, heads, bytes })
    }

    pub(crate) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    pub(crate) fn problem_count(&self) -> u64 {
        self.problem_count
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = RowRef<'_>> {
        let mut rest = self.bytes;
        self.heads.chunks_exact(ROW_HEAD).filter_map(move |head| {
            let (key, behind) = rest.split_at_checked(u32_at(head, 4)? as usize)?;
            let (value, behind) = behind.split_at_checked(u32_at(head, 8)? as usize)?;
            rest = behind;
            let flags = u32_at(head, 12)?;
            let moment = |flag: u32, at: usize| {
                (flags & flag != 0).then(|| u64_at(head, at).map(u64::cast_signed)).flatten()
            };
            Some(RowRef {
                file_row: self.first_row + u64::from(u32_at(head, 0)?),
                key,
                version: moment(HAS_VERSION, 16),
                expires_at: moment(EXPIRES, 24),
                value: (flags & HAS_VALUE != 0).then_some(value),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row by hand, so that the layout is written down twice.
    fn one_row() -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&10u64.to_le_bytes());
        body.extend_from_slice(&0u64.to_le_bytes());
        body.extend_from_slice(&0u32.to_le_bytes());
        body.extend_from_slice(&1u32.to_le_bytes());
        for number in [2u32, 1, 3, HAS_VALUE | HAS_VERSION] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(&(-5i64).to_le_bytes());
        body.extend_from_slice(&0i64.to_le_bytes());
        body.extend_from_slice(b"kval");
        body
    }

    #[test]
    fn a_row_is_read_back() {
        let body = one_row();
        let piped = Piped::decode(&body).unwrap();
        let rows: Vec<_> = piped.rows().collect();
        let row =
            RowRef { file_row: 12, key: b"k", version: Some(-5), expires_at: None, value: Some(b"val") };
        assert_eq!(rows, [row]);
    }

    #[test]
    fn a_batch_that_claims_what_it_has_not_is_refused() {
        let body = one_row();
        for at in 0..body.len() {
            assert!(Piped::decode(&body[..at]).is_err(), "cut at {at}");
        }
        for at in 16..24 {
            let mut changed = body.clone();
            changed[at] = 0xff;
            assert!(Piped::decode(&changed).is_err(), "byte {at}");
        }
    }
}
