//! The manifest from outside: sentences about edits, and properties against a naive state.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod compactions;
mod encodings;
mod flushes;
mod loads;
mod lookups;
mod memory;
mod naive;
mod sequences;
mod sources;
mod support;
mod tables;
