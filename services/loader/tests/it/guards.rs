//! Guards stop a bad job before anyone sees it, and each can be waived.

use serde_json::{Value, json};

use crate::files::{many, pairs, rows};
use crate::harness::{Harness, V, merge, replace, with};
use nacre_engine::LoadState;

fn guards(base: Value, guards: Value) -> Value {
    with(base, json!({ "guards": guards }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_replace_fails_and_an_empty_merge_changes_nothing() {
    let harness = Harness::new().await;
    harness.put("a", Some("1"), V - 1).await;
    let errors = harness.load_badly(replace(), &[]).await;
    assert!(errors[0].contains("allow_empty"), "{errors:?}");
    let errors = harness.load_badly(replace(), &[("f", &pairs(&[]))]).await;
    assert!(errors[0].contains("allow_empty"), "{errors:?}");
    harness.load_well(merge(), &[]).await;
    harness.load_well(merge(), &[("f", &pairs(&[])), ("_SUCCESS", b""), ("zero", b"")]).await;
    assert_eq!(harness.texts().await.len(), 1);
    harness.load_well(guards(replace(), json!({"allow_empty": true})), &[]).await;
    assert_eq!(harness.texts().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replace_that_shrinks_the_table_fails_however_many_replaces_went_before() {
    let harness = Harness::new().await;
    let file = many("k", 100, true);
    for round in 0..4 {
        let request = json!({"mode": "replace", "version": V + round});
        harness.load_well(request, &[("f", &file)]).await;
    }
    let small = json!({"mode": "replace", "version": V + 10});
    let errors = harness.load_badly(small.clone(), &[("f", &many("k", 40, true))]).await;
    assert!(errors[0].contains("max_shrink_percent"), "{errors:?}");
    harness.load_well(guards(small, json!({"max_shrink_percent": 60})), &[("f", &many("k", 40, true))]).await;
    assert_eq!(harness.texts().await.len(), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_tombstones_and_too_few_rows_fail() {
    let harness = Harness::new().await;
    for unsorted in [false, true] {
        let mut all = vec![("a", V, Some("1")), ("b", V, None), ("c", V, Some("1"))];
        if unsorted {
            all.reverse();
        }
        let file = rows(&all);
        let errors = harness.load_badly(merge(), &[("f", &file)]).await;
        assert!(errors[0].contains("max_tombstone_percent"), "{errors:?}");
        harness.load_well(guards(merge(), json!({"max_tombstone_percent": 34})), &[("f", &file)]).await;
    }
    let errors = harness
        .load_badly(guards(merge(), json!({"min_rows": 3})), &[("f", &pairs(&[("a", "1"), ("b", "1")]))])
        .await;
    assert!(errors[0].contains("min_rows"), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_rows_that_the_caller_says_must_be_that_of_the_files() {
    let harness = Harness::new().await;
    // One row is there twice and equal: it is two rows of the files.
    let file = pairs(&[("b", "1"), ("a", "1"), ("b", "1")]);
    for (said, state) in [(2, LoadState::Failed), (3, LoadState::Committed)] {
        let load = harness.begin(merge()).await.id;
        harness.stage(load, "f", &file);
        harness.table.commit_load(load, None, Some(said)).await.unwrap();
        let info = harness.end_of(load).await;
        assert_eq!(info.state, state, "{:?}", info.errors);
    }
    assert_eq!(harness.texts().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replace_below_a_floor_is_refused_unless_it_insists() {
    let harness = Harness::new().await;
    harness.load_well(replace(), &[("f", &pairs(&[("a", "1")]))]).await;
    let older = json!({"mode": "replace", "version": V - 1});
    let errors = harness.load_badly(older.clone(), &[("f", &pairs(&[("a", "older")]))]).await;
    assert!(errors[0].contains("below the floor"), "{errors:?}");
    harness.load_well(guards(older, json!({"allow_older": true})), &[("f", &pairs(&[("a", "older")]))]).await;
    assert_eq!(harness.text("a").await.as_deref(), Some("1"));
}
