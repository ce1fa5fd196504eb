//! One object that the first append of a burst touches, so that an idle process has one thing to look at.
//!
//! The beacon is a hint. A touch that is lost costs a waiting reader until its next look at the chunks themselves,
//! never a record.

use nacre_runtime::Context;
use nacre_store::{ObjectPath, ObjectStore, ObjectTag, PutMode};
use nacre_types::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

#[derive(Debug)]
pub(super) struct Beacon {
    store: Arc<dyn ObjectStore>,
    ctx: Context,
    path: ObjectPath,
    /// Partitions that poll within this time share a look.
    share: Duration,
    timeout: Duration,
    seen: Mutex<Seen>,
    /// When this process last appended, on the monotonic clock.
    appended: parking_lot::Mutex<Option<Duration>>,
}

#[derive(Debug, Default)]
struct Seen {
    looked: Option<Duration>,
    tag: Option<ObjectTag>,
    changes: u64,
}

impl Beacon {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        ctx: Context,
        path: ObjectPath,
        share: Duration,
        timeout: Duration,
    ) -> Self {
        Self {
            store,
            ctx,
            path,
            share,
            timeout,
            seen: Mutex::default(),
            appended: parking_lot::Mutex::new(None),
        }
    }

    /// How many changes of the beacon this process has seen; looks, unless another partition just did.
    pub(super) async fn changes(&self) -> Result<u64> {
        let mut seen = self.seen.lock().await;
        let now = self.ctx.clock.monotonic();
        if seen.looked.is_some_and(|at| now.saturating_sub(at) < self.share) {
            return Ok(seen.changes);
        }
        let tag = self.tag().await?;
        seen.looked = Some(now);
        if seen.tag != tag {
            seen.tag = tag;
            seen.changes += 1;
        }
        Ok(seen.changes)
    }

    async fn tag(&self) -> Result<Option<ObjectTag>> {
        match tokio::time::timeout(self.timeout, self.store.head(&self.path)).await {
            Ok(Ok(meta)) => Ok(Some(meta.tag)),
            Ok(Err(error)) if error.kind() == ErrorKind::NotFound => Ok(None),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::unavailable("the beacon does not answer").with_code("log-store-silent")),
        }
    }

    /// An append begins; whether it is the first after `pause`.
    pub(super) fn begins_burst(&self, pause: Duration) -> bool {
        let now = self.ctx.clock.monotonic();
        let last = self.appended.lock().replace(now);
        last.is_none_or(|at| now.saturating_sub(at) >= pause)
    }

    /// Changes the beacon. If another changes it at the same time, that does as well.
    pub(super) async fn touch(&self) -> Result<()> {
        let mode = match self.tag().await? {
            Some(tag) => PutMode::Replace(tag),
            None => PutMode::Create,
        };
        // Nobody decodes it; a tag may be a hash of the bytes, so they must differ.
        let bytes = format!("nacre log beacon 1 {:032x}\n", self.ctx.ids.random_u128()).into();
        let put = self.store.put(&self.path, bytes, mode);
        tokio::time::timeout(self.timeout, put).await.unwrap_or_else(|_| {
            Err(Error::unknown("the beacon does not answer").with_code("log-store-silent"))
        })?;
        Ok(())
    }
}
