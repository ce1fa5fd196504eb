//! Whether a key that keeps all its versions holds what was acknowledged, nothing else, and nothing twice.

use super::{Fate, Span};
use std::collections::BTreeMap;

/// A write with a version of its own, which no other has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::chaos) struct Versioned {
    pub(in crate::chaos) version: i64,
    /// `None` = a delete.
    pub(in crate::chaos) value: Option<String>,
    pub(in crate::chaos) fate: Fate,
}

/// A write that the log gives its version. Values are unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::chaos) struct Once {
    pub(in crate::chaos) span: Span,
    pub(in crate::chaos) value: String,
    /// As the answer told it.
    pub(in crate::chaos) version: Option<i64>,
    pub(in crate::chaos) fate: Fate,
}

/// A version that is there, as it was listed.
pub(in crate::chaos) type Listed = (i64, String);

/// Judges a key of writes with versions: what is visible ends at the highest delete that happened.
pub(in crate::chaos) fn versioned(writes: &[Versioned], listed: &[Listed]) -> Vec<String> {
    let mut wrong = falling(listed);
    for (version, value) in listed {
        match writes.iter().find(|write| write.version == *version) {
            Some(write) if write.fate == Fate::Not => {
                wrong.push(format!("version {version} is there and was refused"));
            }
            Some(write) if write.value.as_ref() == Some(value) => {}
            Some(write) => wrong.push(format!("version {version} is {value:?} and not {:?}", write.value)),
            None => wrong.push(format!("version {version} is there and nobody wrote it")),
        }
    }
    let deletes = |fate: Fate| {
        writes
            .iter()
            .filter(move |write| write.value.is_none() && write.fate == fate)
            .map(|write| write.version)
    };
    let certain = deletes(Fate::Done).max().unwrap_or(i64::MIN);
    // The delete that hides the most may be one that nobody knows of; each is as good as the other.
    let mut ways =
        std::iter::once(certain).chain(deletes(Fate::Unknown).filter(|version| *version > certain));
    let fits = |below: i64| {
        let missing = writes.iter().any(|write| {
            write.fate == Fate::Done
                && write.value.is_some()
                && write.version > below
                && !listed.iter().any(|(version, _)| *version == write.version)
        });
        !missing && listed.iter().all(|(version, _)| *version > below)
    };
    if !ways.any(fits) {
        let missing: Vec<i64> = writes
            .iter()
            .filter(|write| write.fate == Fate::Done && write.value.is_some() && write.version > certain)
            .map(|write| write.version)
            .filter(|version| !listed.iter().any(|(held, _)| held == version))
            .collect();
        let hidden = listed.iter().filter(|(version, _)| *version <= certain).count();
        wrong.push(format!("acknowledged and not there: {missing:?}; deleted and there: {hidden}"));
    }
    wrong
}

/// Judges a key of writes that carried an idempotency key: each is there once if it was acknowledged, at most once if
/// nobody knows, and under versions that rise as they followed each other.
pub(in crate::chaos) fn once(writes: &[Once], listed: &[Listed]) -> Vec<String> {
    let mut wrong = falling(listed);
    let mut held: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for (version, value) in listed {
        held.entry(value).or_default().push(*version);
    }
    for write in writes {
        let versions = held.remove(write.value.as_str()).unwrap_or_default();
        let fits = match write.fate {
            Fate::Done => versions.len() == 1 && write.version.is_none_or(|told| versions == [told]),
            Fate::Unknown => versions.len() <= 1,
            Fate::Not => versions.is_empty(),
        };
        if !fits {
            wrong.push(format!(
                "{:?} ({:?}, version {:?}) is there {} times: {versions:?}",
                write.value,
                write.fate,
                write.version,
                versions.len()
            ));
        }
    }
    wrong.extend(held.into_keys().map(|value| format!("{value:?} is there and nobody wrote it")));
    let done: Vec<&Once> = writes.iter().filter(|write| write.fate == Fate::Done).collect();
    for earlier in &done {
        for later in &done {
            if earlier.span.ended < later.span.begun
                && let (Some(first), Some(second)) = (earlier.version, later.version)
                && first >= second
            {
                wrong.push(format!(
                    "{:?} ended before {:?} began, and their versions are {first} and {second}",
                    earlier.value, later.value
                ));
            }
        }
    }
    wrong
}

fn falling(listed: &[Listed]) -> Vec<String> {
    let pairs = listed.windows(2).filter_map(|pair| match pair {
        [(above, _), (below, _)] if above <= below => Some((above, below)),
        _ => None,
    });
    pairs.map(|(above, below)| format!("version {above} is listed before {below}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(version: i64, fate: Fate) -> Versioned {
        Versioned { version, value: Some(format!("v{version}")), fate }
    }

    fn delete(version: i64, fate: Fate) -> Versioned {
        Versioned { version, value: None, fate }
    }

    fn listed(versions: &[i64]) -> Vec<Listed> {
        versions.iter().map(|version| (*version, format!("v{version}"))).collect()
    }

    fn holds(writes: &[Versioned], versions: &[i64]) -> bool {
        versioned(writes, &listed(versions)).is_empty()
    }

    #[test]
    fn acknowledged_versions_are_there_once_and_refused_ones_are_not() {
        use Fate::{Done, Not, Unknown};
        let writes = [put(1, Done), put(2, Unknown), put(3, Done), put(4, Not)];
        assert!(holds(&writes, &[3, 1]) && holds(&writes, &[3, 2, 1]));
        assert!(!holds(&writes, &[3]), "lost");
        assert!(!holds(&writes, &[3, 3, 1]), "doubled");
        assert!(!holds(&writes, &[4, 3, 1]), "refused");
        assert!(!holds(&writes, &[5, 3, 1]), "nobody's");
        assert!(!versioned(&writes, &[(3, "v3".into()), (1, "v3".into())]).is_empty(), "another's value");
    }

    #[test]
    fn a_delete_hides_what_is_below_it_and_an_unknown_one_all_or_nothing() {
        use Fate::{Done, Unknown};
        let writes = [put(1, Done), delete(2, Done), put(3, Done)];
        assert!(holds(&writes, &[3]));
        assert!(!holds(&writes, &[3, 1]));
        let writes = [put(1, Done), put(2, Done), delete(3, Unknown), put(4, Done)];
        assert!(holds(&writes, &[4]) && holds(&writes, &[4, 2, 1]));
        assert!(!holds(&writes, &[4, 2]), "half of what it hides");
    }

    fn write(value: &str, begun: u64, version: i64, fate: Fate) -> Once {
        let version = (fate == Fate::Done).then_some(version);
        Once { span: Span { begun, ended: begun + 1 }, value: value.to_owned(), version, fate }
    }

    #[test]
    fn a_write_with_an_idempotency_key_is_there_at_most_once() {
        use Fate::{Done, Not, Unknown};
        let writes = [write("a", 0, 1, Done), write("b", 2, 0, Unknown), write("c", 4, 0, Not)];
        let there = |versions: &[(i64, &str)]| {
            let listed: Vec<Listed> =
                versions.iter().map(|(version, value)| (*version, (*value).to_owned())).collect();
            once(&writes, &listed).is_empty()
        };
        assert!(there(&[(1, "a")]) && there(&[(9, "b"), (1, "a")]));
        assert!(!there(&[(9, "b")]), "lost");
        assert!(!there(&[(2, "a"), (1, "a")]), "doubled");
        assert!(!there(&[(7, "a")]), "another version than was told");
        assert!(!there(&[(9, "b"), (8, "b"), (1, "a")]), "an unknown one twice");
        assert!(!there(&[(9, "c"), (1, "a")]), "refused");
        assert!(!there(&[(9, "x"), (1, "a")]), "nobody's");
    }

    #[test]
    fn versions_of_the_log_rise_as_writes_follow_each_other() {
        let writes = [write("a", 0, 5, Fate::Done), write("b", 2, 4, Fate::Done)];
        assert_eq!(once(&writes, &[(5, "a".into()), (4, "b".into())]).len(), 1);
    }
}
