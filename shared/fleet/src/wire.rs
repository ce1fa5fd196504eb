//! What processes of a fleet say to each other about reads: one frame of bytes each way.
//!
//! A frame has a version byte and a checksum ([`nacre_store::frame`]); numbers are big-endian, `i64` as its two's
//! complement. Processes of neighbouring releases talk to each other while a fleet is upgraded: a change of the form takes
//! a new version byte, which is sent only once the format level says that all know it. Golden files hold both ways.

mod errors;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use nacre_engine::{
    Absence, ExplainedRow, Explanation, Found, Lookup, ReadOptions, Receipt, RowPlace, ScanPage, ScanRequest,
    SessionToken, Source,
};
use nacre_store::frame::{FrameReader, FrameWriter};
use nacre_types::{
    Consistency, Error, Key, KeyRange, LoadId, Offset, PartitionId, Result, SegmentId, Seq, TableId, limits,
};
use std::time::Duration;

const VERSION: u8 = 1;
const CODE: &str = "fleet-frame";
/// Where a number may be missing, this stands for it. None of them reaches it.
const NONE: u64 = u64::MAX;

/// What is asked of a node.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// The table.
    pub table: TableId,
    /// How it is to be answered; `deadline` is what is left of it.
    pub options: ReadOptions,
    /// Which rows.
    pub read: Read,
}

/// Which rows are asked for.
#[derive(Debug, Clone)]
pub enum Read {
    /// The first visible row of each key.
    Get(Vec<Key>),
    /// The visible rows of a key.
    Versions {
        /// The key.
        key: Key,
        /// Lowest version.
        since: i64,
        /// Highest version.
        until: i64,
        /// At most so many.
        limit: usize,
    },
    /// One page of a range.
    Scan(ScanRequest),
    /// Every row of a key, and why.
    Explain(Key),
}

/// What a node answers.
#[derive(Debug, Clone)]
pub struct ReadAnswer {
    /// The rows.
    pub rows: Rows,
    /// What they cost the node.
    pub receipt: Receipt,
    /// The node's table log stands there.
    pub manifest: Seq,
    /// What the node has seen.
    pub token: SessionToken,
}

/// The rows of an answer, of the kind that was asked for.
#[derive(Debug, Clone)]
pub enum Rows {
    /// One per key.
    Lookups(Vec<Lookup>),
    /// Newest first.
    Versions(Vec<Found>),
    /// A page.
    Page(ScanPage),
    /// Every row.
    Explanation(Explanation),
}

impl ReadRequest {
    /// The frame.
    pub fn encode(&self) -> Bytes {
        let options = &self.options;
        let consistency = match options.consistency {
            None => 0,
            Some(Consistency::Eventual) => 1,
            Some(Consistency::Session) => 2,
            Some(Consistency::Strong) => 3,
        };
        let room = match &self.read {
            Read::Get(keys) => keys.iter().map(|key| key.len() + 4).sum(),
            _ => 256,
        };
        let session = options.session.as_ref().map(SessionToken::to_text).unwrap_or_default();
        let frame = FrameWriter::new(VERSION, room + 128)
            .u128(self.table.0)
            .u32(consistency)
            .u64(options.as_of as u64)
            .u64(options.now_micros as u64)
            .u64(micros(options.deadline))
            .u64(options.max_staleness.map_or(NONE, micros))
            .u64(options.edition.map_or(NONE, |edition| edition.0))
            .u32(u32::from(options.preview.is_some()))
            .u128(options.preview.map_or(0, |load| load.0))
            .bytes(session.as_bytes());
        match &self.read {
            Read::Get(keys) => {
                keys.iter().fold(frame.u32(0).u32(keys.len() as u32), |frame, key| frame.bytes(key))
            }
            Read::Versions { key, since, until, limit } => {
                frame.u32(1).bytes(key).u64(*since as u64).u64(*until as u64).u64(*limit as u64)
            }
            Read::Scan(scan) => {
                let flags = u32::from(scan.reverse)
                    | u32::from(scan.keys_only) << 1
                    | u32::from(scan.range.end.is_some()) << 2
                    | u32::from(scan.since.is_some()) << 3
                    | u32::from(scan.until.is_some()) << 4;
                frame
                    .u32(2)
                    .u32(flags)
                    .bytes(&scan.range.start)
                    .bytes(scan.range.end.as_deref().unwrap_or_default())
                    .u64(scan.since.unwrap_or(0) as u64)
                    .u64(scan.until.unwrap_or(0) as u64)
                    .u64(scan.max_rows as u64)
                    .u64(scan.max_bytes as u64)
            }
            Read::Explain(key) => frame.u32(3).bytes(key),
        }
        .finish()
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// `Corrupt` (`fleet-frame`, `newer-format`).
    pub fn decode(bytes: Bytes) -> Result<Self> {
        let mut frame = FrameReader::open(bytes, VERSION, "a request of a fleet", CODE)?;
        let table = TableId(frame.u128()?);
        let consistency = match frame.u32()? {
            0 => None,
            1 => Some(Consistency::Eventual),
            2 => Some(Consistency::Session),
            3 => Some(Consistency::Strong),
            _ => return Err(frame.corrupt("a consistency that is none")),
        };
        let (as_of, now_micros) = (frame.u64()? as i64, frame.u64()? as i64);
        let deadline = Duration::from_micros(frame.u64()?.min(3_600_000_000));
        let max_staleness = some(frame.u64()?).map(Duration::from_micros);
        let edition = some(frame.u64()?).map(Seq);
        let (has_preview, preview) = (frame.u32()?, LoadId(frame.u128()?));
        let session = frame.text()?;
        let session = if session.is_empty() { None } else { Some(SessionToken::parse(&session)?) };
        let options = ReadOptions {
            consistency,
            as_of,
            now_micros,
            session,
            max_staleness,
            deadline,
            edition,
            preview: (has_preview == 1).then_some(preview),
        };
        let read = match frame.u32()? {
            0 => {
                let count = frame.u32()? as usize;
                if count > limits::BATCH_GET_KEYS.max(NAMESPACE_KEYS) {
                    return Err(frame.corrupt("more keys than one request has"));
                }
                let keys: Result<Vec<Key>> = (0..count).map(|_| Key::new(frame.bytes()?)).collect();
                Read::Get(keys?)
            }
            1 => Read::Versions {
                key: Key::new(frame.bytes()?)?,
                since: frame.u64()? as i64,
                until: frame.u64()? as i64,
                limit: frame.u64()? as usize,
            },
            2 => {
                let flags = frame.u32()?;
                let (start, end) = (frame.bytes()?, frame.bytes()?);
                let (since, until) = (frame.u64()? as i64, frame.u64()? as i64);
                let is = |bit: u32| flags >> bit & 1 == 1;
                Read::Scan(ScanRequest {
                    range: KeyRange { start, end: is(2).then_some(end) },
                    reverse: is(0),
                    since: is(3).then_some(since),
                    until: is(4).then_some(until),
                    max_rows: frame.u64()? as usize,
                    max_bytes: frame.u64()? as usize,
                    keys_only: is(1),
                })
            }
            3 => Read::Explain(Key::new(frame.bytes()?)?),
            _ => return Err(frame.corrupt("a read of no known kind")),
        };
        frame.finish()?;
        Ok(Self { table, options, read })
    }
}

/// More than any batch of a request holds.
const NAMESPACE_KEYS: usize = 10_000;

/// The frame of an answer or of why there is none.
pub fn encode_outcome(outcome: &Result<ReadAnswer>) -> Bytes {
    match outcome {
        Err(error) => errors::encode(FrameWriter::new(VERSION, 256).u32(1), error).finish(),
        Ok(answer) => answer.encode(),
    }
}

/// Reads the frame of an answer.
///
/// # Errors
/// The node's own; `Corrupt` (`fleet-frame`, `newer-format`) for a frame that is none.
pub fn decode_outcome(bytes: Bytes) -> Result<ReadAnswer> {
    let mut frame = FrameReader::open(bytes, VERSION, "an answer of a fleet", CODE)?;
    match frame.u32()? {
        0 => ReadAnswer::decode(frame),
        1 => {
            let error = errors::decode(&mut frame)?;
            frame.finish()?;
            Err(error)
        }
        _ => Err(frame.corrupt("an outcome of no known kind")),
    }
}

impl ReadAnswer {
    fn encode(&self) -> Bytes {
        let receipt = &self.receipt;
        let room = match &self.rows {
            Rows::Lookups(lookups) => lookups
                .iter()
                .map(|lookup| match lookup {
                    Lookup::Found(found) => found.value.len() + 32,
                    Lookup::Absent(_) => 4,
                })
                .sum(),
            Rows::Versions(found) => found.iter().map(|found| found.value.len() + 32).sum(),
            Rows::Page(page) => page.rows.iter().map(|(key, found)| key.len() + found.value.len() + 40).sum(),
            Rows::Explanation(explained) => explained.rows.len() * 128,
        };
        let frame = FrameWriter::new(VERSION, room + 256)
            .u32(0)
            .u32(source_number(receipt.source))
            .u32(receipt.store_gets)
            .u64(receipt.store_bytes)
            .u32(receipt.segments)
            .u64(receipt.edition.0)
            .u64(receipt.node_nanos)
            .u64(self.manifest.0)
            .bytes(self.token.to_text().as_bytes());
        match &self.rows {
            Rows::Lookups(lookups) => {
                lookups.iter().fold(frame.u32(0).u32(lookups.len() as u32), |frame, lookup| match lookup {
                    Lookup::Found(found) => push_found(frame.u32(0), found),
                    Lookup::Absent(Absence::Row) => frame.u32(1),
                    Lookup::Absent(Absence::Tombstone) => frame.u32(2),
                    Lookup::Absent(Absence::Expired) => frame.u32(3),
                })
            }
            Rows::Versions(found) => found.iter().fold(frame.u32(1).u32(found.len() as u32), push_found),
            Rows::Page(page) => {
                let frame = frame
                    .u32(2)
                    .u32(u32::from(page.next.is_some()))
                    .bytes(page.next.as_deref().unwrap_or_default())
                    .u32(page.rows.len() as u32);
                page.rows.iter().fold(frame, |frame, (key, found)| push_found(frame.bytes(key), found))
            }
            Rows::Explanation(explained) => {
                let frame = frame
                    .u32(3)
                    .u64(explained.edition.0)
                    .u64(explained.manifest.0)
                    .u32(explained.rows.len() as u32);
                explained.rows.iter().fold(frame, push_explained)
            }
        }
        .finish()
    }

    fn decode(mut frame: FrameReader) -> Result<Self> {
        let source = match frame.u32()? {
            0 => Source::None,
            1 => Source::Tail,
            2 => Source::Memory,
            3 => Source::Disk,
            4 => Source::Store,
            _ => return Err(frame.corrupt("a source that is none")),
        };
        let receipt = Receipt {
            source,
            store_gets: frame.u32()?,
            store_bytes: frame.u64()?,
            segments: frame.u32()?,
            edition: Seq(frame.u64()?),
            node_nanos: frame.u64()?,
        };
        let manifest = Seq(frame.u64()?);
        let token = SessionToken::parse(&frame.text()?)?;
        let kind = frame.u32()?;
        let rows = match kind {
            0 => {
                let count = frame.u32()?;
                let one = |frame: &mut FrameReader| {
                    Ok(match frame.u32()? {
                        0 => Lookup::Found(take_found(frame)?),
                        1 => Lookup::Absent(Absence::Row),
                        2 => Lookup::Absent(Absence::Tombstone),
                        3 => Lookup::Absent(Absence::Expired),
                        _ => return Err(frame.corrupt("a lookup of no known kind")),
                    })
                };
                Rows::Lookups((0..count).map(|_| one(&mut frame)).collect::<Result<_>>()?)
            }
            1 => {
                let count = frame.u32()?;
                Rows::Versions((0..count).map(|_| take_found(&mut frame)).collect::<Result<_>>()?)
            }
            2 => {
                let (has_next, next) = (frame.u32()?, frame.bytes()?);
                let count = frame.u32()?;
                let rows = (0..count).map(|_| Ok((frame.bytes()?, take_found(&mut frame)?)));
                let rows = rows.collect::<Result<_>>()?;
                Rows::Page(ScanPage { rows, next: (has_next == 1).then_some(next) })
            }
            3 => {
                let (edition, manifest) = (Seq(frame.u64()?), Seq(frame.u64()?));
                let count = frame.u32()?;
                let rows = (0..count).map(|_| take_explained(&mut frame)).collect::<Result<_>>()?;
                Rows::Explanation(Explanation { rows, edition, manifest })
            }
            _ => return Err(frame.corrupt("rows of no known kind")),
        };
        frame.finish()?;
        Ok(Self { rows, receipt, manifest, token })
    }
}

fn push_found(frame: FrameWriter, found: &Found) -> FrameWriter {
    frame
        .u64(found.version as u64)
        .u32(u32::from(found.expires_at.is_some()))
        .u64(found.expires_at.unwrap_or(0) as u64)
        .bytes(&found.value)
}

fn take_found(frame: &mut FrameReader) -> Result<Found> {
    let version = frame.u64()? as i64;
    let (expires, at) = (frame.u32()?, frame.u64()? as i64);
    Ok(Found { version, value: frame.bytes()?, expires_at: (expires == 1).then_some(at) })
}

fn push_explained(frame: FrameWriter, row: &ExplainedRow) -> FrameWriter {
    let frame = frame
        .u64(row.version as u64)
        .u32(
            u32::from(row.tombstone) | u32::from(row.visible) << 1 | u32::from(row.expires_at.is_some()) << 2,
        )
        .u64(row.expires_at.unwrap_or(0) as u64)
        .u64(row.value_bytes)
        .bytes(row.reason.as_bytes());
    match row.place {
        RowPlace::Tail { partition, offset, index } => frame.u32(0).u32(partition.0).u64(offset.0).u32(index),
        RowPlace::Segment { segment, block, load } => frame
            .u32(1)
            .u128(segment.0)
            .u32(block)
            .u32(u32::from(load.is_some()))
            .u128(load.map_or(0, |load| load.0)),
    }
}

fn take_explained(frame: &mut FrameReader) -> Result<ExplainedRow> {
    let version = frame.u64()? as i64;
    let flags = frame.u32()?;
    let (expires_at, value_bytes) = (frame.u64()? as i64, frame.u64()?);
    let reason = frame.text()?;
    let place = match frame.u32()? {
        0 => RowPlace::Tail {
            partition: PartitionId(frame.u32()?),
            offset: Offset(frame.u64()?),
            index: frame.u32()?,
        },
        1 => {
            let (segment, block) = (SegmentId(frame.u128()?), frame.u32()?);
            let (has_load, load) = (frame.u32()?, LoadId(frame.u128()?));
            RowPlace::Segment { segment, block, load: (has_load == 1).then_some(load) }
        }
        _ => return Err(frame.corrupt("a place of no known kind")),
    };
    Ok(ExplainedRow {
        version,
        tombstone: flags & 1 == 1,
        expires_at: (flags >> 2 & 1 == 1).then_some(expires_at),
        value_bytes,
        place,
        visible: flags >> 1 & 1 == 1,
        reason,
    })
}

fn source_number(source: Source) -> u32 {
    match source {
        Source::None => 0,
        Source::Tail => 1,
        Source::Memory => 2,
        Source::Disk => 3,
        Source::Store => 4,
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(NONE - 1)
}

fn some(number: u64) -> Option<u64> {
    (number != NONE).then_some(number)
}

/// A frame that is not what was asked for.
pub(crate) fn other_kind() -> Error {
    Error::corrupt("a node answered another question than it was asked").with_code(CODE)
}
