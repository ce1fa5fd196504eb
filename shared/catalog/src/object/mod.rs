//! The catalog over an object store.
//!
//! ```text
//! <root>/<table>/edits/<sequence, 20 digits>   put if absent, never deleted
//! <root>/<table>/head                          replaced if unchanged; names a snapshot, may lag
//! <root>/records/<name>.record                 replaced if unchanged, never deleted
//! ```
//!
//! # Edits
//! Edit *n* is the object of that name: the put-if-absent is the commit. A name is never deleted, for a deleted one
//! could be created again by a process that slept through it, and its absence be taken for the log's end. Nobody lists:
//! a reader asks for the next name until there is none.
//!
//! What an attempt to put edit *n* may be told, and what follows:
//!
//! | answer | then |
//! |---|---|
//! | stored | committed |
//! | exists already, or nobody knows | read *n*: own commit id → committed; another's → conflict; absent or unreadable → unknown |
//! | certainly not | an error; says nothing of earlier attempts |
//!
//! "Exists already" is not a conflict by itself: a library that repeats a request whose answer was lost meets its own
//! effect. An absence after "nobody knows" is no rejection: the request may be under way for hours, and land in a log
//! that has gone on without it, if its appender moved on to the next sequence. Only another's edit at *n* rules it out,
//! because that name is taken for ever.
//!
//! An edit names its predecessor's commit id. The appender proves that by having read or written the predecessor (this
//! object remembers the newest of each table), so that no edit can be put beyond the end and leave a gap; a reader checks
//! the chain, and a chain that does not hold is Corrupt.
//!
//! # Records
//! The bytes are wrapped with a random write id. It makes every body new, so that a store whose tags are hashes (S3)
//! never gives an old tag again and a late if-match request can never land; and it lets a writer that was told
//! *mismatch* find that the body there is its own. A record that holds another's bytes is a conflict; where the attempt's
//! answer was lost, one's own may have been there for a moment. What rests on a record must therefore be recognisable in
//! it: an entry that is there or not, a holder's id; not a blind increment.
//!
//! Records' names end in `.record`, so that on a directory `a` and `a/b` can both be records.

mod records;
#[cfg(test)]
mod tests;

use crate::envelope::{decode_edit, decode_head, encode_edit, encode_head};
use crate::{Append, Catalog, EncodedEdit, LogHead, RecordPut, RecordTag, SnapshotRef};
use async_trait::async_trait;
use bytes::Bytes;
use nacre_runtime::{Context, Ids};
use nacre_store::{GetOptions, ObjectPath, ObjectStore, PutMode, PutOutcome};
use nacre_types::{CommitId, Error, ErrorKind, Result, Seq, TableId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// A catalog in an object store, by put-if-absent and replace-if-unchanged; the module's head argues it.
#[derive(Debug, Clone)]
pub struct ObjectCatalog {
    store: Arc<dyn ObjectStore>,
    root: ObjectPath,
    ids: Arc<dyn Ids>,
    /// The newest edit of each table that this object wrote or read. Edits never go, so it is never wrong, only old.
    newest: Arc<Mutex<HashMap<TableId, (Seq, CommitId)>>>,
    #[cfg(test)]
    flaws: Flaws,
}

/// Mistakes that tests make on purpose, to see that a suite notices.
#[cfg(test)]
#[derive(Debug, Default, Clone, Copy)]
struct Flaws {
    /// An absence after a lost answer is taken for a rejection.
    absence_is_conflict: bool,
    /// "Exists already" is taken for another's.
    exists_is_conflict: bool,
}

/// Most edits that are asked for at once: a page of a long log costs a few round trips, not one per edit.
const READ_AHEAD: usize = 32;
/// How often a head is tried against others who move it too; it is a hint.
const HEAD_ATTEMPTS: usize = 5;

impl ObjectCatalog {
    /// The catalog below `root` (for example `catalog`) of `store`. Opening asks the store nothing.
    ///
    /// # Errors
    /// `Invalid` (`object-path`) where `root` is no path.
    pub fn new(store: Arc<dyn ObjectStore>, root: &str, ctx: &Context) -> Result<Self> {
        Ok(Self {
            store,
            root: ObjectPath::new(root)?,
            ids: ctx.ids.clone(),
            newest: Arc::default(),
            #[cfg(test)]
            flaws: Flaws::default(),
        })
    }

    fn edit_path(&self, table: TableId, seq: Seq) -> Result<ObjectPath> {
        self.root.join(&format!("{table}/edits/{:020}", seq.0))
    }

    fn head_path(&self, table: TableId) -> Result<ObjectPath> {
        self.root.join(&format!("{table}/head"))
    }

    fn note(&self, table: TableId, seq: Seq, commit_id: CommitId) {
        let mut newest = self.newest.lock();
        let known = newest.entry(table).or_insert((seq, commit_id));
        if seq > known.0 {
            *known = (seq, commit_id);
        }
    }

    fn newest(&self, table: TableId) -> Option<(Seq, CommitId)> {
        self.newest.lock().get(&table).copied()
    }

    /// One edit; `None` = it is not there (yet).
    async fn edit(&self, table: TableId, seq: Seq) -> Result<Option<EncodedEdit>> {
        let path = self.edit_path(table, seq)?;
        let object = match self.store.get(&path, GetOptions::default()).await {
            Ok(object) => object,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.context(format!("reading edit {seq} of table {table}"))),
        };
        let what = format!("edit {seq} of table {table}");
        let (found, edit) = decode_edit(&what, object.bytes)?;
        if found != seq {
            return Err(Error::corrupt(format!("{what}: the object says that it is edit {found}"))
                .with_code("edit-corrupt"));
        }
        Ok(Some(edit))
    }

    /// Refuses what would leave a gap or fork the chain.
    async fn check_predecessor(&self, table: TableId, expected: Seq, edit: &EncodedEdit) -> Result<()> {
        let found = match self.newest(table) {
            _ if expected.0 == 0 => CommitId(0),
            // Behind: the put will meet an edit that exists.
            Some((newest, _)) if newest > expected => return Ok(()),
            Some((newest, commit_id)) if newest == expected => commit_id,
            _ => match self.edit(table, expected).await.map_err(certainly_not)? {
                Some(found) => {
                    self.note(table, expected, found.commit_id);
                    found.commit_id
                }
                None => {
                    return Err(Error::invalid(format!(
                        "edit {} of table {table}: the log does not reach {expected}; read it before appending",
                        expected.next()
                    ))
                    .with_code("append-beyond-end"));
                }
            },
        };
        if found == edit.predecessor {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "edit {} of table {table} names predecessor {}, but edit {expected} is {found}",
            expected.next(),
            edit.predecessor
        ))
        .with_code("append-predecessor"))
    }

    /// Reads what lies at `seq` after an attempt that said neither yes nor no.
    async fn settle(&self, table: TableId, seq: Seq, edit: &EncodedEdit) -> Append {
        match self.edit(table, seq).await {
            Ok(Some(found)) if found == *edit => {
                self.note(table, seq, edit.commit_id);
                Append::Committed(seq)
            }
            Ok(Some(found)) if found.commit_id == edit.commit_id => {
                tracing::error!(%table, %seq, commit_id = %edit.commit_id, "a commit id stands for two edits");
                Append::Unknown
            }
            Ok(Some(found)) => {
                self.note(table, seq, found.commit_id);
                Append::Conflict { now_at: self.newest(table).map_or(seq, |(newest, _)| newest.max(seq)) }
            }
            #[cfg(test)]
            Ok(None) if self.flaws.absence_is_conflict => Append::Conflict { now_at: seq },
            Ok(None) => Append::Unknown,
            Err(error) => {
                tracing::warn!(%table, %seq, %error, "an append cannot be settled yet");
                Append::Unknown
            }
        }
    }
}

/// A read before anything was sent: the attempt had no effect.
fn certainly_not(error: Error) -> Error {
    if error.kind() == ErrorKind::Unknown { error.with_kind(ErrorKind::Unavailable) } else { error }
}

#[async_trait]
impl Catalog for ObjectCatalog {
    async fn append(&self, table: TableId, expected: Seq, edit: &EncodedEdit) -> Result<Append> {
        self.check_predecessor(table, expected, edit).await?;
        let seq = expected.next();
        let path = self.edit_path(table, seq)?;
        match self.store.put(&path, encode_edit(seq, edit), PutMode::Create).await {
            Ok(PutOutcome::Stored(_)) => {
                self.note(table, seq, edit.commit_id);
                Ok(Append::Committed(seq))
            }
            #[cfg(test)]
            Ok(PutOutcome::AlreadyExists) if self.flaws.exists_is_conflict => {
                Ok(Append::Conflict { now_at: seq })
            }
            Ok(PutOutcome::AlreadyExists | PutOutcome::Mismatch) => Ok(self.settle(table, seq, edit).await),
            Err(error) if error.kind() == ErrorKind::Unknown => Ok(self.settle(table, seq, edit).await),
            Err(error) => Err(error.context(format!("appending edit {seq} of table {table}"))),
        }
    }

    async fn read(&self, table: TableId, after: Seq, limit: usize) -> Result<Vec<(Seq, EncodedEdit)>> {
        let mut edits: Vec<(Seq, EncodedEdit)> = Vec::new();
        let mut previous = match self.newest(table) {
            _ if after.0 == 0 => Some(CommitId(0)),
            Some((newest, commit_id)) if newest == after => Some(commit_id),
            _ => None,
        };
        // Who follows a log finds nothing or one new edit; who opens it finds many.
        let mut window = 1;
        let mut next = after.next();
        'pages: while edits.len() < limit {
            let asked = window.min(limit - edits.len());
            let wanted: Vec<Seq> = (0..asked as u64).map(|n| Seq(next.0.saturating_add(n))).collect();
            let found = futures::future::join_all(wanted.iter().map(|seq| self.edit(table, *seq))).await;
            for (seq, edit) in wanted.into_iter().zip(found) {
                // Asked for at the same time, a later one may have come after the absence of an earlier one was seen.
                let Some(edit) = edit? else { break 'pages };
                if previous.is_some_and(|previous| previous != edit.predecessor) {
                    return Err(Error::corrupt(format!(
                        "edit {seq} of table {table} names predecessor {}, which is not the edit before it",
                        edit.predecessor
                    ))
                    .with_code("table-log-forked"));
                }
                previous = Some(edit.commit_id);
                edits.push((seq, edit));
                next = seq.next();
            }
            window = (window * 4).min(READ_AHEAD);
        }
        if let Some((seq, edit)) = edits.last() {
            self.note(table, *seq, edit.commit_id);
        }
        Ok(edits)
    }

    async fn head(&self, table: TableId) -> Result<LogHead> {
        match self.store.get(&self.head_path(table)?, GetOptions::default()).await {
            Ok(object) => {
                Ok(LogHead { snapshot: Some(decode_head(&format!("head of table {table}"), object.bytes)?) })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(LogHead::default()),
            Err(error) => Err(error.context(format!("reading the head of table {table}"))),
        }
    }

    async fn set_head(&self, table: TableId, snapshot: SnapshotRef) -> Result<()> {
        let path = self.head_path(table)?;
        let body = encode_head(&snapshot);
        for _ in 0..HEAD_ATTEMPTS {
            let mode = match self.store.get(&path, GetOptions::default()).await {
                Ok(object) => {
                    let known = decode_head(&format!("head of table {table}"), object.bytes)?;
                    if known.seq >= snapshot.seq {
                        return Ok(());
                    }
                    PutMode::Replace(object.meta.tag)
                }
                Err(error) if error.kind() == ErrorKind::NotFound => PutMode::Create,
                Err(error) => return Err(error),
            };
            match self.store.put(&path, body.clone(), mode).await {
                Ok(PutOutcome::Stored(_)) => return Ok(()),
                // The next look tells.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Unknown => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn record(&self, name: &str) -> Result<Option<(Bytes, RecordTag)>> {
        self.read_record(name).await.map(|found| found.map(|(_, bytes, tag)| (bytes, tag)))
    }

    async fn put_record(&self, name: &str, expected: Option<&RecordTag>, bytes: Bytes) -> Result<RecordPut> {
        self.write_record(name, expected, &bytes).await
    }
}
