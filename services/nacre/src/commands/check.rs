//! `nacre check FILE...`: would these files be adopted, under which keys, and if not, what to change. It asks no server,
//! so that a job can be checked before it ships. The verdict is that of the loader's own code.

use super::common::failed;
use super::load::{ColumnArguments, gather, local_path};
use crate::output::{Grid, Out, note};
use crate::units;
use clap::Args;
use nacre_segment::foreign::{Caps, LoadColumns, ProveOptions, ReadAt, Verdict, declare_key, prove_with};
use nacre_types::{Error, KeySchema, Result};
use serde::Serialize;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Parquet files, or folders of them
    #[arg(value_name = "FILE|URL", required = true)]
    files: Vec<String>,
    #[command(flatten)]
    columns: ColumnArguments,
    /// A file that would be rewritten is a failure too
    #[arg(long)]
    require_adoption: bool,
}

/// What would become of one file.
#[derive(Debug, Serialize)]
struct Judged {
    file: String,
    /// `adopt`, `rewrite` or `refuse`.
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tombstones: Option<u64>,
    bytes: u64,
    /// What the keys of a table would be that is declared by this load.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<KeySchema>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

pub(crate) fn run(arguments: &Arguments, out: &Out) -> Result<()> {
    let columns = LoadColumns {
        key: arguments.columns.key.clone(),
        value: arguments.columns.value.clone(),
        pack: (!arguments.columns.pack.is_empty()).then(|| arguments.columns.pack.clone()),
        version: arguments.columns.version_column.clone(),
        expires_at: arguments.columns.expires_at_column.clone(),
        delete: arguments.columns.delete_column.clone(),
    };
    let mut all = Vec::new();
    for (name, path) in files(&arguments.files)? {
        all.push(judge(name, &path, &columns)?);
    }
    out.result(&all, |all| table(all))?;
    if !out.is_json() {
        hints(&all);
    }
    let count = |verdict: &str| all.iter().filter(|one| one.verdict == verdict).count();
    let (refused, rewritten) = (count("refuse"), count("rewrite"));
    if refused > 0 {
        return Err(Error::conflict(format!("{refused} of {} files would be refused", all.len()))
            .with_code("check-failed"));
    }
    if arguments.require_adoption && rewritten > 0 {
        return Err(Error::conflict(format!("{rewritten} of {} files would be rewritten", all.len()))
            .with_code("check-failed"));
    }
    Ok(())
}

/// The files by the names that they would have in a load.
fn files(words: &[String]) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for word in words {
        if word.contains("://") && !word.starts_with("file:") {
            return Err(Error::invalid(format!(
                "{word}: nacre check reads files of this machine; object stores come later"
            ))
            .with_code("not-built-yet"));
        }
        let path = local_path(word);
        if path.is_dir() {
            gather(path, path, &mut files)?;
        } else {
            files.push((path.display().to_string(), path.to_owned()));
        }
    }
    if files.is_empty() {
        return Err(Error::not_found("there is no file to check").with_code("no-files"));
    }
    Ok(files)
}

fn judge(name: String, path: &Path, columns: &LoadColumns) -> Result<Judged> {
    let file = File::open(path).map_err(|error| failed(path.display(), &error))?;
    let bytes = file.metadata().map_err(|error| failed(path.display(), &error))?.len();
    let file: Arc<dyn ReadAt> = Arc::new(file);
    let caps = Caps::default();
    let mut judged = Judged {
        file: name,
        verdict: "refuse",
        rows: None,
        tombstones: None,
        bytes,
        key: None,
        reason: None,
        hint: None,
    };
    let folder_columns = folder_columns(path);
    let verdict = declare_key(&*file, columns, &folder_columns, &caps).and_then(|key| {
        judged.key = Some(key.clone());
        // Any version will do: whether the file can be adopted does not depend on which one the load has.
        let options = ProveOptions {
            key,
            version: Some(0),
            folder_columns: folder_columns.clone(),
            // That depends on the table.
            hidden_below: None,
        };
        prove_with(&file, columns, &caps, &options)
    });
    match verdict {
        Ok(Verdict::Adopt(adopted)) => {
            judged.verdict = "adopt";
            judged.rows = Some(adopted.summary.rows);
            judged.tombstones = Some(adopted.summary.tombstones);
        }
        Ok(Verdict::Rewrite { reason, hint }) => {
            judged.verdict = "rewrite";
            judged.reason = Some(reason);
            judged.hint = Some(hint);
        }
        Err(error) => judged.reason = Some(error.detail().to_owned()),
    }
    Ok(judged)
}

/// The columns that stand as `name=value` in a file's path, as a job that partitions its output writes them.
fn folder_columns(path: &Path) -> Vec<(String, String)> {
    let folders = path.parent().into_iter().flat_map(Path::components);
    folders
        .filter_map(|folder| folder.as_os_str().to_str()?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn table(all: &[Judged]) -> String {
    let mut grid = Grid::new(&["file", "verdict", ">rows", ">bytes", "key", "why"]);
    for one in all {
        grid.row([
            one.file.clone(),
            one.verdict.to_owned(),
            one.rows.map_or("-".to_owned(), units::count),
            units::bytes(one.bytes),
            one.key.as_ref().map_or("-".to_owned(), show_schema),
            one.reason.clone().unwrap_or_default(),
        ]);
    }
    grid.text()
}

fn show_schema(key: &KeySchema) -> String {
    match key {
        KeySchema::Bytes => "bytes".to_owned(),
        KeySchema::Parts(parts) => {
            let parts: Vec<String> = parts
                .iter()
                .map(|part| format!("{}:{}", part.name, nacre_types::tuple::kind_name(part.kind)))
                .collect();
            parts.join(",")
        }
    }
}

/// What to change, each advice once.
fn hints(all: &[Judged]) {
    let mut told: Vec<&str> = Vec::new();
    for hint in all.iter().filter_map(|one| one.hint.as_deref()) {
        if !told.contains(&hint) {
            told.push(hint);
            note(&format!("hint: {hint}"));
        }
    }
}
