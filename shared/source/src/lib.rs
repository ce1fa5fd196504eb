//! Declarative sources: what a table says of a Kafka topic of someone else, and how that topic's messages become rows.
//!
//! Pure: no I/O, no clock. A [`Declaration`] is checked against the table's settings once, with errors that name the
//! field; a [`Decoder`] made of it turns one [`Message`] into rows, into nothing, or into a [`Fault`] that says why not.
//! What a message is never depends on anything but its bytes, the declaration and the key's type, so every process that
//! reads the same message makes the same rows of it.
//!
//! ```text
//! declaration.rs   the words of a declaration, and its checks
//! decoder.rs       one message: format, then mapping
//! map.rs           fields of a document as key, version, value, expiry, deletion
//! doc.rs           a decoded document: what all formats become
//! json, debezium, avro/, thrift/   the formats
//! ```
//!
//! Bytes of strangers: a message longer than [`MAX_MESSAGE_BYTES`] is a fault; every reader is bounded in depth and in the
//! number of values that it makes, which are counted before they are kept.

mod avro;
mod debezium;
mod declaration;
mod decoder;
mod doc;
mod map;
mod thrift;

pub use declaration::{
    AvroSpec, ColumnEncoding, Declaration, DeleteRule, ExpirySpec, Format, KafkaSpec, Mapping, MessagePart,
    OnError, Protocol, Start, ThriftSpec, Unit, ValueSpec, VersionSpec,
};
pub use decoder::Decoder;

use bytes::Bytes;

/// The longest message that is looked into.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;
/// Values of one message, nested ones counted; bounds what a short message can make of itself in memory.
pub(crate) const MAX_VALUES: usize = 100_000;
/// How deep values may be nested.
pub(crate) const MAX_DEPTH: usize = 32;
/// Bits of an epoch and of an id in a version made of both: together 63, so that it is never negative.
pub const EPOCH_BITS: u32 = 20;
/// See [`EPOCH_BITS`].
pub const ID_BITS: u32 = 43;

/// One message of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its place in its partition.
    pub offset: u64,
    /// Kafka's time of it in microseconds, whoever set it; `None` = it has none.
    pub timestamp_micros: Option<i64>,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` = null, Kafka's tombstone.
    pub value: Option<Bytes>,
}

/// One row that a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRow {
    /// The key, packed if the table's keys have parts.
    pub key: Bytes,
    /// The version.
    pub version: i64,
    /// When it expires, in microseconds since the epoch.
    pub expires_at: Option<i64>,
    /// `None` = a tombstone.
    pub value: Option<Bytes>,
}

/// Why a message is no rows: a sentence. What the message holds is not in it, but for names of fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(pub String);

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn fault<T>(why: impl Into<String>) -> Result<T, Fault> {
    Err(Fault(why.into()))
}

#[cfg(test)]
mod tests;
