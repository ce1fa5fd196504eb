//! Many random histories against the model of the design's chapter 2, for example over night:
//!
//! ```text
//! cargo run --release -p nacre-engine --example histories -- --count 100000 --seed 1 [--threads 2]
//! ```
//!
//! Seeds `seed..seed + count` are drawn. It ends with the table of what met how often, and fails where the engine and
//! the model part (it prints the shrunk history) or where two kinds of things met in fewer than one history in a
//! thousand: a hundred for the hundred thousand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    unreachable_pub
)]

#[path = "../tests/histories/suite/mod.rs"]
mod suite;

fn argument(name: &str, default: u64) -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).map_or(default, |text| text.parse().expect("a number"))
}

fn main() {
    let (count, seed) = (argument("--count", 100_000), argument("--seed", 1));
    let threads = argument("--threads", 2).max(1);
    let share = count / threads;
    let workers: Vec<_> = (0..threads)
        .map(|worker| {
            let first = seed + worker * share;
            let own = if worker + 1 == threads { count - worker * share } else { share };
            std::thread::spawn(move || {
                suite::run_many(first, own, |at| {
                    if (at - first + 1).is_multiple_of(1_000) {
                        eprintln!("thread {worker}: {} of {own}", at - first + 1);
                    }
                })
            })
        })
        .collect();
    let mut pairs = suite::pairs::Pairs::default();
    let mut failed = false;
    for worker in workers {
        match worker.join().expect("a worker panicked") {
            Ok(own) => pairs.add(&own),
            Err(failure) => {
                println!("{failure}");
                failed = true;
            }
        }
    }
    pairs.print();
    let rare = pairs.below((count / 1_000) as u32);
    for pair in &rare {
        println!("too seldom: {pair}");
    }
    println!(
        "{count} histories from seed {seed}: {}",
        if failed { "FAILED" } else { "every one reads as the model" }
    );
    if failed || !rare.is_empty() {
        std::process::exit(1);
    }
}
