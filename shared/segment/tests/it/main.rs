//! The segment format from outside: what is written is read, by nacre and by others, and nothing hostile gets through.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod encodings;
mod foreign;
mod golden;
mod hostile;
mod interop;
mod lookup;
mod rows;
mod writer;
