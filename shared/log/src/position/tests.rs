use super::*;
use proptest::prelude::*;

const GOLDEN: &[u8] = include_bytes!("../../tests/golden/flushed-through-1.bin");

fn golden() -> FlushedThrough {
    FlushedThrough {
        position: LogPosition { incarnation: LogIncarnation(1), offset: Offset(2), clock: -3, chunk: 4 },
        carried: Some("tables/carried/5".into()),
    }
}

#[test]
#[ignore = "writes the golden file; run it once when a format is added, never to mend one"]
fn write_golden_files() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/flushed-through-1.bin");
    std::fs::write(path, golden().encode()).unwrap();
}

#[test]
fn old_bytes_decode_and_new_ones_are_the_same() {
    assert_eq!(&golden().encode()[..], GOLDEN);
    assert_eq!(FlushedThrough::decode(&Bytes::from_static(GOLDEN)).unwrap(), golden());
    let start = FlushedThrough::start(LogIncarnation(0));
    assert_eq!(FlushedThrough::decode(&start.encode()).unwrap(), start);
}

#[test]
fn of_two_the_later_stays_with_what_it_carries() {
    let early = golden();
    let mut late = golden();
    late.position.offset = Offset(9);
    late.carried = None;
    assert_eq!(early.clone().merge(late.clone()), late);
    assert_eq!(late.clone().merge(early.clone()), late);
    let mut other = golden();
    other.position.incarnation = LogIncarnation(2);
    other.position.offset = Offset(0);
    assert_eq!(late.merge(other.clone()), other);
    let same = FlushedThrough { carried: None, ..golden() };
    assert_eq!(early.clone().merge(same), early);
}

proptest! {
    #[test]
    fn it_comes_back_as_it_went(
        (incarnation, offset, clock, chunk) in any::<(u32, u64, i64, u64)>(), carried in "[a-z/]{0,40}",
    ) {
        let position = LogPosition { incarnation: LogIncarnation(incarnation), offset: Offset(offset), clock, chunk };
        let record = FlushedThrough { position, carried: (!carried.is_empty()).then_some(carried) };
        prop_assert_eq!(FlushedThrough::decode(&record.encode()).unwrap(), record);
    }

    #[test]
    fn arbitrary_and_changed_bytes_are_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>(), flip in 1u8..,
    ) {
        let _ = FlushedThrough::decode(&bytes.into());
        let mut bytes = GOLDEN.to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(FlushedThrough::decode(&bytes.into()).is_err());
    }
}
