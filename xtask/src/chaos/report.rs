//! The table at the end.

use super::measure::BOUNDS;
use super::record::Counts;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// What came of the rounds of one fault.
#[derive(Debug, Clone, Default)]
struct Line {
    rounds: u64,
    counts: Counts,
    violations: u64,
}

/// What came of all.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    lines: BTreeMap<&'static str, Line>,
    measured: BTreeMap<&'static str, Vec<f64>>,
    recoveries: Vec<f64>,
    borne: (u64, u64),
}

impl Report {
    /// A round is over. `borne`: replicas should have borne its fault.
    pub(super) fn round(
        &mut self,
        fault: &'static str,
        counts: &Counts,
        violations: usize,
        borne: bool,
        recovery: Duration,
    ) {
        let line = self.lines.entry(fault).or_default();
        line.rounds += 1;
        line.counts.add(counts);
        line.violations += violations as u64;
        self.recoveries.push(recovery.as_secs_f64());
        if borne {
            self.borne.0 += counts.known_reads;
            self.borne.1 += counts.known_failed;
        }
    }

    pub(super) fn measured(&mut self, name: &'static str, value: f64) {
        self.measured.entry(name).or_default().push(value);
    }

    pub(super) fn violations(&self) -> u64 {
        self.lines.values().map(|line| line.violations).sum()
    }

    pub(super) fn text(&self, seed: u64, took: Duration) -> String {
        let mut out = format!(
            "{:<20}{:>7}{:>9}{:>9}{:>8}{:>8}{:>8}{:>17}{:>10}{:>9}{:>11}\n",
            "fault",
            "rounds",
            "ops",
            "acked",
            "unknown",
            "refused",
            "loads",
            "known reads ok",
            "reads ok",
            "checks",
            "violations"
        );
        let mut all = Line::default();
        for (name, line) in &self.lines {
            row(&mut out, name, line);
            all.rounds += line.rounds;
            all.counts.add(&line.counts);
            all.violations += line.violations;
        }
        row(&mut out, "all", &all);
        let (asked, failed) = self.borne;
        let _ = writeln!(
            out,
            "\n{} rounds, seed {seed}, {:.0} s; of faults that replicas bear: {failed} of {asked} reads of known data failed",
            all.rounds,
            took.as_secs_f64()
        );
        let _ =
            writeln!(out, "from a round's end until all was answered again: {}", spread(&self.recoveries));
        for (name, values) in &self.measured {
            let bound = BOUNDS.iter().find(|(bounded, _)| bounded == name).map(|(_, bound)| *bound);
            let told = bound.map_or(String::new(), |bound| {
                let over = values.iter().filter(|value| **value > bound).count();
                format!("; at most {bound} wanted, {over} over it")
            });
            let _ = writeln!(out, "{name}: {}{told}", spread(values));
        }
        let mut codes: Vec<(&String, &u64)> = all.counts.codes.iter().collect();
        codes.sort_by_key(|(code, count)| (std::cmp::Reverse(**count), (*code).clone()));
        let told: Vec<String> =
            codes.iter().take(24).map(|(code, count)| format!("{code} {count}")).collect();
        let _ = writeln!(out, "why: {}", told.join(", "));
        out
    }
}

fn row(out: &mut String, name: &str, line: &Line) {
    let counts = &line.counts;
    let _ = writeln!(
        out,
        "{name:<20}{:>7}{:>9}{:>9}{:>8}{:>8}{:>8}{:>17}{:>10}{:>9}{:>11}",
        line.rounds,
        counts.operations,
        counts.acknowledged,
        counts.unknown,
        counts.refused,
        counts.changes,
        share(counts.known_reads, counts.known_failed),
        share(counts.reads, counts.reads_failed),
        counts.checks,
        line.violations
    );
}

fn share(asked: u64, failed: u64) -> String {
    if asked == 0 {
        return "-".to_owned();
    }
    format!("{:.2}%", 100.0 * (asked - failed.min(asked)) as f64 / asked as f64)
}

fn spread(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |part: f64| sorted.get(((sorted.len().saturating_sub(1)) as f64 * part) as usize).copied();
    let (middle, most) = (at(0.5).unwrap_or_default(), at(1.0).unwrap_or_default());
    format!("{middle:.2} in the middle, {most:.2} at most ({} times)", sorted.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_was_exceeded_is_told() {
        let mut report = Report::default();
        report.measured(BOUNDS[0].0, 3.0);
        report.measured(BOUNDS[0].0, 30.0);
        let counts = Counts { known_reads: 200, known_failed: 1, ..Counts::default() };
        report.round("x", &counts, 1, true, Duration::from_secs(1));
        let text = report.text(7, Duration::from_secs(9));
        assert!(text.contains("30.00 at most (2 times); at most 15 wanted, 1 over it"), "{text}");
        assert!(text.contains("99.50%") && text.contains("1 of 200 reads"), "{text}");
        assert_eq!(report.violations(), 1);
    }
}
