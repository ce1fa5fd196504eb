//! The encoding against its test vectors, its order, and arbitrary bytes.

use super::*;
use crate::KeyPartType as T;
use proptest::prelude::*;

fn schema(kinds: &[T]) -> Vec<KeyPart> {
    kinds.iter().enumerate().map(|(at, &kind)| KeyPart { name: format!("p{at}"), kind }).collect()
}

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// The rows of the table of test vectors in `docs/keys.md`: schema, JSON, hex.
fn documented_vectors() -> Vec<(Vec<KeyPart>, serde_json::Value, Vec<u8>)> {
    let document = include_str!("../../../../docs/keys.md");
    let rows = document
        .split("<!-- vectors -->")
        .nth(1)
        .expect("docs/keys.md has a part between two marks <!-- vectors -->")
        .lines()
        .filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let cells: Vec<&str> =
            line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`')).collect();
        let [types, json, bytes] = cells[..] else { panic!("three cells in {line}") };
        let kinds: Vec<T> = types
            .split(", ")
            .map(|word| serde_json::from_value(serde_json::Value::from(word)).unwrap())
            .collect();
        (schema(&kinds), serde_json::from_str(json).unwrap(), hex(bytes))
    })
    .collect()
}

#[test]
fn the_documented_vectors_hold() {
    let vectors = documented_vectors();
    assert!(vectors.len() >= 20, "{} vectors", vectors.len());
    for (schema, json, bytes) in vectors {
        let parts = parts_from_json(&schema, &json).unwrap();
        assert_eq!(pack_key(&schema, &parts).unwrap().as_bytes(), bytes, "{json}");
        assert_eq!(unpack(&schema, &bytes).unwrap(), parts, "{json}");
        assert_eq!(parts_to_json(&parts), json);
        assert!(is_packed(&schema, &bytes));
    }
}

#[test]
fn numbers_are_ordered_across_lengths_and_signs() {
    let mut numbers = vec![0, i64::MIN, i64::MIN + 1, i64::MAX];
    for bits in 1..63 {
        for near in [-1, 0, 1] {
            numbers.extend([(1i64 << bits) + near, -(1i64 << bits) + near]);
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    let packed: Vec<Vec<u8>> = numbers.iter().map(|&number| pack(&[Part::Int64(number)])).collect();
    assert!(packed.is_sorted_by(|a, b| a < b));
    for (number, bytes) in numbers.iter().zip(&packed) {
        assert_eq!(unpack(&schema(&[T::Int64]), bytes).unwrap(), [Part::Int64(*number)]);
    }
}

#[test]
fn a_prefix_holds_its_keys_and_no_longer_strings() {
    let schema = schema(&[T::String, T::Int64]);
    let range = prefix(&schema, &[Part::String("a".into())]).unwrap();
    let key = |text: &str, number| pack(&[Part::String(text.into()), Part::Int64(number)]);
    assert!(range.contains(&key("a", i64::MIN)) && range.contains(&key("a", i64::MAX)));
    assert!(
        !range.contains(&key("a\0", 0)) && !range.contains(&key("aa", 0)) && !range.contains(&key("", 0))
    );
    assert_eq!(prefix(&schema, &[]).unwrap(), KeyRange::all());
    let one = prefix(&schema, &[Part::String("a".into()), Part::Int64(7)]).unwrap();
    assert!(one.contains(&key("a", 7)) && !one.contains(&key("a", 8)));
}

#[test]
fn what_is_wrong_is_named() {
    let schema = schema(&[T::Int64, T::String]);
    let error = pack_key(&schema, &[Part::Int64(1)]).unwrap_err();
    assert_eq!(error.code(), "key-parts");
    assert!(
        error.detail().contains("1 parts") && error.detail().contains("(p0 int64, p1 string)"),
        "{error}"
    );
    let error = parts_from_json(&schema, &serde_json::json!([1.5])).unwrap_err();
    assert!(error.detail().contains("\"p0\" (int64)") && error.detail().contains("1.5"), "{error}");
    let long = Part::String("x".repeat(2_100));
    assert_eq!(pack_key(&schema, &[Part::Int64(1), long]).unwrap_err().code(), "key-too-long");
}

#[test]
fn only_the_shortest_form_of_a_number_is_a_key() {
    let schema = schema(&[T::Int64]);
    for wrong in [
        "15 00",
        "16 00 01",
        "13 ff",
        "0b 00 00 00 00 00 00 00 00",
        "1c ff ff ff ff ff ff ff ff",
        "15",
        "0c 00 00 00 00 00 00 00 00",
        "14 00",
    ] {
        assert!(unpack(&schema, &hex(wrong)).is_err(), "{wrong}");
        assert!(!is_packed(&schema, &hex(wrong)), "{wrong}");
    }
}

fn any_part() -> impl Strategy<Value = Part> {
    prop_oneof![
        "[\\PC\\x00]{0,6}".prop_map(Part::String),
        prop::collection::vec(prop_oneof![Just(0u8), Just(0xFF), any::<u8>()], 0..6)
            .prop_map(|bytes| Part::Bytes(bytes.into())),
        any::<i64>().prop_map(Part::Int64),
        (-300i64..300).prop_map(Part::Int64),
        any::<[u8; 16]>().prop_map(Part::Uuid),
        any::<i32>().prop_map(Part::Date),
        any::<i64>().prop_map(Part::Timestamp),
    ]
}

/// The order that a person would expect of parts of one type.
fn compare(a: &Part, b: &Part) -> std::cmp::Ordering {
    match (a, b) {
        (Part::String(a), Part::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Part::Bytes(a), Part::Bytes(b)) => a.cmp(b),
        (Part::Int64(a), Part::Int64(b)) | (Part::Timestamp(a), Part::Timestamp(b)) => a.cmp(b),
        (Part::Uuid(a), Part::Uuid(b)) => a.cmp(b),
        (Part::Date(a), Part::Date(b)) => a.cmp(b),
        _ => unreachable!("parts of two types"),
    }
}

fn two_of_a_kind() -> impl Strategy<Value = (Part, Part)> {
    (any_part(), any_part()).prop_filter("one type", |(a, b)| a.kind() == b.kind())
}

proptest! {
    #[test]
    fn keys_round_trip(parts in prop::collection::vec(any_part(), 1..5)) {
        let schema = schema(&parts.iter().map(Part::kind).collect::<Vec<_>>());
        let key = pack_key(&schema, &parts).unwrap();
        prop_assert_eq!(unpack(&schema, &key).unwrap(), parts.clone());
        prop_assert!(is_packed(&schema, &key));
        prop_assert_eq!(parts_from_json(&schema, &parts_to_json(&parts)).unwrap(), parts);
    }

    #[test]
    fn packing_keeps_the_order(pairs in prop::collection::vec(two_of_a_kind(), 1..4)) {
        let (a, b): (Vec<Part>, Vec<Part>) = pairs.into_iter().unzip();
        let expected = a.iter().zip(&b).map(|(a, b)| compare(a, b)).find(|o| o.is_ne());
        prop_assert_eq!(pack(&a).cmp(&pack(&b)), expected.unwrap_or(std::cmp::Ordering::Equal));
    }

    #[test]
    fn what_unpacks_packs_to_the_same_bytes(
        kinds in prop::collection::vec(prop::sample::select(vec![T::String, T::Bytes, T::Int64, T::Uuid, T::Date, T::Timestamp]), 1..4),
        bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(0xFF), Just(0x01), Just(0x02), 0x0A..0x20u8, any::<u8>()], 0..24),
    ) {
        let schema = schema(&kinds);
        match unpack(&schema, &bytes) {
            Ok(parts) => {
                prop_assert_eq!(pack(&parts), bytes.clone());
                prop_assert!(is_packed(&schema, &bytes));
            }
            Err(_) => prop_assert!(!is_packed(&schema, &bytes)),
        }
    }
}
