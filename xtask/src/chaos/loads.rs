//! The client that commits and reverts loads, and those that read the table meanwhile.

use super::check::Fate;
use super::check::loads::{Change, Read, State};
use super::clients::{LOADED_KEYS, Shared, TABLES, batch_get, loaded_key};
use super::http::Http;
use super::random::Random;
use super::record::wall;
use crate::{Outcome, cache, process};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// Files of each kind; a load takes the next one, so that those that follow each other differ.
const FILES: u64 = 40;
/// So many whole reads in a row mean that all nodes show the first load.
const SHOWN: u32 = 30;
/// How long one step of a load may take: longer than the longest outage, after which it must be known what became of it.
const STUCK: Duration = Duration::from_secs(400);

const SCRIPT: &str = r#"
import sys, pyarrow as pa, pyarrow.parquet as pq
folder, files, keys = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")
schema = pa.schema([pa.field("key", pa.binary(), False), pa.field("value", pa.binary())])
for number in range(1, files + 1):
    for kind, step in (("L", 1), ("M", 2)):
        held = sorted(keys[::step])
        value = [f"{kind}{number}".encode()] * len(held)
        table = pa.table([pa.array([k.encode() for k in held], pa.binary()), pa.array(value, pa.binary())], schema)
        pq.write_table(table, f"{folder}/{kind}{number}.parquet", compression="none")
"#;

/// The Parquet files of all loads.
pub(super) fn make_files(folder: &Path) -> Outcome<PathBuf> {
    let folder = folder.join("files");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let keys: Vec<String> = (0..LOADED_KEYS).map(loaded_key).collect();
    let mut python = Command::new(cache::python()?);
    python.args(["-c", SCRIPT]).arg(&folder).args([FILES.to_string(), keys.join(",")]);
    process::output(&mut python)?;
    Ok(folder)
}

/// What the client that changes the table keeps from round to round.
pub(super) struct Loads {
    pub(super) folder: PathBuf,
    /// The last number of a load.
    number: u64,
    pub(super) state: State,
    /// The last load, to be reverted.
    last: Option<(String, State)>,
}

fn loads() -> String {
    format!("{TABLES}/loaded/loads")
}

impl Loads {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, number: 0, state: State::default(), last: None }
    }

    /// Commits the first load, that all keys are there, and waits until every node shows it: there is no edition before it
    /// that a read which is not strong could see.
    pub(super) fn first(&mut self, shared: &Shared<'_>) -> Outcome {
        let mut http = Http::new(shared.api, Duration::from_secs(20));
        self.commit(shared, &mut http, false)?;
        self.last = None;
        let keys: Vec<String> = (0..LOADED_KEYS).map(loaded_key).collect();
        let (begun, mut whole) = (Instant::now(), 0);
        // Each goes to some dispatcher, and from there to some replica.
        while whole < SHOWN {
            let found = batch_get(&mut http, "loaded", "eventual", &keys, &[]);
            let is_whole = found.as_ref().is_ok_and(|found| found.iter().all(Option::is_some));
            whole = if is_whole { whole + 1 } else { 0 };
            if begun.elapsed() > STUCK {
                return Err(format!("the first load is not shown everywhere: {:?}", found.err()));
            }
            thread::sleep(Duration::from_millis(100));
        }
        let mut records = shared.recorder.lock();
        records.first = self.state;
        records.changes.clear();
        Ok(())
    }

    /// Commits and reverts until the round is over; ends with nothing under way.
    pub(super) fn run(&mut self, shared: &Shared<'_>, mut random: Random) {
        let mut http = Http::new(shared.api, Duration::from_secs(20));
        while !shared.stop.load(Ordering::Relaxed) {
            let done = match self.last.take() {
                // Only eight may be committed over a range within the life of a page's token; reverted ones are not
                // counted.
                Some((id, before)) => self.revert(shared, &mut http, &id, before),
                None => self.commit(shared, &mut http, random.below(3) == 0),
            };
            if let Err(error) = done {
                let mut records = shared.recorder.lock();
                *records.counts.codes.entry(format!("load: {error}")).or_default() += 1;
            }
            thread::sleep(Duration::from_millis(random.below(300)));
        }
        // The next round begins with the state that is known.
        if let Some((id, before)) = self.last.take()
            && let Err(error) = self.revert(shared, &mut http, &id, before)
        {
            shared.recorder.lock().complain(format!("a load cannot be reverted: {error}"));
        }
    }

    /// Begins a load, brings its file, commits it, and waits until it is known what became of it.
    fn commit(&mut self, shared: &Shared<'_>, http: &mut Http, merge: bool) -> Outcome {
        self.number += 1;
        let file = 1 + (self.number - 1) % FILES;
        let (kind, mode) = if merge { ("M", "merge") } else { ("L", "replace") };
        let to = match merge {
            true => State { merge: Some(file), ..self.state },
            false => State { replace: file, merge: None },
        };
        let name = format!("{kind}{file}.parquet");
        let bytes = std::fs::read(self.folder.join(&name)).map_err(|error| format!("{name}: {error}"))?;
        let key = format!("load-{}", self.number);
        let version = wall();
        let body =
            json!({ "mode": mode, "version": version, "guards": { "max_shrink_percent": 100 } }).to_string();
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        let begun = patiently(|| http.call("POST", &loads(), &headers, body.as_bytes()))?;
        let id =
            begun["load_id"].as_str().ok_or_else(|| format!("a load was begun without an id: {begun}"))?;
        let path = format!("{}/{id}", loads());
        let put = patiently(|| {
            let answer = http.call("PUT", &format!("{path}/files/{name}"), &[], &bytes);
            // It was put before, and the answer lost.
            match answer {
                Ok(answer) if answer.code() == "load-file-exists" => http.get(&path),
                other => other,
            }
        });
        put?;
        let at = shared.recorder.now();
        let sent = patiently(|| http.json("POST", &format!("{path}:commit"), &json!({ "files": [name] })));
        let known = sent.and_then(|_| self.wait(http, &path, &["committed", "failed", "cancelled"]));
        self.changed(shared, at, &format!("{kind}{file}"), to, &known, "committed");
        match known {
            Ok(state) if state == "committed" => {
                self.last = Some((id.to_owned(), self.state));
                self.state = to;
                Ok(())
            }
            Ok(state) => Err(state),
            Err(error) => Err(error),
        }
    }

    fn revert(&mut self, shared: &Shared<'_>, http: &mut Http, id: &str, before: State) -> Outcome {
        let path = format!("{}/{id}", loads());
        let at = shared.recorder.now();
        let sent = patiently(|| {
            let answer = http.json("POST", &format!("{path}:revert"), &json!({}));
            match answer {
                // Reverted before, and the answer lost.
                Ok(answer) if answer.status == 409 => http.get(&path),
                other => other,
            }
        });
        let known = sent.and_then(|_| self.wait(http, &path, &["reverted"]));
        self.changed(shared, at, id, before, &known, "reverted");
        if known.is_ok() {
            self.state = before;
        } else {
            self.last = Some((id.to_owned(), before));
        }
        known.map(|_| ())
    }

    fn changed(
        &self,
        shared: &Shared<'_>,
        begun: u64,
        what: &str,
        to: State,
        known: &Outcome<String>,
        good: &str,
    ) {
        let fate = match known {
            Ok(state) if state == good => Fate::Done,
            Ok(_) => Fate::Not,
            Err(_) => Fate::Unknown,
        };
        let mut records = shared.recorder.lock();
        let span = shared.recorder.span(begun);
        records.counts.changes += u64::from(fate == Fate::Done);
        records.counts.operations += 1;
        records.changes.push(Change { span, to, fate });
        let told = json!([good, to.replace, to.merge, format!("{known:?}")]);
        records.note("loads", "change", what, told, span);
    }

    /// Asks until the load is in one of these states.
    fn wait(&self, http: &mut Http, path: &str, states: &[&str]) -> Outcome<String> {
        let begun = Instant::now();
        loop {
            let told = patiently(|| http.get(path))?;
            let state = told["state"].as_str().unwrap_or_default();
            if states.contains(&state) {
                return Ok(state.to_owned());
            }
            if begun.elapsed() > STUCK {
                return Err(format!("it is still {state}"));
            }
            thread::sleep(Duration::from_millis(30));
        }
    }
}

/// Repeats what may be repeated until it is answered.
fn patiently(mut ask: impl FnMut() -> Result<super::http::Answer, super::http::Lost>) -> Outcome<Value> {
    let begun = Instant::now();
    loop {
        let why = match ask() {
            Ok(answer) if answer.is_ok() => return Ok(answer.json()),
            Ok(answer) if answer.status >= 500 || answer.status == 429 => super::record::word(&answer),
            Ok(answer) => return Err(format!("{}: {}", answer.status, answer.text())),
            Err(lost) => lost.why(),
        };
        if begun.elapsed() > STUCK {
            return Err(format!("given up: {why}"));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

impl Shared<'_> {
    /// Reads many keys of the table of loads at once, by one request or by the pages of a scan.
    pub(super) fn read_loads(&self, name: &str, mut random: Random) {
        let mut http = Http::new(self.api, Duration::from_secs(20));
        while !self.stop.load(Ordering::Relaxed) {
            let strong = random.below(3) == 0;
            if let Err(why) = self.read_loads_once(name, &mut http, &mut random, strong) {
                self.recorder.lock().read(Some(&why));
            }
            thread::sleep(Duration::from_millis(random.below(60)));
        }
    }

    pub(super) fn read_loads_once(
        &self,
        name: &str,
        http: &mut Http,
        random: &mut Random,
        strong: bool,
    ) -> Result<(), String> {
        let consistency = if strong { "strong" } else { "eventual" };
        let begun = self.recorder.now();
        let found: Vec<(u64, Option<String>)> = if random.below(3) == 0 {
            scan(http, consistency)?
        } else {
            let numbers: Vec<u64> = (0..40).map(|_| random.below(LOADED_KEYS)).collect();
            let keys: Vec<String> = numbers.iter().map(|number| loaded_key(*number)).collect();
            let values = batch_get(http, "loaded", consistency, &keys, &[("nacre-deadline-ms", "6000")])?;
            numbers.into_iter().zip(values).collect()
        };
        let mut records = self.recorder.lock();
        let span = self.recorder.span(begun);
        records.read(None);
        let rows: Vec<(u64, Option<(char, u64)>)> =
            found.iter().map(|(key, value)| (*key, value.as_deref().and_then(load_of))).collect();
        let mut seen: Vec<&Option<String>> = found.iter().map(|(_, value)| value).collect();
        seen.sort_unstable();
        seen.dedup();
        let told = json!([found.len(), seen]);
        records.load_reads.push(Read { span, strong, rows });
        records.note(name, consistency, "", told, span);
        Ok(())
    }
}

/// Which load a value comes from.
fn load_of(value: &str) -> Option<(char, u64)> {
    let mut letters = value.chars();
    Some((letters.next()?, letters.as_str().parse().ok()?))
}

/// All pages; a key that is missing is absent.
fn scan(http: &mut Http, consistency: &str) -> Result<Vec<(u64, Option<String>)>, String> {
    let mut found = std::collections::BTreeMap::new();
    let mut token: Option<String> = None;
    loop {
        let mut path = format!("{TABLES}/loaded/rows?consistency={consistency}&page_size=120");
        if let Some(token) = &token {
            path.push_str("&page_token=");
            path.push_str(token);
        }
        let answer = http.call("GET", &path, &[("nacre-deadline-ms", "6000")], &[]);
        let answer = answer.map_err(|_| "answer-lost".to_owned())?;
        if answer.status != 200 {
            return Err(super::record::word(&answer));
        }
        let told = answer.json();
        for row in told["rows"].as_array().into_iter().flatten() {
            let (key, value) = (row["key"].as_str().unwrap_or_default(), row["value"].as_str());
            if found.insert(key.to_owned(), value.map(str::to_owned)).is_some() {
                return Err("a key twice in one scan".to_owned());
            }
        }
        token = told["next_page_token"].as_str().map(str::to_owned);
        if token.is_none() {
            return Ok((0..LOADED_KEYS).map(|n| (n, found.remove(&loaded_key(n)).flatten())).collect());
        }
    }
}
