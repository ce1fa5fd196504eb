//! Counting: each kind of work done by itself on the whole stack, and what all processes asked of S3 and DynamoDB meanwhile.

use crate::bench::batch::{self, Form};
use crate::bench::clients;
use crate::bench::fleet::{SHARDS, Stack};
use crate::bench::server::{TABLE, key_of};
use crate::bench::wire::{Connection, Request};
use crate::{Outcome, cache, process};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

const ROWS: u64 = 200_000;
const VALUE_BYTES: usize = 1_000;
const IDLE: Duration = Duration::from_secs(120);
/// What is written is flushed within a minute.
const FLUSHED: Duration = Duration::from_secs(180);

/// Requests and units.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Asked {
    /// PUT, COPY, POST and LIST requests to S3.
    pub(crate) puts: f64,
    /// GET and HEAD requests.
    pub(crate) gets: f64,
    pub(crate) write_units: f64,
    pub(crate) read_units: f64,
}

/// What was counted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Counted {
    /// An hour in which nothing is asked, of one fleet with one table.
    pub(crate) idle_hour: Asked,
    /// Flushing rows of one table: all of it, and in how many edits of a partition, and for how many rows.
    pub(crate) flushes: Asked,
    pub(crate) flush_count: f64,
    /// Bytes of the log for each row of [`VALUE_BYTES`], as the broker keeps them.
    pub(crate) log_bytes_per_row: f64,
    /// One get of a cold block.
    pub(crate) cold_get: Asked,
    /// One adopted file of a load.
    pub(crate) adopted_file: Asked,
}

impl Asked {
    fn minus(self, other: Self) -> Self {
        Self {
            puts: self.puts - other.puts,
            gets: self.gets - other.gets,
            write_units: self.write_units - other.write_units,
            read_units: self.read_units - other.read_units,
        }
    }

    pub(crate) fn times(self, factor: f64) -> Self {
        Self {
            puts: self.puts * factor,
            gets: self.gets * factor,
            write_units: self.write_units * factor,
            read_units: self.read_units * factor,
        }
    }

    /// Without what an idle fleet asks for in that time.
    fn beyond_idle(self, idle_hour: Self, took: Duration) -> Self {
        let rest = self.minus(idle_hour.times(took.as_secs_f64() / 3_600.0));
        Self {
            puts: rest.puts.max(0.0),
            gets: rest.gets.max(0.0),
            write_units: rest.write_units.max(0.0),
            read_units: rest.read_units.max(0.0),
        }
    }

    fn to_json(self) -> Value {
        json!({
            "puts": self.puts, "gets": self.gets,
            "write_units": self.write_units, "read_units": self.read_units,
        })
    }

    fn from_json(json: &Value) -> Outcome<Self> {
        let number = |name: &str| json[name].as_f64().ok_or_else(|| format!("counted.json: no {name}"));
        Ok(Self {
            puts: number("puts")?,
            gets: number("gets")?,
            write_units: number("write_units")?,
            read_units: number("read_units")?,
        })
    }
}

impl Counted {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "idle_hour": self.idle_hour.to_json(),
            "flushes": self.flushes.to_json(),
            "flush_count": self.flush_count,
            "log_bytes_per_row": self.log_bytes_per_row,
            "cold_get": self.cold_get.to_json(),
            "adopted_file": self.adopted_file.to_json(),
        })
    }

    pub(super) fn from_json(json: &Value) -> Outcome<Self> {
        let number = |name: &str| json[name].as_f64().ok_or_else(|| format!("counted.json: no {name}"));
        Ok(Self {
            idle_hour: Asked::from_json(&json["idle_hour"])?,
            flushes: Asked::from_json(&json["flushes"])?,
            flush_count: number("flush_count")?,
            log_bytes_per_row: number("log_bytes_per_row")?,
            cold_get: Asked::from_json(&json["cold_get"])?,
            adopted_file: Asked::from_json(&json["adopted_file"])?,
        })
    }
}

/// What all processes have asked for so far, and the sum of some other metric.
struct Scrape {
    asked: Asked,
    metrics: BTreeMap<String, f64>,
}

impl Scrape {
    fn sum(&self, name: &str) -> f64 {
        self.metrics
            .iter()
            .filter(|(line, _)| line.split('{').next() == Some(name))
            .map(|(_, value)| value)
            .sum()
    }
}

fn scrape(stack: &Stack) -> Outcome<Scrape> {
    let mut metrics: BTreeMap<String, f64> = BTreeMap::new();
    for address in stack.metrics.values() {
        let mut connection = Connection::open(*address)?;
        let answer = connection.ok(&Request::get("/metrics"))?;
        for line in String::from_utf8_lossy(answer.body).lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, value)) = line.rsplit_once(' ') {
                *metrics.entry(name.to_owned()).or_default() += value.parse().unwrap_or(0.0);
            }
        }
    }
    let of = |name: &str, labels: &[&str]| -> f64 {
        labels.iter().filter_map(|label| metrics.get(&format!("{name}{{{label}}}"))).sum()
    };
    let operations = |names: &[&str]| {
        let labels: Vec<String> = names.iter().map(|name| format!("operation=\"{name}\"")).collect();
        of("nacre_store_requests_total", &labels.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let asked = Asked {
        puts: operations(&["put", "list", "copy", "upload"]),
        gets: operations(&["get", "head"]),
        write_units: of("nacre_catalog_units_total", &["kind=\"write\""]),
        read_units: of("nacre_catalog_units_total", &["kind=\"read\""]),
    };
    Ok(Scrape { asked, metrics })
}

pub(super) fn run(program: Option<PathBuf>) -> Outcome<Counted> {
    let stack = Stack::start(program)?;
    let cuts: Vec<String> = (1..SHARDS).map(|nth| format!("{:?}", key_of(ROWS * nth / SHARDS))).collect();
    let body = format!("{{\"split_at\":[{}]}}", cuts.join(","));
    let mut connection = Connection::open(stack.api)?;
    connection.ok(&Request::new("PUT", TABLE, "application/json", body.as_bytes()))?;
    connection.ok(&Request::get(&format!("{TABLE}/rows?page_size=1")))?;
    // What a start and a new table ask for is over.
    thread::sleep(Duration::from_secs(20));

    println!("counting an idle fleet for {} s", IDLE.as_secs());
    let before = scrape(&stack)?;
    thread::sleep(IDLE);
    let idle_hour = scrape(&stack)?.asked.minus(before.asked).times(3_600.0 / IDLE.as_secs_f64());

    println!("counting the flushes of {ROWS} rows");
    let (before, kept, began) = (scrape(&stack)?, log_bytes(&stack)?, Instant::now());
    // The load balancer closes connections that are idle for so long.
    let mut connection = Connection::open(stack.api)?;
    let value = batch::value(VALUE_BYTES);
    let (mut request, digits) = batch::write(Form::Binary, 1_000, &value).split();
    for first in (0..ROWS).step_by(1_000) {
        batch::number(&mut request, &digits, first);
        connection.ok(&request)?;
    }
    // Everything is flushed when as many rows lie in segments.
    let after = loop {
        let after = scrape(&stack)?;
        if after.sum("nacre_engine_rows_flushed_total") - before.sum("nacre_engine_rows_flushed_total")
            >= ROWS as f64
        {
            break after;
        }
        if began.elapsed() > FLUSHED {
            return Err(format!("the rows are not flushed after {} s", FLUSHED.as_secs()));
        }
        thread::sleep(Duration::from_millis(500));
    };
    let flushes = after.asked.minus(before.asked).beyond_idle(idle_hour, began.elapsed());
    let flush_count = after.sum("nacre_engine_flushes_total") - before.sum("nacre_engine_flushes_total");
    let log_bytes_per_row = (log_bytes(&stack)? - kept) / ROWS as f64;

    println!("counting cold gets");
    let (before, began) = (scrape(&stack)?, Instant::now());
    let first = Request::get(&format!("{TABLE}/rows/{}", key_of(0)));
    let digits = vec![first.bytes.len() - 12 - " HTTP/1.1\r\nhost: nacre\r\n\r\n".len()];
    let prepare = |_| Request { bytes: first.bytes.clone(), body_at: 0 };
    clients::run(stack.api, 8, Duration::from_secs(10), 1, prepare, |request, random| {
        batch::shuffle(request, &digits, random, ROWS);
    })?;
    let after = scrape(&stack)?;
    let misses = after.sum("nacre_engine_block_gets_total") - before.sum("nacre_engine_block_gets_total");
    let reads = after.asked.minus(before.asked).beyond_idle(idle_hour, began.elapsed());
    let cold_get = Asked { gets: reads.gets, ..Asked::default() }.times(1.0 / misses.max(1.0));

    println!("counting a load");
    let adopted_file = load(&stack, idle_hour)?;
    Ok(Counted { idle_hour, flushes, flush_count, log_bytes_per_row, cold_get, adopted_file })
}

/// Loads files that are adopted; answers what one of them asked for.
fn load(stack: &Stack, idle_hour: Asked) -> Outcome<Asked> {
    const FILES: usize = 8;
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let python = |words: &[&str]| {
        let script = folder.path().join("files.py");
        std::fs::write(&script, include_str!("../bench/duckdb.py")).map_err(|error| error.to_string())?;
        process::output(
            std::process::Command::new(cache::python()?).arg(&script).args(words).arg(folder.path()),
        )
    };
    let path = |name: String| folder.path().join(name).display().to_string();
    let mut files = Vec::new();
    for nth in 0..FILES {
        let (shuffled, sorted) = (path(format!("shuffled-{nth}.parquet")), path(format!("{nth}.parquet")));
        python(&["make", &shuffled, "20000"])?;
        python(&["adoptable", &shuffled, &sorted])?;
        files.push(std::fs::read(&sorted).map_err(|error| format!("{sorted}: {error}"))?);
    }
    let mut connection = Connection::open(stack.api)?;
    let mut call = |method: &str, path: &str, kind: &str, body: &[u8]| -> Outcome<Value> {
        let answer = connection.ok(&Request::new(method, &format!("{TABLE}/loads{path}"), kind, body))?;
        serde_json::from_slice(answer.body).or(Ok(Value::Null))
    };
    let began = Instant::now();
    let before = scrape(stack)?;
    let begin =
        br#"{"mode":"merge","version":"now","columns":{"key":["key"],"value":"value"},"on_duplicate":"any"}"#;
    let load = call("POST", "", "application/json", begin)?;
    let id = load["load_id"].as_str().ok_or("a load without an id")?.to_owned();
    for (nth, file) in files.iter().enumerate() {
        call("PUT", &format!("/{id}/files/{nth}.parquet"), "application/octet-stream", file)?;
    }
    call("POST", &format!("/{id}:commit"), "application/json", b"{}")?;
    loop {
        let load = call("GET", &format!("/{id}"), "application/json", b"")?;
        match load["state"].as_str() {
            Some("committed") => break,
            Some("failed" | "cancelled") => return Err(format!("the load failed: {load}")),
            _ => thread::sleep(Duration::from_millis(100)),
        }
    }
    let asked = scrape(stack)?.asked.minus(before.asked).beyond_idle(idle_hour, began.elapsed());
    Ok(asked.times(1.0 / FILES as f64))
}

/// Bytes of the log as the broker keeps them.
fn log_bytes(stack: &Stack) -> Outcome<f64> {
    fn below(folder: &std::path::Path) -> std::io::Result<u64> {
        let mut bytes = 0;
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                bytes += below(&entry.path())?;
            } else if entry.path().extension().is_some_and(|end| end == "log") {
                bytes += entry.metadata()?.len();
            }
        }
        Ok(bytes)
    }
    let folder = stack.folder.join("kafka");
    below(&folder).map(|bytes| bytes as f64).map_err(|error| format!("{}: {error}", folder.display()))
}
