use super::*;
use proptest::prelude::*;

fn row(key: &[u8], value: Option<&[u8]>, version: Option<i64>, expires_at: Option<i64>) -> WriteIn {
    WriteIn {
        key: Key::new(key.to_vec()).unwrap(),
        value: value.map(Bytes::copy_from_slice),
        version,
        expires_at,
    }
}

fn samples() -> [(&'static str, &'static [u8], Vec<u8>); 4] {
    let mut got = get_answer(3, 42, 0);
    push_got(&mut got, ReadStatus::Found, Some((1_700_000_000_000_000, None, b"value")));
    push_got(&mut got, ReadStatus::Absent, None);
    push_got(&mut got, ReadStatus::Found, Some((-1, Some(i64::MAX), b"")));
    let mut wrote = write_answer(2, "v1.token");
    push_wrote(&mut wrote, Ok(Some(1_700_000_000_000_000)));
    push_wrote(&mut wrote, Err(&Error::overloaded("the log is full")));
    let rows = [
        row(b"a", Some(b"value"), Some(1_700_000_000_000_000), None),
        row(b"\xFF\x00", None, None, None),
        row(b"b", Some(b""), None, Some(5)),
    ];
    [
        (
            "get_request",
            include_bytes!("../../tests/golden/batch_v1_get_request.bin"),
            get_request([&b"a"[..], b"\xFF\x00"].into_iter(), true),
        ),
        ("get_answer", include_bytes!("../../tests/golden/batch_v1_get_answer.bin"), got),
        (
            "write_request",
            include_bytes!("../../tests/golden/batch_v1_write_request.bin"),
            write_request(&rows),
        ),
        ("write_answer", include_bytes!("../../tests/golden/batch_v1_write_answer.bin"), wrote),
    ]
}

#[test]
fn the_bytes_are_those_of_the_golden_files() {
    for (name, golden, written) in samples() {
        assert_eq!(written, golden, "{name}: {}", written.escape_ascii());
    }
}

#[test]
fn the_documentation_shows_the_golden_bytes() {
    let docs = include_str!("../../../../docs/batch.md");
    for (name, golden, _) in samples() {
        let hex: Vec<String> = golden.iter().map(|byte| format!("{byte:02x}")).collect();
        let words: String = docs.split_whitespace().collect();
        assert!(words.contains(&hex.concat()), "{name}: {}", hex.join(" "));
    }
}

#[test]
fn golden_files_are_read() {
    let [get_request, get_answer, write_request, write_answer] =
        samples().map(|(_, golden, _)| Bytes::from_static(golden));
    let (keys, partial) = parse_get_request(get_request).unwrap();
    assert_eq!((keys.len(), partial), (2, true));
    let (rows, edition) = parse_get_answer(get_answer).unwrap();
    assert_eq!((rows.len(), edition), (3, 42));
    assert_eq!(rows[0].row, Some((1_700_000_000_000_000, None, Bytes::from_static(b"value"))));
    let rows = parse_write_request(write_request).unwrap();
    assert_eq!(rows[1], row(b"\xFF\x00", None, None, None));
    let (rows, token) = parse_write_answer(write_answer).unwrap();
    assert_eq!((rows[1].status, token.as_str()), (WriteStatus::Overloaded, "v1.token"));
    assert_eq!(rows[1].error.as_deref(), Some("overloaded: the log is full"));
}

#[test]
fn limits_are_named_and_claims_are_checked_before_anything_is_allocated() {
    let many = get_request(std::iter::repeat_n(&b"k"[..], 1_001), false);
    let error = parse_get_request(many.into()).unwrap_err();
    assert!(error.code() == "batch-too-large" && error.detail().contains("batch_get_keys"), "{error}");
    let mut claims = get_request([].into_iter(), false);
    claims[6..10].copy_from_slice(&1000u32.to_le_bytes());
    assert_eq!(parse_get_request(claims.into()).unwrap_err().code(), "batch-invalid");
    let long = write_request(&[row(b"k", Some(&vec![0; limits::VALUE_BYTES + 1]), None, None)]);
    let error = parse_write_request(long.into()).unwrap_err();
    assert!(error.code() == "value-too-large" && error.detail().contains("row 0"), "{error}");
    let empty = get_request([&b""[..]].into_iter(), false);
    assert_eq!(parse_get_request(empty.into()).unwrap_err().code(), "key-empty");
}

#[test]
fn statuses_keep_their_numbers() {
    for ordinal in 0..=u8::MAX {
        if let Some(status) = read_status(ordinal) {
            assert_eq!(read_ordinal(status), ordinal);
        }
        if let Some(status) = write_status(ordinal) {
            assert_eq!(write_ordinal(status), ordinal);
        }
    }
    assert_eq!((read_ordinal(ReadStatus::Blocked), write_ordinal(WriteStatus::Unknown)), (4, 5));
}

type Parts = (Vec<u8>, Option<Vec<u8>>, Option<i64>, Option<i64>);

proptest! {
    #[test]
    fn writes_round_trip(rows in proptest::collection::vec(any::<Parts>(), 0..20)) {
        let rows: Vec<WriteIn> = rows
            .into_iter()
            .filter(|(key, ..)| !key.is_empty())
            .map(|(key, value, version, expires)| row(&key, value.as_deref(), version, expires))
            .collect();
        prop_assert_eq!(parse_write_request(write_request(&rows).into()).unwrap(), rows);
    }

    #[test]
    fn bytes_from_outside_never_panic(which in 0..4usize, at: prop::sample::Index, byte: u8, cut: prop::sample::Index, noise: Vec<u8>) {
        let (_, golden, _) = &samples()[which];
        let mut bytes = golden.to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        for body in [bytes.clone(), bytes[..cut.index(bytes.len())].to_vec(), noise] {
            let body = Bytes::from(body);
            let _ = parse_get_request(body.clone());
            let _ = parse_get_answer(body.clone());
            let _ = parse_write_request(body.clone());
            let _ = parse_write_answer(body);
        }
    }
}
