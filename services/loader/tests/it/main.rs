//! Loads, from files in the staging place to rows that reads answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod broken;
mod child;
mod cold;
mod files;
mod gate;
mod guards;
mod harness;
mod keys;
mod life;
mod python;
mod resume;
mod samples;
mod sharing;
mod sorting;
