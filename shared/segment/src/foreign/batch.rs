//! A batch of rows of a foreign file, column by column: pages are pointed into, not copied.

use super::leaf::{NULL, Values};
use bytes::Bytes;

/// A row that cannot be loaded, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its number in the file, from 0.
    pub row: u64,
    /// The column at fault.
    pub column: Option<String>,
    /// What is wrong and what would be right.
    pub detail: String,
}

/// A row of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRef<'a> {
    /// Its number in the file, from 0.
    pub file_row: u64,
    /// 1 to 2,048 bytes.
    pub key: &'a [u8],
    /// `None`: the file has no version column, the load's version holds.
    pub version: Option<i64>,
    /// Microseconds since the epoch.
    pub expires_at: Option<i64>,
    /// `None` = a tombstone.
    pub value: Option<&'a [u8]>,
}

/// Byte strings of a batch's rows.
pub(super) enum ByteColumn {
    /// Slices of decoded pages; the slots say where a row's value is, none: in order.
    Shared { values: Values, slots: Option<Vec<u32>> },
    /// One behind the other; a row's end that is [`NULL`] is a null, and then has no bytes.
    Owned { bytes: Vec<u8>, ends: Vec<(u32, u32)> },
    /// The same for every row.
    Constant(Bytes),
}

impl ByteColumn {
    pub(super) fn get(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::Shared { values, slots } => {
                let slot = match slots {
                    None => row,
                    Some(slots) => slots.get(row).copied().filter(|&slot| slot != NULL)? as usize,
                };
                match values {
                    Values::Bytes(values) => values.get(slot).map(|value| value.data()),
                    Values::Fixed(values) => values.get(slot).map(|value| value.data()),
                    _ => None,
                }
            }
            Self::Owned { bytes, ends } => {
                let &(start, end) = ends.get(row)?;
                if end == NULL { None } else { bytes.get(start as usize..end as usize) }
            }
            Self::Constant(bytes) => Some(bytes),
        }
    }
}

/// Rows, in the order of the file.
pub struct RowBatch {
    pub(super) first_row: u64,
    /// Rows without a problem, by their place in the columns; `None` = all of `read`.
    pub(super) kept: Option<Vec<u32>>,
    pub(super) read: usize,
    pub(super) keys: ByteColumn,
    pub(super) values: ByteColumn,
    pub(super) versions: Option<Vec<i64>>,
    pub(super) expires_at: Option<Vec<Option<i64>>>,
    pub(super) deleted: Option<Vec<bool>>,
    pub(super) problems: Vec<Problem>,
    pub(super) problem_count: u64,
}

impl RowBatch {
    /// Rows that can be loaded.
    pub fn len(&self) -> usize {
        self.kept.as_ref().map_or(self.read, Vec::len)
    }

    /// Whether no row of the batch can be loaded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Row `i`, below [`RowBatch::len`]; `None` beyond.
    pub fn row(&self, i: usize) -> Option<RowRef<'_>> {
        let at = match &self.kept {
            Some(kept) => *kept.get(i)? as usize,
            None if i < self.read => i,
            None => return None,
        };
        let deleted =
            self.deleted.as_ref().is_some_and(|deleted| deleted.get(at).copied().unwrap_or_default());
        Some(RowRef {
            file_row: self.first_row + at as u64,
            key: self.keys.get(at)?,
            version: match &self.versions {
                Some(versions) => Some(*versions.get(at)?),
                None => None,
            },
            expires_at: self.expires_at.as_ref().and_then(|moments| moments.get(at).copied().flatten()),
            value: if deleted { None } else { self.values.get(at) },
        })
    }

    /// All rows that can be loaded.
    pub fn rows(&self) -> impl Iterator<Item = RowRef<'_>> {
        (0..self.len()).filter_map(|i| self.row(i))
    }

    /// The number in the file of the batch's first row, loaded or not.
    pub fn first_row(&self) -> u64 {
        self.first_row
    }

    /// Rows that were read, those with problems included.
    pub fn rows_read(&self) -> usize {
        self.read
    }

    /// Rows that cannot be loaded: the first thousand of the file are described, all are counted by
    /// [`RowBatch::problem_count`].
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many rows of this batch cannot be loaded.
    pub fn problem_count(&self) -> u64 {
        self.problem_count
    }
}

impl std::fmt::Debug for RowBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowBatch")
            .field("first_row", &self.first_row)
            .field("rows", &self.len())
            .field("problems", &self.problem_count)
            .finish()
    }
}
