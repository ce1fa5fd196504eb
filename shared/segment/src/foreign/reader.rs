//! Rows of a foreign file, batch by batch, in the order of the file.
//!
//! Memory is bounded by the pages that a batch points into and by one page per column being decoded: a batch ends when
//! it has [`Caps::batch_rows`] rows or about [`Caps::batch_bytes`] bytes. It is read in steps, all columns the same rows,
//! which begin small and grow while the bytes allow: what a row will weigh is not known before.

use super::batch::{ByteColumn, Problem, RowBatch};
use super::columns::{KeyPlan, LoadColumns, Packed, Plan, Source, ValuePlan};
use super::footer::{Footer, corrupt, read_footer};
use super::json::Stop;
use super::key::pack_row;
use super::leaf::{Leaf, LeafType, NULL, Values};
use super::{Caps, ReadAt};
use bytes::Bytes;
use nacre_types::{KeySchema, Result, limits, tuple};
use std::sync::Arc;

/// Rows of the first step of a batch.
const FIRST_STEP: usize = 128;

/// What to read from a file.
#[derive(Debug, Clone, Default)]
pub struct ReadRequest {
    /// What its columns are.
    pub columns: LoadColumns,
    /// What the table's keys are.
    pub key: KeySchema,
    /// Columns that stand as `name=value/` in the file's path, already percent-decoded.
    pub folder_columns: Vec<(String, String)>,
    /// So many rows need not be given: row groups that lie among them as a whole are not read.
    pub skip_rows: u64,
    /// Row groups that begin at this row or behind it are not read. `None` = the file is read to its end.
    pub until_row: Option<u64>,
}

/// Where the reading of a file can be cut, so that several readers share it: rows at which row groups begin, in order,
/// such that each part has at least `part_bytes` in the file, the last one excepted.
///
/// # Errors
/// `Invalid` (`not-parquet`, `parquet-too-large`), `Corrupt`.
pub fn row_cuts(file: &dyn ReadAt, caps: &Caps, part_bytes: u64) -> Result<Vec<u64>> {
    let footer = read_footer(file, caps)?;
    let groups = footer.meta.row_groups().iter();
    Ok(cuts(groups.map(|group| (group.num_rows(), group.compressed_size())), part_bytes))
}

/// `groups`: rows and bytes of each, as the file claims them.
fn cuts(groups: impl Iterator<Item = (i64, i64)>, part_bytes: u64) -> Vec<u64> {
    let mut cuts = Vec::new();
    let (mut row, mut bytes) = (0_u64, 0_u64);
    for (rows, group_bytes) in groups {
        if bytes >= part_bytes.max(1) && rows > 0 {
            cuts.push(row);
            bytes = 0;
        }
        row = row.saturating_add(rows.max(0) as u64);
        bytes = bytes.saturating_add(group_bytes.max(0) as u64);
    }
    cuts
}

/// Gives the rows of a Parquet file by any writer.
pub struct ForeignReader {
    file: Arc<dyn ReadAt>,
    footer: Footer,
    caps: Arc<Caps>,
    plan: Plan,
    /// The row group being read.
    group: usize,
    /// Whether its columns are open.
    open: bool,
    /// Rows of it that were not read yet.
    group_left: u64,
    /// Rows of the file that were read.
    row: u64,
    until_row: u64,
    problems_described: usize,
}

impl std::fmt::Debug for ForeignReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ForeignReader").field("rows", &self.footer.rows()).field("row", &self.row).finish()
    }
}

impl ForeignReader {
    /// Opens a file whose path holds no columns.
    ///
    /// # Errors
    /// As [`ForeignReader::open_with`].
    pub fn open(file: Arc<dyn ReadAt>, columns: &LoadColumns, key: &KeySchema, caps: &Caps) -> Result<Self> {
        let request = ReadRequest { columns: columns.clone(), key: key.clone(), ..ReadRequest::default() };
        Self::open_with(file, &request, caps)
    }

    /// Reads the footer and maps the columns.
    ///
    /// # Errors
    /// `Invalid`: `not-parquet`, `load-columns` (which lists the columns that there are), `parquet-too-large`;
    /// `Corrupt` for broken bytes.
    pub fn open_with(file: Arc<dyn ReadAt>, request: &ReadRequest, caps: &Caps) -> Result<Self> {
        let footer = read_footer(&*file, caps)?;
        let plan = Plan::new(&footer, &request.columns, &request.key, &request.folder_columns, caps)?;
        let caps = Arc::new(caps.clone());
        let (mut group, mut row) = (0, 0);
        for skipped in footer.meta.row_groups() {
            let next = row + skipped.num_rows().max(0) as u64;
            if next > request.skip_rows {
                break;
            }
            (group, row) = (group + 1, next);
        }
        Ok(Self {
            file,
            footer,
            caps,
            plan,
            group,
            open: false,
            group_left: 0,
            row,
            until_row: request.until_row.unwrap_or(u64::MAX),
            problems_described: 0,
        })
    }

    /// Rows of the file, as its footer says; what is read is checked against it.
    pub fn rows(&self) -> u64 {
        self.footer.rows()
    }

    /// Whether the file has a version column; without one every row has the load's version.
    pub fn has_versions(&self) -> bool {
        self.plan.version.is_some()
    }

    /// The next rows; `None` behind the last.
    ///
    /// # Errors
    /// `Corrupt` or `Invalid` (`parquet-too-large`, `parquet-codec`), naming the column and the rows that were being
    /// read. Rows that cannot be loaded are no errors: see [`RowBatch::problems`].
    pub fn next_batch(&mut self) -> Result<Option<RowBatch>> {
        while self.group_left == 0 {
            if self.open {
                self.group += 1;
                self.open = false;
            }
            if self.row >= self.until_row {
                return Ok(None);
            }
            let Some(group) = self.footer.meta.row_groups().get(self.group) else { return Ok(None) };
            self.group_left = group.num_rows().max(0) as u64;
            if self.group_left == 0 {
                // Its chunks may have no pages and any offsets: pyarrow writes a table without rows so.
                self.group += 1;
                continue;
            }
            let columns = self.plan.leaves.len().max(1) as u64;
            let read_ahead = ((8 << 20) / columns).clamp(64 << 10, 1 << 20);
            for leaf in &mut self.plan.leaves {
                leaf.start_group(&self.file, &self.footer, &self.caps, self.group, read_ahead)?;
            }
            self.open = true;
        }
        let rows = self.read_columns().map_err(|error| {
            error.context(format_args!("row group {}, from row {} of the file", self.group, self.row))
        })?;
        let batch = self.build(rows)?;
        self.row += rows as u64;
        self.group_left -= rows as u64;
        Ok(Some(batch))
    }

    /// Fills the leaves with the rows of one batch.
    fn read_columns(&mut self) -> Result<usize> {
        for leaf in &mut self.plan.leaves {
            leaf.clear();
        }
        let most = (self.caps.batch_rows.max(1) as u64).min(self.group_left) as usize;
        let (mut rows, mut bytes, mut step) = (0, 0, FIRST_STEP);
        while rows < most && bytes < self.caps.batch_bytes {
            let now = step.min(most - rows);
            for leaf in &mut self.plan.leaves {
                bytes += leaf.read(now)?;
            }
            rows += now;
            let average = (bytes / rows).max(1);
            step = (self.caps.batch_bytes.saturating_sub(bytes) / average).clamp(1, most);
        }
        Ok(rows)
    }

    fn build(&mut self, rows: usize) -> Result<RowBatch> {
        let mut faults = Faults {
            first_row: self.row,
            bad: vec![false; rows],
            problems: Vec::new(),
            count: 0,
            room: limits::LOAD_ERRORS.saturating_sub(self.problems_described),
        };
        let Plan { leaves, key, value, version, expires_at, delete } = &mut self.plan;
        let deleted = delete.map(|place| flags(leaves, place, rows)).transpose()?;
        let versions = version.as_ref().map(|source| {
            let moments = moments(leaves, source, rows, "the version", false, &mut faults);
            moments.into_iter().map(Option::unwrap_or_default).collect()
        });
        let expires_at = expires_at
            .as_ref()
            .map(|source| moments(leaves, source, rows, "the expiry time", true, &mut faults));
        let values = match value {
            ValuePlan::Bytes(source) => byte_column(leaves, source),
            ValuePlan::Pack(fields) => pack_values(leaves, fields, deleted.as_deref(), rows, &mut faults)?,
        };
        let keys = match key {
            KeyPlan::Bytes(source) => byte_column(leaves, source),
            KeyPlan::Packed(place, _) => byte_column(leaves, &Source::Leaf(*place)),
            KeyPlan::Parts(parts) => {
                let mut bytes = Vec::new();
                let mut ends = Vec::with_capacity(rows);
                for row in 0..rows {
                    let start = bytes.len() as u32;
                    match pack_row(parts, leaves, row, &mut bytes) {
                        Ok(()) => ends.push((start, bytes.len() as u32)),
                        Err(no_key) => {
                            bytes.truncate(start as usize);
                            ends.push((start, NULL));
                            faults.add(row, Some(no_key.column), no_key.detail);
                        }
                    }
                }
                ByteColumn::Owned { bytes, ends }
            }
        };
        check_keys(leaves, key, &keys, rows, &mut faults);
        check_values(leaves, value, &values, deleted.as_deref(), rows, &mut faults);
        self.problems_described += faults.problems.len();
        faults.problems.sort_by_key(|problem| problem.row);
        let kept = (faults.count > 0)
            .then(|| (0u32..).zip(&faults.bad).filter(|(_, bad)| !**bad).map(|(row, _)| row).collect());
        Ok(RowBatch {
            first_row: self.row,
            kept,
            read: rows,
            keys,
            values,
            versions,
            expires_at,
            deleted,
            problems: faults.problems,
            problem_count: faults.count,
        })
    }
}

/// Rows of a batch that cannot be loaded.
struct Faults {
    first_row: u64,
    bad: Vec<bool>,
    problems: Vec<Problem>,
    count: u64,
    room: usize,
}

impl Faults {
    /// The first fault of a row is the one that is told.
    fn add(&mut self, row: usize, column: Option<String>, detail: String) {
        let Some(bad) = self.bad.get_mut(row) else { return };
        if std::mem::replace(bad, true) {
            return;
        }
        self.count += 1;
        if self.problems.len() < self.room {
            self.problems.push(Problem { row: self.first_row + row as u64, column, detail });
        }
    }
}

/// The leaf's byte strings; its decoded values move into the batch.
fn byte_column(leaves: &mut [Leaf], source: &Source<Bytes>) -> ByteColumn {
    match source {
        Source::Constant(bytes) => ByteColumn::Constant(bytes.clone()),
        Source::Leaf(place) => match leaves.get_mut(*place) {
            None => ByteColumn::Constant(Bytes::new()),
            Some(leaf) => {
                let slots = (leaf.column.max_def_level() > 0).then(|| std::mem::take(&mut leaf.slots));
                let empty = match leaf.values {
                    Values::Fixed(_) => Values::Fixed(Vec::new()),
                    _ => Values::Bytes(Vec::new()),
                };
                ByteColumn::Shared { values: std::mem::replace(&mut leaf.values, empty), slots }
            }
        },
    }
}

fn flags(leaves: &[Leaf], place: usize, rows: usize) -> Result<Vec<bool>> {
    match leaves.get(place) {
        Some(leaf) => match &leaf.values {
            Values::Bool(values) => Ok((0..rows)
                .map(|row| leaf.slot(row).and_then(|slot| values.get(slot).copied()).unwrap_or_default())
                .collect()),
            _ => Err(corrupt("the delete column is not boolean")),
        },
        None => Err(corrupt("no delete column")),
    }
}

/// Microseconds of every row.
fn moments(
    leaves: &[Leaf],
    source: &Source<i64>,
    rows: usize,
    what: &str,
    nullable: bool,
    faults: &mut Faults,
) -> Vec<Option<i64>> {
    let leaf = match source {
        Source::Constant(number) => return vec![Some(*number); rows],
        Source::Leaf(place) => leaves.get(*place),
    };
    let Some(leaf) = leaf else { return vec![None; rows] };
    // The usual case, without a detour through wider numbers.
    if let (
        Values::Int64(values),
        LeafType::Int { signed: true } | LeafType::Timestamp(super::leaf::Unit::Micros),
    ) = (&leaf.values, leaf.kind)
        && leaf.column.max_def_level() == 0
    {
        return values.iter().map(|&value| Some(value)).collect();
    }
    let mut out = Vec::with_capacity(rows);
    for row in 0..rows {
        let moment = leaf.slot(row).and_then(|slot| match leaf.kind {
            LeafType::Int { .. } => leaf.integer(slot),
            // A moment between two microseconds counts as the earlier one.
            _ => leaf.moment_nanos(slot).map(|nanos| nanos.div_euclid(1_000)),
        });
        out.push(match moment.map(i64::try_from) {
            Some(Ok(moment)) => Some(moment),
            Some(Err(_)) => {
                faults.add(row, Some(leaf.name()), format!("{what} lies outside an int64 of microseconds"));
                None
            }
            None => {
                if !nullable {
                    faults.add(row, Some(leaf.name()), format!("{what} is null; every row needs one"));
                }
                None
            }
        });
    }
    out
}

fn pack_values(
    leaves: &[Leaf],
    fields: &mut [(Vec<u8>, Packed)],
    deleted: Option<&[bool]>,
    rows: usize,
    faults: &mut Faults,
) -> Result<ByteColumn> {
    for (_, packed) in fields.iter_mut() {
        if let Packed::Node(node) = packed {
            node.rewind();
        }
    }
    let mut bytes = Vec::new();
    let mut ends = Vec::with_capacity(rows);
    for row in 0..rows {
        let start = bytes.len();
        let mut fault = None;
        for (at, (name, packed)) in fields.iter_mut().enumerate() {
            bytes.push(if at == 0 { b'{' } else { b',' });
            bytes.extend_from_slice(name);
            bytes.push(b':');
            match packed {
                Packed::Constant(text) => bytes.extend_from_slice(text),
                Packed::Node(node) => match node.write_row(leaves, &mut bytes, start + limits::VALUE_BYTES) {
                    Ok(()) => {}
                    Err(Stop::Problem { column, detail }) => fault = fault.or(Some((column, detail))),
                    Err(Stop::Broken(error)) => {
                        return Err(error.context(format_args!("row {row} of the batch")));
                    }
                },
            }
            if fault.is_some() {
                bytes.truncate(start);
            }
        }
        bytes.push(b'}');
        let is_deleted = deleted.is_some_and(|deleted| deleted.get(row).copied().unwrap_or_default());
        if let Some((column, detail)) = fault.filter(|_| !is_deleted) {
            bytes.truncate(start);
            faults.add(row, Some(column), detail);
        }
        match (u32::try_from(start), u32::try_from(bytes.len())) {
            (Ok(start), Ok(end)) if end != NULL => ends.push((start, end)),
            // Rows of 1 MiB each, more than 4,096 of them: batches are smaller.
            _ => {
                return Err(nacre_types::Error::invalid("a batch of packed values beyond 4 GiB")
                    .with_code("parquet-too-large"));
            }
        }
    }
    Ok(ByteColumn::Owned { bytes, ends })
}

fn check_keys(leaves: &[Leaf], plan: &KeyPlan, keys: &ByteColumn, rows: usize, faults: &mut Faults) {
    let name = || match plan {
        KeyPlan::Bytes(Source::Leaf(place)) | KeyPlan::Packed(place, _) => leaves.get(*place).map(Leaf::name),
        _ => None,
    };
    for row in 0..rows {
        match keys.get(row) {
            None => faults.add(row, name(), "the key is null".to_owned()),
            Some([]) => faults.add(row, name(), "the key is empty; a key has 1 to 2048 bytes".to_owned()),
            Some(key) if key.len() > limits::KEY_BYTES => faults.add(
                row,
                name(),
                format!("the key has {} bytes; the limit key_bytes is {}", key.len(), limits::KEY_BYTES),
            ),
            Some(key) => {
                if let KeyPlan::Packed(_, schema) = plan
                    && !tuple::is_packed(schema, key)
                {
                    let detail = tuple::unpack(schema, key).err().map_or_else(
                        || "the key is not a packed one".to_owned(),
                        |error| error.detail().to_owned(),
                    );
                    faults.add(row, name(), detail);
                }
            }
        }
    }
}

fn check_values(
    leaves: &[Leaf],
    plan: &ValuePlan,
    values: &ByteColumn,
    deleted: Option<&[bool]>,
    rows: usize,
    faults: &mut Faults,
) {
    let name = || match plan {
        ValuePlan::Bytes(Source::Leaf(place)) => leaves.get(*place).map(Leaf::name),
        _ => None,
    };
    for row in 0..rows {
        let is_deleted = deleted.map(|deleted| deleted.get(row).copied().unwrap_or_default());
        match (values.get(row), is_deleted) {
            (_, Some(true)) => {}
            (None, Some(false)) => {
                faults.add(
                    row,
                    name(),
                    "the value is null and the delete column does not say true".to_owned(),
                );
            }
            (Some(value), _) if value.len() > limits::VALUE_BYTES => faults.add(
                row,
                name(),
                format!(
                    "the value has {} bytes; the limit value_bytes is {}",
                    value.len(),
                    limits::VALUE_BYTES
                ),
            ),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_where_row_groups_begin_and_no_part_but_the_last_is_small() {
        let of = |groups: &[(i64, i64)], part| cuts(groups.iter().copied(), part);
        assert_eq!(of(&[(5, 10); 6], 20), [10, 20]);
        assert_eq!(of(&[(5, 10); 7], 20), [10, 20, 30]);
        assert_eq!(of(&[(5, 100), (5, 1), (5, 1)], 50), [5]);
        // Nothing is cut off that has no rows, and nonsense does no harm.
        assert_eq!(of(&[(5, 100), (0, 0), (0, 100)], 50), [] as [u64; 0]);
        assert_eq!(
            of(&[(-1, -5), (i64::MAX, i64::MAX), (i64::MAX, 1), (i64::MAX, 1)], 0),
            [i64::MAX as u64, u64::MAX - 1]
        );
        assert_eq!(of(&[], 1), [] as [u64; 0]);
    }
}
