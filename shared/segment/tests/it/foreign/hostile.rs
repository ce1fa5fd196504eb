//! Broken and hostile files: errors, never a panic, an endless loop or an allocation by a claimed length.

use super::columns::{Column, file, names};
use super::formula::{sample, samples};
use bytes::Bytes;
use nacre_segment::decode_block;
use nacre_segment::foreign::{Caps, ForeignReader, LoadColumns, Verdict, inspect, prove};
use nacre_types::KeySchema;
use proptest::prelude::*;
use std::sync::{Arc, OnceLock};

fn tight() -> Caps {
    Caps {
        page_bytes: 4 << 20,
        page_values: 1 << 16,
        row_values: 1 << 14,
        footer_structs: 100_000,
        ..Caps::default()
    }
}

/// Does everything that can be done with a file.
fn exercise(bytes: &Bytes) {
    let caps = tight();
    let _ = inspect(bytes);
    if let Ok(Verdict::Adopt(adopted)) = prove(bytes, &LoadColumns::default(), &caps) {
        for block in 0..adopted.index.block_count() {
            let fetched: Option<Vec<Bytes>> = adopted
                .index
                .fetch_plan(block)
                .iter()
                .map(|range| bytes.get(range.start as usize..range.end as usize).map(Bytes::copy_from_slice))
                .collect();
            if let Some(fetched) = fetched {
                let _ = decode_block(&adopted.index, block, &fetched);
            }
        }
    }
    let packed = LoadColumns { pack: Some(names(&["value", "version"])), ..LoadColumns::default() };
    for columns in [LoadColumns::default(), packed] {
        let Ok(mut reader) = ForeignReader::open(Arc::new(bytes.clone()), &columns, &KeySchema::Bytes, &caps)
        else {
            continue;
        };
        let mut rows = 0;
        while let Ok(Some(batch)) = reader.next_batch() {
            rows += batch.rows().map(|row| row.key.len() as u64 + 1).sum::<u64>();
            // A file may claim any number of rows of nulls; the reader gives them one batch at a time.
            if rows > 10_000_000 {
                break;
            }
        }
    }
}

fn all() -> &'static [Bytes] {
    static ALL: OnceLock<Vec<Bytes>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all: Vec<Bytes> = samples().into_iter().map(|sample| sample.bytes).collect();
        let words: Vec<Vec<u8>> = (0..200u32).map(|i| format!("word {}", i % 17).into_bytes()).collect();
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let repetitions: Vec<i16> = (0..200).map(|i| i16::from(i % 4 != 0)).collect();
        let definitions = vec![1; 200];
        all.push(file(
            "message m { required binary key; repeated binary value (UTF8); required int64 version; }",
            &[
                Column::Bytes(&words[..50], (None, None)),
                Column::Bytes(&words, (Some(&definitions), Some(&repetitions))),
                Column::I64(&[5; 50], (None, None)),
            ],
        ));
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_files_are_errors_at_worst(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let original = which.get(all());
        let mut bytes = original.to_vec();
        let footer = u32::from_le_bytes(bytes[bytes.len() - 8..bytes.len() - 4].try_into().unwrap()) as usize;
        for (at, byte, in_footer) in changes {
            // Half of the changes hit the footer, where the claims are.
            let at = if in_footer { bytes.len() - 8 - footer + at.index(footer + 4) } else { at.index(bytes.len()) };
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        exercise(&bytes.into());
    }

    #[test]
    fn any_bytes_are_no_parquet_file(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut framed = b"PAR1".to_vec();
        framed.extend_from_slice(&bytes);
        framed.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        framed.extend_from_slice(b"PAR1");
        exercise(&bytes.into());
        exercise(&framed.into());
    }
}

/// Page headers are where pages claim sizes: every byte of the first ones, changed in several ways.
#[test]
fn every_change_of_a_first_page_header_is_survived() {
    for name in [
        "duckdb-default-sorted-tombstones.parquet",
        "duckdb-rg2048-lz4raw-v2-sorted-tombstones.parquet",
        "polars-default-sorted-tombstones.parquet",
        "pyarrow-default-sorted-tombstones.parquet",
    ] {
        let original = sample(name).bytes;
        for at in 4..64 {
            for change in [0x00, 0x7F, 0xFF, original[at] ^ 0x01, original[at] ^ 0x80] {
                let mut bytes = original.to_vec();
                bytes[at] = change;
                exercise(&bytes.into());
            }
        }
    }
}

#[test]
fn what_is_beyond_the_caps_is_refused_by_name() {
    let sample = sample("pyarrow-default-sorted-tombstones.parquet");
    let open = |caps: Caps| {
        let mut reader =
            ForeignReader::open(sample.file(), &LoadColumns::default(), &KeySchema::Bytes, &caps)?;
        while reader.next_batch()?.is_some() {}
        Ok::<(), nacre_types::Error>(())
    };
    for (caps, limit) in [
        (Caps { footer_bytes: 10, ..Caps::default() }, "footer_bytes"),
        (Caps { footer_structs: 5, ..Caps::default() }, "footer_structs"),
        (Caps { page_bytes: 1_000, ..Caps::default() }, "page_bytes"),
        (Caps { page_values: 100, ..Caps::default() }, "page_values"),
        (Caps { page_ratio: 1, ratio_free_bytes: 0, ..Caps::default() }, "page_ratio"),
    ] {
        let error = open(caps).unwrap_err();
        assert_eq!(error.code(), "parquet-too-large", "{error}");
        assert!(error.detail().contains(limit), "{limit}: {error}");
    }
    assert!(open(Caps::default()).is_ok());
}

#[test]
fn a_changed_page_is_found_by_its_checksum() {
    let sample = sample("pyarrow-aligned128-sorted-tombstones.parquet");
    let mut bytes = sample.bytes.to_vec();
    bytes[200] ^= 0x10;
    let error = prove(&Bytes::from(bytes), &LoadColumns::default(), &Caps::default()).unwrap_err();
    assert_eq!(error.kind(), nacre_types::ErrorKind::Corrupt, "{error}");
    assert!(error.detail().contains("column \"key\""), "{error}");
}

#[test]
fn other_files_are_told_apart() {
    for (bytes, code) in [
        (&b"hello, this is a text file"[..], "not-parquet"),
        (b"", "not-parquet"),
        (b"PAR1\x00\x00\x00\x00\x00\x00\x00\x00PARE", "parquet-encrypted"),
        (b"PAR1\xFF\x00\x00\x00PAR1", "parquet-corrupt"),
    ] {
        assert_eq!(inspect(&Bytes::from_static(bytes)).unwrap_err().code(), code);
    }
}
