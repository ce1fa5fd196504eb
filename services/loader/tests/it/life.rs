//! Begin, prepare, preview, commit, cancel, revert, and what merges and replaces do to what is there.

use nacre_engine::{Created, LoadState, ReadOptions};
use nacre_loader::LoaderConfig;
use nacre_types::{ErrorKind, TableSettings};
use serde_json::json;

use crate::files::{pairs, rows};
use crate::harness::{Harness, V, files_below, merge, replace, texts, with};

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_joins_and_a_replace_takes_the_place_of_what_ranks_below_it() {
    let harness = Harness::new().await;
    harness.put("a", Some("old"), V - 10).await;
    harness.put("b", Some("new"), V + 10).await;
    let info = harness.load_well(merge(), &[("m", &pairs(&[("b", "loaded"), ("c", "loaded")]))]).await;
    assert_eq!(info.rows_hidden, Some(0));
    assert_eq!(harness.texts().await, [pair("a", "old"), pair("b", "new"), pair("c", "loaded")]);

    harness.put("z", Some("late and below"), V - 5).await;
    let info = harness.load_well(replace(), &[("r", &pairs(&[("c", "second"), ("d", "second")]))]).await;
    assert_eq!(info.rows_hidden, None);
    assert_eq!(harness.texts().await, [pair("b", "new"), pair("c", "second"), pair("d", "second")]);
    harness.put("y", Some("arrives below the floor"), V - 1).await;
    assert_eq!(harness.text("y").await, None);

    let reverted = harness.table.revert_load(info.id).await.unwrap();
    assert_eq!(reverted.state, LoadState::Reverted);
    let all = harness.texts().await;
    assert_eq!(all.len(), 5);
    assert_eq!(all[0], pair("a", "old"));
    assert_eq!(harness.text("c").await.as_deref(), Some("loaded"));
    assert_eq!(harness.text("y").await.as_deref(), Some("arrives below the floor"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_tells_how_many_of_its_rows_a_floor_hides() {
    let harness = Harness::new().await;
    harness.load_well(replace(), &[("r", &pairs(&[("a", "1")]))]).await;
    let adopted = rows(&[("b", V - 2, Some("x")), ("c", V - 1, Some("x"))]);
    let rewritten = rows(&[("f", V - 2, Some("x")), ("e", V - 1, Some("x")), ("d", V, Some("seen"))]);
    let request = json!({"mode": "merge", "columns": {"key": ["key"], "version": "version"}});
    let info = harness.load_well(request, &[("adopted", &adopted), ("rewritten", &rewritten)]).await;
    assert_eq!((info.progress.adopted_files, info.progress.rewritten_files), (1, 1));
    assert_eq!(info.rows_hidden, Some(4));
    assert_eq!(harness.texts().await, [pair("a", "1"), pair("d", "seen")]);
    // Of an adopted file some.
    let partly = rows(&[("g", V - 1, Some("x")), ("h", V, Some("seen")), ("i", V - 7, Some("x"))]);
    let request = json!({"mode": "merge", "columns": {"key": ["key"], "version": "version"}});
    let info = harness.load_well(request, &[("adopted", &partly)]).await;
    assert_eq!((info.progress.adopted_files, info.rows_hidden), (1, Some(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_of_a_load_are_kept_and_limited_by_the_table() {
    let settings = TableSettings { max_versions: 3, ..TableSettings::default() };
    let harness = Harness::with(LoaderConfig::default(), settings).await;
    let file = rows(&[
        ("k", V + 4, Some("4")),
        ("k", V + 3, Some("3")),
        ("k", V + 2, Some("2")),
        ("k", V + 1, Some("1")),
        ("t", V + 3, Some("3")),
        ("t", V + 2, None),
        ("t", V + 1, Some("1")),
    ]);
    let request = with(merge(), json!({"guards": {"max_tombstone_percent": 20}}));
    let info = harness.load_well(request, &[("f", &file)]).await;
    assert_eq!(info.progress.adopted_files, 1);
    let (found, _) = harness.table.versions(b"k", i64::MIN, i64::MAX, 10, &harness.read()).await.unwrap();
    assert_eq!(found.iter().map(|row| row.version - V).collect::<Vec<_>>(), [4, 3, 2]);
    let (found, _) = harness.table.versions(b"t", i64::MIN, i64::MAX, 10, &harness.read()).await.unwrap();
    assert_eq!(found.iter().map(|row| row.version - V).collect::<Vec<_>>(), [3]);
    let as_of = ReadOptions { as_of: V + 2, ..harness.read() };
    assert_eq!(harness.get_with(b"k", &as_of).await.unwrap().value, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_load_is_seen_in_a_preview_only_and_committed_by_one_edit() {
    let harness = Harness::new().await;
    harness.put("a", Some("old"), V - 10).await;
    let load = harness.begin(replace()).await.id;
    harness.stage(load, "f", &pairs(&[("b", "new")]));
    harness.table.prepare_load(load, None, Some(1)).await.unwrap();
    let info = harness.until(load, |state| state == LoadState::Prepared).await;
    assert_eq!((info.progress.files_done, info.edition), (1, None));
    assert_eq!(harness.texts().await, [pair("a", "old")]);
    let preview = ReadOptions { preview: Some(load), ..harness.read() };
    assert_eq!(texts(harness.scan_with(&preview).await), [pair("b", "new")]);

    let before = harness.table.info();
    let info = harness.table.commit_load(load, None, None).await.unwrap();
    assert_eq!(info.state, LoadState::Committed);
    let after = harness.table.info();
    assert_eq!(after.manifest.0, before.manifest.0 + 1, "one edit");
    assert_eq!((info.edition, after.edition), (Some(after.manifest), after.manifest));
    assert!(info.token.is_some() && info.revertible_until_micros.is_some());
    assert_eq!(harness.texts().await, [pair("b", "new")]);
    assert_eq!(harness.table.commit_load(load, None, None).await.unwrap().state, LoadState::Committed);
    assert_eq!(harness.table.cancel_load(load).await.unwrap_err().code(), "load-state");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cancelled_is_never_seen_and_cannot_be_committed() {
    let harness = Harness::new().await;
    let open = harness.begin(merge()).await.id;
    assert_eq!(harness.table.cancel_load(open).await.unwrap().state, LoadState::Cancelled);
    assert_eq!(harness.table.commit_load(open, None, None).await.unwrap_err().code(), "load-state");

    let prepared = harness.begin(merge()).await.id;
    harness.stage(prepared, "f", &pairs(&[("a", "1")]));
    harness.table.prepare_load(prepared, None, None).await.unwrap();
    harness.until(prepared, |state| state == LoadState::Prepared).await;
    assert_eq!(harness.table.info().segments, 1);
    harness.table.cancel_load(prepared).await.unwrap();
    assert_eq!((harness.table.info().segments, harness.texts().await.len()), (0, 0));
    let preview = ReadOptions { preview: Some(prepared), ..harness.read() };
    assert!(harness.table.get(b"a", &preview).await.is_err());
    assert_eq!(harness.table.revert_load(prepared).await.unwrap_err().code(), "load-state");
    assert_eq!(harness.table.cancel_load(prepared).await.unwrap().state, LoadState::Cancelled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_follows_a_prepare_at_once_is_not_lost() {
    let harness = Harness::new().await;
    for round in 0..10 {
        let load = harness.begin(merge()).await.id;
        harness.stage(load, "f", &pairs(&[(&format!("k{round}"), "1")]));
        harness.table.prepare_load(load, None, None).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(round * 3)).await;
        harness.table.commit_load(load, None, None).await.unwrap();
        assert_eq!(harness.end_of(load).await.state, LoadState::Committed);
    }
    assert_eq!(harness.texts().await.len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_names_one_load_until_it_fails_is_cancelled_or_reverted() {
    let harness = Harness::new().await;
    let begin = async |body| harness.try_begin(body, Some("nightly")).await;
    let Created::New(first) = begin(merge()).await.unwrap() else { panic!() };
    let Created::Same(again) = begin(merge()).await.unwrap() else { panic!() };
    assert_eq!(first.id, again.id);
    let error = begin(replace()).await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "idempotency-key-body"));

    harness.stage(first.id, "f", b"no parquet");
    harness.table.commit_load(first.id, None, None).await.unwrap();
    assert_eq!(harness.end_of(first.id).await.state, LoadState::Failed);
    let Created::New(second) = begin(merge()).await.unwrap() else { panic!() };
    assert_ne!(first.id, second.id);
    harness.table.cancel_load(second.id).await.unwrap();
    let Created::New(third) = begin(replace()).await.unwrap() else { panic!() };
    harness.stage(third.id, "f", &pairs(&[("a", "1")]));
    harness.table.commit_load(third.id, None, None).await.unwrap();
    harness.end_of(third.id).await;
    let Created::Same(done) = begin(replace()).await.unwrap() else { panic!() };
    assert_eq!((done.id, done.state), (third.id, LoadState::Committed));
    harness.table.revert_load(third.id).await.unwrap();
    assert!(matches!(begin(replace()).await.unwrap(), Created::New(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_is_said_once_by_the_load_or_by_a_column() {
    let harness = Harness::new().await;
    let code = async |request| harness.try_begin(request, None).await.unwrap_err().code();
    assert_eq!(code(json!({"mode": "merge", "version": null})).await, "load-version");
    let by_column = json!({"key": ["key"], "version": "version"});
    assert_eq!(code(json!({"mode": "replace", "version": null, "columns": by_column})).await, "load-version");
    assert_eq!(code(json!({"mode": "merge", "version": i64::MAX})).await, "version-ahead");

    let clock = harness.ctx.clock.now_micros();
    let info = harness
        .load_well(json!({"mode": "merge", "version": "now"}), &[("f", &pairs(&[("now", "1")]))])
        .await;
    let version = harness.get(b"now").await.unwrap().version;
    assert_eq!(info.version, Some(version));
    assert!((version - clock).abs() < 60_000_000);

    // A column of the file wins over the load's version, which stands in only where there is none.
    let file = rows(&[("column", V + 7, Some("1"))]);
    harness.load_well(merge(), &[("f", &file)]).await;
    assert_eq!(harness.get(b"column").await.unwrap().version, V + 7);
    harness.load_well(merge(), &[("f", &pairs(&[("stated", "1")]))]).await;
    assert_eq!(harness.get(b"stated").await.unwrap().version, V);

    let request = json!({"mode": "merge", "columns": {"key": ["key"], "version": "version"}});
    let errors = harness.load_badly(request, &[("f", &pairs(&[("a", "1")]))]).await;
    assert!(errors[0].starts_with("f: there is no column \"version\""), "{errors:?}");
    let ahead = rows(&[("b", V, Some("1")), ("a", clock + 90_000_000_000, Some("1"))]);
    let errors = harness.load_badly(merge(), &[("f", &ahead)]).await;
    assert!(errors[0].starts_with("f row 1") && errors[0].contains("24 h ahead"), "{errors:?}");
    let ahead = rows(&[("a", V, Some("1")), ("b", clock + 90_000_000_000, Some("1"))]);
    let errors = harness.load_badly(merge(), &[("f", &ahead)]).await;
    assert!(errors[0].starts_with("f") && errors[0].contains("24 h ahead"), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_elsewhere_in_the_store_are_copied_and_listed_files_are_all_there_is() {
    let harness = Harness::new().await;
    let outside = harness.folder.path().join("exports/day=1");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("a.parquet"), pairs(&[("a", "1")])).unwrap();
    std::fs::write(outside.join("b.parquet"), pairs(&[("b", "1")])).unwrap();
    std::fs::write(outside.join("_SUCCESS"), b"").unwrap();
    let request = with(merge(), json!({"source": {"prefix": "store:exports"}}));
    let info = harness.load_well(request, &[]).await;
    let files = harness.files_of(info.id).await;
    let told: Vec<(&str, &str)> = files.iter().map(|file| (&file.file[..], &file.outcome[..])).collect();
    assert_eq!(
        told,
        [("day=1/a.parquet", "copied"), ("day=1/b.parquet", "copied"), ("day=1/_SUCCESS", "skipped")]
    );
    let request = with(merge(), json!({"source": {"files": ["store:exports/day=1/a.parquet"]}}));
    let info = harness.load_well(request, &[]).await;
    assert_eq!(info.progress.files, 1);
    let wrong = ["s3://bucket/x", "store:tables/x", "store:../x", "file:///etc/passwd", "store:staging/x/y"];
    let wrong = wrong.map(|url| json!({"files": [url]})).into_iter();
    // A folder of the store's own, however it is written.
    let folders =
        ["store:tables", "store:tables/", "store:/catalog/", "store:log", "store:staging", "store:"];
    for source in wrong.chain(folders.map(|url| json!({"prefix": url}))) {
        let error =
            harness.try_begin(with(merge(), json!({"source": source})), None).await.map(drop).unwrap_err();
        assert_eq!(error.code(), "load-source", "{source}");
    }

    let load = harness.begin(merge()).await.id;
    harness.stage(load, "in", &pairs(&[("in", "1")]));
    harness.stage(load, "out", &pairs(&[("out", "1")]));
    harness.table.commit_load(load, Some(vec!["in".to_owned()]), Some(1)).await.unwrap();
    harness.end_of(load).await;
    assert_eq!((harness.text("in").await.is_some(), harness.text("out").await), (true, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_load_that_fails_is_in_the_manifest() {
    let harness = Harness::new().await;
    let (good, bad) = (pairs(&[("a", "1")]), b"no parquet");
    harness.load_badly(merge(), &[("good", &good), ("bad", bad)]).await;
    assert_eq!(harness.table.info().segments, 0);
    assert!(!files_below(harness.folder.path()).is_empty());
}
