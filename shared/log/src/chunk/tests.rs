use super::*;
use crate::record::{Op, RecordBuilder};
use nacre_types::{Generation, TableId};
use proptest::prelude::*;

const GOLDEN: &[u8] = include_bytes!("../../tests/golden/chunk-1.bin");

fn record(id: u128, versions: &[Option<i64>]) -> EncodedRecord {
    let mut builder = RecordBuilder::new(TableId(1), Generation(0), WriteId(id));
    for version in versions {
        builder.push(Op::Put, b"k", b"v", *version, None).unwrap();
    }
    builder.finish()
}

fn chunk(before: Link, id: u128, now: i64, records: &[EncodedRecord]) -> Chunk {
    let mut builder = ChunkBuilder::new(PartitionId(1), LogIncarnation(2), before, id, now, 0, records.len());
    for record in records {
        builder.push(record);
    }
    builder.finish()
}

fn golden() -> Chunk {
    let before = Link { number: 6, id: 0xAA, end: Offset(40), clock: 1_000_000, time: 900_000 };
    chunk(before, 0xBB, 999_998, &[record(1, &[None]), record(2, &[Some(3)]), record(4, &[Some(5), None])])
}

#[test]
#[ignore = "writes the golden file; run it once when a format is added, never to mend one"]
fn write_golden_files() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chunk-1.bin");
    std::fs::write(path, &golden().bytes).unwrap();
}

#[test]
fn old_bytes_decode_to_the_same_places_and_versions_and_new_ones_are_the_same() {
    assert_eq!(&golden().bytes[..], GOLDEN);
    let chunk = Chunk::decode(Bytes::from_static(GOLDEN)).unwrap();
    // The clock is ahead of the time: versions follow the clock, and a record of versioned rows does not move it.
    let places: Vec<_> =
        chunk.places().map(|place| (place.offset.0, place.version, place.append_time)).collect();
    let expected = [(40, 1_000_001, 999_998), (41, 1_000_002, 999_998), (42, 1_000_002, 999_998)];
    assert_eq!(places, expected.map(|(offset, version, time)| (offset, Some(version), time)));
    let end = Link { number: 7, id: 0xBB, end: Offset(43), clock: 1_000_002, time: 999_998 };
    assert_eq!(chunk.link, end);
    assert_eq!(
        (chunk.partition, chunk.incarnation, chunk.predecessor),
        (PartitionId(1), LogIncarnation(2), 0xAA)
    );
    let ids: Vec<_> = chunk.write_ids().map(|(id, _)| id.0).collect();
    assert_eq!(ids, [1, 2, 4]);
    assert_eq!(chunk.stamped(Offset(41)).unwrap().len(), 2);
    let clocks: Vec<_> = (39..45).map(|offset| chunk.clock_at(Offset(offset))).collect();
    assert_eq!(clocks, [None, Some(1_000_000), Some(1_000_001), Some(1_000_001), Some(1_000_002), None]);
}

#[test]
fn the_time_of_a_chunk_is_the_clock_or_its_predecessors_time_whichever_is_later() {
    let first = chunk(Link::START, 1, 500, &[record(1, &[None])]);
    let second = chunk(first.link, 2, 100, &[record(2, &[None]), record(3, &[None])]);
    assert_eq!(second.link.time, 500);
    assert_eq!(second.places().map(|place| place.version).collect::<Vec<_>>(), [Some(501), Some(502)]);
    let third = chunk(second.link, 3, 9_000, &[record(4, &[None])]);
    assert_eq!(third.places().next().unwrap().version, Some(9_000));
    second.check_follows(&first.link).unwrap();
    third.check_follows(&second.link).unwrap();
    assert_eq!(third.check_follows(&first.link).unwrap_err().code(), "log-chain");
    assert_eq!(first.check_follows(&first.link).unwrap_err().code(), "log-chain");
}

#[test]
fn versions_never_fall_even_at_the_end_of_time() {
    let before = Link { clock: i64::MAX, ..Link::START };
    let chunk = chunk(before, 1, 5, &[record(1, &[None])]);
    assert_eq!(chunk.places().next().unwrap().version, Some(i64::MAX));
}

fn resealed(mut bytes: Vec<u8>) -> Bytes {
    if let Some(body) = bytes.len().checked_sub(codec::CRC_BYTES) {
        let crc = crc32fast::hash(&bytes[..body]).to_le_bytes();
        bytes[body..].copy_from_slice(&crc);
    }
    bytes.into()
}

proptest! {
    #[test]
    fn a_built_chunk_and_its_bytes_say_the_same(
        records in prop::collection::vec(prop::collection::vec(any::<Option<i64>>(), 0..4), 1..20),
        (clock, time, now) in (0..1_000i64, 0..1_000i64, 0..2_000i64),
    ) {
        let records: Vec<_> =
            records.iter().enumerate().map(|(id, versions)| record(id as u128, versions)).collect();
        let before = Link { number: 3, id: 9, end: Offset(17), clock, time };
        let built = chunk(before, 10, now, &records);
        let read = Chunk::decode(built.bytes.clone()).unwrap();
        prop_assert_eq!(built.link, read.link);
        prop_assert_eq!(built.places().collect::<Vec<_>>(), read.places().collect::<Vec<_>>());
        prop_assert_eq!(built.stamped(Offset(0)).unwrap(), read.stamped(Offset(0)).unwrap());
        read.check_follows(&before).unwrap();
        let mut last = clock;
        for (place, record) in read.places().zip(&records) {
            prop_assert_eq!(place.version, Some(place.append_time.max(last + 1)));
            if record.gives_version() {
                last = place.version.unwrap();
            }
        }
        prop_assert_eq!(read.link.clock, last);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        let _ = Chunk::decode(bytes.clone().into());
        let _ = Chunk::decode(resealed(bytes));
    }

    #[test]
    fn changed_bytes_are_noticed_and_behind_an_honest_checksum_do_not_panic(
        at in any::<prop::sample::Index>(), flip in 1u8..,
    ) {
        let mut bytes = GOLDEN.to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(Chunk::decode(bytes.clone().into()).is_err());
        if let Ok(chunk) = Chunk::decode(resealed(bytes)) {
            let _ = chunk.stamped(Offset(0));
        }
    }
}
