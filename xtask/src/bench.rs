//! `cargo xtask bench [--peers]`: the benchmarks of every crate that has some, with the peers beside them if asked.

use crate::{Outcome, process};
use std::process::ExitCode;
use std::time::Duration;

/// Criterion's runs are bounded by themselves; this is for one that hangs.
const LIMIT: Duration = Duration::from_secs(3_600);

pub(crate) fn command(arguments: &[&str]) -> ExitCode {
    let peers = match arguments {
        [] => false,
        ["--peers"] => true,
        _ => {
            eprintln!("usage: cargo xtask bench [--peers]");
            return ExitCode::from(2);
        }
    };
    match run(peers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("bench: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn run(peers: bool) -> Outcome {
    process::run(&mut process::cargo(&["bench", "--locked", "--workspace", "--benches"]), LIMIT)?;
    if peers {
        // The peers compile for many minutes, so they are a workspace of their own.
        let home = process::root().join("bench-peers");
        if !home.is_dir() {
            return Err("--peers: the folder bench-peers is not part of this checkout yet".into());
        }
        process::run(process::cargo(&["bench", "--locked"]).current_dir(home), LIMIT)?;
    }
    Ok(())
}
