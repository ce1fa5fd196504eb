//! What every log must pass: [`conformance`] says in sentences what the trait promises, [`storm`] races appenders,
//! readers and a trimmer and checks what must hold whatever goes wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a suite fails by panicking")]

mod conformance;
mod jitter;
mod storm;

pub use conformance::conformance;
pub use jitter::{JitterStore, TestClock};
pub use storm::{StormPlan, StormReport, storm};

use crate::Log;
use nacre_runtime::Context;
use std::sync::Arc;

/// One process on a log: its own memory, its own tasks.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its log.
    pub log: Arc<dyn Log>,
    /// Its world.
    pub ctx: Context,
}

/// Opens the process of a number on one and the same log.
pub type OpenProcess = dyn Fn(u64) -> Process + Send + Sync;
