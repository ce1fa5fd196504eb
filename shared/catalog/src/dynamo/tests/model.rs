//! A small DynamoDB in memory behind a server that misbehaves: it knows the requests of this catalog and no others.

use super::super::item::Item;
use super::super::{head, log, records, table};
use base64::Engine as _;
use nacre_runtime::{Ids, SeededIds};
use nacre_store::testing::server::{Act, Fake, Seen};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing, for a script's sake.
    None,
    /// It is done; the connection ends without an answer.
    LostAnswer,
    /// It never arrives; the connection ends.
    LostRequest,
    /// The connection ends, and it arrives later.
    UnderWay,
    /// It arrives twice; the answer is the second's.
    SentTwice,
    /// It is done, and answered with a 500.
    ErrorAfter,
    /// It is not done, and answered with a 500.
    ErrorBefore,
    /// Not done: throttled.
    Throttled,
    /// Not done: in conflict.
    InConflict,
    /// Done; its twin is told that it is in conflict.
    ConflictOfTwin,
    /// Done; the answer is no JSON.
    Garbage,
    /// Done; the answer's checksum is another's.
    Garbled,
    /// Done; the answer ends early.
    Cut,
}

const ALL: [Fault; 12] = [
    Fault::LostAnswer,
    Fault::LostRequest,
    Fault::UnderWay,
    Fault::SentTwice,
    Fault::ErrorAfter,
    Fault::ErrorBefore,
    Fault::Throttled,
    Fault::InConflict,
    Fault::ConflictOfTwin,
    Fault::Garbage,
    Fault::Garbled,
    Fault::Cut,
];

/// The items and what goes wrong.
#[derive(Debug)]
pub(super) struct World {
    items: BTreeMap<(String, u64), Item>,
    /// Tokens of transactions that were done; not kept where [`World::forgets_tokens`].
    tokens: HashMap<String, Value>,
    pub(super) forgets_tokens: bool,
    pub(super) has_table: bool,
    /// Key schema of the table, as DescribeTable answers it.
    pub(super) keys: Value,
    pub(super) ttl: Option<String>,
    /// Items in a page of a query.
    pub(super) page: usize,
    script: VecDeque<(&'static str, Fault)>,
    under_way: VecDeque<(String, Value)>,
    /// Faults per thousand requests, by chance.
    pub(super) faults: u64,
    /// Those that chance chooses from.
    pub(super) kinds: &'static [Fault],
    /// Of so many requests, one lets the oldest that is under way arrive before it.
    pub(super) arrives_each: u64,
    ids: SeededIds,
    /// An operation whose conditions are ignored.
    pub(super) careless: Option<&'static str>,
    /// Transactions that are refused leave their put behind.
    pub(super) halves: bool,
    /// Operations, in their order.
    pub(super) seen: Vec<String>,
}

/// The server's hold on a world.
#[derive(Debug, Clone)]
pub(super) struct Model(pub(super) Arc<Mutex<World>>);

type Answer = (u16, Value);

impl Model {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            items: BTreeMap::new(),
            tokens: HashMap::new(),
            forgets_tokens: false,
            has_table: true,
            keys: keys("pk", "S", "sk", "N"),
            ttl: None,
            page: 7,
            script: VecDeque::new(),
            under_way: VecDeque::new(),
            faults: 0,
            kinds: &ALL,
            arrives_each: 10,
            ids: SeededIds::new(seed),
            careless: None,
            halves: false,
            seen: Vec::new(),
        })))
    }

    /// Starts a server of it.
    pub(super) async fn serve(&self) -> Fake {
        let world = self.0.clone();
        Fake::new(move |seen, _| world.lock().act(seen)).await
    }

    /// The next request of that operation goes wrong so.
    pub(super) fn script(&self, operation: &'static str, fault: Fault) {
        self.0.lock().script.push_back((operation, fault));
    }

    /// Lets everything that is under way arrive; answers how much that was.
    pub(super) fn deliver(&self) -> usize {
        let mut world = self.0.lock();
        let late: Vec<_> = world.under_way.drain(..).collect();
        for (operation, request) in &late {
            world.answer(operation, request);
        }
        late.len()
    }

    /// An item, for looking at it.
    pub(super) fn item(&self, pk: &str, sk: u64) -> Option<Item> {
        self.0.lock().items.get(&(pk.to_owned(), sk)).cloned()
    }

    /// Puts an item as it is.
    pub(super) fn put(&self, item: &Value) {
        let item = item.as_object().unwrap();
        self.0.lock().items.insert(key_of(item), item.clone());
    }

    /// What DynamoDB does when an item's time is over.
    pub(super) fn remove(&self, pk: &str, sk: u64) {
        self.0.lock().items.remove(&(pk.to_owned(), sk)).unwrap();
    }
}

pub(super) fn keys(hash: &str, hash_type: &str, range: &str, range_type: &str) -> Value {
    json!({
        "AttributeDefinitions": [
            { "AttributeName": range, "AttributeType": range_type },
            { "AttributeName": hash, "AttributeType": hash_type },
        ],
        "KeySchema": [
            { "AttributeName": hash, "KeyType": "HASH" },
            { "AttributeName": range, "KeyType": "RANGE" },
        ],
    })
}

pub(super) fn refusal(name: &str) -> Value {
    json!({ "__type": format!("com.amazonaws.dynamodb.v20120810#{name}"), "message": "words of the server" })
}

pub(super) fn cancelled(codes: &[&str]) -> Value {
    let mut body = refusal("TransactionCanceledException");
    body["CancellationReasons"] = codes.iter().map(|code| json!({ "Code": code })).collect();
    body
}

/// An answer with its checksum.
pub(super) fn act(status: u16, body: &Value) -> Act {
    let body = body.to_string().into_bytes();
    let crc = crc32fast::hash(&body).to_string();
    Act::answer(status, &body).with(&[("x-amz-crc32", &crc), ("date", "Sun, 06 Nov 1994 08:49:37 GMT")])
}

/// The operation that a request names.
pub(super) fn operation(seen: &Seen) -> &str {
    seen.header("x-amz-target").rsplit('.').next().unwrap_or_default()
}

fn key_of(item: &Item) -> (String, u64) {
    let text = |name: &str, letter: &str| item[name][letter].as_str().unwrap().to_owned();
    (text("pk", "S"), text("sk", "N").parse().unwrap())
}

fn num(value: &Value) -> u64 {
    value["N"].as_str().unwrap().parse().unwrap()
}

impl World {
    /// The items whose partition key begins so.
    pub(super) fn items_below(&self, prefix: &str) -> Vec<Item> {
        self.items
            .iter()
            .filter(|((pk, _), _)| pk.starts_with(prefix))
            .map(|(_, item)| item.clone())
            .collect()
    }

    /// How many items of a range are not there.
    pub(super) fn holes(&self, pk: &str, from: u64, to: u64) -> usize {
        (from..=to).filter(|sk| !self.items.contains_key(&(pk.to_owned(), *sk))).count()
    }

    pub(super) fn act(&mut self, seen: &Seen) -> Act {
        let operation = operation(seen).to_owned();
        let request: Value = serde_json::from_slice(&seen.body).unwrap();
        assert!(seen.header("authorization").contains("/dynamodb/aws4_request"), "{seen:?}");
        self.seen.push(operation.clone());
        if self.faults > 0
            && self.ids.random_u64().is_multiple_of(self.arrives_each)
            && let Some((operation, request)) = self.under_way.pop_front()
        {
            self.answer(&operation, &request);
        }
        let Some(fault) = self.fault(&operation) else {
            let (status, body) = self.answer(&operation, &request);
            return act(status, &body);
        };
        match fault {
            Fault::None => {
                let (status, body) = self.answer(&operation, &request);
                act(status, &body)
            }
            Fault::LostRequest => Act::Close,
            Fault::UnderWay => {
                self.under_way.push_back((operation, request));
                Act::Close
            }
            Fault::ErrorBefore => act(500, &refusal("InternalServerError")),
            Fault::Throttled => act(400, &refusal("ThrottlingException")),
            Fault::InConflict => self.in_conflict(&operation),
            Fault::SentTwice => {
                self.answer(&operation, &request);
                let (status, body) = self.answer(&operation, &request);
                act(status, &body)
            }
            Fault::LostAnswer => {
                self.answer(&operation, &request);
                Act::Close
            }
            Fault::ErrorAfter => {
                self.answer(&operation, &request);
                act(503, &json!({}))
            }
            Fault::ConflictOfTwin => {
                self.answer(&operation, &request);
                self.in_conflict(&operation)
            }
            Fault::Garbage => {
                self.answer(&operation, &request);
                Act::answer(200, b"<html>")
            }
            Fault::Garbled => {
                let (status, body) = self.answer(&operation, &request);
                Act::answer(status, body.to_string().as_bytes()).with(&[("x-amz-crc32", "1")])
            }
            Fault::Cut => {
                let (status, body) = self.answer(&operation, &request);
                act(status, &body).cut(1)
            }
        }
    }

    fn in_conflict(&self, operation: &str) -> Act {
        if operation.starts_with("Transact") {
            act(400, &cancelled(&["TransactionConflict", "None"]))
        } else {
            act(400, &refusal("TransactionConflictException"))
        }
    }

    fn fault(&mut self, operation: &str) -> Option<Fault> {
        if let Some(at) = self.script.iter().position(|(own, _)| *own == operation) {
            return self.script.remove(at).map(|(_, fault)| fault);
        }
        let by_chance = self.faults > 0 && self.ids.random_u64() % 1_000 < self.faults;
        by_chance.then(|| self.kinds[(self.ids.random_u64() % self.kinds.len() as u64) as usize])
    }

    fn answer(&mut self, operation: &str, request: &Value) -> Answer {
        match operation {
            "GetItem" => (200, self.got(&request["Key"])),
            "TransactGetItems" => {
                let gets = request["TransactItems"].as_array().unwrap();
                let found: Vec<Value> = gets.iter().map(|get| self.got(&get["Get"]["Key"])).collect();
                (200, json!({ "Responses": found }))
            }
            "Query" => self.query(request),
            "PutItem" => {
                if self.careless != Some("PutItem") && !self.holds(&request["Item"], request) {
                    return (400, refusal("ConditionalCheckFailedException"));
                }
                self.put(&request["Item"]);
                (200, json!({}))
            }
            "UpdateItem" => {
                if !self.holds(&request["Key"], request) {
                    return (400, refusal("ConditionalCheckFailedException"));
                }
                self.update(request);
                (200, json!({ "Attributes": self.got(&request["Key"])["Item"] }))
            }
            "TransactWriteItems" => self.transact(request),
            "DescribeTable" if !self.has_table => (400, refusal("ResourceNotFoundException")),
            "DescribeTable" => {
                let mut table = self.keys.clone();
                table["TableStatus"] = json!("ACTIVE");
                (200, json!({ "Table": table }))
            }
            "CreateTable" => {
                self.has_table = true;
                (200, json!({ "TableDescription": {} }))
            }
            "DescribeTimeToLive" => {
                let ttl = self.ttl.as_ref();
                let status = if ttl.is_some() { "ENABLED" } else { "DISABLED" };
                (
                    200,
                    json!({ "TimeToLiveDescription": { "TimeToLiveStatus": status, "AttributeName": ttl } }),
                )
            }
            "UpdateTimeToLive" => {
                self.ttl = request["TimeToLiveSpecification"]["AttributeName"].as_str().map(str::to_owned);
                (200, json!({}))
            }
            other => panic!("{other}"),
        }
    }

    fn got(&self, key: &Value) -> Value {
        match self.items.get(&key_of(key.as_object().unwrap())) {
            Some(item) => json!({ "Item": item }),
            None => json!({}),
        }
    }

    fn put(&mut self, item: &Value) {
        let item = item.as_object().unwrap();
        let bytes = item
            .values()
            .filter_map(|value| value["B"].as_str())
            .map(|text| base64::engine::general_purpose::STANDARD.decode(text).unwrap().len());
        assert!(bytes.sum::<usize>() < 400_000, "an item is too big");
        self.items.insert(key_of(item), item.clone());
    }

    fn update(&mut self, request: &Value) {
        let key = request["Key"].as_object().unwrap();
        let item = self.items.entry(key_of(key)).or_insert_with(|| key.clone());
        for change in request["UpdateExpression"].as_str().unwrap().strip_prefix("SET ").unwrap().split(", ")
        {
            let (name, value) = change.split_once(" = ").unwrap();
            item.insert(name.to_owned(), request["ExpressionAttributeValues"][value].clone());
        }
    }

    /// Whether the request's condition holds for the item with that key.
    fn holds(&self, key: &Value, request: &Value) -> bool {
        let item = self.items.get(&key_of(key.as_object().unwrap()));
        let has = |name: &str| item.and_then(|item| item.get(name));
        let value = |name: &str| &request["ExpressionAttributeValues"][name];
        let below = |name: &str| has(name).is_none_or(|held| num(held) < num(value(":seq")));
        match request["ConditionExpression"].as_str().unwrap() {
            log::ABSENT => item.is_none(),
            log::FIRST => has("log_seq").is_none(),
            log::FOLLOWS => {
                has("log_seq") == Some(value(":at")) && has("log_commit") == Some(value(":before"))
            }
            records::UNCHANGED => has("write_id") == Some(value(":before")),
            head::NEWER => below("snap_seq"),
            head::LESS_SWEPT => below("swept_seq"),
            head::UNMARKED => item.is_some() && has("expires_at").is_none(),
            table::OURS => {
                has("catalog_id") == Some(value(":id"))
                    && has("store_id").is_none_or(|held| held == value(":store"))
            }
            other => panic!("{other}"),
        }
    }

    fn transact(&mut self, request: &Value) -> Answer {
        let token = request["ClientRequestToken"].as_str().unwrap().to_owned();
        match self.tokens.get(&token) {
            Some(done) if done == request => return (200, json!({})),
            Some(_) => return (400, refusal("IdempotentParameterMismatchException")),
            None => {}
        }
        let [update, put] = request["TransactItems"].as_array().unwrap().as_slice() else { panic!("two") };
        let (update, put) = (&update["Update"], &put["Put"]);
        let codes = [self.holds(&update["Key"], update), self.holds(&put["Item"], put)]
            .map(|holds| if holds { "None" } else { "ConditionalCheckFailed" });
        if codes != ["None", "None"] && self.careless != Some("TransactWriteItems") {
            if self.halves {
                self.put(&put["Item"]);
            }
            return (400, cancelled(&codes));
        }
        self.update(update);
        self.put(&put["Item"]);
        if !self.forgets_tokens {
            self.tokens.insert(token, request.clone());
        }
        (200, json!({}))
    }

    fn query(&self, request: &Value) -> Answer {
        assert_eq!(request["KeyConditionExpression"], log::BETWEEN);
        assert_eq!(request["ConsistentRead"], true);
        let values = &request["ExpressionAttributeValues"];
        let pk = values[":pk"]["S"].as_str().unwrap().to_owned();
        let mut from = num(&values[":from"]);
        if let Some(start) = request.get("ExclusiveStartKey") {
            from = key_of(start.as_object().unwrap()).1 + 1;
        }
        let to = num(&values[":to"]);
        assert!(from <= to + 1, "DynamoDB refuses ranges that end before they begin");
        let found: Vec<&Item> =
            self.items.range((pk.clone(), from)..=(pk, to.max(from))).map(|(_, item)| item).collect();
        let mut answer = json!({ "Items": found.iter().take(self.page).collect::<Vec<_>>() });
        if found.len() > self.page {
            let last = found[self.page - 1];
            let key: Map<String, Value> =
                ["pk", "sk"].map(|name| (name.to_owned(), last[name].clone())).into_iter().collect();
            answer["LastEvaluatedKey"] = Value::Object(key);
        }
        (200, answer)
    }
}
