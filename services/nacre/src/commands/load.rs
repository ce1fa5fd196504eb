//! `nacre load TABLE FILE|URL...`: begin, bring the files, commit, wait.

use super::common::{Asker, failed, moment, table_ref};
use super::loads::{report, wait_until};
use crate::output::note;
use crate::units::{self, TableArgument};
use clap::{ArgGroup, Args};
use nacre_api::{
    BeginLoadBody, ColumnsBody, CommitLoadBody, GuardsBody, LoadBody, LoadModeBody, LoadSourceBody,
    LoadStateBody, LoadVersionBody, OnDuplicateBody,
};
use nacre_client::{LoadAction, TableRef, UploadBody};
use nacre_types::{Error, ErrorKind, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("which version").args(["version", "version_column"]).required(true).multiple(true))]
pub(crate) struct Arguments {
    /// The table
    #[arg(value_name = "TABLE")]
    table: TableArgument,
    /// Parquet files of this machine, folders of them, or URLs that the server reads: store:folder/ lies in its store
    #[arg(value_name = "FILE|URL", required = true)]
    sources: Vec<String>,
    /// merge: the rows join those that are there; replace: they take their place
    #[arg(long, value_name = "MODE", value_parser = mode)]
    mode: LoadModeBody,
    /// The load's version, and that of its rows unless a column gives it: microseconds since the epoch, a moment such as
    /// 2030-01-31T12:00:00Z, or now; a replace always has one
    #[arg(long, value_name = "VERSION", value_parser = version, allow_hyphen_values = true)]
    version: Option<LoadVersionBody>,
    #[command(flatten)]
    columns: ColumnArguments,
    #[command(flatten)]
    guards: GuardArguments,
    /// One key and version twice with different values: fail, or any of them
    #[arg(long, value_name = "fail|any", value_parser = on_duplicate, default_value = "fail")]
    on_duplicate: OnDuplicateBody,
    /// How many rows there must be, if you know it
    #[arg(long, value_name = "N")]
    rows: Option<u64>,
    /// Makes a repeat of this load the same load
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Stop when everything is ready but not visible, to look at it first
    #[arg(long, conflicts_with = "no_commit")]
    prepare: bool,
    /// Stop when the files are in place
    #[arg(long)]
    no_commit: bool,
}

/// Which columns of the files are what.
#[derive(Debug, Args)]
pub(crate) struct ColumnArguments {
    /// The key columns, in order; without it the column key
    #[arg(long, value_name = "COLUMN,..", value_delimiter = ',')]
    pub(crate) key: Vec<String>,
    /// The value column
    #[arg(long, value_name = "COLUMN", conflicts_with = "pack")]
    pub(crate) value: Option<String>,
    /// Columns that are packed into one JSON object, instead of a value column
    #[arg(long, value_name = "COLUMN,..", value_delimiter = ',')]
    pub(crate) pack: Vec<String>,
    /// The version column
    #[arg(long, value_name = "COLUMN")]
    pub(crate) version_column: Option<String>,
    /// The column that says when a row expires
    #[arg(long, value_name = "COLUMN")]
    pub(crate) expires_at_column: Option<String>,
    /// The column that is true for deletes
    #[arg(long, value_name = "COLUMN")]
    pub(crate) delete_column: Option<String>,
}

impl ColumnArguments {
    /// `None` where nothing was said: the files have the native names.
    fn body(&self) -> Option<ColumnsBody> {
        let columns = ColumnsBody {
            // The API wants the key named where anything is.
            key: if self.key.is_empty() { vec!["key".to_owned()] } else { self.key.clone() },
            value: self.value.clone(),
            pack: (!self.pack.is_empty()).then(|| self.pack.clone()),
            version: self.version_column.clone(),
            expires_at: self.expires_at_column.clone(),
            delete: self.delete_column.clone(),
        };
        let others = [&self.value, &self.version_column, &self.expires_at_column, &self.delete_column];
        let said = !self.key.is_empty() || !self.pack.is_empty() || others.iter().any(|name| name.is_some());
        said.then_some(columns)
    }
}

/// What stops a bad job.
#[derive(Debug, Args)]
struct GuardArguments {
    /// Fewer rows fail the load
    #[arg(long, value_name = "N", default_value_t = 0)]
    min_rows: u64,
    /// A replace that loses more of the table's rows fails
    #[arg(long, value_name = "PERCENT", default_value_t = 50)]
    max_shrink_percent: u8,
    /// More deletes among the rows fail the load
    #[arg(long, value_name = "PERCENT", default_value_t = 10)]
    max_tombstone_percent: u8,
    /// A replace by nothing is meant
    #[arg(long)]
    allow_empty: bool,
    /// A replace older than one that was committed is meant
    #[arg(long)]
    allow_older: bool,
}

fn mode(text: &str) -> Result<LoadModeBody, String> {
    match text {
        "merge" => Ok(LoadModeBody::Merge),
        "replace" => Ok(LoadModeBody::Replace),
        _ => Err("expected merge or replace".to_owned()),
    }
}

fn version(text: &str) -> Result<LoadVersionBody, String> {
    if text == "now" { Ok(LoadVersionBody::Now) } else { moment(text).map(LoadVersionBody::At) }
}

fn on_duplicate(text: &str) -> Result<OnDuplicateBody, String> {
    match text {
        "fail" => Ok(OnDuplicateBody::Fail),
        "any" => Ok(OnDuplicateBody::Any),
        _ => Err("expected fail or any".to_owned()),
    }
}

pub(crate) async fn run(arguments: &Arguments, asker: &Asker) -> Result<()> {
    let table = table_ref(&arguments.table);
    let sources = Sources::of(&arguments.sources)?;
    let body = arguments.body(&sources);
    let load = asker.client.begin_load(&table, &body, arguments.idempotency_key.as_deref()).await?;
    note(&format!("load {} of {} ({:?})", load.load_id, arguments.table, load.state).to_lowercase());
    let load = match load.state {
        LoadStateBody::Open => match bring(arguments, asker, &table, &sources, &load).await {
            Ok(load) => load,
            Err(error) => return Err(give_up(arguments, asker, &table, &load, error).await),
        },
        // A repeat under an idempotency key: it is on its way already.
        _ => load,
    };
    if arguments.no_commit {
        note(&format!("not committed; nacre loads commit {} {}", arguments.table, load.load_id));
        return asker.out.result(&load, report);
    }
    let load = wait_until(asker, &table, &load.load_id, arguments.prepare).await?;
    if arguments.prepare && load.state == LoadStateBody::Prepared {
        note(&format!(
            "read it with --preview {}; then nacre loads commit {} {}",
            load.load_id, arguments.table, load.load_id
        ));
    }
    asker.out.result(&load, report)
}

/// Puts the files of an open load in place, and asks for the commit unless told otherwise.
async fn bring(
    arguments: &Arguments,
    asker: &Asker,
    table: &TableRef,
    sources: &Sources,
    load: &LoadBody,
) -> Result<LoadBody> {
    let mut files = None;
    if let Sources::Files(list) = sources {
        for (number, (name, path)) in list.iter().enumerate() {
            let size = std::fs::metadata(path).map_err(|error| failed(path.display(), &error))?.len();
            let (at, all) = (number + 1, list.len());
            note(&format!("file {at} of {all}: {} ({})", path.display(), units::bytes(size)));
            let put = asker.client.put_load_file(table, &load.load_id, name, UploadBody::File(path.clone()));
            match put.await {
                // Files lie there whole or not at all, and who repeats a load by its key means the same files.
                Err(error) if error.code() == "load-file-exists" && arguments.idempotency_key.is_some() => {
                    note(&format!("{name} is there already"));
                }
                put => put?,
            }
        }
        files = Some(list.iter().map(|(name, _)| name.clone()).collect());
    }
    if arguments.no_commit {
        return Ok(load.clone());
    }
    let action = if arguments.prepare { LoadAction::Prepare } else { LoadAction::Commit };
    // The list is said, so that nothing else that lies there joins in.
    let body = CommitLoadBody { files, rows: arguments.rows };
    asker.client.load_action(table, &load.load_id, action, &body).await
}

/// What is certainly wrong with the files ends the load, so that it does not stay open; a key lets it be repeated as it is.
async fn give_up(
    arguments: &Arguments,
    asker: &Asker,
    table: &TableRef,
    load: &LoadBody,
    error: Error,
) -> Error {
    let is_certain = matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Conflict);
    if arguments.idempotency_key.is_none() && is_certain {
        let nothing = CommitLoadBody::default();
        let cancelled = asker.client.load_action(table, &load.load_id, LoadAction::Cancel, &nothing).await;
        if cancelled.is_ok() {
            note(&format!("load {} was cancelled", load.load_id));
        }
    }
    error
}

impl Arguments {
    fn body(&self, sources: &Sources) -> BeginLoadBody {
        let guards = &self.guards;
        BeginLoadBody {
            mode: self.mode,
            version: self.version,
            source: match sources {
                Sources::Files(_) => None,
                Sources::Urls(urls) => Some(LoadSourceBody::Files(urls.clone())),
                Sources::Prefix(url) => Some(LoadSourceBody::Prefix(url.clone())),
            },
            columns: self.columns.body(),
            guards: GuardsBody {
                min_rows: guards.min_rows,
                max_shrink_percent: guards.max_shrink_percent,
                max_tombstone_percent: guards.max_tombstone_percent,
                allow_empty: guards.allow_empty,
                allow_older: guards.allow_older,
            },
            on_duplicate: self.on_duplicate,
        }
    }
}

/// Where the files come from.
#[derive(Debug, PartialEq, Eq)]
enum Sources {
    /// This machine: a name within the load, and the file. They are put through the API.
    Files(Vec<(String, PathBuf)>),
    /// The server reads them itself.
    Urls(Vec<String>),
    /// The server reads everything below.
    Prefix(String),
}

impl Sources {
    fn of(words: &[String]) -> Result<Self> {
        let is_url = |word: &String| {
            word.starts_with("store:") || (word.contains("://") && !word.starts_with("file:"))
        };
        if words.iter().all(is_url) {
            return match words {
                [one] if one.ends_with('/') => Ok(Self::Prefix(one.clone())),
                many => Ok(Self::Urls(many.to_vec())),
            };
        }
        if words.iter().any(is_url) {
            return Err(Error::invalid("files of this machine and URLs cannot be mixed in one load")
                .with_code("load-sources"));
        }
        let mut files = Vec::new();
        for word in words {
            let path = local_path(word);
            if path.is_dir() {
                gather(path, Path::new(""), &mut files)?;
            } else {
                // Looked at before a load is begun for it.
                std::fs::File::open(path).map_err(|error| failed(path.display(), &error))?;
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                files.push((name.unwrap_or_default(), path.to_owned()));
            }
        }
        for (name, _) in &mut files {
            *name = plain(name);
        }
        if files.is_empty() {
            return Err(Error::not_found("there is no file to load").with_code("no-files"));
        }
        unlike(&mut files);
        Ok(Self::Files(files))
    }
}

/// The files of a folder, in the order of their names; `_SUCCESS`, `.crc` files and empty markers are no data.
pub(crate) fn gather(folder: &Path, below: &Path, files: &mut Vec<(String, PathBuf)>) -> Result<()> {
    let unreadable = |error: std::io::Error| failed(folder.display(), &error);
    let mut entries: Vec<_> =
        std::fs::read_dir(folder).map_err(unreadable)?.collect::<Result<_, _>>().map_err(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let metadata = std::fs::metadata(entry.path()).map_err(unreadable)?;
        if name.starts_with(['_', '.']) || (metadata.is_file() && metadata.len() == 0) {
            continue;
        }
        let inner = below.join(&name);
        if metadata.is_dir() {
            gather(&entry.path(), &inner, files)?;
        } else {
            files.push((inner.to_string_lossy().into_owned(), entry.path()));
        }
    }
    Ok(())
}

/// The path that a word names, a file URL among them.
pub(crate) fn local_path(word: &str) -> &Path {
    let path = word.strip_prefix("file:").map(|path| path.strip_prefix("//").unwrap_or(path));
    Path::new(path.unwrap_or(word))
}

/// A file's own name as a load takes it: what it may not hold becomes `-`. Its folders stay, they may be columns.
fn plain(name: &str) -> String {
    let (folders, own) = parts(name);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '=' | '-');
    let own: String = own.chars().map(|c| if fits(c) { c } else { '-' }).collect();
    // Who names a file means it, also one that a folder's listing would pass over.
    let head = if own.starts_with(['_', '.']) { "file" } else { "" };
    format!("{folders}{head}{own}")
}

/// Folders with their last slash, and a file's own name.
fn parts(name: &str) -> (&str, &str) {
    name.split_at(name.rfind('/').map_or(0, |slash| slash + 1))
}

/// Gives files of the same name (from different folders) names of their own.
fn unlike(files: &mut [(String, PathBuf)]) {
    let mut taken = BTreeSet::new();
    for (name, _) in files {
        let given = name.clone();
        let (folders, own) = parts(&given);
        let mut number = 1;
        while !taken.insert(name.clone()) {
            number += 1;
            *name = format!("{folders}{number}-{own}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_data_files_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.parquet", "a.parquet", "_SUCCESS", ".a.parquet.crc", "day=1/c.parquet"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        std::fs::write(dir.path().join("empty.parquet"), "").unwrap();
        let Sources::Files(files) = Sources::of(&[dir.path().display().to_string()]).unwrap() else {
            panic!("not files")
        };
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a.parquet", "b.parquet", "day=1/c.parquet"]);
    }

    #[test]
    fn sources_are_files_or_urls_and_not_both() {
        let of =
            |words: &[&str]| Sources::of(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["s3://b/p/"]).unwrap(), Sources::Prefix("s3://b/p/".into()));
        assert_eq!(of(&["store:in/a"]).unwrap(), Sources::Urls(vec!["store:in/a".into()]));
        assert_eq!(of(&["store:in/"]).unwrap(), Sources::Prefix("store:in/".into()));
        // This machine's files go through the API, however they are named.
        let file = tempfile::NamedTempFile::with_prefix("a").unwrap();
        let (path, name) = (file.path().display().to_string(), file.path().file_name().unwrap());
        let files = Sources::Files(vec![(name.to_string_lossy().into_owned(), path.clone().into())]);
        for word in [format!("file:{path}"), format!("file://{path}"), path] {
            assert_eq!(of(&[&word]).unwrap(), files, "{word}");
        }
        assert_eq!(of(&["no-such-file"]).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(of(&["a", "s3://b/c"]).unwrap_err().code(), "load-sources");
    }

    #[test]
    fn files_of_one_name_get_names_of_their_own() {
        let mut files: Vec<(String, PathBuf)> =
            ["a", "a", "b", "a"].map(|name| (name.to_owned(), PathBuf::new())).into();
        unlike(&mut files);
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "2-a", "b", "3-a"]);
        let mut files: Vec<(String, PathBuf)> =
            ["day=1/a", "day=1/a"].map(|name| (name.to_owned(), PathBuf::new())).into();
        unlike(&mut files);
        assert_eq!(files[1].0, "day=1/2-a", "the folder is a column");
    }

    #[test]
    fn names_that_a_load_does_not_take_are_made_plain() {
        for (name, made) in [
            ("a.parquet", "a.parquet"),
            ("my file (1).parquet", "my-file--1-.parquet"),
            ("_hidden.parquet", "file_hidden.parquet"),
            ("day=1/ä", "day=1/-"),
        ] {
            assert_eq!(plain(name), made);
        }
    }
}
