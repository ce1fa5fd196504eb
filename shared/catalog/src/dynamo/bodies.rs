//! What lies in the object store: a copy of every edit, and records that are too big for an item.
//!
//! ```text
//! <root>/dynamodb/<table>/<sequence, 20 digits>-<commit id>    an edit's frame, put before the edit is committed
//! <root>/dynamodb/records/<name>.record/<write id>             a record's frame, put before the record
//! ```
//!
//! Names carry an id that is minted for these bytes and no others, so a name that exists already holds them, whoever was
//! told so. An object here says nothing by being there: edits that lost and records that were replaced stay behind.
//! Which edit was committed stands in the table log; should that be lost, with its table, the copies name their
//! predecessors, and the chain of them is what is left to rebuild it from. That is why small edits are copied as well,
//! and why nobody deletes a copy when its item's week is over.

use super::item::Far;
use bytes::Bytes;
use nacre_store::{GetOptions, ObjectPath, ObjectStore, PutMode, PutOutcome};
use nacre_types::{CommitId, Error, ErrorKind, Result, Seq, TableId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug, Clone)]
pub(super) struct Bodies {
    store: Arc<dyn ObjectStore>,
    root: ObjectPath,
    /// The last copy of each table that this process knows to be there: an attempt that is repeated puts none again.
    copied: Arc<Mutex<HashMap<TableId, CommitId>>>,
}

impl Bodies {
    pub(super) fn new(store: Arc<dyn ObjectStore>, root: &str) -> Result<Self> {
        Ok(Self { store, root: ObjectPath::new(root)?.join("dynamodb")?, copied: Arc::default() })
    }

    /// The same store, as another process would hold it.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn fresh(&self) -> Self {
        Self { copied: Arc::default(), ..self.clone() }
    }

    /// Where they lie.
    #[cfg(test)]
    pub(super) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Puts an edit's copy, unless it is known to be there.
    ///
    /// # Errors
    /// As [`Bodies::put`].
    pub(super) async fn copy_edit(
        &self,
        table: TableId,
        seq: Seq,
        commit_id: CommitId,
        frame: &Bytes,
    ) -> Result<Far> {
        let path = self.root.join(&format!("{table}/{:020}-{commit_id}", seq.0))?;
        let known = self.copied.lock().get(&table) == Some(&commit_id);
        if !known {
            self.put(&path, frame).await?;
            self.copied.lock().insert(table, commit_id);
        }
        Ok(Far::of(path.as_str(), frame))
    }

    /// Puts a record that is too big for its item.
    ///
    /// # Errors
    /// As [`Bodies::put`].
    pub(super) async fn put_record(&self, name: &str, write_id: u128, frame: &Bytes) -> Result<Far> {
        let path = self.root.join(&format!("records/{name}.record/{write_id:032x}"))?;
        self.put(&path, frame).await?;
        Ok(Far::of(path.as_str(), frame))
    }

    /// # Errors
    /// `Unavailable` where it is not known to be there: nothing may name it yet.
    async fn put(&self, path: &ObjectPath, frame: &Bytes) -> Result<()> {
        match self.store.put(path, frame.clone(), PutMode::Create).await {
            Ok(PutOutcome::Stored(_) | PutOutcome::AlreadyExists) => Ok(()),
            Ok(PutOutcome::Mismatch) => Err(Error::internal("a create was answered as a replace")),
            Err(error) if error.kind() == ErrorKind::Unknown => Err(error.with_kind(ErrorKind::Unavailable)),
            Err(error) => Err(error),
        }
    }

    /// What an item names. `what` and `code` are of its errors.
    ///
    /// # Errors
    /// `Corrupt` with `code` where other bytes lie there, or none; `Unavailable`.
    pub(super) async fn get(&self, far: &Far, what: &str, code: &'static str) -> Result<Bytes> {
        let corrupt = |why: &str| {
            Error::corrupt(format!("{what} lies in the store as {}, which {why}", far.path)).with_code(code)
        };
        let path = ObjectPath::new(&far.path).map_err(|_| corrupt("is no path"))?;
        let bytes = match self.store.get(&path, GetOptions::default()).await {
            Ok(object) => object.bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(corrupt("is not there")),
            Err(error) => return Err(error.context(format!("reading {what}"))),
        };
        if bytes.len() as u64 != far.length || crc32fast::hash(&bytes) != far.crc {
            return Err(corrupt("holds other bytes"));
        }
        Ok(bytes)
    }
}
