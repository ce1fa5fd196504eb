//! Parquet files that other programs wrote: what is in them, whether they can serve as they lie, and their rows.
//!
//! Three entrances, from cheap to dear:
//! - [`inspect`] reads the footer and the page structure, and says what a person would want to know of a file;
//! - [`prove`] reads keys, versions and expiry times, and either builds the [`SegmentIndex`](crate::SegmentIndex) under
//!   which the file is *adopted* (served without moving a byte), or says why it is *rewritten* and what the writer
//!   would have to change;
//! - [`ForeignReader`] gives the rows of any file whose columns can be mapped, for the rewriting.
//!
//! Everything here reads strangers' bytes. Statistics, orders and flags that a file claims of itself are not believed:
//! sortedness is proved by reading the keys, sizes are checked against [`Caps`] before anything is allocated, and a
//! page's claims against its bytes. What the parquet crate decodes was checked first, and a panic in it is an error
//! here. The loader still runs this in a child process, because an allocation that fails cannot be caught.

mod batch;
mod caps;
mod codec;
mod columns;
mod delta;
mod footer;
mod json;
mod json_leaf;
mod key;
mod leaf;
mod page_reader;
mod pages;
mod prove;
mod read_at;
mod reader;
mod shape;
mod thrift;

pub use batch::{Problem, RowBatch, RowRef};
pub use caps::Caps;
pub use columns::{LoadColumns, declare_key};
pub use prove::{Adopted, ProveOptions, Verdict, prove, prove_with};
pub use read_at::ReadAt;
pub use reader::{ForeignReader, ReadRequest, row_cuts};
pub use shape::{ColumnShape, FileShape, inspect};
