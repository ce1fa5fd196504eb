use super::*;
use crate::json::push_key;
use nacre_types::KeyPartType;
use proptest::prelude::*;

fn schema(kinds: &[KeyPartType]) -> KeySchema {
    KeySchema::Parts(
        kinds.iter().enumerate().map(|(n, &kind)| KeyPart { name: format!("p{n}"), kind }).collect(),
    )
}

fn json(text: &str, schema: &KeySchema) -> Result<Key> {
    key_from_json(&serde_json::from_str(text).unwrap(), schema)
}

#[test]
fn a_key_is_the_same_in_all_its_spellings() {
    let bytes = KeySchema::Bytes;
    for (raw, key) in
        [("a%2Fb", &b"a/b"[..]), ("%00%FF", b"\x00\xFF"), ("a+b", b"a+b"), ("é", "é".as_bytes())]
    {
        assert_eq!(&*key_from_text(raw, KeyEncoding::Text, &bytes).unwrap(), key);
    }
    assert_eq!(&*key_from_text("AP8", KeyEncoding::Base64Url, &bytes).unwrap(), b"\x00\xFF");
    assert_eq!(&*key_from_text("AP8=", KeyEncoding::Base64Url, &bytes).unwrap(), b"\x00\xFF");
    assert_eq!(&*json("{\"base64\":\"AP8=\"}", &bytes).unwrap(), b"\x00\xFF");
    assert_eq!(&*json("\"a\\u0000\"", &bytes).unwrap(), b"a\0");

    let one = schema(&[KeyPartType::Int64]);
    let packed = key_from_text("42", KeyEncoding::Text, &one).unwrap().into_owned();
    assert_eq!(packed, [0x15, 42]);
    for text in ["42", "\"42\"", "[42]", "[\"42\"]", "{\"base64\":\"FSo=\"}"] {
        if text != "42" {
            assert_eq!(&*json(text, &one).unwrap(), &packed[..], "{text}");
        }
    }
    assert_eq!(&*key_from_text("%5B42%5D", KeyEncoding::Text, &one).unwrap(), &packed[..]);
    assert_eq!(&*key_from_text("FSo", KeyEncoding::Base64Url, &one).unwrap(), &packed[..]);
}

#[test]
fn wrong_keys_are_refused_by_name() {
    let bytes = KeySchema::Bytes;
    let two = schema(&[KeyPartType::Int64, KeyPartType::String]);
    let code = |result: Result<Cow<'_, [u8]>>| result.unwrap_err().code();
    assert_eq!(code(key_from_text("", KeyEncoding::Text, &bytes)), "key-empty");
    assert_eq!(code(key_from_text(&"a".repeat(2049), KeyEncoding::Text, &bytes)), "key-too-long");
    assert_eq!(code(key_from_text("%", KeyEncoding::Text, &bytes)), "percent-encoding");
    assert_eq!(code(key_from_text("a+", KeyEncoding::Base64Url, &bytes)), "key-encoding");
    assert_eq!(code(key_from_text("42", KeyEncoding::Text, &two)), "key-parts");
    assert_eq!(code(key_from_text("[42", KeyEncoding::Text, &two)), "key-parts");
    assert_eq!(code(key_from_text("[42,3]", KeyEncoding::Text, &two)), "key-parts");
    assert_eq!(code(key_from_text("AP8", KeyEncoding::Base64Url, &two)), "key-parts");
    assert_eq!(json("[1]", &bytes).unwrap_err().code(), "key-parts");
    assert_eq!(json("\"x\"", &two).unwrap_err().code(), "key-parts");
    assert_eq!(json("{\"base64\":\"*\"}", &bytes).unwrap_err().code(), "key-encoding");
    for bad in ["1", "null", "{}", "{\"base64\":\"\",\"a\":1}", "{\"text\":\"\"}"] {
        assert!(serde_json::from_str::<KeyIn<'_>>(bad).is_err(), "{bad}");
    }
}

#[test]
fn leading_parts_are_a_prefix_and_a_bound() {
    let two = schema(&[KeyPartType::Int64, KeyPartType::String]);
    let key = key_from_text("[42,\"a\"]", KeyEncoding::Text, &two).unwrap();
    for prefix in ["[42]", "42", "[42,\"a\"]", "[]", ""] {
        assert!(
            prefix_from_text(prefix.as_bytes(), KeyEncoding::Text, &two).unwrap().contains(&key),
            "{prefix}"
        );
    }
    assert!(!prefix_from_text(b"[43]", KeyEncoding::Text, &two).unwrap().contains(&key));
    assert!(bound_from_text(b"[42]", KeyEncoding::Text, &two).unwrap()[..] < key[..]);
    assert!(bound_from_text(b"[43]", KeyEncoding::Text, &two).unwrap()[..] > key[..]);
    let plain = prefix_from_text(b"a", KeyEncoding::Text, &KeySchema::Bytes).unwrap();
    assert!(plain.contains(b"ab") && !plain.contains(b"b"));
}

proptest! {
    #[test]
    fn answers_spell_keys_as_requests_may(key in proptest::collection::vec(any::<u8>(), 1..40)) {
        let mut out = Vec::new();
        push_key(&mut out, &key, &KeySchema::Bytes);
        let text = String::from_utf8(out).unwrap();
        prop_assert_eq!(&*json(&text, &KeySchema::Bytes).unwrap(), &key[..]);
        let client: JsonKey = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&client, &JsonKey::from_bytes(&key));
        prop_assert_eq!(client.to_bytes().unwrap(), key);
    }

    #[test]
    fn typed_keys_survive_json(number: i64, text: String, bytes: Vec<u8>, moment in -1_000_000_000_000_000i64..4_000_000_000_000_000) {
        let schema = schema(&[KeyPartType::Int64, KeyPartType::String, KeyPartType::Bytes, KeyPartType::Timestamp]);
        let packed = tuple::pack(&[
            tuple::Part::Int64(number), tuple::Part::String(text), tuple::Part::Bytes(bytes.into()), tuple::Part::Timestamp(moment),
        ]);
        prop_assume!(packed.len() <= 2048);
        let mut out = Vec::new();
        push_key(&mut out, &packed, &schema);
        prop_assert_eq!(&*json(std::str::from_utf8(&out).unwrap(), &schema).unwrap(), &packed[..]);
    }

    #[test]
    fn no_text_panics(raw in ".{0,40}", base64: bool) {
        let encoding = if base64 { KeyEncoding::Base64Url } else { KeyEncoding::Text };
        for schema in [KeySchema::Bytes, schema(&[KeyPartType::Uuid]), schema(&[KeyPartType::Date, KeyPartType::Bytes])] {
            let _ = key_from_text(&raw, encoding, &schema);
            let _ = prefix_from_text(raw.as_bytes(), encoding, &schema);
            let _ = bound_from_text(raw.as_bytes(), encoding, &schema);
        }
    }
}
