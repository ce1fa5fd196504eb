//! A store in a directory of this machine.

use crate::{
    GetOptions, Object, ObjectMeta, ObjectPath, ObjectStore, ObjectTag, PutMode, PutOutcome, Upload,
};
use async_trait::async_trait;
use bytes::Bytes;
use nacre_runtime::Context;
use nacre_types::Result;
use std::path::{Path, PathBuf};

/// Objects as files of one directory, durable, for any number of processes of one machine.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    /// Opens the directory, making it if it is not there.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be made or written.
    pub fn open(_root: &Path, _ctx: &Context) -> Result<Self> {
        todo!()
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put(&self, _path: &ObjectPath, _body: Bytes, _mode: PutMode) -> Result<PutOutcome> {
        todo!()
    }
    async fn get(&self, _path: &ObjectPath, _options: GetOptions) -> Result<Object> {
        todo!()
    }
    async fn head(&self, _path: &ObjectPath) -> Result<ObjectMeta> {
        todo!()
    }
    async fn list(
        &self,
        _prefix: &str,
        _after: Option<&ObjectPath>,
        _limit: usize,
    ) -> Result<Vec<ObjectMeta>> {
        todo!()
    }
    async fn delete(&self, _path: &ObjectPath) -> Result<()> {
        todo!()
    }
    async fn copy(&self, _from: &ObjectPath, _to: &ObjectPath, _if_tag: &ObjectTag) -> Result<PutOutcome> {
        todo!()
    }
    async fn upload(&self, _path: &ObjectPath) -> Result<Box<dyn Upload>> {
        todo!()
    }
    async fn date_micros(&self) -> Result<i64> {
        todo!()
    }
    fn local_path(&self, path: &ObjectPath) -> Option<PathBuf> {
        Some(self.root.join(path.as_str()))
    }
}
