//! The identity object of a store: which catalog and log belong to it.
//!
//! It lies under the name `identity`, put if absent by the first process that starts. A process that is configured with
//! another catalog or log would read the same segments under other truths, commit loads into one catalog and collect as
//! garbage what the other references; so it does not start. The object is replaced only by a command that takes the log
//! up again (`resume`) or raises the format level, if unchanged.
//!
//! Whoever is told nothing by his put puts the same bytes again and reads what lies there: the one object that is there
//! is the identity, whoever put it, and it is compared like any other.

use crate::frame::{FrameReader, FrameWriter};
use crate::resume::{self, LogMending, LogResume};
use crate::{GetOptions, ObjectPath, ObjectStore, PutMode, PutOutcome};
use bytes::Bytes;
use nacre_runtime::{Backoff, Context};
use nacre_types::{Error, ErrorKind, LogIncarnation, Result, StoreId};
use std::time::Duration;

const VERSION: u8 = 1;
/// Of an identity whose log was taken up again.
const VERSION_RESUMED: u8 = 2;
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
    /// How the log's offsets follow from its topic's.
    pub mending: LogMending,
    /// The log is being taken up again; no process starts before that is finished.
    pub resume: Option<LogResume>,
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
    /// The stored bytes: format level 4, store id 16, catalog, its incarnation 4, log, its incarnation 4; in version 2, which
    /// only an identity has that needs it, bases, holes and plan besides (`resume`).
    pub fn encode(&self) -> Bytes {
        let is_plain = self.mending.is_none() && self.resume.is_none();
        let version = if is_plain { VERSION } else { VERSION_RESUMED };
        let frame = FrameWriter::new(version, self.catalog.len() + self.log.len() + 64)
            .u32(self.format_level)
            .u128(self.store_id.0)
            .bytes(self.catalog.as_bytes())
            .u32(self.catalog_incarnation)
            .bytes(self.log.as_bytes())
            .u32(self.log_incarnation.0);
        if is_plain {
            return frame.finish();
        }
        resume::write(frame, &self.mending, self.resume.as_ref()).finish()
    }

    /// From the stored bytes.
    ///
    /// # Errors
    /// `Corrupt` (`identity-corrupt`), or `newer-format` for a version byte that this program does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let bytes = Bytes::copy_from_slice(bytes);
        let is_plain = bytes.first() == Some(&VERSION);
        let version = if is_plain { VERSION } else { VERSION_RESUMED };
        let mut frame = FrameReader::open(bytes, version, "the store's identity", "identity-corrupt")?;
        let mut identity = Self {
            format_level: frame.u32()?,
            store_id: StoreId(frame.u128()?),
            catalog: frame.text()?,
            catalog_incarnation: frame.u32()?,
            log: frame.text()?,
            log_incarnation: LogIncarnation(frame.u32()?),
            mending: LogMending::default(),
            resume: None,
        };
        if !is_plain {
            (identity.mending, identity.resume) = resume::read(&mut frame)?;
        }
        frame.finish()?;
        Ok(identity)
    }

    /// Reads the identity of `store`, or gives it one if it has none, and refuses a process that is configured
    /// otherwise.
    ///
    /// # Errors
    /// `Invalid` (`store-identity`) where catalog or log differ, (`newer-format`) where the store's level is higher
    /// than this program's; `Conflict` (`log-resume-unfinished`); `Corrupt`; `Unavailable`.
    pub async fn open_or_create(store: &dyn ObjectStore, expected: &Expected, ctx: &Context) -> Result<Self> {
        let path = ObjectPath::new(NAME)?;
        let proposal = Self {
            format_level: expected.format_level,
            store_id: StoreId(ctx.ids.random_u128()),
            catalog: expected.catalog.clone(),
            catalog_incarnation: 0,
            log: expected.log.clone(),
            log_incarnation: LogIncarnation(0),
            mending: LogMending::default(),
            resume: None,
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
        let next = |identity: &Self| {
            let is_below = identity.format_level < level;
            Ok(is_below.then(|| Self { format_level: level, ..identity.clone() }))
        };
        Self::change(store, next, ctx).await
    }

    /// Puts `next` in the place of `before`.
    ///
    /// # Errors
    /// `Conflict` (`identity-changed`) where the identity is neither; `NotFound` (`store-not-found`); `Corrupt`; `Unavailable`,
    /// after which it may be the one or the other: ask again.
    pub async fn replace(store: &dyn ObjectStore, before: &Self, next: &Self, ctx: &Context) -> Result<()> {
        let change = |identity: &Self| match identity {
            identity if identity == next => Ok(None),
            identity if identity == before => Ok(Some(next.clone())),
            _ => Err(Error::conflict("somebody else changed the store's identity meanwhile; look again")
                .with_code("identity-changed")),
        };
        Self::change(store, change, ctx).await.map(drop)
    }

    /// Puts what `next` makes of the identity in its place, until `next` finds nothing to change; answers the identity as it
    /// is then. Whatever a put was answered, what lies there afterwards is read.
    async fn change(
        store: &dyn ObjectStore,
        next: impl Fn(&Self) -> Result<Option<Self>>,
        ctx: &Context,
    ) -> Result<Self> {
        let path = ObjectPath::new(NAME)?;
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
        let mut failed = None;
        for _ in 0..ATTEMPTS {
            match store.get(&path, GetOptions::default()).await {
                Ok(object) => {
                    let identity = Self::decode(&object.bytes)?;
                    let Some(next) = next(&identity)? else { return Ok(identity) };
                    match store.put(&path, next.encode(), PutMode::Replace(object.meta.tag)).await {
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
        Err(Error::unavailable(format!("whether the store's identity was changed is not known: {why}")))
    }

    /// Refuses a program that knows less than the store's level.
    ///
    /// # Errors
    /// `Invalid` (`newer-format`).
    pub fn check_level(&self, known: u32) -> Result<()> {
        if self.format_level <= known {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the store has format level {}, this program knows {known}; run a newer program",
            self.format_level
        ))
        .with_code("newer-format"))
    }

    /// Refuses a process that is configured otherwise.
    ///
    /// # Errors
    /// As [`StoreIdentity::open_or_create`].
    pub fn check(&self, expected: &Expected) -> Result<()> {
        self.check_level(expected.format_level)?;
        self.check_resumed()?;
        for (what, stored, configured) in
            [("catalog", &self.catalog, &expected.catalog), ("log", &self.log, &expected.log)]
        {
            if stored != configured {
                let is_kafka = |name: &str| name.starts_with("kafka ");
                let hint = match is_kafka(stored) && is_kafka(configured) {
                    true => "; if the former is lost for good, nacre log resume tells what that costs",
                    false => "",
                };
                return Err(Error::invalid(format!(
                    "store {} belongs with the {what} {stored:?}, but this process is configured with {configured:?}; \
                     start it with the former, or use another store{hint}",
                    self.store_id
                ))
                .with_code("store-identity"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
