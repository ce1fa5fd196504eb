//! The errors of this crate, by the codes that tests and alarms know.

use nacre_types::Error;

/// A page that is not what its index says, or not Parquet.
#[cold]
pub(crate) fn corrupt_page(detail: impl Into<String>) -> Error {
    Error::corrupt(detail).with_code("page-corrupt")
}

/// An index that is not what was written.
#[cold]
pub(crate) fn corrupt_index(detail: impl Into<String>) -> Error {
    Error::corrupt(format!("segment index: {}", detail.into())).with_code("index-corrupt")
}
