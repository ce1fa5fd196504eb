//! `cargo xtask bench http`: reads over HTTP beside Redis, on the same machine, in turns.

use super::batch::{self, Form};
use super::clients;
use super::options::Options;
use super::server::{self, Nacre, Redis, TABLE, key_of};
use super::stats::{Rounds, Sample};
use super::wire::Request;
use crate::Outcome;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const VALUE_BYTES: usize = 200;
const BATCH: usize = 100;

pub(crate) fn run(mut options: Options) -> Outcome {
    let rounds = options.number("rounds", 5)?;
    let seconds = options.seconds("seconds", 4)?;
    let keys = options.number("keys", 100_000)?.max(1);
    let connections = options.number("connections", 64)?.max(1);
    let batch_clients = options.number("batch-clients", 16)?.max(1);
    let (given, folder) = (options.path("program"), options.path("dir"));
    options.finish()?;
    server::require("wrk", "wrk")?;
    server::require("redis-benchmark", "redis-tools")?;

    let program = server::program(given)?;
    let folder = server::folder(folder)?;
    let value = batch::value(VALUE_BYTES);
    let redis = Redis::start(folder.path(), false)?;
    redis.fill(keys, &value)?;
    let nacre = filled(&program, folder.path(), keys, &value)?;
    let script = script(folder.path(), keys)?;

    println!("\nget: {VALUE_BYTES} B values, {keys} keys, {connections} connections, one client thread each");
    let mut gets = Rounds::default();
    for _ in 0..rounds {
        gets.add(
            "Redis GET",
            redis_benchmark(&redis, connections, keys, seconds, &["GET", "key-__rand_int__"], 1)?,
        );
        gets.add("nacre get", nacre.running.measured(|| wrk(nacre.address, connections, seconds, &script))?);
    }
    println!("\nbatchGet: {BATCH} keys a call, {batch_clients} clients");
    let mut batches = Rounds::default();
    let mget: Vec<&str> =
        std::iter::once("MGET").chain(std::iter::repeat_n("key-__rand_int__", BATCH)).collect();
    for _ in 0..rounds {
        batches
            .add("Redis MGET", redis_benchmark(&redis, batch_clients, keys, seconds, &mget, BATCH as u64)?);
        for form in [Form::Binary, Form::Json] {
            let (_, digits) = batch::get(form, BATCH).split();
            let sample = nacre.running.measured(|| {
                clients::run(
                    nacre.address,
                    batch_clients,
                    seconds,
                    BATCH as u64,
                    |_| batch::get(form, BATCH).request,
                    |request, random| batch::shuffle(request, &digits, random, keys),
                )
            })?;
            batches.add(&format!("nacre batchGet, {}", form.name()), sample);
        }
    }
    gets.print("get", "requests", Some("Redis GET"));
    batches.print("batchGet", "keys", Some("Redis MGET"));
    Ok(())
}

/// A server whose rows lie in segments and in its memory, as after a load.
fn filled(program: &Path, folder: &Path, keys: u64, value: &[u8]) -> Outcome<Nacre> {
    let flags = ["--flush-every", "1s", "--flush-table-size", "1KiB"];
    let nacre = Nacre::start(program, &folder.join("nacre"), &flags)?;
    nacre.create_table()?;
    let mut connection = nacre.connect()?;
    for first in (0..keys).step_by(1_000) {
        let rows = (keys - first).min(1_000) as usize;
        let (mut request, digits) = batch::write(Form::Binary, rows, value).split();
        batch::number(&mut request, &digits, first);
        connection.ok(&request)?;
    }
    let flushed = || nacre.metric("nacre_engine_rows_flushed_total");
    while flushed()? < keys as f64 {
        std::thread::sleep(Duration::from_millis(100));
    }
    for round in 0..2 {
        let mut sources = std::collections::BTreeMap::<String, u64>::new();
        for key in 0..keys {
            let answer = connection.ok(&Request::get(&format!("{TABLE}/rows/{}", key_of(key))))?;
            if answer.body != value {
                return Err(format!("{} has another value", key_of(key)));
            }
            let source = answer.head.split("\r\n").find_map(|line| line.strip_prefix("nacre-source: "));
            *sources.entry(source.unwrap_or("unknown").to_owned()).or_default() += 1;
        }
        if round == 1 {
            println!("every key was read; the answers come from {sources:?}");
        }
    }
    Ok(nacre)
}

/// The requests are made before the run: the client's time is taken from the server.
fn script(folder: &Path, keys: u64) -> Outcome<std::path::PathBuf> {
    let path = folder.join("get.lua");
    let text = format!(
        "local requests = {{}}\n\
         init = function()\n\
           for n = 1, {keys} do\n\
             requests[n] = wrk.format(\"GET\", string.format(\"{TABLE}/rows/key-%012d\", n - 1))\n\
           end\n\
         end\n\
         local random, count = math.random, {keys}\n\
         request = function() return requests[random(count)] end\n"
    );
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

fn wrk(address: SocketAddr, connections: u64, time: Duration, script: &Path) -> Outcome<Sample> {
    let mut command = Command::new("wrk");
    command.args([
        "-t1",
        &format!("-c{connections}"),
        &format!("-d{}s", time.as_secs().max(1)),
        "--latency",
        "-s",
    ]);
    command.arg(script).arg(format!("http://{address}"));
    let text = crate::process::output(&mut command)?;
    if let Some(line) = text.lines().find(|line| line.contains("Non-2xx") || line.contains("Socket errors")) {
        return Err(format!("wrk: {}", line.trim()));
    }
    let after = |word: &str| text.lines().find_map(|line| line.trim().strip_prefix(word)).map(str::trim);
    let per_second =
        after("Requests/sec:").and_then(|number| number.parse().ok()).ok_or("wrk told no rate")?;
    let millis = |word| after(word).and_then(millis).ok_or("wrk told no latency");
    Ok(Sample { per_second, p50: millis("50%")?, p99: millis("99%")?, cpu: None })
}

/// wrk's times: `812.00us`, `1.09ms`, `1.20s`.
fn millis(text: &str) -> Option<f64> {
    for (unit, factor) in [("us", 1e-3), ("ms", 1.0), ("s", 1e3)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Some(number.parse::<f64>().ok()? * factor);
        }
    }
    None
}

/// One client thread, no pipelining.
pub(crate) fn redis_benchmark(
    redis: &Redis,
    connections: u64,
    keys: u64,
    time: Duration,
    words: &[&str],
    units: u64,
) -> Outcome<Sample> {
    let call = |count: u64| -> Outcome<Sample> {
        let mut command = Command::new("redis-benchmark");
        command.args([
            "-h",
            "127.0.0.1",
            "-p",
            &redis.port.to_string(),
            "--csv",
            "-c",
            &connections.to_string(),
        ]);
        command.args(["-n", &count.to_string(), "-r", &keys.to_string()]).args(words);
        let text = crate::process::output(&mut command)?;
        let line = text.lines().last().unwrap_or_default();
        let fields: Vec<f64> =
            line.rsplit(',').map_while(|field| field.trim_matches('"').parse().ok()).collect();
        // From behind: max, p99, p95, p50, min, average, rate.
        match fields.as_slice() {
            [_, p99, _, p50, _, _, rate, ..] => {
                Ok(Sample { per_second: rate * units as f64, p50: *p50, p99: *p99, cpu: None })
            }
            _ => Err(format!("redis-benchmark said {line:?}")),
        }
    };
    // It takes a number of requests, not a time: a short run says how many.
    let probe = call(2_000)?;
    let count = (probe.per_second / units as f64 * time.as_secs_f64()) as u64;
    redis.running.measured(|| call(count.max(2_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_wrk_are_milliseconds() {
        assert_eq!(millis("812.00us"), Some(0.812));
        assert_eq!(millis("1.09ms"), Some(1.09));
        assert_eq!(millis("1.50s"), Some(1_500.0));
        assert_eq!(millis("1.50"), None);
    }
}
