//! `cargo xtask bench write`: durable batches over HTTP into a local directory, acknowledged after their fsync; and how
//! fast the log becomes segments. Beside it Redis with an append-only file that it syncs before each answer, and the
//! disk alone.

use super::batch::{self, Form};
use super::clients;
use super::http::redis_benchmark;
use super::options::Options;
use super::server::{self, Nacre, Redis};
use super::stats::{Rounds, Sample, grouped, median};
use crate::Outcome;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

const VALUE_BYTES: usize = 200;
const BATCH: usize = 100;
const KEYS: u64 = 10_000_000;

pub(crate) fn run(mut options: Options) -> Outcome {
    let rounds = options.number("rounds", 5)?;
    let seconds = options.seconds("seconds", 5)?;
    let count = options.number("clients", 16)?.max(1);
    let flush_rows = options.number("flush-rows", 2_000_000)?;
    let peers = !options.flag("no-redis");
    let (given, folder) = (options.path("program"), options.path("dir"));
    options.finish()?;

    let program = server::program(given)?;
    let folder = server::folder(folder)?;
    let value = batch::value(VALUE_BYTES);
    let disk = disk(folder.path())?;
    println!(
        "the disk alone: {} files of 32 KiB written and synced a second, one after another",
        grouped(disk)
    );

    println!(
        "\nbatchWrite: {BATCH} rows of {VALUE_BYTES} B a call, {count} clients, acknowledged after fsync"
    );
    let mut writes = Rounds::default();
    for round in 0..rounds {
        if peers {
            let home = folder.path().join(format!("redis-{round}"));
            std::fs::create_dir(&home).map_err(|error| error.to_string())?;
            let redis = Redis::start(&home, true)?;
            let text = String::from_utf8_lossy(&value).into_owned();
            let pairs = std::iter::repeat_n(["key-__rand_int__", &text], BATCH).flatten();
            let mset: Vec<&str> = std::iter::once("MSET").chain(pairs).collect();
            writes.add(
                "Redis MSET, appendfsync always",
                redis_benchmark(&redis, count, KEYS, seconds, &mset, BATCH as u64)?,
            );
            drop(redis);
            let _ = std::fs::remove_dir_all(&home);
        }
        for form in [Form::Binary, Form::Json] {
            let home = folder.path().join(format!("{}-{round}", form.name()));
            let nacre = Nacre::start(&program, &home, &[])?;
            nacre.create_table()?;
            let sample = write(&nacre, form, count, seconds, &value)?;
            writes.add(&format!("nacre batchWrite, {}", form.name()), sample);
            drop(nacre);
            let _ = std::fs::remove_dir_all(&home);
        }
    }
    println!("\nflush: {} rows from the log to segments", grouped(flush_rows as f64));
    let mut rates = Vec::new();
    for round in 0..rounds {
        let home = folder.path().join(format!("flush-{round}"));
        let rate = flush(&program, &home, flush_rows, &value)?;
        println!("  {} rows/s", grouped(rate));
        rates.push(rate);
        let _ = std::fs::remove_dir_all(&home);
    }
    writes.print("batchWrite", "rows", peers.then_some("Redis MSET, appendfsync always"));
    println!("log to segments: {} rows/s (median)", grouped(median(rates)));
    Ok(())
}

fn write(nacre: &Nacre, form: Form, count: u64, time: Duration, value: &[u8]) -> Outcome<Sample> {
    let (_, digits) = batch::write(form, BATCH, value).split();
    nacre.running.measured(|| {
        clients::run(
            nacre.address,
            count,
            time,
            BATCH as u64,
            |_| batch::write(form, BATCH, value).request,
            |request, random| batch::shuffle(request, &digits, random, KEYS),
        )
    })
}

/// Writes rows that no flush takes yet, then starts the server anew so that it flushes all of them: rows a second from
/// the cut to the committed segments.
fn flush(program: &Path, home: &Path, rows: u64, value: &[u8]) -> Outcome<f64> {
    let mut nacre = Nacre::start(program, home, &["--flush-every", "1h", "--flush-size", "1000GiB"])?;
    nacre.create_table()?;
    let mut connection = nacre.connect()?;
    let (mut request, digits) = batch::write(Form::Binary, 10_000, value).split();
    let mut random = clients::Random::new(3);
    let mut written = 0;
    while written < rows {
        batch::shuffle(&mut request, &digits, &mut random, KEYS);
        connection.ok(&request)?;
        written += 10_000;
    }
    nacre.running.stop()?;
    let nacre = Nacre::start(program, home, &["--flush-every", "1s"])?;
    let began = Instant::now();
    loop {
        let (flushed, seconds) = (
            nacre.metric("nacre_engine_rows_flushed_total")?,
            nacre.metric("nacre_engine_flush_micros_total")? / 1e6,
        );
        // Of one key written twice the flush keeps the newer row.
        if flushed > 0.5 * written as f64 && seconds > 0.0 {
            return Ok(written as f64 / seconds);
        }
        if began.elapsed() > Duration::from_secs(120) {
            return Err(format!("after two minutes {flushed} of {written} rows are flushed"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Files written, synced and named a second: the most that one partition's log can commit.
fn disk(folder: &Path) -> Outcome<f64> {
    let bytes = vec![7u8; 32 << 10];
    let began = Instant::now();
    let mut files = 0u32;
    while began.elapsed() < Duration::from_secs(1) {
        let path = folder.join(format!("disk-{files}"));
        let written = std::fs::File::create(&path).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        written.map_err(|error| format!("{}: {error}", path.display()))?;
        files += 1;
        let _ = std::fs::remove_file(&path);
    }
    Ok(f64::from(files) / began.elapsed().as_secs_f64())
}
