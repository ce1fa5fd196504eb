use super::*;
use nacre_manifest::{IndexSpan, Layer, Location, Segment};
use nacre_types::{JobId, LoadId, SegmentId};
use proptest::prelude::*;

pub(crate) fn note(id: u128, first: &str, last: &str, rows: u64) -> SegmentNote {
    SegmentNote::of(&Segment {
        id: SegmentId(id),
        location: Location::Job(JobId(3)),
        index: IndexSpan { offset: 1, length: 2 },
        layer: Layer::Loaded(LoadId(9)),
        min_key: Bytes::copy_from_slice(first.as_bytes()),
        max_key: Bytes::copy_from_slice(last.as_bytes()),
        min_version: -1,
        max_version: 5,
        rows,
        tombstones: 1,
        bytes: 100,
        max_expires_at: Some(3),
        with_place: false,
        exact_places: true,
    })
}

fn file(name: &str) -> LoadFile {
    LoadFile {
        file: name.into(),
        rows: 4,
        bytes: 9,
        outcome: "adopted".into(),
        reason: None,
        hint: Some("h".into()),
    }
}

fn fault() -> Faults {
    let error = LoadError { file: "f".into(), row: Some(3), column: None, detail: "no key".into() };
    Faults { errors: vec![error], count: 7 }
}

fn plan() -> Plan {
    Plan {
        key: KeySchema::Bytes,
        declares: false,
        settings: TableSettings::default(),
        late_below: i64::MIN,
        hidden_below: 12,
        unit_bytes: 64 << 20,
    }
}

fn looked() -> Looked {
    let seen =
        LookedFile { report: file("a"), adopted: Some(note(7, "a", "b", 4)), hidden: 1, cuts: vec![10, 20] };
    Looked { files: vec![Some(seen), None], faults: fault(), seconds: 0.5 }
}

fn read_step() -> ReadStep {
    ReadStep {
        runs: vec![note(8, "c", "d", 5)],
        next: Some(Cursor { slice: 1, row: 77 }),
        tallies: vec![Tally { slice: 0, rows: 5, hidden: 2 }],
        faults: Faults::default(),
        only_faults: false,
        seconds: 1.25,
    }
}

fn cuts() -> Cuts {
    Cuts { keys: vec!["61".into(), "62ff".into()], seconds: 0.0 }
}

fn merge_step() -> MergeStep {
    MergeStep { segment: Some(note(9, "a", "z", 6)), seconds: 2.0 }
}

fn golden() -> Vec<(&'static str, Bytes)> {
    vec![
        ("plan", encode(&plan()).unwrap()),
        ("looked", encode(&looked()).unwrap()),
        ("read", encode(&read_step()).unwrap()),
        ("cuts", encode(&cuts()).unwrap()),
        ("merged", encode(&merge_step()).unwrap()),
    ]
}

fn held(kind: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/result-{kind}.v1"))
}

#[test]
#[ignore = "writes the files that the next test reads"]
fn write_golden() {
    for (kind, bytes) in golden() {
        std::fs::write(held(kind), bytes).unwrap();
    }
}

#[test]
fn results_keep_their_bytes() {
    for (kind, bytes) in golden() {
        assert_eq!(Bytes::from(std::fs::read(held(kind)).unwrap()), bytes, "{kind}");
    }
    let bytes = |kind| std::fs::read(held(kind)).unwrap();
    assert_eq!(decode::<Plan>(&bytes("plan")).unwrap(), plan());
    assert_eq!(decode::<Looked>(&bytes("looked")).unwrap(), looked());
    assert_eq!(decode::<ReadStep>(&bytes("read")).unwrap(), read_step());
    assert_eq!(decode::<Cuts>(&bytes("cuts")).unwrap(), cuts());
    assert_eq!(decode::<MergeStep>(&bytes("merged")).unwrap(), merge_step());
}

#[test]
fn what_contradicts_itself_does_not_decode() {
    let unsorted = Cuts { keys: vec!["62".into(), "61".into()], seconds: 0.0 };
    assert!(decode::<Cuts>(&encode(&unsorted).unwrap()).is_err());
    let no_hex = Cuts { keys: vec!["6".into()], seconds: 0.0 };
    assert!(decode::<Cuts>(&encode(&no_hex).unwrap()).is_err());
    let upside_down = MergeStep { segment: Some(note(1, "z", "a", 1)), seconds: 0.0 };
    assert!(decode::<MergeStep>(&encode(&upside_down).unwrap()).is_err());
    let silent = Looked { files: vec![None], ..Looked::default() };
    assert!(decode::<Looked>(&encode(&silent).unwrap()).is_err(), "a file that is wrong for no reason");
}

#[test]
fn a_chain_takes_only_the_step_that_begins_where_it_ends() {
    let step = |row| ReadStep { next: Some(Cursor { slice: 0, row }), ..ReadStep::default() };
    let mut chain = Chain::default();
    chain.extend("", vec![step(5), step(9)]);
    // Known already, beyond a gap, and a step that another process made of the same rows.
    chain.extend("", vec![step(5), step(9)]);
    chain.extend("0.11", vec![step(20)]);
    chain.extend("0.5", vec![step(7)]);
    assert_eq!((chain.steps.len(), chain.cursor().as_deref()), (2, Some("0.9")));
    chain.extend("0.5", vec![step(9), ReadStep::default()]);
    assert!(chain.is_done() && chain.steps.len() == 3 && chain.cursor().is_none());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..5usize, sum in any::<bool>()) {
        let mut bytes = bytes;
        if sum && bytes.len() >= 5 {
            bytes[0] = VERSION;
            let crc = crc32fast::hash(&bytes[5..]).to_be_bytes();
            bytes[1..5].copy_from_slice(&crc);
        }
        drop((decode::<Plan>(&bytes), decode::<Looked>(&bytes), decode::<ReadStep>(&bytes)));
        drop((decode::<Cuts>(&bytes), decode::<MergeStep>(&bytes)));
        // One bit of a real one.
        let (kind, real) = golden().swap_remove(at);
        let mut real = real.to_vec();
        let place = bytes.first().map_or(0, |b| usize::from(*b) % real.len());
        real[place] ^= 1;
        let fails = match kind {
            "plan" => decode::<Plan>(&real).is_err(),
            "looked" => decode::<Looked>(&real).is_err(),
            "read" => decode::<ReadStep>(&real).is_err(),
            "cuts" => decode::<Cuts>(&real).is_err(),
            _ => decode::<MergeStep>(&real).is_err(),
        };
        prop_assert!(fails);
    }
}
