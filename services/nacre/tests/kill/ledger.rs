//! What was asked of a table, what was answered, and what the model says that must be there.
//!
//! Every write has a value of its own, so that what is read names the write it came from. A write whose answer was lost
//! may have happened or not; once its process is dead it did or did not for ever, and [`crate::check`] finds out which.

use nacre_model::{Found, LoadMode, LoadRow, Model, Position, Read, Settings};
use std::collections::BTreeMap;
use std::time::Instant;

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Under way.
    Open,
    /// Acknowledged, or found out to have happened.
    Done,
    /// Certainly not: it was refused.
    Not,
    /// The answer was lost.
    Unknown,
    /// The answer was lost, and nothing is left of it: it did not happen, or what came after it hid it for ever. Reads in
    /// between may have seen it.
    Gone,
}

/// A write of one row.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    /// Rises in the order in which writes of one writer begin.
    pub(crate) id: u64,
    /// The first write of the same request: what the log gives a version gets one and the same.
    pub(crate) request: u64,
    /// The writer's version, or the log's once it is known.
    pub(crate) version: Option<i64>,
    /// `None` = a tombstone.
    pub(crate) length: Option<usize>,
    /// Whether it was written expired.
    pub(crate) expired: bool,
    /// If the log gives it a version, that is above this.
    pub(crate) above: i64,
    pub(crate) begun: Instant,
    pub(crate) ended: Option<Instant>,
    pub(crate) fate: Fate,
}

/// Milliseconds since the first look: what complaints tell times by.
pub(crate) fn millis(at: Instant) -> f64 {
    static FIRST: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    at.saturating_duration_since(*FIRST.get_or_init(Instant::now)).as_secs_f64() * 1e3
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, version, length, expired, begun, ended, fate, .. } = self;
        let what = match length {
            None => "delete".to_owned(),
            Some(length) if *expired => format!("expired, {length} bytes"),
            Some(length) => format!("{length} bytes"),
        };
        let ended = ended.map_or(f64::NAN, millis);
        write!(f, "{id}: {what}, version {version:?}, {fate:?}, from {} to {ended}", millis(*begun))
    }
}

/// What a write is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) version: Option<i64>,
    pub(crate) tombstone: bool,
    pub(crate) expired: bool,
}

/// Whether a load can be seen, and by which editions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Not,
    Committed(u64),
    Reverted(u64, u64),
}

/// A load, as it was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) number: u64,
    /// Which of the clients that load does it.
    pub(crate) owner: usize,
    pub(crate) mode: LoadMode,
    pub(crate) version: i64,
    /// Key to version, and whether there is a value.
    pub(crate) rows: BTreeMap<String, (i64, bool)>,
    pub(crate) id: Option<String>,
    pub(crate) shown: Shown,
    /// That it be committed or prepared was taken on: it is open no more.
    pub(crate) is_pinned: bool,
    /// It was told to have failed, or to be cancelled: nothing of it is ever seen.
    pub(crate) is_vain: bool,
    /// It cannot come to anything: its rows contradict each other.
    pub(crate) is_bad: bool,
    /// Whether its end is known.
    pub(crate) is_over: bool,
}

/// A read that was answered.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) key: String,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    pub(crate) edition: u64,
    /// An edition that was told of before it began.
    pub(crate) least_edition: u64,
    pub(crate) found: Option<(i64, String)>,
    pub(crate) how: &'static str,
}

/// One table.
#[derive(Clone)]
pub(crate) struct Ledger {
    pub(crate) settings: Settings,
    pub(crate) keys: BTreeMap<String, Vec<Op>>,
    pub(crate) loads: Vec<Load>,
    pub(crate) seen: Vec<Seen>,
    /// The newest edition that anybody was told of.
    pub(crate) edition: u64,
    pub(crate) acknowledged: u64,
    /// Reads that were held against the model, and those beside which too much was under way for that.
    pub(crate) judged: u64,
    pub(crate) unjudged: u64,
    next: u64,
    /// The last version that the log is known to have given.
    clock: i64,
}

/// The value of a write: its number, and letters up to its length.
pub(crate) fn value(id: u64, length: usize) -> String {
    let mut text = format!("{id:010}:");
    let mut state = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    while text.len() < length {
        state = state.rotate_left(7).wrapping_mul(0x94D0_49BB_1331_11EB).wrapping_add(id);
        text.push(char::from(b'a' + (state >> 40) as u8 % 26));
    }
    text
}

/// The value of a row of a load; its order is not that of keys.
pub(crate) fn load_value(load: u64, key: &str) -> String {
    let hash = key
        .bytes()
        .fold(load ^ 0xCBF2_9CE4, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    format!("L{:08x}:{load}:{key}:{}", hash as u32, "x".repeat((hash >> 32) as usize % 60))
}

impl Ledger {
    pub(crate) fn new(max_versions: u32) -> Self {
        millis(Instant::now());
        Self {
            settings: Settings { max_versions, ttl: None },
            keys: BTreeMap::new(),
            loads: Vec::new(),
            seen: Vec::new(),
            edition: 0,
            acknowledged: 0,
            judged: 0,
            unjudged: 0,
            next: 1,
            clock: i64::MIN,
        }
    }

    /// A write begins, of a request of its own or with others that began before. Answers its number and value.
    pub(crate) fn begin(&mut self, key: &str, wish: Wish, request: Option<u64>) -> (u64, Option<String>) {
        let id = self.next;
        self.next += 1;
        // Lengths tell apart what can be told apart by nothing else: writes whose answers were lost.
        let length = (!wish.tombstone).then_some(40 + (id % 797) as usize);
        let op = Op {
            id,
            request: request.unwrap_or(id),
            version: wish.version,
            length,
            expired: wish.expired,
            above: self.clock,
            begun: Instant::now(),
            ended: None,
            fate: Fate::Open,
        };
        self.keys.entry(key.to_owned()).or_default().push(op);
        (id, length.map(|length| value(id, length)))
    }

    /// A write was answered, or never will be.
    pub(crate) fn end(&mut self, key: &str, id: u64, fate: Fate, version: Option<i64>) {
        let op = self.keys.get_mut(key).unwrap().iter_mut().rev().find(|op| op.id == id).unwrap();
        op.ended = Some(Instant::now());
        op.fate = fate;
        if let Some(version) = version {
            assert!(
                op.version.is_none_or(|asked| asked == version),
                "{key}: {op:?} was given version {version}"
            );
            if op.version.is_none() {
                self.clock = self.clock.max(version);
            }
            op.version = Some(version);
        }
        if fate == Fate::Done {
            assert!(op.version.is_some(), "{key}: {op:?} was acknowledged without a version");
            self.acknowledged += 1;
        }
    }

    /// The model of one key, with the writes that `counts` gives a version.
    pub(crate) fn model(&self, key: &str, counts: impl Fn(&Op) -> Option<i64>) -> Model {
        let mut model = Model::new(self.settings);
        for load in &self.loads {
            let (commit, revert) = match load.shown {
                Shown::Not => continue,
                Shown::Committed(commit) => (commit, None),
                Shown::Reverted(commit, revert) => (commit, Some(revert)),
            };
            let rows = load.rows.get(key).map(|(version, has_value)| LoadRow {
                key: key.as_bytes().to_vec(),
                version: Some(*version),
                value: has_value.then(|| load_value(load.number, key).into_bytes()),
                expires_at: None,
            });
            model.prepare(load.number, load.mode, load.version, rows);
            model.commit(load.number, commit);
            if let Some(revert) = revert {
                model.revert(load.number, revert);
            }
        }
        for op in self.keys.get(key).into_iter().flatten() {
            let Some(version) = counts(op) else { continue };
            let position = Position { generation: 0, offset: op.id, index: 0 };
            match op.length {
                Some(length) => {
                    let expires_at = op.expired.then_some(1);
                    model.put(key.as_bytes(), version, position, value(op.id, length).as_bytes(), expires_at);
                }
                None => model.delete(key.as_bytes(), version, position),
            }
        }
        model
    }

    /// The visible versions of a key at an edition, when no write is under way.
    pub(crate) fn versions(&self, key: &str, edition: u64) -> Vec<(i64, String)> {
        let model = self.model(key, |op| op.version.filter(|_| op.fate == Fate::Done));
        shown(model.versions(key.as_bytes(), i64::MIN, i64::MAX, usize::MAX, &at(edition)))
    }

    /// Forgets what can never be seen again: below a tombstone, or beyond the versions that a table keeps. A floor
    /// hides from below, and so does the end of a floor show: neither brings these back.
    pub(crate) fn prune(&mut self) {
        let most = self.settings.max_versions as usize;
        for ops in self.keys.values_mut() {
            ops.retain(|op| op.fate == Fate::Done);
            ops.sort_by_key(|op| std::cmp::Reverse((op.version, op.id)));
            let mut versions: Vec<Option<i64>> = Vec::new();
            let mut ended = false;
            ops.retain(|op| {
                if ended {
                    return false;
                }
                if versions.last() != Some(&op.version) {
                    if most != 0 && versions.len() == most {
                        ended = true;
                        return false;
                    }
                    versions.push(op.version);
                }
                ended = op.length.is_none() || op.expired;
                true
            });
            ops.sort_by_key(|op| op.id);
        }
        self.seen.clear();
    }
}

/// How the model is read.
pub(crate) fn at(edition: u64) -> Read {
    Read { now: 1_000_000, as_of: i64::MAX, edition: Some(edition), preview: None }
}

/// What is found, as text.
pub(crate) fn shown(found: impl IntoIterator<Item = Found>) -> Vec<(i64, String)> {
    found.into_iter().map(|found| (found.version, String::from_utf8(found.value).unwrap())).collect()
}
