//! Sources: tables whose rows come from a Kafka topic of someone else.
//!
//! # Exactly once
//!
//! Per partition of the topic, by whoever's turn it is (a hint; what fences is in the edits):
//!
//! 1. *From* is the covered offset of the manifest, and nothing else: no group, no committed offsets, no memory.
//! 2. Messages from there on are read and decoded into rows, until they are many, or the first of them has waited for
//!    [`SourceConfig::every`].
//! 3. The rows become segments, sorted, with what may be dropped dropped, as in a flush of the log; they are put.
//! 4. One edit says *from*, *to* and the segments. `from` must be the covered offset when it is applied.
//!
//! Rows and offset are in one edit, so a message is applied or not, never in part; two consumers fence each other by
//! `from`, the later one's segments being garbage by their names; and a crash between any two steps leaves at most
//! segments that nothing names. A process that does not know whether its edit was committed asks the table log, as for
//! every edit, before it goes on.
//!
//! A declaration that changes while messages decoded by the old one wait: the edit is proposed only while the manifest
//! still has the declaration that they were decoded by.
//!
//! # What stops it
//!
//! A partition stops, and says so ([`PartitionState::stopped`], a metric, the log), where going on would pass over
//! messages: the first message that is not applied is no longer there (retention), the topic is another one of the same
//! name, it is shorter than what was applied, or a message cannot be understood and the declaration does not say `skip`.
//! It looks again now and then, and at once when the declaration changes.
//!
//! # Why not …
//!
//! - *…append the messages to the log?* Everything would be written twice, and exactly once would need a second protocol
//!   between two logs. The flush edit is one already.
//! - *…let the partitions be of the log's numbering?* Readers ask the log about every partition that a map names.
//! - *…keep rows in a tail until they are flushed?* Then each reader consumes the topic. Rows are visible when their edit
//!   is: [`SourceConfig::every`] after they were read, and no later.

mod apply;
mod declare;
mod follow;
mod status;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nacre_source::{KafkaSpec, Message};
use nacre_types::{Error, PartitionId, Result, TableId};

pub use declare::SourceInfo;
pub use follow::Followed;
pub(crate) use status::Board;
pub use status::PartitionState;

use crate::node::Node;

/// What a topic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its id: another topic of the same name has another.
    pub id: u128,
    /// How many partitions it has.
    pub partitions: u32,
}

/// Where a partition begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicEnds {
    /// Of the first message that is there.
    pub start: u64,
    /// After the last.
    pub end: u64,
}

/// What came of a topic.
#[derive(Debug)]
pub enum Arrived {
    /// Messages, in order.
    Messages(Vec<Message>),
    /// There are no more for now.
    AtEnd,
    /// The place that was read from is not in the partition.
    OutOfRange,
}

/// Topics of someone else.
#[async_trait]
pub trait Topics: Send + Sync + std::fmt::Debug {
    /// What a topic is now.
    ///
    /// # Errors
    /// `NotFound` (`source-topic-missing`), `Invalid` (`source-invalid`), `Unavailable`, `Forbidden`.
    async fn topic(&self, kafka: &KafkaSpec) -> Result<TopicInfo>;

    /// Where a partition begins and ends now.
    ///
    /// # Errors
    /// `Unavailable`, `Forbidden`.
    async fn ends(&self, kafka: &KafkaSpec, partition: u32) -> Result<TopicEnds>;

    /// Reads a partition from an offset on.
    ///
    /// # Errors
    /// `Unavailable`, `Forbidden`.
    async fn read(&self, kafka: &KafkaSpec, partition: u32, from: u64) -> Result<Box<dyn Messages>>;
}

/// A reader of one partition.
#[async_trait]
pub trait Messages: Send {
    /// What comes next; waits for it. Dropped while it waits, it has taken nothing.
    ///
    /// # Errors
    /// `Unavailable`: open another one.
    async fn next(&mut self) -> Result<Arrived>;
}

/// When rows of sources become visible.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Rows wait for others so long at most. Shorter: fresher tables, more and smaller segments and edits.
    pub every: Duration,
    /// They go earlier when they have this many bytes.
    pub bytes: usize,
    /// How often the topic's id, partitions and ends are looked at.
    pub check_every: Duration,
    /// How long a partition that stopped waits until it looks again.
    pub retry_every: Duration,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(2),
            bytes: 8 << 20,
            check_every: Duration::from_secs(5),
            retry_every: Duration::from_secs(30),
        }
    }
}

/// One partition of the source of one table: what one consumer works at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourcePart {
    /// The table.
    pub table: TableId,
    /// The partition of the topic.
    pub partition: u32,
}

impl SourcePart {
    /// A number that places it among the writers of a fleet as if it were a partition of the log.
    pub fn placed_as(&self) -> PartitionId {
        let mut bytes = self.table.to_bytes().to_vec();
        bytes.extend_from_slice(&self.partition.to_be_bytes());
        PartitionId(xxhash_rust::xxh3::xxh3_64(&bytes) as u32)
    }
}

impl Node {
    /// Says how topics of someone else are read; before it, tables take no sources. Once.
    pub fn set_topics(&self, topics: Arc<dyn Topics>) {
        // Said twice, the first stays.
        drop(self.shared.topics.set(topics));
    }

    /// When rows of sources become visible.
    pub fn source_config(&self) -> &SourceConfig {
        &self.shared.config.source
    }

    pub(crate) fn topics(&self) -> Result<&Arc<dyn Topics>> {
        self.shared.topics.get().ok_or_else(|| {
            Error::invalid(
                "source: this process reads no topics of Kafka: it is a build without them, or not set up",
            )
            .with_code("source-not-built")
        })
    }
}
