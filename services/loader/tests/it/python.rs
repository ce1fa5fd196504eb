//! Typed keys and packed values from files that pyarrow writes, through the Python that `NACRE_PYTHON` names.

use std::process::Command;

use nacre_types::tuple::{Part, pack};
use serde_json::{Value, json};

use crate::harness::{Harness, V};

const WRITE: &str = include_str!("python.py");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typed_keys_and_packed_values_of_pyarrow_are_read_back() {
    #[allow(clippy::disallowed_methods, reason = "the test command says where a Python with pyarrow is")]
    let python = std::env::var("NACRE_PYTHON");
    let Ok(python) = python else {
        eprintln!("NACRE_PYTHON is not set: no files are written by pyarrow");
        return;
    };
    let harness = Harness::new().await;
    let load = harness
        .begin(json!({
            "mode": "replace", "version": V,
            "columns": {"key": ["country", "day", "n"], "pack": ["price", "tags", "at", "note"], "version": "at"},
        }))
        .await
        .id;
    let output = Command::new(python).arg("-c").arg(WRITE).arg(harness.staging(load)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    harness.table.commit_load(load, None, Some(expected.len() as u64)).await.unwrap();
    let info = harness.end_of(load).await;
    assert_eq!(info.state, nacre_engine::LoadState::Committed, "{:?}", info.errors);
    assert_eq!(harness.scan().await.len(), expected.len());
    for row in &expected {
        let key = pack(&[
            Part::String(row["country"].as_str().unwrap().to_owned()),
            Part::Date(row["day"].as_i64().unwrap() as i32),
            Part::Int64(row["n"].as_i64().unwrap()),
        ]);
        let found = harness.get(&key).await.unwrap_or_else(|| panic!("{row}"));
        assert_eq!(found.version, row["version"].as_i64().unwrap());
        let value: Value = serde_json::from_slice(&found.value).unwrap();
        assert_eq!(value, row["value"]);
    }
}
