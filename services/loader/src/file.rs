//! One file of a load: proved and adopted, or read and cut into sorted buffers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nacre_engine::{LoadError, LoadFile, PinnedFile};
use nacre_manifest::Manifest;
use nacre_segment::foreign::{LoadColumns, ProveOptions, ReadRequest};
use nacre_types::{Error, ErrorKind, KeySchema, Result, TableSettings, limits};
use tokio::sync::mpsc;

use crate::decode::{Adoptable, Looked, Opened, Rows};
use crate::job::{Cursor, Faults, Tally, Unit};
use crate::merge::Duplicate;
use crate::sort::SortBuffer;
use crate::source::folder_columns;

/// What a table and a load ask of every row.
#[derive(Debug, Clone)]
pub(crate) struct RowRules {
    pub(crate) columns: LoadColumns,
    pub(crate) key: KeySchema,
    /// The load's version, for rows without one.
    pub(crate) version: Option<i64>,
    pub(crate) settings: TableSettings,
    /// The log's time when the load began.
    pub(crate) begun_at: i64,
    /// Versions below this are refused.
    pub(crate) late_below: i64,
    /// Versions below this are hidden by a floor from the start.
    pub(crate) hidden_below: i64,
    /// Files longer than this are read in parts of about this size.
    pub(crate) part_bytes: u64,
}

impl RowRules {
    pub(crate) fn late_below(manifest: &Manifest, begun_at: i64, lateness: Option<i64>) -> i64 {
        lateness.map_or(i64::MIN, |limit| begun_at.saturating_sub(limit)).max(manifest.late_below())
    }

    fn check_version(&self, version: i64) -> Result<()> {
        if version < self.late_below {
            return Err(Error::invalid(format!(
                "version {version} is older than the table's max_lateness allows; the oldest is {}",
                self.late_below
            ))
            .with_code("version-late"));
        }
        self.settings.check_version(version, self.begun_at)
    }
}

/// What is to be done with a file.
pub(crate) enum Outcome {
    Adopt(Box<Adoptable>),
    Rewrite { reason: String, hint: String, cuts: Vec<u64> },
}

/// Looks at a file. Runs on a thread that may block.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn look(opened: &Opened, name: &str, rules: &RowRules) -> Result<Outcome> {
    let options = ProveOptions {
        key: rules.key.clone(),
        version: rules.version,
        folder_columns: folder_columns(name),
        hidden_below: Some(rules.hidden_below),
    };
    match opened.look(&rules.columns, &options, rules.part_bytes)? {
        Looked::Adopt(adopted) => {
            rules.check_version(adopted.summary.min_version)?;
            rules.check_version(adopted.summary.max_version)?;
            Ok(Outcome::Adopt(adopted))
        }
        Looked::Rewrite { reason, hint, cuts } => Ok(Outcome::Rewrite { reason, hint, cuts }),
    }
}

/// Rows on their way from files to runs: one unit of reading at a time.
pub(crate) struct Filling {
    /// The buffer that is being filled; `None` = none was needed yet.
    pub(crate) buffer: Option<SortBuffer>,
    /// Where empty ones come from.
    pub(crate) empty: mpsc::Receiver<SortBuffer>,
    /// Where filled ones go to.
    pub(crate) filled: mpsc::Sender<Filled>,
    /// The unit, as whoever sorts knows it.
    pub(crate) unit: Arc<Reading>,
    /// What was read since the last buffer was full.
    pub(crate) tallies: Vec<Tally>,
    pub(crate) faults: Faults,
    /// The load fails anyway: no row is kept.
    pub(crate) only_faults: bool,
}

/// A unit that is being read.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) unit: Unit,
    /// The step of it that is read first.
    pub(crate) begin: String,
    /// Somebody else is further with it.
    pub(crate) is_lost: AtomicBool,
}

/// What is to become a step of a unit.
pub(crate) struct Filled {
    pub(crate) unit: Arc<Reading>,
    pub(crate) buffer: Option<SortBuffer>,
    /// Where the next step begins; `None` = the unit is at its end, and the buffer need not be full.
    pub(crate) next: Option<Cursor>,
    pub(crate) tallies: Vec<Tally>,
    pub(crate) faults: Faults,
    pub(crate) only_faults: bool,
}

impl Filling {
    fn is_given_up(&self) -> bool {
        self.filled.is_closed() || self.unit.is_lost.load(Ordering::Relaxed)
    }

    fn buffer(&mut self) -> Result<&mut SortBuffer> {
        if self.buffer.is_none() {
            self.buffer = Some(self.empty.blocking_recv().ok_or_else(given_up)?);
        }
        self.buffer.as_mut().ok_or_else(given_up)
    }

    fn tally(&mut self, slice: u32, rows: u64, hidden: u64) {
        match self.tallies.last_mut().filter(|tally| tally.slice == slice) {
            Some(tally) => (tally.rows, tally.hidden) = (tally.rows + rows, tally.hidden + hidden),
            None => self.tallies.push(Tally { slice, rows, hidden }),
        }
    }

    /// The step that ends here.
    pub(crate) fn step(&mut self, next: Option<Cursor>) -> Filled {
        let only_faults = self.only_faults || !self.faults.is_empty();
        Filled {
            unit: self.unit.clone(),
            buffer: self.buffer.take(),
            next,
            tallies: std::mem::take(&mut self.tallies),
            faults: std::mem::take(&mut self.faults),
            only_faults,
        }
    }

    fn tell(&mut self, file: &str, row: Option<u64>, column: Option<String>, detail: String) {
        self.faults.add(vec![LoadError { file: file.to_owned(), row, column, detail }], 1);
    }
}

fn given_up() -> Error {
    Error::unavailable("the load was given up").with_code("load-given-up")
}

/// After so many rows it is told how many there were, at the level debug.
const TELL_ROWS: u64 = 10_000;

fn open_rows(
    opened: &Opened,
    name: &str,
    rules: &RowRules,
    skip_rows: u64,
    until_row: Option<u64>,
) -> Result<Rows> {
    let request = ReadRequest {
        columns: rules.columns.clone(),
        key: rules.key.clone(),
        folder_columns: folder_columns(name),
        skip_rows,
        until_row,
    };
    opened.rows(&request)
}

/// Reads the rows of a slice from row `from` on. Runs on a thread that may block.
///
/// # Errors
/// What is wrong with the file as a whole; rows that are wrong are counted and told among `filling.faults`.
pub(crate) fn read(
    opened: &Opened,
    name: &str,
    rules: &RowRules,
    (slice, from, until): (u32, u64, Option<u64>),
    filling: &mut Filling,
) -> Result<()> {
    let mut reader = open_rows(opened, name, rules, from, until)?;
    if !reader.has_versions() && rules.version.is_none() {
        return Err(Error::invalid(
            "the file has no version column and the load no version; name one in columns.version or give a version",
        )
        .with_code("load-version"));
    }
    let (mut reached, mut told) = (from, from);
    // Summed here and handed over with a buffer: most rows touch nothing else.
    let (mut rows, mut hidden) = (0, 0);
    while let Some(batch) = reader.next_batch()? {
        if filling.is_given_up() {
            return Err(given_up());
        }
        let problems = batch.problems();
        for problem in problems {
            filling.tell(name, Some(problem.row), problem.column.clone(), problem.detail.clone());
        }
        filling.faults.add(Vec::new(), batch.problem_count().saturating_sub(problems.len() as u64));
        if reached - told >= TELL_ROWS {
            told = reached;
            tracing::debug!(file = name, rows = reached, "rows are read");
        }
        for row in batch.rows() {
            if row.file_row < from {
                continue;
            }
            reached = row.file_row + 1;
            rows += 1;
            let version = row.version.or(rules.version).unwrap_or(0);
            if version < rules.hidden_below {
                hidden += 1;
            }
            if let Err(error) = rules.check_version(version) {
                let column = rules.columns.version.clone();
                filling.tell(name, Some(row.file_row), column, error.detail().to_owned());
                continue;
            }
            // Nothing of a load that fails will be used; what is left is read only to tell all errors.
            if filling.only_faults || !filling.faults.is_empty() {
                continue;
            }
            let buffer = match &mut filling.buffer {
                Some(buffer) => buffer,
                None => filling.buffer()?,
            };
            buffer.push(row.key, version, row.expires_at, row.value);
            if buffer.is_full() {
                filling.tally(slice, rows, hidden);
                (rows, hidden) = (0, 0);
                let filled = filling.step(Some(Cursor { slice, row: reached }));
                filling.filled.blocking_send(filled).map_err(|_| given_up())?;
            }
        }
    }
    filling.tally(slice, rows, hidden);
    Ok(())
}

/// The rows of a file that have a key and version.
///
/// # Errors
/// What is wrong with the file as a whole.
pub(crate) fn find(opened: &Opened, name: &str, rules: &RowRules, sought: &Duplicate) -> Result<Vec<u64>> {
    let mut reader = open_rows(opened, name, rules, 0, None)?;
    let mut found = Vec::new();
    while let Some(batch) = reader.next_batch()? {
        let is_sought = |version: Option<i64>, key: &[u8]| {
            key == sought.key && version.or(rules.version).unwrap_or(0) == sought.version
        };
        found.extend(batch.rows().filter(|row| is_sought(row.version, row.key)).map(|row| row.file_row));
        found.truncate(limits::LOAD_ERRORS);
    }
    Ok(found)
}

/// Whether an error says that the file, not the world, is wrong.
pub(crate) fn is_the_files_fault(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Invalid | ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Conflict
    )
}

/// A file's line in the report.
pub(crate) fn report(file: &PinnedFile, rows: u64, outcome: &str, why: Option<(String, String)>) -> LoadFile {
    let (reason, hint) = why.unzip();
    LoadFile { file: file.name.clone(), rows, bytes: file.bytes, outcome: outcome.to_owned(), reason, hint }
}
