//! What the clients were told: the histories that are judged, and the counts that are shown.

use super::check::loads::{Change, Read, State};
use super::check::session::{Known, Step, Tried};
use super::check::versions::{Once, Versioned};
use super::check::{Fate, Span, linear};
use super::http::{Answer, Lost};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

/// Counts of a round or of many.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) operations: u64,
    pub(super) acknowledged: u64,
    pub(super) unknown: u64,
    pub(super) refused: u64,
    /// Eventual reads of known data: asked, failed.
    pub(super) known_reads: u64,
    pub(super) known_failed: u64,
    /// Other reads: asked, failed.
    pub(super) reads: u64,
    pub(super) reads_failed: u64,
    /// Loads committed or reverted.
    pub(super) changes: u64,
    /// Things that were judged: operations of histories, rows, reads.
    pub(super) checks: u64,
    /// Why requests were refused or failed.
    pub(super) codes: BTreeMap<String, u64>,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.acknowledged += other.acknowledged;
        self.unknown += other.unknown;
        self.refused += other.refused;
        self.known_reads += other.known_reads;
        self.known_failed += other.known_failed;
        self.reads += other.reads;
        self.reads_failed += other.reads_failed;
        self.changes += other.changes;
        self.checks += other.checks;
        for (code, count) in &other.codes {
            *self.codes.entry(code.clone()).or_default() += count;
        }
    }
}

/// What is recorded, in one place.
#[derive(Default)]
pub(super) struct Records {
    /// Operations on registers, by key.
    pub(super) registers: BTreeMap<String, Vec<linear::Op>>,
    /// What each register held at the end of the last round.
    pub(super) held: BTreeMap<String, linear::Value>,
    /// Steps of clients with tokens.
    pub(super) sessions: BTreeMap<usize, Vec<Step>>,
    pub(super) known: BTreeMap<usize, Known>,
    pub(super) tried: Tried,
    pub(super) versioned: BTreeMap<String, Vec<Versioned>>,
    pub(super) once: BTreeMap<String, Vec<Once>>,
    /// Keys with versions that were found wrong, and are told once.
    pub(super) spoilt: BTreeSet<String>,
    /// What the table of loads was before the changes, and the changes.
    pub(super) first: State,
    pub(super) changes: Vec<Change>,
    pub(super) load_reads: Vec<Read>,
    pub(super) counts: Counts,
    /// Everything, line by line.
    pub(super) history: Vec<Value>,
    pub(super) wrong: Vec<String>,
}

/// Shared by all clients.
pub(super) struct Recorder {
    began: Instant,
    records: Mutex<Records>,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), records: Mutex::default() }
    }

    /// Microseconds of the one clock.
    pub(super) fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn span(&self, begun: u64) -> Span {
        Span { begun, ended: self.now() }
    }
}

/// Microseconds since the epoch.
pub(super) fn wall() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as i64
}

/// What an answer to a write of one row says, and in a word why.
pub(super) fn fate(answer: &Result<Answer, Lost>) -> (Fate, String) {
    match answer {
        Ok(answer) if answer.is_ok() => (Fate::Done, String::new()),
        Ok(answer) if answer.is_refusal() => (Fate::Not, answer.code()),
        Ok(answer) => (Fate::Unknown, word(answer)),
        Err(Lost::NotSent(_)) => (Fate::Not, "not-sent".to_owned()),
        Err(Lost::Unknown(_)) => (Fate::Unknown, "answer-lost".to_owned()),
    }
}

/// In a word, what an answer that is no success says.
pub(super) fn word(answer: &Answer) -> String {
    match answer.code() {
        code if code.is_empty() => format!("http-{}", answer.status),
        code => code,
    }
}

impl Records {
    pub(super) fn note(&mut self, client: &str, what: &str, key: &str, told: Value, span: Span) {
        self.history.push(json!({
            "client": client, "op": what, "key": key, "begun": span.begun, "ended": span.ended, "told": told,
        }));
    }

    pub(super) fn wrote(&mut self, fate: Fate, why: &str) {
        self.counts.operations += 1;
        match fate {
            Fate::Done => self.counts.acknowledged += 1,
            Fate::Not => self.counts.refused += 1,
            Fate::Unknown => self.counts.unknown += 1,
        }
        if !why.is_empty() {
            *self.counts.codes.entry(format!("write {why}")).or_default() += 1;
        }
    }

    /// A read of anything but known data at any freshness; `why` it failed.
    pub(super) fn read(&mut self, why: Option<&str>) {
        self.counts.operations += 1;
        self.counts.reads += 1;
        if let Some(why) = why {
            self.counts.reads_failed += 1;
            *self.counts.codes.entry(format!("read {why}")).or_default() += 1;
        }
    }

    pub(super) fn known_read(&mut self, why: Option<&str>) {
        self.counts.operations += 1;
        self.counts.known_reads += 1;
        if let Some(why) = why {
            self.counts.known_failed += 1;
            *self.counts.codes.entry(format!("known read {why}")).or_default() += 1;
        }
    }

    pub(super) fn complain(&mut self, what: String) {
        self.wrong.push(what);
    }
}
