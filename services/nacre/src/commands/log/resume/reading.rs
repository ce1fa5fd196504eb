//! How far the reading of a partition is, on stderr: a log may have hours of records.

use crate::units;
use nacre_types::{Offset, PartitionId};
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// One line that is written anew at a terminal, a line now and then elsewhere; none for what is soon over.
pub(super) struct Reading {
    partition: PartitionId,
    from: Offset,
    end: Offset,
    terminal: bool,
    due: Duration,
    width: usize,
}

impl Reading {
    /// Begins at `now`, monotonic.
    pub(super) fn new(partition: PartitionId, from: Offset, end: Offset, now: Duration) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { partition, from, end, terminal, due: now.saturating_add(every(terminal)), width: 0 }
    }

    /// It has come to `at`.
    pub(super) fn tell(&mut self, at: Offset, now: Duration) {
        let Some(text) = self.line(at, now) else { return };
        let mut stderr = std::io::stderr().lock();
        // Nobody has to read it.
        let _ = match self.terminal {
            true => write!(stderr, "\r{text:<width$}", width = self.width),
            false => writeln!(stderr, "{text}"),
        };
        self.width = text.len();
        let _ = stderr.flush();
    }

    fn line(&mut self, at: Offset, now: Duration) -> Option<String> {
        if now < self.due {
            return None;
        }
        self.due = now.saturating_add(every(self.terminal));
        let [done, all] = [at, self.end].map(|to| units::count(to.0.saturating_sub(self.from.0)));
        Some(format!("reading partition {}: {done} of {all} records", self.partition))
    }

    /// It is over.
    pub(super) fn end(&self) {
        if self.terminal && self.width > 0 {
            let _ = writeln!(std::io::stderr());
        }
    }
}

fn every(terminal: bool) -> Duration {
    Duration::from_secs(if terminal { 1 } else { 10 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_now_and_then_and_none_for_what_is_soon_over() {
        let seconds = Duration::from_secs;
        let mut reading = Reading::new(PartitionId(3), Offset(100), Offset(2_100), seconds(50));
        reading.terminal = false;
        reading.due = seconds(60);
        assert_eq!(reading.line(Offset(200), seconds(59)), None);
        let line = reading.line(Offset(1_600), seconds(60)).unwrap();
        assert_eq!(
            line,
            format!("reading partition 3: {} of {} records", units::count(1_500), units::count(2_000))
        );
        assert_eq!(reading.line(Offset(1_700), seconds(69)), None);
        assert!(reading.line(Offset(1_800), seconds(70)).is_some());
    }
}
