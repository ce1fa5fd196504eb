//! Checks that are not tests of one crate.

pub(crate) mod arrows;
pub(crate) mod contract;
pub(crate) mod licences;
pub(crate) mod openapi;
pub(crate) mod tidy;

use crate::report::Counts;
use crate::{Outcome, process};
use serde_json::Value;

/// What `cargo metadata` says of the workspace and everything it depends on, on the platform that is shipped (crates of
/// others would be downloaded to be judged and never be built).
fn metadata() -> Outcome<Value> {
    let text = process::output(&mut process::cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--all-features",
        "--locked",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ]))?;
    serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))
}

/// The files of the repository: tracked, or new and not ignored.
fn repository_files() -> Outcome<Vec<String>> {
    let mut git = std::process::Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(process::root());
    let mut files: Vec<String> = process::output(&mut git)?.lines().map(str::to_owned).collect();
    files.retain(|file| process::root().join(file).is_file());
    files.sort_unstable();
    Ok(files)
}

/// Prints the findings; any is a failure.
fn judge(looked_at: u64, findings: &[String], counts: &mut Counts) -> Outcome {
    for finding in findings {
        println!("{finding}");
    }
    let failed = findings.len() as u64;
    *counts = Counts { passed: looked_at.saturating_sub(failed).max(u64::from(failed == 0)), failed };
    if failed == 0 { Ok(()) } else { Err(format!("{failed} findings")) }
}
