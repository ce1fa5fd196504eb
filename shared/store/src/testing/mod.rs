//! Stores that misbehave on purpose, and the suites that every store must pass.
//!
//! [`conformance`] says in sentences what the trait promises; [`races`] checks what must hold whatever goes wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a suite fails by panicking")]

mod conformance;
mod faulty;
mod power_loss;
mod races;
pub mod server;

pub use conformance::{Quirks, conformance, conformance_but};
pub use faulty::{Fault, FaultRates, FaultyStore, Operation};
pub use power_loss::{Disk, PowerLossFs, Sync};
pub use races::races;
