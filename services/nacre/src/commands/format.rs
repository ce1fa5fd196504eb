//! `nacre format status|upgrade`

use crate::commands::serve;
use crate::output::{Grid, Out};
use crate::storage::{self, FORMAT_LEVEL, StorageSettings};
use clap::Subcommand;
use nacre_catalog::heartbeat::{self, Process};
use nacre_fleet::Member;
use nacre_runtime::Context;
use nacre_store::StoreIdentity;
use nacre_types::{Error, Result};
use serde::Serialize;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The store's format level, what this program knows, and what each running process knows; asks store and catalog
    Status {
        #[command(flatten)]
        storage: Box<StorageSettings>,
    },
    /// Raise the store's format level to what this program knows: from then on older programs do not start on it. Refused
    /// while a process runs that knows less
    Upgrade {
        #[command(flatten)]
        storage: Box<StorageSettings>,
    },
}

/// A process that is registered.
#[derive(Debug, Serialize)]
struct Running {
    process: String,
    name: String,
    /// `None`: it does not say.
    format_level: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Status {
    store: String,
    format_level: u32,
    known_level: u32,
    processes: Vec<Running>,
}

pub(crate) async fn run(command: &Command, out: &Out) -> Result<()> {
    let (Command::Status { storage } | Command::Upgrade { storage }) = command;
    storage.check()?;
    let ctx = Context::system();
    let opened = storage::look(storage, &ctx).await?;
    let processes = heartbeat::registered(&*opened.catalog).await?;
    let mut status = Status {
        store: storage.store_url(),
        format_level: opened.identity.format_level,
        known_level: FORMAT_LEVEL,
        processes: processes.iter().map(running).collect(),
    };
    if matches!(command, Command::Upgrade { .. }) {
        if let Err(error) = check(&status.processes) {
            // Where all died nobody is left to forget them. One who lives speaks for nobody else: then all that are registered
            // count.
            let config = serve::presence(&storage.store_url(), storage.catalog_url()).heartbeat;
            if !heartbeat::alive(&*opened.catalog, config).await?.is_empty() {
                return Err(error);
            }
            status.processes.clear();
        }
        let raised = StoreIdentity::raise_format_level(&*opened.store, FORMAT_LEVEL, &ctx).await?;
        status.format_level = raised.format_level;
    }
    out.result(&status, table)
}

fn running(process: &Process) -> Running {
    // What cannot be read was said by a stranger: it does not say what it knows.
    let member = Member::decode(process).ok().flatten();
    Running {
        process: process.id.to_string(),
        name: member.as_ref().map(|member| member.name.clone()).unwrap_or_default(),
        format_level: member.map(|member| member.format_level),
    }
}

/// Refuses while somebody runs who could not read what comes.
fn check(processes: &[Running]) -> Result<()> {
    let behind = processes.iter().filter(|one| one.format_level.is_none_or(|level| level < FORMAT_LEVEL));
    let named: Vec<String> = behind
        .map(|one| {
            let name = if one.name.is_empty() { &one.process } else { &one.name };
            match one.format_level {
                Some(level) => format!("{name} (knows {level})"),
                None => format!("{name} (plays every role and does not say)"),
            }
        })
        .collect();
    if named.is_empty() {
        return Ok(());
    }
    Err(Error::conflict(format!(
        "these processes run and may not know format level {FORMAT_LEVEL}: {}; stop them or start this release in their \
         place, and try again (one that died is forgotten after a while)",
        named.join(", ")
    ))
    .with_code("format-level"))
}

fn table(status: &Status) -> String {
    let mut grid = Grid::new(&["process", "name", ">knows"]);
    for one in &status.processes {
        let level = one.format_level.map_or_else(|| "?".to_owned(), |level| level.to_string());
        grid.row([one.process.clone(), one.name.clone(), level]);
    }
    let (store, level, known) = (&status.store, status.format_level, status.known_level);
    let next = if level < known { "; nacre format upgrade raises it" } else { "" };
    format!("{store} has format level {level}; this program knows {known}{next}\n{}", grid.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, format_level: Option<u32>) -> Running {
        Running { process: "p".into(), name: name.into(), format_level }
    }

    #[test]
    fn nobody_who_knows_less_or_does_not_say_may_run() {
        assert!(check(&[]).is_ok());
        assert!(check(&[one("a", Some(FORMAT_LEVEL)), one("b", Some(FORMAT_LEVEL + 1))]).is_ok());
        let error = check(&[one("a", Some(FORMAT_LEVEL)), one("old", Some(1)), one("", None)]).unwrap_err();
        assert_eq!(error.code(), "format-level");
        assert!(error.detail().contains("old (knows 1), p (plays"), "{error}");
    }
}
