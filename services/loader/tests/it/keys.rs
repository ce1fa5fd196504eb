//! Key columns: declared by the first load, held against by later ones; packed values; columns from folders' names.

use std::sync::Arc;

use bytes::Bytes;
use nacre_engine::FlushMode;
use nacre_loader::LoaderConfig;
use nacre_runtime::Context;
use nacre_store::LocalStore;
use nacre_types::tuple::{Part, pack};
use nacre_types::{ErrorKind, KeyPart, KeyPartType, KeySchema, NamespaceName, TableName, TableSettings};
use serde_json::{Value, json};

use crate::files::{Column, pairs, parquet};
use crate::harness::{Harness, V, merge, with};

fn columns(columns: Value) -> Value {
    with(merge(), json!({ "columns": columns }))
}

/// Columns region (text), id (int64), amount (int32), body (text).
fn orders(rows: &[(&str, i64, i32, &str)]) -> Vec<u8> {
    let regions: Vec<_> = rows.iter().map(|row| Some(row.0)).collect();
    let ids: Vec<_> = rows.iter().map(|row| Some(row.1)).collect();
    let amounts: Vec<_> = rows.iter().map(|row| Some(row.2)).collect();
    let bodies: Vec<_> = rows.iter().map(|row| Some(row.3)).collect();
    parquet(
        "optional binary region (UTF8); optional int64 id; optional int32 amount; optional binary body (UTF8);",
        &[Column::Text(&regions), Column::I64(&ids), Column::I32(&amounts), Column::Text(&bodies)],
        128,
    )
}

fn key(parts: &[Part]) -> Bytes {
    pack(parts).into()
}

fn text(text: &str) -> Part {
    Part::String(text.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_load_declares_typed_keys_and_packs_them_in_order() {
    let harness = Harness::new().await;
    let file = orders(&[("eu", 10, 1, "x"), ("eu", -3, 2, "y"), ("as", 7, 3, "z")]);
    let request = columns(json!({"key": ["region", "id"], "pack": ["amount", "body"]}));
    let info = harness.load_well(request, &[("f", &file)]).await;
    let [told] = &harness.files_of(info.id).await[..] else { panic!() };
    assert_eq!(told.reason.as_deref(), Some("its key columns have to be packed into one"));
    let part = |name: &str, kind| KeyPart { name: name.to_owned(), kind };
    let declared =
        KeySchema::Parts(vec![part("region", KeyPartType::String), part("id", KeyPartType::Int64)]);
    assert_eq!(harness.table.settings().key, Some(declared));
    let rows = harness.scan().await;
    let keys: Vec<_> = rows.iter().map(|row| row.0.clone()).collect();
    let expected = [("as", 7), ("eu", -3), ("eu", 10)].map(|(r, i)| key(&[text(r), Part::Int64(i)]));
    assert_eq!(keys, expected);
    assert_eq!(rows[0].1.value, r#"{"amount":3,"body":"z"}"#);

    // Later loads must fit: in number at once, in type when their files are read.
    let wrong = harness.try_begin(columns(json!({"key": ["id"]})), None).await.unwrap_err();
    assert_eq!((wrong.kind(), wrong.code()), (ErrorKind::Conflict, "load-key"));
    let swapped = columns(json!({"key": ["id", "region"], "value": "body"}));
    let errors = harness.load_badly(swapped, &[("f", &file)]).await;
    assert!(errors[0].starts_with("f: column \"id\" (") && errors[0].contains("does not fit"), "{errors:?}");
    let fits = columns(json!({"key": ["region", "amount"], "value": "body"}));
    harness.load_well(fits, &[("f", &file)]).await;
    assert_eq!(harness.scan().await.len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_fails_or_was_never_prepared_declares_nothing() {
    let harness = Harness::new().await;
    let rows = [("eu", 1, 1, "x"), ("eu", 1, 1, "other")];
    let request = columns(json!({"key": ["region", "id"], "value": "body"}));
    harness.load_badly(request.clone(), &[("f", &orders(&rows))]).await;
    assert_eq!(harness.table.settings().key, None);
    let other = columns(json!({"key": ["id"], "value": "body"}));
    harness.load_well(other, &[("f", &orders(&rows[..1]))]).await;
    let Some(KeySchema::Parts(parts)) = harness.table.settings().key.clone() else { panic!() };
    assert_eq!(parts.len(), 1);
    assert_eq!(harness.try_begin(request, None).await.unwrap_err().code(), "load-key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_with_rows_keeps_its_keys_of_bytes() {
    let request = columns(json!({"key": ["region", "id"], "value": "body"}));
    let file = orders(&[("eu", 1, 1, "x")]);
    let harness = Harness::new().await;
    harness.put("streamed", Some("1"), V).await;
    let errors = harness.load_badly(request.clone(), &[("f", &file)]).await;
    assert!(errors[0].contains("the table's are bytes"), "{errors:?}");

    let harness = Harness::new().await;
    harness.load_well(merge(), &[("f", &pairs(&[("a", "1")]))]).await;
    let errors = harness.load_badly(request, &[("f", &file)]).await;
    assert!(errors[0].contains("the table's are bytes"), "{errors:?}");
    // One text column is bytes.
    let bytes = columns(json!({"key": ["region"], "value": "body"}));
    harness.load_well(bytes, &[("f", &file)]).await;
    assert_eq!(harness.text("eu").await.as_deref(), Some("x"));
    assert_eq!(harness.table.settings().key, Some(KeySchema::Bytes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loader_without_tails_sees_rows_that_no_segment_holds() {
    let request = columns(json!({"key": ["region", "id"], "value": "body"}));
    let file = orders(&[("eu", 1, 1, "x")]);
    for carried in [false, true] {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let mut front = Harness::over(
            Arc::new(LocalStore::open(folder.path(), &Context::for_tests(1)).unwrap()),
            folder.clone(),
            Context::for_tests(1),
            TableSettings::default(),
        )
        .await;
        let mut loader = Harness::without_tails(folder, 2).await;
        loader.start_loader(LoaderConfig::default());
        // Rows of another table are none of this one's.
        let (namespace, name) = (NamespaceName::new("default").unwrap(), TableName::new("typed").unwrap());
        let made = front.node.create_table(&namespace, &name, TableSettings::default(), Vec::new()).await;
        let (typed, plain) = (made.unwrap().into_inner(), front.table.clone());
        front.put("streamed", Some("1"), V).await;
        let held: Vec<_> = front.node.held();
        if carried {
            for (partition, _) in &held {
                let report = front.node.flush(*partition, FlushMode::Due).await.unwrap();
                assert!(report.rows_carried <= 1);
            }
            assert_eq!(front.table.info().segments, 0);
        }
        let errors = front.load_badly(request.clone(), &[("f", &file)]).await;
        assert!(errors[0].contains("the table's are bytes"), "{errors:?}");
        front.table = typed;
        front.load_well(request.clone(), &[("f", &file)]).await;
        assert!(matches!(front.table.settings().key, Some(KeySchema::Parts(_))));
        // In a segment, and the log behind it holds no more.
        front.table = plain;
        for (partition, _) in held {
            front.node.flush(partition, FlushMode::All).await.unwrap();
        }
        let errors = front.load_badly(request.clone(), &[("f", &file)]).await;
        assert!(errors[0].contains("the table's are bytes"), "{errors:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preview_of_the_load_that_declares_keys_has_them() {
    let harness = Harness::new().await;
    let load = harness.begin(columns(json!({"key": ["id"], "value": "body"}))).await.id;
    harness.stage(load, "f", &orders(&[("eu", 1, 1, "x")]));
    harness.table.prepare_load(load, None, None).await.unwrap();
    harness.until(load, |state| state == nacre_engine::LoadState::Prepared).await;
    let preview = nacre_engine::ReadOptions { preview: Some(load), ..harness.read() };
    assert!(harness.get_with(&key(&[Part::Int64(1)]), &preview).await.is_some());
    assert!(matches!(harness.table.settings().key, Some(KeySchema::Parts(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packed_keys_are_adopted_where_the_table_is_typed() {
    let schema: KeySchema = serde_json::from_value(json!([{"name": "id", "type": "string"}])).unwrap();
    let settings = TableSettings { key: Some(schema), ..TableSettings::default() };
    let harness = Harness::with(LoaderConfig::default(), settings).await;
    let keys = ["a", "b"].map(|k| String::from_utf8(pack(&[text(k)])).unwrap());
    let info = harness.load_well(merge(), &[("f", &pairs(&[(&keys[0], "1"), (&keys[1], "2")]))]).await;
    assert_eq!(info.progress.adopted_files, 1);
    let errors = harness.load_badly(merge(), &[("f", &pairs(&[("plain", "1")]))]).await;
    assert!(errors[0].starts_with("f row 0 column key"), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_give_columns() {
    let harness = Harness::new().await;
    let request = columns(json!({"key": ["day", "id"], "pack": ["body", "hour"]}));
    harness
        .load_well(
            request,
            &[
                ("day=2024-01-01/hour=3/a.parquet", &orders(&[("x", 1, 1, "one")])),
                ("day=2024-01-02/hour=4/a.parquet", &orders(&[("x", 1, 1, "two")])),
            ],
        )
        .await;
    let found = harness.get(&key(&[text("2024-01-02"), Part::Int64(1)])).await.unwrap();
    assert_eq!(found.value, r#"{"body":"two","hour":"4"}"#);
    assert_eq!(harness.scan().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn folders_that_hive_and_spark_have_encoded_are_decoded_once() {
    let harness = Harness::new().await;
    let request = columns(json!({"key": ["ts", "id"], "value": "body"}));
    let file = |body| orders(&[("x", 1, 1, body)]);
    let files = [
        ("ts=2024-01-01 00%3A00/part 0.parquet", file("one")),
        ("ts=100%25/part.parquet", file("two")),
        ("ts=%252e%252e%252F/part.parquet", file("three")),
    ];
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    harness.load_well(request, &files).await;
    for (folder, body) in [("2024-01-01 00:00", "one"), ("100%", "two"), ("%2e%2e%2F", "three")] {
        let found = harness.get(&key(&[text(folder), Part::Int64(1)])).await;
        assert_eq!(found.unwrap().value, body, "{folder}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_column_says_what_is_a_tombstone_and_an_expiry_column_when_rows_end() {
    let harness = Harness::new().await;
    harness.put("b", Some("old"), V - 1).await;
    let file = parquet(
        "optional binary k; optional int64 until; optional binary v;",
        &[
            Column::Text(&[Some("b"), Some("a")]),
            Column::I64(&[None, Some(V + 5)]),
            Column::Text(&[None, Some("1")]),
        ],
        128,
    );
    let request = with(
        columns(json!({"key": ["k"], "value": "v", "expires_at": "until"})),
        json!({"guards": {"max_tombstone_percent": 50}}),
    );
    harness.load_well(request, &[("f", &file)]).await;
    let rows = harness.scan().await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].1.expires_at, Some(V + 5));
}
