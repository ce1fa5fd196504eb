//! The engine equals the model: two thousand random histories. `NACRE_HISTORIES` says how many,
//! `NACRE_HISTORIES_SEED` where to begin. One hundred thousand, with at least a hundred for each pair of things that
//! can meet:
//!
//! ```text
//! cargo run --release -p nacre-engine --example histories -- --count 100000 --seed 1
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    unreachable_pub
)]

mod suite;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn every_history_reads_as_the_model_says() {
    let count = number("NACRE_HISTORIES", 2_000);
    match suite::run_many(number("NACRE_HISTORIES_SEED", 1), count, |_| ()) {
        Err(failure) => panic!("{failure}"),
        Ok(pairs) => {
            pairs.print();
            let rare = pairs.below((count / 500) as u32);
            assert!(rare.is_empty(), "too seldom: {rare:#?}");
        }
    }
}
