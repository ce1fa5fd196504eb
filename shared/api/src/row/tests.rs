use super::*;
use crate::value::ValueEncoding;
use proptest::prelude::*;

fn check(text: &str) -> Result<WriteIn> {
    serde_json::from_str::<RowIn<'_>>(text).unwrap().check(&KeySchema::Bytes)
}

#[test]
fn a_row_to_write_has_exactly_one_value() {
    for (text, value) in [
        (r#"{"key":"k","value":"v\n"}"#, Some(&b"v\n"[..])),
        (r#"{"key":"k","value":""}"#, Some(b"")),
        (r#"{"key":"k","value_base64":"/w=="}"#, Some(b"\xFF")),
        (r#"{"key":"k","value_json":{"a": 1.0}}"#, Some(b"{\"a\": 1.0}")),
        (r#"{"key":"k","delete":true}"#, None),
    ] {
        assert_eq!(check(text).unwrap().value.as_deref(), value, "{text}");
    }
    for text in [
        r#"{"key":"k"}"#,
        r#"{"key":"k","value":null}"#,
        r#"{"key":"k","delete":false}"#,
        r#"{"key":"k","value":"v","delete":true}"#,
        r#"{"key":"k","value":"v","value_json":1}"#,
        r#"{"key":"k","value_base64":"*"}"#,
    ] {
        assert_eq!(check(text).unwrap_err().code(), "row-value", "{text}");
    }
    let row = check(r#"{"key":"k","value":"v","version":"5","expires_at":6}"#).unwrap();
    assert_eq!((row.version, row.expires_at), (Some(5), Some(6)));
    let long = format!(r#"{{"key":"k","value":"{}"}}"#, "v".repeat(limits::VALUE_BYTES + 1));
    let error = check(&long).unwrap_err();
    assert!(error.code() == "value-too-large" && error.detail().contains("value_bytes"));
    assert!(serde_json::from_str::<RowIn<'_>>(r#"{"key":"k","valeu":"v"}"#).is_err());
}

#[test]
fn answers_are_read_back_by_their_types() {
    let mut out = b"{\"rows\":[".to_vec();
    let shape = ValueShape::default();
    RowOut::push(&mut out, b"a", &KeySchema::Bytes, b"\xFF", &shape, 5, Some(i64::MAX)).unwrap();
    out.extend_from_slice(b"],\"edition\":7}");
    let page: RowsPage = serde_json::from_slice(&out).unwrap();
    assert_eq!(page.rows[0].value_bytes().unwrap(), &b"\xFF"[..]);
    assert_eq!((page.rows[0].version, page.rows[0].expires_at), (I64(5), Some(I64(i64::MAX))));
    assert_eq!(serde_json::to_vec(&page).unwrap(), out);

    let mut out = b"{\"rows\":[".to_vec();
    WrittenRow::push_ok(&mut out, Some(9));
    out.push(b',');
    WrittenRow::push_error(&mut out, &Error::invalid("no \"key\"").with_code("key-empty"));
    out.extend_from_slice(b"],\"token\":\"t\"}");
    let answer: BatchWriteAnswer = serde_json::from_slice(&out).unwrap();
    assert_eq!(answer.rows[0], WrittenRow { status: WriteStatus::Ok, version: Some(I64(9)), error: None });
    assert_eq!(answer.rows[1].error.as_deref(), Some("key-empty: no \"key\""));
    assert_eq!(serde_json::to_vec(&answer).unwrap(), out);
}

#[test]
fn statuses_are_spelt_as_serde_spells_them() {
    use ReadStatus::*;
    for status in [Found, Absent, Unavailable, TooLarge, Blocked] {
        assert_eq!(serde_json::to_value(status).unwrap(), status.name());
    }
    use WriteStatus as W;
    for status in [W::Ok, W::Invalid, W::Throttled, W::Overloaded, W::Unavailable, W::Unknown] {
        assert_eq!(serde_json::to_value(status).unwrap(), status.name());
    }
}

proptest! {
    #[test]
    fn what_a_client_writes_the_server_reads(
        key in proptest::collection::vec(any::<u8>(), 1..20), text: Option<String>, version: Option<i64>, expires: Option<i64>
    ) {
        let row = BatchWriteRow {
            key: JsonKey::from_bytes(&key), delete: text.is_none(), value: text.clone(), value_base64: None, value_json: None,
            version: version.map(I64), expires_at: expires.map(I64),
        };
        let body = serde_json::to_vec(&BatchWriteBody { rows: vec![row] }).unwrap();
        let mut read: BatchWriteIn<'_> = crate::from_json(&body).unwrap();
        let row = read.rows.remove(0).check(&KeySchema::Bytes).unwrap();
        prop_assert_eq!(&*row.key, &key[..]);
        prop_assert_eq!(row.value.as_deref(), text.as_deref().map(str::as_bytes));
        prop_assert_eq!((row.version, row.expires_at), (version, expires));
    }

    #[test]
    fn what_the_server_writes_a_client_reads(
        key in proptest::collection::vec(any::<u8>(), 1..20), value: Vec<u8>, version: i64, expires: Option<i64>, base64: bool
    ) {
        let encoding = if base64 { ValueEncoding::Base64 } else { ValueEncoding::Auto };
        let shape = ValueShape { encoding, ..ValueShape::default() };
        let mut out = Vec::new();
        GotRow::push_found(&mut out, &key, &KeySchema::Bytes, &value, &shape, version, expires).unwrap();
        let row: GotRow = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!((row.version, row.expires_at), (Some(I64(version)), expires.map(I64)));
        prop_assert_eq!(row.key.to_bytes().unwrap(), key.clone());
        let mut out = Vec::new();
        RowOut::push(&mut out, &key, &KeySchema::Bytes, &value, &shape, version, expires).unwrap();
        let row: RowOut = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(row.value_bytes().unwrap(), &value[..]);
    }
}
