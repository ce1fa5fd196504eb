//! A packed block: up to [`BLOCK_SEGMENTS`] segments in one run of bytes.
//!
//! The same bytes lie in memory, in snapshots and in edits, so opening a snapshot is a walk over them and no
//! conversion. A block shares what its segments share: the beginning of all keys is written once, the largest key of a
//! segment is written as what it adds to the smallest, versions count from the block's lowest, and jobs, loads and the
//! folders of adopted files are numbers of a table of words at the block's head.
//!
//! ```text
//! block  = count  prefix  base_version  word*  record*
//! record = min_rest  max_shared max_rest  id[16]  flags  index.offset index.length  rows tombstones bytes
//!          min_version-base  max_version-min_version  [max_expires_at-max_version]  layer  location
//! flags  = layer:2  location:2  with_place  exact_places  expires  version_id
//! ```
//!
//! A record for a native segment with keys of 16 bytes has about 75 bytes; the block adds an offset of 4 bytes for
//! binary search, and what its table of words needs.

use super::SegmentRef;
use super::key_parts::{KeyParts, shared};
use crate::encoding::wire::{In, Out};
use crate::{IndexSpan, Layer, Location, Segment, StreamedSpan};
use nacre_types::{Generation, JobId, LoadId, Offset, PartitionId, SegmentId, Seq};
use std::cmp::Ordering;

/// Most segments of a block. More makes lookups' constant part and the copying of an edit larger, fewer the memory.
/// Unit tests cut small, to grow deep trees of few segments.
pub(crate) const BLOCK_SEGMENTS: usize = if cfg!(test) { 24 } else { 128 };
/// Segments for which one largest key is remembered, to skip them together.
const GROUP: usize = 16;
/// Fewest bytes that a record can have; bounds what a claimed count may allocate.
const RECORD_LEAST: usize = 16 + 12;
/// Longest path of an adopted file, and of the other strings of one.
const STRING_BYTES: usize = 4096;

const LAYER_STREAMED: u8 = 0;
const LAYER_LOADED: u8 = 1;
const LAYER_LOADS: u8 = 2;
const LAYER_MIXED: u8 = 3;
/// Flush whose partition and offset are those of the layer.
const LOCATION_LAYER: u8 = 0 << 2;
const LOCATION_FLUSH: u8 = 1 << 2;
const LOCATION_JOB: u8 = 2 << 2;
const LOCATION_ADOPTED: u8 = 3 << 2;
const LOCATION_BITS: u8 = 3 << 2;
const WITH_PLACE: u8 = 1 << 4;
const EXACT_PLACES: u8 = 1 << 5;
const EXPIRES: u8 = 1 << 6;
const VERSION_ID: u8 = 1 << 7;

/// Up to [`BLOCK_SEGMENTS`] packed segments.
pub(crate) struct Block {
    data: Box<[u8]>,
    /// Where each record begins.
    starts: Box<[u32]>,
    /// Where each word lies.
    words: Box<[(u32, u32)]>,
    /// For each group of records, which has the largest key.
    group_max: Box<[u8]>,
    prefix: (u32, u32),
    base_version: i64,
}

/// The fields of a record, with the strings of an adopted file still packed.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) min: KeyParts<'a>,
    pub(crate) max: KeyParts<'a>,
    pub(crate) id: SegmentId,
    flags: u8,
    pub(crate) index: IndexSpan,
    pub(crate) rows: u64,
    pub(crate) tombstones: u64,
    pub(crate) bytes: u64,
    pub(crate) min_version: i64,
    pub(crate) max_version: i64,
    pub(crate) max_expires_at: Option<i64>,
    pub(crate) layer: Layer,
    location: In<'a>,
}

impl Record<'_> {
    pub(crate) fn with_place(&self) -> bool {
        self.flags & WITH_PLACE != 0
    }
    pub(crate) fn exact_places(&self) -> bool {
        self.flags & EXACT_PLACES != 0
    }
}

impl Block {
    /// Packs segments, in their order.
    pub(crate) fn pack(segments: &[Segment]) -> Self {
        let data = encode(segments);
        // What was just written parses; should it ever not, the block is empty and every count of it says so.
        let block = Self::parse(&data);
        debug_assert!(block.is_some(), "a packed block does not parse");
        block.unwrap_or_default()
    }

    /// Takes bytes that claim to be a block apart; `None` where they are none. The order of its segments is not
    /// judged.
    pub(crate) fn parse(data: &[u8]) -> Option<Self> {
        u32::try_from(data.len()).ok()?;
        let at = |input: &In<'_>| (data.len() - input.remaining()) as u32;
        let mut input = In::new(data);
        let count = input.count(RECORD_LEAST);
        let prefix = input.bytes().len() as u32;
        let prefix = (at(&input) - prefix, at(&input));
        let base_version = input.zigzag();
        let word_count = input.count(1);
        let mut words = Vec::with_capacity(word_count.min(4 * BLOCK_SEGMENTS));
        for _ in 0..word_count {
            let length = input.bytes().len() as u32;
            words.push((at(&input) - length, at(&input)));
        }
        if !input.is_ok() || count > BLOCK_SEGMENTS || word_count > 4 * BLOCK_SEGMENTS {
            return None;
        }
        let mut block = Self {
            data: data.into(),
            starts: Box::default(),
            words: words.into(),
            group_max: Box::default(),
            prefix,
            base_version,
        };
        let mut starts = Vec::with_capacity(count);
        let mut group_max = Vec::with_capacity(count.div_ceil(GROUP));
        let (mut largest, mut scratch) = (Vec::new(), Vec::new());
        for index in 0..count {
            starts.push(at(&input));
            let record = block.read(&mut input);
            record.min.copy_to(&mut scratch);
            if !input.is_ok() || !record.is_valid() || record.max.cmp(&scratch) == Ordering::Less {
                return None;
            }
            if index.is_multiple_of(GROUP) {
                group_max.push(index as u8);
                record.max.copy_to(&mut largest);
            } else if record.max.cmp(&largest) == Ordering::Greater {
                *group_max.last_mut()? = index as u8;
                record.max.copy_to(&mut largest);
            }
        }
        if !input.is_done() {
            return None;
        }
        block.starts = starts.into();
        block.group_max = group_max.into();
        Some(block)
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    pub(crate) fn segment(&self, index: usize) -> SegmentRef<'_> {
        SegmentRef::new(self, self.read(&mut self.input(index)))
    }

    pub(crate) fn segments(
        &self,
    ) -> impl DoubleEndedIterator<Item = SegmentRef<'_>> + ExactSizeIterator + '_ {
        (0..self.len()).map(|index| self.segment(index))
    }

    /// The first index whose smallest key does not satisfy `below`; the block is sorted.
    pub(crate) fn partition_point(&self, below: impl Fn(KeyParts<'_>) -> bool) -> usize {
        self.starts.partition_point(|start| below(self.read_min(&mut self.input_at(*start))))
    }

    /// The first index in `from..end` whose largest key is at least `key`.
    pub(crate) fn next_reaching(&self, mut from: usize, end: usize, key: &[u8]) -> Option<usize> {
        while from < end {
            if from.is_multiple_of(GROUP) {
                let largest = self.group_max.get(from / GROUP).map_or(0, |index| usize::from(*index));
                if self.max_of(largest).cmp(key) == Ordering::Less {
                    from += GROUP;
                    continue;
                }
            }
            if self.max_of(from).cmp(key) != Ordering::Less {
                return Some(from);
            }
            from += 1;
        }
        None
    }

    /// The largest key of all.
    pub(crate) fn largest_key(&self) -> Vec<u8> {
        let mut largest = Vec::new();
        for index in self.group_max.iter() {
            let max = self.max_of(usize::from(*index));
            if max.cmp(&largest) == Ordering::Greater {
                largest = max.to_vec();
            }
        }
        largest
    }

    /// Bytes on the heap, besides the block itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.data.len() + 4 * self.starts.len() + 8 * self.words.len() + self.group_max.len()
    }

    fn slice(&self, (from, to): (u32, u32)) -> &[u8] {
        self.data.get(from as usize..to as usize).unwrap_or_default()
    }

    fn word(&self, number: u64) -> Option<&[u8]> {
        self.words.get(usize::try_from(number).ok()?).map(|span| self.slice(*span))
    }

    fn input_at(&self, start: u32) -> In<'_> {
        In::new(self.data.get(start as usize..).unwrap_or_default())
    }

    fn input(&self, index: usize) -> In<'_> {
        self.input_at(self.starts.get(index).copied().unwrap_or(u32::MAX))
    }

    fn max_of(&self, index: usize) -> KeyParts<'_> {
        let mut input = self.input(index);
        let min = self.read_min(&mut input);
        read_max(&mut input, min)
    }

    fn read_min<'a>(&'a self, input: &mut In<'a>) -> KeyParts<'a> {
        KeyParts([self.slice(self.prefix), input.bytes(), &[]])
    }

    fn read_id_word(&self, input: &mut In<'_>) -> u128 {
        let word = input.varint();
        self.word(word).and_then(|word| word.try_into().ok()).map(u128::from_be_bytes).unwrap_or_else(|| {
            input.fail();
            0
        })
    }

    fn read<'a>(&'a self, input: &mut In<'a>) -> Record<'a> {
        let min = self.read_min(input);
        let max = read_max(input, min);
        let id = SegmentId(input.u128());
        let flags = input.u8();
        let index = IndexSpan { offset: input.varint(), length: input.varint() };
        let (rows, tombstones, bytes) = (input.varint(), input.varint(), input.varint());
        let min_version = self.base_version.wrapping_add(input.varint() as i64);
        let max_version = min_version.wrapping_add(input.varint() as i64);
        let max_expires_at = (flags & EXPIRES != 0).then(|| max_version.wrapping_add(input.zigzag()));
        let layer = match flags & 3 {
            LAYER_STREAMED => Layer::Streamed(read_span(input)),
            LAYER_LOADED => Layer::Loaded(LoadId(self.read_id_word(input))),
            LAYER_LOADS => Layer::Mixed { streamed: None, loads: read_commits(input) },
            _ => Layer::Mixed { streamed: Some(read_span(input)), loads: read_commits(input) },
        };
        let location = *input;
        self.skip_location(input, flags, layer);
        Record {
            min,
            max,
            id,
            flags,
            index,
            rows,
            tombstones,
            bytes,
            min_version,
            max_version,
            max_expires_at,
            layer,
            location,
        }
    }

    fn skip_location(&self, input: &mut In<'_>, flags: u8, layer: Layer) {
        match flags & LOCATION_BITS {
            LOCATION_LAYER if layer.streamed().is_none() => input.fail(),
            LOCATION_LAYER => {}
            LOCATION_FLUSH => {
                input.number::<u32>();
                input.varint();
            }
            LOCATION_JOB => {
                self.read_id_word(input);
            }
            _ => {
                self.skip_string(input, true);
                self.skip_string(input, false);
                if flags & VERSION_ID != 0 {
                    self.skip_string(input, false);
                }
                self.skip_string(input, true);
            }
        }
    }

    fn skip_string(&self, input: &mut In<'_>, in_folder: bool) {
        let folder = if in_folder { self.word(input.varint()) } else { Some(&[][..]) };
        let rest = input.bytes();
        let valid = folder.is_some_and(|folder| {
            folder.len() + rest.len() <= STRING_BYTES
                && std::str::from_utf8(folder).is_ok()
                && std::str::from_utf8(rest).is_ok()
        });
        if !valid {
            input.fail();
        }
    }

    fn read_string(&self, input: &mut In<'_>, in_folder: bool) -> String {
        let folder = if in_folder { self.word(input.varint()).unwrap_or_default() } else { &[] };
        let mut text = String::from_utf8_lossy(folder).into_owned();
        text.push_str(&String::from_utf8_lossy(input.bytes()));
        text
    }

    /// Unpacks where a segment's object lies.
    pub(crate) fn location(&self, record: &Record<'_>) -> Location {
        let mut input = record.location;
        match record.flags & LOCATION_BITS {
            LOCATION_LAYER => {
                let span = record.layer.streamed();
                Location::Flush {
                    partition: span.map_or(PartitionId(0), |span| span.partition),
                    from: span.map_or(Offset(0), |span| span.from),
                }
            }
            LOCATION_FLUSH => {
                Location::Flush { partition: PartitionId(input.number()), from: Offset(input.varint()) }
            }
            LOCATION_JOB => Location::Job(JobId(self.read_id_word(&mut input))),
            _ => Location::Adopted {
                path: self.read_string(&mut input, true),
                tag: self.read_string(&mut input, false),
                version_id: (record.flags & VERSION_ID != 0).then(|| self.read_string(&mut input, false)),
                index_path: self.read_string(&mut input, true),
            },
        }
    }
}

impl Default for Block {
    fn default() -> Self {
        Self {
            data: Box::new([0; 4]),
            starts: Box::default(),
            words: Box::default(),
            group_max: Box::default(),
            prefix: (0, 0),
            base_version: 0,
        }
    }
}

impl Record<'_> {
    /// What no state may break, so that nothing that is read needs to be judged again.
    fn is_valid(&self) -> bool {
        let span_valid = self
            .layer
            .streamed()
            .is_none_or(|span| span.from < span.to && span.to.0 <= 1 << 48 && span.generation.0 < 1 << 13);
        let commits_valid = match self.layer {
            Layer::Mixed { loads: (low, high), .. } => low.0 > 0 && low <= high,
            Layer::Streamed(_) | Layer::Loaded(_) => true,
        };
        span_valid
            && commits_valid
            && self.min.is_valid()
            && self.max.is_valid()
            && self.min_version <= self.max_version
            && self.rows > 0
            && self.tombstones <= self.rows
    }
}

/// Whether a segment can be packed: what [`Block::parse`] would accept.
pub(crate) fn is_packable(segment: &Segment) -> bool {
    let strings_fit = match &segment.location {
        Location::Adopted { path, tag, version_id, index_path } => {
            [path, tag, index_path].into_iter().chain(version_id).all(|text| text.len() <= STRING_BYTES)
        }
        Location::Flush { .. } | Location::Job(_) => true,
    };
    strings_fit && segment.max_key.len() <= nacre_types::limits::KEY_BYTES && {
        let data = encode(std::slice::from_ref(segment));
        Block::parse(&data).is_some()
    }
}

fn read_max<'a>(input: &mut In<'a>, min: KeyParts<'a>) -> KeyParts<'a> {
    let shared: usize = input.number();
    let rest = input.bytes();
    let [prefix, min_rest, _] = min.0;
    match shared.checked_sub(prefix.len()) {
        None => KeyParts([prefix.get(..shared).unwrap_or_default(), &[], rest]),
        Some(more) => match min_rest.get(..more) {
            Some(middle) => KeyParts([prefix, middle, rest]),
            None => {
                input.fail();
                KeyParts::default()
            }
        },
    }
}

fn read_span(input: &mut In<'_>) -> StreamedSpan {
    let (partition, generation) = (PartitionId(input.number()), Generation(input.number()));
    let from = input.varint();
    let to = from.saturating_add(input.varint());
    StreamedSpan { partition, generation, from: Offset(from), to: Offset(to) }
}

fn read_commits(input: &mut In<'_>) -> (Seq, Seq) {
    let low = input.varint();
    (Seq(low), Seq(low.saturating_add(input.varint())))
}

fn write_span(out: &mut Out, span: StreamedSpan) {
    out.varint(span.partition.0.into());
    out.varint(span.generation.0.into());
    out.varint(span.from.0);
    out.varint(span.to.0.wrapping_sub(span.from.0));
}

fn write_commits(out: &mut Out, (low, high): (Seq, Seq)) {
    out.varint(low.0);
    out.varint(high.0.wrapping_sub(low.0));
}

/// The words of a block, each once, in the order of their first use.
#[derive(Default)]
struct Words<'a>(Vec<std::borrow::Cow<'a, [u8]>>);

impl<'a> Words<'a> {
    fn number(&mut self, word: impl Into<std::borrow::Cow<'a, [u8]>>) -> u64 {
        let word = word.into();
        let found = self.0.iter().rposition(|known| *known == word);
        found.unwrap_or_else(|| {
            self.0.push(word);
            self.0.len() - 1
        }) as u64
    }
}

/// A path as its folder (with the slash) and the rest.
fn split_path(path: &str) -> (&str, &str) {
    path.split_at(path.rfind('/').map_or(0, |slash| slash + 1))
}

/// The bytes of a block of these segments, in their order. Of segments that cannot be, bytes that do not parse.
pub(crate) fn encode(segments: &[Segment]) -> Vec<u8> {
    let first = segments.first().map_or(&[][..], |segment| &segment.min_key[..]);
    let prefix = segments.iter().fold(first, |prefix, segment| {
        let length = shared(prefix, &segment.min_key);
        &prefix[..length]
    });
    let base_version = segments.iter().map(|segment| segment.min_version).min().unwrap_or(0);
    let mut words = Words::default();
    let mut records = Out::default();
    for segment in segments {
        write_record(&mut records, &mut words, prefix.len(), base_version, segment);
    }
    let mut out = Out::default();
    out.len(segments.len());
    out.bytes(prefix);
    out.zigzag(base_version);
    out.len(words.0.len());
    for word in &words.0 {
        out.bytes(word);
    }
    out.raw(&records.0);
    out.0
}

fn write_record<'a>(
    out: &mut Out,
    words: &mut Words<'a>,
    prefix: usize,
    base_version: i64,
    segment: &'a Segment,
) {
    out.bytes(segment.min_key.get(prefix..).unwrap_or_default());
    let in_both = shared(&segment.min_key, &segment.max_key);
    out.len(in_both);
    out.bytes(segment.max_key.get(in_both..).unwrap_or_default());
    out.u128(segment.id.0);
    out.u8(flags_of(segment));
    out.varint(segment.index.offset);
    out.varint(segment.index.length);
    out.varint(segment.rows);
    out.varint(segment.tombstones);
    out.varint(segment.bytes);
    out.varint(segment.min_version.wrapping_sub(base_version) as u64);
    out.varint(segment.max_version.wrapping_sub(segment.min_version) as u64);
    if let Some(expires_at) = segment.max_expires_at {
        out.zigzag(expires_at.wrapping_sub(segment.max_version));
    }
    match segment.layer {
        Layer::Streamed(span) => write_span(out, span),
        Layer::Loaded(load) => out.varint(words.number(load.to_bytes().to_vec())),
        Layer::Mixed { streamed, loads } => {
            if let Some(span) = streamed {
                write_span(out, span);
            }
            write_commits(out, loads);
        }
    }
    match &segment.location {
        Location::Flush { .. } if flags_of(segment) & LOCATION_BITS == LOCATION_LAYER => {}
        Location::Flush { partition, from } => {
            out.varint(partition.0.into());
            out.varint(from.0);
        }
        Location::Job(job) => out.varint(words.number(job.to_bytes().to_vec())),
        Location::Adopted { path, tag, version_id, index_path } => {
            let (folder, rest) = split_path(path);
            out.varint(words.number(folder.as_bytes()));
            out.bytes(rest.as_bytes());
            out.bytes(tag.as_bytes());
            if let Some(version_id) = version_id {
                out.bytes(version_id.as_bytes());
            }
            let (folder, rest) = split_path(index_path);
            out.varint(words.number(folder.as_bytes()));
            out.bytes(rest.as_bytes());
        }
    }
}

fn flags_of(segment: &Segment) -> u8 {
    let layer = match segment.layer {
        Layer::Streamed(_) => LAYER_STREAMED,
        Layer::Loaded(_) => LAYER_LOADED,
        Layer::Mixed { streamed: None, .. } => LAYER_LOADS,
        Layer::Mixed { streamed: Some(_), .. } => LAYER_MIXED,
    };
    let location = match &segment.location {
        Location::Flush { partition, from } => {
            let same = segment
                .layer
                .streamed()
                .is_some_and(|span| span.partition == *partition && span.from == *from);
            if same { LOCATION_LAYER } else { LOCATION_FLUSH }
        }
        Location::Job(_) => LOCATION_JOB,
        Location::Adopted { version_id, .. } => {
            LOCATION_ADOPTED | if version_id.is_some() { VERSION_ID } else { 0 }
        }
    };
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    layer
        | location
        | flag(segment.with_place, WITH_PLACE)
        | flag(segment.exact_places, EXACT_PLACES)
        | flag(segment.max_expires_at.is_some(), EXPIRES)
}
