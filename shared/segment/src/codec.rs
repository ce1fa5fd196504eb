//! Compression of pages.

/// How the pages of a column chunk are compressed. The ordinals are persisted in indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    None,
    /// Snappy, raw.
    Snappy,
    /// Gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// LZ4 blocks without a frame: the native codec.
    Lz4Raw,
}
