//! Whether what was answered can have been answered by a store that keeps its word. Pure code over recorded histories; it
//! shares nothing with the store.
//!
//! Times are microseconds of one monotonic clock, taken before a request was sent and after its answer had come. A write
//! without a certain answer may happen at any time after it began, or never.

pub(super) mod linear;
pub(super) mod loads;
pub(super) mod session;
pub(super) mod versions;

/// What is known of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Acknowledged.
    Done,
    /// Refused, and certainly not applied.
    Not,
    /// No answer, or one that says so.
    Unknown,
}

/// When something began, and when its answer had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) begun: u64,
    pub(super) ended: u64,
}
