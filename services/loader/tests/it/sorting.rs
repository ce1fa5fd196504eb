//! Which files stay as they lie when their keys meet, and that small files share runs.

use nacre_engine::LoadFile;
use nacre_loader::LoaderConfig;
use nacre_types::TableSettings;

use crate::files::{many, pairs};
use crate::harness::{Harness, files_below, merge};

fn outcome<'a>(files: &'a [LoadFile], name: &str) -> (&'a str, &'a str) {
    let file = files.iter().find(|file| file.file == name).unwrap();
    (&file.outcome, file.reason.as_deref().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn adopted_files_lie_apart_from_all_others() {
    let harness = Harness::new().await;
    let info = harness
        .load_well(
            merge(),
            &[
                ("apart", &pairs(&[("a", "1"), ("b", "1")])),
                ("meets", &pairs(&[("d", "1"), ("f", "1")])),
                ("met", &pairs(&[("e", "1"), ("g", "1")])),
                ("inside", &pairs(&[("d1", "1")])),
                ("unsorted", &pairs(&[("p", "1"), ("m", "1")])),
                ("under", &pairs(&[("n", "1"), ("o", "1")])),
                ("far", &pairs(&[("x", "1"), ("z", "1")])),
            ],
        )
        .await;
    let files = harness.files_of(info.id).await;
    for name in ["apart", "far"] {
        assert_eq!(outcome(&files, name), ("adopted", ""));
    }
    for name in ["meets", "met", "inside"] {
        let (outcome, reason) = outcome(&files, name);
        assert_eq!(outcome, "rewritten", "{name}");
        assert!(reason.starts_with("its keys meet those of "), "{name}: {reason}");
    }
    assert_eq!(outcome(&files, "under").0, "rewritten");
    assert!(outcome(&files, "under").1.contains("has to be rewritten"));
    assert_eq!((info.progress.adopted_files, info.progress.rewritten_files), (2, 5));
    assert_eq!((info.progress.files_done, info.progress.rows), (7, 13));
    assert_eq!(harness.texts().await.len(), 13);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_file_that_holds_the_ranges_of_many_meets_them_all() {
    let harness = Harness::new().await;
    let info = harness
        .load_well(
            merge(),
            &[
                ("long", &pairs(&[("a", "1"), ("z", "1")])),
                ("one", &pairs(&[("b", "1"), ("c", "1")])),
                ("two", &pairs(&[("d", "1"), ("e", "1")])),
                ("three", &pairs(&[("y", "1")])),
            ],
        )
        .await;
    assert_eq!(info.progress.adopted_files, 0, "{:?}", harness.files_of(info.id).await);
    assert_eq!(harness.texts().await.len(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_files_share_a_run() {
    let harness = Harness::new().await;
    let files: Vec<(String, Vec<u8>)> =
        (0..30).map(|i| (format!("f{i:02}"), many(&format!("{i:02}-"), 50, false))).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect();
    let info = harness.load_well(merge(), &files).await;
    assert_eq!((harness.texts().await.len(), info.progress.rows), (1_500, 1_500));
    let objects = files_below(&harness.folder.path().join("tables"))
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "parquet"))
        .count();
    assert_eq!(objects, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_runs_of_many_files_become_disjoint_segments() {
    let config = LoaderConfig { sort_bytes: 20 << 10, segment_bytes: 8 << 10, ..LoaderConfig::default() };
    let harness = Harness::with(config, TableSettings::default()).await;
    let files: Vec<(String, Vec<u8>)> =
        (0..5).map(|i| (format!("f{i}"), many(&format!("{i}-"), 400, i % 2 == 0))).collect();
    let mut files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect();
    // Over all of the others, so that all have to be merged.
    let over = pairs(&[("~", "1"), ("!", "1")]);
    files.push(("over", &over));
    let info = harness.load_well(merge(), &files).await;
    assert_eq!((info.progress.adopted_files, info.progress.rewritten_files), (0, 6));
    let rows = harness.texts().await;
    assert_eq!(rows.len(), 2_002);
    assert!(rows.windows(2).all(|pair| pair[0].0 < pair[1].0));
    assert!(harness.table.info().segments > 3);
    let manifest = harness.table.manifest();
    let mut segments: Vec<_> =
        manifest.segments().map(|s| (s.min_key().to_vec(), s.max_key().to_vec(), s.rows())).collect();
    segments.sort();
    assert!(segments.windows(2).all(|pair| pair[0].1 < pair[1].0), "{segments:?}");
    assert_eq!(segments.iter().map(|(_, _, rows)| rows).sum::<u64>(), 2_002);
    assert_eq!(harness.text("3-000399").await, Some("value 399 of 3-".repeat(3)));
}
