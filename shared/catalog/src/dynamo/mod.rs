//! The catalog in a DynamoDB table.
//!
//! ```text
//! table/<table id>  0        the head: where the log stands and under which commit id; which snapshot is recent
//!                   1, 2, …  the edits
//! record/<name>     0        a record, under the random id of the write that put it
//! catalog           0        which catalog this is, and of which store
//! ```
//!
//! # Edits
//! Edit *n* is put in one transaction with the head: *the log stands at n - 1, under my predecessor's commit id* is the
//! head's condition, *n, under mine* its new value. That transaction is the commit. The head is never deleted and has no
//! `expires_at`, so its number only grows, and whoever slept for a month cannot append below it. It is what makes edits
//! mortal: without it the absence of an edit's item would be the log's end.
//!
//! What an attempt to append edit *n* may be told ([`answer`] has the table of answers), and what follows:
//!
//! | answer | then |
//! |---|---|
//! | done | committed |
//! | a condition did not hold, or nobody knows | read edit *n*: own commit id → committed; another's → conflict |
//! | … and edit *n* is not there, the head below *n* | the condition: beyond the end, or another predecessor. Else unknown |
//! | … and edit *n* is not there, the head at *n* or above | `edits-gone`: never to be known |
//! | certainly not | an error; says nothing of earlier attempts |
//!
//! A failed condition is not a conflict by itself: a request that was delivered twice meets its own effect. The head alone
//! does not tell either, since it names the newest edit only. Where the edit is absent, head and edit are read in one
//! transaction, which fails while another is half way through.
//!
//! The `ClientRequestToken` is the commit id: for ten minutes DynamoDB answers a repeat of an append that was done with
//! *done*, instead of a failed condition that costs a read. Nothing rests on it. After the ten minutes, or on a server
//! that ignores it, the repeat fails at the head's condition, and the read tells.
//!
//! **Reading** asks for the head first, consistently, and then for the edits up to where it stands; who follows a log that
//! does not move pays a read unit a look. A query is not one moment, so an edit that it lacks is read again
//! together with the head before anything is concluded. Edits name their predecessors, the last is compared with the
//! head, and a chain that does not hold is Corrupt.
//!
//! # Edits that go
//! Whoever names a snapshot (`set_head`, once in some hundred edits) gives the edits that it covers an `expires_at` a
//! week ahead, by DynamoDB's date, and then raises the head's `swept_seq`; the next one begins there. A crash in between
//! marks some edits again, which changes nothing; two at once mark the same ones; one that wakes up after hours marks
//! what is still covered, because the head's snapshot only moves forward. DynamoDB deletes marked items when it likes and
//! in any order, so any covered edit may be absent, and an absence there says nothing: a reader is told `edits-gone` and
//! starts from the snapshot; an appender in doubt is told that his outcome will not be known. An edit above the snapshot
//! is never marked, and its absence is Corrupt.
//!
//! Why not put `expires_at` at once? A table that nobody snapshots for a week would lose its only edits.
//!
//! # Records
//! A record's item is replaced on the condition that it still has the write id that was read. Write ids are random and
//! never come again, so a late request can never land, and a writer that was told *no*, or nothing, finds in the item
//! whether the bytes are its own. As in an object store, what rests on a record must be recognisable in it.
//!
//! # One table, one store
//! The item `catalog` has a random id, which the store's identity names beside the table's name; and it names the store. A
//! table that was deleted and made again, or one of the same name in another region, is another catalog, and a store that
//! knows the first does not start on the second. Two stores cannot use one table.
//!
//! nacre deletes nothing here, and its role needs no right to.

mod address;
mod answer;
mod bodies;
mod head;
mod item;
mod log;
mod meter;
mod probe;
mod records;
mod table;
#[cfg(test)]
mod tests;
mod wire;

use crate::{
    Append, Catalog, CatalogCounts, DynamoSettings, EncodedEdit, LogHead, RecordPut, RecordTag, SnapshotRef,
};
use address::Address;
use async_trait::async_trait;
use bodies::Bodies;
use bytes::Bytes;
use nacre_runtime::Context;
use nacre_store::ObjectStore;
use nacre_types::{CommitId, Result, Seq, StoreId, TableId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use wire::{Tuning, Wire};

/// A catalog in a DynamoDB table, by transactions and conditional puts; the module's head argues it.
#[derive(Debug, Clone)]
pub struct DynamoCatalog {
    wire: Wire,
    bodies: Bodies,
    /// What every key begins with: nothing, but for tests that share a table.
    prefix: String,
    /// The item `catalog`'s id.
    id: String,
    /// The newest edit of each table that this object wrote or read.
    newest: Arc<Mutex<HashMap<TableId, (Seq, CommitId)>>>,
    #[cfg(test)]
    flaws: Flaws,
}

/// Mistakes that tests make on purpose, to see that a suite notices.
#[cfg(test)]
#[derive(Debug, Default, Clone, Copy)]
struct Flaws {
    /// An absence after a lost answer is taken for a rejection.
    absence_is_conflict: bool,
    /// A condition that did not hold is taken for another's edit.
    condition_is_conflict: bool,
}

impl DynamoCatalog {
    /// Opens the catalog at `dynamodb://table`, with what is too big for it, and copies of its edits, below `root` of
    /// `store`. Makes the table if it is missing, and refuses one that has another form or breaks the promises that
    /// table logs rest on. Takes some fifty small requests.
    ///
    /// # Errors
    /// `Invalid` (`catalog-url`, `catalog-settings`, `catalog-table`, `catalog-unfit`); `Unavailable`, under a code of its own where
    /// an operator must do something.
    pub async fn open(
        url: &str,
        settings: &DynamoSettings,
        store: Arc<dyn ObjectStore>,
        root: &str,
        ctx: &Context,
    ) -> Result<Self> {
        Self::tuned(url, settings, store, root, ctx, Tuning::default()).await
    }

    async fn tuned(
        url: &str,
        settings: &DynamoSettings,
        store: Arc<dyn ObjectStore>,
        root: &str,
        ctx: &Context,
        tuning: Tuning,
    ) -> Result<Self> {
        let wire = Wire::new(Address::new(url, settings)?, settings, ctx, tuning)?;
        let bodies = Bodies::new(store, root)?;
        table::make(&wire).await?;
        let id = table::catalog_id(&wire).await?;
        probe::probe(&wire).await?;
        Ok(Self {
            wire,
            bodies,
            prefix: String::new(),
            id,
            newest: Arc::default(),
            #[cfg(test)]
            flaws: Flaws::default(),
        })
    }

    /// Whether the table at `dynamodb://table` is there, and has the form that is needed. Changes nothing.
    ///
    /// # Errors
    /// As [`DynamoCatalog::open`].
    pub async fn look(url: &str, settings: &DynamoSettings, ctx: &Context) -> Result<bool> {
        table::look(&Wire::new(Address::new(url, settings)?, settings, ctx, Tuning::default())?).await
    }

    /// What a store's identity calls this catalog: its URL and its id.
    pub fn identity(&self) -> String {
        format!("dynamodb://{}#{}", self.wire.table(), self.id)
    }

    /// Whether `identity`, from a store's identity, names a catalog at this URL, whatever its id.
    ///
    /// # Errors
    /// `Invalid` (`catalog-url`).
    pub fn is_named_by(url: &str, identity: &str) -> Result<bool> {
        let table = address::table_of(url)?;
        Ok(identity
            .strip_prefix("dynamodb://")
            .and_then(|rest| rest.split_once('#'))
            .is_some_and(|(own, _)| own == table))
    }

    /// Whether the catalog is nobody's yet, or that store's; `None` = a store that has no identity yet, which no catalog
    /// can have been given to.
    ///
    /// # Errors
    /// `Invalid` (`catalog-identity`) where it is another's; `Unavailable`.
    pub async fn check_claim(&self, store_id: Option<StoreId>) -> Result<()> {
        table::check_claim(&self.wire, &self.id, store_id).await
    }

    /// Says that this catalog is the store's of that identity, for ever.
    ///
    /// # Errors
    /// `Invalid` (`catalog-identity`) where it is another's; `Unavailable`.
    pub async fn claim(&self, store_id: StoreId) -> Result<()> {
        table::claim(&self.wire, &self.id, store_id).await
    }

    /// Another, empty catalog in the same table, as another process would hold it. For tests.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn within(&self, prefix: &str, ctx: &Context) -> Self {
        let mut other = self.clone();
        other.wire.ctx = ctx.clone();
        other.bodies = self.bodies.fresh();
        other.prefix = format!("{prefix}/");
        other.newest = Arc::default();
        other
    }

    fn log_key(&self, table: TableId) -> String {
        format!("{}table/{table}", self.prefix)
    }

    fn record_key(&self, name: &str) -> String {
        format!("{}record/{name}", self.prefix)
    }

    fn note(&self, table: TableId, seq: Seq, commit_id: CommitId) {
        let mut newest = self.newest.lock();
        let known = newest.entry(table).or_insert((seq, commit_id));
        if seq > known.0 {
            *known = (seq, commit_id);
        }
    }

    fn newest(&self, table: TableId) -> Option<(Seq, CommitId)> {
        self.newest.lock().get(&table).copied()
    }
}

#[async_trait]
impl Catalog for DynamoCatalog {
    fn request_counts(&self) -> Option<CatalogCounts> {
        Some(self.wire.meter.counts())
    }

    async fn append(&self, table: TableId, expected: Seq, edit: &EncodedEdit) -> Result<Append> {
        self.append_once(table, expected, edit).await
    }

    async fn read(&self, table: TableId, after: Seq, limit: usize) -> Result<Vec<(Seq, EncodedEdit)>> {
        self.read_log(table, after, limit).await
    }

    async fn head(&self, table: TableId) -> Result<LogHead> {
        Ok(LogHead { snapshot: self.read_head(table).await?.snapshot })
    }

    async fn set_head(&self, table: TableId, snapshot: SnapshotRef) -> Result<()> {
        self.name_snapshot(table, &snapshot).await
    }

    async fn record(&self, name: &str) -> Result<Option<(Bytes, RecordTag)>> {
        self.read_record(name).await
    }

    async fn put_record(&self, name: &str, expected: Option<&RecordTag>, bytes: Bytes) -> Result<RecordPut> {
        self.write_record(name, expected, &bytes).await
    }
}
