//! Runs become the load's segments: one merge over all of them, one row per key and version.

use bytes::Bytes;
use nacre_engine::rows::merge::Merge;
use nacre_engine::{OnDuplicate, SegmentRows, SegmentSink};
use nacre_segment::SegmentRow;
use nacre_types::Result;

/// After so many rows of a range it is told, at the level debug.
const TELL_ROWS: u64 = 10_000;

/// A key and version that is there twice with different values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Duplicate {
    pub(crate) key: Vec<u8>,
    pub(crate) version: i64,
}

impl Duplicate {
    /// What is wrong and what would be right.
    pub(crate) fn detail(&self) -> String {
        format!(
            "key b\"{}\" is there more than once with version {} and different values; set on_duplicate to \"any\" if \
             either may win",
            self.key.escape_ascii(),
            self.version
        )
    }
}

/// Lets one row of each key and version through.
pub(crate) struct Unique {
    on_duplicate: OnDuplicate,
    key: Vec<u8>,
    version: i64,
    expires_at: Option<i64>,
    value: Option<Vec<u8>>,
    any: bool,
}

impl Unique {
    pub(crate) fn new(on_duplicate: OnDuplicate) -> Self {
        Self { on_duplicate, key: Vec::new(), version: 0, expires_at: None, value: None, any: false }
    }

    /// Whether the row is the first of its key and version. Rows must come in order.
    ///
    /// # Errors
    /// One that differs from an earlier one of its key and version, unless any may win.
    pub(crate) fn admits(&mut self, row: &SegmentRow<'_>) -> std::result::Result<bool, Duplicate> {
        if self.any && row.version == self.version && row.key == self.key {
            let is_same = row.expires_at == self.expires_at && row.value == self.value.as_deref();
            if !is_same && self.on_duplicate == OnDuplicate::Fail {
                return Err(Duplicate { key: self.key.clone(), version: self.version });
            }
            return Ok(false);
        }
        self.any = true;
        self.key.clear();
        self.key.extend_from_slice(row.key);
        self.version = row.version;
        self.expires_at = row.expires_at;
        if self.on_duplicate == OnDuplicate::Any {
            // Nothing is compared with it.
            return Ok(true);
        }
        match (row.value, &mut self.value) {
            (Some(value), Some(held)) => {
                held.clear();
                held.extend_from_slice(value);
            }
            (value, held) => *held = value.map(<[u8]>::to_vec),
        }
        Ok(true)
    }
}

/// A range of keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Span {
    /// It begins behind this key.
    pub(crate) behind: Option<Bytes>,
    /// It ends with this key.
    pub(crate) through: Option<Bytes>,
}

/// Keys that cut the rows of all runs into `ranges` ranges of about as many rows; each is the last key of its range.
/// `samples`: per run its rows, and keys that lie evenly among them.
pub(crate) fn cuts(samples: Vec<(u64, Vec<Bytes>)>, ranges: usize) -> Vec<Bytes> {
    let mut weighed: Vec<(Bytes, f64)> = Vec::new();
    let mut total = 0.0;
    for (rows, keys) in samples {
        let weight = rows as f64 / keys.len().max(1) as f64;
        total += rows as f64;
        weighed.extend(keys.into_iter().map(|key| (key, weight)));
    }
    weighed.sort_by(|a, b| a.0.cmp(&b.0));
    let mut cuts: Vec<Bytes> = Vec::new();
    let mut below = 0.0;
    for (key, weight) in weighed {
        if below >= total * (cuts.len() + 1) as f64 / ranges as f64
            && cuts.len() + 1 < ranges
            && cuts.last() != Some(&key)
        {
            cuts.push(key);
        }
        below += weight;
    }
    cuts
}

/// Merges the rows of runs that lie in `span` into `sink`. Answers the first duplicate; then the merge ended there.
///
/// # Errors
/// Those of the runs and the sink.
pub(crate) fn merge(
    runs: Vec<SegmentRows>,
    span: &Span,
    on_duplicate: OnDuplicate,
    mut sink: SegmentSink<'_>,
) -> Result<Option<Duplicate>> {
    let mut sources = Vec::with_capacity(runs.len());
    for run in runs {
        sources.push(match &span.behind {
            Some(key) => run.start_behind(key)?,
            None => run.start()?,
        });
    }
    let mut rows = Merge::new(sources);
    let mut unique = Unique::new(on_duplicate);
    let mut count = 0_u64;
    while let Some(row) = rows.peek() {
        if span.through.as_ref().is_some_and(|last| row.key > &last[..]) {
            break;
        }
        count += 1;
        if count.is_multiple_of(TELL_ROWS) {
            tracing::debug!(rows = TELL_ROWS, "more rows are merged");
        }
        let out = SegmentRow {
            key: row.key,
            version: row.version,
            place: None,
            expires_at: row.expires_at,
            value: row.value,
        };
        match unique.admits(&out) {
            Ok(true) => sink.push(&out)?,
            Ok(false) => {}
            Err(duplicate) => return Ok(Some(duplicate)),
        }
        rows.advance()?;
    }
    sink.finish()?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<'a>(key: &'a str, version: i64, value: Option<&'a str>) -> SegmentRow<'a> {
        SegmentRow {
            key: key.as_bytes(),
            version,
            place: None,
            expires_at: None,
            value: value.map(str::as_bytes),
        }
    }

    #[test]
    fn equal_rows_become_one_and_different_ones_are_told() {
        let mut unique = Unique::new(OnDuplicate::Fail);
        assert!(unique.admits(&row("a", 2, Some("x"))).unwrap());
        assert!(!unique.admits(&row("a", 2, Some("x"))).unwrap());
        assert!(unique.admits(&row("a", 1, Some("x"))).unwrap());
        let duplicate = unique.admits(&row("a", 1, None)).unwrap_err();
        assert_eq!(duplicate, Duplicate { key: b"a".to_vec(), version: 1 });
        assert!(unique.admits(&row("b", 1, None)).unwrap());
    }

    #[test]
    fn cuts_leave_as_many_rows_on_each_side() {
        let keys = |range: std::ops::Range<u8>| range.map(|key| Bytes::from(vec![key])).collect::<Vec<_>>();
        let of = |samples, ranges| cuts(samples, ranges).iter().map(|key| key[0]).collect::<Vec<_>>();
        assert_eq!(of(vec![(100, keys(0..100)), (100, keys(0..100))], 2), [50]);
        assert_eq!(of(vec![(100, keys(0..100)), (100, keys(100..200))], 4), [50, 100, 150]);
        // A run that weighs more draws the cut to it.
        assert_eq!(of(vec![(900, keys(0..90)), (100, keys(90..100))], 2), [50]);
        assert_eq!(of(vec![(10, keys(0..1))], 2), [] as [u8; 0]);
        assert_eq!(of(vec![(10, keys(7..8)), (10, keys(7..8)), (10, keys(7..8))], 3), [7]);
        assert_eq!(of(Vec::new(), 2), [] as [u8; 0]);
    }

    #[test]
    fn any_may_win_where_that_is_said() {
        let mut unique = Unique::new(OnDuplicate::Any);
        assert!(unique.admits(&row("a", 1, Some("x"))).unwrap());
        assert!(!unique.admits(&row("a", 1, Some("y"))).unwrap());
    }
}
