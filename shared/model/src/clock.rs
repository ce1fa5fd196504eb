//! Versions that the log gives, and the rule of lateness.

/// The clock of one partition: the last version that its log gave. Every reader starts it at the same place and computes
/// the same versions from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    /// The last version given; `None` before the first.
    pub last: Option<i64>,
}

impl Clock {
    /// The version of the rows of the next record that bring none: its append time in microseconds, or the clock + 1 if
    /// that is more. All rows of one record get the same. A record whose rows all bring versions is given none and
    /// leaves the clock as it is.
    pub fn give(&mut self, append_time: i64) -> i64 {
        let version = match self.last {
            Some(last) if last.saturating_add(1) > append_time => last.saturating_add(1),
            _ => append_time,
        };
        self.last = Some(version);
        version
    }
}

/// Which rows a table with `max_lateness` refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LateRule {
    /// `max_lateness` in microseconds; `None` = nothing is late.
    pub limit: Option<i64>,
    /// What a raised or removed limit left: rows below it stay refused.
    pub late_below: Option<i64>,
}

impl LateRule {
    /// Whether a row of this version is refused. `time` is the log's time for a streamed row, and the time of its `begin`
    /// for a row of a load.
    pub fn refuses(&self, version: i64, time: i64) -> bool {
        let by_limit = self.limit.is_some_and(|limit| version < time.saturating_sub(limit));
        let by_mark = self.late_below.is_some_and(|below| version < below);
        by_limit || by_mark
    }
}
