//! Records; the head of the module above argues them.

use super::DynamoCatalog;
use super::answer::Failed;
use super::item::{self, Fields, Kept, item_of};
use super::log::ABSENT;
use crate::catalog::check_record_name;
use crate::envelope::{decode_record, encode_record};
use crate::{RecordPut, RecordTag};
use bytes::Bytes;
use nacre_types::{Error, Result};
use serde_json::{Value, json};

pub(super) const UNCHANGED: &str = "write_id = :before";

/// A record that was read: write id, where its frame is, and its tag.
struct Found {
    write_id: u128,
    kept: Kept,
}

impl RecordTag {
    fn of_write(write_id: u128) -> Self {
        Self(format!("{write_id:032x}"))
    }

    fn write_id(&self) -> Option<u128> {
        u128::from_str_radix(&self.0, 16).ok()
    }
}

impl DynamoCatalog {
    async fn find_record(&self, name: &str) -> Result<Option<Found>> {
        let request = json!({
            "TableName": self.wire.table(),
            "Key": item::key(&self.record_key(name), 0),
            "ConsistentRead": true,
        });
        let answer = self.wire.read("GetItem", &request).await;
        let answer = answer.map_err(|error| error.context(format!("reading record {name}")))?;
        let Some(item) = item_of(&answer, "Item") else { return Ok(None) };
        let (write_id, kept) = Fields::open(item, format!("record {name}"), "record-corrupt")?.record()?;
        Ok(Some(Found { write_id, kept }))
    }

    pub(super) async fn read_record(&self, name: &str) -> Result<Option<(Bytes, RecordTag)>> {
        check_record_name(name)?;
        let Some(found) = self.find_record(name).await? else { return Ok(None) };
        let what = format!("record {name}");
        let frame = match found.kept {
            Kept::Here(frame) => frame,
            Kept::Far(far) => self.bodies.get(&far, &what, "record-corrupt").await?,
        };
        let (write_id, bytes) = decode_record(&what, frame)?;
        if write_id != found.write_id {
            return Err(Error::corrupt(format!(
                "{what}: its item says write {:032x}, its bytes {write_id:032x}",
                found.write_id
            ))
            .with_code("record-corrupt"));
        }
        Ok(Some((bytes, RecordTag::of_write(write_id))))
    }

    pub(super) async fn write_record(
        &self,
        name: &str,
        expected: Option<&RecordTag>,
        bytes: &[u8],
    ) -> Result<RecordPut> {
        check_record_name(name)?;
        let doing = || format!("writing record {name}");
        // Tags that this catalog never gave belong to no record.
        let before = match expected.map(RecordTag::write_id) {
            Some(None) => return Ok(RecordPut::Conflict),
            Some(Some(write_id)) => Some(write_id),
            None => None,
        };
        let write_id = self.wire.ctx.ids.random_u128();
        let frame = encode_record(write_id, bytes);
        let kept = if frame.len() <= self.wire.tuning.record_bytes {
            Kept::Here(frame)
        } else {
            let put = self.bodies.put_record(name, write_id, &frame).await;
            Kept::Far(put.map_err(|error| error.context(doing()))?)
        };
        let request = put_request(self.wire.table(), &self.record_key(name), before, write_id, &kept);
        match self.wire.write("PutItem", &request).await {
            Ok(_) => return Ok(RecordPut::Stored(RecordTag::of_write(write_id))),
            Err(Failed::Condition) => {}
            Err(Failed::Unknown(error)) => {
                tracing::debug!(record = name, %error, "what became of a write is looked up");
            }
            Err(Failed::No(error)) => return Err(error.context(doing())),
        }
        match self.find_record(name).await {
            Ok(Some(found)) if found.write_id == write_id => {
                Ok(RecordPut::Stored(RecordTag::of_write(write_id)))
            }
            // What the attempt asked for is gone and never comes again.
            Ok(Some(found)) if Some(found.write_id) != before => Ok(RecordPut::Conflict),
            // Records are never deleted: one that is not there never had the tag, and never will.
            Ok(None) if before.is_some() => Ok(RecordPut::Conflict),
            Ok(_) => Ok(RecordPut::Unknown),
            Err(error) => {
                tracing::warn!(record = name, %error, "a write cannot be settled yet");
                Ok(RecordPut::Unknown)
            }
        }
    }
}

/// The request that replaces a record.
pub(super) fn put_request(
    table_name: &str,
    pk: &str,
    before: Option<u128>,
    write_id: u128,
    kept: &Kept,
) -> Value {
    let mut request = json!({
        "TableName": table_name,
        "Item": item::record_item(pk, write_id, kept),
        "ConditionExpression": if before.is_some() { UNCHANGED } else { ABSENT },
    });
    if let Some(before) = before {
        request["ExpressionAttributeValues"] = json!({ ":before": item::binary(&before.to_be_bytes()) });
    }
    request
}
