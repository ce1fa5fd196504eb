//! The running program keeps to its own description: it answers the `openapi.json` that is checked in, and
//! Schemathesis, which makes requests from that file, finds no answer that the file does not allow and no 500.

use super::openapi;
use crate::report::Counts;
use crate::{Outcome, process};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Requests made of each operation, beside those that cover its parameters one by one.
const EXAMPLES: &str = "25";

/// What is asked of every answer. Not among them: that a broken request is always refused (a key that a generator
/// holds for malformed is often just a key), and that every status stands in openapi.json, which does not yet list each
/// operation's 422 and 413.
const CHECKS: &str = "not_a_server_error";

/// A table that is there, so that requests get past "no such table". Dropping it would end that.
const NAMES: &str = "[parameters]\n\"path.ns\" = \"default\"\n\"path.table\" = \"contract\"\n\"path.key\" = [\"k1\", \"k2\"]\n";
const DROP: &str = "DELETE /v1/namespaces/{ns}/tables/{table}";

pub(crate) fn check(python: &Path, program: &Path, counts: &mut Counts) -> Outcome {
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let server = Server::start(program, scratch.path())?;
    same_description(python, &server.api)?;
    println!("GET /openapi.json is the checked-in file");
    counts.passed += 1;
    let tool = python.with_file_name("schemathesis");
    // Names as they come: mostly of things that are not there.
    explore(Command::new(&tool).arg("run"), &server, scratch.path(), counts)?;
    for words in [
        &["table", "create", "contract"][..],
        &["put", "contract", "k1", "one"],
        &["put", "contract", "k2", "{\"a\": 2}"],
    ] {
        process::run(
            Command::new(program).args(words).args(["--server", &server.api]),
            Duration::from_secs(30),
        )?;
    }
    let config = scratch.path().join("schemathesis.toml");
    std::fs::write(&config, NAMES).map_err(|error| error.to_string())?;
    let mut command = Command::new(&tool);
    command.arg("--config-file").arg(config).arg("run").args(["--exclude-name", DROP]);
    explore(&mut command, &server, scratch.path(), counts)
}

fn explore(command: &mut Command, server: &Server, folder: &Path, counts: &mut Counts) -> Outcome {
    // A seed makes a failure repeatable; the phases without `stateful` need no links between operations.
    command.arg(openapi::file()).args(["--url", &server.api, "--checks", CHECKS, "--no-color"]);
    command.args([
        "--seed",
        "1",
        "--max-examples",
        EXAMPLES,
        "--phases",
        "coverage,fuzzing",
        "--workers",
        "1",
    ]);
    command.args(["--request-timeout", "20", "--warnings", "off"]).current_dir(folder);
    let mut cases = 0;
    process::run_lines(command, Duration::from_secs(900), |line| cases += generated(line).unwrap_or(0))?;
    if cases == 0 {
        return Err("Schemathesis made no request".into());
    }
    counts.passed += cases;
    Ok(())
}

/// The number of a line such as `520 generated, 491 passed`.
fn generated(line: &str) -> Option<u64> {
    let (number, _) = line.trim().split_once(" generated")?;
    number.parse().ok()
}

fn same_description(python: &Path, api: &str) -> Outcome {
    let url = format!("{api}/openapi.json");
    let script = "import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1]).read().decode())";
    let served = process::output(Command::new(python).args(["-c", script, &url]))?;
    let file = std::fs::read_to_string(openapi::file()).map_err(|error| format!("openapi.json: {error}"))?;
    let parse =
        |text: &str| serde_json::from_str::<Value>(text).map_err(|error| format!("openapi.json: {error}"));
    if parse(&served)? == parse(&file)? {
        Ok(())
    } else {
        Err("GET /openapi.json differs from the file that is checked in".into())
    }
}

/// A server of its own, in memory, on a free port; ended when dropped.
pub(crate) struct Server {
    child: Child,
    /// Its address, as a URL.
    pub(crate) api: String,
}

impl Server {
    fn start(program: &Path, folder: &Path) -> Outcome<Self> {
        let mut child = Command::new(program)
            .args(["serve", "--ephemeral", "--listen", "127.0.0.1:0", "--output", "json"])
            .env("NACRE_LOG_LEVEL", "warn")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let mut line = String::new();
        let mut stdout = child.stdout.take().map(BufReader::new).ok_or("no pipe to the server's stdout")?;
        let read = stdout.read_line(&mut line).map_err(|error| error.to_string());
        let api =
            serde_json::from_str::<Value>(&line).ok().and_then(|v| v["api"].as_str().map(str::to_owned));
        match (read, api) {
            (Ok(_), Some(api)) => Ok(Self { child, api }),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("the server's first line is no JSON with \"api\": {line:?}"))
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_number_of_requests_is_read_from_the_summary() {
        assert_eq!(super::generated("  2795 generated, 2795 passed"), Some(2_795));
        assert_eq!(super::generated("Test cases:"), None);
    }
}
