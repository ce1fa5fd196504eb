//! From fetched bytes to a block.
use crate::{Block, SegmentIndex};
use bytes::Bytes;
use nacre_types::Result;

/// Decodes block number `block` of the segment with this index from what [`SegmentIndex::fetch_plan`] asked for, one
/// `Bytes` per range.
///
/// # Errors
/// `Corrupt`, naming block and column; `Internal` when `fetched` is not what the plan asked for.
pub fn decode_block(index: &SegmentIndex, block: u32, fetched: &[Bytes]) -> Result<Block> {
    let _ = (index, block, fetched);
    todo!()
}
