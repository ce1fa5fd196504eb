//! `cargo xtask bench fleet --only change`: what readers and writers notice while the fleet changes.
//!
//! Paced gets and small batches go through the load balancer without a pause, while a cache node joins, while it dies by
//! kill -9 and stays away, and while every process is ended in order and started again, one after the other. A call that
//! begins late because the one before it took long is counted from when it was due; one that fails is counted, and its
//! connection is opened anew.

use super::batch::{self, Form};
use super::clients::Random;
use super::fleet::{Fleet, Stack};
use super::server::{TABLE, key_of};
use super::stats::{Sample, grouped};
use super::wire::{Connection, Request};
use crate::dev::processes;
use crate::{Outcome, services};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Between two changes.
const QUIET: Duration = Duration::from_secs(8);
/// A process that is not ready again by then will not be.
const START: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(20);
/// Reads are back to normal when those of so long are.
const WINDOW: Duration = Duration::from_secs(1);
const BATCH: usize = 20;
const WRITERS: u64 = 2;
const WRITE_EVERY: Duration = Duration::from_millis(200);

/// One call.
struct Call {
    /// Since the traffic began.
    due: Duration,
    took: Duration,
    error: Option<String>,
}

/// What one kind of call came to, of all clients.
#[derive(Default)]
struct Calls(Mutex<Vec<Call>>);

impl Calls {
    /// How the calls fared that were due from `begun` to `ended`: the sample, the slowest, and those that failed.
    fn between(&self, begun: Duration, ended: Duration) -> (Sample, Duration, Vec<String>) {
        let calls = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let of_them = || calls.iter().filter(|call| (begun..ended).contains(&call.due));
        let took: Vec<Duration> =
            of_them().filter(|call| call.error.is_none()).map(|call| call.took).collect();
        let slowest = took.iter().max().copied().unwrap_or_default();
        let failed = of_them().filter_map(|call| call.error.clone()).collect();
        (Sample::of(took, 1, ended.saturating_sub(begun)), slowest, failed)
    }

    /// After a change at `from`: how long until every later second's p99 is at most `p99` milliseconds.
    fn normal_after(&self, from: Duration, until: Duration, p99: f64) -> Duration {
        let mut normal = from;
        let mut at = from;
        while at + WINDOW <= until {
            let (sample, _, failed) = self.between(at, at + WINDOW);
            at += WINDOW;
            if sample.p99 > p99 || !failed.is_empty() {
                normal = at;
            }
        }
        normal.saturating_sub(from)
    }
}

/// Sends requests in a pace until told to stop.
fn keep_calling(
    address: SocketAddr,
    began: Instant,
    every: Duration,
    stop: &AtomicBool,
    calls: &Calls,
    mut next: impl FnMut() -> Request,
) {
    let mut connection = Connection::open(address);
    let mut due = began.elapsed();
    while !stop.load(Ordering::Relaxed) {
        due += every;
        thread::sleep(due.saturating_sub(began.elapsed()));
        let request = next();
        let done = match &mut connection {
            Ok(connection) => connection.ok(&request).map(drop),
            Err(error) => Err(error.clone()),
        };
        let took = began.elapsed().saturating_sub(due);
        if done.is_err() {
            connection = Connection::open(address);
        }
        let mut all = calls.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        all.push(Call { due, took, error: done.err() });
    }
}

/// A process that was started beside the stack's own, like one of them.
struct Joined {
    child: Child,
    port: u16,
}

impl Drop for Joined {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The texts of a file of /proc, which ends each with a zero.
fn texts(pid: u32, file: &str) -> Outcome<Vec<String>> {
    let path = format!("/proc/{pid}/{file}");
    let bytes = std::fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
    let texts = bytes.split(|byte| *byte == 0).filter(|text| !text.is_empty());
    Ok(texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect())
}

impl Joined {
    /// Starts `name` as `model` runs, on a port of its own.
    fn start(stack: &Stack, model: &str, name: &str) -> Outcome<Self> {
        let pid = *stack.processes.get(model).ok_or_else(|| format!("no {model}"))?;
        let mut words = texts(pid, "cmdline")?;
        let port = services::free_port()?;
        for at in 1..words.len() {
            match words[at - 1].as_str() {
                "--name" => words[at] = name.to_owned(),
                "--listen" => words[at] = format!("127.0.0.1:{port}"),
                _ => {}
            }
        }
        let (program, words) = words.split_first().ok_or("a process without a command")?;
        let environment = texts(pid, "environ")?;
        let log = std::fs::File::create(stack.folder.join(format!("{name}.log")))
            .map_err(|error| format!("{name}: {error}"))?;
        let child = Command::new(program)
            .args(words)
            .env_clear()
            .envs(environment.iter().filter_map(|pair| pair.split_once('=')))
            .current_dir(&stack.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{name}: {error}"))?;
        Ok(Self { child, port })
    }
}

fn until_ready(name: &str, port: u16) -> Outcome {
    let begun = Instant::now();
    while !processes::is_ready(port) {
        if begun.elapsed() > START {
            return Err(format!("{name} is not ready after {} s", START.as_secs()));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Which partitions each process has the tails of, by what it tells.
fn held(address: SocketAddr) -> Outcome<BTreeSet<u32>> {
    let mut connection = Connection::open(address)?;
    let answer = connection.ok(&Request::get("/metrics"))?;
    let text = String::from_utf8_lossy(answer.body).into_owned();
    let partition = |line: &str| {
        line.strip_prefix("nacre_engine_tail_offset{partition=\"")?.split('"').next()?.parse().ok()
    };
    Ok(text.lines().filter_map(partition).collect())
}

impl Fleet {
    /// What each cache node holds.
    fn holders(&self, joined: Option<&Joined>) -> Outcome<BTreeMap<String, BTreeSet<u32>>> {
        let caches = self.stack.metrics.iter().filter(|(name, _)| name.starts_with("cache"));
        let mut all: BTreeMap<String, BTreeSet<u32>> =
            caches.map(|(name, address)| Ok((name.clone(), held(*address)?))).collect::<Outcome<_>>()?;
        if let Some(joined) = joined {
            all.insert("joined".to_owned(), held(SocketAddr::from(([127, 0, 0, 1], joined.port)))?);
        }
        Ok(all)
    }

    /// The fleet changes under load.
    pub(super) fn change(&self) -> Outcome {
        let rate = self.get(self.connections, self.seconds)?.per_second / 4.0;
        let every = Duration::from_secs_f64(self.connections as f64 / rate);
        let (gets, writes, stop) = (Calls::default(), Calls::default(), AtomicBool::new(false));
        let began = Instant::now();
        thread::scope(|scope| {
            for client in 0..self.connections {
                let (gets, stop) = (&gets, &stop);
                scope.spawn(move || {
                    let mut random = Random::new(client + 1);
                    keep_calling(self.stack.api, began, every, stop, gets, || {
                        Request::get(&format!("{TABLE}/rows/{}", key_of(random.below(self.keys))))
                    });
                });
            }
            for client in 0..WRITERS {
                let (writes, stop) = (&writes, &stop);
                scope.spawn(move || {
                    let mut random = Random::new(1_000 + client);
                    let (mut request, digits) = batch::write(Form::Binary, BATCH, &batch::value(200)).split();
                    keep_calling(self.stack.api, began, WRITE_EVERY, stop, writes, || {
                        batch::shuffle(&mut request, &digits, &mut random, self.keys);
                        Request { bytes: request.bytes.clone(), body_at: request.body_at }
                    });
                });
            }
            let told = self.changes(began, &gets, &writes);
            stop.store(true, Ordering::Relaxed);
            told
        })
    }

    fn changes(&self, began: Instant, gets: &Calls, writes: &Calls) -> Outcome {
        let mut phases: Vec<(String, Duration, Duration)> = Vec::new();
        let mut phase = |name: &str, from: Duration| phases.push((name.to_owned(), from, began.elapsed()));
        thread::sleep(QUIET / 2);
        let from = began.elapsed();
        thread::sleep(QUIET * 2);
        phase("nothing changes", from);
        let normal = gets.between(from, began.elapsed()).0.p99;
        let before = self.holders(None)?;

        let from = began.elapsed();
        let mut joined = Joined::start(&self.stack, "cache-3", "cache-joined")?;
        until_ready("cache-joined", joined.port)?;
        let warm_after = began.elapsed().saturating_sub(from);
        thread::sleep(QUIET);
        phase("a cache node joins", from);
        let after = self.holders(Some(&joined))?;
        let copies: usize = before.values().map(BTreeSet::len).sum();
        let moved = after.get("joined").map_or(0, BTreeSet::len);
        println!(
            "  it answered {:.1} s after it was started, warm; it holds {moved} of the {copies} tails ({} nodes before)",
            warm_after.as_secs_f64(),
            before.len()
        );

        let from = began.elapsed();
        joined.child.kill().map_err(|error| format!("kill: {error}"))?;
        thread::sleep(QUIET * 2);
        phase("it dies by kill -9", from);
        let back = gets.normal_after(from, began.elapsed(), 2.0 * normal);
        println!("  p99 within twice of before after {:.0} s", back.as_secs_f64());
        drop(joined);

        for role in ["dispatcher", "cache", "writer", "loader", "maintainer"] {
            let from = began.elapsed();
            for (name, address) in self.stack.metrics.iter().filter(|(name, _)| name.starts_with(role)) {
                self.restart(name, *address)?;
            }
            thread::sleep(QUIET);
            phase(&format!("each {role} is restarted"), from);
        }
        print(&phases, gets, writes);
        Ok(())
    }

    /// Ends a process in order, and waits until the one that was started in its place is ready.
    fn restart(&self, name: &str, address: SocketAddr) -> Outcome {
        let pid = pid_of(name)?;
        let signal = Command::new("kill").args(["-TERM", &pid.to_string()]).status();
        signal.map_err(|error| format!("kill: {error}"))?;
        let begun = Instant::now();
        while pid_of(name).is_ok_and(|now| now == pid) {
            if begun.elapsed() > START {
                return Err(format!("{name} does not end"));
            }
            thread::sleep(LOOK);
        }
        let ended = begun.elapsed();
        until_ready(name, address.port())?;
        println!(
            "  {name}: ended after {:.1} s, ready after {:.1} s",
            ended.as_secs_f64(),
            begun.elapsed().as_secs_f64()
        );
        thread::sleep(WINDOW);
        Ok(())
    }
}

/// Which process runs under a name: its supervisor gives each new one another number.
fn pid_of(name: &str) -> Outcome<u32> {
    let all = std::fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?;
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .find(|pid| {
            texts(*pid, "cmdline").is_ok_and(|words| {
                words.get(1).is_some_and(|word| word == "serve")
                    && words.windows(2).any(|two| two[0] == "--name" && two[1] == name)
            })
        })
        .ok_or_else(|| format!("no process {name}"))
}

fn print(phases: &[(String, Duration, Duration)], gets: &Calls, writes: &Calls) {
    println!("\nThe fleet changes under load\n");
    println!("| | gets/s | p50 ms | p99 ms | slowest ms | failed | batches | p99 ms | failed |");
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut why: BTreeMap<String, usize> = BTreeMap::new();
    for (name, from, to) in phases {
        let (sample, slowest, failed) = gets.between(*from, *to);
        let (written, _, unwritten) = writes.between(*from, *to);
        println!(
            "| {name} | {} | {:.1} | {:.1} | {:.0} | {} | {:.0} | {:.1} | {} |",
            grouped(sample.per_second),
            sample.p50,
            sample.p99,
            slowest.as_secs_f64() * 1e3,
            failed.len(),
            written.per_second * to.saturating_sub(*from).as_secs_f64(),
            written.p99,
            unwritten.len(),
        );
        for error in failed.into_iter().chain(unwritten) {
            *why.entry(error.chars().take(200).collect()).or_default() += 1;
        }
    }
    println!();
    for (error, count) in why {
        println!("  {count} × {error}");
    }
}
