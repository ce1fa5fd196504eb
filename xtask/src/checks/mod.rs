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

/// Every feature of every crate of the workspace, as cargo's `--features` takes them.
pub(crate) fn features() -> Outcome<String> {
    let words = ["metadata", "--format-version", "1", "--no-deps", "--locked"];
    let text = process::output(&mut process::cargo(&words))?;
    let metadata: Value = serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))?;
    Ok(features_of(&metadata).join(","))
}

fn features_of(metadata: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        for feature in package["features"].as_object().into_iter().flat_map(|features| features.keys()) {
            all.push(format!("{name}/{feature}"));
        }
    }
    all
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_named() {
        let metadata = serde_json::json!({"packages": [
            {"name": "a", "features": {"default": ["x"], "x": []}},
            {"name": "b", "features": {"kafka": []}},
            {"name": "c", "features": {}},
        ]});
        assert_eq!(features_of(&metadata), ["a/default", "a/x", "b/kafka"]);
    }
}
