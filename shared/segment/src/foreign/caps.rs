//! How much a stranger's file may ask for.

use nacre_types::{Error, Result};

/// Bounds on what decoding a file may allocate, checked before the allocation. The defaults let every file through that
/// the usual writers make with settings up to a few times their defaults.
#[derive(Debug, Clone)]
pub struct Caps {
    /// Longest footer, in bytes. It grows with row groups times columns.
    pub footer_bytes: u64,
    /// Most structures (row groups, columns, statistics, schema elements ...) in a footer: each costs up to a few
    /// hundred bytes of memory, however few bytes of the file it takes.
    pub footer_structs: u64,
    /// Longest page header, in bytes; statistics in it may be as long as two values.
    pub page_header_bytes: u64,
    /// Longest page, compressed or not, in bytes. A reader holds one per column and the pages that a batch points into.
    pub page_bytes: u64,
    /// How many times its compressed size a page may have uncompressed. Zeros compress a thousandfold with gzip and more
    /// with zstd, so this only matters beyond [`Caps::ratio_free_bytes`].
    pub page_ratio: u64,
    /// Uncompressed pages up to this many bytes are exempt from [`Caps::page_ratio`].
    pub ratio_free_bytes: u64,
    /// Most values in one page, nulls included.
    pub page_values: u64,
    /// Most values that one row may have in a list or map that is packed into JSON.
    pub row_values: u64,
    /// Deepest nesting of packed columns.
    pub nesting: usize,
    /// Most pages of a file that is adopted (the index holds an entry for each).
    pub pages: u64,
    /// Rows of one batch, at most.
    pub batch_rows: usize,
    /// About how many bytes of keys and values one batch holds.
    pub batch_bytes: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            footer_bytes: 64 << 20,
            footer_structs: 4 << 20,
            page_header_bytes: 4 << 20,
            page_bytes: 256 << 20,
            page_ratio: 2_000,
            ratio_free_bytes: 16 << 20,
            page_values: 16 << 20,
            row_values: 1 << 20,
            nesting: 16,
            pages: 16 << 20,
            batch_rows: 4_096,
            batch_bytes: 8 << 20,
        }
    }
}

impl Caps {
    /// `wanted` must not be above `limit`, which the error calls `name`.
    pub(super) fn check(name: &str, what: &str, wanted: u64, limit: u64) -> Result<()> {
        if wanted <= limit {
            return Ok(());
        }
        Err(Error::invalid(format!("{what} is {wanted}; the limit {name} is {limit}"))
            .with_code("parquet-too-large"))
    }

    /// Judges the sizes that a page header claims, before anything is allocated for them.
    pub(super) fn check_page(&self, compressed: u64, uncompressed: u64) -> Result<()> {
        Self::check("page_bytes", "a page's compressed size", compressed, self.page_bytes)?;
        Self::check("page_bytes", "a page's uncompressed size", uncompressed, self.page_bytes)?;
        if uncompressed > self.ratio_free_bytes && uncompressed / self.page_ratio > compressed {
            return Err(Error::invalid(format!(
                "a page claims {uncompressed} bytes in {compressed}; the limit page_ratio is {}",
                self.page_ratio
            ))
            .with_code("parquet-too-large"));
        }
        Ok(())
    }
}
