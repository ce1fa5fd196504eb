//! Conformance of every store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
