//! The start-up probe: does this store keep the one promise that everything rests on?
//!
//! Emulators and gateways have been seen to let two writers win a conditional put now and then, or to ignore the
//! condition. On such a store a table log forks. The probe lets many writers race for one name, and then for one tag, a
//! few times, and refuses the store on the first broken promise. It proves nothing, but the stores that break the
//! promise break it soon.

use crate::{GetOptions, ObjectPath, ObjectStore, ObjectTag, PutMode, PutOutcome};
use bytes::Bytes;
use nacre_runtime::Context;
use nacre_types::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

/// Writers in a race.
const WRITERS: usize = 8;
/// Races that must have been answered in full.
const ROUNDS: usize = 3;
/// Races at most: one in which an answer was lost says nothing and is run again.
const ROUNDS_AT_MOST: usize = 12;
/// After this long without a round that was answered in full, none is begun any more: a store that takes connections and
/// never answers would hold a start for minutes.
const PATIENCE: Duration = Duration::from_secs(15);

/// Races writers for names and tags, and refuses a store where two of them win. Takes some 60 to 90 small requests, and
/// deletes what it made.
///
/// # Errors
/// `Invalid` (`store-unfit`) naming the promise that was broken; `Unavailable` where the store does not answer, with
/// the store's own code where it does not let this program in: that is told at once and not tried again.
pub async fn probe(store: &Arc<dyn ObjectStore>, ctx: &Context) -> Result<()> {
    let mut complete = 0;
    let mut failed = None;
    let begun = ctx.clock.monotonic();
    for _ in 0..ROUNDS_AT_MOST {
        let waited = ctx.clock.monotonic().saturating_sub(begun);
        if complete == 0 && failed.is_some() && waited > PATIENCE {
            break;
        }
        let path = ObjectPath::new(&format!("probe/{:032x}", ctx.ids.random_u128()))?;
        let round = round(store, ctx, &path).await;
        // What is left behind is a few bytes under a name that is never used again.
        if !matches!(&round, Err(error) if is_passing(error)) {
            let _ = store.delete(&path).await;
        }
        match round {
            Ok(()) => complete += 1,
            Err(error) if is_passing(&error) => failed = Some(error),
            Err(error) => return Err(error),
        }
        if complete == ROUNDS {
            return Ok(());
        }
    }
    let why = failed.map_or_else(String::new, |error| error.to_string());
    Err(Error::unavailable(format!("the store does not answer its start-up probe: {why}")))
}

/// Codes of what an operator must mend: whatever kind an error of them has, another attempt soon ends as this one did.
pub(crate) const NOT_BY_WAITING: &[&str] = &[
    "store-bucket",
    "store-certificates",
    "store-clock",
    "store-credentials",
    "store-endpoint",
    "store-forbidden",
    "store-region",
    "store-unfit",
];

/// Whether another round may end otherwise.
fn is_passing(error: &Error) -> bool {
    error.kind().is_retryable() && !NOT_BY_WAITING.contains(&error.code())
}

async fn round(store: &Arc<dyn ObjectStore>, ctx: &Context, path: &ObjectPath) -> Result<()> {
    // A read first: a store that does not answer is known sooner by it than by a write, whose end is waited for longer.
    match store.get(path, GetOptions::default()).await {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let created = race(store, ctx, path, &PutMode::Create, "put if absent").await?;
    let again = store.put(path, body(ctx), PutMode::Create).await?;
    if again != PutOutcome::AlreadyExists {
        return Err(unfit("put if absent: a name that exists was created again"));
    }
    let replaced = race(store, ctx, path, &PutMode::Replace(created.clone()), "replace if unchanged").await?;
    if replaced == created {
        return Err(unfit("replace if unchanged: the tag did not change with the bytes"));
    }
    if store.put(path, body(ctx), PutMode::Replace(created)).await? != PutOutcome::Mismatch {
        return Err(unfit("replace if unchanged: an object was replaced by its old tag"));
    }
    store.check_promises(path).await
}

/// Bytes that no other put has: tags may be hashes.
fn body(ctx: &Context) -> Bytes {
    Bytes::copy_from_slice(&ctx.ids.random_u128().to_be_bytes())
}

/// One race; answers the winner's tag.
async fn race(
    store: &Arc<dyn ObjectStore>,
    ctx: &Context,
    path: &ObjectPath,
    mode: &PutMode,
    promise: &str,
) -> Result<ObjectTag> {
    let racers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (store, path, mode, body) = (store.clone(), path.clone(), mode.clone(), body(ctx));
            ctx.tasks.spawn("store-probe", async move { (body.clone(), store.put(&path, body, mode).await) })
        })
        .collect();
    let mut winners = Vec::new();
    let mut unanswered = None;
    for racer in racers {
        match racer.await? {
            (body, Ok(PutOutcome::Stored(tag))) => winners.push((body, tag)),
            (_, Ok(_)) => {}
            (_, Err(error)) => unanswered = Some(error),
        }
    }
    if winners.len() > 1 {
        return Err(unfit(&format!("{promise}: {} of {WRITERS} writers won", winners.len())));
    }
    let found = match store.get(path, GetOptions::default()).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(match (winners.is_empty(), unanswered) {
                (false, _) => unfit(&format!("{promise}: what was stored is not there")),
                // Nothing was stored; why, the puts say.
                (true, Some(refused)) => refused,
                (true, None) => unfit(&format!("{promise}: none of {WRITERS} writers won")),
            });
        }
        found => found?,
    };
    match winners.pop() {
        Some((body, tag)) if found.bytes == body && found.meta.tag == tag => Ok(tag),
        // A lost request may have landed since.
        Some(_) if unanswered.is_none() => {
            Err(unfit(&format!("{promise}: the winner's bytes are not there")))
        }
        None if unanswered.is_none() => Err(unfit(&format!("{promise}: none of {WRITERS} writers won"))),
        _ => Err(unanswered.unwrap_or_else(|| Error::unavailable("a race without an answer"))),
    }
}

pub(crate) fn unfit(what: &str) -> Error {
    Error::invalid(format!("this store breaks a promise that table logs rest on: {what}; use another store"))
        .with_code("store-unfit")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FaultRates, FaultyStore};
    use crate::{MemoryStore, Metered, Object, ObjectMeta, Upload};
    use async_trait::async_trait;

    /// Ignores conditions, as some gateways do.
    #[derive(Debug)]
    struct Careless {
        inner: MemoryStore,
        breaks_more: bool,
        ignores_absence: bool,
        ignores_tags: bool,
    }

    #[async_trait]
    impl ObjectStore for Careless {
        async fn put(&self, path: &ObjectPath, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
            let ignored = match mode {
                PutMode::Create => self.ignores_absence,
                PutMode::Replace(_) => self.ignores_tags,
            };
            if ignored {
                tokio::task::yield_now().await;
                if let Ok(meta) = self.inner.head(path).await {
                    return self.inner.put(path, body, PutMode::Replace(meta.tag)).await;
                }
            }
            self.inner.put(path, body, mode).await
        }
        async fn get(&self, path: &ObjectPath, options: GetOptions) -> Result<Object> {
            self.inner.get(path, options).await
        }
        async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
            self.inner.head(path).await
        }
        async fn list(
            &self,
            prefix: &str,
            after: Option<&ObjectPath>,
            limit: usize,
        ) -> Result<Vec<ObjectMeta>> {
            self.inner.list(prefix, after, limit).await
        }
        async fn delete(&self, path: &ObjectPath) -> Result<()> {
            self.inner.delete(path).await
        }
        async fn copy(&self, from: &ObjectPath, to: &ObjectPath, if_tag: &ObjectTag) -> Result<PutOutcome> {
            self.inner.copy(from, to, if_tag).await
        }
        async fn upload(&self, path: &ObjectPath) -> Result<Box<dyn Upload>> {
            self.inner.upload(path).await
        }
        async fn date_micros(&self) -> Result<i64> {
            self.inner.date_micros().await
        }
        fn local_path(&self, _: &ObjectPath) -> Option<std::path::PathBuf> {
            None
        }
        async fn check_promises(&self, taken: &ObjectPath) -> Result<()> {
            self.inner.head(taken).await?;
            if self.breaks_more { Err(unfit("another promise")) } else { Ok(()) }
        }
    }

    fn careless(ctx: &Context, ignores_absence: bool, ignores_tags: bool) -> Arc<dyn ObjectStore> {
        Arc::new(Careless { inner: MemoryStore::new(ctx), breaks_more: false, ignores_absence, ignores_tags })
    }

    #[tokio::test]
    async fn a_fit_store_passes_and_is_left_clean() {
        let ctx = Context::for_tests(1);
        let store = careless(&ctx, false, false);
        probe(&store, &ctx).await.unwrap();
        assert!(store.list("", None, 10).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_store_that_ignores_conditions_is_refused_with_the_promise_named() {
        let ctx = Context::for_tests(1);
        for (absence, tags, promise) in
            [(true, false, "put if absent"), (false, true, "replace if unchanged")]
        {
            let error = probe(&careless(&ctx, absence, tags), &ctx).await.unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "store-unfit"));
            assert!(error.detail().contains(promise), "{error}");
        }
    }

    #[tokio::test]
    async fn what_only_some_stores_break_is_looked_at_behind_wrappers_too() {
        let ctx = Context::for_tests(1);
        let inner = MemoryStore::new(&ctx);
        let store = Careless { inner, breaks_more: true, ignores_absence: false, ignores_tags: false };
        let store: Arc<dyn ObjectStore> = Arc::new(Metered::new(FaultyStore::new(Arc::new(store), 1)));
        let error = probe(&store, &ctx).await.unwrap_err();
        assert!(error.code() == "store-unfit" && error.detail().contains("another promise"), "{error}");
    }

    #[tokio::test]
    async fn lost_answers_make_no_store_unfit_and_a_dead_one_is_unavailable() {
        let ctx = Context::for_tests(1);
        for seed in 0..50 {
            let faulty = FaultyStore::new(Arc::new(MemoryStore::new(&ctx)), seed);
            faulty.set_rates(FaultRates {
                lost_answer: 30,
                lost_request: 30,
                under_way: 30,
                ..FaultRates::default()
            });
            let store: Arc<dyn ObjectStore> = Arc::new(faulty.clone());
            if let Err(error) = probe(&store, &ctx).await {
                assert_ne!(error.code(), "store-unfit", "seed {seed}: {error}");
            }
            faulty.set_rates(FaultRates { unavailable: 1_000, ..FaultRates::default() });
            assert_eq!(probe(&store, &ctx).await.unwrap_err().kind(), ErrorKind::Unavailable);
        }
    }
}
