//! `cargo xtask bench fleet`: the production stack of `cargo xtask dev`, all of it on this machine, under load.
//!
//! Writes take turns with a bare idempotent producer on the same broker; reads are measured alone and beside a stream and a
//! load. Each figure comes with the processor time that each kind of process spent on it, because all of them share the
//! machine.

use super::batch::{self, Form};
use super::clients::{self, Random};
use super::options::Options;
use super::server::{TABLE, key_of};
use super::stats::{Rounds, Sample};
use super::wire::{Connection, Request};
use crate::{Outcome, process};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Shards of the table, over the log's partitions.
pub(crate) const SHARDS: u64 = 16;
pub(super) const VALUE_BYTES: usize = 200;
pub(super) const BATCH: usize = 100;

pub(crate) fn run(mut options: Options) -> Outcome {
    let (program, bare) = (options.path("program"), options.path("bare"));
    let rounds = options.number("rounds", 3)?.max(1);
    let seconds = options.seconds("seconds", 6)?;
    let warm = options.seconds("warm", 30)?;
    let keys = options.number("keys", 400_000)?.max(SHARDS);
    let connections = options.number("clients", 16)?.max(1);
    let rate = Some(options.number("rate", 0)?).filter(|rate| *rate > 0);
    let only = options.text("only");
    options.finish()?;
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let raw = bare.map_or_else(bare_producer, Ok)?;
    let stack = Stack::start(program.clone())?;
    // Without one `cargo xtask dev` has built it.
    let program = program.unwrap_or_else(|| process::target().join("release/nacre"));
    println!("the stack runs: {}", stack.said);
    let fleet = Fleet { program, stack, seconds, keys, connections };
    fleet.make_table()?;
    fleet.fill()?;
    if wanted("write") || wanted("visible") {
        fleet.warm(warm)?;
    }
    if wanted("write") {
        fleet.writes(&raw, rounds)?;
    }
    if wanted("visible") {
        fleet.visible()?;
    }
    if wanted("read") {
        fleet.reads(rounds)?;
    }
    if wanted("mixed") {
        fleet.mixed(rate)?;
    }
    if wanted("change") {
        fleet.change()?;
    }
    Ok(())
}

/// Built beside the program.
fn bare_producer() -> Outcome<PathBuf> {
    let words = ["build", "--locked", "--release", "-p", "nacre-log", "--features", "kafka", "--example"];
    let mut build = process::cargo(&words);
    process::run(build.arg("bare_producer"), Duration::from_secs(3_600))?;
    Ok(process::target().join("release/examples/bare_producer"))
}

/// `cargo xtask dev`, running.
pub(crate) struct Stack {
    child: Child,
    said: String,
    pub(crate) api: SocketAddr,
    kafka: String,
    /// Where the bucket is, and by which keys.
    pub(super) s3: serde_json::Value,
    pub(super) processes: BTreeMap<String, u32>,
    /// Where each of the store's processes tells its metrics.
    pub(crate) metrics: BTreeMap<String, SocketAddr>,
    /// Where everything is kept.
    pub(crate) folder: PathBuf,
}

impl Stack {
    pub(crate) fn start(program: Option<PathBuf>) -> Outcome<Self> {
        let own = std::env::current_exe().map_err(|error| format!("xtask: {error}"))?;
        let mut command = Command::new(own);
        command.arg("dev").stdin(Stdio::null()).stdout(Stdio::piped());
        if let Some(program) = program {
            command.arg("--program").arg(program.canonicalize().map_err(|error| error.to_string())?);
        }
        let mut child = command.spawn().map_err(|error| format!("xtask dev: {error}"))?;
        let mut said = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut said).map_err(|error| error.to_string())?;
        }
        let json: serde_json::Value =
            serde_json::from_str(&said).map_err(|_| format!("the stack did not start: {said:?}"))?;
        let address = |text: Option<&str>| -> Outcome<SocketAddr> {
            let text = text.and_then(|url| url.strip_prefix("http://")).ok_or("no address")?;
            text.parse().map_err(|error| format!("{text}: {error}"))
        };
        let metrics = json["metrics"].as_object().into_iter().flatten();
        let processes = json["processes"].as_object().into_iter().flatten();
        Ok(Self {
            api: address(json["api"].as_str())?,
            s3: json["s3"].clone(),
            kafka: json["kafka"].as_str().unwrap_or_default().to_owned(),
            processes: processes
                .filter_map(|(name, pid)| Some((name.clone(), u32::try_from(pid.as_u64()?).ok()?)))
                .collect(),
            metrics: metrics
                .map(|(name, url)| Ok((name.clone(), address(url.as_str())?)))
                .collect::<Outcome<_>>()?,
            folder: json["folder"].as_str().unwrap_or_default().into(),
            said: said.trim().to_owned(),
            child,
        })
    }

    /// Processor time so far, in seconds, by what a process does: the number behind its name is left away.
    fn cpu(&self) -> BTreeMap<String, f64> {
        let mut spent = BTreeMap::new();
        for (name, pid) in &self.processes {
            let kind = name.trim_end_matches(|c: char| c == '-' || c.is_ascii_digit());
            *spent.entry(kind.to_owned()).or_default() += cpu_of(*pid).unwrap_or(0.0);
        }
        spent
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// Processes that stand still for as long as this lives: those that read the log, since a bare producer has nobody read what
/// it writes either.
struct Stopped(Vec<String>);

impl Stopped {
    fn of(stack: &Stack, kinds: &[&str]) -> Outcome<Self> {
        let is_wanted = |name: &str| kinds.iter().any(|kind| name.starts_with(kind));
        let named = stack.processes.iter().filter(|(name, _)| is_wanted(name));
        let stopped = Self(named.map(|(_, pid)| pid.to_string()).collect());
        stopped.signal("-STOP")?;
        Ok(stopped)
    }

    fn signal(&self, signal: &str) -> Outcome {
        let done = Command::new("kill").arg(signal).args(&self.0).status();
        done.is_ok_and(|status| status.success())
            .then_some(())
            .ok_or_else(|| format!("kill {signal}: {:?}", self.0))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.signal("-CONT");
    }
}

fn cpu_of(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit(") ").next()?.split(' ').skip(11).take(2);
    let ticks: Option<Vec<u64>> = fields.map(|field| field.parse().ok()).collect();
    Some(ticks?.iter().sum::<u64>() as f64 / 100.0)
}

/// What is measured.
pub(super) struct Fleet {
    program: PathBuf,
    pub(super) stack: Stack,
    pub(super) seconds: Duration,
    pub(super) keys: u64,
    pub(super) connections: u64,
}

impl Fleet {
    fn make_table(&self) -> Outcome {
        let cuts: Vec<String> =
            (1..SHARDS).map(|nth| format!("{:?}", key_of(self.keys * nth / SHARDS))).collect();
        let body = format!("{{\"split_at\":[{}]}}", cuts.join(","));
        let request = Request::new("PUT", TABLE, "application/json", body.as_bytes());
        Connection::open(self.stack.api)?.ok(&request).map(drop)
    }

    fn fill(&self) -> Outcome {
        let value = batch::value(VALUE_BYTES);
        let (mut request, digits) = batch::write(Form::Binary, 1_000, &value).split();
        let mut connection = Connection::open(self.stack.api)?;
        for first in (0..self.keys).step_by(1_000) {
            batch::number(&mut request, &digits, first.min(self.keys.saturating_sub(1_000)));
            connection.ok(&request)?;
        }
        Ok(())
    }

    /// A broker that has just been started spends a quarter of its time on compiling itself, and does without what it has not
    /// compiled yet: it is warmed by what is measured, and whoever is measured first has no harm.
    fn warm(&self, time: Duration) -> Outcome {
        let began = Instant::now();
        while began.elapsed() < time {
            self.write(Form::Binary, BATCH, self.connections, Duration::ZERO)?;
        }
        Ok(())
    }

    /// Runs work and prints what each kind of process spent on each of its units.
    pub(super) fn costed(
        &self,
        name: &str,
        rounds: &mut Rounds,
        work: impl FnOnce() -> Outcome<Sample>,
    ) -> Outcome<Sample> {
        let (before, began) = (self.stack.cpu(), Instant::now());
        let sample = work()?;
        let (after, took) = (self.stack.cpu(), began.elapsed().as_secs_f64());
        rounds.add(name, sample);
        let units = (sample.per_second * took).max(1.0);
        let spent: Vec<String> = after
            .iter()
            .map(|(kind, after)| (kind, after - before.get(kind).copied().unwrap_or(0.0)))
            .filter(|(_, spent)| *spent > 0.02 * took)
            .map(|(kind, spent)| format!("{kind} {:.2} µs ({:.2} cores)", spent * 1e6 / units, spent / took))
            .collect();
        println!("    processor time for each: {}", spent.join(", "));
        Ok(sample)
    }

    /// Until what was written is read: a strong read waits for it. What is measured next has nothing to catch up with.
    fn settle(&self) -> Outcome {
        let mut connection = Connection::open(self.stack.api)?;
        let began = Instant::now();
        for shard in 0..SHARDS {
            let path = format!("{TABLE}/rows/{}?consistency=strong", key_of(self.keys * shard / SHARDS));
            while connection.call(&Request::get(&path))?.status >= 500 {
                if began.elapsed() > Duration::from_secs(60) {
                    return Err("what was stopped does not serve again within a minute".to_owned());
                }
                thread::sleep(Duration::from_millis(100));
            }
        }
        Ok(())
    }

    pub(super) fn write(&self, form: Form, rows: usize, clients: u64, every: Duration) -> Outcome<Sample> {
        self.write_for(self.seconds, form, rows, clients, every)
    }

    fn write_for(
        &self,
        time: Duration,
        form: Form,
        rows: usize,
        clients: u64,
        every: Duration,
    ) -> Outcome<Sample> {
        let value = batch::value(VALUE_BYTES);
        let digits = batch::write(form, rows, &value).split().1;
        let prepare = |_| batch::write(form, rows, &value).split().0;
        let change = |request: &mut Request, random: &mut Random| {
            batch::shuffle(request, &digits, random, self.keys);
        };
        let paced = clients::paced(self.stack.api, clients, time, rows as u64, every, prepare, change)?;
        Ok(paced.sample)
    }

    fn writes(&self, raw: &PathBuf, count: u64) -> Outcome {
        let topic = format!("raw-{}", std::process::id());
        make_topic(&self.program, &self.stack.kafka, &topic)?;
        let mut rounds = Rounds::default();
        for round in 1..=count {
            println!("round {round} of {count}");
            // A batch of a hundred rows over 16 partitions is messages of six, one of a thousand is messages of 62.
            for rows in [1, 6, 62, BATCH] {
                let name = format!("a bare producer, {rows} rows a message");
                let sample = || raw_rate(raw, &self.stack.kafka, &topic, self.seconds, rows);
                self.costed(&name, &mut rounds, sample)?;
            }
            for (form, rows) in [(Form::Binary, BATCH), (Form::Binary, 1_000), (Form::Json, BATCH)] {
                let name = format!("batchWrite {}, {rows} rows", form.name());
                self.costed(&name, &mut rounds, || self.write(form, rows, self.connections, Duration::ZERO))?;
                self.settle()?;
            }
            // As much under way as a bare producer has, by its queue.
            let many = self.connections * 4;
            let name = format!("batchWrite binary, 1000 rows, {many} clients");
            self.costed(&name, &mut rounds, || self.write(Form::Binary, 1_000, many, Duration::ZERO))?;
            self.settle()?;
            let stopped = Stopped::of(&self.stack, &["cache", "writer"])?;
            for (rows, clients) in [(BATCH, self.connections), (1_000, self.connections), (1_000, many)] {
                let name = format!("readers stopped: binary, {rows} rows, {clients} clients");
                // All three together take less than a node may be silent.
                let write = || {
                    self.write_for(
                        self.seconds.min(Duration::from_secs(2)),
                        Form::Binary,
                        rows,
                        clients,
                        Duration::ZERO,
                    )
                };
                self.costed(&name, &mut rounds, write)?;
            }
            drop(stopped);
            self.settle()?;
        }
        let peer = format!("a bare producer, {BATCH} rows a message");
        rounds.print("Writes through the load balancer", "rows", Some(&peer));
        Ok(())
    }

    pub(super) fn get(&self, clients: u64, seconds: Duration) -> Outcome<Sample> {
        let first = Request::get(&format!("{TABLE}/rows/{}", key_of(0)));
        let digits = vec![format!("GET {TABLE}/rows/{}", key_of(0)).len() - 12];
        let prepare = |_| Request { bytes: first.bytes.clone(), body_at: 0 };
        clients::run(self.stack.api, clients, seconds, 1, prepare, |request, random| {
            batch::shuffle(request, &digits, random, self.keys);
        })
    }

    fn batch_get(&self, form: Form, rows: usize) -> Outcome<Sample> {
        let digits = batch::get(form, rows).split().1;
        let prepare = |_| batch::get(form, rows).split().0;
        clients::run(
            self.stack.api,
            self.connections,
            self.seconds,
            rows as u64,
            prepare,
            |request, random| {
                batch::shuffle(request, &digits, random, self.keys);
            },
        )
    }

    fn reads(&self, count: u64) -> Outcome {
        let mut rounds = Rounds::default();
        for round in 1..=count {
            println!("round {round} of {count}");
            self.costed("get", &mut rounds, || self.get(self.connections, self.seconds))?;
            for (form, rows) in [(Form::Binary, BATCH), (Form::Binary, 1_000), (Form::Json, BATCH)] {
                let name = format!("batchGet {}, {rows} keys", form.name());
                self.costed(&name, &mut rounds, || self.batch_get(form, rows))?;
            }
        }
        rounds.print("Reads through the load balancer", "keys", Some("get"));
        Ok(())
    }
}

fn raw_rate(raw: &PathBuf, kafka: &str, topic: &str, time: Duration, rows: usize) -> Outcome<Sample> {
    let mut command = Command::new(raw);
    command.args([kafka, topic, &time.as_secs().to_string(), &rows.to_string()]);
    let out = command.output().map_err(|error| format!("{}: {error}", raw.display()))?;
    let json: serde_json::Value = serde_json::from_slice(&out.stdout)
        .map_err(|_| format!("the bare producer failed: {}", String::from_utf8_lossy(&out.stderr)))?;
    let per_second = json["rows_per_second"].as_f64().ok_or("no rate")?;
    Ok(Sample { per_second, ..Sample::default() })
}

/// A topic beside the store's, as the store's is.
fn make_topic(program: &Path, kafka: &str, topic: &str) -> Outcome {
    let url = format!("kafka://{kafka}/{topic}");
    let words = ["topic", "create", "--log", &url, "--kafka-replicas", "1", "--partitions", "16"];
    process::run(Command::new(program).args(words), Duration::from_secs(60))
}
