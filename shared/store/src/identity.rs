//! The identity object of a store: which catalog and log belong to it.
//!
//! It lies under the name `identity`, put if absent by the first process that starts. A process that is configured with
//! another catalog or log would read the same segments under other truths, commit loads into one catalog and collect as
//! garbage what the other references; so it does not start. The object is replaced only by a command that raises an
//! incarnation or the format level, if unchanged.
//!
//! Whoever is told nothing by his put puts the same bytes again and reads what lies there: the one object that is there
//! is the identity, whoever put it, and it is compared like any other.

use crate::frame::{FrameReader, FrameWriter};
use crate::{GetOptions, ObjectPath, ObjectStore, PutMode, PutOutcome};
use bytes::Bytes;
use nacre_runtime::{Backoff, Context};
use nacre_types::{Error, ErrorKind, LogIncarnation, Result, StoreId};
use std::time::Duration;

const VERSION: u8 = 1;
const NAME: &str = "identity";
/// How often a store that does not answer is asked; about ten seconds in all.
const ATTEMPTS: usize = 12;

/// What a store says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreIdentity {
    /// Which kinds of edits and formats may be written; raised by a command once all nodes know them.
    pub format_level: u32,
    /// The store, for ever.
    pub store_id: StoreId,
    /// Which catalog, as configured, without secrets.
    pub catalog: String,
    /// How often the catalog was replaced by another.
    pub catalog_incarnation: u32,
    /// Which log, as configured, without secrets.
    pub log: String,
    /// How often the log was replaced by another.
    pub log_incarnation: LogIncarnation,
}

/// What a process is configured with, and understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its catalog, without secrets.
    pub catalog: String,
    /// Its log, without secrets.
    pub log: String,
    /// The highest format level that it understands; a new store gets it.
    pub format_level: u32,
}

impl StoreIdentity {
    /// The stored bytes: format level 4, store id 16, catalog, its incarnation 4, log, its incarnation 4.
    pub fn encode(&self) -> Bytes {
        FrameWriter::new(VERSION, self.catalog.len() + self.log.len() + 64)
            .u32(self.format_level)
            .u128(self.store_id.0)
            .bytes(self.catalog.as_bytes())
            .u32(self.catalog_incarnation)
            .bytes(self.log.as_bytes())
            .u32(self.log_incarnation.0)
            .finish()
    }

    /// From the stored bytes.
    ///
    /// # Errors
    /// `Corrupt` (`identity-corrupt`), or `newer-format` for a version byte that this program does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let bytes = Bytes::copy_from_slice(bytes);
        let mut frame = FrameReader::open(bytes, VERSION, "the store's identity", "identity-corrupt")?;
        let identity = Self {
            format_level: frame.u32()?,
            store_id: StoreId(frame.u128()?),
            catalog: frame.text()?,
            catalog_incarnation: frame.u32()?,
            log: frame.text()?,
            log_incarnation: LogIncarnation(frame.u32()?),
        };
        frame.finish()?;
        Ok(identity)
    }

    /// Reads the identity of `store`, or gives it one if it has none, and refuses a process that is configured
    /// otherwise.
    ///
    /// # Errors
    /// `Invalid` (`store-identity`) where catalog or log differ, (`newer-format`) where the store's level is higher
    /// than this program's; `Corrupt`; `Unavailable`.
    pub async fn open_or_create(store: &dyn ObjectStore, expected: &Expected, ctx: &Context) -> Result<Self> {
        let path = ObjectPath::new(NAME)?;
        let proposal = Self {
            format_level: expected.format_level,
            store_id: StoreId(ctx.ids.random_u128()),
            catalog: expected.catalog.clone(),
            catalog_incarnation: 0,
            log: expected.log.clone(),
            log_incarnation: LogIncarnation(0),
        }
        .encode();
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
        let mut failed = None;
        for _ in 0..ATTEMPTS {
            match store.get(&path, GetOptions::default()).await {
                Ok(object) => {
                    let identity = Self::decode(&object.bytes)?;
                    identity.check(expected)?;
                    return Ok(identity);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    match store.put(&path, proposal.clone(), PutMode::Create).await {
                        // Read back in the next round: what lies there is the identity.
                        Ok(PutOutcome::Stored(_) | PutOutcome::AlreadyExists) => continue,
                        Ok(PutOutcome::Mismatch) => {
                            failed = Some(Error::internal("a create answered mismatch"))
                        }
                        Err(error) if error.kind().is_retryable() => failed = Some(error),
                        Err(error) => return Err(error),
                    }
                }
                Err(error) if error.kind().is_retryable() => failed = Some(error),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(backoff.next(&*ctx.ids)).await;
        }
        let why = failed.map_or_else(String::new, |error| error.to_string());
        Err(Error::unavailable(format!("the store's identity cannot be read: {why}")))
    }

    /// The identity that `store` has; `None` = no process started on it yet.
    ///
    /// # Errors
    /// `Corrupt`; `Unavailable`.
    pub async fn read(store: &dyn ObjectStore) -> Result<Option<Self>> {
        match store.get(&ObjectPath::new(NAME)?, GetOptions::default()).await {
            Ok(object) => Self::decode(&object.bytes).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.context("reading the store's identity")),
        }
    }

    /// Raises the store's format level to `level`, unless it is there already; answers the identity as it is then. Two who
    /// raise it at once both see it raised.
    ///
    /// # Errors
    /// `NotFound` (`store-not-found`) where no process has started on it yet; `Corrupt`; `Unavailable`, after which it may be
    /// raised or not: ask again.
    pub async fn raise_format_level(store: &dyn ObjectStore, level: u32, ctx: &Context) -> Result<Self> {
        let path = ObjectPath::new(NAME)?;
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
        let mut failed = None;
        for _ in 0..ATTEMPTS {
            match store.get(&path, GetOptions::default()).await {
                Ok(object) => {
                    let identity = Self::decode(&object.bytes)?;
                    if identity.format_level >= level {
                        return Ok(identity);
                    }
                    let raised = Self { format_level: level, ..identity }.encode();
                    // What lies there afterwards is read in the next round, whatever the answer was.
                    match store.put(&path, raised, PutMode::Replace(object.meta.tag)).await {
                        Ok(_) => {}
                        Err(error) if error.kind().is_retryable() || error.kind() == ErrorKind::Unknown => {
                            failed = Some(error);
                        }
                        Err(error) => return Err(error),
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(Error::not_found(
                        "the store has no identity: no process has started on it yet",
                    )
                    .with_code("store-not-found"));
                }
                Err(error) if error.kind().is_retryable() => failed = Some(error),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(backoff.next(&*ctx.ids)).await;
        }
        let why = failed.map_or_else(String::new, |error| error.to_string());
        Err(Error::unavailable(format!("whether the format level was raised is not known: {why}")))
    }

    /// Refuses a process that is configured otherwise.
    ///
    /// # Errors
    /// As [`StoreIdentity::open_or_create`].
    pub fn check(&self, expected: &Expected) -> Result<()> {
        if self.format_level > expected.format_level {
            return Err(Error::invalid(format!(
                "the store has format level {}, this program knows {}; run a newer program",
                self.format_level, expected.format_level
            ))
            .with_code("newer-format"));
        }
        for (what, stored, configured) in
            [("catalog", &self.catalog, &expected.catalog), ("log", &self.log, &expected.log)]
        {
            if stored != configured {
                return Err(Error::invalid(format!(
                    "store {} belongs with the {what} {stored:?}, but this process is configured with {configured:?}; \
                     start it with the former, or use another store",
                    self.store_id
                ))
                .with_code("store-identity"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;
    use crate::testing::{Fault, FaultyStore, Operation};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn identity() -> StoreIdentity {
        StoreIdentity {
            format_level: 3,
            store_id: StoreId(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
            catalog: "same-store".into(),
            catalog_incarnation: 1,
            log: "kafka://brokers/topic".into(),
            log_incarnation: LogIncarnation(2),
        }
    }

    fn expected() -> Expected {
        Expected { catalog: "same-store".into(), log: "same-store".into(), format_level: 1 }
    }

    #[test]
    fn the_bytes_stay_what_they_are() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/identity-1.bin");
        let golden = std::fs::read(path).unwrap();
        assert_eq!(identity().encode(), golden);
        assert_eq!(StoreIdentity::decode(&golden).unwrap(), identity());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100), at: usize, with: u8) {
            let _ = StoreIdentity::decode(&bytes);
            let mut changed = identity().encode().to_vec();
            let at = at % changed.len();
            let was = std::mem::replace(&mut changed[at], with);
            prop_assert_eq!(StoreIdentity::decode(&changed).is_ok(), was == with);
        }
    }

    #[tokio::test]
    async fn the_first_process_names_the_store_and_others_must_agree() {
        let ctx = Context::for_tests(1);
        let store = MemoryStore::new(&ctx);
        let first = StoreIdentity::open_or_create(&store, &expected(), &ctx).await.unwrap();
        let again = StoreIdentity::open_or_create(&store, &expected(), &Context::for_tests(2)).await.unwrap();
        assert_eq!(first, again);
        let newer = Expected { format_level: 9, ..expected() };
        assert_eq!(StoreIdentity::open_or_create(&store, &newer, &ctx).await.unwrap(), first);
        let other = Expected { log: "kafka://elsewhere/topic".into(), ..expected() };
        let error = StoreIdentity::open_or_create(&store, &other, &ctx).await.unwrap_err();
        assert_eq!(error.code(), "store-identity");
        assert!(error.detail().contains("same-store") && error.detail().contains("kafka://elsewhere/topic"));
        let older = Expected { format_level: 0, ..expected() };
        let error = StoreIdentity::open_or_create(&store, &older, &ctx).await.unwrap_err();
        assert_eq!(error.code(), "newer-format");
    }

    #[tokio::test(start_paused = true)]
    async fn a_format_level_is_raised_in_any_weather_and_never_lowered() {
        let ctx = Context::for_tests(1);
        for fault in
            [Fault::LostAnswer, Fault::UnderWay, Fault::SentTwice, Fault::LostRequest, Fault::Unavailable]
        {
            let store = FaultyStore::new(Arc::new(MemoryStore::new(&ctx)), 1);
            let error = StoreIdentity::raise_format_level(&store, 2, &ctx).await.unwrap_err();
            assert_eq!(error.code(), "store-not-found");
            let first = StoreIdentity::open_or_create(&store, &expected(), &ctx).await.unwrap();
            store.script(Operation::Put, "identity", fault);
            store.script(Operation::Read, "identity", Fault::Unavailable);
            let raised = StoreIdentity::raise_format_level(&store, 2, &ctx).await.unwrap();
            assert_eq!(raised, StoreIdentity { format_level: 2, ..first }, "{fault:?}");
            store.deliver().await;
            assert_eq!(StoreIdentity::raise_format_level(&store, 1, &ctx).await.unwrap(), raised);
            let error = StoreIdentity::open_or_create(&store, &expected(), &ctx).await.unwrap_err();
            assert_eq!(error.code(), "newer-format", "the older program does not start any more");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn processes_that_start_together_agree_in_any_weather() {
        let ctx = Context::for_tests(1);
        for fault in
            [Fault::LostAnswer, Fault::UnderWay, Fault::SentTwice, Fault::LostRequest, Fault::Unavailable]
        {
            let store = FaultyStore::new(Arc::new(MemoryStore::new(&ctx)), 1);
            store.script(Operation::Put, "identity", fault);
            store.script(Operation::Read, "identity", Fault::Unavailable);
            let starts: Vec<_> = (0..5)
                .map(|n| {
                    let store = store.clone();
                    ctx.tasks.spawn("start", async move {
                        StoreIdentity::open_or_create(&store, &expected(), &Context::for_tests(n))
                            .await
                            .unwrap()
                    })
                })
                .collect();
            let mut ids = Vec::new();
            for start in starts {
                ids.push(start.await.unwrap().store_id);
            }
            store.deliver().await;
            ids.push(StoreIdentity::open_or_create(&store, &expected(), &ctx).await.unwrap().store_id);
            ids.dedup();
            assert_eq!(ids.len(), 1, "{fault:?}");
        }
    }
}
