//! The cache as the engine uses it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use nacre_cache::{BlockCache, CacheConfig, CachedRows, DiskConfig, Source};
use nacre_runtime::Context;
use nacre_segment::{Block, SegmentIndex, SegmentRow, SegmentWriter, WriterSettings, decode_block, key_hash};
use nacre_types::SegmentId;

fn config(disk: Option<DiskConfig>) -> CacheConfig {
    CacheConfig { memory_bytes: 8 << 20, row_bytes: 1 << 20, index_bytes: 1 << 20, disk }
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

fn decode(file: &bytes::Bytes, index: &SegmentIndex, number: u32) -> Block {
    let plan = index.fetch_plan(number);
    let fetched: Vec<_> = plan.iter().map(|at| file.slice(at.start as usize..at.end as usize)).collect();
    decode_block(index, number, &fetched).unwrap()
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
        let fetch = || async { Ok(decode(&file, &index, n)) };
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

/// A cache without blocks worth the name, so that what is held are rows.
async fn of_rows(row_bytes: usize) -> BlockCache {
    let config = CacheConfig { memory_bytes: 0, row_bytes, index_bytes: 0, disk: None };
    BlockCache::open(config, &Context::for_tests(1)).await.unwrap()
}

#[tokio::test]
async fn what_was_asked_for_is_held_without_its_block() {
    let cache = of_rows(1 << 20).await;
    let (id, (file, index)) = (SegmentId(7), segment());
    let block = decode(&file, &index, 2);
    let key = block.key_bytes(5);
    assert!(cache.rows_cached(id, 2, &key, key_hash(&key)).is_none());
    cache.keep_rows(id, 2, &block, &key, key_hash(&key));
    let held = cache.rows_cached(id, 2, &key, key_hash(&key)).unwrap();
    assert!(matches!(held, CachedRows::OfKey(_)));
    assert_eq!((held.len(), held.row(0)), (1, block.row(5)));
    // Of another block, another segment, or another key with the same hash nothing is known.
    assert!(cache.rows_cached(id, 3, &key, key_hash(&key)).is_none());
    assert!(cache.rows_cached(SegmentId(8), 2, &key, key_hash(&key)).is_none());
    assert!(cache.rows_cached(id, 2, b"another", key_hash(&key)).is_none());
    // A key that the block does not have leaves nothing behind.
    cache.keep_rows(id, 2, &block, b"another", key_hash(b"another"));
    let stats = cache.stats().rows;
    assert_eq!((stats.entries, stats.memory_hits), (1, 1));
    assert!(stats.memory_bytes > 0 && stats.memory_bytes <= stats.memory_capacity);
    assert_eq!(cache.keys_of_rows(10).collect::<Vec<_>>(), [(id, key)]);
}

#[tokio::test]
async fn rows_that_are_asked_for_again_outlive_those_that_are_not() {
    let cache = of_rows(32 << 10).await;
    let (id, (file, index)) = (SegmentId(7), segment());
    let blocks: Vec<Block> = (0..index.block_count()).map(|number| decode(&file, &index, number)).collect();
    let keys: Vec<(u32, bytes::Bytes)> = (0..)
        .zip(&blocks)
        .flat_map(|(number, block)| (0..block.len()).map(move |at| (number, block.key_bytes(at))))
        .collect();
    let ask = |number: u32, key: &bytes::Bytes| {
        let hash = key_hash(key);
        let found = cache.rows_cached(id, number, key, hash).is_some();
        if !found {
            cache.keep_rows(id, number, &blocks[number as usize], key, hash);
        }
        found
    };
    let (hot, cold) = keys.split_at(100);
    let mut hits = 0;
    for (turn, (number, key)) in cold.iter().enumerate() {
        ask(*number, key);
        let (number, key) = &hot[turn % hot.len()];
        hits += usize::from(ask(*number, key));
    }
    assert!(hits > cold.len() - 3 * hot.len(), "{hits} of {}", cold.len());
    let stats = cache.stats().rows;
    assert!(stats.entries < 600 && stats.memory_bytes <= stats.memory_capacity, "{stats:?}");
    assert!(cache.keys_of_rows(50).count() <= 50);
}

#[tokio::test]
async fn without_memory_for_rows_none_are_held() {
    let cache = of_rows(0).await;
    let (file, index) = segment();
    let block = decode(&file, &index, 0);
    let key = block.key_bytes(0);
    cache.keep_rows(SegmentId(1), 0, &block, &key, key_hash(&key));
    assert!(cache.rows_cached(SegmentId(1), 0, &key, key_hash(&key)).is_none());
    assert_eq!(cache.keys_of_rows(10).count(), 0);
}

#[tokio::test]
async fn rows_of_segments_that_are_gone_go_at_once() {
    let cache = of_rows(1 << 20).await;
    let (file, index) = segment();
    let block = decode(&file, &index, 0);
    let key = block.key_bytes(0);
    for number in 1..=3 {
        cache.keep_rows(SegmentId(number), 0, &block, &key, key_hash(&key));
    }
    cache.forget_rows(|segment| segment == SegmentId(2));
    let held = [1, 2, 3].map(|n| cache.rows_cached(SegmentId(n), 0, &key, key_hash(&key)).is_some());
    assert_eq!(held, [true, false, true]);
}

#[tokio::test]
async fn rows_have_what_indexes_do_not_take() {
    let config = CacheConfig { memory_bytes: 0, row_bytes: 64 << 10, index_bytes: 1 << 20, disk: None };
    let cache = BlockCache::open(config, &Context::for_tests(1)).await.unwrap();
    let most = cache.stats().rows.memory_capacity;
    assert_eq!(most, (64 << 10) + (1 << 20));
    for number in 0..200 {
        cache.insert_index(SegmentId(number), segment().1);
    }
    let stats = cache.stats();
    let left = stats.indexes.memory_capacity - stats.indexes.memory_bytes;
    let lent = stats.rows.memory_capacity - (64 << 10);
    assert!(stats.rows.memory_capacity < most && lent.abs_diff(left) < most / 32, "{stats:?}");
}
