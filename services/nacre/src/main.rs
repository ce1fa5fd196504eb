//! The program: every role and the command line. Here is wiring only; what is wired lies in the other crates.
#![allow(clippy::disallowed_methods, reason = "a program: it may read the environment and the clock")]

mod aws;
mod cli;
mod commands;
mod kafka;
mod output;
mod phases;
mod settings;
#[cfg(feature = "kafka")]
mod sources;
mod storage;
mod telemetry;
mod units;

use settings::Refusal;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: the child that decodes a stranger's file has no settings, no logs and no threads.
    if std::env::args_os().nth(1).is_some_and(|word| word == nacre_loader::child::ARGUMENT) {
        return ExitCode::from(u8::try_from(nacre_loader::child::main()).unwrap_or(2));
    }
    nacre_tls::install_provider();
    let said = match settings::read(std::env::args_os()) {
        Ok(said) => said,
        Err(Refusal::Parser(error)) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
        Err(Refusal::Error(error)) => return output::complain(&error, output::Format::Table).into(),
    };
    match commands::run(&said) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output::complain(&error, said.cli.global.output).into(),
    }
}
