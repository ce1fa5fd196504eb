//! Which token a text is, from memory; and what keeps that memory true.
//!
//! The warm check is a load of one pointer, a look into a map, and a hash of the secret: no lock, nothing allocated. What
//! is not in the map is read from its shelf's record, by one reader per shelf at a time, at most [`READS_A_SECOND`] of them
//! in all, so that guessing does not reach the catalog. Who brings a token that its shelf did not hold waits for a read that
//! began after he came, and a shelf is read for that every [`READ_PAUSE`] at most: a token that another process has just
//! made is never refused, and all who guess meanwhile share one read.
//!
//! A task reads every shelf in use again after at most [`RENEW_EVERY`]. What was read longer ago than [`KNOWN_FOR`] is not
//! believed: then the read stands in the way of the request, and where it fails the request is refused as unavailable. So
//! an outage of the catalog lets known tokens work for minutes and a revoked one no longer than that.
//!
//! Two reads of a shelf may end in another order than they began. The one that began later is kept: a list from before a
//! revocation never comes back over one from after it.

use arc_swap::ArcSwap;
use futures::StreamExt;
use nacre_types::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::record::{Token, shelf_of};
use crate::secret::{Secret, TokenId};
use crate::{Home, Tokens};

/// How long a shelf is used without being read again. Shorter: a revoked token stops sooner, and the catalog is read more.
pub const RENEW_EVERY: Duration = Duration::from_secs(30);
/// How long what was read is believed while the catalog does not answer.
pub const KNOWN_FOR: Duration = Duration::from_secs(8 * 60);
/// How long a shelf is not read again for a token that it did not hold.
const READ_PAUSE: Duration = Duration::from_millis(250);
/// How long it is remembered when a shelf was read: longer than anybody waits for one.
const REMEMBERED_FOR: Duration = Duration::from_secs(10);
/// Reads for tokens that nobody knows yet, each second and at once.
const READS_A_SECOND: u64 = 20;
const READS_AT_ONCE: u64 = 50;
/// Rounds of renewal after which a shelf that nobody asked for is forgotten.
const IDLE_ROUNDS: u32 = 20;
/// Shelves that are renewed at once.
const RENEWED_AT_ONCE: usize = 16;
/// Longest wait for a record.
const READ_LIMIT: Duration = Duration::from_secs(5);
const GATES: usize = 16;

/// What is known of a secret without waiting.
#[derive(Debug)]
pub enum Known {
    /// It is this token's.
    Good(Arc<Token>),
    /// It is no token's, or of one that has expired.
    Bad(Error),
    /// [`Verifier::verify`] finds out.
    Unsure,
}

/// The cached tokens of a process.
#[derive(Debug)]
pub struct Verifier {
    tokens: Tokens,
    held: ArcSwap<Held>,
    /// Held while `held` is replaced.
    replacing: Mutex<()>,
    /// One reader per shelf: those who wait find what he read. Shelves share gates.
    gates: [tokio::sync::Mutex<()>; GATES],
    /// When each shelf was last read, of those read within [`REMEMBERED_FOR`]; bounded by the budget.
    lately: Mutex<HashMap<u64, Duration>>,
    budget: Mutex<Budget>,
    /// Whether the last round of renewal failed: told once per outage.
    failing: AtomicBool,
}

#[derive(Debug, Default)]
struct Held {
    tokens: HashMap<TokenId, (Arc<Token>, Arc<Shelf>)>,
    shelves: HashMap<u64, (Arc<Shelf>, Arc<Vec<Token>>)>,
}

#[derive(Debug)]
struct Shelf {
    /// When the read of it began, in microseconds of the monotonic clock.
    read_at: AtomicU64,
    /// Whether anybody asked for a token of it since the last round.
    used: AtomicBool,
    idle: AtomicU32,
}

#[derive(Debug)]
struct Budget {
    left: u64,
    filled_at: Duration,
}

impl Budget {
    fn take(&mut self, now: Duration) -> bool {
        let since = now.saturating_sub(self.filled_at);
        let more =
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX).saturating_mul(READS_A_SECOND) / 1_000;
        if more > 0 {
            self.left = self.left.saturating_add(more).min(READS_AT_ONCE);
            self.filled_at = now;
        }
        self.left.checked_sub(1).map(|left| self.left = left).is_some()
    }
}

fn micros(moment: Duration) -> u64 {
    u64::try_from(moment.as_micros()).unwrap_or(u64::MAX)
}

/// One answer for a token that is not there and for a wrong secret: which of them it is helps only who guesses.
fn unknown() -> Error {
    let detail = "the access token is not known here: it was revoked, or is of another store";
    Error::new(ErrorKind::Unauthorized, detail).with_code("token-unknown")
}

fn expired() -> Error {
    Error::new(ErrorKind::Unauthorized, "the access token has expired; ask for a new one")
        .with_code("token-expired")
}

impl Verifier {
    /// Knows nothing yet. [`Verifier::run`] keeps it true.
    pub fn new(tokens: Tokens) -> Self {
        let now = tokens.context().clock.monotonic();
        Self {
            tokens,
            held: ArcSwap::default(),
            replacing: Mutex::default(),
            gates: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            lately: Mutex::default(),
            budget: Mutex::new(Budget { left: READS_AT_ONCE, filled_at: now }),
            failing: AtomicBool::new(false),
        }
    }

    /// The tokens that it verifies.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// What is known of a secret now: `now` is the monotonic clock's time, `now_micros` the wall clock's.
    pub fn known(&self, secret: &Secret, now: Duration, now_micros: i64) -> Known {
        let held = self.held.load();
        let Some((token, shelf)) = held.tokens.get(&secret.id) else { return Known::Unsure };
        if micros(now).saturating_sub(shelf.read_at.load(Relaxed)) > micros(KNOWN_FOR) {
            return Known::Unsure;
        }
        // Written only where it changes: all requests would share the line otherwise.
        if !shelf.used.load(Relaxed) {
            shelf.used.store(true, Relaxed);
        }
        if !token.is_of(secret) {
            return Known::Bad(unknown());
        }
        if token.is_expired(now_micros) {
            return Known::Bad(expired());
        }
        Known::Good(token.clone())
    }

    /// Which token a secret is, with a read of its record where that is not known.
    ///
    /// # Errors
    /// `Unauthorized` (`token-unknown`, `token-expired`); `Throttled` (`too-many-unknown-tokens`); `Unavailable` or
    /// `Corrupt` where it can neither be said that the token is good nor that it is not.
    pub async fn verify(&self, secret: &Secret) -> Result<Arc<Token>> {
        let (shelf, came) = (secret.id.shelf(), self.now());
        if let Some(settled) = self.settled(secret, came) {
            return settled;
        }
        let gate = self.gates.get(shelf as usize % GATES).unwrap_or(&self.gates[0]);
        let _gate = gate.lock().await;
        if let Some(settled) = self.settled(secret, came) {
            return settled;
        }
        if !self.budget.lock().take(self.now()) {
            return Err(Error::throttled(
                "too many access tokens that nobody knows are being tried; try again",
            )
            .with_code("too-many-unknown-tokens")
            .with_retry_after_ms(1_000));
        }
        let read_at = self.lately.lock().get(&shelf).copied();
        if let Some(read_at) = read_at {
            tokio::time::sleep((read_at + READ_PAUSE).saturating_sub(self.now())).await;
        }
        self.read(shelf).await?;
        self.settled(secret, came).unwrap_or_else(|| Err(unknown()))
    }

    fn now(&self) -> Duration {
        self.tokens.context().clock.monotonic()
    }

    /// What needs no read: a token that is held, or that its shelf did not hold when it was read after `came`.
    fn settled(&self, secret: &Secret, came: Duration) -> Option<Result<Arc<Token>>> {
        let now = self.now();
        match self.known(secret, now, self.tokens.context().clock.now_micros()) {
            Known::Good(token) => return Some(Ok(token)),
            Known::Bad(error) => return Some(Err(error)),
            Known::Unsure => {}
        }
        let lately = self.lately.lock();
        let read_at = lately.get(&secret.id.shelf())?;
        (*read_at > came).then(|| Err(unknown()))
    }

    /// Reads the tokens of `home` again, so that what changed here holds here at once.
    pub async fn reread(&self, home: &Home) {
        let shelf = shelf_of(home);
        if let Err(error) = self.read(shelf).await {
            // The next request that brings one of them reads, or is refused.
            tracing::warn!(%error, "tokens that changed cannot be read again");
            self.forget(&[shelf]);
        }
    }

    async fn read(&self, shelf: u64) -> Result<()> {
        let began = self.now();
        let read = tokio::time::timeout(READ_LIMIT, self.tokens.shelf(shelf)).await;
        let tokens = read
            .unwrap_or_else(|_| Err(Error::unavailable(format!("no answer within {READ_LIMIT:?}"))))
            .map_err(|error| error.context("the access tokens cannot be read"))?;
        self.learn(shelf, tokens, began);
        Ok(())
    }

    fn learn(&self, shelf: u64, tokens: Vec<Token>, began: Duration) {
        let _replacing = self.replacing.lock();
        {
            let mut lately = self.lately.lock();
            lately.retain(|_, read_at| began.saturating_sub(*read_at) < REMEMBERED_FOR);
            let read_at = lately.entry(shelf).or_insert(began);
            *read_at = (*read_at).max(began);
        }
        let held = self.held.load();
        let before = held.shelves.get(&shelf);
        if let Some((known, list)) = before {
            if known.read_at.load(Relaxed) > micros(began) {
                return;
            }
            if **list == tokens {
                known.read_at.store(micros(began), Relaxed);
                return;
            }
        } else if tokens.is_empty() {
            // Nobody fills the memory by naming shelves.
            return;
        }
        let state = Arc::new(Shelf {
            read_at: AtomicU64::new(micros(began)),
            used: AtomicBool::new(true),
            idle: AtomicU32::new(0),
        });
        let mut next = held.without(&[shelf]);
        let entries = tokens.iter().map(|token| (token.id, (Arc::new(token.clone()), state.clone())));
        // A token says its shelf; one that lies on another's was not put there by this program.
        next.tokens.extend(entries.filter(|(id, _)| id.shelf() == shelf));
        // An empty shelf stays: that it is empty must hold against an older read.
        next.shelves.insert(shelf, (state, Arc::new(tokens)));
        self.held.store(Arc::new(next));
    }

    fn forget(&self, shelves: &[u64]) {
        let _replacing = self.replacing.lock();
        let next = self.held.load().without(shelves);
        self.held.store(Arc::new(next));
    }

    /// Reads what is in use again, round after round. Ends by being dropped.
    pub async fn run(self: Arc<Self>) {
        loop {
            // Processes that were started together do not ask together.
            let early = self.tokens.context().ids.random_u64() % (RENEW_EVERY.as_millis() as u64 / 4);
            tokio::time::sleep(RENEW_EVERY - Duration::from_millis(early)).await;
            self.renew().await;
        }
    }

    async fn renew(&self) {
        let held = self.held.load_full();
        let mut idle = Vec::new();
        let mut used = Vec::new();
        for (number, (shelf, _)) in &held.shelves {
            let rounds = if shelf.used.swap(false, Relaxed) { 0 } else { shelf.idle.load(Relaxed) + 1 };
            shelf.idle.store(rounds, Relaxed);
            if rounds > IDLE_ROUNDS { &mut idle } else { &mut used }.push(*number);
        }
        if !idle.is_empty() {
            self.forget(&idle);
        }
        let reads: Vec<_> = used.into_iter().map(|shelf| self.read(shelf)).collect();
        let failed: Vec<Error> = futures::stream::iter(reads)
            .buffer_unordered(RENEWED_AT_ONCE)
            .filter_map(|read| std::future::ready(read.err()))
            .collect()
            .await;
        let was_failing = self.failing.swap(!failed.is_empty(), Relaxed);
        match failed.first() {
            Some(error) if !was_failing => tracing::warn!(
                %error,
                shelves = failed.len(),
                "access tokens cannot be renewed; those that are known go on for minutes, revocations are not seen"
            ),
            None if was_failing => tracing::info!("access tokens are renewed again"),
            _ => {}
        }
    }
}

impl Held {
    fn without(&self, shelves: &[u64]) -> Self {
        let tokens = self.tokens.iter().filter(|(id, _)| !shelves.contains(&id.shelf()));
        let others = self.shelves.iter().filter(|(number, _)| !shelves.contains(number));
        Self {
            tokens: tokens.map(|(id, held)| (*id, held.clone())).collect(),
            shelves: others.map(|(number, held)| (*number, held.clone())).collect(),
        }
    }
}

#[cfg(test)]
#[path = "verifier/tests.rs"]
mod tests;
