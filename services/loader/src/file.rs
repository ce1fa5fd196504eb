//! One file of a load: proved and adopted, or read and cut into sorted buffers.

use nacre_engine::{LoadError, LoadFile, PinnedFile};
use nacre_manifest::Manifest;
use nacre_segment::foreign::{LoadColumns, ProveOptions, ReadRequest};
use nacre_types::{Error, ErrorKind, KeySchema, Result, TableSettings, limits};
use tokio::sync::mpsc;

use crate::decode::{Adoptable, Looked, Opened, Rows};
use crate::merge::Duplicate;
use crate::sort::SortBuffer;
use crate::source::folder_columns;

/// What a table and a load ask of every row.
#[derive(Debug, Clone)]
pub(crate) struct RowRules {
    pub(crate) columns: LoadColumns,
    pub(crate) key: KeySchema,
    /// Whether this load is the one that says what the table's keys are.
    pub(crate) declares: bool,
    /// The load's version, for rows without one.
    pub(crate) version: Option<i64>,
    pub(crate) settings: TableSettings,
    /// The log's time when the load began.
    pub(crate) begun_at: i64,
    /// Versions below this are refused.
    pub(crate) late_below: i64,
    /// Versions below this are hidden by a floor from the start.
    pub(crate) hidden_below: i64,
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
    Rewrite { reason: String, hint: String },
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
    match opened.look(&rules.columns, &options)? {
        Looked::Adopt(adopted) => {
            rules.check_version(adopted.summary.min_version)?;
            rules.check_version(adopted.summary.max_version)?;
            Ok(Outcome::Adopt(adopted))
        }
        Looked::Rewrite { reason, hint } => Ok(Outcome::Rewrite { reason, hint }),
    }
}

/// What of a file an earlier attempt has brought into runs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Before {
    /// Its first rows, so many; they were all good.
    pub(crate) rows: u64,
    /// How many of them a floor hides.
    pub(crate) hidden: u64,
}

/// What reading a file came to.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) rows: u64,
    pub(crate) hidden: u64,
    pub(crate) errors: Vec<LoadError>,
    pub(crate) error_count: u64,
}

/// A buffer of rows.
pub(crate) struct Filled {
    pub(crate) buffer: SortBuffer,
    /// What of the file is in runs when everything up to this buffer is; `None` = the file is at its end, and the buffer
    /// need not be full.
    pub(crate) in_runs: Option<Before>,
}

/// After so many rows it is told how many there were, at the level debug.
const TELL_ROWS: u64 = 10_000;

fn open_rows(opened: &Opened, name: &str, rules: &RowRules, skip_rows: u64) -> Result<Rows> {
    let request = ReadRequest {
        columns: rules.columns.clone(),
        key: rules.key.clone(),
        folder_columns: folder_columns(name),
        skip_rows,
    };
    opened.rows(&request)
}

/// Reads the rows of a file behind those that were brought `before` into buffers, which come from `empty` and go to `filled`. Runs on
/// a thread that may block. `only_faults`: no row is kept.
///
/// # Errors
/// What is wrong with the file as a whole; rows that are wrong are counted and told in the answer.
pub(crate) fn read(
    opened: &Opened,
    name: &str,
    rules: &RowRules,
    before: Before,
    only_faults: bool,
    empty: &mut mpsc::Receiver<SortBuffer>,
    filled: &mpsc::Sender<Filled>,
) -> Result<Read> {
    let given_up = || Error::unavailable("the load was given up").with_code("load-given-up");
    let mut reader = open_rows(opened, name, rules, before.rows)?;
    if !reader.has_versions() && rules.version.is_none() {
        return Err(Error::invalid(
            "the file has no version column and the load no version; name one in columns.version or give a version",
        )
        .with_code("load-version"));
    }
    let mut buffer = empty.blocking_recv().ok_or_else(given_up)?;
    let mut read = Read { rows: before.rows, hidden: before.hidden, ..Read::default() };
    let mut told = read.rows;
    while let Some(batch) = reader.next_batch()? {
        if filled.is_closed() {
            return Err(given_up());
        }
        let problems = batch.problems();
        for problem in problems {
            tell(&mut read, name, Some(problem.row), problem.column.clone(), problem.detail.clone());
        }
        read.error_count += batch.problem_count().saturating_sub(problems.len() as u64);
        if read.rows - told >= TELL_ROWS {
            told = read.rows;
            tracing::debug!(file = name, rows = read.rows, "rows are read");
        }
        for row in batch.rows() {
            if row.file_row < before.rows {
                continue;
            }
            read.rows += 1;
            let version = row.version.or(rules.version).unwrap_or(0);
            if version < rules.hidden_below {
                read.hidden += 1;
            }
            if let Err(error) = rules.check_version(version) {
                tell(
                    &mut read,
                    name,
                    Some(row.file_row),
                    rules.columns.version.clone(),
                    error.detail().to_owned(),
                );
                continue;
            }
            // Nothing of a load that fails will be used; what is left is read only to tell all errors.
            if only_faults || read.error_count > 0 {
                continue;
            }
            buffer.push(row.key, version, row.expires_at, row.value);
            if buffer.is_full() {
                let in_runs = Some(Before { rows: row.file_row + 1, hidden: read.hidden });
                filled.blocking_send(Filled { buffer, in_runs }).map_err(|_| given_up())?;
                buffer = empty.blocking_recv().ok_or_else(given_up)?;
            }
        }
    }
    filled.blocking_send(Filled { buffer, in_runs: None }).map_err(|_| given_up())?;
    Ok(read)
}

/// The rows of a file that have a key and version.
///
/// # Errors
/// What is wrong with the file as a whole.
pub(crate) fn find(opened: &Opened, name: &str, rules: &RowRules, sought: &Duplicate) -> Result<Vec<u64>> {
    let mut reader = open_rows(opened, name, rules, 0)?;
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

fn tell(read: &mut Read, file: &str, row: Option<u64>, column: Option<String>, detail: String) {
    read.error_count += 1;
    if read.errors.len() < limits::LOAD_ERRORS {
        read.errors.push(LoadError { file: file.to_owned(), row, column, detail });
    }
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
