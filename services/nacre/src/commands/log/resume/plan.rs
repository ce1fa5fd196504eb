//! What has become of a partition, where its readers go on, and what that gives up: a pure decision.
//!
//! **Offsets never go backwards.** Manifests, ranks and tokens know the log's offsets. Where the topic is another one, or ends
//! before what is known, its own offsets get a base above all that is known, with room for what was read and never covered
//! (session tokens name it; they are refused besides, by the incarnation): 2^32 records.
//!
//! **Versions never fall.** The clock goes on from `flushed_through`'s. Where segments hold rows behind that (a flush committed
//! and was not recorded), their versions were given by a later clock, which is gone; so it is raised to the newest of them,
//! but to no more than a minute ahead of now: versions may be their writers' own.

use nacre_engine::PartitionCover;
use nacre_log::LogPosition;
use nacre_log::kafka::PartitionMarks;
use nacre_types::{Error, LogIncarnation, Offset, PartitionId, Result};

#[cfg(test)]
mod tests;

/// Room above what is known, and what bases are multiples of.
const ROOM: u64 = 1 << 32;
/// Offsets that ranks have room for.
const OFFSETS: u64 = 1 << 48;
/// How far ahead of now a clock is raised: append times are believed within this.
const AHEAD_MICROS: i64 = 60 * 1_000_000;

/// What is known of a partition. `before` was read first, then the topic's marks, then `flushed`: in between a log that is well
/// goes on, and must not seem lost or shrunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) partition: PartitionId,
    /// `flushed_through`; `None` = nothing was flushed yet.
    pub(super) before: Option<LogPosition>,
    pub(super) cover: PartitionCover,
    /// As the topic counts.
    pub(super) marks: PartitionMarks,
    pub(super) flushed: Option<LogPosition>,
}

/// Where a partition goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) partition: PartitionId,
    /// What is added to the topic's own offsets.
    pub(super) base: u64,
    /// Where readers start, as the log counts then.
    pub(super) start: Offset,
    pub(super) clock: i64,
    /// What is given up, as the log counted before; to `None` = all that was there.
    pub(super) lost: Option<(Offset, Option<Offset>)>,
    /// Empty: it is well.
    pub(super) why: String,
}

/// Decides about one partition of a topic that is the store's (`is_same`) or another, whose base was `base`.
///
/// # Errors
/// `Invalid` (`log-offsets-exhausted`).
pub(super) fn place(
    seen: &Seen,
    is_same: bool,
    base: u64,
    incarnation: LogIncarnation,
    now: i64,
) -> Result<Placed> {
    let flushed = seen.flushed.unwrap_or_else(|| LogPosition::start(incarnation));
    let known = seen.before.map_or(0, |position| position.offset.0).max(seen.cover.through.0);
    let (start, end) = (base.saturating_add(seen.marks.start.0), base.saturating_add(seen.marks.end.0));
    let clock = flushed.clock.max(
        seen.cover.newest_version.map_or(i64::MIN, |newest| newest.min(now.saturating_add(AHEAD_MICROS))),
    );
    let placed = |base, start, clock, lost, why: String| Placed {
        partition: seen.partition,
        base,
        start: Offset(start),
        clock,
        lost,
        why,
    };
    let everything = Some((flushed.offset, None));
    if !is_same {
        let base = next_base(known.max(flushed.offset.0), seen)?;
        let why = "the topic is another one: what was not flushed is not in it".to_owned();
        return Ok(placed(base, base + seen.marks.start.0, clock, everything, why));
    }
    if known > end {
        let next = next_base(known.max(flushed.offset.0), seen)?;
        let why = format!("it ends at {end}, before what is known of it ({known}): records were lost");
        return Ok(placed(next, next + seen.marks.end.0, clock, everything, why));
    }
    if flushed.offset.0 < start {
        let lost = Some((flushed.offset, Some(Offset(start))));
        let why = format!("it begins at {start}: records that were not flushed were deleted");
        return Ok(placed(base, start, clock, lost, why));
    }
    let why = if flushed.incarnation == incarnation {
        String::new()
    } else {
        format!("its start is of incarnation {}", flushed.incarnation)
    };
    Ok(placed(base, flushed.offset.0, flushed.clock, None, why))
}

/// The base that lies above `known`.
fn next_base(known: u64, seen: &Seen) -> Result<u64> {
    let base = known.saturating_add(ROOM).checked_next_multiple_of(ROOM).unwrap_or(u64::MAX);
    if base.saturating_add(seen.marks.end.0) < OFFSETS - ROOM {
        return Ok(base);
    }
    Err(Error::invalid(format!(
        "partition {}: offsets of the log have 48 bits, and there is no room for another topic above {known}; load the rows \
         into a new store",
        seen.partition
    ))
    .with_code("log-offsets-exhausted"))
}
