use super::*;
use nacre_types::{KeyPart, KeyPartType};

#[test]
fn file_names_stay_in_their_folder() {
    for good in ["a.parquet", "dt=2024-01-01/part-0.parquet", "dt%3D1%2Fa", "..a", "ts=1%2000%253A00/a"] {
        assert!(file_name(good).is_ok(), "{good}");
    }
    for bad in
        ["", "/a", "a/", "a//b", "..", "../a", "a/%2e%2e/b", "%2E", "a%00", "a%2Bb", "é", &"a".repeat(513)]
    {
        assert_eq!(file_name(bad).unwrap_err().kind(), nacre_types::ErrorKind::Invalid, "{bad}");
    }
}

#[test]
fn listings_are_cut_into_pages_that_meet() {
    let names: Vec<String> = (0..25).map(|n| format!("t{n:02}")).collect();
    let mut page = ListPage { path: "/v1/x".to_owned(), size: 10, after: None };
    let mut seen = Vec::new();
    loop {
        let (part, next) = page.cut(names.clone(), |name| name.as_bytes().to_vec(), |name| name);
        seen.extend(part);
        let Some(next) = next else { break };
        page.after = Some(ListToken::parse(&next, "/v1/x").unwrap().0);
    }
    assert_eq!(seen, names);
    let exact = ListPage { path: "/v1/x".to_owned(), size: 25, after: None };
    assert_eq!(exact.cut(names, |name| name.as_bytes().to_vec(), |name| name).1, None);
}

#[test]
fn split_points_rise() {
    let text = |text: &str| JsonKey::Text(text.to_owned());
    assert_eq!(split_points(&[text("a"), text("b")], &KeySchema::Bytes).unwrap(), [&b"a"[..], b"b"]);
    assert!(split_points(&[text("b"), text("a")], &KeySchema::Bytes).is_err());
    assert!(split_points(&[text("a"), text("a")], &KeySchema::Bytes).is_err());
    assert!(split_points(&[text("")], &KeySchema::Bytes).is_err());
    let typed = KeySchema::Parts(vec![
        KeyPart { name: "a".into(), kind: KeyPartType::Int64 },
        KeyPart { name: "b".into(), kind: KeyPartType::String },
    ]);
    let points = split_points(&[JsonKey::Parts(vec![7.into()])], &typed).unwrap();
    assert_eq!(spell_key(&points[0], &typed), JsonKey::Parts(vec![7.into()]));
    assert!(split_points(&[JsonKey::Parts(vec!["x".into()])], &typed).is_err());
}

#[test]
fn loads_say_their_version_and_spellings_do_not_count() {
    let read = |text: &str| begin_load(nacre_api::from_json(text.as_bytes()).unwrap());
    let (request, canonical) = read(r#"{"mode":"merge","version":"5"}"#).unwrap();
    assert_eq!(request.version, Some(LoadVersion::At(5)));
    let other = read(r#"{ "version": 5, "mode": "merge", "guards": {"min_rows": 0} }"#).unwrap();
    assert_eq!(other.1, canonical);
    assert_ne!(read(r#"{"mode":"replace","version":5}"#).unwrap().1, canonical);
    assert!(read(r#"{"mode":"merge","columns":{"key":["a"],"version":"v"}}"#).is_ok());
    for bad in [
        r#"{"mode":"merge"}"#,
        r#"{"mode":"merge","version":1,"columns":{"key":[]}}"#,
        r#"{"mode":"merge","version":1,"columns":{"key":["a"],"value":"b","pack":["c"]}}"#,
        r#"{"mode":"merge","version":1,"guards":{"max_shrink_percent":101}}"#,
    ] {
        assert_eq!(read(bad).unwrap_err().code(), "load-invalid", "{bad}");
    }
}
