//! The catalog: numbered edits of tables, records that change, and who is alive.
//!
//! A table's truth is a numbered list of edits. Edit *n+1* is appended only if the log stands at *n*; that conditional
//! append is the commit point. Nothing before it is visible; nothing after it is needed for correctness.

mod append;
mod catalog;
#[cfg(feature = "dynamodb")]
mod dynamo;
mod dynamo_settings;
mod envelope;
pub mod heartbeat;
pub mod lease;
mod object;
mod still;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use append::append_until_known;
pub use catalog::{
    Append, Catalog, CatalogCounts, EDITS_GONE, EncodedEdit, LogHead, RecordPut, RecordTag, SnapshotRef,
};
#[cfg(feature = "dynamodb")]
pub use dynamo::DynamoCatalog;
pub use dynamo_settings::DynamoSettings;
pub use object::ObjectCatalog;
