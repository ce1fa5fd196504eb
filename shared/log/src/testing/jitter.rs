//! A store that takes its time, and a clock that goes with tokio's.

use async_trait::async_trait;
use bytes::Bytes;
use nacre_runtime::{Clock, Ids, SeededIds, SystemClock};
use nacre_store::{
    GetOptions, Object, ObjectMeta, ObjectPath, ObjectStore, ObjectTag, PutMode, PutOutcome, Upload,
};
use nacre_types::Result;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A wall clock that starts in 2023 and goes with tokio's time: under paused time a test repeats to the microsecond.
#[derive(Debug)]
pub struct TestClock {
    measured: SystemClock,
    ahead: i64,
}

impl TestClock {
    /// A clock that is `ahead` microseconds before its time.
    pub fn new(ahead: i64) -> Self {
        Self { measured: SystemClock::new(), ahead }
    }

    /// The clock of another machine, `ahead` microseconds before this one.
    #[must_use]
    pub fn skewed(&self, ahead: i64) -> Self {
        Self { measured: self.measured.clone(), ahead: self.ahead + ahead }
    }
}

impl Clock for TestClock {
    fn now_micros(&self) -> i64 {
        1_700_000_000_000_000 + self.ahead + i64::try_from(self.measured.monotonic().as_micros()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.measured.monotonic()
    }
}

/// Delays every request before and after it takes effect, now and then by a lot. Without delays a store in memory never
/// yields, and nothing races.
#[derive(Debug)]
pub struct JitterStore {
    inner: Arc<dyn ObjectStore>,
    ids: SeededIds,
    max: Duration,
}

impl JitterStore {
    /// Delays of up to `max`; one in twenty of up to thirty times that.
    pub fn new(inner: Arc<dyn ObjectStore>, seed: u64, max: Duration) -> Self {
        Self { inner, ids: SeededIds::new(seed), max }
    }

    async fn wait(&self) {
        let dice = self.ids.random_u64();
        let max = if dice.is_multiple_of(20) { self.max * 30 } else { self.max };
        let nanos = u64::try_from(max.as_nanos()).unwrap();
        tokio::time::sleep(Duration::from_nanos(self.ids.random_u64() % nanos.max(1))).await;
    }

    async fn around<T>(&self, request: impl Future<Output = T> + Send) -> T {
        self.wait().await;
        let answer = request.await;
        self.wait().await;
        answer
    }
}

#[async_trait]
impl ObjectStore for JitterStore {
    async fn put(&self, path: &ObjectPath, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        self.around(self.inner.put(path, body, mode)).await
    }
    async fn get(&self, path: &ObjectPath, options: GetOptions) -> Result<Object> {
        self.around(self.inner.get(path, options)).await
    }
    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        self.around(self.inner.head(path)).await
    }
    async fn list(&self, prefix: &str, after: Option<&ObjectPath>, limit: usize) -> Result<Vec<ObjectMeta>> {
        self.inner.list(prefix, after, limit).await
    }
    async fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.around(self.inner.delete(path)).await
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
        self.inner.local_path(path)
    }
    fn url(&self, path: &ObjectPath) -> Option<String> {
        self.inner.url(path)
    }
    async fn check_promises(&self, taken: &ObjectPath) -> Result<()> {
        self.inner.check_promises(taken).await
    }
}
