//! `nacre check`, offline, on files of other writers.

use crate::harness::{done, nacre, run, sample};

fn verdict(name: &str) -> serde_json::Value {
    let path = sample(name);
    run(&["check", path.to_str().unwrap(), "--output", "json"]).json()[0].clone()
}

#[test]
fn a_file_that_lies_right_would_be_adopted() {
    for name in
        ["spark4-aligned128-sorted-tombstones.parquet", "pyarrow-aligned128-sorted-tombstones.parquet"]
    {
        let one = verdict(name);
        assert_eq!((one["verdict"].as_str(), one["rows"].as_u64()), (Some("adopt"), Some(5_000)), "{one}");
        assert_eq!(one["key"], "bytes");
    }
}

#[test]
fn a_file_that_does_not_would_be_rewritten_and_is_told_what_to_change() {
    for name in ["pyarrow-default-unsorted-tombstones.parquet", "polars-default-sorted-tombstones.parquet"] {
        let one = verdict(name);
        assert_eq!(one["verdict"], "rewrite", "{one}");
        assert!(!one["reason"].as_str().unwrap().is_empty() && !one["hint"].as_str().unwrap().is_empty());
        let path = sample(name);
        let words = ["check", path.to_str().unwrap(), "--require-adoption"];
        assert!(run(&words).badly(1).contains("rewritten"));
    }
}

#[test]
fn what_is_no_parquet_or_not_there_is_said() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.parquet"), "PAR1 no").unwrap();
    let done_ = done(nacre(folder.path()).args(["check", "a.parquet"]));
    assert!(done_.stdout.contains("refuse"), "{done_:?}");
    assert_eq!(done_.code, 1);
    done(nacre(folder.path()).args(["check", "absent.parquet"])).badly(3);
    run(&["check", "s3://bucket/key"]).badly(2);
}

#[test]
fn columns_that_are_not_there_are_named() {
    let path = sample("pyarrow-default-sorted-tombstones.parquet");
    let said = run(&["check", path.to_str().unwrap(), "--key", "user"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stdout.contains("user"), "{said:?}");
}

#[test]
fn a_folder_is_checked_file_by_file() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["spark4-aligned128-sorted-tombstones.parquet", "spark4-default-sorted-tombstones.parquet"] {
        std::fs::copy(sample(name), folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("_SUCCESS"), "").unwrap();
    let all = run(&["check", folder.path().to_str().unwrap(), "--output", "json"]).json();
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
}
