//! A look at one packed segment.

use super::block::{Block, Record};
use crate::{IndexSpan, Layer, Location, Segment, StreamedSpan};
use bytes::Bytes;
use nacre_types::SegmentId;
use std::cmp::Ordering;
use std::fmt;

/// A look at one packed segment: numbers are at hand, keys are compared where they lie, and only what is asked for is
/// copied.
#[derive(Clone, Copy)]
pub struct SegmentRef<'a> {
    block: &'a Block,
    record: Record<'a>,
}

impl<'a> SegmentRef<'a> {
    pub(super) fn new(block: &'a Block, record: Record<'a>) -> Self {
        Self { block, record }
    }

    /// Its id.
    pub fn id(&self) -> SegmentId {
        self.record.id
    }
    /// What its rows are.
    pub fn layer(&self) -> Layer {
        self.record.layer
    }
    /// The streamed positions among its rows.
    pub fn streamed(&self) -> Option<StreamedSpan> {
        self.record.layer.streamed()
    }
    /// Rows, tombstones among them.
    pub fn rows(&self) -> u64 {
        self.record.rows
    }
    /// Tombstones.
    pub fn tombstones(&self) -> u64 {
        self.record.tombstones
    }
    /// Length of the object in bytes.
    pub fn bytes(&self) -> u64 {
        self.record.bytes
    }
    /// Smallest version.
    pub fn min_version(&self) -> i64 {
        self.record.min_version
    }
    /// Largest version.
    pub fn max_version(&self) -> i64 {
        self.record.max_version
    }
    /// See [`Segment::max_expires_at`].
    pub fn max_expires_at(&self) -> Option<i64> {
        self.record.max_expires_at
    }
    /// Whether it has a `rank` column.
    pub fn with_place(&self) -> bool {
        self.record.with_place()
    }
    /// See [`Segment::exact_places`].
    pub fn exact_places(&self) -> bool {
        self.record.exact_places()
    }
    /// Where the index lies.
    pub fn index(&self) -> IndexSpan {
        self.record.index
    }
    /// Where the object lies; copies the strings of an adopted one.
    pub fn location(&self) -> Location {
        self.block.location(&self.record)
    }
    /// How the smallest key compares with `key`.
    pub fn cmp_min(&self, key: &[u8]) -> Ordering {
        self.record.min.cmp(key)
    }
    /// How the largest key compares with `key`.
    pub fn cmp_max(&self, key: &[u8]) -> Ordering {
        self.record.max.cmp(key)
    }
    /// Whether its key range and the closed interval `[min, max]` share a key.
    pub fn overlaps(&self, min: &[u8], max: &[u8]) -> bool {
        self.cmp_min(max) != Ordering::Greater && self.cmp_max(min) != Ordering::Less
    }
    /// The smallest key, copied.
    pub fn min_key(&self) -> Bytes {
        self.record.min.to_bytes()
    }
    /// The largest key, copied.
    pub fn max_key(&self) -> Bytes {
        self.record.max.to_bytes()
    }
    pub(crate) fn copy_min(&self, key: &mut Vec<u8>) {
        self.record.min.copy_to(key);
    }
    /// All of it, copied.
    pub fn to_segment(&self) -> Segment {
        let record = &self.record;
        Segment {
            id: record.id,
            location: self.location(),
            index: record.index,
            layer: record.layer,
            min_key: self.min_key(),
            max_key: self.max_key(),
            min_version: record.min_version,
            max_version: record.max_version,
            rows: record.rows,
            tombstones: record.tombstones,
            bytes: record.bytes,
            max_expires_at: record.max_expires_at,
            with_place: record.with_place(),
            exact_places: record.exact_places(),
        }
    }
}

impl fmt::Debug for SegmentRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_segment().fmt(f)
    }
}
