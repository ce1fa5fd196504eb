//! The handle that reads and writes of one table go through.

use bytes::Bytes;
use nacre_types::{Key, LoadId, Result, TableId, TableSettings};
use std::sync::Arc;

use crate::{
    BeginLoad, Created, Explanation, Found, LoadFile, LoadInfo, Lookup, ReadOptions, Receipt, ScanPage,
    ScanRequest, TableInfo, WriteOptions, WriteRow, Written,
};

/// The handle that reads and writes of one table go through.
#[derive(Debug)]
pub struct Table {}

#[allow(unused_variables, clippy::todo, missing_docs, clippy::unused_async)]
impl Table {
    pub fn id(&self) -> TableId {
        todo!()
    }
    pub fn settings(&self) -> Arc<TableSettings> {
        todo!()
    }
    pub fn info(&self) -> TableInfo {
        todo!()
    }
    pub async fn get(&self, key: &[u8], options: &ReadOptions) -> Result<(Lookup, Receipt)> {
        todo!()
    }
    pub async fn batch_get(&self, keys: &[Key], options: &ReadOptions) -> Result<(Vec<Lookup>, Receipt)> {
        todo!()
    }
    pub async fn versions(
        &self,
        key: &[u8],
        since: i64,
        until: i64,
        limit: usize,
        options: &ReadOptions,
    ) -> Result<(Vec<Found>, Receipt)> {
        todo!()
    }
    pub async fn scan(&self, request: &ScanRequest, options: &ReadOptions) -> Result<(ScanPage, Receipt)> {
        todo!()
    }
    pub async fn explain(&self, key: &[u8], options: &ReadOptions) -> Result<Explanation> {
        todo!()
    }
    pub async fn write(&self, rows: Vec<WriteRow>, options: &WriteOptions) -> Result<Written> {
        todo!()
    }
    pub async fn begin_load(
        &self,
        request: &BeginLoad,
        body: Bytes,
        idempotency_key: Option<&str>,
    ) -> Result<Created<LoadInfo>> {
        todo!()
    }
    pub async fn put_load_file(&self, load: LoadId, name: &str, body: Bytes) -> Result<()> {
        todo!()
    }
    /// `files`: exactly these names; `None` = one listing. `rows`: their number, if the caller knows it.
    pub async fn commit_load(
        &self,
        load: LoadId,
        files: Option<Vec<String>>,
        rows: Option<u64>,
    ) -> Result<LoadInfo> {
        todo!()
    }
    pub async fn prepare_load(
        &self,
        load: LoadId,
        files: Option<Vec<String>>,
        rows: Option<u64>,
    ) -> Result<LoadInfo> {
        todo!()
    }
    pub async fn cancel_load(&self, load: LoadId) -> Result<LoadInfo> {
        todo!()
    }
    pub async fn revert_load(&self, load: LoadId) -> Result<LoadInfo> {
        todo!()
    }
    pub async fn load(&self, load: LoadId) -> Result<LoadInfo> {
        todo!()
    }
    pub async fn loads(&self) -> Result<Vec<LoadInfo>> {
        todo!()
    }
    pub async fn load_files(&self, load: LoadId) -> Result<Vec<LoadFile>> {
        todo!()
    }
}
