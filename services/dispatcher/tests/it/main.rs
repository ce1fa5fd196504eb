//! A real server on port 0 over a real node and a store in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

mod access;
mod bad_input;
mod batches;
mod contract;
mod harness;
mod hostile;
mod loads;
mod protocol;
mod rows;
mod scans;
mod tables;
mod tls;
