//! Writing, decoding, looking up and scanning: `cargo bench -p nacre-segment`, on an idle machine.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nacre_segment::{
    Block, Codec, SegmentIndex, SegmentRow, SegmentWriter, WriterSettings, decode_block, key_hash,
};
use std::hint::black_box;

const ROWS: usize = 200_000;

/// Sorted 16-byte keys and values of 200 bytes of which half compress, as in the measurements that set the defaults.
fn rows() -> Vec<([u8; 16], [u8; 200])> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut rows: Vec<_> = (0..ROWS)
        .map(|_| {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&next().to_be_bytes());
            key[8..].copy_from_slice(&next().to_be_bytes());
            let mut value = [b'a'; 200];
            for eight in value[..100].chunks_mut(8) {
                eight.copy_from_slice(&next().to_be_bytes()[..eight.len()]);
            }
            (key, value)
        })
        .collect();
    rows.sort_unstable_by_key(|row| row.0);
    rows
}

fn write(rows: &[([u8; 16], [u8; 200])], compression: Codec) -> (Bytes, SegmentIndex) {
    let settings = WriterSettings { compression, ..WriterSettings::default() };
    let mut writer = SegmentWriter::new(Vec::with_capacity(rows.len() * 200), settings).unwrap();
    for (key, value) in rows {
        let row = SegmentRow { key, version: 1, place: None, expires_at: None, value: Some(value) };
        writer.push(&row).unwrap();
    }
    let (file, summary) = writer.finish().unwrap();
    let file = Bytes::from(file);
    let span = summary.index.range();
    let index = SegmentIndex::decode(file.slice(span.start as usize..span.end as usize)).unwrap();
    (file, index)
}

fn fetch(file: &Bytes, index: &SegmentIndex, block: u32) -> Vec<Bytes> {
    index.fetch_plan(block).iter().map(|r| file.slice(r.start as usize..r.end as usize)).collect()
}

fn writing(c: &mut Criterion) {
    let rows = rows();
    let mut group = c.benchmark_group("write");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(10);
    for codec in [Codec::Lz4Raw, Codec::Zstd, Codec::None] {
        group.bench_function(format!("{codec:?}"), |b| b.iter(|| black_box(write(&rows, codec))));
    }
}

fn reading(c: &mut Criterion) {
    let rows = rows();
    let mut group = c.benchmark_group("block");
    group.throughput(Throughput::Elements(1));
    for codec in [Codec::Lz4Raw, Codec::Zstd, Codec::None] {
        let (file, index) = write(&rows, codec);
        let fetched: Vec<_> = (0..index.block_count()).map(|n| fetch(&file, &index, n)).collect();
        let mut n = 0;
        group.bench_function(format!("decode {codec:?}"), |b| {
            b.iter(|| {
                n = (n + 1) % index.block_count();
                black_box(decode_block(&index, n, &fetched[n as usize]).unwrap())
            })
        });
    }
    group.finish();

    let (file, index) = write(&rows, Codec::Lz4Raw);
    let blocks: Vec<Block> = (0..index.block_count())
        .map(|n| decode_block(&index, n, &fetch(&file, &index, n)).unwrap())
        .collect();
    let mut group = c.benchmark_group("lookup");
    group.throughput(Throughput::Elements(1));
    let mut i = 0;
    group.bench_function("present, block decoded", |b| {
        b.iter(|| {
            i = (i + 7_919) % ROWS;
            let key = &rows[i].0;
            assert!(index.may_contain(key_hash(key)));
            let block = &blocks[index.blocks_of(key).start as usize];
            black_box(block.value_bytes(block.find(key).start))
        })
    });
    group.bench_function("find in a block", |b| {
        b.iter(|| {
            i = (i + 1) % 128;
            black_box(blocks[0].find(&rows[i].0))
        })
    });
    group.bench_function("absent", |b| {
        b.iter(|| {
            i += 1;
            black_box(index.may_contain(key_hash(&i.to_be_bytes())))
        })
    });
    group.finish();

    let mut group = c.benchmark_group("scan");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(10);
    group.bench_function("from the file", |b| {
        b.iter(|| {
            let mut bytes = 0;
            for n in 0..index.block_count() {
                let block = decode_block(&index, n, &fetch(&file, &index, n)).unwrap();
                bytes += (0..block.len())
                    .map(|i| block.key(i).len() + block.value(i).map_or(0, <[u8]>::len))
                    .sum::<usize>();
            }
            black_box(bytes)
        })
    });
    group.finish();
}

criterion_group!(benches, writing, reading);
criterion_main!(benches);
