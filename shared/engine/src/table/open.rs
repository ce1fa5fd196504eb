//! Opening a table: the newest snapshot, then the edits after it.

use std::sync::Arc;

use nacre_catalog::{Catalog, EDITS_GONE, SnapshotRef};
use nacre_manifest::Manifest;
use nacre_store::{GetOptions, ObjectPath, ObjectStore, PutMode, PutOutcome};
use nacre_types::{CommitId, Error, Result, Seq, TableId};

use super::commit::{Cursor, fold};
use crate::shared::Shared;

/// What the catalog holds of a table.
pub(super) struct Opened {
    pub(super) manifest: Manifest,
    pub(super) cursor: Cursor,
}

/// How often the head is read where the edits after its snapshot go meanwhile: each time it names a newer one.
const OPENS: usize = 3;

/// Reads a table's state. `None` where its log has no edit: the table was never made.
pub(super) async fn read_table(shared: &Shared, table: TableId) -> Result<Option<Opened>> {
    read_stored(&*shared.catalog, &*shared.store, table).await
}

/// Reads a table's manifest without a node. `None` as for [`read_table`].
pub(crate) async fn read_manifest(
    catalog: &dyn Catalog,
    store: &dyn ObjectStore,
    table: TableId,
) -> Result<Option<Manifest>> {
    Ok(read_stored(catalog, store, table).await?.map(|opened| opened.manifest))
}

async fn read_stored(
    catalog: &dyn Catalog,
    store: &dyn ObjectStore,
    table: TableId,
) -> Result<Option<Opened>> {
    for _ in 1..OPENS {
        match read_from_head(catalog, store, table).await {
            Err(error) if error.code() == EDITS_GONE => {}
            read => return read,
        }
    }
    read_from_head(catalog, store, table).await
}

async fn read_from_head(
    catalog: &dyn Catalog,
    store: &dyn ObjectStore,
    table: TableId,
) -> Result<Option<Opened>> {
    const PAGE: usize = 256;
    let head = catalog.head(table).await?;
    let (mut manifest, mut commit_id) = match &head.snapshot {
        Some(snapshot) => (read_snapshot(store, table, snapshot).await?, snapshot.commit_id),
        None => (Manifest::empty(table), CommitId(0)),
    };
    let snapshot = manifest.seq();
    loop {
        let edits = catalog.read(table, manifest.seq(), PAGE).await?;
        match fold(&manifest, commit_id, &edits)? {
            Some((next, last)) => (manifest, commit_id) = (next, last),
            None => break,
        }
        if edits.len() < PAGE {
            break;
        }
    }
    if manifest.seq() == Seq(0) {
        return Ok(None);
    }
    Ok(Some(Opened { manifest, cursor: Cursor { commit_id, unsettled: None, snapshot } }))
}

/// The manifest of a snapshot.
pub(crate) async fn read_snapshot(
    store: &dyn ObjectStore,
    table: TableId,
    snapshot: &SnapshotRef,
) -> Result<Manifest> {
    let path = ObjectPath::new(&snapshot.path)?;
    let object = store.get(&path, GetOptions::default()).await?;
    let manifest =
        Manifest::decode(&object.bytes).map_err(|e| e.context(format!("manifest snapshot {path}")))?;
    if manifest.table() != table || manifest.seq() != snapshot.seq {
        return Err(Error::corrupt(format!(
            "manifest snapshot {path} is of table {} at {}, not of table {table} at {}",
            manifest.table(),
            manifest.seq(),
            snapshot.seq
        )));
    }
    Ok(manifest)
}

/// Writes the manifest at its sequence and points the head to it. Its bytes are a function of the sequence, so
/// whoever finds it written is done.
pub(crate) async fn write_snapshot(
    shared: &Shared,
    manifest: &Arc<Manifest>,
    commit_id: CommitId,
) -> Result<SnapshotRef> {
    let path = ObjectPath::new(&format!("tables/{}/manifests/{:020}", manifest.table(), manifest.seq().0))?;
    match shared.store.put(&path, manifest.encode(), PutMode::Create).await? {
        PutOutcome::Stored(_) | PutOutcome::AlreadyExists => {}
        PutOutcome::Mismatch => return Err(Error::internal("a create was answered as a replace")),
    }
    let snapshot = SnapshotRef { seq: manifest.seq(), commit_id, path: path.as_str().to_owned() };
    shared.catalog.set_head(manifest.table(), snapshot.clone()).await?;
    Ok(snapshot)
}
