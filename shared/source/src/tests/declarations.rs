use super::*;

fn refused(declaration: &Value, settings: &TableSettings) -> String {
    let error = Declaration::parse(declaration).and_then(|read| read.check(settings)).unwrap_err();
    assert_eq!(error.code(), "source-invalid");
    error.detail().to_owned()
}

#[test]
fn what_is_wrong_is_named() {
    let good = json_source(json!({"key": ["id"], "version": {"field": "v", "unit": "micros"}}));
    let settings = TableSettings::default();
    Declaration::parse(&good).unwrap().check(&settings).unwrap();
    for (pointer, wrong, named) in [
        ("/kafka/topic", json!("a b"), "source.kafka.topic"),
        ("/kafka/brokers", json!("user:secret@h:1"), "source.kafka.brokers"),
        ("/kafka/x", json!(1), "source.kafka"),
        ("/format", json!("csv"), "source.format"),
        ("/format", json!("avro"), "source.avro"),
        ("/avro", json!({"schema": "int"}), "source.avro"),
        ("/thrift", json!({}), "source.thrift"),
        ("/mapping/key", json!([]), "source.mapping.key"),
        ("/mapping/key", json!(["a", "b"]), "source.mapping.key"),
        ("/mapping/key", json!([""]), "source.mapping.key"),
        ("/mapping/value", json!("row"), "source.mapping.value"),
        ("/mapping/value", json!({"pack": []}), "source.mapping.value"),
        ("/mapping/version", json!({"field": "v"}), "source.mapping.version.unit"),
        ("/mapping/version", json!({"field": "v", "unit": "number"}), "version_kind"),
        ("/mapping/version", json!({"epoch": "e"}), "source.mapping.version"),
        ("/mapping/version", json!({"epoch": "e", "id": "i"}), "version_kind"),
        ("/mapping/version", json!({}), "source.mapping.version"),
        ("/mapping/delete", json!({"field": "d", "null": "d"}), "source.mapping.delete"),
        ("/mapping/delete", json!({"null_value": true}), "source.mapping.version"),
        ("/mapping/delete", json!({"field": "d", "equals": []}), "source.mapping.delete.equals"),
        ("/mapping/expires_at", json!({"field": "e", "unit": "number"}), "source.mapping.expires_at"),
        ("/mapping/ttl_seconds", json!(0), "source.mapping.ttl_seconds"),
        ("/start", json!("middle"), "source.start"),
        ("/start", json!({"x": 1}), "source.start"),
        ("/on_error", json!("ignore"), "source.on_error"),
        ("/more", json!(1), "more"),
    ] {
        let mut declaration = good.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        declaration.pointer_mut(parent).unwrap()[name] = wrong.clone();
        let said = refused(&declaration, &settings);
        assert!(said.contains(named), "{pointer} {wrong}: {said}");
    }
    let late = TableSettings { max_lateness_seconds: Some(5), ..TableSettings::default() };
    assert!(refused(&good, &late).contains("max_lateness"));
}

#[test]
fn a_declaration_reads_back_as_it_was_written() {
    for start in [json!("earliest"), json!("latest"), json!({"0": 5, "1": 9})] {
        let mut declaration = json_source(json!({
            "key": ["a.b", "/c/d"], "value": {"pack": ["x"]}, "version": {"epoch": "e", "id": "i"},
            "delete": {"field": "op", "equals": "D"},
        }));
        declaration["start"] = start;
        declaration["on_error"] = json!("skip");
        let read = Declaration::parse(&declaration).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), declaration);
    }
}
