//! `cargo xtask bench fleet --only visible`: from sending a row to the first read that sees it, while half of what is possible
//! is written beside.
//!
//! The prober asks again a millisecond after an answer that does not have the row: one that asked without a pause would take
//! half a core from what it measures. So a row is seen up to a millisecond late.

use super::batch::Form;
use super::fleet::{BATCH, Fleet};
use super::server::{TABLE, key_of};
use super::stats::{Sample, grouped};
use super::wire::{Connection, Request};
use crate::Outcome;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ASK_AGAIN: Duration = Duration::from_millis(1);
const BETWEEN_ROWS: Duration = Duration::from_millis(5);

/// Since a row was sent.
struct Probe {
    acknowledged: Duration,
    visible: Duration,
}

impl Fleet {
    pub(super) fn visible(&self) -> Outcome {
        let full = self.write(Form::Binary, BATCH, self.connections, Duration::ZERO)?.per_second;
        let every = Duration::from_secs_f64(self.connections as f64 * BATCH as f64 / (full / 2.0));
        let done = AtomicBool::new(false);
        let probes = thread::scope(|scope| -> Outcome<Vec<Probe>> {
            let probing = scope.spawn(|| self.probes(&done));
            let load = self.write(Form::Binary, BATCH, self.connections, every);
            done.store(true, Ordering::Relaxed);
            let probes = probing.join().map_err(|_| "the probe panicked")??;
            let load = load?;
            println!(
                "  beside {} rows/s of at most {}, p50 {:.1} ms, p99 {:.1} ms",
                grouped(load.per_second),
                grouped(full),
                load.p50,
                load.p99
            );
            Ok(probes)
        })?;
        let of =
            |part: fn(&Probe) -> Duration| Sample::of(probes.iter().map(part).collect(), 1, self.seconds);
        println!("\nWrite to visible at half load, {} rows, ms", probes.len());
        for (name, sample) in [
            ("a row's acknowledgement", of(|probe| probe.acknowledged)),
            ("from there until it is visible", of(|probe| probe.visible - probe.acknowledged)),
            ("both", of(|probe| probe.visible)),
        ] {
            println!("  {name:<32} p50 {:>6.1}   p99 {:>6.1}", sample.p50, sample.p99);
        }
        println!();
        Ok(())
    }

    fn probes(&self, done: &AtomicBool) -> Outcome<Vec<Probe>> {
        let mut writer = Connection::open(self.stack.api)?;
        let mut reader = Connection::open(self.stack.api)?;
        let mut probes = Vec::new();
        while !done.load(Ordering::Relaxed) {
            let number = probes.len() as u64;
            let shard = number % super::fleet::SHARDS;
            let path =
                format!("{TABLE}/rows/{}-probe-{number}", key_of(self.keys * shard / super::fleet::SHARDS));
            let put = Request::new("PUT", &path, "application/octet-stream", b"x");
            let get = Request::get(&path);
            let began = Instant::now();
            writer.ok(&put)?;
            let acknowledged = began.elapsed();
            while reader.call(&get)?.status != 200 {
                thread::sleep(ASK_AGAIN);
            }
            probes.push(Probe { acknowledged, visible: began.elapsed() });
            thread::sleep(BETWEEN_ROWS);
        }
        Ok(probes)
    }
}
