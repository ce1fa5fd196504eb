use super::*;

fn debezium() -> Decoder {
    decoder(json!({
        "kafka": {"topic": "t"}, "format": "debezium",
        "mapping": {"key": ["id"], "value": {"pack": ["id", "name"]}, "version": {"field": "@source.lsn", "unit": "number"}},
    }))
}

fn envelope(op: &str, before: Value, after: Value, lsn: i64) -> Value {
    json!({"op": op, "before": before, "after": after, "source": {"lsn": lsn, "ts_ms": 1}, "ts_ms": 2})
}

#[test]
fn debezium_changes_become_rows_and_tombstones() {
    let decoder = debezium();
    let decode = |doc: &Value| decoder.decode(&message(doc.to_string())).unwrap();
    let row = json!({"id": 1, "name": "a"});
    for op in ["c", "r", "u"] {
        assert_eq!(
            decode(&envelope(op, Value::Null, row.clone(), 5)),
            [put("1", 5, r#"{"id":1,"name":"a"}"#)]
        );
    }
    assert_eq!(decode(&envelope("d", json!({"id": 1}), Value::Null, 6)), [gone("1", 6)]);
    let wrapped =
        json!({"schema": {"type": "struct"}, "payload": envelope("d", json!({"id": 1}), Value::Null, 6)});
    assert_eq!(decode(&wrapped), [gone("1", 6)]);
    assert_eq!(decode(&envelope("m", Value::Null, Value::Null, 6)), []);
    assert_eq!(
        decoder.decode(&Message { value: None, ..message("") }).unwrap(),
        [],
        "the mark behind a deletion"
    );
}

#[test]
fn a_changed_key_leaves_a_tombstone() {
    let moved = envelope("u", json!({"id": 1, "name": "a"}), json!({"id": 2, "name": "a"}), 9);
    let rows = debezium().decode(&message(moved.to_string())).unwrap();
    assert_eq!(rows, [gone("1", 9), put("2", 9, r#"{"id":2,"name":"a"}"#)]);
}

#[test]
fn a_deletion_without_a_row_before_goes_by_the_message_key() {
    let deleted = envelope("d", Value::Null, Value::Null, 9).to_string();
    let with = |key: &str| Message { key: Some(key.to_owned().into()), ..message(&deleted) };
    assert_eq!(debezium().decode(&with(r#"{"schema":{},"payload":{"id":3}}"#)).unwrap(), [gone("3", 9)]);
    assert!(debezium().decode(&with("x")).unwrap_err().0.contains("which row"));
}

#[test]
fn what_cannot_be_applied_is_a_fault() {
    for (doc, named) in [
        (envelope("t", Value::Null, Value::Null, 1), "truncated"),
        (envelope("x", Value::Null, Value::Null, 1), "none of"),
        (envelope("c", Value::Null, Value::Null, 1), "after"),
        (json!({"id": 1}), "op"),
    ] {
        let said = debezium().decode(&message(doc.to_string())).unwrap_err().0;
        assert!(said.contains(named), "{said}");
    }
}

/// A mutation by hand: the binary protocol.
fn binary(
    kind: i32,
    entity: &[(&str, &[u8])],
    before: Option<&[(&str, &[u8])]>,
    epoch: i64,
    id: i64,
) -> Vec<u8> {
    let mut out = Vec::new();
    let field = |out: &mut Vec<u8>, kind: u8, id: i16| {
        out.push(kind);
        out.extend_from_slice(&id.to_be_bytes());
    };
    let text = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
        out.extend_from_slice(bytes);
    };
    field(&mut out, 8, 1);
    out.extend_from_slice(&kind.to_be_bytes());
    field(&mut out, 10, 2);
    out.extend_from_slice(&1_234i64.to_be_bytes());
    field(&mut out, 11, 3);
    text(&mut out, b"db1");
    field(&mut out, 12, 5);
    field(&mut out, 11, 1);
    text(&mut out, b"binlog.1:4");
    field(&mut out, 10, 7);
    out.extend_from_slice(&epoch.to_be_bytes());
    field(&mut out, 10, 8);
    out.extend_from_slice(&id.to_be_bytes());
    out.push(0);
    for (at, columns) in [(7, Some(entity)), (8, before)] {
        let Some(columns) = columns else { continue };
        field(&mut out, 13, at);
        out.extend_from_slice(&[11, 11]);
        out.extend_from_slice(&(columns.len() as i32).to_be_bytes());
        for (name, value) in columns {
            text(&mut out, name.as_bytes());
            text(&mut out, value);
        }
    }
    // A field that nobody knows: a list of structs.
    field(&mut out, 15, 99);
    out.extend_from_slice(&[12, 0, 0, 0, 1, 2, 0, 1, 1, 0]);
    out.push(0);
    out
}

fn thrift(spec: Value) -> Decoder {
    decoder(json!({
        "kafka": {"topic": "t"}, "format": "thrift", "thrift": spec,
        "mapping": {
            "key": ["id"], "value": {"pack": ["id", "name", "@source_id"]},
            "version": {"epoch": "@binlog_header.leader_epoch", "id": "@binlog_header.id"},
        },
    }))
}

#[test]
fn mutations_in_the_binary_protocol() {
    let decoder = thrift(json!({}));
    let row = [("name", &b"n"[..]), ("id", b"7")];
    let inserted = decoder.decode(&message(binary(1, &row, None, 1, 5))).unwrap();
    assert_eq!(inserted, [put("7", (1 << 43) + 5, r#"{"id":"7","name":"n","source_id":"db1"}"#)]);
    let moved = decoder.decode(&message(binary(2, &row, Some(&[("id", b"6")]), 1, 6))).unwrap();
    assert_eq!(moved[0], gone("6", (1 << 43) + 6));
    assert_eq!(decoder.decode(&message(binary(3, &row, None, 2, 0))).unwrap(), [gone("7", 2 << 43)]);
    let wrong = binary(4, &row, None, 2, 0);
    assert!(decoder.decode(&message(&wrong)).unwrap_err().0.contains("type is 4"));
    let cut = &wrong[..wrong.len() - 3];
    assert!(decoder.decode(&message(cut)).unwrap_err().0.contains("binary"));
}

#[test]
fn mutations_in_the_compact_protocol() {
    // type = 1; field 5 {7: epoch 1, 8: id 5}; field 7 {"id": "7"}; a boolean in field 20; stop
    let bytes = [
        &[0x15, 0x02][..],
        &[0x4C, 0x76, 0x02, 0x16, 0x0A, 0x00],
        &[0x2B, 0x01, 0x88, 2, b'i', b'd', 1, b'7'],
        &[0xD1],
        &[0x00],
    ]
    .concat();
    let rows = thrift(json!({"protocol": "compact"})).decode(&message(bytes)).unwrap();
    assert_eq!(rows, [put("7", (1 << 43) + 5, r#"{"id":"7","name":null,"source_id":null}"#)]);
}

#[test]
fn columns_as_java_serializes_them() {
    let long = b"\xac\xed\x00\x05sr\x00\x0ejava.lang.Long;\x8b\xe4\x90\xcc\x8f#\xdf\x02\x00\x01J\x00\x05valuexr\x00\x10java.lang.Number\x86\xac\x95\x1d\x0b\x94\xe0\x8b\x02\x00\x00xp\x00\x00\x00\x00\x00\x00\x00\x2a";
    let text = b"\xac\xed\x00\x05t\x00\x03a\xc3\xbc";
    let decoder = thrift(json!({"columns": "java"}));
    let row = [("id", &long[..]), ("name", text)];
    let rows = decoder.decode(&message(binary(1, &row, None, 0, 1))).unwrap();
    assert_eq!(rows, [put("42", 1, r#"{"id":42,"name":"aü","source_id":"db1"}"#)]);
    let date = [("id", &b"\xac\xed\x00\x05sr\x00\x0djava.sql.Date"[..])];
    assert!(decoder.decode(&message(binary(1, &date, None, 0, 1))).unwrap_err().0.contains("column id"));
}
