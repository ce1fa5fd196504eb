//! The clients of a round. Each knows one thread, one connection through the balancer, and what it was told.

use super::check::session::Step;
use super::check::versions::{Once, Versioned};
use super::check::{Fate, linear};
use super::http::{Answer, Http, Lost};
use super::random::Random;
use super::record::{Recorder, fate, wall, word};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

pub(super) const TABLES: &str = "/v1/namespaces/default/tables";
pub(super) const SHARDS: u64 = 16;
const REGISTERS: u64 = 64;
/// Keys of a round in the tables that keep all versions.
const ROUND_KEYS: u64 = 12;
pub(super) const LOADED_KEYS: u64 = 320;
/// Clients with tokens; each writes two keys of its own.
pub(super) const SESSIONS: usize = 4;
/// How long a server may take, and how long a client waits.
const DEADLINE_MS: &str = "6000";
const TIMEOUT: Duration = Duration::from_secs(20);
/// So many tokens are carried; past them the client forgets that it wrote, as a client library does with a strong read.
const MOST_TOKENS: usize = 32;

/// What all clients of a round share.
pub(super) struct Shared<'a> {
    pub(super) api: u16,
    pub(super) round: u64,
    pub(super) recorder: &'a Recorder,
    /// Clients end.
    pub(super) stop: &'a AtomicBool,
    /// Gives numbers to values.
    pub(super) next: &'a AtomicU64,
}

pub(super) fn register(number: u64) -> String {
    format!("{:02}-r{}", number % SHARDS, number / SHARDS)
}

pub(super) fn registers() -> Vec<String> {
    (0..REGISTERS).map(register).collect()
}

/// Keys of a round, spread over the shards.
pub(super) fn round_keys(round: u64, mark: char) -> Vec<String> {
    (0..ROUND_KEYS).map(|n| format!("{:02}-{mark}{round:04}-{n:02}", (n * 5 + round) % SHARDS)).collect()
}

pub(super) fn loaded_key(number: u64) -> String {
    format!("{:02}-l{number:04}", number * SHARDS / LOADED_KEYS)
}

pub(super) fn session_key(key: u64) -> String {
    format!("{:02}-s{key}", key * 2 % SHARDS)
}

pub(super) fn row(table: &str, key: &str) -> String {
    format!("{TABLES}/{table}/rows/{key}")
}

/// The number of a register's value.
pub(super) fn number_of(value: &str) -> Option<u64> {
    value.strip_prefix('w')?.parse().ok()
}

type Reply = Result<Answer, Lost>;

impl Shared<'_> {
    fn http(&self) -> Http {
        Http::new(self.api, TIMEOUT)
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes registers without versions, one by one or some at once.
    pub(super) fn write_registers(&self, name: &str, mut random: Random) {
        let mut http = self.http();
        while !self.is_over() {
            if random.below(5) == 0 {
                self.write_some(name, &mut http, &mut random);
            } else {
                self.write_one(name, &mut http, &mut random);
            }
            thread::sleep(Duration::from_millis(random.below(40)));
        }
    }

    fn write_one(&self, name: &str, http: &mut Http, random: &mut Random) {
        let key = register(random.below(REGISTERS));
        let value = (random.below(12) != 0).then(|| self.number());
        let headers = [("nacre-deadline-ms", DEADLINE_MS)];
        let begun = self.recorder.now();
        let path = row("registers", &key);
        let answer = match value {
            Some(value) => http.call("PUT", &path, &headers, format!("w{value}").as_bytes()),
            None => http.call("DELETE", &path, &headers, &[]),
        };
        let (fate, why) = fate(&answer);
        self.wrote_register(name, &key, value, (begun, fate, &why));
    }

    fn wrote_register(&self, name: &str, key: &str, value: linear::Value, told: (u64, Fate, &str)) {
        let (begun, fate, why) = told;
        let mut records = self.recorder.lock();
        let span = self.recorder.span(begun);
        records.wrote(fate, why);
        let op = linear::Op { span, what: linear::What::Write(value, fate) };
        records.registers.entry(key.to_owned()).or_default().push(op);
        records.note(name, "write", key, json!([value, format!("{fate:?} {why}")]), span);
    }

    fn write_some(&self, name: &str, http: &mut Http, random: &mut Random) {
        let first = random.below(REGISTERS);
        let keys: Vec<String> = (0..4).map(|n| register((first + n * 13) % REGISTERS)).collect();
        let values: Vec<u64> = keys.iter().map(|_| self.number()).collect();
        let rows =
            keys.iter().zip(&values).map(|(key, value)| (key.as_str(), None, Some(format!("w{value}"))));
        let rows: Vec<_> = rows.collect();
        let begun = self.recorder.now();
        let fates = if random.below(2) == 0 {
            batch_json(http, "registers", &rows)
        } else {
            batch_binary(http, "registers", &rows)
        };
        for ((key, value), (fate, why)) in keys.iter().zip(values).zip(fates) {
            self.wrote_register(name, key, Some(value), (begun, fate, &why));
        }
    }

    /// Reads registers as they are.
    pub(super) fn read_registers(&self, name: &str, mut random: Random) {
        let mut http = self.http();
        while !self.is_over() {
            let first = random.below(REGISTERS);
            let many = if random.below(4) == 0 { 5 } else { 1 };
            let keys: Vec<String> = (0..many).map(|n| register((first + n * 7) % REGISTERS)).collect();
            if let Err(why) = self.read_strong(name, &mut http, &keys) {
                self.recorder.lock().read(Some(&why));
            }
            thread::sleep(Duration::from_millis(random.below(40)));
        }
    }

    /// One strong read of registers; why it failed.
    pub(super) fn read_strong(&self, name: &str, http: &mut Http, keys: &[String]) -> Result<(), String> {
        let headers = [("nacre-deadline-ms", DEADLINE_MS)];
        let begun = self.recorder.now();
        let found = match keys {
            [key] => {
                let path = format!("{}?consistency=strong", row("registers", key));
                found_one(http.call("GET", &path, &headers, &[])).map(|value| vec![value])
            }
            keys => batch_get(http, "registers", "strong", keys, &headers),
        }?;
        let mut records = self.recorder.lock();
        let span = self.recorder.span(begun);
        records.read(None);
        for (key, value) in keys.iter().zip(found) {
            // What no client writes is a number that nobody wrote.
            let value = value.map(|text| number_of(&text).unwrap_or(u64::MAX));
            let op = linear::Op { span, what: linear::What::Read(value) };
            records.registers.entry(key.clone()).or_default().push(op);
            records.note(name, "read", key, json!(value), span);
        }
        Ok(())
    }

    /// Writes rising numbers to two keys of its own, and reads them and those of others with all tokens it was given.
    pub(super) fn keep_a_session(&self, client: usize, mut random: Random) {
        let (mut http, name) = (self.http(), format!("session-{client}"));
        let mut tokens: Vec<String> = Vec::new();
        while !self.is_over() {
            if random.below(3) == 0 {
                let key = client as u64 * 2 + random.below(2);
                self.session_write(&name, client, key, &mut http, &mut tokens);
            } else {
                let key = random.below(SESSIONS as u64 * 2);
                self.session_read(&name, client, key, &mut http, &mut tokens);
            }
            thread::sleep(Duration::from_millis(random.below(40)));
        }
    }

    fn session_write(&self, name: &str, client: usize, key: u64, http: &mut Http, tokens: &mut Vec<String>) {
        let number = {
            let mut records = self.recorder.lock();
            let tried = records.tried.entry(key).or_default();
            *tried += 1;
            *tried
        };
        let path = format!("{}?version={number}", row("sessions", &session_key(key)));
        let begun = self.recorder.now();
        let answer =
            http.call("PUT", &path, &[("nacre-deadline-ms", DEADLINE_MS)], number.to_string().as_bytes());
        let (fate, why) = fate(&answer);
        if let Some(token) = answer.ok().as_ref().and_then(|answer| answer.header("nacre-token")) {
            tokens.push(token.to_owned());
        }
        let mut records = self.recorder.lock();
        let span = self.recorder.span(begun);
        records.wrote(fate, &why);
        records.sessions.entry(client).or_default().push(Step::Wrote { key, number, fate });
        records.note(name, "write", &session_key(key), json!([number, format!("{fate:?} {why}")]), span);
    }

    fn session_read(&self, name: &str, client: usize, key: u64, http: &mut Http, tokens: &mut Vec<String>) {
        let strong = tokens.len() > MOST_TOKENS;
        let consistency = if strong { "strong" } else { "session" };
        let path = format!("{}?consistency={consistency}", row("sessions", &session_key(key)));
        let joined = tokens.join(",");
        let mut headers = vec![("nacre-deadline-ms", DEADLINE_MS)];
        if !strong && !joined.is_empty() {
            headers.push(("nacre-token", &joined));
        }
        let begun = self.recorder.now();
        let answer = http.call("GET", &path, &headers, &[]);
        // What the answer reached, it reached with all that was sent.
        let token = answer.as_ref().ok().and_then(|answer| answer.header("nacre-token")).map(str::to_owned);
        let number = match found_one(answer) {
            Ok(None) => 0,
            Ok(Some(text)) => text.parse().unwrap_or(u64::MAX),
            Err(why) => return self.recorder.lock().read(Some(&why)),
        };
        if let Some(token) = token {
            *tokens = vec![token];
        }
        let mut records = self.recorder.lock();
        let span = self.recorder.span(begun);
        records.read(None);
        records.sessions.entry(client).or_default().push(Step::Saw { key, number });
        records.note(name, consistency, &session_key(key), json!(number), span);
    }

    /// Writes rows with versions of its own, now and then a delete; one whose outcome is unknown may be repeated.
    pub(super) fn write_versions(&self, name: &str, mut random: Random) {
        let (mut http, keys) = (self.http(), round_keys(self.round, 'v'));
        while !self.is_over() {
            let Some(key) = random.pick(&keys) else { return };
            let version = (random.below(1_000) * 10_000_000 + self.number()) as i64;
            let value = (random.below(15) != 0).then(|| format!("v{version}"));
            let rows = [(key.as_str(), Some(version), value.clone())];
            let begun = self.recorder.now();
            let (mut fate, mut why) = batch_json(&mut http, "versioned", &rows).swap_remove(0);
            if fate == Fate::Unknown && !self.is_over() {
                thread::sleep(Duration::from_millis(100));
                let (again, reason) = batch_json(&mut http, "versioned", &rows).swap_remove(0);
                // What was refused the second time may have been taken the first.
                (fate, why) = (if again == Fate::Done { again } else { Fate::Unknown }, reason);
            }
            let mut records = self.recorder.lock();
            let span = self.recorder.span(begun);
            records.wrote(fate, &why);
            let told = json!([version, value, format!("{fate:?} {why}")]);
            records.note(name, "write", key, told, span);
            records.versioned.entry(key.clone()).or_default().push(Versioned { version, value, fate });
            drop(records);
            thread::sleep(Duration::from_millis(random.below(60)));
        }
    }

    /// Writes rows with idempotency keys, and repeats what nobody knows of.
    pub(super) fn write_once(&self, name: &str, mut random: Random) {
        let (mut http, keys) = (self.http(), round_keys(self.round, 'o'));
        while !self.is_over() {
            let Some(key) = random.pick(&keys) else { return };
            let value = format!("o{}", self.number());
            let (begun, first) = (self.recorder.now(), wall().to_string());
            let path = row("once", key);
            let headers = [("nacre-deadline-ms", DEADLINE_MS), ("idempotency-key", value.as_str())];
            let mut answer = http.call("PUT", &path, &headers, value.as_bytes());
            let mut known = fate(&answer);
            let mut attempts = 1;
            while known.0 == Fate::Unknown && attempts < 3 && !self.is_over() {
                attempts += 1;
                let headers = [
                    ("nacre-deadline-ms", "15000"),
                    ("idempotency-key", value.as_str()),
                    ("nacre-first-attempt", first.as_str()),
                ];
                answer = http.call("PUT", &path, &headers, value.as_bytes());
                known = fate(&answer);
                if known.0 == Fate::Not {
                    known.0 = Fate::Unknown;
                }
            }
            let (fate, why) = known;
            let version = answer
                .ok()
                .and_then(|answer| answer.header("nacre-version")?.parse().ok())
                .filter(|_| fate == Fate::Done);
            let mut records = self.recorder.lock();
            let span = self.recorder.span(begun);
            records.wrote(fate, &why);
            let told = json!([value, version, attempts, format!("{fate:?} {why}")]);
            records.note(name, "once", key, told, span);
            records.once.entry(key.clone()).or_default().push(Once { span, value, version, fate });
            drop(records);
            thread::sleep(Duration::from_millis(random.below(60)));
        }
    }

    /// Reads data that is known to be there, as fresh as the node has it: this must go on.
    pub(super) fn read_known(&self, name: &str, mut random: Random) {
        let mut http = self.http();
        while !self.is_over() {
            let key = loaded_key(random.below(LOADED_KEYS));
            let begun = self.recorder.now();
            let path = row("loaded", &key);
            let found = found_one(http.call("GET", &path, &[("nacre-deadline-ms", "3000")], &[]));
            let mut records = self.recorder.lock();
            let span = self.recorder.span(begun);
            match found {
                Ok(Some(_)) => records.known_read(None),
                Ok(None) => {
                    records.known_read(None);
                    records.complain(format!("{key} of the table of loads is absent"));
                    records.note(name, "read", &key, Value::Null, span);
                }
                Err(why) => {
                    records.known_read(Some(&why));
                    records.note(name, "read failed", &key, json!(why), span);
                }
            }
            drop(records);
            thread::sleep(Duration::from_millis(random.below(30)));
        }
    }
}

/// The value of an answer to a get, as text; why there is no answer.
pub(super) fn found_one(answer: Reply) -> Result<Option<String>, String> {
    match answer {
        Ok(answer) if answer.status == 200 => Ok(Some(answer.text())),
        Ok(answer) if answer.header("nacre-absent").is_some() => Ok(None),
        Ok(answer) => Err(word(&answer)),
        Err(_) => Err("answer-lost".to_owned()),
    }
}

/// Values by keys, of one request.
pub(super) fn batch_get(
    http: &mut Http,
    table: &str,
    consistency: &str,
    keys: &[String],
    headers: &[(&str, &str)],
) -> Result<Vec<Option<String>>, String> {
    let path = format!("{TABLES}/{table}/rows:batchGet?consistency={consistency}");
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    let answer = http.call("POST", &path, &all, json!({ "keys": keys }).to_string().as_bytes());
    let answer = answer.map_err(|_| "answer-lost".to_owned())?;
    if answer.status != 200 {
        return Err(word(&answer));
    }
    let told = answer.json();
    let rows = told["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.len() != keys.len() {
        return Err("rows-missing".to_owned());
    }
    rows.iter()
        .map(|row| match row["status"].as_str() {
            Some("found") => Ok(row["value"].as_str().map(str::to_owned)),
            Some("absent") => Ok(None),
            other => Err(other.unwrap_or("no-status").to_owned()),
        })
        .collect()
}

/// Rows to write: key, version, value.
type Rows<'a> = [(&'a str, Option<i64>, Option<String>)];

/// What became of each row of a JSON batch.
fn batch_json(http: &mut Http, table: &str, rows: &Rows<'_>) -> Vec<(Fate, String)> {
    let all: Vec<Value> = rows
        .iter()
        .map(|(key, version, value)| {
            let mut one = json!({ "key": key });
            match value {
                Some(value) => one["value"] = json!(value),
                None => one["delete"] = json!(true),
            }
            if let Some(version) = version {
                one["version"] = json!(version);
            }
            one
        })
        .collect();
    let headers = [("content-type", "application/json"), ("nacre-deadline-ms", DEADLINE_MS)];
    let body = json!({ "rows": all }).to_string();
    let answer = http.call("POST", &format!("{TABLES}/{table}/rows:batchWrite"), &headers, body.as_bytes());
    let told = match &answer {
        Ok(answer) if answer.is_ok() => answer.json(),
        _ => return vec![fate(&answer); rows.len()],
    };
    let known = |at: usize| match told["rows"][at]["status"].as_str() {
        Some("ok") => (Fate::Done, String::new()),
        Some("unknown") => (Fate::Unknown, "row-unknown".to_owned()),
        Some(refused) => (Fate::Not, format!("row-{refused}")),
        None => (Fate::Unknown, "row-missing".to_owned()),
    };
    (0..rows.len()).map(known).collect()
}

/// Likewise of a binary one.
fn batch_binary(http: &mut Http, table: &str, rows: &Rows<'_>) -> Vec<(Fate, String)> {
    let mut body = b"nbf\x01\x03\x00".to_vec();
    body.extend_from_slice(&(rows.len() as u32).to_le_bytes());
    for (key, version, value) in rows {
        body.push(u8::from(version.is_some()) | if value.is_none() { 4 } else { 0 });
        body.extend_from_slice(&(key.len() as u16).to_le_bytes());
        body.extend_from_slice(key.as_bytes());
        if let Some(version) = version {
            body.extend_from_slice(&version.to_le_bytes());
        }
        if let Some(value) = value {
            body.extend_from_slice(&(value.len() as u32).to_le_bytes());
            body.extend_from_slice(value.as_bytes());
        }
    }
    let headers = [("content-type", "application/vnd.nacre.batch"), ("nacre-deadline-ms", DEADLINE_MS)];
    let answer = http.call("POST", &format!("{TABLES}/{table}/rows:batchWrite"), &headers, &body);
    let told = match &answer {
        Ok(answer) if answer.is_ok() => answer.body.clone(),
        _ => return vec![fate(&answer); rows.len()],
    };
    statuses(&told, rows.len()).unwrap_or_else(|| vec![(Fate::Unknown, "row-missing".to_owned()); rows.len()])
}

/// The outcomes of a binary answer; `None` where it is damaged.
fn statuses(bytes: &[u8], rows: usize) -> Option<Vec<(Fate, String)>> {
    let two = |at: usize| Some(u16::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]) as usize);
    let mut at = 12 + two(10)?;
    let mut all = Vec::new();
    for _ in 0..rows {
        let (status, flags) = (*bytes.get(at)?, *bytes.get(at + 1)?);
        at += 2 + if flags & 1 == 1 { 8 } else { 0 };
        all.push(match status {
            0 => (Fate::Done, String::new()),
            5 => (Fate::Unknown, "row-unknown".to_owned()),
            refused => (Fate::Not, format!("row-{refused}")),
        });
        if status != 0 {
            at += 2 + two(at)?;
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_of_a_binary_answer_are_read() {
        // The example of docs/batch.md.
        let mut bytes = b"nbf\x01\x04\x00\x02\x00\x00\x00\x08\x00v1.token".to_vec();
        bytes.extend_from_slice(b"\x00\x01\x00\x40\x1e\x18\x24\x0a\x06\x00");
        bytes.extend_from_slice(b"\x03\x00\x1b\x00overloaded: the log is full");
        let all = statuses(&bytes, 2).unwrap();
        assert_eq!(all, [(Fate::Done, String::new()), (Fate::Not, "row-3".to_owned())]);
        assert_eq!(statuses(&bytes[..bytes.len() - 40], 2), None);
    }

    #[test]
    fn keys_of_a_round_are_its_own_and_lie_in_many_shards() {
        let keys = round_keys(3, 'v');
        let shards: std::collections::BTreeSet<&str> = keys.iter().map(|key| &key[..2]).collect();
        assert!(shards.len() >= 8, "{shards:?}");
        assert!(round_keys(4, 'v').iter().all(|key| !keys.contains(key)));
        let shards: std::collections::BTreeSet<String> =
            (0..LOADED_KEYS).map(|n| loaded_key(n)[..2].to_owned()).collect();
        assert_eq!(shards.len(), 16);
    }
}
