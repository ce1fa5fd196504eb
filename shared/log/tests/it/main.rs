//! The log over every store: conformance, storms, single counter-examples.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

mod cases;
mod conformance;
mod storms;
mod world;
