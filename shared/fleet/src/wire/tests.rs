use super::*;
use nacre_types::{ErrorKind, LogIncarnation};
use proptest::prelude::*;

fn options() -> ReadOptions {
    ReadOptions {
        consistency: Some(Consistency::Session),
        as_of: i64::MAX,
        now_micros: 1_700_000_000_000_000,
        session: Some(SessionToken {
            table: TableId(5),
            edition: Seq(3),
            incarnation: LogIncarnation(1),
            positions: vec![(PartitionId(2), Offset(99))],
        }),
        max_staleness: Some(Duration::from_millis(250)),
        deadline: Duration::from_secs(2),
        edition: Some(Seq(4)),
        preview: Some(LoadId(6)),
    }
}

fn reads() -> Vec<Read> {
    let key = |text: &'static str| Key::new(Bytes::from_static(text.as_bytes())).unwrap();
    vec![
        Read::Get(vec![key("a"), key("b")]),
        Read::Versions { key: key("a"), since: i64::MIN, until: 7, limit: 10 },
        Read::Scan(ScanRequest {
            range: KeyRange { start: Bytes::from_static(b"a"), end: Some(Bytes::from_static(b"z")) },
            reverse: true,
            since: Some(-1),
            until: None,
            max_rows: 100,
            max_bytes: 1 << 20,
            keys_only: false,
        }),
        Read::Explain(key("k")),
    ]
}

fn found(value: &'static str) -> Found {
    Found { version: -3, value: Bytes::from_static(value.as_bytes()), expires_at: Some(9) }
}

fn answers() -> Vec<Result<ReadAnswer>> {
    let receipt = Receipt {
        source: Source::Disk,
        store_gets: 1,
        store_bytes: 2,
        segments: 3,
        edition: Seq(4),
        node_nanos: 5,
    };
    let token = options().session.unwrap();
    let rows = vec![
        Rows::Lookups(vec![
            Lookup::Found(found("v")),
            Lookup::Absent(Absence::Row),
            Lookup::Absent(Absence::Tombstone),
            Lookup::Absent(Absence::Expired),
        ]),
        Rows::Versions(vec![found("v"), Found { expires_at: None, ..found("w") }]),
        Rows::Page(ScanPage {
            rows: vec![(Bytes::from_static(b"k"), found("v"))],
            next: Some(Bytes::from_static(b"l")),
        }),
        Rows::Explanation(Explanation {
            rows: vec![
                ExplainedRow {
                    version: 1,
                    tombstone: true,
                    expires_at: None,
                    value_bytes: 0,
                    place: RowPlace::Tail { partition: PartitionId(1), offset: Offset(2), index: 3 },
                    visible: false,
                    reason: "a tombstone".into(),
                },
                ExplainedRow {
                    version: 1,
                    tombstone: false,
                    expires_at: Some(8),
                    value_bytes: 7,
                    place: RowPlace::Segment { segment: SegmentId(4), block: 5, load: Some(LoadId(6)) },
                    visible: true,
                    reason: "visible".into(),
                },
            ],
            edition: Seq(4),
            manifest: Seq(9),
        }),
    ];
    let told = |rows| Ok(ReadAnswer { rows, receipt, manifest: Seq(12), token: token.clone() });
    let error = Error::unavailable("not here").with_code("not-held").with_retry_after_ms(50);
    rows.into_iter().map(told).chain([Err(error)]).collect()
}

/// All frames, each after its length.
fn frames() -> Vec<u8> {
    let requests =
        reads().into_iter().map(|read| ReadRequest { table: TableId(5), options: options(), read }.encode());
    let answers: Vec<Bytes> = answers().iter().map(encode_outcome).collect();
    let all = requests.chain(answers);
    all.flat_map(|frame| [&(frame.len() as u32).to_be_bytes()[..], &frame].concat()).collect()
}

#[test]
fn frames_keep_their_bytes() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/frames-1.bin");
    assert_eq!(frames(), std::fs::read(path).unwrap());
}

#[test]
fn what_is_asked_arrives() {
    for read in reads() {
        let request = ReadRequest { table: TableId(5), options: options(), read };
        let again = ReadRequest::decode(request.encode()).unwrap();
        assert_eq!(format!("{request:?}"), format!("{again:?}"));
    }
    let bare = ReadRequest { table: TableId(1), options: ReadOptions::at(3), read: reads().remove(0) };
    assert_eq!(format!("{bare:?}"), format!("{:?}", ReadRequest::decode(bare.encode()).unwrap()));
}

#[test]
fn what_is_answered_arrives() {
    for outcome in answers() {
        let again = decode_outcome(encode_outcome(&outcome));
        match (outcome, again) {
            (Ok(sent), Ok(came)) => assert_eq!(format!("{sent:?}"), format!("{came:?}")),
            (Err(sent), Err(came)) => {
                assert_eq!(
                    (sent.kind(), sent.code(), sent.detail()),
                    (came.kind(), came.code(), came.detail())
                );
                assert_eq!(sent.retry_after_ms(), came.retry_after_ms());
            }
            (sent, came) => panic!("{sent:?} became {came:?}"),
        }
    }
}

#[test]
fn every_kind_of_error_arrives_as_itself() {
    for kind in [
        ErrorKind::Invalid,
        ErrorKind::Conflict,
        ErrorKind::Overloaded,
        ErrorKind::Corrupt,
        ErrorKind::Internal,
    ] {
        let error: Result<ReadAnswer> = Err(Error::new(kind, "why").with_code("a-code-of-tomorrow"));
        assert_eq!(decode_outcome(encode_outcome(&error)).unwrap_err().kind(), kind);
    }
}

proptest! {
    #[test]
    fn damaged_frames_are_refused(which in 0usize..4, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut frame = ReadRequest { table: TableId(5), options: options(), read: reads().remove(which) }.encode().to_vec();
        let at = at.index(frame.len());
        frame[at] ^= 1 << bit;
        prop_assert!(ReadRequest::decode(frame.into()).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        bytes.insert(0, VERSION);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        let _ = ReadRequest::decode(bytes.clone().into());
        let _ = decode_outcome(bytes.into());
    }
}
