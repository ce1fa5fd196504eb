//! The tail: rows that are in the log and not yet in segments.

pub(crate) mod carried;
pub(crate) mod held;
pub(crate) mod memtable;
mod order;
mod partition;

pub(crate) use partition::Cut;
pub use partition::flushed_through_record;
