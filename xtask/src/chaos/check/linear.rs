//! Whether one register's history is linearizable: whether there is an order of its operations, each at one moment between
//! its call and its answer, in which every read finds the write before it.
//!
//! The search is Wing and Gong's with Lowe's memory: go on with any operation that began before the first open one ended;
//! never twice with the same set of operations done and the same value. Values are unique to their writes. A write whose
//! answer is unknown has no end, and may be left out altogether; one whose value nobody saw changes no answer and is not
//! looked at.

use super::{Fate, Span};
use std::collections::{BTreeSet, HashSet};

/// A value; `None` = nothing there.
pub(in crate::chaos) type Value = Option<u64>;

/// One operation on one register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::chaos) enum What {
    Write(Value, Fate),
    Read(Value),
}

/// When and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::chaos) struct Op {
    pub(in crate::chaos) span: Span,
    pub(in crate::chaos) what: What,
}

/// Past so many steps a history is given up: too much happened at once.
const MOST_STEPS: usize = 2_000_000;

/// What came of the search.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::chaos) enum Verdict {
    Linearizable,
    /// The longest part of it that has an order, in operations, and what could not follow.
    Not {
        explained: usize,
        next: Vec<Op>,
    },
    TooLong,
}

/// Judges one register that held `first` before all of these.
pub(in crate::chaos) fn check(first: Value, ops: &[Op]) -> Verdict {
    let seen: BTreeSet<Value> = ops
        .iter()
        .filter_map(|op| match op.what {
            What::Read(value) => Some(value),
            What::Write(..) => None,
        })
        .collect();
    // What is to be explained, and what may explain it.
    let mut looked_at: Vec<Step> = ops
        .iter()
        .filter_map(|op| match op.what {
            What::Write(_, Fate::Not) => None,
            What::Write(value, Fate::Unknown) => seen.contains(&value).then_some(Step {
                begun: op.span.begun,
                ended: u64::MAX,
                write: true,
                value,
                must: false,
            }),
            What::Write(value, Fate::Done) => {
                Some(Step { begun: op.span.begun, ended: op.span.ended, write: true, value, must: true })
            }
            What::Read(value) => {
                Some(Step { begun: op.span.begun, ended: op.span.ended, write: false, value, must: true })
            }
        })
        .collect();
    looked_at.sort_by_key(|step| (step.begun, step.ended));
    search(first, &looked_at)
}

#[derive(Debug, Clone, Copy)]
struct Step {
    begun: u64,
    ended: u64,
    write: bool,
    value: Value,
    must: bool,
}

impl Step {
    fn op(&self) -> Op {
        let fate = if self.must { Fate::Done } else { Fate::Unknown };
        let what = if self.write { What::Write(self.value, fate) } else { What::Read(self.value) };
        Op { span: Span { begun: self.begun, ended: self.ended }, what }
    }
}

/// Which steps were taken, and the value after them.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    /// All before it are taken.
    from: usize,
    taken: Vec<usize>,
    value: Value,
}

fn search(first: Value, steps: &[Step]) -> Verdict {
    let mut known: HashSet<Place> = HashSet::new();
    let mut stack = vec![Place { from: 0, taken: Vec::new(), value: first }];
    let mut longest = (0, Vec::new());
    while let Some(place) = stack.pop() {
        if !known.insert(place.clone()) {
            continue;
        }
        if known.len() > MOST_STEPS {
            return Verdict::TooLong;
        }
        let open = || (place.from..steps.len()).filter(|at| !place.taken.contains(at));
        let is_done = |at: &usize| steps.get(*at).is_none_or(|step| !step.must);
        if open().all(|at| is_done(&at)) {
            return Verdict::Linearizable;
        }
        let limit =
            open().filter_map(|at| steps.get(at)).filter(|step| step.must).map(|step| step.ended).min();
        let limit = limit.unwrap_or(u64::MAX);
        let explained = place.from + place.taken.len();
        let candidates: Vec<usize> =
            open().take_while(|&at| steps.get(at).is_some_and(|step| step.begun <= limit)).collect();
        if explained >= longest.0 {
            let next = candidates.iter().filter_map(|&at| steps.get(at)).map(Step::op).take(12).collect();
            longest = (explained, next);
        }
        // The last that is put on is tried first: reads of what is there, which close off nothing, before writes.
        let mut next: Vec<(bool, Place)> = Vec::new();
        for at in candidates {
            let Some(step) = steps.get(at) else { continue };
            if !step.write && step.value != place.value {
                continue;
            }
            let value = if step.write { step.value } else { place.value };
            next.push((!step.write, place.after(at, value, steps)));
        }
        if let Some(read) = next.iter().position(|(is_read, _)| *is_read) {
            // A read of the value that is there can always go first.
            let (_, place) = next.swap_remove(read);
            stack.push(place);
            continue;
        }
        stack.extend(next.into_iter().rev().map(|(_, place)| place));
    }
    Verdict::Not { explained: longest.0, next: longest.1 }
}

impl Place {
    fn after(&self, at: usize, value: Value, steps: &[Step]) -> Self {
        let mut taken = self.taken.clone();
        if let Err(place) = taken.binary_search(&at) {
            taken.insert(place, at);
        }
        let mut from = self.from;
        while from < steps.len() && taken.first() == Some(&from) {
            taken.remove(0);
            from += 1;
        }
        Self { from, taken, value }
    }
}

#[cfg(test)]
mod tests;
