//! Tables and their names.

use crate::harness::{Harness, put, row};
use nacre_engine::{Created, FlushMode};
use nacre_types::{ErrorKind, NamespaceName, PartitionId, TableName, TableSettings};

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_made_once_and_found_by_name() {
    let harness = Harness::memory().await;
    let (namespace, name) = (NamespaceName::new("default").unwrap(), TableName::new("t").unwrap());
    let missing = harness.node.table(&namespace, &name).await.unwrap_err();
    assert_eq!((missing.kind(), missing.code()), (ErrorKind::NotFound, "table-not-found"));
    let settings = TableSettings { max_versions: 3, ..TableSettings::default() };
    let made = harness.node.create_table(&namespace, &name, settings.clone(), Vec::new()).await.unwrap();
    assert!(matches!(made, Created::New(_)));
    let again = harness.node.create_table(&namespace, &name, settings, Vec::new()).await.unwrap();
    assert!(matches!(again, Created::Same(_)));
    let other = harness.node.create_table(&namespace, &name, TableSettings::default(), Vec::new()).await;
    assert_eq!(other.unwrap_err().code(), "table-exists");
    assert_eq!(harness.node.tables(&namespace).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_name_is_gone_and_not_free_while_another_process_may_use_it() {
    let harness = Harness::memory().await;
    let other = Harness::over(harness.store.clone(), 2).await;
    harness.wait_for_company().await;
    let (namespace, name) = (NamespaceName::new("default").unwrap(), TableName::new("t").unwrap());
    let table = harness.table("t", TableSettings::default()).await;
    put(&table, vec![row("k", Some("v"), None)]).await;
    harness.node.drop_table(&namespace, &name).await.unwrap();
    assert_eq!(harness.node.table(&namespace, &name).await.unwrap_err().code(), "table-not-found");
    let refused =
        harness.node.create_table(&namespace, &name, TableSettings::default(), Vec::new()).await.unwrap_err();
    assert_eq!(refused.code(), "name-not-free-yet");
    assert!(refused.retry_after_ms().is_some());
    let late = table.write(vec![row("k", Some("w"), None)], &nacre_engine::WriteOptions::default()).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::NotFound);
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_registered_a_moment_ago_may_use_a_dropped_name_too() {
    let harness = Harness::memory().await;
    let (namespace, name) = (NamespaceName::new("default").unwrap(), TableName::new("t").unwrap());
    harness.table("t", TableSettings::default()).await;
    // Nobody has told the first of it yet.
    let other = Harness::over(harness.store.clone(), 2).await;
    other.node.table(&namespace, &name).await.unwrap();
    harness.node.drop_table(&namespace, &name).await.unwrap();
    let made = harness.node.create_table(&namespace, &name, TableSettings::default(), Vec::new()).await;
    assert_eq!(made.unwrap_err().code(), "name-not-free-yet");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_name_is_free_at_once_where_nobody_else_is() {
    let harness = Harness::memory().await;
    let (namespace, name) = (NamespaceName::new("default").unwrap(), TableName::new("t").unwrap());
    let old = harness.table("t", TableSettings::default()).await;
    put(&old, vec![row("k", Some("v"), None)]).await;
    harness.node.drop_table(&namespace, &name).await.unwrap();
    let new = harness.table("t", TableSettings::default()).await;
    assert_ne!(new.id(), old.id());
    assert_eq!(harness.get(&new, "k").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_description_knows_deletes_and_the_newest_version_wherever_rows_lie() {
    let harness = Harness::memory().await;
    let table = harness.table("t", TableSettings::default()).await;
    assert_eq!(table.info().newest_version, None);
    put(&table, vec![row("a", Some("v"), Some(5)), row("b", None, Some(9))]).await;
    assert_eq!((table.info().newest_version, table.info().tail_rows), (Some(9), 2));
    harness.node.flush(PartitionId(0), FlushMode::All).await.unwrap();
    let info = table.info();
    assert_eq!((info.newest_version, info.tombstones, info.tail_rows), (Some(9), 1, 0));
    put(&table, vec![row("a", Some("w"), Some(7))]).await;
    assert_eq!(table.info().newest_version, Some(9));
    let text = |node: &nacre_engine::Node| {
        let mut text = String::new();
        node.metrics_text(&mut text);
        text
    };
    let metrics = text(&harness.node);
    assert!(
        metrics.contains("nacre_engine_segment_rows 2\n") && metrics.contains("nacre_engine_segments 1\n")
    );
}
