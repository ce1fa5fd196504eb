//! What this client has seen of each table, so that its next read sees it too.

use crate::TableRef;
use nacre_types::Consistency;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Most tokens that are kept for one table; past it the next read is a strong one.
const MOST_TOKENS: usize = 32;

/// The session tokens of a client, by table.
///
/// Tokens are opaque, so they cannot be joined here; the server takes several. An answer to a write adds its token. An
/// answer to a read has reached every token that was sent with it, so its token takes their place, but not that of those
/// that came in meanwhile. A client that only writes would gather tokens for ever: past 32 of them they are dropped
/// and the next read is made strong, which sees at least as much.
#[derive(Debug, Default)]
pub struct Sessions {
    tables: Mutex<HashMap<TableRef, Seen>>,
}

#[derive(Debug, Default, Clone)]
struct Seen {
    tokens: Vec<String>,
    overflowed: bool,
}

/// What a read sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The header `nacre-token`.
    pub(crate) tokens: Vec<String>,
    /// The consistency to ask for.
    pub(crate) consistency: Option<Consistency>,
}

impl Sessions {
    /// What a read of `table` sends that asks for `consistency` (`None`: session).
    pub(crate) fn ask(&self, table: &TableRef, consistency: Option<Consistency>) -> Asked {
        let tables = self.tables.lock();
        let seen = tables.get(table).cloned().unwrap_or_default();
        let consistency = match consistency {
            None | Some(Consistency::Session) if seen.overflowed => Some(Consistency::Strong),
            // Without a token the table's own consistency is at least as much as an empty session.
            None if seen.tokens.is_empty() => None,
            None => Some(Consistency::Session),
            some => some,
        };
        let tokens = if consistency == Some(Consistency::Session) { seen.tokens } else { Vec::new() };
        Asked { tokens, consistency }
    }

    /// A read of `table` that sent `asked` was answered with `token`.
    pub(crate) fn read(&self, table: &TableRef, asked: &Asked, token: Option<String>) {
        let Some(token) = token else { return };
        let mut tables = self.tables.lock();
        let seen = tables.entry(table.clone()).or_default();
        match asked.consistency {
            Some(Consistency::Session) => seen.tokens.retain(|held| !asked.tokens.contains(held)),
            // It saw everything acknowledged before it began. What was written meanwhile cannot be told apart from
            // what was written before, so it stays; it does no harm.
            Some(Consistency::Strong) => seen.overflowed = false,
            // An eventual read promises nothing about what was held.
            Some(Consistency::Eventual) | None => {}
        }
        seen.add(token);
    }

    /// A write or load of `table` was answered with `token`.
    pub(crate) fn wrote(&self, table: &TableRef, token: Option<String>) {
        if let Some(token) = token {
            self.tables.lock().entry(table.clone()).or_default().add(token);
        }
    }
}

impl Seen {
    fn add(&mut self, token: String) {
        if self.tokens.contains(&token) {
            return;
        }
        if self.tokens.len() == MOST_TOKENS {
            self.tokens.clear();
            self.overflowed = true;
        }
        self.tokens.push(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nacre_types::{NamespaceName, TableName};

    fn table() -> TableRef {
        TableRef::new(NamespaceName::new("n").unwrap(), TableName::new("t").unwrap())
    }

    fn words(asked: &Asked) -> Vec<&str> {
        asked.tokens.iter().map(String::as_str).collect()
    }

    #[test]
    fn a_read_sends_what_was_written_and_its_answer_takes_its_place() {
        let sessions = Sessions::default();
        assert_eq!(sessions.ask(&table(), None), Asked { tokens: vec![], consistency: None });
        sessions.wrote(&table(), Some("a".into()));
        sessions.wrote(&table(), Some("b".into()));
        let asked = sessions.ask(&table(), None);
        assert_eq!((words(&asked), asked.consistency), (vec!["a", "b"], Some(Consistency::Session)));
        // Written while the read was under way: stays.
        sessions.wrote(&table(), Some("c".into()));
        sessions.read(&table(), &asked, Some("ab".into()));
        assert_eq!(words(&sessions.ask(&table(), None)), ["c", "ab"]);
    }

    #[test]
    fn an_eventual_read_replaces_nothing() {
        let sessions = Sessions::default();
        sessions.wrote(&table(), Some("a".into()));
        let asked = sessions.ask(&table(), Some(Consistency::Eventual));
        assert!(asked.tokens.is_empty());
        sessions.read(&table(), &asked, Some("old".into()));
        assert_eq!(words(&sessions.ask(&table(), None)), ["a", "old"]);
    }

    #[test]
    fn too_many_tokens_make_the_next_read_strong() {
        let sessions = Sessions::default();
        for number in 0..=MOST_TOKENS {
            sessions.wrote(&table(), Some(number.to_string()));
        }
        let asked = sessions.ask(&table(), None);
        assert_eq!((words(&asked), asked.consistency), (vec![], Some(Consistency::Strong)));
        // Of no use to somebody who takes what comes.
        let eventual = sessions.ask(&table(), Some(Consistency::Eventual));
        assert_eq!(eventual.consistency, Some(Consistency::Eventual));
        sessions.read(&table(), &asked, Some("all".into()));
        assert_eq!(sessions.ask(&table(), None).consistency, Some(Consistency::Session));
    }
}
