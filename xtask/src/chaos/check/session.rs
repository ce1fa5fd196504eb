//! Whether clients that carry tokens read their own writes, and never go back in time.
//!
//! Each key has one writer, who writes rising numbers as versions: the largest that was applied is what is there.

use super::Fate;
use std::collections::BTreeMap;

/// One step of one client, in its own order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::chaos) enum Step {
    /// It wrote this number to its key.
    Wrote { key: u64, number: u64, fate: Fate },
    /// It read a key with all that it carries; 0 = nothing there.
    Saw { key: u64, number: u64 },
}

/// What a client has seen of each key, kept from round to round.
#[derive(Debug, Clone, Default)]
pub(in crate::chaos) struct Known(BTreeMap<u64, u64>);

/// The largest number that was ever tried, by key: kept from round to round.
pub(in crate::chaos) type Tried = BTreeMap<u64, u64>;

/// Judges one client's steps; what it says is what is wrong.
pub(in crate::chaos) fn check(known: &mut Known, tried: &Tried, steps: &[Step]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        match *step {
            Step::Wrote { key, number, fate: Fate::Done } => {
                let held = known.0.entry(key).or_default();
                *held = number.max(*held);
            }
            Step::Wrote { .. } => {}
            Step::Saw { key, number } => {
                let held = known.0.entry(key).or_default();
                if number < *held {
                    wrong.push(format!(
                        "step {at}: key {key} was {number}, and {held} was seen or acknowledged before"
                    ));
                }
                if number > tried.get(&key).copied().unwrap_or_default() {
                    wrong.push(format!("step {at}: key {key} was {number}, which nobody wrote"));
                }
                *held = number.max(*held);
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(steps: &[Step]) -> usize {
        check(&mut Known::default(), &Tried::from([(1, 5), (2, 5)]), steps).len()
    }

    const fn wrote(number: u64, fate: Fate) -> Step {
        Step::Wrote { key: 1, number, fate }
    }

    const fn saw(key: u64, number: u64) -> Step {
        Step::Saw { key, number }
    }

    #[test]
    fn what_was_acknowledged_must_be_read() {
        assert_eq!(wrong(&[wrote(1, Fate::Done), saw(1, 1), wrote(2, Fate::Done), saw(1, 2)]), 0);
        assert_eq!(wrong(&[wrote(1, Fate::Done), saw(1, 0)]), 1);
        assert_eq!(wrong(&[wrote(1, Fate::Unknown), saw(1, 0), saw(1, 1)]), 0);
        assert_eq!(wrong(&[wrote(1, Fate::Done), wrote(2, Fate::Unknown), saw(1, 2), saw(1, 1)]), 1);
    }

    #[test]
    fn reads_do_not_go_back() {
        assert_eq!(wrong(&[saw(2, 1), saw(2, 3), saw(1, 0), saw(2, 3)]), 0);
        assert_eq!(wrong(&[saw(2, 3), saw(2, 1)]), 1);
    }

    #[test]
    fn what_nobody_wrote_is_found() {
        assert_eq!(wrong(&[saw(2, 6)]), 1);
    }

    #[test]
    fn what_was_known_in_the_last_round_still_is() {
        let (mut known, tried) = (Known::default(), Tried::from([(1, 9)]));
        assert!(check(&mut known, &tried, &[saw(1, 9)]).is_empty());
        assert_eq!(check(&mut known, &tried, &[saw(1, 8)]).len(), 1);
    }
}
