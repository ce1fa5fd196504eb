//! Makes a failing history short: operations are left out, then rows, as long as it still fails.

use std::fmt::Write as _;

use super::ops::{History, Op};
use super::run;

/// Runs that shrinking may take.
const RUNS: usize = 600;

pub fn report(seed: u64, history: History, why: String) -> String {
    let (history, why) = shrink(history, why);
    let mut text = format!("the history of seed {seed} fails: {why}\n  {:?}\n", history.setup);
    for (at, step) in history.steps.iter().enumerate() {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {at:>2} [{}] {:?}", step.slot, step.op);
    }
    text
}

fn shrink(mut history: History, mut why: String) -> (History, String) {
    let mut runs = 0;
    let mut size = history.steps.len() / 2;
    while size > 0 && runs < RUNS {
        let mut at = 0;
        while at < history.steps.len() && runs < RUNS {
            let mut shorter = history.clone();
            let end = (at + size).min(shorter.steps.len());
            shorter.steps.drain(at..end);
            runs += 1;
            match run(&shorter) {
                Err(shorter_why) => (history, why) = (shorter, shorter_why),
                Ok(_) => at += size,
            }
        }
        size /= 2;
    }
    for at in 0..history.steps.len() {
        let mut row = 0;
        while runs < RUNS {
            let mut shorter = history.clone();
            let (Op::Write { rows } | Op::Load { rows, .. }) = &mut shorter.steps[at].op else { break };
            if row >= rows.len() {
                break;
            }
            rows.remove(row);
            runs += 1;
            match run(&shorter) {
                Err(shorter_why) => (history, why) = (shorter, shorter_why),
                Ok(_) => row += 1,
            }
        }
    }
    (history, why)
}
