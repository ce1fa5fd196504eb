//! Segments: sorted, immutable Parquet files, the index that makes them answer point lookups, and the blocks that are
//! decoded from them. The only crate that names parquet.
//!
//! ```text
//!   rows ──▶ SegmentWriter ──▶ file:  PAR1 | row group | row group | … | index | page indexes | footer | PAR1
//!                                            └ key pages, version pages, expires_at pages, value pages (, rank pages)
//!
//!   SegmentIndex (index object, or the span of a native file)
//!        may_contain(hash) ─ no ─▶ absent
//!        blocks_of(key) ──▶ block number ──▶ fetch_plan ──▶ bytes ──▶ decode_block ──▶ Block ──▶ find(key)
//! ```
//!
//! A *block* is one run of rows: one page of every column, the same rows in each. It is the unit of fetching, decoding
//! and caching. Serving never parses a Parquet footer: manifest entry and index say everything. Files of other writers
//! that are laid out alike ([`foreign`]) get an index of the same kind and look no different to a reader.
//!
//! Bytes from outside are never believed: every length is checked against what is there before anything is allocated.

mod block;
mod codec;
mod decode;
mod encoding;
mod error;
mod filter;
pub mod foreign;
mod index;
mod page;
mod row;
mod writer;

pub use block::{Block, RowRef};
pub use codec::Codec;
pub use decode::decode_block;
pub use index::{BlockPages, Column, ColumnLayout, IndexBuilder, Layout, PageSpan, SegmentIndex, key_hash};
pub use row::{IndexSpan, SegmentRow, SegmentSummary, WriterSettings};
pub use writer::SegmentWriter;
