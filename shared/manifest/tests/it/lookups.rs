use crate::support::*;
use nacre_manifest::*;
use nacre_types::*;

#[test]
fn lookups_give_what_holds_the_key_in_key_order() {
    let mut table = Table::new();
    table.apply(flush(0, 10, vec![flushed(1, "a", "f", span(0, 10)), flushed(2, "g", "z", span(0, 10))]));
    table.apply(flush(10, 20, vec![flushed(3, "c", "p", span(10, 20))]));
    let ids = |key: &str| {
        let key = key.as_bytes();
        let found = table.manifest.segments_for_key(key);
        found.map(|segment| segment.id().0).collect::<Vec<_>>()
    };
    assert_eq!(ids("a"), [1]);
    assert_eq!(ids("c"), [1, 3]);
    assert_eq!(ids("f"), [1, 3]);
    assert_eq!(ids("fa"), [3]);
    assert_eq!(ids("z"), [2]);
    assert_eq!(ids("zz"), []);
    assert_eq!(ids(""), []);
    let range = KeyRange { start: bytes("fa"), end: Some(bytes("g")) };
    assert_eq!(table.manifest.segments_overlapping(&range).map(|s| s.id().0).collect::<Vec<_>>(), [3]);
    assert_eq!(table.manifest.segments().count(), 3);
    assert_eq!(table.manifest.segments_overlapping(&KeyRange::all()).count(), 3);
    assert_eq!(table.manifest.segment(SegmentId(4)), None);
}

#[test]
fn a_segment_ref_tells_all_without_unpacking() {
    let mut table = Table::new();
    let mut segment = flushed(1, "ab", "abc", span(3, 10));
    table.apply(flush(0, 3, vec![]));
    segment.max_expires_at = Some(-5);
    (segment.tombstones, segment.with_place, segment.exact_places) = (4, true, true);
    table.apply(flush(3, 10, vec![segment.clone()]));
    let found = table.manifest.segment_ref(SegmentId(1)).unwrap();
    assert_eq!(found.to_segment(), segment);
    assert_eq!((found.rows(), found.tombstones(), found.bytes()), (10, 4, 4200));
    assert_eq!((found.min_version(), found.max_version(), found.max_expires_at()), (100, 200, Some(-5)));
    assert_eq!(found.index(), IndexSpan { offset: 4000, length: 96 });
    assert_eq!(found.streamed(), Some(span(3, 10)));
    assert!(found.with_place() && found.exact_places());
    assert!(found.overlaps(b"abc", b"b") && !found.overlaps(b"abcd", b"b") && !found.overlaps(b"a", b"aa"));
    let place = table.manifest.current().base_place(&found).unwrap();
    assert_eq!(place, Place::streamed(Generation(0), Offset(3)));
}
