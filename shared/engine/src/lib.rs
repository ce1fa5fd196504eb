//! The engine: views of tables, merging reads, the tail, writes, flushes, compaction and the life of loads.
//!
//! A [`Node`] holds what one process knows of a store; a [`Table`] is the handle that reads and writes go through.
//! Services call these and nothing below them.

mod backlog;
mod compact;
mod covered;
mod flush;
mod garbage;
mod info;
mod loads;
mod metrics;
mod names;
mod node;
mod options;
mod output;
mod outside;
mod presence;
pub mod rows;
mod segment_rows;
mod shared;
mod source;
mod table;
mod tail;
mod token;
mod view;
mod warm;

pub use compact::{CompactionPlan, CompactionReport, choose as choose_compaction};
pub use covered::{PartitionCover, covered_partitions};
pub use flush::{FlushConfig, FlushMode, FlushReport};
pub use garbage::{GarbageConfig, GarbageReport};
pub use info::{
    BeginLoad, Created, ExplainedRow, Explanation, Guards, LoadColumnNames, LoadError, LoadFile, LoadInfo,
    LoadMode, LoadProgress, LoadSource, LoadState, LoadVersion, NamespaceSettings, OnDuplicate, RowPlace,
    ShardInfo, TableInfo, TableSummary,
};
pub use loads::{
    LoadBoard, LoadReport, LoadStatus, PinnedFile, PinnedFiles, check_file_name, finish_load_file,
};
pub use node::{Hold, Node, NodeConfig};
pub use options::{
    Absence, Found, Lookup, ReadOptions, Receipt, RowOutcome, ScanPage, ScanRequest, Source, WriteOptions,
    WriteRow, Written,
};
pub use output::{Built, SegmentSink};
pub use presence::{Duty, PresenceConfig};
pub use segment_rows::SegmentRows;
pub use source::{
    Arrived, Followed, Messages, PartitionState, SourceConfig, SourceInfo, SourcePart, TopicEnds, TopicInfo,
    Topics,
};
pub use table::Table;
pub use tail::flushed_through_record;
pub use token::SessionToken;
pub use warm::{HotKeys, Warmer};
