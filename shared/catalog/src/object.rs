//! The catalog over an object store.

use crate::{Append, Catalog, EncodedEdit, LogHead, RecordPut, RecordTag, SnapshotRef};
use async_trait::async_trait;
use bytes::Bytes;
use nacre_runtime::Context;
use nacre_store::{ObjectPath, ObjectStore};
use nacre_types::{Result, Seq, TableId};
use std::sync::Arc;

/// A catalog in an object store, by put-if-absent and replace-if-unchanged.
#[derive(Debug, Clone)]
pub struct ObjectCatalog {
    store: Arc<dyn ObjectStore>,
    root: ObjectPath,
}

impl ObjectCatalog {
    /// The catalog below `root` (for example `catalog`) of `store`. Opening asks the store nothing.
    ///
    /// # Errors
    /// `Invalid` where `root` is no path.
    pub fn new(store: Arc<dyn ObjectStore>, root: &str, _ctx: &Context) -> Result<Self> {
        Ok(Self { store, root: ObjectPath::new(root)? })
    }
}

#[async_trait]
impl Catalog for ObjectCatalog {
    async fn append(&self, _table: TableId, _expected: Seq, _edit: &EncodedEdit) -> Result<Append> {
        todo!("{:?} {:?}", self.store, self.root)
    }
    async fn read(&self, _table: TableId, _after: Seq, _limit: usize) -> Result<Vec<(Seq, EncodedEdit)>> {
        todo!()
    }
    async fn head(&self, _table: TableId) -> Result<LogHead> {
        todo!()
    }
    async fn set_head(&self, _table: TableId, _snapshot: SnapshotRef) -> Result<()> {
        todo!()
    }
    async fn record(&self, _name: &str) -> Result<Option<(Bytes, RecordTag)>> {
        todo!()
    }
    async fn put_record(
        &self,
        _name: &str,
        _expected: Option<&RecordTag>,
        _bytes: Bytes,
    ) -> Result<RecordPut> {
        todo!()
    }
}
