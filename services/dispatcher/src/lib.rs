//! The HTTP API: routing, limits, deadlines, receipts, errors. It holds no state of its own but counters; everything
//! that it answers comes from a [`nacre_engine::Node`].
//!
//! ```text
//! server       binds, accepts, drains            connection   one client: protocol, slow-client limits
//! service      one request: id, deadline, panic, metrics, access log
//! access       who asks, and whether he may; audit tells of it
//! handlers/*   one resource each                 call, answer what a handler reads and gives
//! reads        here, or from a fleet's nodes     hot          answers to gets of hot keys, kept for a moment
//! ```

mod access;
mod answer;
mod audit;
mod call;
mod config;
mod connection;
mod convert;
mod handlers;
mod hot;
mod metrics;
pub mod openapi;
mod reads;
mod server;
mod service;

pub use config::{Auth, Config, Prices};
pub use reads::Reads;
pub use server::{Server, run};
