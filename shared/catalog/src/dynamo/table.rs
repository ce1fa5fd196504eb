//! The table: made if it is missing, looked at, and known to be this store's.

use super::answer::Failed;
use super::item::{self, Fields, Item, item_of};
use super::log::{ABSENT, odd};
use super::wire::Wire;
use nacre_runtime::Backoff;
use nacre_types::{Error, Result, StoreId};
use serde_json::{Value, json};
use std::time::Duration;

/// The attribute whose time ends an item's life.
pub(super) const EXPIRES: &str = "expires_at";
pub(super) const OURS: &str = "catalog_id = :id AND (attribute_not_exists(store_id) OR store_id = :store)";
pub(super) const CLAIM: &str = "SET store_id = :store";
/// The item that says which catalog this is.
const CATALOG: &str = "catalog";
/// How often that item is looked at and put before it is given up.
const ATTEMPTS: usize = 8;

/// Makes the table if it is missing, waits until it serves, and sees that it has the form that is needed.
///
/// # Errors
/// `Invalid` (`catalog-table`); `Unavailable`.
pub(super) async fn make(wire: &Wire) -> Result<()> {
    let begun = wire.ctx.clock.monotonic();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
    let mut is_asked_for = false;
    loop {
        match describe(wire).await? {
            None if is_asked_for => {}
            None => {
                create(wire).await?;
                is_asked_for = true;
            }
            Some(table) => {
                check_keys(wire, &table)?;
                match table.get("TableStatus").and_then(Value::as_str) {
                    Some("ACTIVE" | "UPDATING") => break,
                    Some("CREATING") => {}
                    other => return Err(refused(wire, &format!("it is {}", other.unwrap_or("in no state")))),
                }
            }
        }
        if wire.ctx.clock.monotonic().saturating_sub(begun) > wire.tuning.creation {
            return Err(Error::unavailable(format!(
                "DynamoDB table {} does not serve after {} s",
                wire.table(),
                wire.tuning.creation.as_secs()
            ))
            .with_code("catalog-error"));
        }
        tokio::time::sleep(backoff.next(&*wire.ctx.ids)).await;
    }
    turn_on_expiry(wire).await
}

/// Whether the table is there; looking makes none.
///
/// # Errors
/// `Invalid` (`catalog-table`); `Unavailable`.
pub(super) async fn look(wire: &Wire) -> Result<bool> {
    match describe(wire).await? {
        None => Ok(false),
        Some(table) => check_keys(wire, &table).map(|()| true),
    }
}

/// `None` = there is no such table.
async fn describe(wire: &Wire) -> Result<Option<Item>> {
    match wire.read("DescribeTable", &json!({ "TableName": wire.table() })).await {
        Ok(answer) => item_of(&answer, "Table").cloned().map(Some).ok_or_else(|| odd("describing the table")),
        Err(error) if error.code() == "catalog-table-missing" => Ok(None),
        Err(error) => Err(error.context(format!("looking for DynamoDB table {}", wire.table()))),
    }
}

async fn create(wire: &Wire) -> Result<()> {
    let mut request = json!({
        "TableName": wire.table(),
        "AttributeDefinitions": [
            { "AttributeName": "pk", "AttributeType": "S" },
            { "AttributeName": "sk", "AttributeType": "N" },
        ],
        "KeySchema": [
            { "AttributeName": "pk", "KeyType": "HASH" },
            { "AttributeName": "sk", "KeyType": "RANGE" },
        ],
        "BillingMode": "PAY_PER_REQUEST",
        "DeletionProtectionEnabled": true,
    });
    tracing::info!(table = wire.table(), "making the DynamoDB table");
    let mut made = wire.write("CreateTable", &request).await;
    if let Err(Failed::No(error)) = &made
        && error.detail().contains("DeletionProtection")
        && let Some(request) = request.as_object_mut()
    {
        // Servers that stand in for DynamoDB do not all know it.
        request.remove("DeletionProtectionEnabled");
        made = wire.write("CreateTable", &Value::Object(request.clone())).await;
    }
    match made {
        Ok(_) | Err(Failed::Condition | Failed::Unknown(_)) => Ok(()),
        // Another process may have been first.
        Err(Failed::No(error)) => match describe(wire).await? {
            Some(_) => Ok(()),
            None => {
                let table = wire.table();
                Err(error.context(format!(
                    "there is no DynamoDB table {table} and it cannot be made; allow dynamodb:CreateTable, or make it: \
                     aws dynamodb create-table --table-name {table} --billing-mode PAY_PER_REQUEST \
                     --attribute-definitions AttributeName=pk,AttributeType=S AttributeName=sk,AttributeType=N \
                     --key-schema AttributeName=pk,KeyType=HASH AttributeName=sk,KeyType=RANGE"
                )))
            }
        },
    }
}

fn check_keys(wire: &Wire, table: &Item) -> Result<()> {
    let list = |name: &str| table.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let word =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let types = list("AttributeDefinitions");
    let type_of = |name: &str| {
        types
            .iter()
            .find(|definition| word(definition, "AttributeName") == name)
            .map_or(String::new(), |definition| word(definition, "AttributeType"))
    };
    let mut keys: Vec<String> = list("KeySchema")
        .iter()
        .map(|key| {
            let name = word(key, "AttributeName");
            format!("{} {name} ({})", word(key, "KeyType"), type_of(&name))
        })
        .collect();
    keys.sort_unstable();
    if keys == ["HASH pk (S)", "RANGE sk (N)"] {
        return Ok(());
    }
    Err(refused(wire, &format!("its keys are {}", keys.join(", "))))
}

fn refused(wire: &Wire, why: &str) -> Error {
    Error::invalid(format!(
        "DynamoDB table {} cannot hold a catalog: {why}. Wanted is one with HASH pk (S) and RANGE sk (N); name one that \
         does not exist yet, and a start makes it",
        wire.table()
    ))
    .with_code("catalog-table")
}

/// Turns the table's time to live on. Where that may not be done edits stay, and cost a little.
async fn turn_on_expiry(wire: &Wire) -> Result<()> {
    let table = wire.table();
    let advice = format!(
        "edits that nobody needs stay and are paid for; allow dynamodb:DescribeTimeToLive and \
         dynamodb:UpdateTimeToLive, or turn it on for attribute {EXPIRES} of table {table}"
    );
    let described = wire.read("DescribeTimeToLive", &json!({ "TableName": table })).await;
    let described = match &described {
        Ok(answer) => item_of(answer, "TimeToLiveDescription"),
        Err(error) => {
            tracing::warn!(%error, "whether time to live is on is not known: {advice}");
            return Ok(());
        }
    };
    let word =
        |name: &str| described.and_then(|item| item.get(name)).and_then(Value::as_str).unwrap_or_default();
    match (word("TimeToLiveStatus"), word("AttributeName")) {
        ("ENABLED" | "ENABLING", EXPIRES) => return Ok(()),
        // Some other attribute's times would end the lives of items that they are not meant for.
        ("ENABLED" | "ENABLING", other) => {
            return Err(refused(
                wire,
                &format!("its time to live is on for attribute {other}, not {EXPIRES}"),
            ));
        }
        _ => {}
    }
    let request = json!({
        "TableName": table,
        "TimeToLiveSpecification": { "Enabled": true, "AttributeName": EXPIRES },
    });
    if let Err(failed) = wire.write("UpdateTimeToLive", &request).await {
        let error = failed.into_error("UpdateTimeToLive");
        tracing::warn!(%error, "time to live could not be turned on: {advice}");
    }
    Ok(())
}

/// The catalog's random id; given to it by whoever came first.
///
/// # Errors
/// `Corrupt` (`catalog-corrupt`); `Unavailable`.
pub(super) async fn catalog_id(wire: &Wire) -> Result<String> {
    let proposed = format!("{:032x}", wire.ctx.ids.random_u128());
    let request = json!({
        "TableName": wire.table(),
        "Item": {
            "pk": item::text(CATALOG),
            "sk": item::number(0),
            "format_version": item::format(),
            "catalog_id": item::text(&proposed),
        },
        "ConditionExpression": ABSENT,
    });
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let mut failed = None;
    for _ in 0..ATTEMPTS {
        if let Some((id, _)) = read_catalog(wire).await? {
            return Ok(id);
        }
        match wire.write("PutItem", &request).await {
            // What lies there is the id, whoever put it.
            Ok(_) | Err(Failed::Condition) => continue,
            Err(Failed::Unknown(error)) => failed = Some(error),
            Err(Failed::No(error)) if error.retry_after_ms().is_some() => failed = Some(error),
            Err(Failed::No(error)) => return Err(error.context("giving the catalog its id")),
        }
        tokio::time::sleep(backoff.next(&*wire.ctx.ids)).await;
    }
    let why = failed.map_or_else(String::new, |error| error.to_string());
    Err(Error::unavailable(format!("the catalog cannot be given its id: {why}")).with_code("catalog-error"))
}

/// The catalog's id, and whose it is.
async fn read_catalog(wire: &Wire) -> Result<Option<(String, Option<String>)>> {
    let request = json!({ "TableName": wire.table(), "Key": item::key(CATALOG, 0), "ConsistentRead": true });
    let answer =
        wire.read("GetItem", &request).await.map_err(|error| error.context("reading the catalog's id"))?;
    let Some(item) = item_of(&answer, "Item") else { return Ok(None) };
    let fields = Fields::open(item, "the item catalog", "catalog-corrupt")?;
    match fields.text("catalog_id")? {
        Some(id) => Ok(Some((id, fields.text("store_id")?))),
        None => Err(fields.corrupt("attribute catalog_id is missing")),
    }
}

/// Refuses a store that the catalog `id` is not, and cannot become.
///
/// # Errors
/// `Invalid` (`catalog-identity`); `Unavailable`.
pub(super) async fn check_claim(wire: &Wire, id: &str, store_id: Option<StoreId>) -> Result<()> {
    let (found, holder) = read_catalog(wire).await?.unwrap_or_default();
    let store = store_id.map(|store_id| store_id.to_string());
    if found == id && (holder.is_none() || holder == store) {
        Ok(())
    } else {
        Err(anothers(wire, &found, holder, id, store))
    }
}

fn anothers(wire: &Wire, found: &str, holder: Option<String>, id: &str, store: Option<String>) -> Error {
    Error::invalid(format!(
        "DynamoDB table {} holds catalog {found} of {}, and wanted is catalog {id} of {}; one table serves one store: \
         name another",
        wire.table(),
        holder.map_or_else(|| "no store".to_owned(), |store| format!("store {store}")),
        store.map_or_else(|| "a new store".to_owned(), |store| format!("store {store}")),
    ))
    .with_code("catalog-identity")
}

/// Says that the catalog `id` is `store_id`'s.
///
/// # Errors
/// `Invalid` (`catalog-identity`); `Unavailable`.
pub(super) async fn claim(wire: &Wire, id: &str, store_id: StoreId) -> Result<()> {
    let store = store_id.to_string();
    let request = json!({
        "TableName": wire.table(),
        "Key": item::key(CATALOG, 0),
        "ConditionExpression": OURS,
        "UpdateExpression": CLAIM,
        "ExpressionAttributeValues": { ":id": item::text(id), ":store": item::text(&store) },
    });
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let mut failed = None;
    for _ in 0..ATTEMPTS {
        match wire.write("UpdateItem", &request).await {
            Ok(_) => return Ok(()),
            Err(Failed::Condition) => {
                let (found, holder) = read_catalog(wire).await?.unwrap_or_default();
                return Err(anothers(wire, &found, holder, id, Some(store)));
            }
            Err(Failed::Unknown(error)) => failed = Some(error),
            Err(Failed::No(error)) if error.retry_after_ms().is_some() => failed = Some(error),
            Err(Failed::No(error)) => return Err(error.context("claiming the catalog")),
        }
        tokio::time::sleep(backoff.next(&*wire.ctx.ids)).await;
    }
    let why = failed.map_or_else(String::new, |error| error.to_string());
    Err(Error::unavailable(format!("the catalog cannot be claimed: {why}")).with_code("catalog-error"))
}
