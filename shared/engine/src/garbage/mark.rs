//! The mark: the moment from which a table's garbage is proven, one record of the catalog per table.

use std::collections::BTreeSet;
use std::sync::Arc;

use nacre_catalog::{RecordPut, RecordTag, SnapshotRef};
use nacre_types::{CommitId, LoadId, Result, Seq, TableId};
use serde::{Deserialize, Serialize};

use crate::Table;
use crate::names;
use crate::table::write_snapshot;

/// The table's manifest was this one at that moment or a little before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    seq: u64,
    /// 32 hex digits.
    commit_id: String,
    /// The manifest snapshot of that sequence.
    path: String,
    /// The store's date, in microseconds.
    pub(super) at_micros: i64,
    /// Loads whose staging places may hold something, 32 hex digits each: so that a place is still known to be the
    /// table's when the load is forgotten.
    loads: BTreeSet<String>,
}

impl Mark {
    pub(super) fn snapshot(&self) -> Result<SnapshotRef> {
        let commit_id = CommitId::parse(&self.commit_id)?;
        Ok(SnapshotRef { seq: Seq(self.seq), commit_id, path: self.path.clone() })
    }

    pub(super) fn loads(&self) -> Result<BTreeSet<LoadId>> {
        self.loads.iter().map(|load| LoadId::parse(load)).collect()
    }
}

/// A mark and what identifies it in the catalog.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) mark: Mark,
    pub(super) tag: RecordTag,
    /// Whether its manifest and the edits behind it were there.
    pub(super) is_sound: bool,
}

fn record_name(table: TableId) -> String {
    format!("garbage/{table}")
}

impl Table {
    /// The table's mark.
    ///
    /// # Errors
    /// `Unavailable`; `Corrupt`, and then nothing is collected until somebody has looked.
    pub(super) async fn garbage_mark(&self) -> Result<Option<Held>> {
        let found = self.shared.catalog.record(&record_name(self.id())).await?;
        let Some((bytes, tag)) = found else { return Ok(None) };
        Ok(Some(Held { mark: names::decode(&bytes, "garbage mark")?, tag, is_sound: true }))
    }

    /// Takes a mark here and now, in place of `before` if that still is the one; another's is as good.
    ///
    /// # Errors
    /// `Unavailable`, `Unknown`.
    pub(super) async fn take_garbage_mark(
        self: &Arc<Self>,
        before: Option<&Held>,
        mut loads: BTreeSet<LoadId>,
    ) -> Result<()> {
        let (manifest, commit_id) = self.newest_manifest().await?;
        // Behind the manifest: whatever was the newest from this date on is that one or a later one.
        let at_micros = self.shared.store.date_micros().await?;
        loads.extend(manifest.loads().map(|load| load.id));
        let known = before.filter(|held| held.is_sound && held.mark.seq == manifest.seq().0);
        let path = match known {
            Some(held) => held.mark.path.clone(),
            None => write_snapshot(&self.shared, &manifest, commit_id).await?.path,
        };
        let mark = Mark {
            seq: manifest.seq().0,
            commit_id: commit_id.to_string(),
            path,
            at_micros,
            loads: loads.into_iter().map(|load| load.to_string()).collect(),
        };
        self.shared.ctx.phases.reach("garbage/mark").await;
        let tag = before.map(|held| &held.tag);
        let put = self.shared.catalog.put_record(&record_name(self.id()), tag, names::encode(&mark)?).await?;
        if !matches!(put, RecordPut::Stored(_)) {
            tracing::debug!(table = %self.id(), ?put, "the mark may be another's; the next look tells");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_keep_their_bytes() {
        let mark = Mark {
            seq: 7,
            commit_id: CommitId(9).to_string(),
            path: "tables/x/manifests/00000000000000000007".to_owned(),
            at_micros: 5,
            loads: BTreeSet::from([LoadId(1).to_string()]),
        };
        let golden = b"{\"seq\":7,\"commit_id\":\"00000000000000000000000000000009\",\"path\":\"tables/x/manifests/00000000000000000007\",\"at_micros\":5,\"loads\":[\"00000000000000000000000000000001\"]}";
        let bytes = names::encode(&mark).unwrap();
        assert_eq!((bytes[0], &bytes[5..]), (1, &golden[..]));
        assert_eq!(names::decode::<Mark>(&bytes, "garbage mark").unwrap(), mark);
        assert_eq!(mark.snapshot().unwrap().commit_id, CommitId(9));
    }
}
