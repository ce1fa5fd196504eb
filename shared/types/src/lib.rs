//! The words of nacre as types: keys, versions, ranks, ids, settings, limits and the one set of error kinds.
//!
//! Nothing here does I/O, reads a clock or allocates more than what it is given. Every other crate builds on this one.

pub mod civil;
mod error;
mod id;
mod key;
pub mod limits;
mod name;
pub mod object;
pub mod packed;
mod rank;
mod row;
mod settings;
pub mod tuple;

pub use error::{Applied, Error, ErrorKind, Result};
pub use id::{
    CommitId, Generation, JobId, LoadId, LogIncarnation, Offset, PartitionId, ProcessId, SegmentId, Seq,
    ShardId, StoreId, TableId, WriteId,
};
pub use key::{Key, KeyRange, successor};
pub use name::{NamespaceName, TableName};
pub use rank::{Origin, Place, Rank};
pub use row::Row;
pub use settings::{Consistency, KeyPart, KeyPartType, KeySchema, TableSettings, VersionKind};
