//! The end of a round: everything is read once more, as it is now, and every history is judged.

use super::check::linear::{self, Op, Verdict, What};
use super::check::versions::Listed;
use super::check::{Fate, loads, session, versions};
use super::clients::{SESSIONS, Shared, TABLES, batch_get, registers, round_keys, row};
use super::http::Http;
use super::random::Random;
use super::record::Records;
use crate::Outcome;
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

/// After this long without a fault everything must be answered.
const RECOVERY: Duration = Duration::from_secs(60);
/// A write nobody knows of is certainly over after this long: it is past its deadline, the producer's time-out and the
/// longest pause of a dispatcher. One that comes to be later is found as a value that nobody wrote.
const OVER_MICROS: u64 = 300_000_000;
/// Changes of the table of loads that a read in the next round may still not have heard of.
const REMEMBERED: usize = 6;

/// Asks until it is answered, for as long as a recovery may take.
fn insist<T>(mut ask: impl FnMut() -> Result<T, String>) -> Outcome<T> {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(told) => return Ok(told),
            Err(why) if begun.elapsed() > RECOVERY => return Err(why),
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

impl Shared<'_> {
    /// Reads everything strongly, and judges the round. Clients have ended, faults are over. Answers how long it took
    /// until all was answered.
    pub(super) fn judge(&self, random: &mut Random) -> Duration {
        let begun = Instant::now();
        let mut http = Http::new(self.api, Duration::from_secs(20));
        let all = registers();
        for keys in all.chunks(16) {
            if let Err(why) = insist(|| self.read_strong("end", &mut http, keys)) {
                self.recorder.lock().complain(format!("strong reads do not come back: {why}"));
                return begun.elapsed();
            }
        }
        for _ in 0..2 {
            if let Err(why) = insist(|| self.read_loads_once("end", &mut http, random, true)) {
                self.recorder.lock().complain(format!("the table of loads does not come back: {why}"));
            }
        }
        self.end_sessions(&mut http);
        let took = begun.elapsed();
        let mut listed = BTreeMap::new();
        for round in [self.round.checked_sub(1), Some(self.round)].into_iter().flatten() {
            let tables = [("versioned", round_keys(round, 'v')), ("once", round_keys(round, 'o'))];
            for (table, key) in
                tables.iter().flat_map(|(table, keys)| keys.iter().map(move |key| (*table, key)))
            {
                match insist(|| list(&mut http, table, key)) {
                    Ok(found) => drop(listed.insert((table, key.clone()), found)),
                    Err(why) => self.recorder.lock().complain(format!("{key}: its versions: {why}")),
                }
            }
        }
        self.settle(&listed);
        took
    }

    /// All clients with tokens see at the end what is there: by strong reads, which no token holds back.
    fn end_sessions(&self, http: &mut Http) {
        let keys: Vec<String> = (0..SESSIONS as u64 * 2).map(super::clients::session_key).collect();
        let found = insist(|| batch_get(http, "sessions", "strong", &keys, &[]));
        let mut records = self.recorder.lock();
        match found {
            Err(why) => records.complain(format!("the table of sessions does not come back: {why}")),
            Ok(values) => {
                for (key, value) in (0u64..).zip(values) {
                    let number = value.map_or(0, |text| text.parse().unwrap_or(u64::MAX));
                    for client in 0..SESSIONS {
                        records.sessions.entry(client).or_default().push(session::Step::Saw { key, number });
                    }
                }
            }
        }
    }

    fn settle(&self, listed: &BTreeMap<(&str, String), Vec<Listed>>) {
        let mut held = self.recorder.lock();
        let records = &mut *held;
        let mut wrong = judge_registers(records, self.recorder.now());
        wrong.extend(judge_sessions(records));
        for ((table, key), found) in listed {
            if records.spoilt.contains(key) {
                continue;
            }
            let said = match *table {
                "versioned" => {
                    let writes = records.versioned.get(key).map(Vec::as_slice).unwrap_or_default();
                    records.counts.checks += writes.len() as u64;
                    versions::versioned(writes, found)
                }
                _ => {
                    let writes = records.once.get(key).map(Vec::as_slice).unwrap_or_default();
                    records.counts.checks += writes.len() as u64;
                    versions::once(writes, found)
                }
            };
            if !said.is_empty() {
                records.spoilt.insert(key.clone());
            }
            wrong.extend(said.into_iter().map(|what| format!("{table} {key}: {what}")));
        }
        records.counts.checks += records.load_reads.len() as u64;
        wrong.extend(loads::check(records.first, &records.changes, &records.load_reads));
        records.load_reads.clear();
        records.changes.retain(|change| change.fate != Fate::Not);
        let forgotten = records.changes.len().saturating_sub(REMEMBERED);
        if let Some(last) = records.changes.drain(..forgotten).next_back() {
            records.first = last.to;
        }
        // What is two rounds old was judged twice.
        if let Some(old) = self.round.checked_sub(1) {
            for key in round_keys(old, 'v').iter().chain(&round_keys(old, 'o')) {
                records.versioned.remove(key);
                records.once.remove(key);
            }
        }
        records.wrong.extend(wrong);
    }
}

fn judge_registers(records: &mut Records, now: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    for (key, ops) in &mut records.registers {
        records.counts.checks += ops.len() as u64;
        let first = records.held.get(key).copied().flatten();
        match linear::check(first, ops) {
            Verdict::Linearizable => {}
            Verdict::TooLong => wrong.push(format!("register {key}: too much at once to be judged")),
            Verdict::Not { explained, next } => wrong.push(format!(
                "register {key}: not linearizable: from {first:?} on {explained} of {} operations have an order, and none \
                 of these can follow: {next:?}",
                ops.len()
            )),
        }
        // The last read of all stands alone: what it found is what there is. Writes that nobody knows of may come yet,
        // unless they were seen, and so are over.
        let last = ops.iter().rev().find_map(|op| match op.what {
            What::Read(value) => Some(value),
            What::Write(..) => None,
        });
        records.held.insert(key.clone(), last.flatten());
        let seen: Vec<Option<u64>> = ops
            .iter()
            .filter_map(|op| match op.what {
                What::Read(value) => Some(value),
                What::Write(..) => None,
            })
            .collect();
        let may_come = |op: &Op| match op.what {
            What::Write(value, Fate::Unknown) => {
                (value.is_none() || !seen.contains(&value)) && now.saturating_sub(op.span.begun) < OVER_MICROS
            }
            _ => false,
        };
        ops.retain(may_come);
    }
    wrong
}

fn judge_sessions(records: &mut Records) -> Vec<String> {
    let mut wrong = Vec::new();
    for (client, steps) in std::mem::take(&mut records.sessions) {
        records.counts.checks += steps.len() as u64;
        let known = records.known.entry(client).or_default();
        let said = session::check(known, &records.tried, &steps);
        wrong.extend(said.into_iter().map(|what| format!("session {client}: {what}")));
    }
    wrong
}

/// All versions of a key, newest first.
fn list(http: &mut Http, table: &str, key: &str) -> Result<Vec<Listed>, String> {
    let path = format!("{}/versions?consistency=strong&limit=10000", row(table, key));
    let answer = http.get(&path).map_err(|_| "answer-lost".to_owned())?;
    if answer.status != 200 {
        return Err(super::record::word(&answer));
    }
    let told = answer.json();
    if !told["next_page_token"].is_null() {
        return Err(format!("{TABLES}/{table}: more versions than a page holds"));
    }
    let number = |value: &serde_json::Value| {
        value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
    };
    told["rows"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            let version = number(&row["version"]).ok_or("a row without a version")?;
            Ok((version, row["value"].as_str().unwrap_or_default().to_owned()))
        })
        .collect()
}
