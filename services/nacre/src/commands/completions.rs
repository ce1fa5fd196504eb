//! `nacre completions SHELL`

use crate::cli::Cli;
use crate::output::Out;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use nacre_types::Result;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments, out: &Out) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "nacre", &mut script);
    out.bytes(&script)
}
