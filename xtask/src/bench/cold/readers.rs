//! Clients that read at a fixed pace and look at what they are answered: each value says of which edition it is and of
//! which key.

use super::zipf::Zipf;
use crate::Outcome;
use crate::bench::batch::{self, Form};
use crate::bench::clients::Random;
use crate::bench::server::{TABLE, key_of};
use crate::bench::wire::{Connection, Request};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Keys of a batch, which must be of one edition.
const BATCH: usize = 10;
/// How often one client asks for such a batch.
const BATCH_EVERY: Duration = Duration::from_millis(250);

/// One call.
pub(super) struct Call {
    /// Since the reading began.
    pub(super) due: Duration,
    /// From when it was due.
    pub(super) took: Duration,
    /// Which edition answered, or why none did.
    pub(super) edition: Outcome<u64>,
}

/// What everybody shares.
pub(super) struct Readers<'a> {
    pub(super) address: SocketAddr,
    pub(super) began: Instant,
    pub(super) zipf: &'a Zipf,
    pub(super) stop: &'a AtomicBool,
    pub(super) gets: Mutex<Vec<Call>>,
    pub(super) batches: Mutex<Vec<Call>>,
    /// Answers that no single edition could have given.
    pub(super) mixed: Mutex<Vec<String>>,
}

/// The edition that a value says, if it is the value of that key.
fn edition_of(key: u64, value: &[u8]) -> Outcome<u64> {
    let odd = || {
        let seen = value.get(..value.len().min(40)).unwrap_or_default();
        format!("the value of {} is {:?}..", key_of(key), String::from_utf8_lossy(seen))
    };
    let (edition, rest) = value.split_at_checked(8).ok_or_else(odd)?;
    let rest = rest.strip_prefix(b"-").and_then(|rest| rest.strip_prefix(key_of(key).as_bytes()));
    if !rest.is_some_and(|rest| rest.starts_with(b"-")) {
        return Err(odd());
    }
    std::str::from_utf8(edition).ok().and_then(|text| text.parse().ok()).ok_or_else(odd)
}

impl Readers<'_> {
    /// One client, beginning a get `every` so often. Calls that begin late are counted from when they were due.
    pub(super) fn get(&self, client: u64, every: Duration, first: Duration) {
        let mut random = Random::new(client + 1);
        self.keep_calling(every, first, &self.gets, |connection| {
            let key = self.zipf.draw(&mut random);
            let answer = connection.ok(&Request::get(&format!("{TABLE}/rows/{}", key_of(key))))?;
            edition_of(key, answer.body)
        });
    }

    /// One client that asks for several keys at once.
    pub(super) fn batch_get(&self) {
        let mut random = Random::new(0x00ba_7c4e);
        let (mut request, digits) = batch::get(Form::Json, BATCH).split();
        self.keep_calling(BATCH_EVERY, Duration::ZERO, &self.batches, |connection| {
            let keys: Vec<u64> = (0..BATCH).map(|_| self.zipf.draw(&mut random)).collect();
            for (&at, &key) in digits.iter().zip(&keys) {
                batch::put_number(request.body_mut(), at, key);
            }
            let answer = connection.ok(&request)?;
            let answer: serde_json::Value =
                serde_json::from_slice(answer.body).map_err(|error| format!("not JSON: {error}"))?;
            let rows = answer["rows"].as_array().map_or(&[][..], Vec::as_slice);
            if rows.len() != keys.len() {
                return Err(format!("{} rows for {} keys", rows.len(), keys.len()));
            }
            let editions = keys.iter().zip(rows).map(|(&key, row)| {
                let value = row["value"].as_str().ok_or_else(|| format!("{}: {row}", key_of(key)))?;
                edition_of(key, value.as_bytes())
            });
            let editions: Vec<u64> = editions.collect::<Outcome<_>>()?;
            if editions.iter().any(|edition| Some(edition) != editions.first()) {
                self.is_mixed(format!("one batch is of the editions {editions:?}"));
            }
            Ok(editions.first().copied().unwrap_or(0))
        });
    }

    fn is_mixed(&self, what: String) {
        self.mixed.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn keep_calling(
        &self,
        every: Duration,
        first: Duration,
        calls: &Mutex<Vec<Call>>,
        mut call: impl FnMut(&mut Connection) -> Outcome<u64>,
    ) {
        let mut connection = Connection::open(self.address);
        let mut due = self.began.elapsed() + first;
        let mut newest = 0;
        while !self.stop.load(Ordering::Relaxed) {
            due += every;
            thread::sleep(due.saturating_sub(self.began.elapsed()));
            let edition = match &mut connection {
                Ok(connection) => call(connection),
                Err(error) => Err(error.clone()),
            };
            let took = self.began.elapsed().saturating_sub(due);
            match &edition {
                // There is one process, so what it showed once it shows from then on.
                Ok(edition) if *edition < newest => {
                    self.is_mixed(format!("edition {edition} was answered after edition {newest}"));
                }
                Ok(edition) => newest = *edition,
                Err(_) => connection = Connection::open(self.address),
            }
            calls.lock().unwrap_or_else(PoisonError::into_inner).push(Call { due, took, edition });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_tells_its_edition_and_must_be_that_of_its_key() {
        assert_eq!(edition_of(7, b"00000002-key-000000000007-abc"), Ok(2));
        for odd in [&b"00000002-key-000000000008-abc"[..], b"", b"x", b"0000000x-key-000000000007-abc"] {
            assert!(edition_of(7, odd).is_err());
        }
    }
}
