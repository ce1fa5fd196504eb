//! Namespaces and tables.

use crate::query::Target;
use crate::{Client, TableRef};
use nacre_api::{
    CreateTableBody, Limits, NamespaceBody, NamespaceDescription, NamespaceSummary, NamespacesBody,
    TableDescription, TableSummaryBody, TablesBody,
};
use nacre_types::{NamespaceName, Result};
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// Something that was made, or was there already and equal.
#[derive(Debug, Clone, PartialEq)]
pub struct Made<T> {
    /// Whether it was made now.
    pub new: bool,
    /// It.
    pub thing: T,
}

impl<T> Made<T> {
    fn of((status, thing): (StatusCode, T)) -> Self {
        Self { new: status == StatusCode::CREATED, thing }
    }
}

fn namespace_path(namespace: &NamespaceName) -> String {
    format!("/v1/namespaces/{namespace}")
}

impl Client {
    /// Whether the server is up and answers reads: `Err` says why not yet.
    ///
    /// # Errors
    /// What the server says.
    pub async fn ready(&self) -> Result<()> {
        self.read(self.request(Method::GET, "/readyz")).await.map(|_| ())
    }

    /// The server's limits.
    ///
    /// # Errors
    /// What the server says.
    pub async fn limits(&self) -> Result<Limits> {
        self.get_json("/v1/limits").await
    }

    /// Makes a namespace; one that is there already and equal is no error.
    ///
    /// # Errors
    /// `Conflict` if it is there and differs; what the server says.
    pub async fn create_namespace(
        &self,
        namespace: &NamespaceName,
        body: &NamespaceBody,
    ) -> Result<Made<NamespaceDescription>> {
        self.change(Method::PUT, &namespace_path(namespace), body).await.map(Made::of)
    }

    /// A namespace.
    ///
    /// # Errors
    /// `NotFound`; what the server says.
    pub async fn namespace(&self, namespace: &NamespaceName) -> Result<NamespaceDescription> {
        self.get_json(&namespace_path(namespace)).await
    }

    /// All namespaces.
    ///
    /// # Errors
    /// What the server says.
    pub async fn namespaces(&self) -> Result<Vec<NamespaceSummary>> {
        let mut all = Vec::new();
        let mut page_token = None;
        loop {
            let mut target = Target::new("/v1/namespaces".to_owned());
            target.add_some("page_token", page_token);
            let page: NamespacesBody = self.get_json(&target.into_text()).await?;
            all.extend(page.namespaces);
            page_token = match page.next_page_token {
                Some(token) => Some(token),
                None => return Ok(all),
            };
        }
    }

    /// The tables of a namespace.
    ///
    /// # Errors
    /// `NotFound`; what the server says.
    pub async fn tables(&self, namespace: &NamespaceName) -> Result<Vec<TableSummaryBody>> {
        let mut all = Vec::new();
        let mut page_token = None;
        loop {
            let mut target = Target::new(format!("{}/tables", namespace_path(namespace)));
            target.add_some("page_token", page_token);
            let page: TablesBody = self.get_json(&target.into_text()).await?;
            all.extend(page.tables);
            page_token = match page.next_page_token {
                Some(token) => Some(token),
                None => return Ok(all),
            };
        }
    }

    /// Makes a table; one that is there already and equal is no error.
    ///
    /// # Errors
    /// `Conflict` if it is there and differs; what the server says.
    pub async fn create_table(
        &self,
        table: &TableRef,
        body: &CreateTableBody,
    ) -> Result<Made<TableDescription>> {
        self.change(Method::PUT, &table.path(), body).await.map(Made::of)
    }

    /// A table.
    ///
    /// # Errors
    /// `NotFound`; what the server says.
    pub async fn table(&self, table: &TableRef) -> Result<TableDescription> {
        self.get_json(&table.path()).await
    }

    /// Changes settings of a table: members of the JSON object replace, `null` brings the default back.
    ///
    /// # Errors
    /// `Invalid`, `NotFound`; what the server says.
    pub async fn update_table(&self, table: &TableRef, patch: &Value) -> Result<TableDescription> {
        self.change(Method::PATCH, &table.path(), patch).await.map(|(_, described)| described)
    }

    /// Drops a table.
    ///
    /// # Errors
    /// `NotFound`; what the server says.
    pub async fn drop_table(&self, table: &TableRef) -> Result<()> {
        self.write(self.request(Method::DELETE, &table.path())).await.map(|_| ())
    }
}
