//! The log: the durable, ordered stream of writes that have no segment yet.
//!
//! [`Log`] is the trait. [`ObjectLog`] implements it over an object store by put-if-absent, and, with the feature `kafka`,
//! `kafka::KafkaLog` over a topic. Records are built by [`RecordBuilder`] and read as [`Stamped`] records by a [`Tail`];
//! [`FlushedThrough`] says where every reader starts.

mod boundary;
mod chunk;
mod codec;
#[cfg(feature = "kafka")]
pub mod kafka;
mod log;
mod object;
mod position;
mod record;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use log::{AppendOutcome, Appended, Attempts, Log, Stamped, Tail, TailBatch, TailStep, WriteSearch};
#[doc(hidden)]
pub use object::PlantedBug;
pub use object::{ObjectLog, ObjectLogConfig};
pub use position::{FlushedThrough, LogPosition};
pub use record::{
    EncodedRecord, MAX_RECORD_BYTES, Op, Record, RecordBuilder, RecordKind, RecordRow, RowIter, Rows,
};
