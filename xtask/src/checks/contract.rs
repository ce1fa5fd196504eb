//! The running program keeps to its own description: it answers the `openapi.json` that is checked in, and
//! Schemathesis, which makes requests from that file, finds no answer that the file does not allow, no broken request
//! that is taken, and no failure of the server.

use super::openapi;
use crate::report::Counts;
use crate::{Outcome, process};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Requests drawn for each operation, beside those that cover its parameters one by one.
const EXAMPLES: &str = "25";
/// Fewer than this many requests have shown nothing.
const LEAST: u64 = 5_000;

/// What is asked of every answer. Not among them: that every request that keeps to the description is answered with a
/// 2xx. It may be well-formed and still name a page token that nobody gave or a load that is committed already.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_schema_conformance,response_headers_conformance,negative_data_rejection,unsupported_method,\
    allow_header_conformance";

/// What would end that the names are those of things that are there.
const ENDS: [&str; 2] = [
    "DELETE /v1/namespaces/{ns}/tables/{table}",
    "POST /v1/namespaces/{ns}/tables/{table}/loads/{id}:cancel",
];

pub(crate) fn check(python: &Path, program: &Path, counts: &mut Counts) -> Outcome {
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let server = Server::start(program, scratch.path())?;
    same_description(python, &server.api)?;
    println!("GET /openapi.json is the checked-in file");
    counts.passed += 1;
    let tool = python.with_file_name("schemathesis");
    // Names as they come: mostly of things that are not there.
    let config = scratch.path().join("schemathesis.toml");
    let mut requests = explore(&tool, &config, "", &server, &[])?;
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
    // Names of things that are there, so that requests get past "no such table".
    let load = begin_load(python, &server.api)?;
    let names = format!(
        "[parameters]\n\"path.ns\" = \"default\"\n\"path.table\" = \"contract\"\n\"path.key\" = \"k1\"\n\"path.id\" = \"{load}\"\n"
    );
    requests += explore(&tool, &config, &names, &server, &ENDS)?;
    counts.passed += requests;
    println!("{requests} requests, and no answer that openapi.json does not allow");
    server.is_well(python)?;
    if requests < LEAST {
        return Err(format!("Schemathesis made {requests} requests; at least {LEAST} were wanted"));
    }
    Ok(())
}

/// What a broken request is refused with, and that a header which nobody knows is nothing broken.
const SETTINGS: &str = "\
[generation]
allow-extra-parameters = false

[checks.negative_data_rejection]
expected-statuses = [404, 405, 406, 409, 410, 413, 414, 415, 422, 431, 501]

";

/// Runs Schemathesis; answers how many requests it made.
fn explore(tool: &Path, config: &Path, names: &str, server: &Server, without: &[&str]) -> Outcome<u64> {
    std::fs::write(config, format!("{SETTINGS}{names}")).map_err(|error| error.to_string())?;
    let folder = config.parent().unwrap_or(Path::new("."));
    let mut command = Command::new(tool);
    command.arg("--config-file").arg(config).arg("run");
    for name in without {
        command.args(["--exclude-name", name]);
    }
    // A seed makes a failure repeatable; the phases without `stateful` need no links between operations.
    command.arg(patient(folder)?).args(["--url", &server.api, "--checks", CHECKS, "--no-color"]);
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
    process::run_lines(&mut command, Duration::from_secs(900), |line| cases += generated(line).unwrap_or(0))?;
    Ok(cases)
}

/// The description without the deadline of a request: what is to be done within a millisecond is rightly answered with
/// a 504.
fn patient(folder: &Path) -> Outcome<PathBuf> {
    let wrong = |error: &dyn std::fmt::Display| format!("openapi.json: {error}");
    let text = std::fs::read_to_string(openapi::file()).map_err(|error| wrong(&error))?;
    let mut document: Value = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    let items = document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    for operation in items.filter_map(Value::as_object_mut).flat_map(|item| item.values_mut()) {
        if let Some(parameters) = operation.get_mut("parameters").and_then(Value::as_array_mut) {
            parameters.retain(|parameter| parameter["name"] != "nacre-deadline-ms");
        }
    }
    let path = folder.join("openapi.json");
    std::fs::write(&path, document.to_string()).map_err(|error| wrong(&error))?;
    Ok(path)
}

/// The number of a line such as `520 generated, 491 passed`.
fn generated(line: &str) -> Option<u64> {
    let (number, _) = line.trim().split_once(" generated")?;
    number.parse().ok()
}

/// Begins a load into the table of the test; answers its id.
fn begin_load(python: &Path, api: &str) -> Outcome<String> {
    let url = format!("{api}/v1/namespaces/default/tables/contract/loads");
    let script = "import json, sys, urllib.request as u; \
        r = u.Request(sys.argv[1], b'{\"mode\":\"merge\",\"version\":\"now\"}', {'content-type': 'application/json'}); \
        sys.stdout.write(json.load(u.urlopen(r))['load_id'])";
    process::output(Command::new(python).args(["-c", script, &url]))
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

impl Server {
    /// Whether it is ready still, and no handler of it has panicked.
    fn is_well(&self, python: &Path) -> Outcome {
        let script = "import sys, urllib.request as u; a = sys.argv[1]; u.urlopen(a + '/readyz'); \
            sys.stdout.write(u.urlopen(a + '/metrics').read().decode())";
        let metrics = process::output(Command::new(python).args(["-c", script, &self.api]))?;
        match metrics.lines().find_map(|line| line.strip_prefix("nacre_http_panics_total ")) {
            Some("0") => Ok(()),
            other => Err(format!("nacre_http_panics_total is {other:?}")),
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
