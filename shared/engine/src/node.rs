//! What one process knows of a store.

use std::sync::Arc;

use bytes::Bytes;
use nacre_types::{NamespaceName, Result, TableId, TableName, TableSettings};

use crate::{Created, NamespaceSettings, Table, TableSummary};

/// Settings of a node.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Memory for decoded blocks, in bytes.
    pub cache_bytes: usize,
}

/// What one process knows of a store.
#[derive(Debug)]
pub struct Node {}

#[allow(unused_variables, clippy::todo, missing_docs, clippy::unused_async)]
impl Node {
    pub async fn create_namespace(
        self: &Arc<Self>,
        name: &NamespaceName,
        settings: NamespaceSettings,
    ) -> Result<Created<NamespaceSettings>> {
        todo!()
    }
    pub async fn namespace(self: &Arc<Self>, name: &NamespaceName) -> Result<NamespaceSettings> {
        todo!()
    }
    pub async fn namespaces(self: &Arc<Self>) -> Result<Vec<NamespaceName>> {
        todo!()
    }
    pub async fn create_table(
        self: &Arc<Self>,
        namespace: &NamespaceName,
        table: &TableName,
        settings: TableSettings,
        split_at: Vec<Bytes>,
    ) -> Result<Created<Arc<Table>>> {
        todo!()
    }
    pub async fn table(self: &Arc<Self>, namespace: &NamespaceName, table: &TableName) -> Result<Arc<Table>> {
        todo!()
    }
    pub async fn tables(self: &Arc<Self>, namespace: &NamespaceName) -> Result<Vec<TableSummary>> {
        todo!()
    }
    pub async fn update_table(
        self: &Arc<Self>,
        namespace: &NamespaceName,
        table: &TableName,
        settings: TableSettings,
    ) -> Result<Arc<Table>> {
        todo!()
    }
    pub async fn drop_table(
        self: &Arc<Self>,
        namespace: &NamespaceName,
        table: &TableName,
    ) -> Result<TableId> {
        todo!()
    }
    /// Whether reads would be answered: `Err` says why not yet.
    pub fn ready(&self) -> Result<()> {
        todo!()
    }
    /// Prometheus text of the engine's metrics.
    pub fn metrics_text(&self, out: &mut String) {
        todo!()
    }
}
