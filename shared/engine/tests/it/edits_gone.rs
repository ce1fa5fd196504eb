//! A process that slept until the edits that it lacks were gone.

use crate::harness::Harness;
use async_trait::async_trait;
use bytes::Bytes;
use nacre_catalog::{
    Append, Catalog, EDITS_GONE, EncodedEdit, LogHead, ObjectCatalog, RecordPut, RecordTag, SnapshotRef,
};
use nacre_engine::NodeConfig;
use nacre_runtime::Context;
use nacre_types::{Error, ErrorKind, NamespaceName, Result, Seq, TableId, TableName, TableSettings};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A catalog whose edits up to a sequence are gone; while that is `ASLEEP`, nothing of the table logs is read.
#[derive(Debug)]
pub(crate) struct Forgetful {
    pub(crate) inner: ObjectCatalog,
    pub(crate) gone: AtomicU64,
}

pub(crate) const ASLEEP: u64 = u64::MAX;

impl Forgetful {
    fn check(&self, seq: Seq, kind: ErrorKind) -> Result<()> {
        match self.gone.load(Ordering::Relaxed) {
            ASLEEP => Err(Error::unavailable("asleep")),
            gone if seq.0 <= gone => Err(Error::conflict("gone").with_code(EDITS_GONE).with_kind(kind)),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Catalog for Forgetful {
    async fn append(&self, table: TableId, expected: Seq, edit: &EncodedEdit) -> Result<Append> {
        self.check(expected.next(), ErrorKind::Unknown)?;
        self.inner.append(table, expected, edit).await
    }

    async fn read(&self, table: TableId, after: Seq, limit: usize) -> Result<Vec<(Seq, EncodedEdit)>> {
        self.check(after.next(), ErrorKind::Conflict)?;
        self.inner.read(table, after, limit).await
    }

    async fn head(&self, table: TableId) -> Result<LogHead> {
        self.inner.head(table).await
    }

    async fn set_head(&self, table: TableId, snapshot: SnapshotRef) -> Result<()> {
        self.inner.set_head(table, snapshot).await
    }

    async fn record(&self, name: &str) -> Result<Option<(Bytes, RecordTag)>> {
        self.inner.record(name).await
    }

    async fn put_record(&self, name: &str, expected: Option<&RecordTag>, bytes: Bytes) -> Result<RecordPut> {
        self.inner.put_record(name, expected, bytes).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_next_edit_is_gone_goes_on_from_the_snapshot() {
    let awake = Harness::memory().await;
    let (namespace, name) = (NamespaceName::new("default").unwrap(), TableName::new("t").unwrap());
    let table = awake.table("t", TableSettings { max_versions: 0, ..TableSettings::default() }).await;

    let ctx = Context::for_tests(2);
    let catalog = Arc::new(Forgetful {
        inner: ObjectCatalog::new(awake.store.clone(), "catalog", &ctx).unwrap(),
        gone: AtomicU64::new(0),
    });
    let sleeper = Harness::by_catalog(ctx, awake.store.clone(), catalog.clone(), NodeConfig::default()).await;
    let stale = sleeper.node.table(&namespace, &name).await.unwrap();
    catalog.gone.store(ASLEEP, Ordering::Relaxed);

    // Until there is a snapshot. What a table keeps at most can only be lowered.
    for max_versions in (2..=400).rev() {
        let change = move |now: &TableSettings| Ok(TableSettings { max_versions, ..now.clone() });
        awake.node.update_table(&namespace, &name, change).await.unwrap();
    }
    let covered = loop {
        if let Some(snapshot) = awake.node.catalog().head(table.id()).await.unwrap().snapshot {
            break snapshot.seq;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    catalog.gone.store(covered.0, Ordering::Relaxed);

    // The process may have heard of the snapshot before. An append at a sequence whose edit is gone is never known to have lost, and the next one does better.
    let mut said = Vec::new();
    for _ in 0..3 {
        let change = |now: &TableSettings| Ok(TableSettings { max_versions: 1, ..now.clone() });
        let changed = sleeper.node.update_table(&namespace, &name, change).await;
        said.push(changed.map(drop).map_err(|error| error.code()));
    }
    assert!(said[0] == Err(EDITS_GONE) || said[0].is_ok(), "{said:?}");
    assert!(said[2].is_ok(), "{said:?}");
    assert_eq!(stale.settings().max_versions, 1);
    assert!(stale.info().manifest > covered);
}
