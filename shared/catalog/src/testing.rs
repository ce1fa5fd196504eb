//! The suites that every catalog must pass.
//!
//! [`conformance`] says in sentences what the trait promises; [`appenders`] races many appenders, in any weather, and
//! compares what they were told with what the logs hold in the end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a suite fails by panicking")]

mod conformance;
mod race;

pub use conformance::conformance;
pub use race::{RaceReport, appenders};

use crate::EncodedEdit;
use bytes::Bytes;
use nacre_runtime::Context;
use nacre_types::CommitId;

/// An edit of random id after `predecessor`.
fn edit(ctx: &Context, predecessor: CommitId, body: impl Into<Bytes>) -> EncodedEdit {
    EncodedEdit { commit_id: CommitId(ctx.ids.random_u128()), predecessor, body: body.into() }
}
