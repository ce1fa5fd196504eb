//! Which sample files serve as they lie, and that every row is found in those.

use super::formula::{ROWS, Sample, check, sample, samples};
use bytes::Bytes;
use nacre_segment::foreign::{Adopted, Caps, LoadColumns, ProveOptions, ReadAt, Verdict, prove, prove_with};
use nacre_segment::{SegmentIndex, decode_block, key_hash};
use nacre_types::Result;
use std::collections::BTreeSet;
use std::ops::Range;

fn adopted(verdict: Verdict, name: &str) -> Adopted {
    match verdict {
        Verdict::Adopt(adopted) => *adopted,
        Verdict::Rewrite { reason, hint } => panic!("{name} is rewritten: {reason} ({hint})"),
    }
}

fn fetch(sample: &Sample, index: &SegmentIndex, block: u32) -> Vec<Bytes> {
    index
        .fetch_plan(block)
        .iter()
        .map(|range| sample.bytes.slice(range.start as usize..range.end as usize))
        .collect()
}

/// Every row through the index, by its key, and by a scan over all blocks.
fn every_row_is_found(sample: &Sample, adopted: &Adopted) {
    let index = SegmentIndex::decode(adopted.index.encode()).unwrap();
    assert_eq!(index.rows(), ROWS);
    let mut seen = BTreeSet::new();
    for number in 0..index.block_count() {
        let block = decode_block(&index, number, &fetch(sample, &index, number))
            .unwrap_or_else(|error| panic!("{}: block {number}: {error}", sample.name));
        for at in 0..block.len() {
            let row = block.row(at);
            seen.insert(check(row.key, row.version, row.expires_at, row.value, sample.has_tombstones()));
            assert!(index.may_contain(key_hash(row.key)));
            assert!(index.blocks_of(row.key).contains(&number));
            assert_eq!(block.find(row.key), at..at + 1);
        }
    }
    assert_eq!(seen.len() as u64, ROWS);
    let summary = &adopted.summary;
    assert_eq!((summary.rows, summary.bytes), (ROWS, sample.bytes.len() as u64));
    assert_eq!((summary.min_version, summary.max_version), (1_700_000_000_000_000, 1_700_000_000_004_999));
    assert_eq!(summary.max_expires_at, None);
    assert_eq!(summary.tombstones, if sample.has_tombstones() { ROWS.div_ceil(97) } else { 0 });
    assert_eq!(index.block_first_key(0).as_ref(), Some(&summary.min_key));
}

#[test]
fn sorted_files_of_aligned_small_pages_are_adopted_and_all_others_say_why_not() {
    let mut counts = (0, 0);
    for sample in samples() {
        let verdict = prove(&sample.bytes, &LoadColumns::default(), &Caps::default())
            .unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        let aligned = ["aligned128", "rowlimit128", "rg128", "rg1280-lz4-page1k", "page1"]
            .iter()
            .any(|layout| sample.name.contains(layout));
        match verdict {
            Verdict::Adopt(adopted) => {
                counts.0 += 1;
                assert!(sample.is_sorted(), "{}", sample.name);
                every_row_is_found(&sample, &adopted);
                let streamed = prove_with(
                    &sample.file(),
                    &LoadColumns::default(),
                    &Caps::default(),
                    &ProveOptions::default(),
                )
                .unwrap();
                let Verdict::Adopt(streamed) = streamed else { panic!("{} is not adopted", sample.name) };
                assert_eq!(streamed.index.encode(), adopted.index.encode());
                assert_eq!(streamed.summary, adopted.summary);
            }
            Verdict::Rewrite { reason, hint } => {
                counts.1 += 1;
                assert!(!reason.is_empty() && !hint.is_empty());
                if !sample.is_sorted() && aligned {
                    assert!(reason.contains("not sorted"), "{}: {reason}", sample.name);
                }
                for layout in ["aligned128", "rowlimit128"] {
                    assert!(
                        !sample.name.contains(layout) || !sample.is_sorted(),
                        "{}: {reason}",
                        sample.name
                    );
                }
            }
        }
    }
    assert!(counts.0 >= 15 && counts.1 >= 10, "{counts:?}");
}

#[test]
fn the_hint_speaks_of_the_writer() {
    for (name, word) in [
        ("spark35-default-sorted-tombstones.parquet", "parquet.page.row.count.limit"),
        ("spark4-default-sorted-tombstones.parquet", "parquet.page.row.count.limit"),
        ("pyarrow-default-sorted-tombstones.parquet", "max_rows_per_page"),
        ("duckdb-default-sorted-tombstones.parquet", "DuckDB"),
        ("polars-default-sorted-tombstones.parquet", "use_pyarrow"),
    ] {
        let verdict = prove(&sample(name).bytes, &LoadColumns::default(), &Caps::default()).unwrap();
        let Verdict::Rewrite { hint, .. } = verdict else { panic!("{name} is adopted") };
        assert!(hint.contains(word), "{name}: {hint}");
    }
}

/// Like an object store: small reads are dear, and value pages must not be read.
struct Remote {
    bytes: Bytes,
    reads: std::sync::Mutex<Vec<Range<u64>>>,
}

impl ReadAt for Remote {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, range: Range<u64>) -> Result<Bytes> {
        self.reads.lock().unwrap().push(range.clone());
        self.bytes.read_at(range)
    }

    fn small_reads_are_cheap(&self) -> bool {
        false
    }
}

#[test]
fn the_proof_reads_no_value_page() {
    for name in
        ["spark4-aligned128-sorted-tombstones.parquet", "pyarrow-aligned128-sorted-tombstones.parquet"]
    {
        let sample = sample(name);
        let remote = Remote { bytes: sample.bytes.clone(), reads: std::sync::Mutex::default() };
        let adopted = adopted(prove(&remote, &LoadColumns::default(), &Caps::default()).unwrap(), name);
        every_row_is_found(&sample, &adopted);
        let reads = remote.reads.into_inner().unwrap();
        assert!(reads.len() < 60, "{} reads", reads.len());
        let read: u64 = reads.iter().map(|range| range.end - range.start).sum();
        assert!(read < sample.bytes.len() as u64, "{read} of {}", sample.bytes.len());
        // With an offset index, what was read of a value is at most its dictionary's header.
        let value = value_range(&sample.bytes);
        let of_values: u64 = reads
            .iter()
            .map(|range| range.end.min(value.end).saturating_sub(range.start.max(value.start)))
            .sum();
        assert!(of_values <= 1_024, "{of_values} bytes of values read");
    }
}

/// The bytes of the value column of the only row group.
fn value_range(bytes: &Bytes) -> Range<u64> {
    use parquet::file::metadata::ParquetMetaDataReader;
    let meta = ParquetMetaDataReader::new().parse_and_finish(bytes).unwrap();
    let group = meta.row_group(0);
    let chunk = group.columns().iter().find(|chunk| chunk.column_path().string() == "value").unwrap();
    let (start, length) = chunk.byte_range();
    start..start + length
}

#[test]
fn a_missing_version_is_the_loads() {
    // Named for another column, the file's own version column plays no part.
    let name = "spark4-aligned128-rg1280-zstd-sorted.parquet";
    let sample = sample(name);
    let columns = LoadColumns { expires_at: Some("version".into()), ..LoadColumns::default() };
    let options = ProveOptions { version: Some(77), ..ProveOptions::default() };
    let adopted = adopted(prove_with(&sample.file(), &columns, &Caps::default(), &options).unwrap(), name);
    assert_eq!((adopted.summary.min_version, adopted.summary.max_version), (77, 77));
    assert_eq!(adopted.summary.max_expires_at, Some(1_700_000_000_004_999));
    let block = decode_block(&adopted.index, 0, &fetch(&sample, &adopted.index, 0)).unwrap();
    assert_eq!(block.row(0).version, 77);
    let Verdict::Rewrite { reason, .. } = prove(&sample.bytes, &columns, &Caps::default()).unwrap() else {
        panic!("adopted without a version");
    };
    assert!(reason.contains("no version"), "{reason}");
}
