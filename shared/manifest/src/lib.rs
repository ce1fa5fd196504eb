//! The state of a table: the fold of its edits. Pure: no I/O, no clock, no randomness.
//!
//! A table's truth is a numbered list of [`Edit`]s in its table log. [`Manifest::apply`] validates one edit against
//! the manifest before it and returns the next manifest, or why the edit is [`Refused`]. Everything that a reader,
//! writer, loader or maintainer may believe about a table is decided here and nowhere else, so the safety rules of the
//! design (what a flush must begin at, what a compaction may merge, what may be dropped, which loads can still be undone)
//! are checked in `apply/`, against the fresh state, at the moment of the conditional append.
//!
//! ```text
//! edit.rs, segment.rs, load.rs, shard.rs, source.rs   what an edit says and what the state holds
//! manifest.rs, described.rs                the state and what can be asked of it
//! apply/*                                  one file per family of changes: validation, then the new state
//! segments/*                               a million segments: packed blocks in a persistent interval tree
//! filter.rs                                which loads and floors count at an edition, or in a preview
//! encoding/*                               bytes of edits and snapshots
//! invariants.rs                            what must always hold
//! ```

mod apply;
mod described;
mod edit;
mod encoding;
mod filter;
mod invariants;
mod load;
mod manifest;
mod refused;
mod segment;
mod segments;
mod shard;
mod source;

pub use edit::{
    Change, Compact, DropGuard, Edit, Flush, JobKind, OpenLoad, PrepareLoad, SetSettings, SplitShard,
};
pub use filter::{EditionFilter, Unrestorable};
pub use load::{Floor, Load, LoadGoal, LoadMode, LoadState, Totals};
pub use manifest::{Dropped, Job, Manifest};
pub use refused::{Refused, RefusedReason};
pub use segment::{
    IndexSpan, Layer, Location, Segment, SegmentName, SegmentOrigin, StreamedSpan, index_path, segment_path,
};
pub use segments::SegmentRef;
pub(crate) use segments::Segments;
pub use shard::Shard;
pub use source::{DeclareSource, Source, is_source_partition, source_generation};
