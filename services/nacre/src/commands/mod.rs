//! The commands, one file each.

pub(crate) mod check;
pub(crate) mod common;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod delete;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod format;
pub(crate) mod get;
pub(crate) mod later;
pub(crate) mod load;
pub(crate) mod loads;
pub(crate) mod log;
pub(crate) mod namespace;
pub(crate) mod put;
pub(crate) mod scan;
pub(crate) mod serve;
pub(crate) mod table;
pub(crate) mod token;
pub(crate) mod topic;
pub(crate) mod versions;

use crate::cli::Command;
use crate::output::Out;
use crate::settings::Said;
use common::Asker;
use nacre_types::{Error, Result};
use std::future::Future;

/// Runs what was said.
pub(crate) fn run(said: &Said) -> Result<()> {
    let global = &said.cli.global;
    let out = Out::new(global.output);
    match &said.cli.command {
        Command::Serve(arguments) => serve::run(&arguments.settings, &out),
        Command::Check(arguments) => check::run(arguments, &out),
        Command::Config(command) => config::run(command, said, &out),
        Command::Log(command) => wait(log::run(command, &out)),
        Command::Format(command) => wait(format::run(command, &out)),
        Command::Doctor(arguments) => wait(doctor::run(arguments, said, &out)),
        Command::Completions(arguments) => completions::run(arguments, &out),
        Command::Token(command) => wait(token::run(command, global)),
        Command::Snapshot(_) => later::refuse("snapshot", "snapshots come with the maintainer"),
        Command::Files(_) => later::refuse("files", "the files of a table come with snapshots and exports"),
        Command::Topic(command) => wait(topic::run(command, &out)),
        Command::Namespace(command) => wait(namespace::run(command, &Asker::new(global)?)),
        Command::Table(command) => wait(table::run(command, &Asker::new(global)?)),
        Command::Get(arguments) => wait(get::run(arguments, &Asker::new(global)?)),
        Command::Put(arguments) => wait(put::run(arguments, &Asker::new(global)?)),
        Command::Delete(arguments) => wait(delete::run(arguments, &Asker::new(global)?)),
        Command::Versions(arguments) => wait(versions::run(arguments, &Asker::new(global)?)),
        Command::Explain(arguments) => wait(explain::run(arguments, &Asker::new(global)?)),
        Command::Scan(arguments) => wait(scan::run(arguments, &Asker::new(global)?)),
        Command::Load(arguments) => wait(load::run(arguments, &Asker::new(global)?)),
        Command::Loads(command) => wait(loads::run(command, &Asker::new(global)?)),
    }
}

/// Runs a command that asks somebody and waits.
fn wait(command: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal(format!("no runtime: {error}")))?
        .block_on(command)
}
