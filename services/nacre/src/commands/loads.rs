//! `nacre loads list|describe|files|watch|prepare|commit|cancel|revert`

use super::common::{Asker, table_ref};
use crate::output::{Grid, moment, note, pairs};
use crate::units::{self, TableArgument};
use clap::{Args, Subcommand};
use nacre_api::{CommitLoadBody, LoadBody, LoadErrorBody, LoadModeBody, LoadStateBody};
use nacre_client::{LoadAction, TableRef};
use nacre_types::{Error, ErrorKind, Result};
use std::io::{IsTerminal, Write};
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the loads of a table, newest first
    List {
        /// The table
        table: TableArgument,
    },
    /// Show a load
    Describe(One),
    /// Show what became of each file of a load
    Files(One),
    /// Follow a load until it is over or prepared
    Watch(One),
    /// Make everything ready, and show nothing
    Prepare(Going),
    /// Make a load visible
    Commit(Going),
    /// Give a load up
    Cancel(One),
    /// Take a load back
    Revert(One),
}

/// One load.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// The table
    table: TableArgument,
    /// The load
    id: String,
}

/// One load that goes on by itself.
#[derive(Debug, Args)]
pub(crate) struct Going {
    #[command(flatten)]
    one: One,
    /// Do not wait until it is done
    #[arg(long)]
    no_wait: bool,
}

pub(crate) async fn run(command: &Command, asker: &Asker) -> Result<()> {
    match command {
        Command::List { table } => list(table, asker).await,
        Command::Describe(one) => {
            asker.out.result(&asker.client.load(&table_ref(&one.table), &one.id).await?, report)
        }
        Command::Files(one) => files(one, asker).await,
        Command::Watch(one) => {
            let load = wait_until(asker, &table_ref(&one.table), &one.id, true).await?;
            asker.out.result(&load, report)
        }
        Command::Prepare(going) => act(&going.one, LoadAction::Prepare, !going.no_wait, asker).await,
        Command::Commit(going) => act(&going.one, LoadAction::Commit, !going.no_wait, asker).await,
        Command::Cancel(one) => act(one, LoadAction::Cancel, false, asker).await,
        Command::Revert(one) => act(one, LoadAction::Revert, false, asker).await,
    }
}

async fn act(one: &One, action: LoadAction, wait: bool, asker: &Asker) -> Result<()> {
    let table = table_ref(&one.table);
    let mut load = asker.client.load_action(&table, &one.id, action, &CommitLoadBody::default()).await?;
    if wait {
        load = wait_until(asker, &table, &one.id, action == LoadAction::Prepare).await?;
    }
    asker.out.result(&load, report)
}

async fn list(table: &TableArgument, asker: &Asker) -> Result<()> {
    let all = asker.client.loads(&table_ref(table)).await?;
    asker.out.result(&all, |all| {
        let mut grid = Grid::new(&["load", "state", "mode", "version", "begun", ">files", ">rows"]);
        for load in all {
            grid.row([
                load.load_id.clone(),
                state(load.state).to_owned(),
                mode(load.mode).to_owned(),
                load.version.map_or("by column".to_owned(), |version| version.0.to_string()),
                moment(load.begun_at.0),
                units::count(load.progress.files),
                units::count(load.progress.rows),
            ]);
        }
        grid.text()
    })
}

async fn files(one: &One, asker: &Asker) -> Result<()> {
    let all = asker.client.load_files(&table_ref(&one.table), &one.id).await?;
    asker.out.result(&all, |all| {
        let mut grid = Grid::new(&["file", ">rows", ">bytes", "outcome", "why", "what would be better"]);
        for file in all {
            grid.row([
                file.file.clone(),
                units::count(file.rows),
                units::bytes(file.bytes),
                file.outcome.clone(),
                file.reason.clone().unwrap_or_default(),
                file.hint.clone().unwrap_or_default(),
            ]);
        }
        grid.text()
    })
}

/// How often a load is looked at: often at first, for those that take a moment.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LAST_LOOK: Duration = Duration::from_secs(1);
/// How many looks in a row may fail because the server does not answer, before it is given up. The load itself goes on.
const MISSES: u32 = 30;

/// Follows a load until it is over, or prepared if that is enough; tells its progress on stderr.
///
/// # Errors
/// `Conflict` (`load-failed`, `load-cancelled`) where it ended without effect, after telling why.
pub(crate) async fn wait_until(
    asker: &Asker,
    table: &TableRef,
    id: &str,
    prepared_is_enough: bool,
) -> Result<LoadBody> {
    let mut progress = Progress::new();
    let mut pause = FIRST_LOOK;
    let mut misses = 0;
    loop {
        let load = match asker.client.load(table, id).await {
            Ok(load) => load,
            Err(error) if error.kind() == ErrorKind::Unavailable && misses < MISSES => {
                misses += 1;
                tokio::time::sleep(LAST_LOOK).await;
                continue;
            }
            Err(error) => {
                return Err(error.context(format!("load {id} goes on; follow it with nacre loads watch")));
            }
        };
        misses = 0;
        progress.show(&load);
        match load.state {
            LoadStateBody::Committed | LoadStateBody::Reverted => return Ok(load),
            LoadStateBody::Prepared if prepared_is_enough => return Ok(load),
            LoadStateBody::Failed => return Err(failure(&load)),
            LoadStateBody::Cancelled => {
                return Err(Error::conflict(format!("load {id} was cancelled")).with_code("load-cancelled"));
            }
            LoadStateBody::Open
            | LoadStateBody::Validating
            | LoadStateBody::Preparing
            | LoadStateBody::Prepared => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_LOOK);
    }
}

/// An error with its place: file, row and column as far as they are known.
fn told(error: &LoadErrorBody) -> String {
    let row = error.row.map(|row| format!("row {row}"));
    let column = error.column.as_ref().map(|column| format!("column {column}"));
    let file = (!error.file.is_empty()).then(|| error.file.clone());
    let place: Vec<String> = [file, row, column].into_iter().flatten().collect();
    let colon = if place.is_empty() { "" } else { ": " };
    format!("{}{colon}{}", place.join(", "), error.detail)
}

fn failure(load: &LoadBody) -> Error {
    let mut text = format!("load {} failed", load.load_id);
    for error in load.errors.iter().take(20) {
        text.push_str("\n  ");
        text.push_str(&told(error));
    }
    if load.error_count > 20 {
        text.push_str(&format!("\n  and {} more: nacre loads describe", load.error_count - 20));
    }
    Error::conflict(text).with_code("load-failed")
}

/// Progress on stderr: one line that is written anew at a terminal, a line per change of state elsewhere.
struct Progress {
    terminal: bool,
    last: Option<LoadStateBody>,
    width: usize,
}

impl Progress {
    fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), last: None, width: 0 }
    }

    fn show(&mut self, load: &LoadBody) {
        let changed = self.last != Some(load.state);
        self.last = Some(load.state);
        if changed && load.state == LoadStateBody::Open {
            let id = &load.load_id;
            note(&format!("open: it waits for its files, and for nacre loads commit or cancel TABLE {id}"));
        }
        let progress = &load.progress;
        let text = format!(
            "{}: {} of {} files, {} rows, {}",
            state(load.state),
            units::count(progress.files_done),
            units::count(progress.files),
            units::count(progress.rows),
            units::bytes(progress.bytes),
        );
        if load.state == LoadStateBody::Open {
            return;
        }
        if !self.terminal {
            if changed {
                note(&text);
            }
            return;
        }
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "\r{text:<width$}", width = self.width);
        self.width = text.len();
        if !matches!(load.state, LoadStateBody::Validating | LoadStateBody::Preparing) {
            let _ = writeln!(stderr);
        }
        let _ = stderr.flush();
    }
}

fn state(state: LoadStateBody) -> &'static str {
    match state {
        LoadStateBody::Open => "open",
        LoadStateBody::Validating => "validating",
        LoadStateBody::Preparing => "preparing",
        LoadStateBody::Prepared => "prepared",
        LoadStateBody::Committed => "committed",
        LoadStateBody::Failed => "failed",
        LoadStateBody::Cancelled => "cancelled",
        LoadStateBody::Reverted => "reverted",
    }
}

fn mode(mode: LoadModeBody) -> &'static str {
    match mode {
        LoadModeBody::Merge => "merge",
        LoadModeBody::Replace => "replace",
    }
}

/// A load for people.
pub(crate) fn report(load: &LoadBody) -> String {
    let progress = &load.progress;
    let mut lines = vec![
        ("load", load.load_id.clone()),
        ("state", state(load.state).to_owned()),
        ("mode", mode(load.mode).to_owned()),
        ("version", load.version.map_or("by column".to_owned(), |version| version.0.to_string())),
        ("begun", moment(load.begun_at.0)),
        ("staging place", load.staging_url.clone()),
        (
            "files",
            format!(
                "{} of {}: {} adopted, {} rewritten",
                progress.files_done, progress.files, progress.adopted_files, progress.rewritten_files
            ),
        ),
        ("rows", units::count(progress.rows)),
        ("bytes", format!("{}, {} moved", units::bytes(progress.bytes), units::bytes(progress.bytes_moved))),
    ];
    if !progress.seconds.is_empty() {
        let phases: Vec<String> =
            progress.seconds.iter().map(|(phase, seconds)| format!("{phase} {seconds:.1}")).collect();
        lines.push(("seconds", phases.join(", ")));
    }
    if let Some(hidden) = load.rows_hidden {
        lines.push(("rows hidden", units::count(hidden)));
    }
    if let Some(until) = load.revertible_until {
        lines.push(("revertible until", moment(until.0)));
    }
    if let Some(edition) = load.edition {
        lines.push(("edition", edition.0.to_string()));
    }
    for error in &load.errors {
        lines.push(("error", told(error)));
    }
    let more = load.error_count.saturating_sub(load.errors.len() as u64);
    if more > 0 {
        lines.push(("errors", format!("{} more", units::count(more))));
    }
    pairs(&lines)
}
