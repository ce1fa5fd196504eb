//! Appending to and reading a table's log; the head of the module above argues it.

use super::DynamoCatalog;
use super::answer::Failed;
use super::item::{self, Fields, Head, Item, Kept, item_of};
use crate::envelope::{decode_edit, encode_edit};
use crate::{Append, EDITS_GONE, EncodedEdit};
use nacre_types::{CommitId, Error, ErrorKind, Result, Seq, TableId};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Conditions and updates, in DynamoDB's words.
pub(super) const ABSENT: &str = "attribute_not_exists(pk)";
pub(super) const FIRST: &str = "attribute_not_exists(log_seq)";
pub(super) const FOLLOWS: &str = "log_seq = :at AND log_commit = :before";
pub(super) const ADVANCE: &str = "SET log_seq = :next, log_commit = :own, format_version = :format";
pub(super) const BETWEEN: &str = "pk = :pk AND sk BETWEEN :from AND :to";

/// Objects that are read at once.
const FAR_AT_ONCE: usize = 16;
/// How often a log is read again whose items contradict each other for a moment.
const LOOKS: usize = 4;

/// The transaction that appends an edit.
pub(super) fn append_request(
    table_name: &str,
    pk: &str,
    expected: Seq,
    edit: &EncodedEdit,
    kept: &Kept,
) -> Value {
    let next = expected.next();
    let mut values = json!({
        ":next": item::number(next.0),
        ":own": item::binary(&edit.commit_id.to_bytes()),
        ":format": item::format(),
    });
    let condition = if expected.0 == 0 {
        FIRST
    } else {
        values[":at"] = item::number(expected.0);
        values[":before"] = item::binary(&edit.predecessor.to_bytes());
        FOLLOWS
    };
    json!({
        "ClientRequestToken": edit.commit_id.to_string(),
        "TransactItems": [
            { "Update": {
                "TableName": table_name,
                "Key": item::key(pk, 0),
                "ConditionExpression": condition,
                "UpdateExpression": ADVANCE,
                "ExpressionAttributeValues": values,
            } },
            { "Put": {
                "TableName": table_name,
                "Item": item::edit_item(pk, next, kept),
                "ConditionExpression": ABSENT,
            } },
        ],
    })
}

impl DynamoCatalog {
    pub(super) async fn append_once(
        &self,
        table: TableId,
        expected: Seq,
        edit: &EncodedEdit,
    ) -> Result<Append> {
        let seq = expected.next();
        let doing = || format!("appending edit {seq} of table {table}");
        if expected.0 == 0 && edit.predecessor != CommitId(0) {
            return Err(wrong_predecessor(table, expected, edit, CommitId(0)));
        }
        let frame = encode_edit(seq, edit);
        let copied = self.bodies.copy_edit(table, seq, edit.commit_id, &frame).await;
        let far = copied.map_err(|error| error.context(doing()))?;
        let kept =
            if frame.len() <= self.wire.tuning.edit_bytes { Kept::Here(frame) } else { Kept::Far(far) };
        let request = append_request(self.wire.table(), &self.log_key(table), expected, edit, &kept);
        match self.wire.write("TransactWriteItems", &request).await {
            Ok(_) => {
                self.note(table, seq, edit.commit_id);
                Ok(Append::Committed(seq))
            }
            #[cfg(test)]
            Err(Failed::Condition) if self.flaws.condition_is_conflict => {
                Ok(Append::Conflict { now_at: seq })
            }
            Err(Failed::Condition) => self.settle(table, expected, edit, true).await,
            Err(Failed::Unknown(error)) => {
                tracing::debug!(%table, %seq, %error, "what became of an append is looked up");
                self.settle(table, expected, edit, false).await
            }
            Err(Failed::No(error)) => Err(error.context(doing())),
        }
    }

    /// Looks at what lies at the edit's sequence. `refused` = the attempt before certainly had no effect.
    async fn settle(
        &self,
        table: TableId,
        expected: Seq,
        edit: &EncodedEdit,
        refused: bool,
    ) -> Result<Append> {
        let seq = expected.next();
        let looked = async {
            // An edit's item never changes: one that is there is the truth, and costs the least to read.
            match self.edit_at(table, seq).await? {
                Some(found) => Ok((None, Some(found))),
                None => self.head_and_edit(table, seq).await.map(|(head, found)| (Some(head), found)),
            }
        };
        match looked.await {
            Ok((_, Some(found))) => Ok(self.compare(table, seq, edit, &found)),
            #[cfg(test)]
            Ok(_) if self.flaws.absence_is_conflict => Ok(Append::Conflict { now_at: seq }),
            // The log has passed it, and its item is gone: committed once or never, it is not under way any more.
            Ok((Some(head), None)) if head.stands() >= seq => {
                Err(edits_gone(table, seq, &head).with_kind(ErrorKind::Unknown))
            }
            Ok((Some(head), None)) if refused && head.stands() < expected => Err(Error::invalid(format!(
                "edit {seq} of table {table}: the log stands at {}, not at {expected}; read it before appending",
                head.stands()
            ))
            .with_code("append-beyond-end")),
            Ok((Some(head), None)) if refused && head.commit_id() != edit.predecessor => {
                Err(wrong_predecessor(table, expected, edit, head.commit_id()))
            }
            Ok(_) => Ok(Append::Unknown),
            Err(error) => {
                tracing::warn!(%table, %seq, %error, "an append cannot be settled yet");
                Ok(Append::Unknown)
            }
        }
    }

    fn compare(&self, table: TableId, seq: Seq, edit: &EncodedEdit, found: &EncodedEdit) -> Append {
        if found == edit {
            self.note(table, seq, edit.commit_id);
            return Append::Committed(seq);
        }
        if found.commit_id == edit.commit_id {
            tracing::error!(%table, %seq, commit_id = %edit.commit_id, "a commit id stands for two edits");
            return Append::Unknown;
        }
        self.note(table, seq, found.commit_id);
        Append::Conflict { now_at: self.newest(table).map_or(seq, |(newest, _)| newest.max(seq)) }
    }

    /// One edit; `None` = there is no such item.
    async fn edit_at(&self, table: TableId, seq: Seq) -> Result<Option<EncodedEdit>> {
        let request = json!({
            "TableName": self.wire.table(),
            "Key": item::key(&self.log_key(table), seq.0),
            "ConsistentRead": true,
        });
        let answer = self.wire.read("GetItem", &request).await;
        let answer = answer.map_err(|error| error.context(format!("reading edit {seq} of table {table}")))?;
        match item_of(&answer, "Item") {
            None => Ok(None),
            Some(item) => self.edit_of(table, seq, item).await.map(Some),
        }
    }

    /// The head and an edit as of one moment: a transaction that is half way through makes this fail, where reading one
    /// after the other could see its first half.
    async fn head_and_edit(&self, table: TableId, seq: Seq) -> Result<(Head, Option<EncodedEdit>)> {
        let pk = self.log_key(table);
        let get = |sk| json!({ "Get": { "TableName": self.wire.table(), "Key": item::key(&pk, sk) } });
        let request = json!({ "TransactItems": [get(0), get(seq.0)] });
        let what = format!("the head and edit {seq} of table {table}");
        let answer = self.wire.read("TransactGetItems", &request).await;
        let answer = answer.map_err(|error| error.context(format!("reading {what}")))?;
        let found = answer.get("Responses").and_then(Value::as_array).filter(|found| found.len() == 2);
        let [head, edit] = found.map(Vec::as_slice).unwrap_or_default() else {
            return Err(odd(&what));
        };
        let head = match item_of(head, "Item") {
            None => Head::default(),
            Some(item) => Fields::open(item, format!("the head of table {table}"), "head-corrupt")?.head()?,
        };
        let edit = match item_of(edit, "Item") {
            None => None,
            Some(item) => Some(self.edit_of(table, seq, item).await?),
        };
        Ok((head, edit))
    }

    async fn edit_of(&self, table: TableId, seq: Seq, item: &Item) -> Result<EncodedEdit> {
        let what = format!("edit {seq} of table {table}");
        let (at, kept) = Fields::open(item, &what, "edit-corrupt")?.edit()?;
        if at != seq {
            return Err(odd(&what));
        }
        let frame = match kept {
            Kept::Here(frame) => frame,
            Kept::Far(far) => self.bodies.get(&far, &what, "edit-corrupt").await?,
        };
        let (found, edit) = decode_edit(&what, frame)?;
        if found != seq {
            return Err(Error::corrupt(format!("{what}: the item says that it is edit {found}"))
                .with_code("edit-corrupt"));
        }
        Ok(edit)
    }

    pub(super) async fn read_log(
        &self,
        table: TableId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<(Seq, EncodedEdit)>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut head = self.read_head(table).await?;
        if head.stands() < after {
            // A transaction that was answered a moment ago may not have reached the head; now it has, or this fails.
            head = self.head_and_edit(table, after).await?.0;
        }
        let stands = head.stands();
        if stands < after {
            return Err(Error::corrupt(format!(
                "the log of table {table} stands at {stands} and was read up to {after}: DynamoDB table {} was \
                 restored or replaced while processes used it",
                self.wire.table()
            ))
            .with_code("table-log-behind"));
        }
        let last = Seq(after.0.saturating_add(limit as u64).min(stands.0));
        if last == after {
            return Ok(Vec::new());
        }
        let edits = self.edits_between(table, after, last).await?;
        self.check_chain(table, after, &edits, &head)?;
        if let Some((seq, edit)) = edits.last() {
            self.note(table, *seq, edit.commit_id);
        }
        Ok(edits)
    }

    /// All edits after `after` up to `last`, which the log has reached.
    async fn edits_between(&self, table: TableId, after: Seq, last: Seq) -> Result<Vec<(Seq, EncodedEdit)>> {
        let mut found = BTreeMap::new();
        for _ in 0..LOOKS {
            let first = found.keys().next_back().map_or(after, |seq: &Seq| *seq);
            if first < last {
                self.query(table, first, last, &mut found).await?;
            }
            let hole = (after.0..last.0).map(|n| Seq(n).next()).find(|seq| !found.contains_key(seq));
            let Some(hole) = hole else { return Ok(found.into_iter().collect()) };
            // The query is no moment: it may have passed by before a transaction's second half.
            let (head, edit) = self.head_and_edit(table, hole).await?;
            match edit {
                Some(edit) => drop(found.insert(hole, edit)),
                None if head.covers(hole) => return Err(edits_gone(table, hole, &head)),
                None => {
                    return Err(Error::corrupt(format!(
                        "edit {hole} of table {table} is not in DynamoDB table {}, where the log stands at {} and no \
                         snapshot holds it: somebody deleted it",
                        self.wire.table(),
                        head.stands()
                    ))
                    .with_code("edit-missing"));
                }
            }
        }
        Err(Error::unavailable(format!("the log of table {table} is being written; read it again"))
            .with_code("catalog-conflict"))
    }

    async fn query(
        &self,
        table: TableId,
        after: Seq,
        last: Seq,
        found: &mut BTreeMap<Seq, EncodedEdit>,
    ) -> Result<()> {
        let pk = self.log_key(table);
        let what = || format!("reading edits {} to {last} of table {table}", after.next());
        let mut request = json!({
            "TableName": self.wire.table(),
            "ConsistentRead": true,
            "KeyConditionExpression": BETWEEN,
            "ExpressionAttributeValues": {
                ":pk": item::text(&pk),
                ":from": item::number(after.next().0),
                ":to": item::number(last.0),
            },
        });
        // A page is a megabyte; each moves on, or there is something wrong with the server.
        let mut before = None;
        loop {
            let answer = self.wire.read("Query", &request).await.map_err(|error| error.context(what()))?;
            let items = answer.get("Items").and_then(Value::as_array).ok_or_else(|| odd(&what()))?;
            for chunk in items.chunks(FAR_AT_ONCE) {
                let read = chunk.iter().map(|item| async {
                    let item = item.as_object().ok_or_else(|| odd(&what()))?;
                    let (seq, _) =
                        Fields::open(item, format!("an edit of table {table}"), "edit-corrupt")?.edit()?;
                    Ok::<_, Error>((seq, self.edit_of(table, seq, item).await?))
                });
                for edit in futures::future::join_all(read).await {
                    let (seq, edit) = edit?;
                    found.insert(seq, edit);
                }
            }
            match answer
                .get("LastEvaluatedKey")
                .filter(|key| key.as_object().is_some_and(|key| !key.is_empty()))
            {
                None => return Ok(()),
                Some(key) if before.as_ref() == Some(key) => return Err(odd(&what())),
                Some(key) => {
                    request["ExclusiveStartKey"] = key.clone();
                    before = Some(key.clone());
                }
            }
        }
    }

    fn check_chain(
        &self,
        table: TableId,
        after: Seq,
        edits: &[(Seq, EncodedEdit)],
        head: &Head,
    ) -> Result<()> {
        let forked = |why: String| Error::corrupt(why).with_code("table-log-forked");
        let mut previous = match self.newest(table) {
            _ if after.0 == 0 => Some(CommitId(0)),
            Some((newest, commit_id)) if newest == after => Some(commit_id),
            _ => None,
        };
        for (seq, edit) in edits {
            if previous.is_some_and(|previous| previous != edit.predecessor) {
                return Err(forked(format!(
                    "edit {seq} of table {table} names predecessor {}, which is not the edit before it",
                    edit.predecessor
                )));
            }
            previous = Some(edit.commit_id);
            if head.last.is_some_and(|(last, commit_id)| last == *seq && commit_id != edit.commit_id) {
                return Err(forked(format!(
                    "edit {seq} of table {table} is {}, and the head of its log names {}",
                    edit.commit_id,
                    head.commit_id()
                )));
            }
        }
        Ok(())
    }

    /// The head; an empty one where there is none.
    pub(super) async fn read_head(&self, table: TableId) -> Result<Head> {
        let request = json!({
            "TableName": self.wire.table(),
            "Key": item::key(&self.log_key(table), 0),
            "ConsistentRead": true,
        });
        let answer = self.wire.read("GetItem", &request).await;
        let answer = answer.map_err(|error| error.context(format!("reading the head of table {table}")))?;
        match item_of(&answer, "Item") {
            None => Ok(Head::default()),
            Some(item) => Fields::open(item, format!("the head of table {table}"), "head-corrupt")?.head(),
        }
    }
}

fn wrong_predecessor(table: TableId, expected: Seq, edit: &EncodedEdit, found: CommitId) -> Error {
    Error::invalid(format!(
        "edit {} of table {table} names predecessor {}, but edit {expected} is {found}",
        expected.next(),
        edit.predecessor
    ))
    .with_code("append-predecessor")
}

/// The error that sends a reader or appender back to the snapshot.
fn edits_gone(table: TableId, seq: Seq, head: &Head) -> Error {
    let snapshot = head.snapshot.as_ref().map_or(Seq(0), |snapshot| snapshot.seq);
    Error::conflict(format!(
        "edit {seq} of table {table} was covered by a snapshot and is gone; start from the one at {snapshot}"
    ))
    .with_code(EDITS_GONE)
}

/// An answer that DynamoDB does not give.
pub(super) fn odd(what: &str) -> Error {
    Error::unavailable(format!("{what}: the answer has not the form of DynamoDB's"))
        .with_code("catalog-endpoint")
}
