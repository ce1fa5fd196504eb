//! The data: written by other people's programs, and told row by row by DuckDB.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, Weak};

/// How much of TPC-H: 0.05 is 75,000 orders, 1 is 1.5 million.
fn factor() -> String {
    std::env::var("NACRE_TPCH_SF").ok().filter(|factor| !factor.is_empty()).unwrap_or("0.05".to_owned())
}

/// Runs a script beside this file; what it prints.
pub(crate) fn python<S: AsRef<OsStr>>(script: &str, arguments: impl IntoIterator<Item = S>) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tpch").join(script);
    let mut command = Command::new(std::env::var_os("NACRE_PYTHON").unwrap());
    command.arg("-B").arg(&script).args(arguments).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}: {}\n{}",
        script.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A folder with the tables and what is in them, shared by the tests that run now.
pub(crate) struct Data(tempfile::TempDir);

static SHARED: Mutex<Weak<Data>> = Mutex::new(Weak::new());

impl Data {
    /// The data; `None`, after saying so, where there is no Python to make it with.
    pub(crate) fn get() -> Option<Arc<Self>> {
        if std::env::var_os("NACRE_PYTHON").is_none_or(|python| python.is_empty()) {
            println!(
                "NOTICE: skipped, NACRE_PYTHON is not set (a python with pyarrow, duckdb, pyspark and tpchgen-cli)"
            );
            return None;
        }
        // A test that failed while it held the lock has left nothing half made behind it.
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(data) = shared.upgrade() {
            return Some(data);
        }
        let data = Arc::new(Self(tempfile::tempdir().unwrap()));
        python("prepare.py", [data.0.path().as_os_str(), OsStr::new(&factor())]);
        *shared = Arc::downgrade(&data);
        Some(data)
    }

    /// The folder of the tables' files.
    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    /// The Parquet file of a table.
    pub(crate) fn file(&self, table: &str) -> PathBuf {
        self.folder().join(format!("{table}.parquet"))
    }

    /// The columns of a table that are packed, in order and with commas between them.
    pub(crate) fn packed(&self, table: &str) -> String {
        std::fs::read_to_string(self.folder().join(format!("{table}.columns"))).unwrap()
    }

    /// The rows of a table in key order, at `version`.
    pub(crate) fn rows(&self, table: &str, version: i64) -> impl Iterator<Item = Row> + use<> {
        let file = std::fs::File::open(self.folder().join(format!("{table}.rows"))).unwrap();
        BufReader::with_capacity(1 << 20, file).lines().map(move |line| Row::of(&line.unwrap(), version))
    }
}

/// A row as it must be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// The key's bytes.
    pub(crate) key: Vec<u8>,
    /// Its parts: a JSON array.
    pub(crate) parts: String,
    pub(crate) value: String,
    pub(crate) version: i64,
}

impl Row {
    fn of(line: &str, version: i64) -> Self {
        let (key, rest) = line.split_once('\t').unwrap();
        let (parts, value) = rest.split_once('\t').unwrap();
        let digit = |at: usize| u8::from_str_radix(&key[at..at + 2], 16).unwrap();
        let key = (0..key.len()).step_by(2).map(digit).collect();
        Self { key, parts: parts.to_owned(), value: value.to_owned(), version }
    }

    /// The parts, as a request has them.
    pub(crate) fn json_parts(&self) -> Vec<serde_json::Value> {
        serde_json::from_str(&self.parts).unwrap()
    }
}
