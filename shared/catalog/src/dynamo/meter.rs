//! What the requests of one process cost: how many were sent, and the units that DynamoDB says they took.

use crate::CatalogCounts;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeMap;

/// Requests that items are read or written by: DynamoDB says what these took, if it is asked to.
const OF_ITEMS: &[&str] =
    &["GetItem", "PutItem", "Query", "TransactGetItems", "TransactWriteItems", "UpdateItem"];
const READS: &[&str] = &["GetItem", "Query", "TransactGetItems"];

/// The body of a request, which asks what it takes.
pub(super) fn body(operation: &str, request: &Value) -> serde_json::Result<Vec<u8>> {
    if !OF_ITEMS.contains(&operation) {
        return serde_json::to_vec(request);
    }
    let mut asking = request.clone();
    asking["ReturnConsumedCapacity"] = "TOTAL".into();
    serde_json::to_vec(&asking)
}

/// What was counted so far.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    requests: BTreeMap<&'static str, u64>,
    read_units: f64,
    write_units: f64,
}

impl Meter {
    pub(super) fn sent(&self, operation: &'static str) {
        *self.0.lock().requests.entry(operation).or_default() += 1;
    }

    /// Counts the units that an answer tells. What it does not tell is not guessed.
    pub(super) fn answered(&self, operation: &str, answer: &Value) {
        let told = &answer["ConsumedCapacity"];
        let of_tables = told.as_array().map_or(std::slice::from_ref(told), Vec::as_slice);
        let units: f64 = of_tables.iter().filter_map(|one| one["CapacityUnits"].as_f64()).sum();
        let mut counted = self.0.lock();
        if READS.contains(&operation) {
            counted.read_units += units;
        } else {
            counted.write_units += units;
        }
    }

    pub(super) fn counts(&self) -> CatalogCounts {
        let counted = self.0.lock();
        CatalogCounts {
            requests: counted.requests.iter().map(|(operation, count)| (*operation, *count)).collect(),
            read_units: counted.read_units,
            write_units: counted.write_units,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_for_items_ask_what_they_took_and_others_do_not() {
        let asked = |operation| -> Value {
            serde_json::from_slice(&body(operation, &json!({ "TableName": "t" })).unwrap()).unwrap()
        };
        assert_eq!(asked("GetItem"), json!({ "TableName": "t", "ReturnConsumedCapacity": "TOTAL" }));
        assert_eq!(asked("DescribeTable"), json!({ "TableName": "t" }));
    }

    #[test]
    fn units_are_told_for_one_table_or_a_list() {
        let meter = Meter::default();
        meter.sent("GetItem");
        meter.sent("GetItem");
        meter.sent("TransactWriteItems");
        meter.answered("GetItem", &json!({ "ConsumedCapacity": { "CapacityUnits": 0.5 } }));
        meter.answered("GetItem", &json!({}));
        let list = json!({ "ConsumedCapacity": [{ "CapacityUnits": 4.0 }, { "CapacityUnits": "x" }] });
        meter.answered("TransactWriteItems", &list);
        let counts = meter.counts();
        assert_eq!(counts.requests, [("GetItem", 2), ("TransactWriteItems", 1)]);
        assert_eq!((counts.read_units, counts.write_units), (0.5, 4.0));
    }
}
