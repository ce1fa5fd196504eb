//! Whether reads of a table that loads replace, extend and take back saw whole loads, and ones that they could see.
//!
//! One client at a time changes the table, so its states follow each other; a change happens between its call and the
//! answer that it is done, or at any time after its call where nobody knows.

use super::{Fate, Span};

/// What the table holds: a replace load that covers every key, and perhaps a merge load over every other key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::chaos) struct State {
    pub(in crate::chaos) replace: u64,
    pub(in crate::chaos) merge: Option<u64>,
}

impl State {
    /// The value of a key: the number of its load, and whose it is.
    fn value(self, key: u64) -> (char, u64) {
        match self.merge {
            Some(merge) if key.is_multiple_of(2) => ('M', merge),
            _ => ('L', self.replace),
        }
    }
}

/// A load committed, or reverted: the table is `to` from some moment of it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::chaos) struct Change {
    pub(in crate::chaos) span: Span,
    pub(in crate::chaos) to: State,
    pub(in crate::chaos) fate: Fate,
}

/// Several keys, read by one request or by the pages of one scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::chaos) struct Read {
    pub(in crate::chaos) span: Span,
    pub(in crate::chaos) strong: bool,
    /// Key number, and the value's load; `None` = absent.
    pub(in crate::chaos) rows: Vec<(u64, Option<(char, u64)>)>,
}

/// Judges reads, of a table that was `first` before all changes. A read that is not strong may see any state that was.
pub(in crate::chaos) fn check(first: State, changes: &[Change], reads: &[Read]) -> Vec<String> {
    let changes: Vec<&Change> = changes.iter().filter(|change| change.fate != Fate::Not).collect();
    let mut wrong = Vec::new();
    for read in reads {
        let begun = changes.iter().filter(|change| change.span.begun <= read.span.ended).count();
        // The last change that was over before a strong read began is the oldest that it may see.
        let over = |change: &&Change| change.fate == Fate::Done && change.span.ended < read.span.begun;
        let oldest = if read.strong { changes.iter().rposition(over).map_or(0, |at| at + 1) } else { 0 };
        let states: Vec<State> =
            std::iter::once(first).chain(changes.iter().take(begun).map(|change| change.to)).collect();
        let could = states.get(oldest..).unwrap_or_default();
        let fits = |state: &&State| read.rows.iter().all(|(key, found)| *found == Some(state.value(*key)));
        if could.iter().any(|state| fits(&state)) {
            continue;
        }
        let whole = states.iter().any(|state| fits(&state));
        let mut found: Vec<Option<(char, u64)>> = read.rows.iter().map(|(_, found)| *found).collect();
        found.sort_unstable();
        found.dedup();
        wrong.push(format!(
            "{}: a read from {} to {} ({}) of {} keys found {found:?}; it could see {could:?}",
            if whole { "old" } else { "mixed" },
            read.span.begun,
            read.span.ended,
            if read.strong { "strong" } else { "eventual" },
            read.rows.len(),
        ));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: State = State { replace: 1, merge: None };

    fn change(begun: u64, ended: u64, replace: u64, merge: Option<u64>, fate: Fate) -> Change {
        Change { span: Span { begun, ended }, to: State { replace, merge }, fate }
    }

    fn read(begun: u64, ended: u64, strong: bool, rows: &[(char, u64)]) -> Read {
        let rows = (0..).zip(rows).map(|(key, found)| (key, Some(*found))).collect();
        Read { span: Span { begun, ended }, strong, rows }
    }

    fn wrong(changes: &[Change], read: Read) -> usize {
        check(FIRST, changes, &[read]).len()
    }

    #[test]
    fn a_mix_of_two_loads_is_found() {
        let changes = [change(10, 20, 2, None, Fate::Done)];
        for strong in [false, true] {
            assert_eq!(wrong(&changes, read(12, 15, strong, &[('L', 1), ('L', 1)])), 0);
            assert_eq!(wrong(&changes, read(12, 15, strong, &[('L', 2), ('L', 2)])), 0);
            assert_eq!(wrong(&changes, read(12, 15, strong, &[('L', 1), ('L', 2)])), 1);
        }
        let absent = Read { span: Span { begun: 0, ended: 1 }, strong: false, rows: vec![(0, None)] };
        assert_eq!(wrong(&[], absent), 1);
    }

    #[test]
    fn a_merge_is_there_for_all_its_keys_or_for_none() {
        let changes = [change(10, 20, 1, Some(3), Fate::Unknown)];
        assert_eq!(wrong(&changes, read(30, 31, true, &[('M', 3), ('L', 1), ('M', 3)])), 0);
        assert_eq!(wrong(&changes, read(30, 31, true, &[('L', 1), ('L', 1), ('L', 1)])), 0);
        assert_eq!(wrong(&changes, read(30, 31, true, &[('M', 3), ('L', 1), ('L', 1)])), 1);
    }

    #[test]
    fn a_strong_read_sees_what_was_done_and_no_read_sees_what_was_not_begun() {
        let changes = [change(10, 20, 2, None, Fate::Done), change(30, 40, 1, None, Fate::Done)];
        assert_eq!(wrong(&changes, read(21, 22, true, &[('L', 1)])), 1);
        assert_eq!(wrong(&changes, read(21, 22, false, &[('L', 1)])), 0);
        assert_eq!(wrong(&changes, read(5, 6, false, &[('L', 2)])), 1);
        assert_eq!(wrong(&changes, read(41, 42, true, &[('L', 2)])), 1, "it was reverted");
        let refused = [change(10, 20, 2, None, Fate::Not)];
        assert_eq!(wrong(&refused, read(12, 15, false, &[('L', 2)])), 1);
    }
}
