//! The engine over the real object-store catalog and log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

mod edits_gone;
mod garbage;
mod garbage_proof;
mod harness;
mod lateness;
mod power;
mod sources;
mod splits;
mod tables;
mod warm;
mod writes;
