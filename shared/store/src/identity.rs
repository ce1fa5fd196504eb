//! The identity object of a store.

use crate::ObjectStore;
use bytes::Bytes;
use nacre_runtime::Context;
use nacre_types::{LogIncarnation, Result, StoreId};

/// What a store says of itself: which catalog and log belong to it.
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
    /// The stored bytes.
    pub fn encode(&self) -> Bytes {
        todo!()
    }

    /// From the stored bytes.
    ///
    /// # Errors
    /// `Corrupt` (`identity-corrupt`), or `newer-format` for a version byte that this program does not know.
    pub fn decode(_bytes: &[u8]) -> Result<Self> {
        todo!()
    }

    /// Reads the identity of `store`, or gives it one if it has none, and refuses a process that is configured
    /// otherwise.
    ///
    /// # Errors
    /// `Invalid` (`store-identity`) where catalog or log differ, (`newer-format`) where the store's level is higher
    /// than this program's; `Unavailable`.
    pub async fn open_or_create(
        _store: &dyn ObjectStore,
        _expected: &Expected,
        _ctx: &Context,
    ) -> Result<Self> {
        todo!()
    }
}
