//! Files decoded in a child: the same results, and a load error where the child dies.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nacre_loader::{Decode, LoaderConfig};
use nacre_types::TableSettings;
use serde_json::json;

use crate::files::{Column, many, pairs, parquet};
use crate::harness::{Harness, merge, replace, with};
use crate::{gate, samples};

/// The child of these tests is this very program: the test below, run alone, with its answer on descriptor 3, because
/// the test framework writes to stdout.
#[test]
#[ignore = "what the other tests run as a child"]
fn the_child() {
    let output = std::fs::File::options().write(true).open("/proc/self/fd/3").unwrap();
    std::process::exit(nacre_loader::child::serve(std::io::stdin(), output));
}

fn script(folder: &Path, body: &str) -> PathBuf {
    let path = folder.join("child.sh");
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn this_program() -> String {
    let program = std::env::current_exe().unwrap();
    format!(
        "exec '{}' --exact child::the_child --ignored --nocapture --test-threads 1 3>&1 1>/dev/null",
        program.display()
    )
}

struct Children {
    harness: Harness,
    _scripts: tempfile::TempDir,
}

async fn with_child(body: &str, memory_bytes: u64, seconds: u64) -> Children {
    with_sorting(body, memory_bytes, seconds, 100 << 10).await
}

async fn with_sorting(body: &str, memory_bytes: u64, seconds: u64, sort_bytes: usize) -> Children {
    let scripts = tempfile::tempdir().unwrap();
    let decode = Decode::Child { program: script(scripts.path(), body), memory_bytes, seconds };
    let config = LoaderConfig { decode, sort_bytes, ..LoaderConfig::default() };
    Children { harness: Harness::with(config, TableSettings::default()).await, _scripts: scripts }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_adopts_and_reads_what_this_process_does() {
    for name in [
        "spark4-aligned128-sorted-tombstones.parquet",
        "pyarrow-default-unsorted-tombstones.parquet",
        "polars-default-sorted-tombstones.parquet",
    ] {
        let children = with_child(&this_program(), 2 << 30, 60).await;
        let harness = &children.harness;
        let info = harness.load_well(replace(), &[(name, &samples::sample(name))]).await;
        assert_eq!(info.progress.adopted_files, u64::from(name.contains("aligned128")));
        samples::check(harness, true).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_asks_for_a_file_that_lies_on_no_disk_of_this_machine() {
    let scripts = tempfile::tempdir().unwrap();
    // That it is the child that decodes is seen by its mark.
    let mark = scripts.path().join("mark");
    let program = script(scripts.path(), &format!(": > '{}'\n{}", mark.display(), this_program()));
    for name in ["spark4-aligned128-sorted-tombstones.parquet", "pyarrow-default-unsorted-tombstones.parquet"]
    {
        let decode = Decode::Child { program: program.clone(), memory_bytes: 2 << 30, seconds: 60 };
        let mut harness = gate::elsewhere().await;
        harness.start_loader(LoaderConfig { decode, sort_bytes: 100 << 10, ..LoaderConfig::default() });
        let info = harness.load_well(replace(), &[(name, &samples::sample(name))]).await;
        assert_eq!(info.progress.adopted_files, u64::from(name.contains("aligned128")));
        samples::check(&harness, true).await;
        std::fs::remove_file(&mark).unwrap();
        let errors = harness
            .load_badly(with(replace(), json!({"guards": {"allow_older": true}})), &[("f", b"no parquet")])
            .await;
        assert!(errors[0].starts_with("f: "), "{errors:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_tells_what_is_wrong_and_what_keys_are() {
    let children = with_child(&this_program(), 2 << 30, 60).await;
    let harness = &children.harness;
    let keys = [Some("b"), None, Some("a")];
    let file = parquet(
        "optional binary key; optional binary value;",
        &[Column::Text(&keys), Column::Text(&[Some("1"); 3])],
        128,
    );
    let errors = harness.load_badly(merge(), &[("f", &file), ("g", b"no parquet")]).await;
    assert!(errors[0].starts_with("g: "), "{errors:?}");
    let errors = harness.load_badly(merge(), &[("f", &file)]).await;
    assert!(errors[0].starts_with("f row 1 column key: the key is null"), "{errors:?}");
    let file = parquet(
        "optional int64 id; optional binary value;",
        &[Column::I64(&[Some(2), Some(1)]), Column::Text(&[Some("1"), Some("2")])],
        128,
    );
    let request = with(merge(), json!({"columns": {"key": ["id"]}}));
    harness.load_well(request, &[("f", &file)]).await;
    assert_eq!(harness.scan().await.len(), 2);
}

/// A page of zeros that compress a thousandfold: within the caps on sizes, and more than a small process has.
fn bomb() -> Vec<u8> {
    let zeros = "0".repeat(200 << 20);
    parquet(
        "optional binary key; optional binary value;",
        &[Column::Text(&[Some("b"), Some("a")]), Column::Text(&[Some("1"), Some(&zeros)])],
        128,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_runs_out_of_memory_is_told_with_its_file() {
    let children = with_child(&this_program(), 150 << 20, 60).await;
    let errors =
        children.harness.load_badly(merge(), &[("bomb", &bomb()), ("good", &pairs(&[("a", "1")]))]).await;
    assert!(errors.len() == 1 && errors[0].starts_with("bomb: "), "{errors:?}");
    assert!(errors[0].contains("150 MiB of memory"), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_takes_too_long_is_told_with_its_file() {
    // Spins as a decoder in an endless loop would, under the same limit.
    let children = with_child("ulimit -S -t 1; while :; do :; done", 2 << 30, 1).await;
    let errors = children.harness.load_badly(merge(), &[("slow", &pairs(&[("a", "1")]))]).await;
    assert!(errors[0].starts_with("slow: decoding it took more than 1 seconds"), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_crashes_is_told_and_one_that_is_no_child_is_tried_again() {
    let children = with_child("kill -SEGV $$", 2 << 30, 60).await;
    let errors = children.harness.load_badly(merge(), &[("f", &pairs(&[("a", "1")]))]).await;
    assert!(errors[0].starts_with("f: the process that decoded it crashed"), "{errors:?}");

    let mark = tempfile::tempdir().unwrap();
    let first = mark.path().join("first");
    let body =
        format!("[ -e '{0}' ] || {{ : > '{0}'; echo odd; exit 7; }}\n{1}", first.display(), this_program());
    let children = with_child(&body, 2 << 30, 60).await;
    children.harness.load_well(merge(), &[("f", &pairs(&[("a", "1")]))]).await;
    assert!(first.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_is_cut_off_amid_its_rows_gives_no_rows() {
    // The first child, which looks, is whole; of the one that reads, only the first bytes arrive.
    let mark = tempfile::tempdir().unwrap();
    let looked = mark.path().join("looked");
    let whole = this_program().replace("exec ", "");
    let body = format!(
        "if [ -e '{0}' ]; then {{ {1}; }} | head -c 2000; kill -SEGV $$; else : > '{0}'; {1}; fi",
        looked.display(),
        whole
    );
    let children = with_child(&body, 2 << 30, 60).await;
    let errors = children.harness.load_badly(merge(), &[("f", &many("k", 300, false))]).await;
    assert!(errors[0].starts_with("f: the process that decoded it crashed"), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: prints rows per second of reading in this process and in a child"]
async fn measure_reading() {
    use std::fmt::Write as _;
    let mut text = String::new();
    let keys: Vec<String> =
        (0..1_000_000u64).map(|i| format!("{:016x}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    let value = "v".repeat(200);
    let rows: Vec<(&str, &str)> = keys.iter().map(|key| (&key[..], &value[..])).collect();
    let file = pairs(&rows);
    for is_child in [false, true, false, true] {
        let children =
            if is_child { Some(with_sorting(&this_program(), 4 << 30, 60, 192 << 20).await) } else { None };
        let here = Harness::new().await;
        let harness = children.as_ref().map_or(&here, |children| &children.harness);
        let info = harness.load_well(merge(), &[("f", &file)]).await;
        writeln!(text, "child {is_child}: {:?}", info.progress.seconds).unwrap();
    }
    eprintln!("{text}");
}
