//! The Rust client of nacre's HTTP API.
//!
//! It speaks HTTP and nothing else: bodies are the types of `nacre-api`, errors are `nacre-types`' one error, made from
//! the server's problems. Three things it does by itself:
//!
//! - It carries session tokens: a read that says no consistency is a `session` read that sees this client's writes,
//!   loads and earlier reads, on whatever node it lands ([`Sessions`] tells how).
//! - It gives every request a deadline, tells the server, and waits no longer than that.
//! - It says what a failure means for a write: one whose answer was lost is `Unknown`, never "failed".
//!
//! It repeats nothing. A write that is sent twice by something in the middle may bury what was written in between, and a
//! read's caller knows best how long it can wait; what may be repeated is in the error ([`ErrorKind::is_retryable`]).
//!
//! [`ErrorKind::is_retryable`]: nacre_types::ErrorKind::is_retryable

mod loads;
mod query;
mod rows;
mod sessions;
mod tables;
mod tokens;
mod transport;

pub use loads::{LoadAction, UploadBody};
pub use nacre_tls::ClientFiles;
pub use rows::{
    GetAnswer, KeyText, ReadOptions, Receipt, ScanOptions, Value, VersionsOptions, WriteAnswer, WriteOptions,
};
pub use sessions::Sessions;
pub use tables::Made;
pub use transport::{Client, ClientConfig};

use nacre_types::{NamespaceName, TableName};

/// A table by its names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableRef {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The table.
    pub table: TableName,
}

impl TableRef {
    /// The table `table` of `namespace`.
    pub fn new(namespace: NamespaceName, table: TableName) -> Self {
        Self { namespace, table }
    }

    /// Its path in the API.
    pub fn path(&self) -> String {
        nacre_api::table_path(&self.namespace, &self.table)
    }
}
