//! `cargo xtask cost`: what the store's requests cost by list price, for a large workload and beside DynamoDB.
//!
//! `--count` runs the whole stack on this machine and counts, in small, what each kind of work asks of S3 and DynamoDB
//! (`counted.json`); without it the table is made from what was counted last. Prices are in `prices.toml`, with their date.
//! Only requests, bytes and what is kept are priced: machines are not, because what they cost is a matter of contract.

mod count;
mod prices;
mod table;

use crate::Outcome;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask cost [--count [--program FILE]]";

pub(crate) fn command(words: &[&str]) -> ExitCode {
    let (count, program) = match words {
        [] => (false, None),
        ["--count"] => (true, None),
        ["--count", "--program", file] => (true, Some(PathBuf::from(file))),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(count, program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cost: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(count: bool, program: Option<PathBuf>) -> Outcome {
    let file = crate::process::root().join("xtask/src/cost/counted.json");
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let counted = if count {
        let counted = count::run(program)?;
        let text = serde_json::to_string_pretty(&counted.to_json()).map_err(|error| failed(&error))?;
        std::fs::write(&file, text + "\n").map_err(|error| failed(&error))?;
        counted
    } else {
        let text = std::fs::read_to_string(&file)
            .map_err(|error| format!("{}; count first: cargo xtask cost --count", failed(&error)))?;
        let json = serde_json::from_str(&text).map_err(|error| failed(&error))?;
        count::Counted::from_json(&json)?
    };
    let prices = prices::Prices::of(include_str!("prices.toml"))?;
    print!("{}", table::render(&counted, &prices, &table::Workload::mussel()));
    Ok(())
}
