//! Scan: a page of visible rows in key order, forwards or backwards.
//!
//! Every source (memtable, segment) has a cursor that stands at a key. Cursors are kept in the order in which their keys
//! come, the next one last. A step gathers the rows of that key from the cursors at the end, moves those on, and lets the
//! rules decide. A cursor that moved is compared with its neighbour first: where one large source lies below small ones,
//! as it mostly does, it stays where it is, and a row costs one comparison however many sources there are.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use nacre_cache::{CachedBlock, CachedIndex};
use nacre_manifest::SegmentRef;
use nacre_types::{KeyRange, Place, Result};

use super::fetch::Fetcher;
use super::get::{Gathered, rules};
use crate::tail::memtable::{MemTable, TailRow};
use crate::view::{Lens, View};
use crate::{Lookup, ReadOptions, ScanPage, ScanRequest};

/// Keys taken from a memtable at once.
const MEMTABLE_PAGE: usize = 256;

pub(super) async fn page(
    fetcher: &mut Fetcher<'_>,
    view: &View,
    lens: &Lens,
    request: &ScanRequest,
    options: &ReadOptions,
) -> Result<ScanPage> {
    let mut page = ScanPage::default();
    if request.range.is_empty() || request.max_rows == 0 {
        return Ok(page);
    }
    let mut cursors = Vec::new();
    let mut add = |source| cursors.push(Box::new(Cursor { ordinal: cursors.len(), source }));
    for tail in &view.tails {
        for memtable in &tail.memtables {
            add(Source::Memory(MemoryCursor::new(memtable.clone(), tail.covered, request)));
        }
    }
    if !view.tails.is_empty() {
        fetcher.receipt.source = crate::Source::Tail;
    }
    for segment in view.manifest.segments_overlapping(&request.range) {
        if let Some(base) = lens.filter.base_place(&segment) {
            add(Source::Segment(SegmentCursor::new(fetcher, segment, base, request).await?));
        }
    }
    cursors.retain(|cursor| cursor.key().is_some());
    cursors.sort_by(|a, b| a.compare(b, request.reverse));
    let rules = rules(view, lens, options.now_micros);
    let mut gathered = Gathered::new();
    let mut bytes = 0;
    let mut last: Option<Bytes> = None;
    while let Some(key) = cursors.last().map(|cursor| cursor.key_bytes()) {
        if page.rows.len() >= request.max_rows || (bytes >= request.max_bytes && !page.rows.is_empty()) {
            page.next = if request.reverse { last } else { Some(key) };
            return Ok(page);
        }
        gathered.clear();
        while let Some(cursor) = cursors.last_mut().filter(|cursor| cursor.key() == Some(&key[..])) {
            while cursor.key().is_some_and(|held| held == &key[..]) {
                cursor.take(&mut gathered);
                cursor.advance(fetcher, request).await?;
            }
            settle(&mut cursors, request.reverse);
        }
        if request.reverse {
            // All were met against their order.
            gathered.candidates.reverse();
        }
        if let Lookup::Found(mut found) = gathered.lookup(rules, options.as_of) {
            let in_window = request.since.is_none_or(|since| found.version >= since)
                && request.until.is_none_or(|until| found.version <= until);
            if in_window {
                if request.keys_only {
                    found.value = Bytes::new();
                }
                bytes += key.len() + found.value.len() + 16;
                page.rows.push((key.clone(), found));
            }
        }
        last = Some(key);
    }
    Ok(page)
}

/// Puts the last cursor, which has moved, where it belongs, or takes it out if it stands nowhere any more.
fn settle(cursors: &mut Vec<Box<Cursor<'_>>>, reverse: bool) {
    let Some((moved, others)) = cursors.split_last() else { return };
    if moved.key().is_none() {
        cursors.pop();
        return;
    }
    if others.last().is_none_or(|next| next.compare(moved, reverse) == Ordering::Less) {
        return;
    }
    let at = others.partition_point(|other| other.compare(moved, reverse) == Ordering::Less);
    if let Some(behind) = cursors.get_mut(at..) {
        behind.rotate_right(1);
    }
}

struct Cursor<'v> {
    /// Tells sources with equal keys apart, so that rows that tie to the last keep one order.
    ordinal: usize,
    source: Source<'v>,
}

#[allow(clippy::large_enum_variant, reason = "in a box, a handful per scan")]
enum Source<'v> {
    Memory(MemoryCursor),
    Segment(SegmentCursor<'v>),
}

impl Cursor<'_> {
    /// `Less` = comes later in the scan.
    fn compare(&self, other: &Self, reverse: bool) -> Ordering {
        let rising = (self.key(), self.ordinal).cmp(&(other.key(), other.ordinal));
        if reverse { rising } else { rising.reverse() }
    }

    fn key(&self) -> Option<&[u8]> {
        match &self.source {
            Source::Memory(cursor) => cursor.rows.get(cursor.at).map(|(key, _)| &key[..]),
            Source::Segment(cursor) => cursor.stands.as_ref().map(|(block, at)| block.key(*at)),
        }
    }

    fn key_bytes(&self) -> Bytes {
        match &self.source {
            Source::Memory(cursor) => {
                cursor.rows.get(cursor.at).map(|(key, _)| key.clone()).unwrap_or_default()
            }
            Source::Segment(cursor) => {
                cursor.stands.as_ref().map(|(block, at)| block.key_bytes(*at)).unwrap_or_default()
            }
        }
    }

    fn take(&self, gathered: &mut Gathered) {
        match &self.source {
            Source::Memory(cursor) => {
                if let Some((_, row)) = cursor.rows.get(cursor.at) {
                    gathered.push_tail(row.clone());
                }
            }
            Source::Segment(cursor) => {
                if let Some((block, at)) = &cursor.stands {
                    gathered.push_block(block, *at, cursor.base);
                }
            }
        }
    }

    async fn advance(&mut self, fetcher: &mut Fetcher<'_>, request: &ScanRequest) -> Result<()> {
        match &mut self.source {
            Source::Memory(cursor) => cursor.advance(request),
            Source::Segment(cursor) => cursor.advance(fetcher, request).await?,
        }
        Ok(())
    }
}

struct MemoryCursor {
    memtable: Arc<MemTable>,
    covered: Place,
    rows: Vec<(Bytes, TailRow)>,
    at: usize,
    resume: Option<Bytes>,
}

impl MemoryCursor {
    fn new(memtable: Arc<MemTable>, covered: Place, request: &ScanRequest) -> Self {
        let mut cursor = Self { memtable, covered, rows: Vec::new(), at: 0, resume: None };
        let start = Bound::Included(&request.range.start[..]);
        let end = request.range.end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..]));
        cursor.fill(start, end, request.reverse);
        cursor
    }

    /// Reads pages until one has rows; a page may hold only keys whose rows are covered.
    fn fill(&mut self, start: Bound<&[u8]>, end: Bound<&[u8]>, reverse: bool) {
        self.resume = self.memtable.page((start, end), reverse, self.covered, MEMTABLE_PAGE, &mut self.rows);
        if self.rows.is_empty()
            && let Some(from) = self.resume.take()
        {
            let other = if reverse { start } else { end };
            self.fill_from(from, other.map(Bytes::copy_from_slice), reverse);
        }
    }

    fn fill_from(&mut self, from: Bytes, other: Bound<Bytes>, reverse: bool) {
        let mut from = from;
        loop {
            let other = match &other {
                Bound::Included(key) => Bound::Included(&key[..]),
                Bound::Excluded(key) => Bound::Excluded(&key[..]),
                Bound::Unbounded => Bound::Unbounded,
            };
            let range = if reverse {
                (other, Bound::Excluded(&from[..]))
            } else {
                (Bound::Excluded(&from[..]), other)
            };
            self.rows.clear();
            self.at = 0;
            self.resume = self.memtable.page(range, reverse, self.covered, MEMTABLE_PAGE, &mut self.rows);
            match &self.resume {
                Some(last) if self.rows.is_empty() => from = last.clone(),
                _ => return,
            }
        }
    }

    fn advance(&mut self, request: &ScanRequest) {
        self.at += 1;
        if self.at < self.rows.len() {
            return;
        }
        let Some(from) = self.resume.take() else { return };
        let other = if request.reverse {
            Bound::Included(request.range.start.clone())
        } else {
            request.range.end.clone().map_or(Bound::Unbounded, Bound::Excluded)
        };
        self.fill_from(from, other, request.reverse);
    }
}

struct SegmentCursor<'v> {
    segment: SegmentRef<'v>,
    base: Place,
    index: CachedIndex,
    number: u32,
    stands: Option<(CachedBlock, usize)>,
}

impl<'v> SegmentCursor<'v> {
    async fn new(
        fetcher: &mut Fetcher<'_>,
        segment: SegmentRef<'v>,
        base: Place,
        request: &ScanRequest,
    ) -> Result<Self> {
        let index = fetcher.index(&segment).await?;
        let mut cursor = Self { segment, base, index, number: 0, stands: None };
        if request.reverse {
            cursor.seek_last(fetcher, &request.range).await?;
        } else {
            cursor.seek_first(fetcher, &request.range).await?;
        }
        cursor.stop_outside(&request.range);
        Ok(cursor)
    }

    async fn seek_first(&mut self, fetcher: &mut Fetcher<'_>, range: &KeyRange) -> Result<()> {
        self.number = self.index.blocks_from(&range.start);
        while self.number < self.index.block_count() {
            let block = fetcher.block(&self.segment, &self.index, self.number).await?;
            let at = block.lower_bound(&range.start);
            if at < block.len() {
                self.stands = Some((block, at));
                return Ok(());
            }
            self.number += 1;
        }
        Ok(())
    }

    async fn seek_last(&mut self, fetcher: &mut Fetcher<'_>, range: &KeyRange) -> Result<()> {
        let Some(last) = self.index.block_count().checked_sub(1) else { return Ok(()) };
        self.number = range.end.as_ref().map_or(last, |end| self.index.blocks_from(end).min(last));
        loop {
            let block = fetcher.block(&self.segment, &self.index, self.number).await?;
            let end = range.end.as_ref().map_or(block.len(), |end| block.lower_bound(end));
            if let Some(at) = end.checked_sub(1) {
                self.stands = Some((block, at));
                return Ok(());
            }
            match self.number.checked_sub(1) {
                Some(before) => self.number = before,
                None => return Ok(()),
            }
        }
    }

    async fn advance(&mut self, fetcher: &mut Fetcher<'_>, request: &ScanRequest) -> Result<()> {
        let Some((block, at)) = self.stands.take() else { return Ok(()) };
        if request.reverse {
            if let Some(before) = at.checked_sub(1) {
                self.stands = Some((block, before));
            } else if let Some(number) = self.number.checked_sub(1) {
                self.number = number;
                let block = fetcher.block(&self.segment, &self.index, number).await?;
                let last = block.len() - 1;
                self.stands = Some((block, last));
            }
        } else if at + 1 < block.len() {
            self.stands = Some((block, at + 1));
        } else if self.number + 1 < self.index.block_count() {
            self.number += 1;
            let block = fetcher.block_of_run(&self.segment, &self.index, self.number).await?;
            self.stands = Some((block, 0));
        }
        self.stop_outside(&request.range);
        Ok(())
    }

    fn stop_outside(&mut self, range: &KeyRange) {
        if self.stands.as_ref().is_some_and(|(block, at)| !range.contains(block.key(*at))) {
            self.stands = None;
        }
    }
}
