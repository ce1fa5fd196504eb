//! What ran, how long it took and how it ended.

use crate::Outcome;
use std::time::{Duration, Instant};

/// How many checks a step made, and how many of them failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Counts {
    /// A step that is one check.
    pub(crate) const ONE: Self = Self { passed: 1, failed: 0 };
}

struct Line {
    name: &'static str,
    took: Duration,
    counts: Counts,
    failure: Option<String>,
}

/// The lines of the summary.
#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

impl Report {
    /// Runs one step and prints its time.
    pub(crate) fn step(&mut self, name: &'static str, run: impl FnOnce(&mut Counts) -> Outcome) -> bool {
        println!("\n=== {name}");
        let start = Instant::now();
        let mut counts = Counts::default();
        let outcome = run(&mut counts);
        let took = start.elapsed();
        if outcome.is_err() && counts.failed == 0 {
            counts.failed = 1;
        }
        let passed = outcome.is_ok() && counts.failed == 0;
        let failure = match outcome {
            Err(sentence) => Some(sentence),
            Ok(()) if counts.failed > 0 => Some(format!("{} failed", counts.failed)),
            Ok(()) => None,
        };
        match &failure {
            None => println!("=== {name}: passed in {:.1} s", took.as_secs_f64()),
            Some(sentence) => println!("=== {name}: FAILED after {:.1} s: {sentence}", took.as_secs_f64()),
        }
        self.lines.push(Line { name, took, counts, failure });
        passed
    }

    /// Says that a step could not run because another failed.
    pub(crate) fn skipped(&mut self, name: &'static str, why: &str) {
        println!("\n=== {name}: not run: {why}");
        let counts = Counts { passed: 0, failed: 1 };
        self.lines.push(Line {
            name,
            took: Duration::ZERO,
            counts,
            failure: Some(format!("not run: {why}")),
        });
    }

    /// Prints the summary; whether everything passed.
    pub(crate) fn finish(self) -> bool {
        println!("\n=== summary");
        let mut total = Counts::default();
        let mut took = Duration::ZERO;
        for line in &self.lines {
            total.passed += line.counts.passed;
            total.failed += line.counts.failed;
            took += line.took;
            let state = if line.failure.is_none() { "passed" } else { "FAILED" };
            let first = line.failure.as_deref().and_then(|text| text.lines().next()).unwrap_or_default();
            let checks = line.counts.passed + line.counts.failed;
            println!(
                "{:<12} {state} {:>8.1} s {checks:>6} checks  {first}",
                line.name,
                line.took.as_secs_f64()
            );
        }
        println!("{:<12} {:>15.1} s", "all", took.as_secs_f64());
        println!("{} passed, {} failed", total.passed, total.failed);
        total.failed == 0 && total.passed > 0
    }
}
