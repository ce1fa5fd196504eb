//! Where the bytes of a file come from.

use bytes::Bytes;
use nacre_types::{Error, Result};
use std::fs::File;
use std::ops::Range;

/// A file that can be read at any place, by several readers at once: there is no cursor.
pub trait ReadAt: Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> u64;

    /// Exactly the bytes of `range`.
    ///
    /// # Errors
    /// `Corrupt` where the range reaches beyond the end, else what reading gives.
    fn read_at(&self, range: Range<u64>) -> Result<Bytes>;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a read of a few bytes costs microseconds (a local file) rather than a request (an object store).
    fn small_reads_are_cheap(&self) -> bool {
        true
    }
}

fn beyond(range: &Range<u64>, length: u64) -> Error {
    Error::corrupt(format!(
        "bytes {}..{} lie beyond the end of the file of {length} bytes",
        range.start, range.end
    ))
    .with_code("parquet-truncated")
}

impl ReadAt for Bytes {
    fn len(&self) -> u64 {
        Self::len(self) as u64
    }

    fn read_at(&self, range: Range<u64>) -> Result<Bytes> {
        let length = Self::len(self) as u64;
        if range.start > range.end || range.end > length {
            return Err(beyond(&range, length));
        }
        Ok(self.slice(range.start as usize..range.end as usize))
    }
}

impl ReadAt for File {
    fn len(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read_at(&self, range: Range<u64>) -> Result<Bytes> {
        use std::os::unix::fs::FileExt;
        let length = ReadAt::len(self);
        if range.start > range.end || range.end > length {
            return Err(beyond(&range, length));
        }
        // Positioned: the cursor that clones of a file share is not touched.
        let mut buffer = vec![0; (range.end - range.start) as usize];
        self.read_exact_at(&mut buffer, range.start).map_err(|error| {
            Error::unavailable(format!("reading bytes {}..{}: {error}", range.start, range.end))
        })?;
        Ok(buffer.into())
    }
}

impl<T: ReadAt + ?Sized> ReadAt for std::sync::Arc<T> {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_at(&self, range: Range<u64>) -> Result<Bytes> {
        (**self).read_at(range)
    }

    fn small_reads_are_cheap(&self) -> bool {
        (**self).small_reads_are_cheap()
    }
}
