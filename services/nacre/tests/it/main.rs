//! The program as a person uses it: started, spoken to, stopped and killed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod access;
mod bad_files;
mod check;
mod command_line;
#[cfg(all(feature = "kafka", feature = "dynamodb", feature = "s3"))]
mod deployment;
#[cfg(feature = "dynamodb")]
mod dynamodb;
#[cfg(all(feature = "kafka", feature = "dynamodb", feature = "s3"))]
mod fleet;
mod fleet_here;
mod format;
mod full_disk;
mod harness;
#[cfg(feature = "kafka")]
mod kafka;
mod kill;
mod loads;
#[cfg(all(feature = "kafka", feature = "dynamodb", feature = "s3"))]
mod refusals;
#[cfg(feature = "kafka")]
mod resume;
mod rows;
#[cfg(feature = "s3")]
mod s3;
mod serve;
#[cfg(feature = "kafka")]
mod sources;
mod tenants;
#[cfg(all(feature = "kafka-tls", feature = "dynamodb", feature = "s3"))]
mod tls;
mod upgrade;
