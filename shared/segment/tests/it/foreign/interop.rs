//! Files written anew by pyarrow, DuckDB and Polars, through the Python that `NACRE_PYTHON` names.

use super::columns::{names, read};
use bytes::Bytes;
use nacre_segment::foreign::{Caps, LoadColumns, ReadRequest, Verdict, prove};
use std::path::Path;
use std::process::Command;

const WRITE: &str = include_str!("interop.py");

fn written() -> Option<tempfile::TempDir> {
    #[allow(clippy::disallowed_methods, reason = "the test command says where a Python with the writers is")]
    let python = std::env::var("NACRE_PYTHON");
    let Ok(python) = python else {
        eprintln!("NACRE_PYTHON is not set: files of other writers are not written anew");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(python).arg("-c").arg(WRITE).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(folder)
}

fn load(path: &Path) -> Bytes {
    std::fs::read(path).unwrap().into()
}

#[test]
fn what_python_writes_is_read_back() {
    let Some(folder) = written() else { return };
    let mut seen = 0;
    let mut entries: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries.iter().filter(|path| path.extension().is_some_and(|extension| extension == "parquet"))
    {
        let name = path.file_name().unwrap().to_str().unwrap();
        let expected: Vec<serde_json::Value> = std::fs::read_to_string(path.with_extension("ndjson"))
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let bytes = load(path);
        let pack: Vec<&str> = if name.starts_with("types") {
            expected[0].as_object().unwrap().keys().map(String::as_str).collect()
        } else {
            vec![]
        };
        let columns =
            LoadColumns { pack: (!pack.is_empty()).then(|| names(&pack)), ..LoadColumns::default() };
        let (rows, problems) = read(&bytes, &ReadRequest { columns, ..ReadRequest::default() });
        assert_eq!(problems, [], "{name}");
        assert_eq!(rows.len(), expected.len(), "{name}");
        for (row, expected) in rows.iter().zip(&expected) {
            let value = row.value.as_deref().unwrap();
            if pack.is_empty() {
                assert_eq!(
                    (value, row.version),
                    (expected["value"].as_str().unwrap(), expected["version"].as_i64()),
                    "{name}"
                );
            } else {
                assert_eq!(&serde_json::from_str::<serde_json::Value>(value).unwrap(), expected, "{name}");
            }
        }
        if name.starts_with("rows") {
            let verdict = prove(&bytes, &LoadColumns::default(), &Caps::default()).unwrap();
            assert_eq!(matches!(verdict, Verdict::Adopt(_)), name.contains("adopt"), "{name}: {verdict:?}");
        }
        seen += 1;
    }
    assert!(seen >= 12, "{seen} files");
}
