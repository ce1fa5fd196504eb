//! Files of Spark, pyarrow, DuckDB and Polars: adopted where they can be, rewritten with a reason where not, and every
//! row found afterwards.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nacre_engine::{Found, LoadInfo};
use nacre_types::TableSettings;

use crate::harness::{Harness, V, files_below, replace, with};
use nacre_loader::LoaderConfig;
use serde_json::json;

const ROWS: usize = 5_000;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/segment/tests/samples")
}

pub(crate) fn sample(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

pub(crate) fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".parquet"))
        .collect();
    names.sort();
    assert!(names.len() >= 31);
    names
}

/// Row i by the formula: keys are a hash that nothing here computes, so the version says which i it is.
fn number(found: &Found) -> usize {
    let i = (found.version - V) as usize;
    assert!(i < ROWS);
    assert_eq!(found.value, i.to_string().repeat(10));
    i
}

/// Holds the table's rows against the formula, by scan and by get.
pub(crate) async fn check(harness: &Harness, tombstones: bool) {
    let mut seen = BTreeMap::new();
    let rows = harness.scan().await;
    assert!(rows.windows(2).all(|pair| pair[0].0 < pair[1].0));
    for (key, found) in rows {
        let i = number(&found);
        let expires = (tombstones && i.is_multiple_of(5)).then_some(found.version + 86_400_000_000);
        assert_eq!(found.expires_at, expires, "row {i}");
        seen.insert(i, (key, found));
    }
    let expected = (0..ROWS).filter(|i| !tombstones || !i.is_multiple_of(97));
    assert!(seen.keys().copied().eq(expected));
    for (key, found) in seen.values() {
        assert_eq!(harness.get(key).await.as_ref(), Some(found));
    }
    assert_eq!(harness.get(b"no such key").await, None);
}

fn is_served_as_it_lies(name: &str) -> bool {
    let aligned = ["aligned128", "rowlimit128", "batch128-page1"];
    !name.contains("unsorted") && aligned.iter().any(|layout| name.contains(layout))
}

async fn load_sample(harness: &Harness, name: &str) -> LoadInfo {
    let guards = json!({"guards": {"allow_older": true}});
    harness.load_well(with(replace(), guards), &[(name, &sample(name))]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sample_is_adopted_without_a_copy_or_rewritten_for_a_reason_and_every_row_is_found() {
    let (mut adopted, mut rewritten) = (0, 0);
    for name in names() {
        let harness = Harness::new().await;
        let info = load_sample(&harness, &name).await;
        let [file] = &harness.files_of(info.id).await[..] else { panic!("{name}") };
        assert_eq!((&file.file, file.rows), (&name, ROWS as u64));
        let inode = std::fs::metadata(harness.staging(info.id).join(&name)).unwrap().ino();
        let tables = files_below(&harness.folder.path().join("tables"));
        let same: Vec<_> =
            tables.iter().filter(|path| std::fs::metadata(path).unwrap().ino() == inode).collect();
        match &file.outcome[..] {
            "adopted" => {
                adopted += 1;
                assert_eq!(same.len(), 1, "{name}: a hard link");
                assert_eq!(info.progress.bytes_moved, 0, "{name}");
                assert_eq!((info.progress.adopted_files, info.progress.rewritten_files), (1, 0));
                assert_eq!((&file.reason, &file.hint), (&None, &None));
                let mode = std::fs::metadata(same[0]).unwrap().mode();
                assert_eq!(mode & 0o222, 0, "{name} can be written to");
            }
            "rewritten" => {
                rewritten += 1;
                assert_eq!(same.len(), 0);
                assert!(info.progress.bytes_moved > 0);
                assert_eq!((info.progress.adopted_files, info.progress.rewritten_files), (0, 1));
                assert!(file.reason.as_ref().is_some_and(|reason| !reason.is_empty()), "{name}");
                assert!(file.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "{name}");
                assert!(!is_served_as_it_lies(&name), "{name}: {:?}", file.reason);
            }
            other => panic!("{name}: {other}"),
        }
        check(&harness, name.contains("tombstones")).await;
        harness.ctx.tasks.shutdown();
    }
    assert!(adopted >= 15 && rewritten >= 10, "{adopted} {rewritten}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unsorted_file_is_sorted_in_many_runs_and_cut_into_segments() {
    let config = LoaderConfig { sort_bytes: 64 << 10, segment_bytes: 32 << 10, ..LoaderConfig::default() };
    let harness = Harness::with(config, TableSettings::default()).await;
    let info = load_sample(&harness, "spark4-default-unsorted-tombstones.parquet").await;
    check(&harness, true).await;
    let objects = files_below(&harness.folder.path().join("tables"))
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "parquet"))
        .count();
    let segments = harness.table.info().segments as usize;
    assert!(segments >= 2 && objects >= segments + 10, "{segments} segments, {objects} objects");
    assert_eq!(info.progress.rows, ROWS as u64);
}
