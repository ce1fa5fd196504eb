//! A million segments.

use crate::{IndexSpan, Layer, Location, Segment, StreamedSpan};
use bytes::Bytes;
use nacre_types::SegmentId;
use std::cmp::Ordering;
use std::marker::PhantomData;

/// The segments of a table.
#[derive(Debug, Clone, Default)]
pub struct Segments(());

/// A look at one packed segment.
#[derive(Clone, Copy)]
pub struct SegmentRef<'a>(PhantomData<&'a ()>);

impl<'a> SegmentRef<'a> {
    /// Its id.
    pub fn id(&self) -> SegmentId {
        todo!()
    }
    /// What its rows are.
    pub fn layer(&self) -> Layer {
        todo!()
    }
    /// The streamed positions among its rows.
    pub fn streamed(&self) -> Option<StreamedSpan> {
        todo!()
    }
    /// Rows, tombstones among them.
    pub fn rows(&self) -> u64 {
        todo!()
    }
    /// Tombstones.
    pub fn tombstones(&self) -> u64 {
        todo!()
    }
    /// Length of the object.
    pub fn bytes(&self) -> u64 {
        todo!()
    }
    /// Smallest version.
    pub fn min_version(&self) -> i64 {
        todo!()
    }
    /// Largest version.
    pub fn max_version(&self) -> i64 {
        todo!()
    }
    /// See [`Segment::max_expires_at`].
    pub fn max_expires_at(&self) -> Option<i64> {
        todo!()
    }
    /// Whether it has a `rank` column.
    pub fn with_place(&self) -> bool {
        todo!()
    }
    /// See [`Segment::exact_places`].
    pub fn exact_places(&self) -> bool {
        todo!()
    }
    /// Where the index lies.
    pub fn index(&self) -> IndexSpan {
        todo!()
    }
    /// Where the object lies (copies strings for an adopted segment).
    pub fn location(&self) -> Location {
        todo!()
    }
    /// How the smallest key compares with `key`, without copying.
    pub fn cmp_min(&self, key: &[u8]) -> Ordering {
        let _ = key;
        todo!()
    }
    /// How the largest key compares with `key`, without copying.
    pub fn cmp_max(&self, key: &[u8]) -> Ordering {
        let _ = key;
        todo!()
    }
    /// The smallest key, copied.
    pub fn min_key(&self) -> Bytes {
        todo!()
    }
    /// The largest key, copied.
    pub fn max_key(&self) -> Bytes {
        todo!()
    }
    /// All of it, copied.
    pub fn to_segment(&self) -> Segment {
        todo!()
    }
}
