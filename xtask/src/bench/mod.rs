//! `cargo xtask bench`: the benchmarks of every crate, and those of the whole program beside its peers.

pub(crate) mod batch;
mod change;
pub(crate) mod clients;
mod cold;
mod drive;
pub(crate) mod fleet;
mod http;
mod load;
mod memory;
mod mixed;
mod options;
pub(crate) mod server;
mod stats;
mod visible;
pub(crate) mod wire;
mod write;

use crate::{Outcome, process};
use options::Options;
use std::process::ExitCode;
use std::time::Duration;

/// Criterion's runs are bounded by themselves; this is for one that hangs.
const LIMIT: Duration = Duration::from_secs(3_600);

const USAGE: &str = "\
usage: cargo xtask bench [COMMAND]

  [--peers]    the benchmarks of every crate; with the peers (RocksDB, SlateDB) beside them
  http         get and batchGet over HTTP beside Redis
                 [--rounds 5] [--seconds 4] [--keys 100k] [--connections 64] [--batch-clients 16]
  write        durable batches over HTTP, and the flush of the log, beside Redis and the disk
                 [--rounds 5] [--seconds 5] [--clients 16] [--flush-rows 2M] [--no-redis]
  load         loads beside DuckDB sorting the same file, within the same memory
                 [--bytes 2G] [--rounds 1] [--memory-mib 512] [--load-memory 128MiB] [--soft] [--lineitem 1]
                 [--only rewrite|lineitem|adopt]
  fleet        the production stack on this machine: writes beside a bare producer, reads alone and beside a stream
                 [--rounds 3] [--seconds 6] [--keys 400k] [--clients 16] [--only write|visible|read|mixed|change] [--bare FILE, the bare producer]
                 [--rate GETS_A_SECOND, of mixed]
  cold         reads with a cache of a tenth of the data and a store as slow as S3, and a load that replaces everything meanwhile
                 [--keys 500k] [--seconds 30] [--rate 400] [--clients 32] [--cache-percent 10] [--exponent 0.99]
                 [--neighbours, hot keys side by side] [--median-ms 15] [--p99-ms 60]
  drive        one kind of traffic against a server that runs already, for a profiler to look at
                 [--server 127.0.0.1:8790] [--what get|batch-get|write] [--json] [--seconds 5] [--clients 16]
                 [--keys 100k] [--batch 100] [--rate ROWS_A_SECOND]

http, write, load, cold and fleet take --program FILE (a nacre that is built already), the first four --dir DIR (where their data lies while they run).";

pub(crate) fn command(arguments: &[&str]) -> ExitCode {
    let done = match arguments {
        [] => run(false),
        ["--peers"] => run(true),
        ["cold", rest @ ..] => Options::parse(rest).and_then(cold::run),
        ["fleet", rest @ ..] => Options::parse(rest).and_then(fleet::run),
        ["http", rest @ ..] => Options::parse(rest).and_then(http::run),
        ["load", rest @ ..] => Options::parse(rest).and_then(load::run),
        ["drive", rest @ ..] => Options::parse(rest).and_then(drive::run),
        ["write", rest @ ..] => Options::parse(rest).and_then(write::run),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("bench: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn run(peers: bool) -> Outcome {
    process::run(&mut process::cargo(&["bench", "--locked", "--workspace", "--benches"]), LIMIT)?;
    if peers {
        // The peers compile for many minutes, so they are a workspace of their own.
        let home = process::root().join("bench-peers");
        if !home.is_dir() {
            return Err("--peers: the folder bench-peers is not part of this checkout yet".into());
        }
        process::run(process::cargo(&["run", "--release", "--locked"]).current_dir(home), LIMIT)?;
    }
    Ok(())
}
