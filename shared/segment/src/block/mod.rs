//! Decoded blocks: one contiguous piece of memory, searched as it lies.
//!
//! ```text
//!  0  version u8 = 1 | flags u8 | common u16 | rows u32 | key bytes u32 | value bytes u32
//! 16  heads       u64 per row: the 8 bytes of the key after the first `common` ones, big-endian, padded with zeros
//!     versions    i64 per row
//!     expires_at  i64 per row          (flag 1)
//!     places      i64 per row, -1 = none (flag 2)
//!     key ends    u32 per row, from the first key byte
//!     value ends  u32 per row, from the first value byte
//!     no expiry   bit per row          (flag 1)
//!     tombstones  bit per row          (flag 4)
//!     keys, values
//! ```
//!
//! All keys of a block share their first `common` bytes (they are sorted, so what the first and the last key share all
//! do). A search compares those once and then whole numbers: eight bytes behind the common ones nearly always decide,
//! the seven steps over 128 rows stay within sixteen cache lines and compile without branches, and only one key is
//! compared in full. Keys with equal heads (many versions of one key, keys that differ late) are searched in full among
//! themselves.
//!
//! Dense rather than as the pages have it (lengths before the values, four bytes a row each for key and value): a
//! cache is made of these. The copy this costs is a microsecond of a decode of ten.

mod cut;

use crate::index::BLOCK_ROWS;
use bytes::Bytes;
use nacre_types::{Error, Place, Result};
use std::ops::Range;

const VERSION: u8 = 1;
const HEADER: usize = 16;
const EXPIRES: u8 = 1;
const PLACES: u8 = 2;
const TOMBSTONES: u8 = 4;

/// No block is put together that is larger: its pages were decoded under bounds of their own, but a dictionary may
/// repeat a large value in every row.
pub(crate) const LARGEST_BLOCK: usize = 256 << 20;

/// A decoded block. Clones share its bytes.
#[derive(Clone)]
pub struct Block {
    bytes: Bytes,
    shape: Shape,
}

/// Where the parts of a block lie.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    flags: u8,
    common: usize,
    versions: usize,
    expires: usize,
    places: usize,
    key_ends: usize,
    value_ends: usize,
    no_expiry: usize,
    tombstones: usize,
    keys: usize,
    values: usize,
    total: usize,
}

impl Shape {
    fn new(rows: usize, flags: u8, common: usize, key_bytes: usize, value_bytes: usize) -> Self {
        let with = |flag, bytes| if flags & flag != 0 { bytes } else { 0 };
        let bits = rows.div_ceil(8);
        let versions = HEADER + 8 * rows;
        let expires = versions + 8 * rows;
        let places = expires + with(EXPIRES, 8 * rows);
        let key_ends = places + with(PLACES, 8 * rows);
        let value_ends = key_ends + 4 * rows;
        let no_expiry = value_ends + 4 * rows;
        let tombstones = no_expiry + with(EXPIRES, bits);
        let keys = tombstones + with(TOMBSTONES, bits);
        let values = keys + key_bytes;
        let total = values + value_bytes;
        Self {
            rows,
            flags,
            common,
            versions,
            expires,
            places,
            key_ends,
            value_ends,
            no_expiry,
            tombstones,
            keys,
            values,
            total,
        }
    }
}

/// One row of a block, borrowed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRef<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The version.
    pub version: i64,
    /// The row's own place, where the segment has them.
    pub place: Option<Place>,
    /// The row's own expiry.
    pub expires_at: Option<i64>,
    /// `None` = a tombstone.
    pub value: Option<&'a [u8]>,
}

#[allow(clippy::len_without_is_empty, reason = "a block is never empty")]
impl Block {
    /// Rows, at least one.
    #[inline]
    pub fn len(&self) -> usize {
        self.shape.rows
    }

    /// Row `i`.
    ///
    /// # Panics
    /// When `i` is not below [`Block::len`].
    pub fn row(&self, i: usize) -> RowRef<'_> {
        RowRef {
            key: self.key(i),
            version: self.version(i),
            place: self.place(i),
            expires_at: self.expires_at(i),
            value: self.value(i),
        }
    }

    /// Key of row `i`.
    ///
    /// # Panics
    /// When `i` is not below [`Block::len`].
    #[inline]
    pub fn key(&self, i: usize) -> &[u8] {
        &self.bytes[self.key_range(i)]
    }

    /// The key of row `i` as a slice that keeps the block alive.
    ///
    /// # Panics
    /// When `i` is not below [`Block::len`].
    pub fn key_bytes(&self, i: usize) -> Bytes {
        self.bytes.slice(self.key_range(i))
    }

    /// Version of row `i`.
    ///
    /// # Panics
    /// When `i` is not below [`Block::len`].
    #[inline]
    pub fn version(&self, i: usize) -> i64 {
        i64::from_le_bytes(self.wide(self.shape.versions)[i])
    }

    /// Place of row `i`, where the segment has them.
    ///
    /// # Panics
    /// When `i` is not below [`Block::len`].
    #[inline]
    pub fn place(&self, i: usize) -> Option<Place> {
        if self.shape.flags & PLACES == 0 {
            return None;
        }
        Place::from_i64(i64::from_le_bytes(self.wide(self.shape.places)[i]))
    }

    /// Expiry of row `i`.
    ///
    /// # Panics
    /// When `i` is not below [`Block::len`].
    #[inline]
    pub fn expires_at(&self, i: usize) -> Option<i64> {
        if self.shape.flags & EXPIRES == 0 || self.bit(self.shape.no_expiry, i) {
            return None;
        }
        Some(i64::from_le_bytes(self.wide(self.shape.expires)[i]))
    }

    /// Whether row `i` is a tombstone.
    ///
    /// # Panics
    /// When `i` is not below [`Block::len`].
    #[inline]
    pub fn is_tombstone(&self, i: usize) -> bool {
        assert!(i < self.shape.rows, "row {i} of a block of {}", self.shape.rows);
        self.shape.flags & TOMBSTONES != 0 && self.bit(self.shape.tombstones, i)
    }

    /// Value of row `i`; `None` = a tombstone.
    ///
    /// # Panics
    /// When `i` is not below [`Block::len`].
    #[inline]
    pub fn value(&self, i: usize) -> Option<&[u8]> {
        (!self.is_tombstone(i)).then(|| &self.bytes[self.value_range(i)])
    }

    /// The value of row `i` as a slice that keeps the block alive; nothing is copied. `None` = a tombstone.
    ///
    /// # Panics
    /// When `i` is not below [`Block::len`].
    #[inline]
    pub fn value_bytes(&self, i: usize) -> Option<Bytes> {
        (!self.is_tombstone(i)).then(|| self.bytes.slice(self.value_range(i)))
    }

    /// The rows of `key`, in falling rank; empty (at the place where they would be) if there are none.
    pub fn find(&self, key: &[u8]) -> Range<usize> {
        let first = self.lower_bound(key);
        let equal = |i: usize| i < self.shape.rows && self.key(i) == key;
        if !equal(first) {
            return first..first;
        }
        let heads = self.wide(HEADER);
        // Other keys nearly always have other heads.
        if heads.get(first + 1) != heads.get(first) || !equal(first + 1) {
            return first..first + 1;
        }
        first..self.partition(first + 2..self.shape.rows, |i| self.key(i) == key)
    }

    /// The first row whose key is not below `key`; `len()` if there is none.
    pub fn lower_bound(&self, key: &[u8]) -> usize {
        let common = self.shape.common;
        let shared = self.bytes.get(self.shape.keys..self.shape.keys + common).unwrap_or_default();
        let Some((before, rest)) = key.split_at_checked(common).filter(|(before, _)| *before == shared)
        else {
            return if key < shared { 0 } else { self.shape.rows };
        };
        let sought = head(rest);
        let heads = self.wide(HEADER);
        let first = heads.partition_point(|h| u64::from_le_bytes(*h) < sought);
        if heads.get(first).is_none_or(|h| u64::from_le_bytes(*h) != sought) {
            return first;
        }
        debug_assert_eq!(before.len(), common);
        if self.key(first) >= key {
            return first;
        }
        let end = first + heads[first..].partition_point(|h| u64::from_le_bytes(*h) == sought);
        self.partition(first + 1..end, |i| self.key(i) < key)
    }

    /// The first of `rows` for which `before` does not hold.
    fn partition(&self, rows: Range<usize>, before: impl Fn(usize) -> bool) -> usize {
        let (mut low, mut high) = (rows.start, rows.end.max(rows.start));
        while low < high {
            let middle = low + (high - low) / 2;
            if before(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The whole block as it lies in memory; [`Block::from_bytes`] takes it back.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Takes bytes of [`Block::as_bytes`] back. Lengths and offsets are checked, contents are not: whoever stores
    /// blocks checks a checksum of their own.
    ///
    /// # Errors
    /// `Corrupt` (`block-image`): also for a version that this nacre does not know, since blocks are only ever cached.
    pub fn from_bytes(bytes: Bytes) -> Result<Self> {
        let wrong = |what: &str| Error::corrupt(format!("block image: {what}")).with_code("block-image");
        let Some(&[version, flags, common @ .., _, _, _, _, _, _, _, _, _, _, _, _]) =
            bytes.first_chunk::<HEADER>()
        else {
            return Err(wrong("it is cut off"));
        };
        let number =
            |at: usize| bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b));
        let rows = number(4) as usize;
        if version != VERSION || flags & !(EXPIRES | PLACES | TOMBSTONES) != 0 {
            return Err(wrong("another version"));
        }
        if rows == 0 || rows > BLOCK_ROWS {
            return Err(wrong("a number of rows that no block has"));
        }
        let common = usize::from(u16::from_le_bytes(common));
        let shape = Shape::new(rows, flags, common, number(8) as usize, number(12) as usize);
        if shape.total != bytes.len() {
            return Err(wrong("its length is not what its header says"));
        }
        let block = Self { bytes, shape };
        let rising = |at: usize, total: usize| {
            let ends = block.narrow(at).iter().map(|b| u32::from_le_bytes(*b) as usize);
            let mut last = 0;
            ends.into_iter().all(|end| std::mem::replace(&mut last, end) <= end) && last == total
        };
        if !rising(shape.key_ends, shape.values - shape.keys)
            || !rising(shape.value_ends, shape.total - shape.values)
            || (0..rows).any(|i| block.key_range(i).len() < common)
        {
            return Err(wrong("its offsets do not rise"));
        }
        Ok(block)
    }

    /// Bytes that it occupies.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    fn wide(&self, at: usize) -> &[[u8; 8]] {
        self.bytes[at..at + 8 * self.shape.rows].as_chunks::<8>().0
    }

    #[inline]
    fn narrow(&self, at: usize) -> &[[u8; 4]] {
        self.bytes[at..at + 4 * self.shape.rows].as_chunks::<4>().0
    }

    #[inline]
    fn bit(&self, at: usize, i: usize) -> bool {
        self.bytes[at + i / 8] >> (i % 8) & 1 == 1
    }

    #[inline]
    fn key_range(&self, i: usize) -> Range<usize> {
        let (start, end) = bounds(self.narrow(self.shape.key_ends), i);
        self.shape.keys + start..self.shape.keys + end
    }

    #[inline]
    fn value_range(&self, i: usize) -> Range<usize> {
        let (start, end) = bounds(self.narrow(self.shape.value_ends), i);
        self.shape.values + start..self.shape.values + end
    }
}

#[inline]
fn bounds(ends: &[[u8; 4]], i: usize) -> (usize, usize) {
    let start = if i == 0 { 0 } else { u32::from_le_bytes(ends[i - 1]) as usize };
    (start, u32::from_le_bytes(ends[i]) as usize)
}

/// The first eight bytes as a number that orders as they do; a shorter key is padded with zeros.
#[inline]
pub(crate) fn head(key: &[u8]) -> u64 {
    match key.first_chunk() {
        Some(eight) => u64::from_be_bytes(*eight),
        None => {
            let mut padded = [0; 8];
            padded[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(padded)
        }
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Block").field("rows", &self.shape.rows).field("bytes", &self.bytes.len()).finish()
    }
}

/// The columns that a block is put together from; all slices have one entry per row.
pub(crate) struct Parts<'a> {
    /// The keys, sorted.
    pub(crate) keys: &'a [&'a [u8]],
    pub(crate) versions: &'a [i64],
    /// `None` = no row has one.
    pub(crate) expires_at: Option<&'a [Option<i64>]>,
    /// Negative = none; `None` = the segment has no places.
    pub(crate) places: Option<&'a [i64]>,
    pub(crate) values: &'a [Option<&'a [u8]>],
}

impl Parts<'_> {
    /// Copies everything into one block. At least one row and at most 1,024, keys of at most 2 KiB.
    pub(crate) fn build(&self) -> Result<Block> {
        let rows = self.keys.len();
        let key_bytes: usize = self.keys.iter().map(|key| key.len()).sum();
        let value_bytes = self.values.iter().flatten().fold(0_usize, |sum, v| sum.saturating_add(v.len()));
        if value_bytes.saturating_add(key_bytes) > LARGEST_BLOCK {
            return Err(crate::error::corrupt_page(format!(
                "the rows come to {value_bytes} bytes; a block has at most {LARGEST_BLOCK}"
            )));
        }
        let flag = |on, flag| if on { flag } else { 0 };
        let flags = flag(self.expires_at.is_some(), EXPIRES)
            | flag(self.places.is_some(), PLACES)
            | flag(self.values.iter().any(Option::is_none), TOMBSTONES);
        let common = match (self.keys.first(), self.keys.last()) {
            (Some(first), Some(last)) => crate::index::common(first, last),
            _ => 0,
        };
        let shape = Shape::new(rows, flags, common, key_bytes, value_bytes);
        let mut out = Vec::with_capacity(shape.total);
        out.extend_from_slice(&[VERSION, flags]);
        out.extend_from_slice(&(common as u16).to_le_bytes());
        out.extend_from_slice(&(rows as u32).to_le_bytes());
        out.extend_from_slice(&(key_bytes as u32).to_le_bytes());
        out.extend_from_slice(&(value_bytes as u32).to_le_bytes());
        for key in self.keys {
            out.extend_from_slice(&head(key.get(common..).unwrap_or_default()).to_le_bytes());
        }
        extend_i64(&mut out, self.versions.iter().copied());
        if let Some(expires) = self.expires_at {
            extend_i64(&mut out, expires.iter().map(|e| e.unwrap_or(0)));
        }
        extend_i64(&mut out, self.places.unwrap_or_default().iter().copied());
        extend_ends(&mut out, self.keys.iter().map(|key| key.len()));
        extend_ends(&mut out, self.values.iter().map(|value| value.map_or(0, <[u8]>::len)));
        if let Some(expires) = self.expires_at {
            extend_bits(&mut out, expires, Option::is_none);
        }
        if flags & TOMBSTONES != 0 {
            extend_bits(&mut out, self.values, Option::is_none);
        }
        for key in self.keys {
            out.extend_from_slice(key);
        }
        for value in self.values.iter().flatten() {
            out.extend_from_slice(value);
        }
        if out.len() != shape.total {
            return Err(Error::internal("the columns of a block differ in their number of rows"));
        }
        Ok(Block { bytes: Bytes::from(out), shape })
    }
}

fn extend_i64(out: &mut Vec<u8>, numbers: impl Iterator<Item = i64>) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn extend_ends(out: &mut Vec<u8>, lengths: impl Iterator<Item = usize>) {
    let mut end = 0;
    for length in lengths {
        end += length as u32;
        out.extend_from_slice(&end.to_le_bytes());
    }
}

fn extend_bits<T>(out: &mut Vec<u8>, rows: &[T], is_set: impl Fn(&T) -> bool) {
    for eight in rows.chunks(8) {
        out.push(eight.iter().rev().fold(0, |byte, row| byte << 1 | u8::from(is_set(row))));
    }
}
