//! Clients: writers of rows, one by one and in batches, and readers. Each is a client of one process and ends when that
//! is gone, or when it is told to.

use crate::ledger::{Fate, Ledger, Seen, Wish};
use crate::process;
use nacre_api::{BatchWriteBody, BatchWriteRow, I64, JsonKey};
use nacre_client::{Client, KeyText, TableRef, WriteAnswer, WriteOptions};
use nacre_runtime::{Ids, SeededIds};
use nacre_types::{Error, ErrorKind, NamespaceName, TableName};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// What clients of a table share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) ledger: Arc<Mutex<Ledger>>,
    pub(crate) table: TableRef,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) dice: Arc<SeededIds>,
    /// What should not have happened.
    pub(crate) complaints: Arc<Mutex<Vec<String>>>,
}

/// Keys that everybody writes again and again, and keys of the large space.
pub(crate) const HOT: u64 = 10;
pub(crate) const COLD: u64 = 1_200;

pub(crate) fn cold_key(number: u64) -> String {
    format!("c{number:05}")
}

pub(crate) fn now_micros() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as i64
}

impl Shared {
    pub(crate) fn new(name: &str, max_versions: u32, seed: u64) -> Self {
        Self {
            ledger: Arc::new(Mutex::new(Ledger::new(max_versions))),
            table: TableRef::new(NamespaceName::new("default").unwrap(), TableName::new(name).unwrap()),
            stop: Arc::default(),
            dice: Arc::new(SeededIds::new(seed)),
            complaints: Arc::default(),
        }
    }

    /// A number below `below`.
    pub(crate) fn dice(&self, below: u64) -> u64 {
        self.dice.random_u64() % below
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn complain(&self, what: String) {
        self.complaints.lock().push(what);
    }

    async fn pause(&self, most_ms: u64) {
        tokio::time::sleep(Duration::from_micros(200 + self.dice(most_ms * 1_000))).await;
    }

    /// A version of the writer's own: mostly a little old, now and then a little ahead.
    fn own_version(&self) -> i64 {
        let off = self.dice(5_000_000) as i64;
        if self.dice(4) == 0 { now_micros() + off / 5 } else { now_micros() - off }
    }

    fn any_wish(&self) -> Wish {
        let (tombstone, expired) = match self.dice(100) {
            0..=11 => (true, false),
            12..=15 => (false, true),
            _ => (false, false),
        };
        Wish { version: (self.dice(3) == 0).then(|| self.own_version()), tombstone, expired }
    }

    /// What an error says about a write; `None` as second: the server has gone.
    fn judge(&self, error: &Error) -> (Fate, bool) {
        let goes_on = !matches!(error.code(), "answer-lost" | "server-unreachable");
        let fate = match error.kind() {
            ErrorKind::Unknown => Fate::Unknown,
            ErrorKind::Internal | ErrorKind::Corrupt => {
                self.complain(format!("a write was answered {error:?}"));
                Fate::Unknown
            }
            _ => Fate::Not,
        };
        (fate, goes_on)
    }

    /// Writes one row. `Err`: the server has gone.
    pub(crate) async fn write(
        &self,
        client: &Client,
        key: &str,
        wish: Wish,
    ) -> Result<Option<WriteAnswer>, ()> {
        let (id, value) = self.ledger.lock().begin(key, wish, None);
        let options = WriteOptions {
            version: wish.version,
            expires_at: wish.expired.then_some(1),
            idempotency_key: None,
        };
        let text = KeyText::Text(key.as_bytes());
        let answer = match value {
            Some(value) => client.put(&self.table, text, value.into(), &options).await,
            None => client.delete(&self.table, text, &options).await,
        };
        match answer {
            Ok(answer) => {
                self.ledger.lock().end(key, id, Fate::Done, answer.version);
                Ok(Some(answer))
            }
            Err(error) => {
                let (fate, goes_on) = self.judge(&error);
                self.ledger.lock().end(key, id, fate, None);
                if goes_on { Ok(None) } else { Err(()) }
            }
        }
    }

    /// Writes keys that others write too; never a version of its own twice.
    pub(crate) async fn write_hot(self, api: String) {
        let client = process::client(&api);
        while !self.is_over() {
            let key = format!("h{}", self.dice(HOT));
            if self.write(&client, &key, self.any_wish()).await.is_err() {
                return;
            }
            self.pause(6).await;
        }
    }

    /// Writes keys of its own, so that their order is known; often the same version again: the later wins.
    pub(crate) async fn write_own(self, api: String, name: String) {
        let client = process::client(&api);
        let mut last = self.own_version();
        while !self.is_over() {
            let key = format!("o{name}-{}", self.dice(3));
            let mut wish = self.any_wish();
            if self.dice(2) == 0 {
                wish.version = Some(last);
            } else {
                last = now_micros() - self.dice(1_000_000) as i64;
            }
            if self.write(&client, &key, wish).await.is_err() {
                return;
            }
            self.pause(8).await;
        }
    }

    /// Writes the large space in batches, now and then one key twice.
    pub(crate) async fn write_cold(self, api: String) {
        let client = process::client(&api);
        while !self.is_over() {
            let from = self.dice(COLD);
            let mut keys: Vec<String> = (0..60).map(|n| cold_key((from + n * 17) % COLD)).collect();
            if self.dice(4) == 0 {
                keys.extend(keys.first().cloned());
            }
            if self.write_batch(&client, keys).await.is_err() {
                return;
            }
            self.pause(60).await;
        }
    }

    async fn write_batch(&self, client: &Client, keys: Vec<String>) -> Result<(), ()> {
        let mut begun = Vec::new();
        let mut rows = Vec::new();
        for key in keys {
            let mut wish = self.any_wish();
            if begun.iter().any(|(other, _)| *other == key) {
                // Two of one key with versions of their own would tie only by chance, and without by their index.
                wish.version = None;
            }
            let request = begun.first().map(|(_, id)| *id);
            let (id, value) = self.ledger.lock().begin(&key, wish, request);
            rows.push(BatchWriteRow {
                key: JsonKey::Text(key.clone()),
                value,
                value_base64: None,
                value_json: None,
                delete: wish.tombstone,
                version: wish.version.map(I64),
                expires_at: wish.expired.then_some(I64(1)),
            });
            begun.push((key, id));
        }
        let answer = client.batch_write(&self.table, &BatchWriteBody { rows }).await;
        let mut ledger = self.ledger.lock();
        match answer {
            Ok(answer) => {
                assert_eq!(answer.rows.len(), begun.len());
                for ((key, id), row) in begun.iter().zip(answer.rows) {
                    let status = serde_json::to_value(row.status).unwrap();
                    let fate = match status.as_str().unwrap() {
                        "ok" => Fate::Done,
                        "unknown" => Fate::Unknown,
                        _ => Fate::Not,
                    };
                    ledger.end(key, *id, fate, row.version.map(|version| version.0));
                }
                Ok(())
            }
            Err(error) => {
                let (fate, goes_on) = self.judge(&error);
                for (key, id) in &begun {
                    ledger.end(key, *id, fate, None);
                }
                if goes_on { Ok(()) } else { Err(()) }
            }
        }
    }

    /// Reads keys of all kinds. What it saw is explained later, when it is known what else was under way.
    pub(crate) async fn read(self, api: String, is_alone: bool) {
        let http = process::http();
        while !self.is_over() {
            let key = match self.dice(3) {
                0 => format!("h{}", self.dice(HOT)),
                1 => cold_key(self.dice(COLD)),
                _ => format!("o{}-{}", self.dice(2), self.dice(3)),
            };
            // Of one process even a read that asks for nothing sees what was acknowledged.
            let how = if is_alone && self.dice(2) == 0 { "eventual" } else { "strong" };
            if self.read_key(&http, &api, &key, how, None).await.is_err() {
                return;
            }
            self.pause(10).await;
        }
    }

    /// Writes keys of its own at one process and reads each at another, with the token of the write.
    pub(crate) async fn cross(self, here: String, there: String, name: String) {
        let (client, http) = (process::client(&here), process::http());
        while !self.is_over() {
            let key = format!("x{name}-{}", self.dice(3));
            let Ok(answer) = self.write(&client, &key, self.any_wish()).await else { return };
            let token = answer.and_then(|answer| answer.token);
            if token.is_some() && self.read_key(&http, &there, &key, "session", token).await.is_err() {
                return;
            }
            self.pause(20).await;
        }
    }

    async fn read_key(
        &self,
        http: &reqwest::Client,
        api: &str,
        key: &str,
        how: &'static str,
        token: Option<String>,
    ) -> Result<(), ()> {
        // An edition that was told of binds strong reads, and those of the one process that told of it.
        let least_edition = if how == "session" { 0 } else { self.ledger.lock().edition };
        let begun = Instant::now();
        let mut request = http
            .get(format!("{api}{}/rows/{key}?consistency={how}", self.table.path()))
            .header("nacre-deadline-ms", "20000")
            .timeout(Duration::from_secs(22));
        if let Some(token) = token {
            request = request.header("nacre-token", token);
        }
        let Ok(response) = request.send().await else { return Err(()) };
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let Ok(body) = response.text().await else { return Err(()) };
        let ended = Instant::now();
        let number =
            |name: &str| headers.get(name).and_then(|value| value.to_str().ok()?.parse::<i64>().ok());
        let found = match status {
            200 => Some((number("nacre-version").unwrap(), body)),
            404 if headers.contains_key("nacre-absent") => None,
            429 | 503 => return Ok(()),
            _ => {
                self.complain(format!("a {how} read of {key} was answered {status}: {body}"));
                return Ok(());
            }
        };
        let edition = number("nacre-edition").unwrap() as u64;
        self.ledger.lock().seen.push(Seen {
            key: key.to_owned(),
            begun,
            ended,
            edition,
            least_edition,
            found,
            how,
        });
        Ok(())
    }
}
