//! Counts what is asked of a store: requests are what an object store bills.

use crate::{
    GetOptions, Object, ObjectMeta, ObjectPath, ObjectStore, ObjectTag, PutMode, PutOutcome, Upload,
};
use async_trait::async_trait;
use bytes::Bytes;
use nacre_types::Result;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A store that counts its requests.
#[derive(Debug)]
pub struct Metered<S> {
    inner: S,
    counters: Arc<Counters>,
}

/// Requests of one kind since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestCount {
    /// How many were sent.
    pub requests: u64,
    /// How many of them failed with an error; a conflict or a mismatch is an answer, and so is an absence.
    pub errors: u64,
    /// Bytes of bodies, up or down.
    pub bytes: u64,
}

/// Requests by kind since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Conditional puts.
    pub put: RequestCount,
    /// Reads of an object or a range.
    pub get: RequestCount,
    /// Heads.
    pub head: RequestCount,
    /// Pages of listings.
    pub list: RequestCount,
    /// Deletes.
    pub delete: RequestCount,
    /// Server-side copies.
    pub copy: RequestCount,
    /// Uploads begun, their parts and their ends.
    pub upload: RequestCount,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) put: Counter,
    pub(crate) get: Counter,
    pub(crate) head: Counter,
    pub(crate) list: Counter,
    pub(crate) delete: Counter,
    pub(crate) copy: Counter,
    pub(crate) upload: Counter,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> RequestCounts {
        RequestCounts {
            put: self.put.snapshot(),
            get: self.get.snapshot(),
            head: self.head.snapshot(),
            list: self.list.snapshot(),
            delete: self.delete.snapshot(),
            copy: self.copy.snapshot(),
            upload: self.upload.snapshot(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counter {
    requests: AtomicU64,
    errors: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    pub(crate) fn sent(&self, bytes: usize) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.moved(bytes);
    }

    pub(crate) fn moved(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    fn answered<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && error.kind() != nacre_types::ErrorKind::NotFound
        {
            self.failed();
        }
        result
    }

    fn snapshot(&self) -> RequestCount {
        RequestCount {
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

impl<S: ObjectStore> Metered<S> {
    /// Counts from zero.
    pub fn new(inner: S) -> Self {
        Self { inner, counters: Arc::default() }
    }

    /// What was asked so far.
    pub fn counters(&self) -> RequestCounts {
        self.counters.snapshot()
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for Metered<S> {
    async fn put(&self, path: &ObjectPath, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        self.counters.put.sent(body.len());
        self.counters.put.answered(self.inner.put(path, body, mode).await)
    }

    async fn get(&self, path: &ObjectPath, options: GetOptions) -> Result<Object> {
        self.counters.get.sent(0);
        let object = self.counters.get.answered(self.inner.get(path, options).await)?;
        self.counters.get.moved(object.bytes.len());
        Ok(object)
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        self.counters.head.sent(0);
        self.counters.head.answered(self.inner.head(path).await)
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectPath>, limit: usize) -> Result<Vec<ObjectMeta>> {
        self.counters.list.sent(0);
        self.counters.list.answered(self.inner.list(prefix, after, limit).await)
    }

    async fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.counters.delete.sent(0);
        self.counters.delete.answered(self.inner.delete(path).await)
    }

    async fn copy(&self, from: &ObjectPath, to: &ObjectPath, if_tag: &ObjectTag) -> Result<PutOutcome> {
        self.counters.copy.sent(0);
        self.counters.copy.answered(self.inner.copy(from, to, if_tag).await)
    }

    async fn upload(&self, path: &ObjectPath) -> Result<Box<dyn Upload>> {
        self.counters.upload.sent(0);
        let inner = self.counters.upload.answered(self.inner.upload(path).await)?;
        Ok(Box::new(MeteredUpload { inner, counters: self.counters.clone() }))
    }

    async fn date_micros(&self) -> Result<i64> {
        self.inner.date_micros().await
    }

    fn local_path(&self, path: &ObjectPath) -> Option<PathBuf> {
        self.inner.local_path(path)
    }

    fn url(&self, path: &ObjectPath) -> Option<String> {
        self.inner.url(path)
    }

    async fn check_promises(&self, taken: &ObjectPath) -> Result<()> {
        self.inner.check_promises(taken).await
    }

    /// The store's own count if it has one: one call may be several requests, and only the store knows.
    fn request_counts(&self) -> Option<RequestCounts> {
        self.inner.request_counts().or_else(|| Some(self.counters()))
    }
}

struct MeteredUpload {
    inner: Box<dyn Upload>,
    counters: Arc<Counters>,
}

#[async_trait]
impl Upload for MeteredUpload {
    async fn write(&mut self, part: Bytes) -> Result<()> {
        self.counters.upload.sent(part.len());
        self.counters.upload.answered(self.inner.write(part).await)
    }

    async fn finish(self: Box<Self>) -> Result<PutOutcome> {
        self.counters.upload.sent(0);
        self.counters.upload.answered(self.inner.finish().await)
    }

    async fn abort(self: Box<Self>) {
        self.inner.abort().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;
    use nacre_runtime::Context;

    #[tokio::test]
    async fn requests_bytes_and_errors_are_counted_and_absences_are_no_errors() {
        let store = Metered::new(MemoryStore::new(&Context::for_tests(1)));
        let path = ObjectPath::new("a").unwrap();
        store.put(&path, Bytes::from_static(b"12345"), PutMode::Create).await.unwrap();
        store.put(&path, Bytes::from_static(b"12345"), PutMode::Create).await.unwrap();
        store.get(&path, GetOptions::range(1..3)).await.unwrap();
        store.get(&path, GetOptions::range(1..9)).await.unwrap_err();
        store.get(&ObjectPath::new("b").unwrap(), GetOptions::default()).await.unwrap_err();
        let counts = store.counters();
        assert_eq!(counts.put, RequestCount { requests: 2, errors: 0, bytes: 10 });
        assert_eq!(counts.get, RequestCount { requests: 3, errors: 1, bytes: 2 });
        assert_eq!(counts.list, RequestCount::default());
    }
}
