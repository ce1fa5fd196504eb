use super::*;
use crate::Fault;
use nacre_types::tuple::{Part, pack};

fn why(result: Result<Vec<SourceRow>, Fault>) -> String {
    result.unwrap_err().0
}

#[test]
fn a_json_message_is_a_row_as_it_stands() {
    let decoder =
        decoder(json_source(json!({"key": ["user.id"], "version": {"field": "/at", "unit": "millis"}})));
    let text = r#"{"user": {"id": "u1"}, "at": 5, "x": 0.10}"#;
    assert_eq!(decoder.decode(&message(text)).unwrap(), [put("u1", 5_000, text)]);
    let at = r#"{"user":{"id":7},"at":"1970-01-01T00:00:01Z"}"#;
    assert_eq!(decoder.decode(&message(at)).unwrap(), [put("7", 1_000_000, at)]);
    for (wrong, named) in [
        (r#"{"at":5}"#, "user.id"),
        (r#"{"user":{"id":""},"at":5}"#, "empty"),
        (r#"{"user":{"id":[1]},"at":5}"#, "user.id"),
        (r#"{"user":{"id":"a"}}"#, "/at"),
        (r#"{"user":{"id":"a"},"at":1.5}"#, "/at"),
        (r#"{"user":{"id":"a"},"at":9223372036854775807}"#, "too large"),
        ("{", "JSON"),
    ] {
        let said = why(decoder.decode(&message(wrong)));
        assert!(said.contains(named), "{wrong}: {said}");
    }
}

#[test]
fn values_are_packed_as_loads_pack_them() {
    let mut source = json_source(json!({
        "key": ["k"], "value": {"pack": ["n", "big", "f", "s", "none", "o.i"]}, "version": {"message": "offset"},
    }));
    let text = r#"{"k":"a","n":1,"big":9007199254740993,"f":0.1,"s":"q\"ü","o":{"i":[true,null]}}"#;
    let packed = r#"{"n":1,"big":"9007199254740993","f":0.1,"s":"q\"ü","none":null,"o.i":[true,null]}"#;
    assert_eq!(decoder(source.clone()).decode(&message(text)).unwrap(), [put("a", 7, packed)]);
    source["mapping"]["value"] = json!({"field": "s"});
    assert_eq!(decoder(source.clone()).decode(&message(text)).unwrap(), [put("a", 7, "q\"ü")]);
    source["mapping"]["value"] = json!({"field": "none"});
    assert!(why(decoder(source).decode(&message(text))).contains("none"));
}

#[test]
fn an_epoch_and_an_id_are_one_rising_number() {
    let decoder = decoder(json_source(json!({"key": ["k"], "version": {"epoch": "e", "id": "i"}})));
    let version = |e: u64, i: u64| {
        decoder.decode(&message(format!(r#"{{"k":"a","e":{e},"i":{i}}}"#))).map(|rows| rows[0].version)
    };
    let mut last = -1;
    for (e, i) in [(0, 0), (0, 1), (0, (1 << 43) - 1), (1, 0), (1, 5), ((1 << 20) - 1, (1 << 43) - 1)] {
        let next = version(e, i).unwrap();
        assert!(next > last);
        last = next;
    }
    assert_eq!(last, i64::MAX);
    assert!(version(1 << 20, 0).unwrap_err().0.contains("field e"));
    assert!(version(0, 1 << 43).unwrap_err().0.contains("field i"));
}

#[test]
fn deletions_follow_the_rule() {
    let with = |rule: Value| {
        decoder(json_source(json!({"key": ["k"], "version": {"message": "offset"}, "delete": rule})))
    };
    let is_gone = |decoder: &Decoder, text: &str| decoder.decode(&message(text)).unwrap()[0].value.is_none();
    let flag = with(json!({"field": "d"}));
    assert!(is_gone(&flag, r#"{"k":"a","d":true}"#));
    assert!(!is_gone(&flag, r#"{"k":"a","d":false}"#) && !is_gone(&flag, r#"{"k":"a"}"#));
    assert!(why(flag.decode(&message(r#"{"k":"a","d":"yes"}"#))).contains("equals"));
    let word = with(json!({"field": "op", "equals": "D"}));
    assert!(is_gone(&word, r#"{"k":"a","op":"D"}"#) && !is_gone(&word, r#"{"k":"a","op":"U"}"#));
    let null = with(json!({"null": "v"}));
    assert!(is_gone(&null, r#"{"k":"a","v":null}"#) && is_gone(&null, r#"{"k":"a"}"#));
    assert!(!is_gone(&null, r#"{"k":"a","v":0}"#));
    let tombstone = with(json!({"null_value": true}));
    let nothing = |key: &str| Message { key: Some(key.to_owned().into()), value: None, ..message("") };
    assert_eq!(tombstone.decode(&nothing("a")).unwrap(), [gone("a", 7)]);
    assert_eq!(tombstone.decode(&nothing(r#"{"k":"b"}"#)).unwrap(), [gone("b", 7)]);
    assert!(why(flag.decode(&nothing("a"))).contains("null_value"));
}

#[test]
fn rows_expire_when_they_say_or_after_a_while() {
    let settings = TableSettings::default();
    let base = json!({"key": ["k"], "version": {"field": "v", "unit": "seconds"}});
    let expiry = |more: (&str, Value), text: &str| {
        let mut mapping = base.clone();
        mapping[more.0] = more.1;
        decoder_of(json_source(mapping), &settings).decode(&message(text)).map(|rows| rows[0].expires_at)
    };
    let at = ("expires_at", json!({"field": "e", "unit": "millis"}));
    assert_eq!(expiry(at.clone(), r#"{"k":"a","v":1,"e":2}"#), Ok(Some(2_000)));
    assert_eq!(expiry(at, r#"{"k":"a","v":1}"#), Ok(None));
    assert_eq!(expiry(("ttl_seconds", json!(3)), r#"{"k":"a","v":1}"#), Ok(Some(4_000_000)));
}

#[test]
fn typed_keys_are_packed() {
    let settings = typed(json!([
        {"name": "u", "type": "int64"}, {"name": "d", "type": "date"}, {"name": "s", "type": "string"},
    ]));
    let source = json_source(json!({"key": ["u", "d", "s"], "version": {"message": "timestamp"}}));
    let mut source_numbers = source;
    source_numbers["mapping"]["version"] = json!({"message": "offset"});
    let decoder = decoder_of(source_numbers, &settings);
    let row = &decoder.decode(&message(r#"{"u":5,"d":"1970-01-02","s":"x"}"#)).unwrap()[0];
    assert_eq!(row.key, pack(&[Part::Int64(5), Part::Date(1), Part::String("x".into())]));
    assert!(why(decoder.decode(&message(r#"{"u":"x","d":"1970-01-02","s":"x"}"#))).contains("int64"));
}

#[test]
fn avro_by_one_schema_and_by_ids() {
    let schema = json!({"type": "record", "name": "r", "fields": [
        {"name": "k", "type": "string"},
        {"name": "v", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "n", "type": ["null", "int"]},
        {"name": "list", "type": {"type": "array", "items": "boolean"}},
        {"name": "m", "type": {"type": "map", "values": "bytes"}},
        {"name": "e", "type": {"type": "enum", "name": "e", "symbols": ["A", "B"]}},
        {"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "again", "type": ["null", "r"]},
    ]});
    // k "ab"; v 3 ms; n 5; list [true, false] as a block of minus two, two bytes long; m {"x": 00 FF}; e B; d -1.05;
    // day 1; again null
    let body = [
        &[4, b'a', b'b'][..],
        &[6],
        &[2, 10],
        &[3, 4, 1, 0, 0],
        &[2, 2, b'x', 4, 0x00, 0xFF, 0],
        &[2],
        &[2, 0x97],
        &[2],
        &[0],
    ]
    .concat();
    let shown = r#"{"k":"ab","v":"1970-01-01T00:00:00.003000Z","n":5,"list":[true,false],"m":{"x":"AP8="},"e":"B","d":"-1.05","day":"1970-01-02","again":null}"#;
    let mut source = json!({
        "kafka": {"topic": "t"}, "format": "avro", "avro": {"schema": schema},
        "mapping": {"key": ["k"], "version": {"field": "v", "unit": "micros"}},
    });
    let rows = decoder_of(source.clone(), &TableSettings::default()).decode(&message(&body)).unwrap();
    let value = String::from_utf8(rows[0].value.clone().unwrap().to_vec()).unwrap();
    assert_eq!((value.as_str(), rows[0].version), (shown, 3_000));

    source["avro"] = json!({"schemas": {"258": schema.to_string()}});
    let by_id = decoder_of(source, &TableSettings::default());
    let framed = |head: &[u8]| [head, &body].concat();
    assert_eq!(by_id.decode(&message(framed(&[0, 0, 0, 1, 2]))).unwrap(), rows);
    assert!(why(by_id.decode(&message(framed(&[0, 0, 0, 0, 9])))).contains("id 9"));
    assert!(why(by_id.decode(&message(&body))).contains("wire format"));
    assert!(why(by_id.decode(&message(framed(&[0, 0, 0, 1, 2, 0])))).contains("schema"));
}
