//! Bytes from outside: an error, never a panic, and no allocation for what is only claimed.

use crate::rows::{OwnedRow, rows, small_settings, sort, write};
use bytes::Bytes;
use nacre_segment::{
    Block, BlockPages, Codec, ColumnLayout, IndexBuilder, Layout, PageSpan, SegmentIndex, WriterSettings,
    decode_block,
};
use nacre_types::ErrorKind;
use proptest::prelude::*;

/// Every way of asking an index and a block.
fn exercise(index: &SegmentIndex, key: &[u8]) {
    let _ = index.may_contain(nacre_segment::key_hash(key));
    let _ = (index.blocks_of(key), index.blocks_from(key), index.rows(), index.heap_bytes());
    for n in 0..index.block_count().min(50) {
        let _ = (index.block_first_key(n), index.fetch_plan(n), index.block_rows(n));
    }
}

/// Changes a body that ends in its CRC-32, and makes the checksum right again.
fn with_checksum(mut bytes: Vec<u8>) -> Bytes {
    if let Some(end) = bytes.len().checked_sub(4) {
        let checksum = crc32fast::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes.into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_changed_index_is_corrupt(rows in rows(40), settings in small_settings(), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let mut rows = rows;
        rows.iter_mut().for_each(|row| row.place = None);
        sort(&mut rows);
        let index = write(&rows, settings).index.encode();
        let mut bytes = index.to_vec();
        bytes[at.index(index.len())] ^= flip;
        prop_assert!(SegmentIndex::decode(bytes.clone().into()).is_err());
        prop_assert!(SegmentIndex::decode(index.slice(..at.index(index.len()))).is_err());
        // With the checksum made right it may pass, and must then do no harm.
        if let Ok(index) = SegmentIndex::decode(with_checksum(bytes)) {
            rows.iter().for_each(|row| exercise(&index, &row.key));
        }
    }

    #[test]
    fn a_changed_file_is_corrupt(rows in rows(40), settings in small_settings(), at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let mut rows = rows;
        rows.iter_mut().for_each(|row| row.place = None);
        sort(&mut rows);
        let segment = write(&rows, settings);
        for n in 0..segment.index.block_count() {
            let plan = segment.index.fetch_plan(n);
            let mut bytes = segment.fetch(n)[0].to_vec();
            let place = at.index(bytes.len());
            bytes[place] ^= flip;
            match decode_block(&segment.index, n, &[bytes.into()]) {
                Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Corrupt),
                // The range of a block spans bytes of its neighbours.
                Ok(block) => {
                    let whole = segment.block(n);
                    prop_assert_eq!(block.as_bytes(), whole.as_bytes(), "{:?} {}", plan, place);
                }
            }
        }
    }

    /// Pages without a block checksum and without their own: whatever they hold must be judged by the decoder alone.
    #[test]
    fn pages_without_checksums_never_panic(
        pages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 4),
        header in any::<bool>(),
        codec in 0..5_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        rows in 1..60_u32,
    ) {
        let codec = [Codec::None, Codec::Snappy, Codec::Gzip, Codec::Zstd, Codec::Lz4Raw][codec];
        let pages: Vec<Vec<u8>> = if header {
            // Half the cases start from whole pages, so that the decoders behind the headers are reached too.
            let rows: Vec<_> = (0..rows).map(|i| OwnedRow::new(&i.to_be_bytes(), 1, (i % 7 > 0).then_some(b"value"))).collect();
            let segment = write(&rows, WriterSettings { compression: if matches!(codec, Codec::Snappy | Codec::Gzip) { Codec::None } else { codec }, ..WriterSettings::default() });
            let mut bytes = segment.fetch(0)[0].to_vec();
            for (at, value) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            // Cut where the pages of the whole segment end.
            let ends: Vec<_> = page_ends(&segment.file);
            let mut start = 0;
            ends.iter().map(|end| { let page = bytes[start..*end].to_vec(); start = *end; page }).collect()
        } else {
            pages
        };
        let column = |optional| Some(ColumnLayout { optional, codec, fixed_length: 0 });
        let layout = Layout { columns: [column(false), column(false), column(true), column(true), None], default_version: 0 };
        let mut builder = IndexBuilder::new(layout).unwrap();
        for i in 0..rows {
            builder.push_key(&i.to_be_bytes()).unwrap();
        }
        let mut block = BlockPages { largest_page: 1 << 20, ..BlockPages::default() };
        let mut offset = 0;
        for (i, page) in pages.iter().enumerate() {
            block.pages[i] = Some(PageSpan { offset, length: page.len() as u32 });
            offset += page.len() as u64;
        }
        builder.end_block(&block).unwrap();
        let index = builder.finish().unwrap();
        let fetched = Bytes::from(pages.concat());
        if let Err(error) = decode_block(&index, 0, &[fetched]) {
            prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_index_and_no_block(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(SegmentIndex::decode(bytes.clone().into()).is_err());
        let mut index = b"NCIX\x01\x00\0\0".to_vec();
        index.extend_from_slice(&bytes);
        if let Ok(index) = SegmentIndex::decode(with_checksum(index)) {
            exercise(&index, b"key");
        }
        let _ = Block::from_bytes(bytes.into());
    }

    #[test]
    fn a_changed_block_image_never_panics(rows in rows(40), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let mut rows = rows;
        rows.iter_mut().for_each(|row| row.place = None);
        sort(&mut rows);
        let segment = write(&rows, WriterSettings::default());
        let mut image = segment.block(0).as_bytes().to_vec();
        for (at, value) in changes {
            let at = at.index(image.len());
            image[at] = value;
        }
        if let Ok(block) = Block::from_bytes(image.into()) {
            for i in 0..block.len() {
                let _ = (block.row(i), block.value_bytes(i), block.key_bytes(i));
            }
            for row in &rows {
                let _ = block.find(&row.key);
            }
        }
    }
}

/// Where the four pages of a segment of one block end, in its first four columns, from the file's fifth byte.
fn page_ends(file: &Bytes) -> Vec<usize> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let reader = SerializedFileReader::new(file.clone()).unwrap();
    let group = reader.metadata().row_group(0);
    (0..4).map(|c| (group.column(c).byte_range().0 + group.column(c).byte_range().1) as usize - 4).collect()
}

#[test]
fn a_page_that_claims_gigabytes_is_corrupt_before_it_is_allocated() {
    let segment = write(&[OwnedRow::new(b"k", 1, Some(b"v"))], WriterSettings::default());
    for codec in [Codec::None, Codec::Snappy, Codec::Gzip, Codec::Zstd, Codec::Lz4Raw] {
        // A data page header: uncompressed size i32::MAX, compressed 4, one value, PLAIN.
        let header = [
            0x15, 0, 0x15, 0xFE, 0xFF, 0xFF, 0xFF, 0x0F, 0x15, 8, 0x2C, 0x15, 2, 0x15, 0, 0x15, 6, 0x15, 6,
            0, 0,
        ];
        let page = [&header[..], &[1, 2, 3, 4]].concat();
        let column = Some(ColumnLayout { optional: false, codec, fixed_length: 0 });
        let layout = Layout { columns: [column, None, None, column, None], default_version: 7 };
        let mut builder = IndexBuilder::new(layout).unwrap();
        builder.push_key(b"k").unwrap();
        let span = |n: u64| Some(PageSpan { offset: n * page.len() as u64, length: page.len() as u32 });
        builder
            .end_block(&BlockPages {
                pages: [span(0), None, None, span(1), None],
                largest_page: 64 << 20,
                ..BlockPages::default()
            })
            .unwrap();
        let index = builder.finish().unwrap();
        let error = decode_block(&index, 0, &[[&page[..], &page].concat().into()]).unwrap_err();
        assert_eq!(error.code(), "page-corrupt", "{codec:?}");
        assert!(
            error.detail().contains("block 0, column key") && error.detail().contains("2147483647"),
            "{error}"
        );
    }
    // Nor is an index believed that admits pages beyond the bound.
    let mut builder = IndexBuilder::new(segment.index.layout().clone()).unwrap();
    builder.push_key(b"k").unwrap();
    let span = Some(PageSpan { offset: 4, length: 10 });
    builder
        .end_block(&BlockPages {
            pages: [span, span, span, span, None],
            largest_page: (64 << 20) + 1,
            checksum: Some(1),
            ..BlockPages::default()
        })
        .unwrap();
    assert_eq!(builder.finish().unwrap_err().code(), "index-layout");
}

#[test]
fn whole_pages_of_another_block_are_corrupt() {
    let rows: Vec<_> = (0..256_u32).map(|i| OwnedRow::new(&i.to_be_bytes(), 1, Some(b"value"))).collect();
    let settings =
        WriterSettings { rows_per_group: 128, compression: Codec::None, ..WriterSettings::default() };
    let segment = write(&rows, settings);
    let (first, second) = (segment.fetch(0), segment.fetch(1));
    assert_eq!(first[0].len(), second[0].len());
    let error = decode_block(&segment.index, 0, &second).unwrap_err();
    assert_eq!(error.code(), "block-corrupt");
}
