//! What is known, for how long, and at which price.

use super::*;
use crate::grant::{Grant, Verbs};
use crate::{Change, NewToken};
use nacre_catalog::ObjectCatalog;
use nacre_runtime::Context;
use nacre_store::testing::{FaultRates, FaultyStore};
use nacre_store::{MemoryStore, Metered, ObjectStore};
use nacre_types::NamespaceName;

struct World {
    ctx: Context,
    store: Arc<FaultyStore>,
    counted: Arc<Metered<Arc<dyn ObjectStore>>>,
    tokens: Tokens,
}

fn world() -> World {
    let ctx = Context::for_tests(1);
    let store = FaultyStore::new(Arc::new(MemoryStore::new(&ctx)), 1);
    let inner: Arc<dyn ObjectStore> = Arc::new(store.clone());
    let counted = Arc::new(Metered::new(inner));
    let catalog = Arc::new(ObjectCatalog::new(counted.clone(), "catalog", &ctx).unwrap());
    let tokens = Tokens::new(catalog, &ctx);
    World { ctx, store, counted, tokens }
}

impl World {
    fn verifier(&self) -> Arc<Verifier> {
        let verifier = Arc::new(Verifier::new(self.tokens.clone()));
        self.ctx.tasks.spawn("tokens", verifier.clone().run());
        verifier
    }

    async fn make(&self, ns: &str) -> Secret {
        let home = Home::Namespace(NamespaceName::new(ns).unwrap());
        let grant = Grant { home, verbs: Verbs::ALL, tables: None, prefix: None };
        let new = NewToken { name: "job".to_owned(), grant, expires_at_micros: None };
        self.tokens.create(new, None).await.unwrap().1
    }

    fn reads(&self) -> u64 {
        self.counted.counters().get.requests
    }

    fn away(&self, away: bool) {
        let unavailable = if away { 1_000 } else { 0 };
        self.store.set_rates(FaultRates { unavailable, ..FaultRates::default() });
    }
}

fn home(ns: &str) -> Home {
    Home::Namespace(NamespaceName::new(ns).unwrap())
}

fn guess(secret: &Secret, seed: u64) -> Secret {
    Secret::new(secret.id, &nacre_runtime::SeededIds::new(seed))
}

#[tokio::test(start_paused = true)]
async fn a_token_is_read_once_and_known_then() {
    let w = world();
    let verifier = w.verifier();
    let secret = w.make("n").await;
    let before = w.reads();
    for _ in 0..100 {
        assert_eq!(verifier.verify(&secret).await.unwrap().id, secret.id);
    }
    assert_eq!(w.reads() - before, 1);
    let now = w.ctx.clock.monotonic();
    assert!(matches!(verifier.known(&secret, now, 0), Known::Good(_)));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_of_a_known_token_costs_no_read() {
    let w = world();
    let verifier = w.verifier();
    let secret = w.make("n").await;
    verifier.verify(&secret).await.unwrap();
    let before = w.reads();
    for seed in 0..100 {
        let error = verifier.verify(&guess(&secret, seed + 50)).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Unauthorized, "token-unknown"));
    }
    assert_eq!(w.reads(), before);
}

#[tokio::test(start_paused = true)]
async fn guessing_does_not_reach_the_catalog() {
    let w = world();
    let verifier = w.verifier();
    let ids = nacre_runtime::SeededIds::new(77);
    let before = w.reads();
    // One shelf, by many at once: those who come while it is read, or is not to be read again yet, share the next read.
    let guesses = (0..500).map(|_| Secret::new(TokenId::new(9, &ids), &ids));
    let guesses: Vec<Secret> = guesses.collect();
    let begun = w.ctx.clock.monotonic();
    for _ in 0..3 {
        let errors = futures::future::join_all(guesses.iter().map(|guess| verifier.verify(guess))).await;
        assert!(errors.into_iter().all(|error| error.unwrap_err().code() == "token-unknown"));
    }
    assert!((3..=4).contains(&(w.reads() - before)), "{}", w.reads() - before);
    assert!(w.ctx.clock.monotonic() - begun >= READ_PAUSE * 2);
    let before = w.reads();
    // Every time another.
    let mut throttled = 0;
    for shelf in 100..1_100 {
        let error = verifier.verify(&Secret::new(TokenId::new(shelf, &ids), &ids)).await.unwrap_err();
        throttled += usize::from(error.code() == "too-many-unknown-tokens");
    }
    assert!(w.reads() - before <= READS_AT_ONCE + 1, "{}", w.reads() - before);
    assert!(throttled > 900, "{throttled}");
    assert!(verifier.held.load().shelves.is_empty(), "guesses fill no memory");
    assert!(verifier.lately.lock().len() <= READS_AT_ONCE as usize + 1);
    // Those who wait a little are served again.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let secret = w.make("n").await;
    verifier.verify(&secret).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_made_elsewhere_is_known_at_once() {
    let w = world();
    let verifier = w.verifier();
    let first = w.make("n").await;
    verifier.verify(&first).await.unwrap();
    let second = w.make("n").await;
    let begun = w.ctx.clock.monotonic();
    verifier.verify(&second).await.unwrap();
    assert!(w.ctx.clock.monotonic() - begun <= READ_PAUSE);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_revoked_elsewhere_stops_within_a_renewal() {
    let w = world();
    let verifier = w.verifier();
    let (secret, other) = (w.make("n").await, w.make("n").await);
    verifier.verify(&secret).await.unwrap();
    w.tokens.revoke(&home("n"), secret.id).await.unwrap();
    verifier.verify(&secret).await.unwrap();
    tokio::time::sleep(RENEW_EVERY + Duration::from_millis(1)).await;
    assert_eq!(verifier.verify(&secret).await.unwrap_err().code(), "token-unknown");
    verifier.verify(&other).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_last_token_of_a_shelf_is_revoked_like_the_others() {
    let w = world();
    let verifier = w.verifier();
    let secret = w.make("n").await;
    verifier.verify(&secret).await.unwrap();
    w.tokens.revoke(&home("n"), secret.id).await.unwrap();
    verifier.reread(&home("n")).await;
    assert_eq!(verifier.verify(&secret).await.unwrap_err().code(), "token-unknown");
}

#[tokio::test(start_paused = true)]
async fn a_read_from_before_a_revocation_does_not_come_back_over_one_from_after() {
    let w = world();
    let verifier = w.verifier();
    let secret = w.make("n").await;
    verifier.verify(&secret).await.unwrap();
    let old = (w.tokens.shelf(secret.id.shelf()).await.unwrap(), w.ctx.clock.monotonic());
    tokio::time::sleep(Duration::from_millis(10)).await;
    w.tokens.revoke(&home("n"), secret.id).await.unwrap();
    verifier.reread(&home("n")).await;
    verifier.learn(secret.id.shelf(), old.0, old.1);
    assert_eq!(verifier.verify(&secret).await.unwrap_err().code(), "token-unknown");
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_catalog_keeps_what_is_known_for_minutes_and_no_longer() {
    let w = world();
    let verifier = w.verifier();
    let (secret, stranger) = (w.make("n").await, w.make("m").await);
    verifier.verify(&secret).await.unwrap();
    w.away(true);
    // Nobody is called unauthorized because the catalog is away.
    let error = verifier.verify(&stranger).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    for _ in 0..7 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        verifier.verify(&secret).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(61)).await;
    let error = verifier.verify(&secret).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    w.away(false);
    verifier.verify(&secret).await.unwrap();
    verifier.verify(&stranger).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_refused_at_that_moment_without_a_read() {
    let w = world();
    let verifier = w.verifier();
    let secret = w.make("n").await;
    let expires = w.ctx.clock.now_micros() + 1_000_000;
    let change = Change { expires_at_micros: Some(Some(expires)), ..Change::default() };
    w.tokens.update(&home("n"), secret.id, &change, None).await.unwrap();
    verifier.verify(&secret).await.unwrap();
    let now = w.ctx.clock.monotonic();
    assert!(matches!(verifier.known(&secret, now, expires - 1), Known::Good(_)));
    let Known::Bad(error) = verifier.known(&secret, now, expires) else { panic!("not refused") };
    assert_eq!(error.code(), "token-expired");
    // To who does not have the secret it is just unknown.
    let Known::Bad(error) = verifier.known(&guess(&secret, 5), now, expires) else { panic!("not refused") };
    assert_eq!(error.code(), "token-unknown");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_nobody_asks_for_is_forgotten() {
    let w = world();
    let verifier = w.verifier();
    let (used, idle) = (w.make("n").await, w.make("m").await);
    verifier.verify(&used).await.unwrap();
    verifier.verify(&idle).await.unwrap();
    for _ in 0..IDLE_ROUNDS + 5 {
        tokio::time::sleep(RENEW_EVERY).await;
        verifier.verify(&used).await.unwrap();
    }
    assert_eq!(verifier.held.load().shelves.len(), 1);
    verifier.verify(&idle).await.unwrap();
}
