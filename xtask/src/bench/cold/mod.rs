//! `cargo xtask bench cold`: reads of keys of which few are hot, through the whole program, with a cache that holds a tenth
//! of the data and a store whose requests take what they take on S3; and what a load that replaces everything does to them.
//!
//! The store is versitygw behind a proxy that keeps each request back, log-normally. Catalog and log lie in the store too;
//! nothing is written but the loads, so reads alone ask it for blocks. Times count from when a get was due. Every value says
//! of which edition it is: a batch of two editions, or an edition that was left again, is a mixed answer.

mod readers;
mod windows;
mod zipf;

use super::options::Options;
use super::server::{self, Nacre, TABLE};
use super::stats::grouped;
use super::wire::{Connection, Request};
use crate::chaos::proxy::{Faults, Kind, Proxy};
use crate::dev::{BUCKET, make_bucket};
use crate::services::{Running, Services, VERSITYGW};
use crate::{Outcome, cache, process};
use readers::{Call, Readers};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use windows::{Counted, Scrape, between};
use zipf::Zipf;

/// Files of a load.
const FILES: u64 = 4;
/// Between two looks at the counters.
const LOOK: Duration = Duration::from_millis(500);
/// A load takes no longer.
const LOAD: Duration = Duration::from_secs(900);
/// What one run asks for.
const P99_MS: f64 = 25.0;
const POINTS: f64 = 2.0;

pub(crate) fn run(mut options: Options) -> Outcome {
    let (given, dir) = (options.path("program"), options.path("dir"));
    let keys = options.number("keys", 500_000)?.max(1_000);
    let seconds = options.seconds("seconds", 30)?.max(Duration::from_secs(2));
    let rate = options.number("rate", 400)?.max(1);
    let clients = options.number("clients", 32)?.max(1);
    let percent = options.number("cache-percent", 10)?.max(1);
    let copies = options.number("copies", 1)?;
    let (median, p99) = (options.number("median-ms", 15)?, options.number("p99-ms", 60)?);
    let exponent = options.text("exponent").unwrap_or_else(|| "0.99".into());
    let exponent: f64 = exponent.parse().map_err(|_| format!("--exponent {exponent}: expected a number"))?;
    let are_neighbours = options.flag("neighbours");
    options.finish()?;
    let millis = |number: u64| u32::try_from(number).map_err(|_| format!("{number} ms are too many"));

    let folder = server::folder(dir)?;
    let services = Services::of_a_store()?.start_in(folder.path());
    let port = services.url(VERSITYGW).and_then(|url| url.rsplit(':').next()?.parse().ok());
    let proxy = Proxy::start(Kind::S3, port.ok_or("the S3 server does not run")?, 1)?;
    make_bucket(folder.path())?;
    let bench = Bench {
        program: server::program(given)?,
        folder,
        _services: services,
        proxy,
        keys,
        seconds,
        every: Duration::from_secs_f64(clients as f64 / rate as f64),
        clients,
        copies,
        zipf: Zipf::new(keys, exponent, are_neighbours),
        slow: Faults { delay_ms: millis(median)?, delay_p99_ms: millis(p99)?, ..Faults::default() },
    };
    println!("making the files of two editions of {} keys", grouped(keys as f64));
    let editions = [bench.files(1)?, bench.files(2)?];
    let bytes = bench.fill(&editions[0])?;
    let memory = (bytes as u64 * percent / 100).max(1 << 20);
    println!(
        "{} MB at rest; {} MB of cache ({percent} % of it), half of it for rows; {copies} GETs at once, each of which takes {median} ms \
         in the middle and {p99} ms at p99; exponent {exponent}, hot keys {}; {rate} gets/s of {clients} clients",
        grouped(bytes / 1e6),
        grouped(memory as f64 / 1e6),
        if are_neighbours { "side by side" } else { "anywhere" },
    );
    let nacre = bench.start(&format!("{memory}"))?;
    bench.read(&nacre, &editions[1])
}

struct Bench {
    program: PathBuf,
    folder: tempfile::TempDir,
    _services: Running,
    proxy: Proxy,
    keys: u64,
    seconds: Duration,
    every: Duration,
    clients: u64,
    copies: u64,
    zipf: Zipf,
    slow: Faults,
}

/// When what happened, since the reading began.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    /// The cache is as full as it gets.
    is_full: Duration,
    begun: Duration,
    /// The load's commit was called.
    called: Duration,
    /// It was seen to be committed.
    committed: Duration,
    ended: Duration,
}

impl Bench {
    /// The files of an edition.
    fn files(&self, number: u64) -> Outcome<Vec<PathBuf>> {
        let folder = self.folder.path();
        let (script, out) = (folder.join("files.py"), folder.join(format!("edition-{number}")));
        std::fs::write(&script, include_str!("../duckdb.py")).map_err(|error| error.to_string())?;
        let mut command = Command::new(cache::python()?);
        command.arg(&script).arg("edition").arg(&out);
        command.args([self.keys, number, FILES].map(|number| number.to_string())).arg(folder);
        process::output(&mut command)?;
        Ok((0..FILES).map(|nth| folder.join(format!("edition-{number}-{nth}.parquet"))).collect())
    }

    fn start(&self, cache_memory: &str) -> Outcome<Nacre> {
        let mut command = Command::new(&self.program);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--output", "json", "--log-level", "warn"])
            .args(["--store", &format!("s3://{BUCKET}/store"), "--load-memory", "128MiB"])
            .args(["--cache-memory", cache_memory, "--read-copies", &self.copies.to_string()])
            .env("AWS_ENDPOINT_URL_S3", self.proxy.url())
            .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "testtest")])
            .envs([("AWS_REGION", "us-east-1"), ("AWS_ALLOW_HTTP", "true")])
            .current_dir(self.folder.path());
        Nacre::start_command(&mut command)
    }

    /// The first edition, loaded through a fast store; answers the bytes that it takes at rest.
    fn fill(&self, files: &[PathBuf]) -> Outcome<f64> {
        let mut nacre = self.start("64MiB")?;
        nacre.create_table()?;
        load(nacre.address, files, || ())?;
        let bytes = nacre.metric("nacre_engine_segment_bytes")?;
        nacre.running.stop()?;
        Ok(bytes)
    }

    fn read(&self, nacre: &Nacre, files: &[PathBuf]) -> Outcome {
        self.proxy.set(self.slow);
        let (stop, scrapes) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        let readers = Readers {
            address: nacre.address,
            began: Instant::now(),
            zipf: &self.zipf,
            stop: &stop,
            gets: Mutex::default(),
            batches: Mutex::default(),
            mixed: Mutex::default(),
        };
        let moments = thread::scope(|scope| {
            let (readers, stop, scrapes) = (&readers, &stop, &scrapes);
            for client in 0..self.clients {
                // One after the other, not all at once.
                let first = self.every.mul_f64(client as f64 / self.clients as f64);
                scope.spawn(move || readers.get(client, self.every, first));
            }
            scope.spawn(move || readers.batch_get());
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(scrape) = Scrape::take(nacre, &self.proxy, readers.began.elapsed()) {
                        scrapes.lock().unwrap_or_else(PoisonError::into_inner).push(scrape);
                    }
                    thread::sleep(LOOK);
                }
            });
            let moments = self.replace(nacre.address, readers.began, files);
            stop.store(true, Ordering::Relaxed);
            moments
        })?;
        self.proxy.set(Faults::default());
        let inner = |held: Mutex<Vec<Call>>| held.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mixed = readers.mixed.into_inner().unwrap_or_else(PoisonError::into_inner);
        let scrapes = scrapes.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.tell(moments, &scrapes, &inner(readers.gets), &inner(readers.batches), &mixed)
    }

    /// Lets the cache fill, measures, and replaces everything meanwhile.
    fn replace(&self, address: SocketAddr, began: Instant, files: &[PathBuf]) -> Outcome<Moments> {
        let mut moments = Moments::default();
        println!("reading for {} s, then a load that replaces everything", 3 * self.seconds.as_secs());
        thread::sleep(2 * self.seconds);
        moments.is_full = began.elapsed();
        thread::sleep(self.seconds);
        moments.begun = began.elapsed();
        load(address, files, || moments.called = began.elapsed())?;
        moments.committed = began.elapsed();
        thread::sleep(2 * self.seconds);
        moments.ended = began.elapsed();
        Ok(moments)
    }

    fn tell(
        &self,
        moments: Moments,
        scrapes: &[Scrape],
        gets: &[Call],
        batches: &[Call],
        mixed: &[String],
    ) -> Outcome {
        // The first answer of the new edition tells better than the look that found the load committed.
        let swapped = gets.iter().filter(|call| call.edition == Ok(2)).map(|call| call.due).min();
        let swapped = swapped.ok_or("no get was answered by the new edition")?.min(moments.committed);
        let seconds = Duration::from_secs;
        let counted = |from, to| between(scrapes, gets, from, to);
        let before = counted(moments.is_full, moments.begun);
        let spans =
            [(0, 5), (5, 15), (15, 30)].map(|(from, to)| (swapped + seconds(from), swapped + seconds(to)));
        let mut windows = vec![
            ("from a cold start".to_owned(), counted(Duration::ZERO, self.seconds.min(moments.is_full))),
            ("before the load".to_owned(), before),
            ("the load's files are put".to_owned(), counted(moments.begun, moments.called)),
            ("from its commit call until it is shown".to_owned(), counted(moments.called, swapped)),
        ];
        let mut after = Vec::new();
        for (from, to) in spans.into_iter().filter(|(_, to)| *to <= moments.ended) {
            let window = counted(from, to);
            let name = format!("{} to {} s after", (from - swapped).as_secs(), (to - swapped).as_secs());
            windows.push((name, window));
            after.push(window);
        }
        windows
            .push(("the end".to_owned(), counted(moments.ended.saturating_sub(self.seconds), moments.ended)));
        windows::print(&windows);
        self.judge(before, &after, scrapes, moments);
        println!(
            "the load: {:.1} s to put its files, {:.1} s from its commit call until it was shown",
            moments.called.saturating_sub(moments.begun).as_secs_f64(),
            swapped.saturating_sub(moments.called).as_secs_f64(),
        );
        let failed: Vec<&String> =
            gets.iter().chain(batches).filter_map(|call| call.edition.as_ref().err()).collect();
        println!(
            "of {} gets and {} batches {} failed, {} answers were mixed",
            grouped(gets.len() as f64),
            grouped(batches.len() as f64),
            failed.len(),
            mixed.len()
        );
        for what in failed.into_iter().chain(mixed).take(5) {
            println!("  {}", what.chars().take(300).collect::<String>());
        }
        let is_clean = gets.iter().chain(batches).all(|call| call.edition.is_ok()) && mixed.is_empty();
        if is_clean { Ok(()) } else { Err("reads failed or were mixed".into()) }
    }

    /// What was asked for, beside what came out.
    fn judge(&self, before: Counted, after: &[Counted], scrapes: &[Scrape], moments: Moments) {
        let held = scrapes
            .iter()
            .rev()
            .find(|scrape| scrape.at <= moments.begun)
            .map_or(0.0, |scrape| scrape.metric("nacre_cache_entries{what=\"rows\"}"));
        println!(
            "p99 {:.1} ms at {:.1} % hits ({}; asked: below {P99_MS} ms)",
            before.p99,
            before.hits,
            if before.p99 < P99_MS { "as asked" } else { "NOT as asked" }
        );
        println!(
            "memory holds {} rows by themselves; as many of the hottest keys draw {:.1} % of the gets",
            grouped(held),
            100.0 * self.zipf.share_of(held as u64)
        );
        if let Some(worst) = after.iter().map(|window| window.hits - before.hits).min_by(f64::total_cmp) {
            println!(
                "after the swap the hit rate of gets is at worst {worst:+.1} points from before ({}; asked: within {POINTS})",
                if worst >= -POINTS { "as asked" } else { "NOT as asked" }
            );
        }
    }
}

/// Replaces everything by these files; `called` is told when its commit is called.
fn load(address: SocketAddr, files: &[PathBuf], mut called: impl FnMut()) -> Outcome {
    let mut connection = Connection::open(address)?;
    let mut call = |method: &str, path: &str, kind: &str, body: &[u8]| -> Outcome<serde_json::Value> {
        let answer = connection.ok(&Request::new(method, &format!("{TABLE}/loads{path}"), kind, body))?;
        serde_json::from_slice(answer.body).or(Ok(serde_json::Value::Null))
    };
    let begin = br#"{"mode":"replace","version":"now","columns":{"key":["key"],"value":"value"}}"#;
    let load = call("POST", "", "application/json", begin)?;
    let id = load["load_id"].as_str().ok_or("a load without an id")?.to_owned();
    for file in files {
        let body = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let name = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        call("PUT", &format!("/{id}/files/{name}"), "application/octet-stream", &body)?;
    }
    let begun = Instant::now();
    called();
    call("POST", &format!("/{id}:commit"), "application/json", b"{}")?;
    loop {
        let load = call("GET", &format!("/{id}"), "application/json", b"")?;
        match load["state"].as_str() {
            Some("committed") => return Ok(()),
            Some("failed" | "cancelled") => return Err(format!("the load failed: {load}")),
            _ if begun.elapsed() > LOAD => return Err(format!("the load is not committed: {load}")),
            _ => thread::sleep(Duration::from_millis(100)),
        }
    }
}
