//! The start-up probe: does this table keep the promises that everything rests on?
//!
//! Servers that speak DynamoDB's protocol have been seen to let two writers win, or to do half of a transaction. The
//! probe lets many writers race for one record and for one place in a log, a few times, and refuses the table on the
//! first broken promise. What it leaves behind expires after a day.

use super::answer::{Failed, HOPELESS};
use super::item::{self, Kept, item_of};
use super::log::{ADVANCE, append_request, odd};
use super::records::put_request;
use super::wire::Wire;
use crate::EncodedEdit;
use crate::envelope::{encode_edit, encode_record};
use bytes::Bytes;
use nacre_types::{CommitId, Error, ErrorKind, Result, Seq};
use serde_json::{Value, json};
use std::sync::Arc;

/// Writers in a race.
const WRITERS: usize = 6;
/// Races that must have been answered in full.
const ROUNDS: usize = 2;
/// Races at most: one in which an answer was lost, or in which all were in conflict, says nothing and is run again.
const ROUNDS_AT_MOST: usize = 12;
const DAY_SECONDS: i64 = 24 * 3_600;

/// Races writers for items, and refuses a table where two of them win.
///
/// # Errors
/// `Invalid` (`catalog-unfit`) naming the promise that was broken; `Unavailable` where the table does not answer, with
/// a code of its own where it does not let this program in: that is told at once and not tried again.
pub(super) async fn probe(wire: &Wire) -> Result<()> {
    let wire = Arc::new(wire.clone());
    let mut complete = 0;
    let mut failed = None;
    for _ in 0..ROUNDS_AT_MOST {
        let round = async {
            let pk = format!("probe/{:032x}", wire.ctx.ids.random_u128());
            race_for_a_record(&wire, &pk).await?;
            race_for_an_edit(&wire, &pk).await
        };
        match round.await {
            Ok(()) => complete += 1,
            Err(error) if error.kind().is_retryable() && !HOPELESS.contains(&error.code()) => {
                failed = Some(error);
            }
            Err(error) => return Err(error),
        }
        if complete == ROUNDS {
            return Ok(());
        }
    }
    let why = failed.map_or_else(String::new, |error| error.to_string());
    Err(Error::unavailable(format!("DynamoDB does not answer the start-up probe: {why}"))
        .with_code("catalog-error"))
}

async fn race_for_a_record(wire: &Arc<Wire>, pk: &str) -> Result<()> {
    let pk = format!("{pk}/record");
    let put = |before: Option<u128>| {
        let write_id = wire.ctx.ids.random_u128();
        let kept = Kept::Here(encode_record(write_id, b"probe"));
        let request = put_request(wire.table(), &pk, before, write_id, &kept);
        (write_id, "PutItem", mortal(wire, request, "/Item"))
    };
    let promise = "put if absent";
    let first = race(wire, (0..WRITERS).map(|_| put(None)).collect(), promise).await?;
    let held = field(&get(wire, &pk, 0).await?, "write_id");
    if held != item::binary(&first.to_be_bytes()) {
        return Err(unfit(&format!("{promise}: what was stored is not there")));
    }
    refuses(wire, put(None), &format!("{promise}: an item that exists was put again")).await?;
    let promise = "replace if unchanged";
    race(wire, (0..WRITERS).map(|_| put(Some(first))).collect(), promise).await?;
    refuses(wire, put(Some(first)), &format!("{promise}: an item was replaced by its old tag")).await
}

async fn race_for_an_edit(wire: &Arc<Wire>, pk: &str) -> Result<()> {
    let promise = "a transaction, all or nothing";
    let edit = |expected: Seq, predecessor: u128| {
        let id = wire.ctx.ids.random_u128();
        let edit = EncodedEdit {
            commit_id: CommitId(id),
            predecessor: CommitId(predecessor),
            body: Bytes::from_static(b"probe"),
        };
        let kept = Kept::Here(encode_edit(expected.next(), &edit));
        let request = append_request(wire.table(), pk, expected, &edit, &kept);
        let mut request = mortal(wire, request, "/TransactItems/1/Put/Item");
        let when = request.pointer("/TransactItems/1/Put/Item/expires_at").cloned().unwrap_or_default();
        if let Some(update) = request.pointer_mut("/TransactItems/0/Update") {
            update["UpdateExpression"] = json!(format!("{ADVANCE}, expires_at = :when"));
            update["ExpressionAttributeValues"][":when"] = when;
        }
        (id, "TransactWriteItems", request)
    };
    let first = race(wire, (0..WRITERS).map(|_| edit(Seq(0), 0)).collect(), promise).await?;
    if field(&get(wire, pk, 0).await?, "log_commit") != item::binary(&first.to_be_bytes()) {
        return Err(unfit(&format!("{promise}: the head is not the winner's")));
    }
    if get(wire, pk, 1).await? == Value::Null {
        return Err(unfit(&format!("{promise}: only the head was written")));
    }
    refuses(wire, edit(Seq(0), 0), &format!("{promise}: a second edit was put at one sequence")).await?;
    refuses(wire, edit(Seq(1), first ^ 1), &format!("{promise}: the head's commit id was not compared"))
        .await?;
    if get(wire, pk, 2).await? != Value::Null {
        return Err(unfit(&format!("{promise}: a transaction that was refused left an item behind")));
    }
    Ok(())
}

/// One request of a race: the id that its writer would leave, the operation, and the request.
type Racer = (u128, &'static str, Value);

/// Gives the item at `place` of a request a day to live.
fn mortal(wire: &Wire, mut request: Value, place: &str) -> Value {
    let when = wire.date_micros().div_euclid(1_000_000).saturating_add(DAY_SECONDS);
    if let Some(item) = request.pointer_mut(place) {
        item[super::table::EXPIRES] = item::number(u64::try_from(when).unwrap_or_default());
    }
    request
}

/// One race; answers the winner's id.
async fn race(wire: &Arc<Wire>, racers: Vec<Racer>, promise: &str) -> Result<u128> {
    let running: Vec<_> = racers
        .into_iter()
        .map(|(id, operation, request)| {
            let own = wire.clone();
            wire.ctx.tasks.spawn("catalog-probe", async move { (id, own.write(operation, &request).await) })
        })
        .collect();
    let mut winners = Vec::new();
    let mut unanswered = None;
    for racer in running {
        match racer.await? {
            (id, Ok(_)) => winners.push(id),
            (_, Err(Failed::Condition)) => {}
            (_, Err(Failed::No(error) | Failed::Unknown(error))) => unanswered = Some(error),
        }
    }
    match (winners.as_slice(), unanswered) {
        ([winner], _) => Ok(*winner),
        ([], Some(error)) => Err(error.with_kind(ErrorKind::Unavailable)),
        // The winner's request was delivered twice, and it was told of its own effect.
        ([], None) => Err(Error::unavailable(format!("{promise}: no writer was told that it won"))),
        (winners, _) => Err(unfit(&format!("{promise}: {} of {WRITERS} writers won", winners.len()))),
    }
}

/// Sees that a request whose condition does not hold is refused.
async fn refuses(wire: &Wire, (_, operation, request): Racer, broken: &str) -> Result<()> {
    match wire.write(operation, &request).await {
        Ok(_) => Err(unfit(broken)),
        Err(Failed::Condition) => Ok(()),
        Err(Failed::No(error) | Failed::Unknown(error)) => Err(error.with_kind(ErrorKind::Unavailable)),
    }
}

/// An item; null = there is none.
async fn get(wire: &Wire, pk: &str, sk: u64) -> Result<Value> {
    let request = json!({ "TableName": wire.table(), "Key": item::key(pk, sk), "ConsistentRead": true });
    let answer = wire.read("GetItem", &request).await?;
    match item_of(&answer, "Item") {
        None => Ok(Value::Null),
        Some(item) if item.contains_key("pk") => Ok(Value::Object(item.clone())),
        Some(_) => Err(odd("reading the start-up probe's item")),
    }
}

fn field(item: &Value, name: &str) -> Value {
    item.get(name).cloned().unwrap_or_default()
}

fn unfit(what: &str) -> Error {
    Error::invalid(format!(
        "this DynamoDB table breaks a promise that table logs rest on: {what}; is it served by DynamoDB?"
    ))
    .with_code("catalog-unfit")
}
