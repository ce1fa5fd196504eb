//! A store that can be stopped at a place.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use nacre_runtime::Context;
use nacre_store::{
    GetOptions, LocalStore, Object, ObjectMeta, ObjectPath, ObjectStore, ObjectTag, PutMode, PutOutcome,
    Upload,
};
use nacre_types::{Result, TableSettings};

use crate::harness::Harness;

/// A directory that stops answering puts of some kind once some have been put.
#[derive(Debug)]
pub(crate) struct Gate {
    inner: LocalStore,
    /// Whether a path is of the kind.
    of: fn(&str) -> bool,
    /// Puts so far.
    pub(crate) puts: AtomicU32,
    /// Puts beyond this many hang until the gate is open.
    limit: AtomicU32,
    /// Whether a put hangs.
    is_hanging: AtomicBool,
    /// Whether files may be read past the store, as on a disk of this machine.
    is_local: bool,
}

impl Gate {
    /// Waits until a put hangs.
    pub(crate) async fn hangs(&self) {
        while !self.is_hanging.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn open(&self) {
        self.limit.store(u32::MAX, Ordering::SeqCst);
    }

    pub(crate) fn puts(&self) -> u32 {
        self.puts.load(Ordering::SeqCst)
    }
}

/// Segments of tables: runs and what is merged of them.
pub(crate) fn segments(path: &str) -> bool {
    path.starts_with("tables/") && path.ends_with(".parquet")
}

#[async_trait]
impl ObjectStore for Gate {
    async fn put(&self, path: &ObjectPath, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        if (self.of)(path.as_str()) {
            while self.puts.load(Ordering::SeqCst) >= self.limit.load(Ordering::SeqCst) {
                self.is_hanging.store(true, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            self.puts.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.put(path, body, mode).await
    }
    async fn get(&self, path: &ObjectPath, options: GetOptions) -> Result<Object> {
        self.inner.get(path, options).await
    }
    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        self.inner.head(path).await
    }
    async fn list(&self, prefix: &str, after: Option<&ObjectPath>, limit: usize) -> Result<Vec<ObjectMeta>> {
        self.inner.list(prefix, after, limit).await
    }
    async fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.inner.delete(path).await
    }
    async fn copy(&self, from: &ObjectPath, to: &ObjectPath, if_tag: &ObjectTag) -> Result<PutOutcome> {
        self.inner.copy(from, to, if_tag).await
    }
    async fn upload(&self, path: &ObjectPath) -> Result<Box<dyn Upload>> {
        self.inner.upload(path).await
    }
    async fn date_micros(&self) -> Result<i64> {
        self.inner.date_micros().await
    }
    fn local_path(&self, path: &ObjectPath) -> Option<PathBuf> {
        self.inner.local_path(path).filter(|_| self.is_local)
    }
}

/// A process over a store that lets so many segments through.
pub(crate) async fn gated(limit: u32) -> (Harness, Arc<Gate>) {
    over_gate(limit, true).await
}

/// A process whose store is, as far as it can see, on no disk of its machine.
pub(crate) async fn elsewhere() -> Harness {
    over_gate(u32::MAX, false).await.0
}

async fn over_gate(limit: u32, is_local: bool) -> (Harness, Arc<Gate>) {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    process(folder, 1, segments, limit, is_local).await
}

/// One of several processes over a directory: `seed` tells them apart.
pub(crate) async fn process(
    folder: Arc<tempfile::TempDir>,
    seed: u64,
    of: fn(&str) -> bool,
    limit: u32,
    is_local: bool,
) -> (Harness, Arc<Gate>) {
    let ctx = Context::for_tests(seed);
    let gate = Arc::new(Gate {
        inner: LocalStore::open(folder.path(), &ctx).unwrap(),
        of,
        puts: AtomicU32::new(0),
        limit: AtomicU32::new(limit),
        is_hanging: AtomicBool::new(false),
        is_local,
    });
    let harness = Harness::over(gate.clone(), folder, ctx, TableSettings::default()).await;
    (harness, gate)
}
