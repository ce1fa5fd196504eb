//! The cache as the engine uses it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nacre_cache::{BlockCache, CacheConfig, DiskConfig, Source};
use nacre_runtime::Context;
use nacre_segment::{SegmentIndex, SegmentRow, SegmentWriter, WriterSettings};
use nacre_types::SegmentId;

fn config(disk: Option<DiskConfig>) -> CacheConfig {
    CacheConfig { memory_bytes: 8 << 20, index_bytes: 1 << 20, disk }
}

#[tokio::test]
async fn a_disk_that_is_too_small_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let disk = DiskConfig { dir: dir.path().to_owned(), bytes: 1 << 20 };
    let error = BlockCache::open(config(Some(disk)), &Context::for_tests(1)).await.unwrap_err();
    assert_eq!(error.code(), "cache-disk-small");
}

#[tokio::test]
async fn a_directory_that_is_a_file_is_unavailable() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let disk = DiskConfig { dir: file.path().to_owned(), bytes: 64 << 20 };
    let error = BlockCache::open(config(Some(disk)), &Context::for_tests(1)).await.unwrap_err();
    assert_eq!(error.code(), "cache-disk");
}

#[tokio::test]
async fn an_empty_cache_has_empty_stats_and_closes() {
    let cache = BlockCache::open(config(None), &Context::for_tests(1)).await.unwrap();
    let stats = cache.stats();
    assert_eq!((stats.blocks.entries, stats.blocks.memory_capacity), (0, 8 << 20));
    assert_eq!(stats.indexes.memory_capacity, 1 << 20);
    cache.close().await.unwrap();
}

fn segment() -> (bytes::Bytes, SegmentIndex) {
    let mut writer = SegmentWriter::new(Vec::new(), WriterSettings::default()).unwrap();
    for n in 0..1_000u32 {
        let (key, value) = (format!("key{n:05}"), format!("value {n}"));
        let (key, value) = (key.as_bytes(), Some(value.as_bytes()));
        writer.push(&SegmentRow { key, version: 7, place: None, expires_at: None, value }).unwrap();
    }
    let (file, summary) = writer.finish().unwrap();
    let file = bytes::Bytes::from(file);
    let span = summary.index;
    let at = span.offset as usize..(span.offset + span.length) as usize;
    let index = SegmentIndex::decode(file.slice(at)).unwrap();
    (file, index)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_and_indexes_survive_a_restart_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let disk = || Some(DiskConfig { dir: dir.path().to_owned(), bytes: 64 << 20 });
    let ctx = Context::for_tests(1);
    let id = SegmentId(77);
    let (file, index) = segment();
    let count = index.block_count();
    assert!(count > 1);

    let cache = BlockCache::open(config(disk()), &ctx).await.unwrap();
    cache.insert_index(id, index);
    for n in 0..count {
        let index = cache.index_cached(id).unwrap();
        let file = &file;
        let fetch = || async move {
            let fetched: Vec<_> =
                index.fetch_plan(n).iter().map(|at| file.slice(at.start as usize..at.end as usize)).collect();
            nacre_segment::decode_block(&index, n, &fetched)
        };
        assert_eq!(cache.get_or_fetch(id, n, fetch).await.unwrap().1, Source::Store);
    }
    cache.close().await.unwrap();
    drop(cache);

    let cache = BlockCache::open(config(disk()), &ctx).await.unwrap();
    let (index, source) = cache.index_or_fetch(id, || async { panic!("the disk has it") }).await.unwrap();
    assert_eq!((source, index.block_count()), (Source::Disk, count));
    let mut rows = 0;
    for n in 0..count {
        let never = || async { panic!("the disk has it") };
        let (block, source) = cache.get_or_fetch(id, n, never).await.unwrap();
        assert_eq!(source, Source::Disk);
        for i in 0..block.len() {
            assert_eq!(block.row(i).key, format!("key{rows:05}").as_bytes());
            assert_eq!(block.value_bytes(i).unwrap(), format!("value {rows}").as_bytes());
            rows += 1;
        }
    }
    assert_eq!(rows, 1_000);
    cache.close().await.unwrap();
}
