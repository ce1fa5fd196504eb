//! The form of items, and what is made of those that have another.

use super::*;
use crate::EncodedEdit;
use crate::envelope::{encode_edit, encode_record};
use proptest::prelude::*;

const CODES: [&str; 2] = ["x-corrupt", "newer-format"];

fn edit() -> EncodedEdit {
    EncodedEdit {
        commit_id: CommitId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        predecessor: CommitId(u128::MAX - 1),
        body: Bytes::from_static(b"what the edit says"),
    }
}

fn snapshot() -> SnapshotRef {
    SnapshotRef { seq: Seq(9), commit_id: CommitId(5), path: "tables/0/manifests/9".into() }
}

fn far() -> Far {
    Far::of("catalog/dynamodb/x", b"a frame that is too big")
}

fn items() -> Vec<(&'static str, Value)> {
    let (snap_seq, snap_ref) = snapshot_values(&snapshot());
    vec![
        ("edit", edit_item("table/7", Seq(77), &Kept::Here(encode_edit(Seq(77), &edit())))),
        ("edit-far", edit_item("table/7", Seq(78), &Kept::Far(far()))),
        ("record", record_item("record/a/b", 7, &Kept::Here(encode_record(7, b"bytes")))),
        ("record-far", record_item("record/a/b", 8, &Kept::Far(far()))),
        (
            "head",
            json!({
                "pk": text("table/7"),
                "sk": number(0),
                "format_version": format(),
                "log_seq": number(77),
                "log_commit": binary(&edit().commit_id.to_bytes()),
                "snap_seq": snap_seq,
                "snap_ref": snap_ref,
                "swept_seq": number(9),
            }),
        ),
    ]
}

fn fields(item: &Value) -> Result<Fields<'_>> {
    Fields::open(item.as_object().unwrap(), "the item", "x-corrupt")
}

fn golden(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/dynamo-{name}-1.json"))
}

/// Compared with files that were written once and stay.
#[test]
fn items_keep_their_form() {
    for (name, item) in items() {
        let stored = std::fs::read_to_string(golden(name)).unwrap();
        let stored: Value = serde_json::from_str(&stored).unwrap();
        assert_eq!(stored, item, "{name}: the format changed");
    }
}

#[test]
#[ignore = "writes the golden files of a new format"]
fn write_golden_files() {
    for (name, item) in items() {
        std::fs::write(golden(name), format!("{}\n", serde_json::to_string_pretty(&item).unwrap())).unwrap();
    }
}

#[test]
fn items_come_back() {
    let all = items();
    let item = |name: &str| &all.iter().find(|(own, _)| *own == name).unwrap().1;
    let here = Kept::Here(encode_edit(Seq(77), &edit()));
    assert_eq!(fields(item("edit")).unwrap().edit().unwrap(), (Seq(77), here));
    assert_eq!(fields(item("edit-far")).unwrap().edit().unwrap(), (Seq(78), Kept::Far(far())));
    let here = Kept::Here(encode_record(7, b"bytes"));
    assert_eq!(fields(item("record")).unwrap().record().unwrap(), (7, here));
    assert_eq!(fields(item("record-far")).unwrap().record().unwrap(), (8, Kept::Far(far())));
    let head = fields(item("head")).unwrap().head().unwrap();
    assert_eq!(head.last, Some((Seq(77), edit().commit_id)));
    assert_eq!((head.snapshot.clone(), head.swept), (Some(snapshot()), Seq(9)));
    assert!(head.covers(Seq(9)) && !head.covers(Seq(10)));
}

#[test]
fn what_is_wrong_with_an_item_is_named() {
    for (name, of, with, word) in [
        ("format_version", "edit", json!({"N": "2"}), "version 2"),
        ("format_version", "edit", json!({"S": "1"}), "format_version is not of type N"),
        ("edit", "edit", json!({"B": "*"}), "edit is not in base64"),
        ("edit", "edit", json!("x"), "edit is not of type B"),
        ("sk", "edit", json!({"N": "-1"}), "sk is no whole number"),
        ("write_id", "record", json!({"B": "AAAA"}), "write_id has 3 bytes"),
        ("record_far", "record-far", json!({"B": "AQAA"}), "cut short"),
        ("log_commit", "head", Value::Null, "log_commit is missing"),
        ("log_seq", "head", Value::Null, "log_seq is missing"),
        ("snap_seq", "head", json!({"N": "8"}), "different snapshots"),
    ] {
        let all = items();
        let mut item = all.iter().find(|(own, _)| *own == of).unwrap().1.clone();
        if with.is_null() {
            item.as_object_mut().unwrap().remove(name);
        } else {
            item[name] = with;
        }
        let read = |fields: Fields<'_>| match of {
            "edit" => fields.edit().map(drop),
            "head" => fields.head().map(drop),
            _ => fields.record().map(drop),
        };
        let error = fields(&item).and_then(read).unwrap_err();
        assert!(CODES.contains(&error.code()) && error.detail().contains(word), "{name}: {error}");
        assert!(error.detail().starts_with("the item: "), "{error}");
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        "[a-z0-9+/=-]{0,40}".prop_map(|text| json!({ "B": text })),
        "[0-9-]{0,25}".prop_map(|text| json!({ "N": text })),
        "[a-z]{0,9}".prop_map(|text| json!({ "S": text })),
        prop::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| binary(&bytes)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_item_is_read_or_refused(
        of in 0_usize..5,
        changes in prop::collection::vec((0_usize..12, any_value()), 1..4),
    ) {
        const NAMES: [&str; 12] = [
            "pk", "sk", "format_version", "edit", "edit_far", "record", "record_far", "write_id", "log_seq",
            "log_commit", "snap_seq", "snap_ref",
        ];
        let mut item = items()[of].1.clone();
        for (name, value) in changes {
            item[NAMES[name]] = value;
        }
        if let Ok(fields) = fields(&item) {
            for error in [fields.edit().err(), fields.record().err(), fields.head().err()].into_iter().flatten() {
                prop_assert!(["x-corrupt", "newer-format", "head-corrupt"].contains(&error.code()), "{}", error);
            }
        }
    }
}
