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
/// holds for malformed is often just a key).
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
response_headers_conformance,response_schema_conformance";

pub(crate) fn check(python: &Path, program: &Path, counts: &mut Counts) -> Outcome {
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let server = Server::start(program, scratch.path())?;
    same_description(python, &server.api)?;
    println!("GET /openapi.json is the checked-in file");
    let tool = python.with_file_name("schemathesis");
    let mut command = Command::new(tool);
    command.arg("run").arg(openapi::file()).args(["--url", &server.api, "--checks", CHECKS]);
    // A seed makes a failure repeatable; the phases without `stateful` need no links between operations.
    command.args(["--seed", "1", "--max-examples", EXAMPLES, "--phases", "examples,coverage,fuzzing"]);
    command.args(["--workers", "1", "--no-color", "--request-timeout", "20"]).current_dir(scratch.path());
    process::run(&mut command, Duration::from_secs(900))?;
    *counts = Counts { passed: 2, failed: 0 };
    Ok(())
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
