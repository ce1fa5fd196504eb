//! Commands of later stages: they are in the help, and say so.

use clap::Args;
use nacre_types::{Error, Result};

/// Whatever is said to a command that does not exist yet.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<String>,
}

/// Wrong usage, for now.
pub(crate) fn refuse(command: &str, why: &str) -> Result<()> {
    Err(Error::invalid(format!("nacre {command} is not built yet: {why}")).with_code("not-built-yet"))
}
