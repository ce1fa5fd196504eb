//! What a token grants, and the one decision that rests on it.
//!
//! Verbs do not imply each other: a token that writes does not read. A grant is of one namespace or of the whole store, and
//! may be narrowed to tables and, within them, to keys that begin with a prefix. What concerns a table as a whole is
//! refused to a token with a prefix, because it shows or moves keys that the token may not touch; what concerns a
//! namespace as a whole is refused to every narrowed token.

use bytes::Bytes;
use nacre_types::{Error, ErrorKind, KeyRange, NamespaceName, TableName};
use std::fmt;

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Verb {
    /// Gets, batches of them, scans, versions, explanations.
    Read = 1,
    /// Puts and deletes of rows.
    Write = 2,
    /// Loads, from their begin to their revert.
    Load = 4,
    /// Tables and their settings, and tokens; with a grant of the whole store namespaces too.
    Admin = 8,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Load, Self::Admin];

    /// The word of the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Load => "load",
            Self::Admin => "admin",
        }
    }

    /// The verb of a word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.name() == name)
    }
}

/// A set of verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verbs(u8);

impl Verbs {
    /// All of them.
    pub const ALL: Self = Self(15);

    /// As they are stored; `None` for bits that no verb has.
    pub(crate) fn from_bits(bits: u32) -> Option<Self> {
        u8::try_from(bits).ok().filter(|bits| bits & !Self::ALL.0 == 0).map(Self)
    }

    pub(crate) fn bits(self) -> u32 {
        u32::from(self.0)
    }

    /// Whether `verb` is one of them.
    pub fn has(self, verb: Verb) -> bool {
        self.0 & verb as u8 != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its verbs, in their order.
    pub fn iter(self) -> impl Iterator<Item = Verb> {
        Verb::ALL.into_iter().filter(move |verb| self.has(*verb))
    }

    fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl FromIterator<Verb> for Verbs {
    fn from_iter<I: IntoIterator<Item = Verb>>(verbs: I) -> Self {
        Self(verbs.into_iter().fold(0, |bits, verb| bits | verb as u8))
    }
}

/// How far a token reaches at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// Every namespace, and what belongs to none: an operator's token.
    Store,
    /// One namespace.
    Namespace(NamespaceName),
}

impl Home {
    /// The namespace, if it is one.
    pub fn namespace(&self) -> Option<&NamespaceName> {
        match self {
            Self::Store => None,
            Self::Namespace(name) => Some(name),
        }
    }
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store => f.write_str("the whole store"),
            Self::Namespace(name) => write!(f, "namespace {name}"),
        }
    }
}

/// What a token grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Where.
    pub home: Home,
    /// What.
    pub verbs: Verbs,
    /// Only on these tables of the namespace; `None` = on all.
    pub tables: Option<Vec<TableName>>,
    /// Only on keys that begin so; `None` = on all.
    pub prefix: Option<Bytes>,
}

/// What is asked for, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On<'a> {
    /// What belongs to no namespace: making namespaces, operators' tokens.
    Store,
    /// A listing or a description of what the token may see itself, which the caller filters by [`Grant::sees`] and
    /// [`Grant::sees_table`].
    Anything,
    /// A namespace as a whole: its tokens.
    Namespace(&'a str),
    /// Some tables of a namespace, which are looked at one by one later.
    Tables(&'a str),
    /// A table.
    Table(&'a str, &'a str, Keys<'a>),
}

/// Which keys of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keys<'a> {
    /// The table as a whole.
    Whole,
    /// Rows whose keys are looked at later: they stand in the body, or are not decoded yet.
    Later,
    /// One key.
    One(&'a [u8]),
    /// A range of keys.
    Range(&'a KeyRange),
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// What is to be done; `None` = to see that something is there, which every verb allows.
    pub verb: Option<Verb>,
    /// Where.
    pub on: On<'a>,
}

/// Something that lies outside of all tables, and that rows are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside<'a> {
    /// A file or folder of the store, by its URL (`store:orders/day=1`).
    Place(&'a str),
    /// A topic, whatever brokers it is on.
    Topic(&'a str),
}

/// Why something is not allowed: what is lacking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// It is not of the token's namespace.
    Namespace,
    /// It concerns the store, and the token is of a namespace.
    NotOperator,
    /// The token lacks a verb.
    Verb(Verb),
    /// The token is of other tables.
    Table,
    /// It concerns the whole namespace, and the token is narrowed to tables or keys.
    NarrowedInNamespace,
    /// It concerns the whole table, and the token is narrowed to a prefix.
    NarrowedInTable,
    /// A key that does not begin with the token's prefix.
    Key,
    /// A range of keys that reaches beyond the token's prefix.
    Range,
    /// A place or a topic that does not bear the name of the token's namespace.
    Outside(NamespaceName),
    /// A token that may do more than the one that makes it.
    Escalation,
}

impl Denied {
    /// As an error: it says what is lacking, and nothing of what is there.
    pub fn error(&self) -> Error {
        let (code, detail) = match self {
            Self::Namespace => ("forbidden-namespace", "the token is of another namespace".to_owned()),
            Self::NotOperator => (
                "forbidden-store",
                "this concerns the whole store, and the token is of one namespace; an operator's token is needed"
                    .to_owned(),
            ),
            Self::Verb(verb) => ("forbidden-verb", format!("the token lacks the verb {}", verb.name())),
            Self::Table => ("forbidden-table", "the token is of other tables".to_owned()),
            Self::NarrowedInNamespace => (
                "forbidden-whole",
                "this concerns the whole namespace, and the token is narrowed to some tables or keys of it".to_owned(),
            ),
            Self::NarrowedInTable => (
                "forbidden-whole",
                "this concerns the whole table, and the token is narrowed to keys that begin with its prefix".to_owned(),
            ),
            Self::Key => {
                ("forbidden-key", "the token is narrowed to keys that begin with its prefix, and this one does not".to_owned())
            }
            Self::Range => (
                "forbidden-range",
                "the token is narrowed to keys that begin with its prefix, and the scan reaches beyond them; say prefix=, or \
                 start= and end= within it"
                    .to_owned(),
            ),
            Self::Outside(ns) => (
                "forbidden-source",
                format!(
                    "a token of namespace {ns} takes rows from folders of the store below \"store:{ns}/\" and from topics that \
                     begin with \"{ns}.\"; an operator's token is needed for others"
                ),
            ),
            Self::Escalation => (
                "forbidden-escalation",
                "a token cannot give more than it has: verbs, tables, prefix and expiry of the new one must lie within its own"
                    .to_owned(),
            ),
        };
        Error::new(ErrorKind::Forbidden, detail).with_code(code)
    }
}

/// Whether `grant` allows `request`.
///
/// # Errors
/// What is lacking.
pub fn allows(grant: &Grant, request: &Request<'_>) -> Result<(), Denied> {
    let namespace = match request.on {
        On::Store if grant.home != Home::Store => return Err(Denied::NotOperator),
        On::Store | On::Anything => None,
        On::Namespace(ns) | On::Tables(ns) | On::Table(ns, ..) => Some(ns),
    };
    if namespace.is_some_and(|ns| !grant.sees(ns)) {
        return Err(Denied::Namespace);
    }
    match request.verb {
        Some(verb) if !grant.verbs.has(verb) => return Err(Denied::Verb(verb)),
        _ => {}
    }
    match request.on {
        On::Store | On::Anything | On::Tables(_) => Ok(()),
        On::Namespace(_) if grant.is_narrowed() => Err(Denied::NarrowedInNamespace),
        On::Namespace(_) => Ok(()),
        On::Table(ns, table, _) if !grant.sees_table(ns, table) => Err(Denied::Table),
        On::Table(_, _, keys) => match keys {
            Keys::Whole if grant.prefix.is_some() => Err(Denied::NarrowedInTable),
            Keys::Whole | Keys::Later => Ok(()),
            Keys::One(key) => grant.key(key),
            Keys::Range(range) => grant.range(range),
        },
    }
}

impl Grant {
    /// Whether it has anything to do with a namespace.
    pub fn sees(&self, ns: &str) -> bool {
        self.home.namespace().is_none_or(|own| own.as_str() == ns)
    }

    /// Whether it has anything to do with a table.
    pub fn sees_table(&self, ns: &str, table: &str) -> bool {
        self.sees(ns)
            && self.tables.as_ref().is_none_or(|tables| tables.iter().any(|own| own.as_str() == table))
    }

    /// Whether it is of less than its whole home.
    pub fn is_narrowed(&self) -> bool {
        self.tables.is_some() || self.prefix.is_some()
    }

    /// Whether it reaches a key of a table that it sees.
    ///
    /// # Errors
    /// [`Denied::Key`].
    pub fn key(&self, key: &[u8]) -> Result<(), Denied> {
        match &self.prefix {
            Some(prefix) if !key.starts_with(prefix) => Err(Denied::Key),
            _ => Ok(()),
        }
    }

    /// Whether rows may be taken from outside of all tables. What lies there has no owner but its name: a namespace's begins
    /// with the namespace's, and whoever may ask for the whole store may name anything.
    ///
    /// # Errors
    /// [`Denied::Outside`].
    pub fn outside(&self, from: Outside<'_>) -> Result<(), Denied> {
        let Some(ns) = self.home.namespace() else { return Ok(()) };
        let is_own = match from {
            // Slashes around a path say nothing, and dots within it are refused where it is opened.
            Outside::Place(url) => url
                .strip_prefix("store:")
                .is_some_and(|path| path.trim_matches('/').split('/').next() == Some(ns.as_str())),
            Outside::Topic(name) => name.strip_prefix(ns.as_str()).is_some_and(|rest| rest.starts_with('.')),
        };
        if is_own { Ok(()) } else { Err(Denied::Outside(ns.clone())) }
    }

    /// Whether it reaches every key of a range. One that holds no key is within.
    ///
    /// # Errors
    /// [`Denied::Range`].
    pub fn range(&self, range: &KeyRange) -> Result<(), Denied> {
        let Some(prefix) = &self.prefix else { return Ok(()) };
        if range.is_empty() || *range == range.intersect(&KeyRange::prefix(prefix)) {
            return Ok(());
        }
        Err(Denied::Range)
    }

    /// Whether it allows everything that `other` allows: whoever has this one may give that one away.
    pub fn covers(&self, other: &Self) -> bool {
        let home = match (&self.home, &other.home) {
            (Home::Store, _) => true,
            (own, other) => own == other,
        };
        let tables = match (&self.tables, &other.tables) {
            (None, _) => true,
            (Some(own), Some(others)) => others.iter().all(|table| own.contains(table)),
            (Some(_), None) => false,
        };
        let prefix = match (&self.prefix, &other.prefix) {
            (None, _) => true,
            (Some(own), Some(other)) => other.starts_with(own),
            (Some(_), None) => false,
        };
        home && tables && prefix && self.verbs.covers(other.verbs)
    }
}

#[cfg(test)]
#[path = "grant/tests.rs"]
mod tests;
