//! The log over every store: conformance, storms, single counter-examples.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs
)]

mod cases;
mod conformance;
#[cfg(feature = "kafka")]
mod kafka;
mod storms;
mod world;
