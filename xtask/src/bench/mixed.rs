//! `cargo xtask bench fleet --only mixed`: the headline, as far as it fits on one machine: paced reads alone, beside a stream,
//! and beside a stream and a load.
//!
//! The load's file is put into the bucket before, as a job puts its own, and the load is measured from its commit call. The
//! loaders and the maintainer have the processors that nobody else wants (`SCHED_IDLE`): elsewhere they have machines of their
//! own. Kafka, DynamoDB Local and the S3 server share the machine with the reads as they are.

use super::batch::{self, Form};
use super::clients::{self, Paced};
use super::fleet::{BATCH, Fleet};
use super::server::{TABLE, key_of};
use super::stats::{Rounds, Sample, grouped};
use super::wire::{Connection, Request};
use crate::{Outcome, cache, process};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const LOAD_ROWS: u64 = 2_000_000;
/// Clients of the stream.
const WRITERS: u64 = 4;
/// Reads to a row of the stream.
const READS_A_ROW: f64 = 8.0;

/// A virtual machine that gives much memory back to its host stands still meanwhile: after what the making of the file took.
const SETTLE: Duration = Duration::from_secs(15);

/// A load that has its file and is not committed yet.
struct Staged {
    id: String,
    /// With the file as it was made: what is deleted now would be given back to the host meanwhile.
    _folder: tempfile::TempDir,
}

impl Fleet {
    /// `rate`: gets a second; `None` = a quarter of the most.
    pub(super) fn mixed(&self, rate: Option<u64>) -> Outcome {
        let seconds = self.seconds * 3;
        // Asked for in any case: it warms what is measured.
        let most = self.get(self.connections, self.seconds)?.per_second;
        let rate = rate.map_or(most / 4.0, |rate| rate as f64);
        println!("{} gets/s at most; {} are asked for", grouped(most), grouped(rate));
        let mut rounds = Rounds::default();
        self.costed("reads alone", &mut rounds, || self.paced_gets(rate, seconds))?;
        let beside = |name: &str, rounds: &mut Rounds| {
            self.costed(name, rounds, || {
                thread::scope(|scope| {
                    let streaming = scope.spawn(|| self.stream(rate / READS_A_ROW, seconds));
                    let reads = self.paced_gets(rate, seconds);
                    let written = streaming.join().map_err(|_| "the stream panicked")??.sample;
                    println!("  beside {} rows/s", grouped(written.per_second));
                    reads
                })
            })
        };
        beside("reads beside the stream", &mut rounds)?;
        for (name, pid) in &self.stack.processes {
            if ["loader", "maintainer"].iter().any(|role| name.starts_with(role)) {
                process::run(
                    Command::new("chrt").args(["-a", "-i", "-p", "0", &pid.to_string()]),
                    Duration::from_secs(10),
                )?;
            }
        }
        let staged = self.stage()?;
        thread::scope(|scope| -> Outcome {
            let loading = scope.spawn(|| self.commit(&staged));
            beside("reads beside the stream and a load", &mut rounds)?;
            let took = loading.join().map_err(|_| "the load panicked")??;
            println!("  the load of {} rows took {:.1} s", grouped(LOAD_ROWS as f64), took.as_secs_f64());
            Ok(())
        })?;
        rounds.print("Reads at a fixed pace", "gets", Some("reads alone"));
        Ok(())
    }

    fn paced_gets(&self, rate: f64, time: Duration) -> Outcome<Sample> {
        let every = Duration::from_secs_f64(self.connections as f64 / rate);
        let first = Request::get(&format!("{TABLE}/rows/{}", key_of(0)));
        let digits = vec![format!("GET {TABLE}/rows/{}", key_of(0)).len() - 12];
        let prepare = |_| Request { bytes: first.bytes.clone(), body_at: 0 };
        let paced =
            clients::paced(self.stack.api, self.connections, time, 1, every, prepare, |request, random| {
                batch::shuffle(request, &digits, random, self.keys);
            })?;
        let by_second: Vec<String> = paced.p99_by_second().iter().map(|p99| format!("{p99:.0}")).collect();
        println!("  p99 of each second, ms: {}", by_second.join(" "));
        Ok(paced.sample)
    }

    fn stream(&self, rows_per_second: f64, time: Duration) -> Outcome<Paced> {
        let every = Duration::from_secs_f64(WRITERS as f64 * BATCH as f64 / rows_per_second);
        let value = batch::value(super::fleet::VALUE_BYTES);
        let digits = batch::write(Form::Binary, BATCH, &value).split().1;
        let prepare = |_| batch::write(Form::Binary, BATCH, &value).split().0;
        clients::paced(self.stack.api, WRITERS, time, BATCH as u64, every, prepare, |request, random| {
            batch::shuffle(request, &digits, random, self.keys);
        })
    }

    /// Begins a load and puts a file into its place in the bucket, whose rows lie in no order.
    fn stage(&self) -> Outcome<Staged> {
        let begin = br#"{"mode":"merge","version":"now","columns":{"key":["key"],"value":"value"}}"#;
        let load = call(self, "POST", "", begin)?;
        let text = |name: &str| load[name].as_str().ok_or_else(|| format!("a load without {name}: {load}"));
        let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let (script, out) = (folder.path().join("files.py"), folder.path().join("shuffled.parquet"));
        std::fs::write(&script, include_str!("duckdb.py")).map_err(|error| error.to_string())?;
        let python = |words: &[&Path]| -> Outcome {
            process::output(Command::new(cache::python()?).arg(&script).args(words)).map(drop)
        };
        let rows = LOAD_ROWS.to_string();
        python(&["make".as_ref(), &out, rows.as_ref(), folder.path()])?;
        let url = format!("{}/rows.parquet", text("staging_url")?.trim_end_matches('/'));
        let s3 = self.stack.s3.to_string();
        python(&["put".as_ref(), &out, url.as_ref(), s3.as_ref()])?;
        // A store of one's own has written it by now, too.
        process::run(&mut Command::new("sync"), Duration::from_secs(120))?;
        thread::sleep(SETTLE);
        Ok(Staged { id: text("load_id")?.to_owned(), _folder: folder })
    }

    /// Commits a load; answers how long it took until it was visible.
    fn commit(&self, staged: &Staged) -> Outcome<Duration> {
        let began = Instant::now();
        let path = format!("/{}", staged.id);
        call(self, "POST", &format!("{path}:commit"), b"{}")?;
        let mut told = String::new();
        loop {
            let load = call(self, "GET", &path, b"")?;
            let state = load["state"].as_str();
            if let Some(state) = state.filter(|state| *state != told) {
                println!("  the load is {state} after {:.1} s", began.elapsed().as_secs_f64());
                state.clone_into(&mut told);
            }
            match state {
                Some("committed") => return Ok(began.elapsed()),
                Some("failed" | "cancelled") => return Err(format!("the load failed: {load}")),
                _ => thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

fn call(fleet: &Fleet, method: &str, path: &str, body: &[u8]) -> Outcome<serde_json::Value> {
    let request = Request::new(method, &format!("{TABLE}/loads{path}"), "application/json", body);
    let mut connection = Connection::open(fleet.stack.api)?;
    let answer = connection.ok(&request)?;
    serde_json::from_slice(answer.body).map_err(|error| format!("{method} {path}: {error}"))
}
