//! Many clients, each on a thread and a connection of its own, each waiting for one answer at a time.

use super::stats::Sample;
use super::wire::{Connection, Request};
use crate::Outcome;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A small generator of numbers: the clients' keys need no more, and must cost nothing.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `most`.
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * u128::from(most)) >> 64) as u64
    }
}

/// Runs `clients` for `time`. `prepare` makes a client's request, `change` changes it before each call.
pub(crate) fn run(
    address: SocketAddr,
    clients: u64,
    time: Duration,
    units_per_call: u64,
    prepare: impl Fn(u64) -> Request + Sync,
    change: impl Fn(&mut Request, &mut Random) + Sync,
) -> Outcome<Sample> {
    Ok(paced(address, clients, time, units_per_call, Duration::ZERO, prepare, change)?.sample)
}

/// What paced calls came to.
pub(crate) struct Paced {
    pub(crate) sample: Sample,
    /// When each call was due, since the first, and how long it then took.
    calls: Vec<(Duration, Duration)>,
}

impl Paced {
    /// The 99th percentile of the calls that were due in each second, in milliseconds.
    pub(crate) fn p99_by_second(&self) -> Vec<f64> {
        let seconds = self.calls.iter().map(|(due, _)| due.as_secs()).max().map_or(0, |last| last + 1);
        let of = |second: u64| self.calls.iter().filter(move |(due, _)| due.as_secs() == second);
        let sample =
            |second| Sample::of(of(second).map(|(_, took)| *took).collect(), 1, Duration::from_secs(1));
        (0..seconds).map(|second| sample(second).p99).collect()
    }
}

/// [`run`], each client beginning a call `every` so often, not all at the same moment. A call that begins late because the one before it took long
/// is counted from when it was due.
pub(crate) fn paced(
    address: SocketAddr,
    clients: u64,
    time: Duration,
    units_per_call: u64,
    every: Duration,
    prepare: impl Fn(u64) -> Request + Sync,
    change: impl Fn(&mut Request, &mut Random) + Sync,
) -> Outcome<Paced> {
    let ready = Barrier::new(clients as usize + 1);
    let stop = AtomicBool::new(false);
    let (prepare, change) = (&prepare, &change);
    let (ready, stop) = (&ready, &stop);
    thread::scope(|scope| {
        let work: Vec<_> = (0..clients)
            .map(|client| {
                scope.spawn(move || -> Outcome<Vec<(Duration, Duration)>> {
                    let mut request = prepare(client);
                    let mut random = Random::new(client + 1);
                    let connection = Connection::open(address);
                    ready.wait();
                    let mut connection = connection?;
                    let mut took = Vec::with_capacity(1 << 16);
                    let first = Instant::now();
                    let mut due = first + every.mul_f64(client as f64 / clients as f64);
                    while !stop.load(Ordering::Relaxed) {
                        change(&mut request, &mut random);
                        let mut began = Instant::now();
                        if !every.is_zero() {
                            thread::sleep(due.saturating_duration_since(began));
                            began = due;
                            due += every;
                        }
                        if let Err(error) = connection.ok(&request) {
                            stop.store(true, Ordering::Relaxed);
                            return Err(error);
                        }
                        took.push((began.duration_since(first), began.elapsed()));
                    }
                    Ok(took)
                })
            })
            .collect();
        ready.wait();
        let began = Instant::now();
        while began.elapsed() < time && !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for client in work {
            all.extend(client.join().map_err(|_| "a client panicked".to_owned())??);
        }
        // The last calls end after the time: the wall clock ends with them.
        let sample = Sample::of(all.iter().map(|(_, took)| *took).collect(), units_per_call, began.elapsed());
        Ok(Paced { sample, calls: all })
    })
}
