use super::*;
use proptest::prelude::*;

const GOLDEN: &[u8] = include_bytes!("../../tests/golden/boundary-1.bin");
const P: PartitionId = PartitionId(1);
const I: LogIncarnation = LogIncarnation(2);

fn golden() -> Boundary {
    Boundary { trimmed: Link { number: 3, id: 4, end: Offset(5), clock: 6, time: 7 }, deleted: 2 }
}

#[test]
#[ignore = "writes the golden file; run it once when a format is added, never to mend one"]
fn write_golden_files() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/boundary-1.bin");
    std::fs::write(path, golden().encode(P, I)).unwrap();
}

#[test]
fn old_bytes_decode_and_new_ones_are_the_same() {
    assert_eq!(&golden().encode(P, I)[..], GOLDEN);
    assert_eq!(Boundary::decode(&Bytes::from_static(GOLDEN), P, I).unwrap(), golden());
}

#[test]
fn the_boundary_of_another_partition_or_log_is_refused() {
    let bytes = Bytes::from_static(GOLDEN);
    assert_eq!(Boundary::decode(&bytes, PartitionId(0), I).unwrap_err().code(), "log-corrupt");
    assert_eq!(Boundary::decode(&bytes, P, LogIncarnation(0)).unwrap_err().code(), "log-corrupt");
}

proptest! {
    #[test]
    fn arbitrary_and_changed_bytes_are_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>(), flip in 1u8..,
    ) {
        let _ = Boundary::decode(&bytes.into(), P, I);
        let mut bytes = GOLDEN.to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(Boundary::decode(&bytes.into(), P, I).is_err());
        prop_assert!(Boundary::decode(&Bytes::copy_from_slice(&GOLDEN[..at]), P, I).is_err());
    }
}
