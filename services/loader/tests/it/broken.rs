//! Files that are wrong: the load fails, names each of them, and the rows and columns at fault.

use nacre_engine::LoadState;
use nacre_loader::LoaderConfig;
use nacre_types::TableSettings;
use serde_json::json;

use crate::files::{Column, many, pairs, parquet, rows};
use crate::harness::{Harness, V, merge, told, with};
use crate::samples::sample;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_that_is_none_is_named() {
    let harness = Harness::new().await;
    let whole = sample("spark4-aligned128-sorted-tombstones.parquet");
    let cut = &whole[..whole.len() - 100];
    let mut lying = whole.clone();
    // The footer's length.
    let at = lying.len() - 8;
    lying[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let errors = harness
        .load_badly(
            merge(),
            &[
                ("cut", cut),
                ("good", &pairs(&[("a", "1")])),
                ("lying", &lying),
                ("text", b"key,value\na,1\n"),
            ],
        )
        .await;
    let files: Vec<&str> = errors.iter().map(|error| error.split(':').next().unwrap()).collect();
    assert_eq!(files, ["cut", "lying", "text"], "{errors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_that_are_damaged_never_serve_wrong_rows() {
    // Adoption reads no value page: damage there is found by the read that meets it, and never an answer.
    let harness = Harness::new().await;
    let whole = sample("pyarrow-default-unsorted-tombstones.parquet");
    for at in [10, whole.len() / 4, whole.len() / 2] {
        let mut damaged = whole.clone();
        for byte in &mut damaged[at..at + 16] {
            *byte ^= 0x5a;
        }
        let info = harness.load(merge(), &[("f", &damaged)]).await;
        if info.state == LoadState::Failed {
            assert!(told(&info)[0].starts_with('f'), "{:?}", info.errors);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_that_are_not_there_are_told_with_those_that_are() {
    let harness = Harness::new().await;
    let file = pairs(&[("b", "1"), ("a", "1")]);
    for (columns, words) in [
        (json!({"key": ["id"]}), "\"id\""),
        (json!({"key": ["key"], "value": "body"}), "\"body\""),
        (json!({"key": ["key"], "pack": ["value", "more"]}), "\"more\""),
        (json!({"key": ["key"], "expires_at": "until"}), "\"until\""),
        (json!({"key": ["key"], "delete": "gone"}), "\"gone\""),
    ] {
        let errors = harness.load_badly(with(merge(), json!({"columns": columns})), &[("f", &file)]).await;
        assert!(errors[0].starts_with("f: ") && errors[0].contains(words), "{errors:?}");
        assert!(errors[0].contains("key (") && errors[0].contains("value ("), "{errors:?}");
    }
    assert_eq!(harness.table.settings().key, None, "a failed load declares no keys");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn null_and_empty_keys_are_named_with_file_row_and_column() {
    let harness = Harness::new().await;
    let keys = [Some("a"), None, Some(""), Some("b"), None];
    let file = parquet(
        "optional binary key; optional binary value;",
        &[Column::Text(&keys), Column::Text(&[Some("1"); 5])],
        128,
    );
    let errors = harness.load_badly(merge(), &[("x/bad.parquet", &file), ("y", &pairs(&[("z", "1")]))]).await;
    assert_eq!(errors.len(), 3);
    assert!(errors[0].starts_with("x/bad.parquet row 1 column key: the key is null"), "{errors:?}");
    assert!(errors[1].starts_with("x/bad.parquet row 2 column key: the key is empty"), "{errors:?}");
    assert!(errors[2].starts_with("x/bad.parquet row 4"), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_most_a_thousand_errors_are_told_and_all_are_counted() {
    let harness = Harness::new().await;
    let keys = vec![None; 1_500];
    let file = parquet(
        "optional binary key; optional binary value;",
        &[Column::Text(&keys), Column::Text(&vec![Some("1"); 1_500])],
        128,
    );
    let info = harness.load(merge(), &[("a", &file), ("b", &file)]).await;
    assert_eq!((info.state, info.errors.len(), info.error_count), (LoadState::Failed, 1_000, 3_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_change_or_go_after_they_were_pinned_fail_the_load() {
    for change in ["changed", "removed", "cut"] {
        let mut harness = Harness::new().await;
        harness.kill_loader().await;
        let load = harness.begin(merge()).await.id;
        harness.stage(load, "f", &many("k", 300, false));
        harness.stage(load, "g", &pairs(&[("g", "1")]));
        harness.table.commit_load(load, None, None).await.unwrap();
        let path = harness.staging(load).join("f");
        match change {
            "changed" => std::fs::write(&path, many("x", 300, false)).unwrap(),
            "removed" => std::fs::remove_file(&path).unwrap(),
            _ => std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap(),
        }
        harness.start_loader(LoaderConfig::default());
        let info = harness.end_of(load).await;
        assert_eq!(info.state, LoadState::Failed);
        let errors = told(&info);
        assert!(errors[0].starts_with("f: the file was") && errors.len() == 1, "{change}: {errors:?}");
        assert_eq!(harness.texts().await.len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_not_there_are_refused_at_commit() {
    let harness = Harness::new().await;
    let load = harness.begin(merge()).await.id;
    let error = harness.table.commit_load(load, Some(vec!["f".to_owned()]), None).await.unwrap_err();
    assert_eq!(error.code(), "load-files-missing");
    let error = harness.table.commit_load(load, Some(vec!["../f".to_owned()]), None).await.unwrap_err();
    assert_eq!(error.code(), "file-name");
    assert_eq!(harness.table.load(load).await.unwrap().state, LoadState::Open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_with_different_values_are_named_within_a_file_across_files_and_across_runs() {
    let config = LoaderConfig { sort_bytes: 8 << 10, ..LoaderConfig::default() };
    let twice = pairs(&[("b", "1"), ("a", "1"), ("b", "2")]);
    let (one, other) = (pairs(&[("a", "1"), ("c", "1")]), pairs(&[("b", "1"), ("c", "2")]));
    let (many_one, many_other) = (many("k", 300, false), rows(&[("k000007", V, Some("other"))]));
    type Case<'a> = (&'a [(&'a str, &'a [u8])], &'a [&'a str]);
    let cases: [Case<'_>; 3] = [
        (&[("twice", &twice)], &["twice row 0", "twice row 2"]),
        (&[("one", &one), ("other", &other)], &["one row 1", "other row 1"]),
        (&[("many", &many_one), ("other", &many_other)], &["many row", "other row 0"]),
    ];
    for (files, where_) in cases {
        let harness = Harness::with(config.clone(), TableSettings::default()).await;
        let errors = harness.load_badly(merge(), files).await;
        assert_eq!(errors.len(), 2, "{errors:?}");
        for (error, place) in errors.iter().zip(where_) {
            assert!(error.starts_with(place) && error.contains("on_duplicate"), "{errors:?}");
        }
        let any = with(merge(), json!({"on_duplicate": "any"}));
        harness.load_well(any, files).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_duplicates_are_one_row() {
    let harness = Harness::new().await;
    let file = pairs(&[("b", "1"), ("a", "1"), ("b", "1")]);
    let sorted = pairs(&[("b", "1"), ("c", "1")]);
    let info = harness.load_well(merge(), &[("f", &file), ("g", &sorted)]).await;
    assert_eq!(harness.texts().await.len(), 3);
    assert_eq!(harness.table.info().rows_estimate, 3);
    assert_eq!(info.progress.rows, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_beyond_the_limit_are_named_with_their_rows_however_the_file_lies() {
    let harness = Harness::new().await;
    let (most, long) = ("v".repeat(1 << 20), "v".repeat((1 << 20) + 1));
    // Adopted if it were not for one value: sorted, small pages, and values that compress to nothing.
    let file = pairs(&[("a", "x"), ("b", &most), ("c", &long), ("d", &long)]);
    let info = harness.load(merge(), &[("f", &file)]).await;
    assert_eq!(info.state, LoadState::Failed);
    let reason = harness.files_of(info.id).await[0].reason.clone();
    assert!(reason.unwrap().starts_with("the value of row 2 has 1048577 bytes"));
    let errors = told(&info);
    assert_eq!(errors.len(), 2, "{errors:?}");
    for (row, error) in [2, 3].into_iter().zip(&errors) {
        assert!(error.starts_with(&format!("f row {row} column value")), "{error}");
        assert!(error.contains("1048577") && error.contains("1048576"), "{error}");
    }
    // A page that is longer than the limit, and no value that is.
    let half = "v".repeat(1 << 19);
    let file = pairs(&[("a", &half), ("b", &most), ("c", &half)]);
    let info = harness.load_well(merge(), &[("f", &file)]).await;
    assert_eq!(info.progress.adopted_files, 1);
}
