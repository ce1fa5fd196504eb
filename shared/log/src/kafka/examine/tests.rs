use super::*;
use crate::kafka::KafkaUrl;
use crate::{EncodedRecord, Op, RecordBuilder};
use bytes::Bytes;
use nacre_types::{Generation, LogIncarnation, TableId, WriteId};

const P: PartitionId = PartitionId(0);

fn course(from: u64) -> Course {
    let config = KafkaConfig::new(&KafkaUrl::parse("kafka://h:1/t").unwrap());
    Course::new(&config, P, LogPosition { offset: Offset(from), ..LogPosition::start(LogIncarnation(0)) })
}

fn row(offset: u64) -> Raw {
    let mut builder = RecordBuilder::new(TableId(1), Generation(0), WriteId(2));
    builder.push(Op::Put, b"k", b"v", None, None).unwrap();
    Raw { offset, append_time: Some(9_000), bytes: builder.finish().as_bytes().clone() }
}

fn stranger(offset: u64, bytes: &'static [u8]) -> Raw {
    Raw { bytes: Bytes::from_static(bytes), ..row(offset) }
}

fn met(course: &Course) -> Vec<(u64, u64)> {
    course.examined.obstacles.iter().map(|obstacle| (obstacle.from.0, obstacle.to.0)).collect()
}

#[test]
fn all_that_stops_readers_is_found_and_nothing_else_is() {
    let mut course = course(3);
    let end = Offset(40);
    let timeless = Raw { append_time: None, ..row(9) };
    let marker = Raw { bytes: EncodedRecord::marker(WriteId(1)).as_bytes().clone(), ..row(4) };
    for raw in [
        row(3),
        marker,
        stranger(5, b"hello"),
        stranger(6, b"world"),
        row(7),
        stranger(8, b"\0\0\0\x01avro"),
        timeless,
        stranger(10, b""),
        row(20),
    ] {
        course.take(raw, end).unwrap();
    }
    assert_eq!(met(&course), [(5, 7), (8, 9), (9, 10), (10, 11), (11, 20)]);
    assert_eq!((course.at(), course.examined.records), (Offset(21), 4));
    // What was appended after the end was asked for is nobody's affair now.
    course.take(row(45), end).unwrap();
    assert_eq!((met(&course).last(), course.at()), (Some(&(21, 40)), end));
}

#[test]
fn records_of_a_newer_program_are_no_obstacle_to_be_given_up() {
    let mut newer = row(3).bytes.to_vec();
    newer[0] = 2;
    let mut course = course(3);
    let error = course.take(Raw { bytes: newer.into(), ..row(3) }, Offset(9)).unwrap_err();
    assert_eq!(error.code(), "newer-format");
    assert!(met(&course).is_empty());
}

#[test]
fn holes_are_no_obstacles_any_more() {
    let hole = nacre_store::LogHole { partition: P, from: Offset(4), to: Offset(6) };
    let mending = nacre_store::LogMending { holes: vec![hole], ..Default::default() };
    let config = KafkaConfig {
        mending: Arc::new(mending),
        ..KafkaConfig::new(&KafkaUrl::parse("kafka://h:1/t").unwrap())
    };
    let start = LogPosition { offset: Offset(3), ..LogPosition::start(LogIncarnation(0)) };
    let mut course = Course::new(&config, P, start);
    for raw in [row(3), stranger(4, b"hello"), row(6)] {
        course.take(raw, Offset(9)).unwrap();
    }
    assert!(met(&course).is_empty());
    assert_eq!(course.at(), Offset(7));
}
