//! The engine: views of tables, merging reads, the tail, writes, flushes, compaction and the life of loads.
//!
//! A [`Node`] holds what one process knows of a store; a [`Table`] is the handle that reads and writes go through.
//! Services call these and nothing below them.

mod info;
mod node;
mod options;
pub mod rows;
mod table;
mod token;

pub use info::{
    BeginLoad, Created, ExplainedRow, Explanation, Guards, LoadColumnNames, LoadError, LoadFile, LoadInfo,
    LoadMode, LoadProgress, LoadSource, LoadState, LoadVersion, NamespaceSettings, OnDuplicate, RowPlace,
    ShardInfo, TableInfo, TableSummary,
};
pub use node::{Node, NodeConfig};
pub use options::{
    Absence, Found, Lookup, ReadOptions, Receipt, RowOutcome, ScanPage, ScanRequest, Source, WriteOptions,
    WriteRow, Written,
};
pub use table::Table;
pub use token::SessionToken;
