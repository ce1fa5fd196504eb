//! Writing segments.
use crate::{SegmentRow, SegmentSummary, WriterSettings};
use nacre_types::Result;
use std::io;

/// Writes one segment.
#[derive(Debug)]
pub struct SegmentWriter<W: io::Write + Send> {
    inner: W,
}

impl<W: io::Write + Send> SegmentWriter<W> {
    /// Starts a file in `inner`.
    ///
    /// # Errors
    /// `Invalid` (`segment-settings`), `Unavailable` when `inner` fails.
    pub fn new(inner: W, settings: WriterSettings) -> Result<Self> {
        let _ = settings;
        Ok(Self { inner })
    }

    /// Appends one row: key ascending, then version descending, then place descending; equal ones are allowed.
    ///
    /// # Errors
    /// `Invalid` (`rows-out-of-order`, `key-empty`, `key-too-long`, `value-too-long`), `Unavailable`.
    pub fn push(&mut self, row: &SegmentRow<'_>) -> Result<()> {
        let _ = row;
        todo!()
    }

    /// Bytes written so far; what is buffered (at most one row group) is not counted.
    pub fn bytes_written(&self) -> u64 {
        todo!()
    }

    /// Writes the rest, the index and the footer.
    ///
    /// # Errors
    /// `Invalid` (`segment-empty`) without rows, `Unavailable` when the writer fails.
    pub fn finish(self) -> Result<(W, SegmentSummary)> {
        let _ = self.inner;
        todo!()
    }
}
