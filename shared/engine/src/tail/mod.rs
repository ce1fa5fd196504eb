//! The tail: rows that are in the log and not yet in segments.

pub(crate) mod carried;
pub(crate) mod memtable;
mod order;
mod partition;

pub(crate) use partition::{Cut, Tailer, flushed_through_record, start};
