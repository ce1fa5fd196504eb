//! `cargo xtask test`: everything, in the order that finds a mistake soonest.
//!
//! Each step is one function here or in [`crate::checks`]; it prints its time, and one that fails does not stop those
//! that do not need it. The Python environment is installed while the first steps compile.

use crate::process::{cargo, run, run_lines};
use crate::report::{Counts, Report};
use crate::services::{Running, Services};
use crate::{Outcome, cache, checks, tour};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// A step's name and what it shows.
const STEPS: &[(&str, &str)] = &[
    ("fmt", "the code is formatted"),
    ("arrows", "no crate depends on what it must not, and only programs read the environment"),
    ("tidy", "file lengths, words that have no place, files that are left out"),
    ("licences", "every dependency's licence and source is one that deny.toml allows"),
    ("clippy", "no warning, for all targets and features"),
    ("test", "every test of the workspace; one kills the program a hundred times and tells where"),
    ("openapi", "openapi.json is what the code says"),
    ("docs", "the documentation builds without a warning"),
    ("release", "the program builds as a newcomer builds it"),
    ("tour", "the README's tour, line by line, against that program"),
    ("contract", "the running program keeps to its openapi.json (Schemathesis)"),
];

pub(crate) fn command(arguments: &[&str]) -> ExitCode {
    let mut only: Vec<&str> = Vec::new();
    let mut rest = arguments.iter();
    while let Some(&word) = rest.next() {
        match (word, rest.as_slice().first()) {
            ("--list", _) => {
                for (name, what) in STEPS {
                    println!("{name:<10} {what}");
                }
                return ExitCode::SUCCESS;
            }
            ("--only", Some(&step)) if STEPS.iter().any(|(name, _)| *name == step) => {
                only.push(step);
                rest.next();
            }
            _ => {
                let names: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
                eprintln!("usage: cargo xtask test [--only STEP]... [--list]\nsteps: {}", names.join(" "));
                return ExitCode::from(2);
            }
        }
    }
    if all(&only) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn all(only: &[&str]) -> bool {
    let wanted = |step: &str| only.is_empty() || only.contains(&step);
    let needs_python = ["test", "tour", "contract"].into_iter().any(wanted);
    let python = needs_python.then(|| thread::spawn(cache::python));
    let services = wanted("test").then(|| thread::spawn(Services::installed));
    let mut report = Report::default();

    if wanted("fmt") {
        report.step("fmt", |counts| one(counts, run(&mut cargo(&["fmt", "--all", "--check"]), MINUTE)));
    }
    if wanted("arrows") {
        report.step("arrows", checks::arrows::check);
    }
    if wanted("tidy") {
        report.step("tidy", checks::tidy::check);
    }
    if wanted("licences") {
        report.step("licences", checks::licences::check);
    }
    if wanted("clippy") {
        report.step("clippy", |counts| one(counts, clippy()));
    }
    let python: Result<PathBuf, String> = match python {
        Some(handle) => handle.join().unwrap_or_else(|_| Err("the installation panicked".into())),
        None => Err("not asked for".into()),
    };
    let services = services.and_then(|handle| handle.join().ok()).unwrap_or_default();
    for (step, body) in PYTHON_STEPS {
        if *step == "tour" {
            without_python(&mut report, &wanted);
        }
        if wanted(step) {
            match &python {
                Ok(interpreter) => {
                    report.step(step, |counts| body(interpreter, &services, counts));
                }
                Err(why) => report.skipped(step, why),
            }
        }
    }
    report.finish()
}

type PythonStep = fn(&PathBuf, &Services, &mut Counts) -> Outcome;

/// The steps that use the Python environment. The release build comes between `test` and `tour`.
const PYTHON_STEPS: &[(&str, PythonStep)] = &[
    ("test", |python, services, counts| tests(python, services, counts)),
    ("tour", |python, _, counts| tour::check(python, &released(), counts)),
    ("contract", |python, _, counts| checks::contract::check(python, &released(), counts)),
];

fn without_python(report: &mut Report, wanted: &dyn Fn(&str) -> bool) {
    if wanted("openapi") {
        report.step("openapi", checks::openapi::check);
    }
    if wanted("docs") {
        report.step("docs", |counts| one(counts, docs()));
    }
    if wanted("release") || wanted("tour") || wanted("contract") {
        report.step("release", |counts| one(counts, release()));
    }
}

fn one(counts: &mut Counts, outcome: Outcome) -> Outcome {
    if outcome.is_ok() {
        *counts = Counts::ONE;
    }
    outcome
}

fn clippy() -> Outcome {
    let features = checks::features()?;
    let words = [
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--features",
        features.as_str(),
        "--",
        "-D",
        "warnings",
    ];
    run(&mut cargo(&words), 20 * MINUTE)
}

fn tests(python: &Path, services: &Services, counts: &mut Counts) -> Outcome {
    let features = checks::features()?;
    let mut command =
        cargo(&["test", "--locked", "--workspace", "--features", features.as_str(), "--no-fail-fast"]);
    // Stopped when they are dropped, however the tests end.
    let running = services.start();
    name_services(&mut command, python, services, &running);
    run_lines(&mut command, 55 * MINUTE, |line| add_result(line, counts))
}

/// `cargo xtask with-services -- COMMAND`: one command beside the servers that tests ask, with the variables that name them.
pub(crate) fn with_services(words: &[&str]) -> ExitCode {
    let [program, arguments @ ..] = words else {
        eprintln!("usage: cargo xtask with-services -- COMMAND [ARGUMENT]...");
        return ExitCode::from(2);
    };
    let python = match cache::python() {
        Ok(python) => python,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let services = Services::installed();
    let running = services.start();
    let mut command = Command::new(program);
    command.args(arguments);
    name_services(&mut command, &python, &services, &running);
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {program}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The variables by which tests find what they need.
fn name_services(command: &mut Command, python: &Path, services: &Services, running: &Running) {
    command.env("NACRE_PYTHON", python);
    if let Some(endpoints) = running.s3_endpoints() {
        command.env("NACRE_TEST_S3_ENDPOINT", endpoints);
    }
    if let Some(endpoints) = running.dynamodb_endpoints() {
        command.env("NACRE_TEST_DYNAMODB_ENDPOINT", endpoints);
    }
    if let Some(address) = running.kafka_address() {
        command.env("NACRE_TEST_KAFKA", address);
    }
    if let Some(jars) = services.kafka_jars() {
        command.env("NACRE_TEST_KAFKA_HOME", jars);
    }
    if let Some(program) = services.versitygw() {
        command.env("NACRE_TEST_VERSITYGW", program);
    }
    if let Some(jars) = services.spark_s3a_jars() {
        command.env("NACRE_TEST_SPARK_JARS", jars);
    }
}

/// Adds up lines like `test result: ok. 12 passed; 0 failed; 0 ignored; ...`.
pub(crate) fn add_result(line: &str, counts: &mut Counts) {
    let Some(rest) = line.strip_prefix("test result: ") else { return };
    let mut number = 0;
    for word in rest.split([' ', ';']).filter(|word| !word.is_empty()) {
        match word {
            "passed" => counts.passed += number,
            "failed" => {
                counts.failed += number;
                return;
            }
            other => number = other.parse().unwrap_or(0),
        }
    }
}

fn docs() -> Outcome {
    let features = checks::features()?;
    let mut command =
        cargo(&["doc", "--locked", "--workspace", "--features", features.as_str(), "--no-deps"]);
    run(command.env("RUSTDOCFLAGS", "-D warnings"), 15 * MINUTE)
}

fn release() -> Outcome {
    run(&mut cargo(&["build", "--locked", "--release", "--package", "nacre"]), 30 * MINUTE)
}

/// The program that [`release`] built.
fn released() -> PathBuf {
    let target = crate::process::target();
    target.join("release/nacre")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_test_binaries_are_added_up() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s",
            "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out",
        ] {
            add_result(line, &mut counts);
        }
        assert_eq!(counts, Counts { passed: 15, failed: 2 });
    }
}
