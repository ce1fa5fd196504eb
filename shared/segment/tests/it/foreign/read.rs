//! Rows of the sample files.

use super::formula::{ROWS, check, samples};
use nacre_segment::foreign::{Caps, ForeignReader, LoadColumns, inspect};
use nacre_types::KeySchema;
use std::collections::BTreeMap;

/// The key of each row, from one file: all others must agree.
fn keys_by_row(reader: &mut ForeignReader, tombstones: bool, name: &str) -> BTreeMap<u64, Vec<u8>> {
    let mut keys = BTreeMap::new();
    let mut next = 0;
    while let Some(batch) = reader.next_batch().unwrap_or_else(|error| panic!("{name}: {error}")) {
        assert_eq!(batch.problem_count(), 0, "{name}: {:?}", batch.problems());
        for row in batch.rows() {
            assert_eq!(row.file_row, next);
            next += 1;
            let i = check(row.key, row.version.unwrap(), row.expires_at, row.value, tombstones);
            assert!(keys.insert(i, row.key.to_vec()).is_none(), "{name}: row {i} twice");
        }
    }
    assert_eq!(keys.len() as u64, ROWS, "{name}");
    keys
}

#[test]
fn every_sample_decodes_to_its_rows() {
    let mut first: Option<BTreeMap<u64, Vec<u8>>> = None;
    for sample in samples() {
        let mut reader =
            ForeignReader::open(sample.file(), &LoadColumns::default(), &KeySchema::Bytes, &Caps::default())
                .unwrap();
        assert_eq!(reader.rows(), ROWS);
        let keys = keys_by_row(&mut reader, sample.has_tombstones(), &sample.name);
        assert_eq!(*first.get_or_insert_with(|| keys.clone()), keys, "{}", sample.name);
    }
}

#[test]
fn small_batches_give_the_same_rows() {
    let caps = Caps { batch_rows: 7, batch_bytes: 500, ..Caps::default() };
    for sample in samples().into_iter().filter(|sample| sample.name.contains("default")) {
        let mut reader =
            ForeignReader::open(sample.file(), &LoadColumns::default(), &KeySchema::Bytes, &caps).unwrap();
        keys_by_row(&mut reader, sample.has_tombstones(), &sample.name);
    }
}

#[test]
fn every_sample_has_a_shape() {
    for sample in samples() {
        let shape = inspect(&sample.bytes).unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        assert_eq!((shape.rows, shape.bytes), (ROWS, sample.bytes.len() as u64), "{}", sample.name);
        let names: Vec<&str> = shape.columns.iter().map(|column| &column.name[..]).collect();
        assert!(names.contains(&"key") && names.contains(&"value"), "{names:?}");
        assert!(serde_json::to_string(&shape).unwrap().contains("\"rows\":5000"));
        let aligned = sample.name.contains("aligned128") || sample.name.contains("rowlimit128");
        if aligned {
            assert!(shape.aligned, "{}: {shape:?}", sample.name);
        }
        if sample.name.starts_with("spark") {
            assert!(shape.page_index, "{}", sample.name);
        }
        if sample.name.starts_with("duckdb") || sample.name.starts_with("pyarrow-default") {
            assert!(!shape.page_index, "{}", sample.name);
        }
    }
}
