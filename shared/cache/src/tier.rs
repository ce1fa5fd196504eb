//! One kind of value in memory and on the disk.

use crate::flight::Flights;
use crate::index::HeldIndex;
use crate::key::{BlockKey, KeyHasher};
use crate::metrics::{DiskCounters, Striped, TierStats};
use bytes::Bytes;
use foyer::{
    BlockEngineConfig, CacheBuilder, Code, DeviceBuilder, Error as FoyerError, FsDeviceBuilder, HybridCache,
    HybridCacheBuilder, HybridCacheEntry, HybridCacheProperties, Location, S3FifoConfig,
};
use nacre_segment::{Block, SegmentIndex};
use nacre_types::{Error, Result};
use std::future::Future;
use std::io::{Read, Write};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of bookkeeping that an entry costs besides its value.
const ENTRY_OVERHEAD: usize = 192;
/// Most shards.
const SHARDS_MAX: usize = 64;
/// How much [`Tier::close`] hands to the disk at a time: half of what foyer's queue takes before it drops.
const CLOSE_ROUND_BYTES: usize = 8 << 20;
/// The longest value that is read back from a disk.
const STORED_MAX: u64 = 1 << 30;

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Memory.
    Memory,
    /// The local disk.
    Disk,
    /// The object store: `fetch` ran.
    Store,
}

/// What a tier holds: its bytes go to the disk and come back.
pub(crate) trait Value: Send + Sync + 'static {
    /// Memory is cut into shards of about this size, each with its own lock and queues.
    const SHARD_BYTES: usize;
    /// The part of a shard that one value may take. A larger one would push most others out: it is handed to the
    /// caller and not kept (the disk may keep it).
    const LARGEST_SHARE: usize;

    /// Bytes that it occupies in memory.
    fn weight(&self) -> usize;
    /// Its bytes for the disk.
    fn to_disk(&self) -> Bytes;
    /// Back from the disk, whose checksum was verified.
    fn from_disk(bytes: Bytes) -> Result<Self>
    where
        Self: Sized;
}

impl Value for Block {
    const SHARD_BYTES: usize = 8 << 20;
    const LARGEST_SHARE: usize = 4;

    fn weight(&self) -> usize {
        self.size()
    }
    fn to_disk(&self) -> Bytes {
        self.as_bytes().clone()
    }
    fn from_disk(bytes: Bytes) -> Result<Self> {
        Self::from_bytes(bytes)
    }
}

/// Shared, so that one who reads it again and again may hold a weak handle of it.
impl Value for Arc<HeldIndex> {
    // An index that is not kept costs every read of its segment a fetch of megabytes (two bytes a row, mostly filter), so
    // the shards are large and one index may have one for itself. There are few locks then; they are held for a lookup,
    // and readers of tables of few segments hold handles and pass them by.
    const SHARD_BYTES: usize = 128 << 20;
    const LARGEST_SHARE: usize = 1;

    fn weight(&self) -> usize {
        self.heap_bytes()
    }
    fn to_disk(&self) -> Bytes {
        self.encode()
    }
    fn from_disk(bytes: Bytes) -> Result<Self> {
        SegmentIndex::decode(bytes).map(|index| Self::new(HeldIndex::new(index)))
    }
}

/// A value as foyer holds it.
struct Held<V>(V);

impl<V: Value> Code for Held<V> {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        let bytes = self.0.to_disk();
        writer.write_all(&(bytes.len() as u64).to_le_bytes()).map_err(FoyerError::io_error)?;
        writer.write_all(&bytes).map_err(FoyerError::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut length = [0; 8];
        reader.read_exact(&mut length).map_err(FoyerError::io_error)?;
        let length = u64::from_le_bytes(length);
        let bad =
            |detail: &str| FoyerError::io_error(std::io::Error::new(std::io::ErrorKind::InvalidData, detail));
        if length > STORED_MAX {
            return Err(bad("a cached value claims more than a gigabyte"));
        }
        let mut bytes = Vec::new();
        // Grows with what is there, not with what is claimed; the usual value fits at once.
        bytes.reserve_exact((length as usize).min(1 << 20));
        reader.take(length).read_to_end(&mut bytes).map_err(FoyerError::io_error)?;
        if bytes.len() as u64 != length {
            return Err(bad("a cached value is cut short"));
        }
        V::from_disk(Bytes::from(bytes)).map(Self).map_err(|error| bad(error.detail()))
    }

    fn estimated_size(&self) -> usize {
        8 + self.0.weight()
    }
}

/// A value that the cache holds: it stays alive while this does. Clones are the same value.
pub struct Cached<V: 'static>(HybridCacheEntry<BlockKey, Held<V>, KeyHasher>)
where
    V: Send + Sync;

impl<V: Send + Sync> Deref for Cached<V> {
    type Target = V;
    #[inline]
    fn deref(&self) -> &V {
        &self.0.value().0
    }
}

impl<V: Send + Sync> Clone for Cached<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V: Send + Sync> std::fmt::Debug for Cached<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cached").field(self.0.key()).finish()
    }
}

/// A directory that one tier has for itself.
pub(crate) struct Disk {
    pub(crate) dir: PathBuf,
    pub(crate) bytes: u64,
}

type Memory<V> = foyer::Cache<BlockKey, Held<V>, KeyHasher, HybridCacheProperties>;

pub(crate) struct Tier<V: Value> {
    memory: Memory<V>,
    disk: Option<OnDisk<V>>,
    flights: Flights<(Cached<V>, Source)>,
    hits: Striped,
    shared: Striped,
    disk_hits: Striped,
    fetches: Striped,
    failures: Striped,
}

struct OnDisk<V: Value> {
    cache: HybridCache<BlockKey, Held<V>, KeyHasher>,
    counters: DiskCounters,
    /// Values above this stay off the disk: they would not fit a region and its write buffer.
    value_max: usize,
    is_closed: AtomicBool,
}

impl<V: Value> std::fmt::Debug for Tier<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tier").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

fn weigh<V: Value>(_: &BlockKey, value: &Held<V>) -> usize {
    value.0.weight() + ENTRY_OVERHEAD
}

impl<V: Value> Tier<V> {
    pub(crate) async fn open(name: &'static str, memory_bytes: usize, disk: Option<Disk>) -> Result<Self> {
        let memory_bytes = memory_bytes.max(64 << 10);
        let shards = (memory_bytes / V::SHARD_BYTES).clamp(1, SHARDS_MAX);
        let admitted = memory_bytes / shards / V::LARGEST_SHARE;
        let admit = move |key: &BlockKey, value: &Held<V>| weigh(key, value) <= admitted;
        let Some(disk) = disk else {
            let memory = CacheBuilder::new(memory_bytes)
                .with_name(name)
                .with_shards(shards)
                .with_eviction_config(S3FifoConfig::default())
                .with_hash_builder(KeyHasher::default())
                .with_weighter(weigh::<V>)
                .with_filter(admit)
                .build();
            return Ok(Self::new(memory, None));
        };
        let counters = DiskCounters::default();
        let region = usize::try_from(disk.bytes / 32).unwrap_or(usize::MAX).clamp(1 << 20, 16 << 20);
        let broken = |error: FoyerError| {
            Error::unavailable(format!("the cache's disk {} cannot be used: {error}", disk.dir.display()))
                .with_code("cache-disk")
        };
        std::fs::create_dir_all(&disk.dir).map_err(|error| broken(FoyerError::io_error(error)))?;
        let device = FsDeviceBuilder::new(&disk.dir)
            .with_capacity(usize::try_from(disk.bytes).unwrap_or(usize::MAX))
            .build()
            .map_err(broken)?;
        let cache = HybridCacheBuilder::new()
            .with_name(name)
            .with_metrics_registry(Box::new(counters.clone()))
            // `close` does it in rounds: foyer's own flush drops what its queue does not take at once.
            .with_flush_on_close(false)
            .memory(memory_bytes)
            .with_shards(shards)
            .with_eviction_config(S3FifoConfig::default())
            .with_hash_builder(KeyHasher::default())
            .with_weighter(weigh::<V>)
            .with_filter(admit)
            .storage()
            .with_engine_config(BlockEngineConfig::new(device).with_block_size(region))
            .build()
            .await
            .map_err(broken)?;
        let memory = cache.memory().clone();
        let is_closed = AtomicBool::new(false);
        Ok(Self::new(memory, Some(OnDisk { cache, counters, value_max: region / 2, is_closed })))
    }

    fn new(memory: Memory<V>, disk: Option<OnDisk<V>>) -> Self {
        Self {
            memory,
            disk,
            flights: Flights::new(),
            hits: Striped::default(),
            shared: Striped::default(),
            disk_hits: Striped::default(),
            fetches: Striped::default(),
            failures: Striped::default(),
        }
    }

    #[inline]
    pub(crate) fn get(&self, key: BlockKey) -> Option<Cached<V>> {
        let entry = self.memory.get(&key)?;
        self.hits.add(key.segment.0 as u64 ^ u64::from(key.block));
        Some(Cached(entry))
    }

    pub(crate) async fn get_or_fetch<F, Fut>(&self, key: BlockKey, fetch: F) -> Result<(Cached<V>, Source)>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V>>,
    {
        if let Some(value) = self.get(key) {
            return Ok((value, Source::Memory));
        }
        let spread = key.spread();
        let (outcome, mine) = self.flights.join(key, || self.look(key, fetch)).await;
        if mine {
            match &outcome {
                Ok((_, Source::Memory)) => self.hits.add(spread),
                Ok((_, Source::Disk)) => self.disk_hits.add(spread),
                Ok((_, Source::Store)) => self.fetches.add(spread),
                Err(_) => self.failures.add(spread),
            }
        } else {
            self.shared.add(spread);
        }
        outcome
    }

    /// What the one caller does who looks for all.
    async fn look<F, Fut>(&self, key: BlockKey, fetch: F) -> Result<(Cached<V>, Source)>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V>>,
    {
        // Another flight may have landed between this caller's first look and its take-off.
        if let Some(entry) = self.memory.get(&key) {
            return Ok((Cached(entry), Source::Memory));
        }
        if let Some(disk) = self.open_disk() {
            match disk.cache.get(&key).await {
                Ok(Some(entry)) => return Ok((Cached(entry), Source::Disk)),
                Ok(None) => {}
                Err(error) => {
                    disk.counters.count_error();
                    tracing::warn!(?key, %error, "a read of the cache's disk failed; fetching instead");
                }
            }
        }
        let value = fetch().await?;
        Ok((self.insert(key, value), Source::Store))
    }

    pub(crate) fn insert(&self, key: BlockKey, value: V) -> Cached<V> {
        let fits = self.open_disk().is_some_and(|disk| value.weight() <= disk.value_max);
        let location = if fits { Location::Default } else { Location::InMem };
        let properties = HybridCacheProperties::default().with_location(location);
        Cached(match &self.disk {
            Some(disk) => disk.cache.insert_with_properties(key, Held(value), properties),
            None => self.memory.insert_with_properties(key, Held(value), properties),
        })
    }

    fn open_disk(&self) -> Option<&OnDisk<V>> {
        self.disk.as_ref().filter(|disk| !disk.is_closed.load(Ordering::Acquire))
    }

    /// Bytes of memory that nothing takes.
    pub(crate) fn memory_left(&self) -> u64 {
        self.memory.capacity().saturating_sub(self.memory.usage()) as u64
    }

    pub(crate) fn stats(&self) -> TierStats {
        TierStats {
            memory_hits: self.hits.sum(),
            disk_hits: self.disk_hits.sum(),
            store_fetches: self.fetches.sum(),
            shared: self.shared.sum(),
            failures: self.failures.sum(),
            in_flight: self.flights.len() as u64,
            entries: self.memory.entries() as u64,
            memory_bytes: self.memory.usage() as u64,
            memory_capacity: self.memory.capacity() as u64,
            disk: self.disk.as_ref().map_or_else(Default::default, |disk| {
                let device = disk.cache.statistics();
                disk.counters.read(device.disk_write_bytes() as u64, device.disk_read_bytes() as u64)
            }),
        }
    }

    pub(crate) async fn close(&self) -> Result<()> {
        let Some(disk) = &self.disk else { return Ok(()) };
        if disk.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // A round flushes the keys whose hash falls into it; foyer first waits for the round before it.
        let rounds = (self.memory.usage() / CLOSE_ROUND_BYTES + 1) as u64;
        for round in 0..rounds {
            disk.cache.flush_if(|key, _| key.spread() % rounds == round).await;
        }
        disk.cache.close().await.map_err(|error| {
            Error::unavailable(format!("the cache's disk could not be closed: {error}"))
                .with_code("cache-disk")
        })
    }
}

#[cfg(test)]
mod tests;
