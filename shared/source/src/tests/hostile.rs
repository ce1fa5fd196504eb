use super::*;
use proptest::prelude::*;

fn all() -> Vec<Decoder> {
    let avro = json!({"schema": {"type": "record", "name": "r", "fields": [
        {"name": "k", "type": "string"}, {"name": "again", "type": {"type": "array", "items": ["null", "r"]}},
    ]}});
    let mapping = json!({"key": ["k"], "version": {"message": "offset"}});
    let mut made = vec![decoder(json_source(mapping.clone()))];
    for (format, more) in [
        ("avro", json!({"avro": avro})),
        ("debezium", json!({})),
        ("debezium", json!({"avro": avro})),
        ("thrift", json!({})),
        ("thrift", json!({"thrift": {"columns": "java"}})),
        ("thrift", json!({"thrift": {"protocol": "compact"}})),
    ] {
        let mut source = json!({"kafka": {"topic": "t"}, "format": format, "mapping": mapping});
        for (name, value) in more.as_object().unwrap() {
            source[name] = value.clone();
        }
        made.push(decoder(source));
    }
    made
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn any_bytes_are_rows_or_a_fault(value in prop::collection::vec(any::<u8>(), 0..200), key in prop::option::of(prop::collection::vec(any::<u8>(), 0..30))) {
        for decoder in all() {
            let message = Message { offset: 1, timestamp_micros: None, key: key.clone().map(Into::into), value: Some(value.clone().into()) };
            drop(decoder.decode(&message));
            drop(decoder.decode(&Message { value: None, ..message }));
        }
    }
}

#[test]
fn short_messages_do_not_make_much_of_themselves() {
    // 2^60 nulls, nested lists without end, a list of booleans that says it has two thousand million.
    let nulls = [&[2, b'k'][..], &[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x1F], &[0; 50]].concat();
    let deep = "[".repeat(100_000);
    let wide = format!("[{}0]", "0,".repeat(2_000_000));
    let lists = [13, 0, 7, 15, 15, 0x7F, 0xFF, 0xFF, 0xFF].repeat(4);
    let structs = [0x0C, 0, 1].repeat(10_000);
    let compact = [0x1C].repeat(10_000);
    for bytes in [&nulls[..], deep.as_bytes(), wide.as_bytes(), &lists, &structs, &compact] {
        for decoder in all() {
            assert!(decoder.decode(&message(bytes)).is_err());
        }
    }
    let long = message(vec![b' '; crate::MAX_MESSAGE_BYTES + 1]);
    assert!(all()[0].decode(&long).unwrap_err().0.contains("at most"));
}

#[test]
fn faults_do_not_quote_the_message() {
    let canary = r#"{"k":{"canary":"canary"},"op":"canary"}"#;
    for decoder in all() {
        for text in [canary, "canary", r#"{"canary": tru"#] {
            let said = decoder.decode(&message(text)).unwrap_err().0;
            assert!(!said.contains("canary"), "{said}");
        }
    }
}
