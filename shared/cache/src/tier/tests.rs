use super::*;
use nacre_types::SegmentId;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use tokio::sync::Barrier;

/// Stands for a block: what its bytes are does not matter to the tier.
#[derive(Debug, Clone, PartialEq)]
struct Text(Bytes);

impl Value for Text {
    const SHARD_BYTES: usize = 8 << 20;
    const LARGEST_SHARE: usize = 4;

    fn weight(&self) -> usize {
        self.0.len()
    }
    fn to_disk(&self) -> Bytes {
        self.0.clone()
    }
    fn from_disk(bytes: Bytes) -> Result<Self> {
        Ok(Self(bytes))
    }
}

fn key(block: u32) -> BlockKey {
    BlockKey { segment: SegmentId(0xA5 << 90 | 0x77), block }
}

/// A value that tells whose it is.
fn text(block: u32, length: usize) -> Text {
    let mut bytes = vec![block as u8; length.max(4)];
    bytes[..4].copy_from_slice(&block.to_le_bytes());
    Text(Bytes::from(bytes))
}

async fn in_memory(bytes: usize) -> Tier<Text> {
    Tier::open("test", bytes, None).await.unwrap()
}

async fn on_disk(memory: usize, dir: &tempfile::TempDir) -> Tier<Text> {
    let disk = Disk { dir: dir.path().to_owned(), bytes: 32 << 20 };
    Tier::open("test", memory, Some(disk)).await.unwrap()
}

async fn never() -> Result<Text> {
    panic!("nothing needs to be fetched")
}

#[tokio::test]
async fn a_value_is_fetched_once_and_then_found_in_memory() {
    let tier = in_memory(1 << 20).await;
    assert!(tier.get(key(1)).is_none());
    let (value, source) = tier.get_or_fetch(key(1), || async { Ok(text(1, 100)) }).await.unwrap();
    assert_eq!((&*value, source), (&text(1, 100), Source::Store));
    let (value, source) = tier.get_or_fetch(key(1), never).await.unwrap();
    assert_eq!((&*value, source), (&text(1, 100), Source::Memory));
    assert_eq!(*tier.get(key(1)).unwrap(), text(1, 100));
    let stats = tier.stats();
    assert_eq!((stats.memory_hits, stats.store_fetches, stats.entries, stats.in_flight), (2, 1, 1, 0));
    assert!(stats.memory_bytes >= 100 && stats.memory_capacity == 1 << 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_who_ask_for_one_value_at_once_cause_one_fetch() {
    let tier = Arc::new(in_memory(1 << 20).await);
    let fetches = Arc::new(AtomicU32::new(0));
    for round in 0..50 {
        let barrier = Arc::new(Barrier::new(16));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (tier, fetches, barrier) = (tier.clone(), fetches.clone(), barrier.clone());
            tasks.spawn(async move {
                barrier.wait().await;
                let fetch = || async {
                    fetches.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    Ok(text(round, 50))
                };
                tier.get_or_fetch(key(round), fetch).await.unwrap().0
            });
        }
        while let Some(value) = tasks.join_next().await {
            assert_eq!(*value.unwrap(), text(round, 50));
        }
    }
    let stats = tier.stats();
    assert_eq!(fetches.load(Ordering::Relaxed), 50);
    assert_eq!((stats.store_fetches, stats.in_flight), (50, 0));
    assert_eq!(stats.memory_hits + stats.shared, 50 * 15);
}

#[tokio::test]
async fn a_failed_fetch_is_not_remembered() {
    let tier = in_memory(1 << 20).await;
    let failing = || async { Err(Error::unavailable("the store is down")) };
    assert!(tier.get_or_fetch(key(1), failing).await.is_err());
    let (_, source) = tier.get_or_fetch(key(1), || async { Ok(text(1, 9)) }).await.unwrap();
    assert_eq!((source, tier.stats().failures), (Source::Store, 1));
}

#[tokio::test]
async fn memory_stays_within_its_bound_and_what_is_held_lives_on() {
    let tier = in_memory(1 << 20).await;
    let held = tier.insert(key(0), text(0, 10_000));
    for block in 1..1_000 {
        tier.insert(key(block), text(block, 10_000));
    }
    let stats = tier.stats();
    assert!(stats.memory_bytes <= 1 << 20, "{stats:?}");
    assert!(stats.entries > 80 && stats.entries < 110, "{stats:?}");
    assert_eq!(*held, text(0, 10_000));
}

#[tokio::test]
async fn a_value_as_big_as_memory_is_answered_and_pushes_nothing_out() {
    let tier = in_memory(1 << 20).await;
    for block in 0..50 {
        tier.insert(key(block), text(block, 10_000));
    }
    let (value, _) = tier.get_or_fetch(key(99), || async { Ok(text(99, 900_000)) }).await.unwrap();
    assert_eq!(value.weight(), 900_000);
    drop(value);
    assert!(tier.get(key(99)).is_none());
    assert!((0..50).all(|block| tier.get(key(block)).is_some()));
}

/// Weighs what the index of a segment of some ten million rows weighs.
#[derive(Debug)]
struct LargeIndex;

impl Value for LargeIndex {
    const SHARD_BYTES: usize = <Arc<HeldIndex> as Value>::SHARD_BYTES;
    const LARGEST_SHARE: usize = <Arc<HeldIndex> as Value>::LARGEST_SHARE;

    fn weight(&self) -> usize {
        30 << 20
    }
    fn to_disk(&self) -> Bytes {
        Bytes::new()
    }
    fn from_disk(_: Bytes) -> Result<Self> {
        Ok(Self)
    }
}

#[tokio::test]
async fn the_indexes_of_large_segments_are_kept() {
    for memory in [64 << 20, 256 << 20, 4 << 30] {
        let tier: Tier<LargeIndex> = Tier::open("test", memory, None).await.unwrap();
        drop(tier.insert(key(1), LargeIndex));
        drop(tier.insert(key(2), LargeIndex));
        assert!(tier.get(key(1)).is_some() && tier.get(key(2)).is_some(), "of {memory} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_falls_out_of_memory_is_found_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let tier = on_disk(64 << 10, &dir).await;
    for block in 0..200 {
        tier.insert(key(block), text(block, 2_000));
    }
    let disk = tier.disk.as_ref().unwrap();
    disk.cache.storage().wait().await;
    let mut from_disk = 0;
    for block in 0..200 {
        let (value, source) =
            tier.get_or_fetch(key(block), || async { Ok(text(block, 2_000)) }).await.unwrap();
        assert_eq!(*value, text(block, 2_000));
        from_disk += u32::from(source == Source::Disk);
    }
    let stats = tier.stats();
    assert!(from_disk > 100, "{stats:?}");
    assert_eq!(stats.disk_hits, u64::from(from_disk));
    assert!(stats.disk.written_bytes > 0 && stats.disk.read_bytes > 0);
    tier.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_cache_is_warm_when_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let tier = on_disk(24 << 20, &dir).await;
    // More than foyer's own flush would take at once, less than the disk holds.
    for block in 0..200 {
        tier.insert(key(block), text(block, 80_000));
    }
    tier.close().await.unwrap();
    tier.close().await.unwrap();
    assert_eq!(tier.stats().disk.dropped_queue + tier.stats().disk.dropped_buffer, 0, "{tier:?}");
    let (_, source) = tier.get_or_fetch(key(500), || async { Ok(text(500, 10)) }).await.unwrap();
    assert_eq!(source, Source::Store, "a closed cache goes on without its disk");
    drop(tier);

    let tier = on_disk(24 << 20, &dir).await;
    for block in 0..200 {
        let (value, source) = tier.get_or_fetch(key(block), never).await.unwrap();
        assert_eq!((&*value, source), (&text(block, 80_000), Source::Disk));
    }
    tier.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_disk_costs_fetches_and_never_gives_wrong_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let tier = on_disk(8 << 20, &dir).await;
    for block in 0..100 {
        tier.insert(key(block), text(block, 20_000));
    }
    tier.close().await.unwrap();
    drop(tier);
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        (0..bytes.len()).step_by(70_001).for_each(|at| bytes[at] ^= 0x40);
        std::fs::write(&path, bytes).unwrap();
    }
    let tier = on_disk(8 << 20, &dir).await;
    let mut fetched = 0;
    for block in 0..100 {
        let (value, source) =
            tier.get_or_fetch(key(block), || async { Ok(text(block, 20_000)) }).await.unwrap();
        assert_eq!(*value, text(block, 20_000));
        fetched += u32::from(source == Source::Store);
    }
    assert!(fetched > 0, "some of the damage was in values");
    tier.close().await.unwrap();
}

// On one thread nothing is written while this does not wait.
#[tokio::test]
async fn what_the_disk_is_too_slow_for_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let tier = on_disk(1 << 20, &dir).await;
    for block in 0..400 {
        tier.insert(key(block), text(block, 250_000));
    }
    assert!(tier.stats().disk.dropped_queue > 0, "{tier:?}");
    tier.close().await.unwrap();
}

#[test]
fn stored_values_are_checked_before_they_are_believed() {
    let mut bytes = Vec::new();
    Held(text(7, 300)).encode(&mut bytes).unwrap();
    assert_eq!(bytes.len(), Held(text(7, 300)).estimated_size());
    assert_eq!(Held::<Text>::decode(&mut &bytes[..]).unwrap().0, text(7, 300));
    assert!(Held::<Text>::decode(&mut &bytes[..200]).is_err(), "cut short");
    bytes[7] = 0xFF;
    assert!(Held::<Text>::decode(&mut &bytes[..]).is_err(), "claims exabytes");
}
