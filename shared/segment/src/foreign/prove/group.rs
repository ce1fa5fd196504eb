//! The columns of a row group while it is proved, and what was learnt of the rows so far.

use super::*;

/// The columns whose rows are read.
pub(super) struct GroupColumns {
    pub(super) key: Leaf,
    pub(super) version: Option<Leaf>,
    pub(super) expires_at: Option<Leaf>,
}

impl GroupColumns {
    pub(super) fn open(proof: &Proof<'_>, group: usize) -> Result<Self> {
        let key = proof.open_leaf(KEY, group)?.ok_or_else(|| corrupt("no key column"))?;
        Ok(Self {
            key,
            version: proof.open_leaf(VERSION, group)?,
            expires_at: proof.open_leaf(EXPIRES_AT, group)?,
        })
    }

    pub(super) fn read(&mut self, rows: usize) -> Result<()> {
        for leaf in
            [Some(&mut self.key), self.version.as_mut(), self.expires_at.as_mut()].into_iter().flatten()
        {
            leaf.clear();
            leaf.read(rows)?;
        }
        Ok(())
    }
}

/// A part of a file, at its own place.
pub(super) struct Slice {
    pub(super) start: u64,
    pub(super) bytes: Bytes,
}

impl ReadAt for Slice {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn read_at(&self, range: std::ops::Range<u64>) -> Result<Bytes> {
        let shift = |at: u64| at.checked_sub(self.start);
        match (shift(range.start), shift(range.end)) {
            (Some(from), Some(to)) => self.bytes.read_at(from..to),
            _ => Err(corrupt("a page before its column chunk")),
        }
    }
}

/// What was learnt of the rows so far.
pub(super) struct State {
    pub(super) row: u64,
    pub(super) last_key: Vec<u8>,
    pub(super) last_version: i64,
    pub(super) min_key: Bytes,
    pub(super) min_version: i64,
    pub(super) max_version: i64,
    pub(super) max_expires_at: Option<i64>,
    /// Some row never expires.
    pub(super) never: bool,
    pub(super) tombstones: u64,
    pub(super) tombstones_exact: bool,
    pub(super) raw_bytes: u64,
    /// Rows below the version that the caller asked about.
    pub(super) hidden: u64,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            row: 0,
            last_key: Vec::new(),
            last_version: 0,
            min_key: Bytes::new(),
            min_version: i64::MAX,
            max_version: i64::MIN,
            max_expires_at: None,
            never: false,
            tombstones: 0,
            tombstones_exact: true,
            raw_bytes: 0,
            hidden: 0,
        }
    }

    pub(super) fn push(&mut self, key: &[u8], version: i64, expires_at: Option<i64>) {
        if self.row == 0 {
            self.min_key = Bytes::copy_from_slice(key);
        }
        self.row += 1;
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.last_version = version;
        self.min_version = self.min_version.min(version);
        self.max_version = self.max_version.max(version);
        self.never |= expires_at.is_none();
        self.max_expires_at = self.max_expires_at.max(expires_at);
    }

    pub(super) fn count_tombstones(
        &mut self,
        pages: &ChunkPages,
        chunk: &parquet::file::metadata::ColumnChunkMetaData,
    ) {
        if chunk.column_descr().max_def_level() == 0 {
            return;
        }
        let from_headers = pages
            .pages
            .iter()
            .map(|page| {
                page.header
                    .as_ref()
                    .filter(|header| header.kind == PageKind::V2)
                    .map(|header| u64::from(header.nulls))
            })
            .sum::<Option<u64>>();
        match from_headers {
            Some(nulls) => self.tombstones += nulls,
            None => {
                self.tombstones_exact = false;
                let claimed = chunk.statistics().and_then(|statistics| statistics.null_count_opt());
                self.tombstones += claimed.unwrap_or(0);
            }
        }
    }
}
