//! Starts: tables that are missing, have another form, break promises, or are another store's.

use super::model::{act, keys, operation, refusal};
use super::*;
use nacre_store::testing::server::Act;
use nacre_types::StoreId;
use serde_json::{Value, json};

async fn open(fake: &Fake, seed: u64) -> Result<DynamoCatalog> {
    let ctx = Context::for_tests(seed);
    DynamoCatalog::tuned("dynamodb://nacre", &settings(fake), memory(), "catalog", &ctx, tuning()).await
}

#[tokio::test]
async fn a_missing_table_is_made_and_its_edits_may_expire() {
    let model = Model::new(1);
    model.0.lock().has_table = false;
    let fake = model.serve().await;
    let look = async || {
        DynamoCatalog::look("dynamodb://nacre", &settings(&fake), &Context::for_tests(1)).await.unwrap()
    };
    assert!(!look().await && !model.0.lock().has_table);
    let catalog = open(&fake, 1).await.unwrap();
    assert!(look().await);
    let made = fake.seen().into_iter().find(|seen| operation(seen) == "CreateTable").unwrap();
    let made: Value = serde_json::from_slice(&made.body).unwrap();
    assert_eq!(made["BillingMode"], "PAY_PER_REQUEST");
    assert_eq!(made["DeletionProtectionEnabled"], true);
    assert_eq!(model.0.lock().ttl.as_deref(), Some("expires_at"));
    // The second start finds everything, and the same catalog.
    let again = open(&fake, 2).await.unwrap();
    assert_eq!(catalog.identity(), again.identity());
    assert!(DynamoCatalog::is_named_by("dynamodb://nacre", &catalog.identity()).unwrap());
    assert!(!DynamoCatalog::is_named_by("dynamodb://nacr", &catalog.identity()).unwrap());
    assert!(!DynamoCatalog::is_named_by("dynamodb://nacre", "store").unwrap());
    let seen = model.0.lock().seen.clone();
    assert_eq!(seen.iter().filter(|seen| *seen == "CreateTable").count(), 1);
    assert_eq!(seen.iter().filter(|seen| *seen == "UpdateTimeToLive").count(), 1);
}

#[tokio::test]
async fn what_the_probe_leaves_behind_expires() {
    let model = Model::new(2);
    let fake = model.serve().await;
    open(&fake, 1).await.unwrap();
    let items = model.0.lock().items_below("probe/");
    assert!(items.len() > 2);
    assert!(items.iter().all(|item| item.contains_key("expires_at")), "{items:?}");
}

#[tokio::test]
async fn a_table_of_another_form_is_refused_with_the_form_that_is_wanted() {
    for (wrong, word) in [
        (keys("pk", "S", "sk", "S"), "RANGE sk (S)"),
        (keys("id", "S", "sk", "N"), "HASH id (S)"),
        (json!({ "KeySchema": [{ "AttributeName": "pk", "KeyType": "HASH" }] }), "HASH pk ()"),
    ] {
        let model = Model::new(3);
        model.0.lock().keys = wrong;
        let error = open(&model.serve().await, 1).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "catalog-table"));
        assert!(error.detail().contains(word) && error.detail().contains("RANGE sk (N)"), "{error}");
    }
    let model = Model::new(3);
    model.0.lock().ttl = Some("other".into());
    let error = open(&model.serve().await, 1).await.unwrap_err();
    assert!(error.code() == "catalog-table" && error.detail().contains("attribute other"), "{error}");
}

/// A model in which some operations are answered otherwise.
async fn except(model: &Model, rule: impl Fn(&str) -> Option<Act> + Send + Sync + 'static) -> Fake {
    let world = model.0.clone();
    Fake::new(move |seen, _| rule(operation(seen)).unwrap_or_else(|| world.lock().act(seen))).await
}

#[tokio::test]
async fn who_may_not_make_the_table_is_told_how_to() {
    let model = Model::new(4);
    model.0.lock().has_table = false;
    let fake = except(&model, |operation| {
        (operation == "CreateTable").then(|| act(400, &refusal("AccessDeniedException")))
    })
    .await;
    let error = open(&fake, 1).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "catalog-forbidden"));
    assert!(error.detail().contains("aws dynamodb create-table --table-name nacre"), "{error}");
    assert!(error.detail().contains("dynamodb:CreateTable"), "{error}");
}

#[tokio::test]
async fn without_rights_to_the_time_to_live_the_catalog_still_serves() {
    for forbidden in ["DescribeTimeToLive", "UpdateTimeToLive"] {
        let model = Model::new(5);
        let fake = except(&model, move |operation| {
            (operation == forbidden).then(|| act(400, &refusal("AccessDeniedException")))
        })
        .await;
        open(&fake, 1).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_ignores_conditions_is_unfit() {
    for operation in ["PutItem", "TransactWriteItems"] {
        let model = Model::new(6);
        model.0.lock().careless = Some(operation);
        let error = open(&model.serve().await, 1).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "catalog-unfit"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_does_half_of_a_transaction_is_unfit() {
    let model = Model::new(7);
    model.0.lock().halves = true;
    let error = open(&model.serve().await, 1).await.unwrap_err();
    assert_eq!(error.code(), "catalog-unfit", "{error}");
    assert!(error.detail().contains("all or nothing"), "{error}");
}

#[tokio::test]
async fn bad_weather_makes_no_table_unfit() {
    for seed in 0..20 {
        let model = Model::new(seed);
        model.0.lock().faults = 30;
        if let Err(error) = open(&model.serve().await, seed).await {
            assert!(error.kind().is_retryable(), "seed {seed}: {error}");
        }
    }
}

#[tokio::test]
async fn one_table_serves_one_store() {
    let model = Model::new(8);
    let fake = model.serve().await;
    let (first, second) = (open(&fake, 1).await.unwrap(), open(&fake, 2).await.unwrap());
    model.script("UpdateItem", Fault::LostAnswer);
    first.check_claim(None).await.unwrap();
    first.claim(StoreId(1)).await.unwrap();
    second.check_claim(Some(StoreId(1))).await.unwrap();
    second.claim(StoreId(1)).await.unwrap();
    for stranger in [None, Some(StoreId(2))] {
        assert_eq!(second.check_claim(stranger).await.unwrap_err().code(), "catalog-identity");
    }
    let error = second.claim(StoreId(2)).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "catalog-identity"));
    assert!(error.detail().contains(&StoreId(1).to_string()), "{error}");
}

#[tokio::test]
async fn wrong_keys_and_wrong_servers_are_told_at_once() {
    for (answer, code) in [
        (act(400, &refusal("UnrecognizedClientException")), "catalog-credentials"),
        (act(400, &refusal("AccessDeniedException")), "catalog-forbidden"),
        (Act::answer(403, b"<?xml version=\"1.0\"?><Error/>"), "catalog-endpoint"),
    ] {
        let fake = Fake::always(answer).await;
        let error = open(&fake, 1).await.unwrap_err();
        assert_eq!((error.code(), fake.seen().len()), (code, 1), "{error}");
    }
    let error = open(&Fake::gone().await, 1).await.unwrap_err();
    assert_eq!(error.code(), "catalog-unreachable");
}
