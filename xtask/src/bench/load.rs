//! `cargo xtask bench load`: loads that are rewritten beside DuckDB sorting the same file, loads that are adopted, and
//! what packing columns as JSON costs.

use super::memory::Group;
use super::options::Options;
use super::server::{self, Nacre, TABLE};
use super::stats::{grouped, median};
use super::wire::Request;
use crate::{Outcome, cache, process};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const DUCKDB: &str = include_str!("duckdb.py");
/// What a row of the key and value file takes in it.
const ROW_BYTES: u64 = 190;

pub(crate) fn run(mut options: Options) -> Outcome {
    let bytes = options.number("bytes", 2_000_000_000)?;
    let rounds = options.number("rounds", 1)?;
    let memory = options.number("memory-mib", 512)?;
    let load_memory = options.text("load-memory").unwrap_or_else(|| "128MiB".into());
    let soft = options.flag("soft");
    let scale = options.number("lineitem", 1)?;
    let only = options.text("only");
    let (given, folder) = (options.path("program"), options.path("dir"));
    options.finish()?;

    let bench = Bench {
        program: server::program(given)?,
        python: cache::python()?,
        inputs: process::root().join("target/bench-data/inputs"),
        folder: server::folder(folder)?,
        memory_mib: memory,
        load_memory,
        is_hard: !soft,
    };
    std::fs::create_dir_all(&bench.inputs).map_err(|error| error.to_string())?;
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if wanted("rewrite") {
        let rows = bytes / ROW_BYTES;
        let file = bench.input(&format!("shuffled-{rows}.parquet"), &["make", "OUT", &rows.to_string()])?;
        bench.compare("key and value", &file, rows, rounds, "key", KEY_VALUE)?;
    }
    if wanted("lineitem") && scale > 0 {
        let (file, rows) = bench.lineitem(scale)?;
        bench.compare(
            "lineitem, 14 columns packed as JSON",
            &file,
            rows,
            rounds,
            "l_orderkey, l_linenumber",
            LINEITEM,
        )?;
    }
    if wanted("adopt") {
        let rows = bytes / ROW_BYTES / 4;
        let source = bench.input(&format!("shuffled-{rows}.parquet"), &["make", "OUT", &rows.to_string()])?;
        let source = source.display().to_string();
        let file = bench.input(&format!("adoptable-{rows}.parquet"), &["adoptable", &source, "OUT"])?;
        bench.adopt(&file, rows)?;
    }
    Ok(())
}

const KEY_VALUE: &str = r#"{"key":["key"],"value":"value"}"#;
const LINEITEM: &str = r#"{"key":["l_orderkey","l_linenumber"],"pack":["l_partkey","l_suppkey","l_quantity","l_extendedprice","l_discount","l_tax","l_returnflag","l_linestatus","l_shipdate","l_commitdate","l_receiptdate","l_shipinstruct","l_shipmode","l_comment"]}"#;

struct Bench {
    program: PathBuf,
    python: PathBuf,
    /// Files that are made once and kept.
    inputs: PathBuf,
    folder: tempfile::TempDir,
    memory_mib: u64,
    load_memory: String,
    is_hard: bool,
}

/// What one side took.
struct Took {
    seconds: f64,
    /// Of processor time.
    cpu: Option<f64>,
    peak_mib: Option<f64>,
}

impl Bench {
    fn duckdb(&self, words: &[&str], group: Option<&Group>) -> Outcome<Took> {
        let temp = self.folder.path().join("duckdb");
        std::fs::create_dir_all(&temp).map_err(|error| error.to_string())?;
        let mut command =
            group.map_or_else(|| Command::new(&self.python), |group| group.command(&self.python));
        command.args(["-c", DUCKDB]).args(words).arg(&temp);
        let peak = group.map(Group::watch);
        let text = process::output(&mut command)?;
        let said: serde_json::Value = serde_json::from_str(text.trim()).map_err(|error| error.to_string())?;
        let number = |name: &str| said.get(name).and_then(serde_json::Value::as_f64);
        let seconds = number("seconds").ok_or("DuckDB told no time")?;
        let _ = std::fs::remove_dir_all(&temp);
        Ok(Took { seconds, cpu: number("cpu"), peak_mib: peak.map(|peak| peak.mib()) })
    }

    /// A file that is made by DuckDB unless it is there; `OUT` among the words stands for its path.
    fn input(&self, name: &str, words: &[&str]) -> Outcome<PathBuf> {
        let path = self.inputs.join(name);
        if !path.exists() {
            println!("making {name}");
            let half = self.inputs.join(format!("{name}.half"));
            let out = half.display().to_string();
            let words: Vec<&str> =
                words.iter().map(|&word| if word == "OUT" { out.as_str() } else { word }).collect();
            self.duckdb(&words, None)?;
            std::fs::rename(&half, &path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(path)
    }

    fn lineitem(&self, scale: u64) -> Outcome<(PathBuf, u64)> {
        let sorted = self.inputs.join(format!("tpch-{scale}/lineitem.parquet"));
        if !sorted.exists() {
            println!("making TPC-H lineitem, scale {scale}");
            let generator = self.python.with_file_name("tpchgen-cli");
            let mut command = Command::new(generator);
            command.args(["parquet", "-s", &scale.to_string(), "--tables", "lineitem", "--output-dir"]);
            command.arg(self.inputs.join(format!("tpch-{scale}")));
            process::run(&mut command, Duration::from_secs(1_200))?;
        }
        let source = sorted.display().to_string();
        let file = self.input(&format!("lineitem-{scale}.parquet"), &["shuffle", &source, "OUT"])?;
        let count =
            format!("import duckdb; print(duckdb.sql(\"SELECT count(*) FROM '{source}'\").fetchall()[0][0])");
        let rows = process::output(Command::new(&self.python).args(["-c", &count]))?;
        Ok((file, rows.trim().parse().map_err(|_| format!("DuckDB counted {rows:?}"))?))
    }

    fn group(&self) -> Option<Group> {
        let group = Group::new(self.is_hard.then_some(self.memory_mib << 20));
        if group.is_none() && self.is_hard {
            println!(
                "no control group can be made here: memory is bounded by settings alone (as root it can)"
            );
        }
        group
    }

    /// Sorts with DuckDB and loads with nacre, in turns.
    fn compare(
        &self,
        title: &str,
        file: &Path,
        rows: u64,
        rounds: u64,
        order: &str,
        columns: &str,
    ) -> Outcome {
        let size = std::fs::metadata(file).map_or(0, |meta| meta.len());
        println!(
            "\n{title}: {} rows in no order, a file of {} MB, {} MiB of memory{}",
            grouped(rows as f64),
            grouped(size as f64 / 1e6),
            self.memory_mib,
            if self.is_hard { ", bounded by a control group" } else { "" }
        );
        let mut rates = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let sorted = self.sort(file, order)?;
            rates.0.push(self.tell("DuckDB COPY (.. ORDER BY ..)", rows, &sorted));
            let loaded = self.load(file, columns, rows, "rewritten")?.0;
            rates.1.push(self.tell("nacre load, rewritten", rows, &loaded));
        }
        let ratios = rates.1.iter().zip(&rates.0).map(|(own, peer)| own / peer);
        println!("ratio {:.2} (median of {rounds})", median(ratios));
        Ok(())
    }

    fn tell(&self, name: &str, rows: u64, took: &Took) -> f64 {
        let rate = rows as f64 / took.seconds;
        let peak = took.peak_mib.map_or_else(String::new, |mib| format!("   peak {mib:.0} MiB"));
        let cpu = took.cpu.map_or_else(String::new, |cpu| format!("   {cpu:.1} s of processor time"));
        println!("  {name:<30} {:>8.1} s {:>12} rows/s{cpu}{peak}", took.seconds, grouped(rate));
        rate
    }

    fn sort(&self, file: &Path, order: &str) -> Outcome<Took> {
        let out = self.folder.path().join("sorted.parquet");
        // Under a hard bound DuckDB's own must be lower: it does not count everything, and 80 % is its own default.
        let own = if self.is_hard { self.memory_mib * 8 / 10 } else { self.memory_mib };
        let (from, to) = (file.display().to_string(), out.display().to_string());
        let group = self.group();
        let sort = |own: u64, group: Option<&Group>| {
            self.duckdb(&["sort", &from, &to, order, &format!("{own}MiB")], group)
        };
        let mut took = sort(own, group.as_ref());
        let mut allowed = self.memory_mib;
        // Killed by the bound, or out of the memory that it may use.
        while took.is_err() && allowed < 8 * self.memory_mib {
            allowed *= 2;
            println!(
                "  DuckDB cannot sort it with that; it tries again, bounded by its own setting of {allowed} MiB"
            );
            took = sort(allowed, Group::new(None).as_ref());
        }
        let _ = std::fs::remove_file(&out);
        took
    }

    /// A load of one file in the staging place, from its commit call until it is visible.
    fn load(
        &self,
        file: &Path,
        columns: &str,
        rows: u64,
        outcome: &str,
    ) -> Outcome<(Took, serde_json::Value)> {
        let home = self.folder.path().join("load");
        let group = self.group();
        let mut command =
            group.as_ref().map_or_else(|| Command::new(&self.program), |group| group.command(&self.program));
        command.args(["serve", "--listen", "127.0.0.1:0", "--output", "json", "--log-level", "warn"]);
        command.args(["--load-memory", &self.load_memory, "--cache-memory", "16MiB", "--data"]).arg(&home);
        let nacre = Nacre::start_command(&mut command)?;
        nacre.create_table()?;
        let begin = format!(r#"{{"mode":"replace","version":"now","columns":{columns}}}"#);
        let load = nacre.json(&Request::new(
            "POST",
            &format!("{TABLE}/loads"),
            "application/json",
            begin.as_bytes(),
        ))?;
        let text = |name: &str| load.get(name).and_then(|value| value.as_str()).map(str::to_owned);
        let (Some(id), Some(staging)) = (text("load_id"), text("staging_url")) else {
            return Err(format!("an odd answer to a begin: {load}"));
        };
        let staging = PathBuf::from(staging.strip_prefix("file://").unwrap_or(&staging));
        std::fs::create_dir_all(&staging)
            .and_then(|()| std::fs::copy(file, staging.join("input.parquet")))
            .map_err(|error| format!("{}: {error}", staging.display()))?;
        let peak = group.as_ref().map(Group::watch);
        let began = Instant::now();
        let path = format!("{TABLE}/loads/{id}");
        nacre.json(&Request::new("POST", &format!("{path}:commit"), "application/json", b"{}"))?;
        let done = loop {
            let load = nacre.json(&Request::get(&path))?;
            match load.get("state").and_then(|state| state.as_str()) {
                Some("committed") => break load,
                Some("failed" | "cancelled") => return Err(format!("the load failed: {load}")),
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let took = Took {
            seconds: began.elapsed().as_secs_f64(),
            cpu: nacre.running.cpu().map(|cpu| cpu.as_secs_f64()),
            peak_mib: peak.map(|peak| peak.mib()),
        };
        let progress = done.get("progress").cloned().unwrap_or_default();
        println!("    phases {}", progress.get("seconds").unwrap_or(&serde_json::Value::Null));
        let files = if outcome == "adopted" { "adopted_files" } else { "rewritten_files" };
        let number = |name: &str| progress.get(name).and_then(serde_json::Value::as_u64);
        if number("rows") != Some(rows) || number(files) != Some(1) {
            return Err(format!("the load did something else than {outcome} of {rows} rows: {progress}"));
        }
        let io = nacre.running.read_bytes();
        drop(nacre);
        let _ = std::fs::remove_dir_all(&home);
        Ok((took, serde_json::json!({ "read": io })))
    }

    /// A load of a file that lies as it should: nothing is moved, and its values are not read.
    fn adopt(&self, file: &Path, rows: u64) -> Outcome {
        let size = std::fs::metadata(file).map_or(0, |meta| meta.len());
        println!(
            "\nadopted: {} rows in order, a file of {} MB",
            grouped(rows as f64),
            grouped(size as f64 / 1e6)
        );
        let (took, io) = self.load(file, KEY_VALUE, rows, "adopted")?;
        self.tell("nacre load, adopted", rows, &took);
        if let Some(read) = io.get("read").and_then(serde_json::Value::as_f64) {
            println!(
                "  bytes read by the server and its children: {} MB, {:.0} % of the file",
                grouped(read / 1e6),
                100.0 * read / size as f64
            );
        }
        Ok(())
    }
}
