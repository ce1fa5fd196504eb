//! `nacre config check|show`

use crate::output::{Grid, Out};
use crate::settings::{self, Said};
use clap::Subcommand;
use nacre_types::Result;

use super::serve::Settings;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check the file and the variables
    Check {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Show every setting in force, and where it comes from
    Show {
        #[command(flatten)]
        settings: Box<Settings>,
    },
}

pub(crate) fn run(command: &Command, said: &Said, out: &Out) -> Result<()> {
    match command {
        // The parser has judged the file, the variables and the flags already; what is left are those that must fit
        // one another.
        Command::Check { settings } => {
            settings.check()?;
            let file = said.file.path.as_ref().map(|path| path.display().to_string());
            let json = serde_json::json!({"valid": true, "file": file});
            out.result(&json, |_| match &file {
                Some(file) => format!("{file}: valid"),
                None => "valid; there is no file (nacre.toml, or --config FILE)".to_owned(),
            })
        }
        Command::Show { .. } => {
            let matches = innermost(&said.matches);
            out.result(&settings::in_force(matches, &said.file), |all| {
                let mut grid = Grid::new(&["setting", "value", "from"]);
                for one in all {
                    grid.row([
                        one.setting.clone(),
                        one.value.clone().unwrap_or_else(|| "-".to_owned()),
                        one.from.to_owned(),
                    ]);
                }
                grid.text()
            })
        }
    }
}

fn innermost(matches: &clap::ArgMatches) -> &clap::ArgMatches {
    match matches.subcommand() {
        Some((_, inner)) => innermost(inner),
        None => matches,
    }
}
