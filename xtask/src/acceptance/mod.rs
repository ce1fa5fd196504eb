//! `cargo xtask acceptance`: the scenarios of the store on one machine, unchanged, against a fleet behind HAProxy.
//!
//! Kafka, DynamoDB Local and an S3 server run once; each server that a test starts is a fleet of its own over them: two
//! dispatchers behind HAProxy, three cache nodes, two writers, two loaders and a maintainer ([`stand_in`]). Tables have
//! eight shards in sixteen partitions. HAProxy writes down which nodes answered each request ([`receipts`]), and a fleet in
//! which one node answered everything fails the run. With `--tls` brokers are spoken to by SASL_SSL, and everybody else by
//! https ([`certificates`]).

pub(crate) mod certificates;
mod receipts;
pub(crate) mod stand_in;

use crate::report::{Counts, Report};
use crate::services::{DYNAMODB_LOCAL, Services, VERSITYGW};
use crate::{Outcome, cache, checks, dev, process, test};
use certificates::Certificates;
use stand_in::Stack;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// Tests of the program that ask a server and nothing beside it.
const SCENARIOS: &[&str] = &[
    "access::",
    "bad_files::",
    "kill::",
    "loads::",
    "rows::",
    "serve::an_interrupt_stops",
    "serve::the_first_answer_after_a_start",
    "tenants::",
];
/// Among them those that look into the folder of a store on one machine.
const OF_A_FOLDER: &str = "a_loaded_file_that_is_changed_in_its_place";
/// Likewise of the tests with TPC-H: files of others, rewritten, and replaced under clients; and Spark jobs.
const TPCH: &[&str] = &["tables_of_tpchgen_are_rewritten", SPARK];
/// Its S3 client knows no authority but those of its Java.
const SPARK: &str = "the_spark_job_publishes";
/// It writes requests byte for byte, and no TLS.
const BY_THE_BYTE: &str = "tenants::";

const STEPS: [&str; 3] = ["it", "tpch", "contract"];

/// What was said on the command line.
#[derive(Default)]
struct Arguments {
    is_tls: bool,
    /// The program; without it the one that tests are built with.
    program: Option<PathBuf>,
    /// A step, or the name of a test.
    only: Vec<String>,
}

pub(crate) fn command(words: &[&str]) -> ExitCode {
    let mut arguments = Arguments::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match (*word, words.as_slice().first()) {
            ("--tls", _) => arguments.is_tls = true,
            ("--program", Some(file)) => arguments.program = Some(file.into()),
            ("--only", Some(name)) => arguments.only.push((*name).to_owned()),
            _ => {
                eprintln!(
                    "usage: cargo xtask acceptance [--tls] [--program FILE] [--only it|tpch|contract|TEST]..."
                );
                return ExitCode::from(2);
            }
        }
        if *word != "--tls" {
            words.next();
        }
    }
    let mut report = Report::default();
    match run(&arguments, &mut report) {
        Ok(()) if report.finish() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, report: &mut Report) -> Outcome {
    let python = cache::python()?;
    let (services, spark) = (Services::of_a_stack()?, cache::spark_s3a()?);
    let [it, tpch] = built(&checks::features()?)?;
    let temporary = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let folder = temporary.path();
    let certificates = match arguments.is_tls {
        true => Some(Certificates::make(&folder.join("certificates"))?),
        false => None,
    };
    eprintln!("starting Kafka, DynamoDB Local and an S3 server on {}", folder.display());
    let running = services.start_secured_in(folder, certificates.as_ref());
    dev::make_bucket(folder)?;
    let missing = |what: &str| format!("{what} does not run");
    let program = arguments.program.clone().unwrap_or_else(|| process::target().join("debug/nacre"));
    let stack = Stack {
        program: program.canonicalize().map_err(|error| format!("{}: {error}", program.display()))?,
        folder: folder.to_owned(),
        s3: running.url(VERSITYGW).ok_or_else(|| missing("the S3 server"))?,
        dynamodb: running.url(DYNAMODB_LOCAL).ok_or_else(|| missing("DynamoDB Local"))?,
        kafka: running.kafka_address().ok_or_else(|| missing("Kafka"))?,
        certificates,
    };
    let stand_in = script(&stack)?;
    let is_wanted = |step: &str| {
        let named = |only: &String| STEPS.contains(&only.as_str());
        arguments.only.iter().all(|only| !named(only)) || arguments.only.iter().any(|only| only == step)
    };
    let names: Vec<&str> =
        arguments.only.iter().map(String::as_str).filter(|only| !STEPS.contains(only)).collect();
    for (step, binary, scenarios) in [("it", &it, SCENARIOS), ("tpch", &tpch, TPCH)] {
        if is_wanted(step) {
            let scenarios = if names.is_empty() { scenarios } else { &names };
            report
                .step(step, |counts| tests(&stack, &stand_in, binary, [&python, &spark], scenarios, counts));
        }
    }
    // Its client trusts nobody whom it cannot be told of.
    if is_wanted("contract") && !arguments.is_tls && names.is_empty() {
        report.step("contract", |counts| checks::contract::check(&python, &stand_in, counts));
    }
    report.step("receipts", |counts| receipts::judge(&stack.receipts(), counts));
    Ok(())
}

/// Builds the tests as `cargo xtask test` does, so that nothing is built twice; answers the binaries `it` and `tpch` of the
/// program.
fn built(features: &str) -> Outcome<[PathBuf; 2]> {
    let words = ["test", "--locked", "--workspace", "--features", features, "--no-run"];
    let mut command = process::cargo(&words);
    command.args(["--message-format", "json-render-diagnostics"]);
    let said = process::output(&mut command)?;
    let find = |name: &str| {
        let found = said
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .find(|line| {
                line["target"]["name"] == name
                    && line["executable"].is_string()
                    && line["target"]["src_path"]
                        .as_str()
                        .is_some_and(|path| path.contains("services/nacre/tests"))
            });
        let path = found.and_then(|line| line["executable"].as_str().map(PathBuf::from));
        path.ok_or_else(|| format!("cargo did not say where the tests {name} are"))
    };
    Ok([find("it")?, find("tpch")?])
}

/// A program that stands in for `nacre`.
fn script(stack: &Stack) -> Outcome<PathBuf> {
    let this = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let described = stack.folder.join("stack.json");
    let path = stack.folder.join("nacre");
    let text = format!("#!/bin/sh\nexec '{}' stand-in '{}' \"$@\"\n", this.display(), described.display());
    std::fs::write(&described, stack.to_json().to_string())
        .and_then(|()| std::fs::write(&path, text))
        .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

fn tests(
    stack: &Stack,
    stand_in: &Path,
    binary: &Path,
    [python, spark]: [&Path; 2],
    scenarios: &[&str],
    counts: &mut Counts,
) -> Outcome {
    let mut command = Command::new(binary);
    // A fleet is ten processes: two tests at once are enough.
    command.args(scenarios).args(["--test-threads", "2"]).stdin(Stdio::null());
    command.args(["--skip", OF_A_FOLDER]);
    command
        .current_dir(process::root().join("services/nacre"))
        .env("NACRE_PYTHON", python)
        .env("NACRE_TEST_PROGRAM", stand_in)
        .env("NACRE_TEST_S3_ENDPOINT", format!("{VERSITYGW}={}", stack.s3))
        .env("NACRE_TEST_SPARK_JARS", spark)
        .env("NACRE_TEST_SPLIT", serde_json::json!(stand_in::SPLIT).to_string())
        .env("NACRE_TEST_S3_FOLDER", stack.folder.join("versitygw").join(dev::BUCKET));
    if let Some(certificates) = &stack.certificates {
        command.env("NACRE_TEST_CA", certificates.authority()).args(["--skip", SPARK, "--skip", BY_THE_BYTE]);
    }
    process::run_lines(&mut command, 30 * MINUTE, |line| test::add_result(line, counts))
}
