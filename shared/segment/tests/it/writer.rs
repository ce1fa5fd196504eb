//! What the writer takes, refuses and says of its file.

use crate::rows::{OwnedRow, write};
use nacre_segment::{Codec, SegmentRow, SegmentWriter, WriterSettings, decode_block};
use nacre_types::{Generation, Offset, Place, Seq};

fn row<'a>(key: &'a [u8], version: i64) -> SegmentRow<'a> {
    SegmentRow { key, version, place: None, expires_at: None, value: Some(b"v") }
}

#[test]
fn disorder_is_refused_and_the_writer_goes_on() {
    let settings = WriterSettings { with_place: true, ..WriterSettings::default() };
    let mut writer = SegmentWriter::new(Vec::new(), settings).unwrap();
    let at = |place| SegmentRow { place: Some(place), ..row(b"b", 5) };
    let streamed = |offset| Place::streamed(Generation(0), Offset(offset));
    writer.push(&at(streamed(9))).unwrap();
    writer.push(&at(streamed(9))).unwrap();
    writer.push(&at(Place::loaded(Seq(7)))).unwrap();
    for wrong in [at(streamed(9)), row(b"a", 1), SegmentRow { place: Some(Place::MAX), ..row(b"b", 6) }] {
        assert_eq!(writer.push(&wrong).unwrap_err().code(), "rows-out-of-order");
    }
    assert_eq!(writer.push(&row(b"", 1)).unwrap_err().code(), "key-empty");
    assert_eq!(writer.push(&row(&[b'z'; 2_049], 1)).unwrap_err().code(), "key-too-long");
    let big = vec![0; (1 << 20) + 1];
    let error = writer.push(&SegmentRow { value: Some(&big), ..row(b"z", 1) }).unwrap_err();
    assert_eq!(error.code(), "value-too-long");
    writer.push(&row(b"b", 4)).unwrap();
    writer.push(&row(b"c", 9)).unwrap();
    let (_, summary) = writer.finish().unwrap();
    assert_eq!(summary.rows, 5);
}

#[test]
fn a_refused_row_leaves_no_trace_even_where_a_block_ends() {
    let settings = WriterSettings { rows_per_page: 1, rows_per_group: 1, ..WriterSettings::default() };
    let mut writer = SegmentWriter::new(Vec::new(), settings).unwrap();
    for key in [b"b", b"c"] {
        writer.push(&row(key, 1)).unwrap();
        writer.push(&row(b"a", 1)).unwrap_err();
        writer.push(&row(&[9; 3_000], 1)).unwrap_err();
        writer.push(&row(key, 2)).unwrap_err();
    }
    assert_eq!(writer.finish().unwrap().1.rows, 2);
}

#[test]
fn a_segment_has_at_least_one_row() {
    let writer = SegmentWriter::new(Vec::new(), WriterSettings::default()).unwrap();
    assert_eq!(writer.finish().unwrap_err().code(), "segment-empty");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let default = WriterSettings::default;
    for wrong in [
        WriterSettings { rows_per_page: 0, ..default() },
        WriterSettings { rows_per_page: 1_025, rows_per_group: 1_025, ..default() },
        WriterSettings { rows_per_group: 100, ..default() },
        WriterSettings { rows_per_group: 129, ..default() },
        WriterSettings { group_bytes: 2 << 20, ..default() },
        WriterSettings { compression: Codec::Snappy, ..default() },
    ] {
        assert_eq!(SegmentWriter::new(Vec::new(), wrong).unwrap_err().code(), "segment-settings");
    }
}

#[test]
fn the_summary_says_what_the_rows_were() {
    let mut rows = vec![OwnedRow::new(b"a", 3, Some(b"xyz")), OwnedRow::new(&[0xFF; 2_048], -4, None)];
    rows[0].expires_at = Some(50);
    rows[1].expires_at = Some(40);
    let segment = write(&rows, WriterSettings::default());
    let summary = &segment.summary;
    assert_eq!((summary.rows, summary.tombstones), (2, 1));
    assert_eq!((&summary.min_key[..], &summary.max_key[..]), (&b"a"[..], &[0xFF; 2_048][..]));
    assert_eq!((summary.min_version, summary.max_version), (-4, 3));
    assert_eq!(summary.max_expires_at, Some(50));
    rows[1].expires_at = None;
    assert_eq!(write(&rows, WriterSettings::default()).summary.max_expires_at, None);
}

#[test]
fn large_values_have_blocks_of_their_own_and_small_neighbours() {
    let big = vec![0xAB; 1 << 20];
    let mut noise = vec![0_u8; 1 << 20];
    let mut state = 1_u64;
    for byte in &mut noise {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    let mut rows = Vec::new();
    for i in 0..6_u8 {
        rows.push(OwnedRow::new(&[i, 0], 1, Some(&big)));
        rows.push(OwnedRow::new(&[i, 1], 1, Some(&noise)));
        rows.push(OwnedRow::new(&[i, 2], 1, Some(b"")));
        rows.push(OwnedRow::new(&[i, 3], 1, None));
    }
    let segment = write(&rows, WriterSettings::default());
    assert_eq!(segment.all_rows(), rows);
    for n in 0..segment.index.block_count() {
        let plan = segment.index.fetch_plan(n);
        assert_eq!(plan.len(), 1);
        assert!(plan[0].end - plan[0].start < 2_200_000, "{plan:?}");
        assert!(segment.block(n).size() < 1_400_000);
    }
}

#[test]
fn what_was_fetched_must_be_what_was_planned() {
    let segment = write(&[OwnedRow::new(b"a", 1, Some(b"v"))], WriterSettings::default());
    let fetched = segment.fetch(0);
    assert_eq!(decode_block(&segment.index, 1, &fetched).unwrap_err().code(), "internal");
    assert_eq!(decode_block(&segment.index, 0, &[]).unwrap_err().code(), "internal");
    assert_eq!(decode_block(&segment.index, 0, &[fetched[0].slice(1..)]).unwrap_err().code(), "internal");
}

#[test]
fn a_full_disk_is_an_error_not_a_panic() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0 < bytes.len() {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            self.0 -= bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let settings = || WriterSettings { compression: Codec::None, ..WriterSettings::default() };
    for room in [0, 10, 10_000, 100_000, 300_000, 350_000] {
        let written = SegmentWriter::new(Full(room), settings()).and_then(|mut writer| {
            for i in 0..5_000_u32 {
                writer.push(&SegmentRow { value: Some(&[7; 50]), ..row(&i.to_be_bytes(), 1) })?;
            }
            writer.finish()
        });
        assert_eq!(written.map(drop).unwrap_err().code(), "segment-write");
    }
}
