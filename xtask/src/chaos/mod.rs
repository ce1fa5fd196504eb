//! `cargo xtask chaos`: the whole fleet over real services, with faults, and whether it kept its word.
//!
//! A stage is set once: three brokers, DynamoDB Local and an S3 server behind proxies that fail, dispatchers behind a
//! balancer, cache nodes, writers, loaders, a maintainer. Each round has clients that write and read and record what they
//! were told, one fault, and an end at which everything is read once more and every history is judged (`check`). The
//! checks share no code with the store.

mod brokers;
mod check;
mod clients;
mod drop;
mod faults;
mod http;
mod judge;
mod loads;
mod measure;
pub(crate) mod proxy;
mod random;
mod record;
mod report;
mod stage;

use crate::{Outcome, process};
use clients::{SESSIONS, Shared, TABLES};
use faults::{ALL, Fault};
use http::Http;
use loads::Loads;
use random::Random;
use record::Recorder;
use report::Report;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use stage::Stage;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const BUILD: Duration = Duration::from_secs(45 * 60);
/// After so many rounds with violations nothing new is learnt.
const ENOUGH: u64 = 5;

struct Arguments {
    rounds: u64,
    seed: u64,
    only: Vec<&'static Fault>,
    program: Option<PathBuf>,
    keep: Option<PathBuf>,
}

pub(crate) fn command(words: &[&str]) -> ExitCode {
    if words == ["--list"] {
        for fault in ALL {
            println!("{:<20} {}", fault.name, fault.what);
        }
        return ExitCode::SUCCESS;
    }
    let arguments = match parse(words) {
        Ok(arguments) => arguments,
        Err(wrong) => {
            eprintln!(
                "{wrong}\nusage: cargo xtask chaos [--rounds N] [--seed S] [--only FAULT]... [--program FILE] [--keep DIR] [--list]"
            );
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(violations) => {
            eprintln!("{violations} violations");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(words: &[&str]) -> Outcome<Arguments> {
    let mut found = Arguments { rounds: 20, seed: 1, only: Vec::new(), program: None, keep: None };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word}: no value"))?;
        let number = || value.parse().map_err(|_| format!("{word} {value}: no number"));
        match *word {
            "--rounds" => found.rounds = number()?,
            "--seed" => found.seed = number()?,
            "--only" => {
                let fault = ALL.iter().find(|fault| fault.name == *value);
                found
                    .only
                    .push(fault.ok_or_else(|| format!("--only {value}: no such fault; --list shows them"))?);
            }
            "--program" => found.program = Some(value.into()),
            "--keep" => found.keep = Some(value.into()),
            other => return Err(format!("{other}: not known")),
        }
    }
    Ok(found)
}

/// Which fault comes in which round: each as often as its weight says before any comes again, in an order by the seed.
/// Runs of a hundred rounds and more have the long ones too.
fn plan(arguments: &Arguments, random: &mut Random) -> Vec<&'static Fault> {
    let rounds = arguments.rounds as usize;
    let mut planned = Vec::new();
    while planned.len() < rounds {
        let mut deck: Vec<&'static Fault> = if arguments.only.is_empty() {
            ALL.iter().flat_map(|fault| std::iter::repeat_n(fault, fault.weight as usize)).collect()
        } else {
            arguments.only.clone()
        };
        for at in (1..deck.len()).rev() {
            deck.swap(at, random.below(at as u64 + 1) as usize);
        }
        planned.append(&mut deck);
    }
    planned.truncate(rounds);
    if rounds >= 100 && arguments.only.is_empty() {
        for (fault, part) in ALL.iter().filter(|fault| fault.weight == 0 && !fault.is_long()).zip(1..) {
            if let Some(place) = planned.get_mut(rounds * part / 4) {
                *place = fault;
            }
        }
    }
    planned
}

fn run(arguments: &Arguments) -> Outcome<u64> {
    let over = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, over.clone()).map_err(|error| format!("signals: {error}"))?;
    }
    let program = match &arguments.program {
        Some(program) => program.canonicalize().map_err(|error| format!("{}: {error}", program.display()))?,
        None => built()?,
    };
    let begun = Instant::now();
    let temporary = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let folder = match &arguments.keep {
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?
        }
        None => temporary.path().to_owned(),
    };
    let stage = Stage::set(&program, &folder, arguments.seed)?;
    let files = loads::make_files(&folder)?;
    make_tables(&stage)?;
    eprintln!("the stage is set after {:.0} s", begun.elapsed().as_secs_f64());
    let report = rounds(arguments, &stage, Loads::new(files), &folder, &over);
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            let _ = temporary.keep();
            return Err(format!("{error}; everything is kept in {}", folder.display()));
        }
    };
    println!("{}", report.text(arguments.seed, begun.elapsed()));
    for (name, (requests, spoiled)) in [("S3", stage.s3.counts()), ("DynamoDB", stage.dynamodb.counts())] {
        println!("{name}: {requests} requests, {spoiled} of them spoiled");
    }
    drop(stage);
    if report.violations() > 0 && arguments.keep.is_none() {
        let kept = temporary.keep();
        eprintln!("histories and logs are kept in {}", kept.display());
    }
    Ok(report.violations())
}

fn rounds(
    arguments: &Arguments,
    stage: &Stage,
    mut loads: Loads,
    folder: &Path,
    over: &AtomicBool,
) -> Outcome<Report> {
    let (recorder, next) = (Recorder::new(), AtomicU64::new(1));
    let mut random = Random::new(arguments.seed);
    let mut plan = plan(arguments, &mut random);
    if !stage.cluster.can_tell_wrong_times() {
        plan.retain(|fault| !fault.name.starts_with("clock"));
    }
    let mut report = Report::default();
    let mut spoiled = 0;
    let stop = AtomicBool::new(false);
    let shared = |round| Shared { api: stage.api, round, recorder: &recorder, stop: &stop, next: &next };
    loads.first(&shared(0))?;
    for (round, fault) in (0..).zip(plan) {
        if over.load(Ordering::Relaxed) || spoiled >= ENOUGH {
            break;
        }
        let waited = Instant::now();
        stage.wait_until_whole(Duration::from_secs(120))?;
        if fault.wants_brokers() {
            stage.cluster.wait_in_sync(crate::dev::TOPIC, Duration::from_secs(180))?;
        }
        let waited = waited.elapsed();
        let begun = Instant::now();
        stop.store(false, Ordering::Relaxed);
        let shared = shared(round);
        let measured = one_round(stage, &shared, fault, &mut loads, &mut random);
        let recovery = shared.judge(&mut random);
        let mut records = recorder.lock();
        let counts = std::mem::take(&mut records.counts);
        let mut wrong = std::mem::take(&mut records.wrong);
        let history = std::mem::take(&mut records.history);
        std::mem::drop(records);
        match measured {
            Err(error) => wrong.push(format!("the fault: {error}")),
            Ok(measured) => {
                for (name, value) in measured {
                    report.measured(name, value);
                    let bound = measure::BOUNDS.iter().find(|(bounded, _)| *bounded == name);
                    if let Some((_, bound)) = bound.filter(|(_, bound)| value > *bound) {
                        wrong.push(format!("{name}: {value:.1} s, and {bound} were wanted"));
                    }
                }
            }
        }
        report.round(fault.name, &counts, wrong.len(), fault.is_borne, recovery);
        eprintln!(
            "round {round} {}: whole after {:.1} s, {:.1} s, {} acknowledged, {} unknown, {} refused, {} loads, {}/{} known reads failed, {} checks, \
             back after {:.1} s{}",
            fault.name,
            waited.as_secs_f64(),
            begun.elapsed().as_secs_f64(),
            counts.acknowledged,
            counts.unknown,
            counts.refused,
            counts.changes,
            counts.known_failed,
            counts.known_reads,
            counts.checks,
            recovery.as_secs_f64(),
            if wrong.is_empty() { "" } else { ": VIOLATED" },
        );
        if !wrong.is_empty() {
            spoiled += 1;
            keep(folder, arguments.seed, round, fault, &wrong, &history)?;
        }
    }
    Ok(report)
}

/// Clients, and the fault in the middle of it.
fn one_round(
    stage: &Stage,
    shared: &Shared<'_>,
    fault: &Fault,
    loads: &mut Loads,
    random: &mut Random,
) -> Outcome<faults::Measured> {
    thread::scope(|scope| {
        for number in 0..5 {
            let dice = random.fork();
            scope.spawn(move || shared.write_registers(&format!("writer-{number}"), dice));
        }
        for number in 0..4 {
            let dice = random.fork();
            scope.spawn(move || shared.read_registers(&format!("reader-{number}"), dice));
        }
        for client in 0..SESSIONS {
            let dice = random.fork();
            scope.spawn(move || shared.keep_a_session(client, dice));
        }
        for number in 0..2 {
            let dice = [random.fork(), random.fork(), random.fork(), random.fork()];
            let [one, two, three, four] = dice;
            scope.spawn(move || shared.write_versions(&format!("versions-{number}"), one));
            scope.spawn(move || shared.write_once(&format!("once-{number}"), two));
            scope.spawn(move || shared.read_loads(&format!("loads-{number}"), three));
            scope.spawn(move || shared.read_known(&format!("known-{number}"), four));
        }
        let dice = random.fork();
        scope.spawn(move || loads.run(shared, dice));
        thread::sleep(Duration::from_millis(500));
        let measured = fault.inject(stage, random);
        thread::sleep(Duration::from_millis(600));
        shared.stop.store(true, Ordering::Relaxed);
        measured
    })
}

/// What was wrong, and what everybody was told.
fn keep(
    folder: &Path,
    seed: u64,
    round: u64,
    fault: &Fault,
    wrong: &[String],
    history: &[serde_json::Value],
) -> Outcome {
    let path = folder.join(format!("violation-seed{seed}-round{round}-{}.jsonl", fault.name));
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).map_err(failed)?);
    for what in wrong {
        eprintln!("  {what}");
        writeln!(file, "{}", json!({ "violation": what })).map_err(failed)?;
    }
    for line in history {
        writeln!(file, "{line}").map_err(failed)?;
    }
    eprintln!("  the history is in {}", path.display());
    file.flush().map_err(failed)
}

/// Tables of sixteen shards each.
fn make_tables(stage: &Stage) -> Outcome {
    let mut http = Http::new(stage.api, Duration::from_secs(20));
    let split: Vec<String> = (1..clients::SHARDS).map(|shard| format!("{shard:02}")).collect();
    let tables = [
        ("registers", json!({ "split_at": split })),
        ("sessions", json!({ "split_at": split, "version_kind": "number" })),
        ("versioned", json!({ "split_at": split, "version_kind": "number", "max_versions": 0 })),
        ("once", json!({ "split_at": split, "max_versions": 0 })),
        ("loaded", json!({ "split_at": split })),
        ("pulse", json!({ "split_at": split })),
    ];
    for (name, body) in tables {
        let begun = Instant::now();
        loop {
            let why = match http.json("PUT", &format!("{TABLES}/{name}"), &body) {
                Ok(answer) if answer.is_ok() => break,
                Ok(answer) => answer.text(),
                Err(lost) => lost.why(),
            };
            if begun.elapsed() > Duration::from_secs(60) {
                return Err(format!("table {name}: {why}"));
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(())
}

/// The program with everything that production has, and beside it the plain producer.
fn built() -> Outcome<PathBuf> {
    let nacre =
        ["build", "--locked", "--package", "nacre", "--features", "nacre/kafka,nacre/dynamodb,nacre/s3"];
    process::run(&mut process::cargo(&nacre), BUILD)?;
    let raw =
        ["build", "--locked", "--package", "nacre-log", "--features", "kafka", "--example", "raw_producer"];
    process::run(&mut process::cargo(&raw), BUILD)?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| process::root().join("target"), PathBuf::from);
    Ok(target.join("debug/nacre"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_plans_the_same_rounds_and_long_runs_have_every_fault() {
        let words = |rounds: &'static str| ["--rounds", rounds, "--seed", "5"];
        let names = |rounds: &'static str| -> Vec<&str> {
            let arguments = parse(&words(rounds)).unwrap();
            plan(&arguments, &mut Random::new(arguments.seed)).iter().map(|fault| fault.name).collect()
        };
        assert_eq!(names("40"), names("40"));
        let all: std::collections::BTreeSet<&str> = names("200").into_iter().collect();
        assert!(ALL.iter().all(|fault| all.contains(fault.name) != fault.is_long()));
    }

    #[test]
    fn wrong_words_are_told() {
        for words in [&["--only", "nothing"][..], &["--rounds"], &["--rounds", "x"], &["--what", "1"]] {
            assert!(parse(words).is_err(), "{words:?}");
        }
        let found = parse(&["--only", "kill-cache", "--only", "several"]).unwrap();
        assert_eq!(found.only.len(), 2);
    }
}
