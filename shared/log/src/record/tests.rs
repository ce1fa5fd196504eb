use super::*;
use proptest::prelude::*;

const GOLDEN: &[u8] = include_bytes!("../../tests/golden/record-rows-1.bin");
const GOLDEN_NOTICE: &[u8] = include_bytes!("../../tests/golden/record-notice-1.bin");
const GOLDEN_MARKER: &[u8] = include_bytes!("../../tests/golden/record-marker-1.bin");

fn golden_rows() -> EncodedRecord {
    let mut builder = RecordBuilder::new(TableId(0x0102), Generation(3), WriteId(0xA0B0));
    builder.push(Op::Put, b"key", b"value", None, None).unwrap();
    builder.push(Op::Put, &[0, 0xFF], b"", Some(-7), Some(1_700_000_000_000_000)).unwrap();
    builder.push(Op::Delete, b"gone", b"not kept", Some(8), None).unwrap();
    builder.finish()
}

#[test]
#[ignore = "writes the golden files; run it once when a format is added, never to mend one"]
fn write_golden_files() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    for (name, record) in [
        ("record-rows-1.bin", golden_rows()),
        ("record-notice-1.bin", EncodedRecord::notice(WriteId(1), TableId(2), Seq(3))),
        ("record-marker-1.bin", EncodedRecord::marker(WriteId(4))),
    ] {
        std::fs::write(format!("{folder}/{name}"), record.as_bytes()).unwrap();
    }
}

#[test]
fn old_bytes_decode_and_new_ones_are_the_same() {
    assert_eq!(&golden_rows().as_bytes()[..], GOLDEN);
    let record = Record::decode(Bytes::from_static(GOLDEN)).unwrap();
    assert_eq!((record.table, record.generation), (TableId(0x0102), Generation(3)));
    assert_eq!(record.write_id, WriteId(0xA0B0));
    let rows: Vec<_> = record.rows().collect();
    assert_eq!(rows.len(), 3);
    assert_eq!((rows[0].op, &rows[0].key[..], &rows[0].value[..]), (Op::Put, &b"key"[..], &b"value"[..]));
    assert_eq!((rows[0].version, rows[0].expires_at), (None, None));
    assert_eq!((rows[1].version, rows[1].expires_at), (Some(-7), Some(1_700_000_000_000_000)));
    assert_eq!((rows[2].op, &rows[2].value[..], rows[2].version), (Op::Delete, &b""[..], Some(8)));
    let notice = EncodedRecord::notice(WriteId(1), TableId(2), Seq(3));
    assert_eq!(&notice.as_bytes()[..], GOLDEN_NOTICE);
    let kind = Record::decode(Bytes::from_static(GOLDEN_NOTICE)).unwrap().kind;
    assert_eq!(kind, RecordKind::Notice { seq: Seq(3) });
    assert_eq!(&EncodedRecord::marker(WriteId(4)).as_bytes()[..], GOLDEN_MARKER);
    assert_eq!(Record::decode(Bytes::from_static(GOLDEN_MARKER)).unwrap().write_id, WriteId(4));
}

#[test]
fn rows_that_no_table_takes_are_refused_and_leave_the_record_as_it_was() {
    let mut builder = RecordBuilder::new(TableId(1), Generation(0), WriteId(1));
    assert_eq!(builder.push(Op::Put, b"", b"", None, None).unwrap_err().code(), "key-empty");
    assert_eq!(builder.push(Op::Put, &[1; 2049], b"", None, None).unwrap_err().code(), "key-too-long");
    let long = vec![0; limits::VALUE_BYTES + 1];
    assert_eq!(builder.push(Op::Put, b"k", &long, None, None).unwrap_err().code(), "value-too-long");
    let full = vec![0; limits::VALUE_BYTES];
    let error = loop {
        if let Err(error) = builder.push(Op::Put, b"k", &full, Some(1), None) {
            break error;
        }
    };
    assert_eq!(error.code(), "record-too-long");
    let count = builder.len();
    let record = builder.finish();
    assert!(record.len() <= MAX_RECORD_BYTES && !record.gives_version());
    assert_eq!(Record::decode(record.as_bytes().clone()).unwrap().rows().len(), count);
}

#[test]
fn what_a_newer_program_wrote_is_named_so() {
    for (at, value) in [(0, 2), (1, 9), (2, 0x80)] {
        let mut bytes = GOLDEN.to_vec();
        bytes[at] = value;
        let body = bytes.len() - CRC_BYTES;
        let crc = crc32fast::hash(&bytes[..body]).to_le_bytes();
        bytes[body..].copy_from_slice(&crc);
        let error = Record::decode(bytes.into()).unwrap_err();
        assert_eq!(
            (error.code(), error.kind()),
            ("newer-format", nacre_types::ErrorKind::Corrupt),
            "byte {at}"
        );
    }
}

fn any_row() -> impl Strategy<Value = RecordRow> {
    (
        any::<bool>(),
        prop::collection::vec(any::<u8>(), 1..40),
        prop::collection::vec(any::<u8>(), 0..60),
        any::<Option<i64>>(),
        any::<Option<i64>>(),
    )
        .prop_map(|(delete, key, value, version, expires_at)| RecordRow {
            op: if delete { Op::Delete } else { Op::Put },
            key: key.into(),
            value: if delete { Bytes::new() } else { value.into() },
            version,
            expires_at,
        })
}

fn build(rows: &[RecordRow]) -> EncodedRecord {
    let mut builder = RecordBuilder::new(TableId(5), Generation(6), WriteId(7));
    for row in rows {
        builder.push(row.op, &row.key, &row.value, row.version, row.expires_at).unwrap();
    }
    builder.finish()
}

/// The same bytes with an honest checksum: what lies behind it must hold by itself.
fn resealed(mut bytes: Vec<u8>) -> Bytes {
    if let Some(body) = bytes.len().checked_sub(CRC_BYTES) {
        let crc = crc32fast::hash(&bytes[..body]).to_le_bytes();
        bytes[body..].copy_from_slice(&crc);
    }
    bytes.into()
}

proptest! {
    #[test]
    fn rows_come_back_as_they_went(rows in prop::collection::vec(any_row(), 0..20)) {
        let record = build(&rows);
        prop_assert_eq!(record.gives_version(), rows.iter().any(|row| row.version.is_none()));
        prop_assert_eq!(record.write_id(), WriteId(7));
        let decoded = Record::decode(record.as_bytes().clone()).unwrap();
        prop_assert_eq!(decoded.rows().collect::<Vec<_>>(), rows);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), version in any::<bool>()) {
        let mut bytes = bytes;
        if version && let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        let _ = Record::decode(resealed(bytes));
    }

    #[test]
    fn a_changed_byte_is_noticed_and_behind_an_honest_checksum_does_not_panic(
        rows in prop::collection::vec(any_row(), 1..5), at in any::<prop::sample::Index>(), flip in 1u8..,
    ) {
        let mut bytes = build(&rows).as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(Record::decode(bytes.clone().into()).is_err());
        if let Ok(record) = Record::decode(resealed(bytes)) {
            prop_assert_eq!(record.rows().len(), record.rows().count());
        }
    }

    #[test]
    fn a_cut_record_is_noticed(rows in prop::collection::vec(any_row(), 1..5), at in any::<prop::sample::Index>()) {
        let bytes = build(&rows).as_bytes().clone();
        prop_assert!(Record::decode(bytes.slice(..at.index(bytes.len()))).is_err());
    }
}
