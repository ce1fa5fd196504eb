//! SlateDB over a local directory: LZ4, blocks and filters in memory.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use slatedb::config::{CompressionCodec, FlushOptions, FlushType, Settings};
use slatedb::db_cache::SplitCache;
use slatedb::db_cache::foyer::{FoyerCache, FoyerCacheOptions};
use slatedb::object_store::local::LocalFileSystem;
use slatedb::{Db, SstBlockSize, WriteBatch};

use super::Peer;
use crate::workload::Layer;

pub struct Slate(Db);

impl Slate {
    pub async fn filled(dir: &Path, layers: &[Layer], cache_bytes: u64) -> Self {
        let home = dir.join("slate");
        std::fs::create_dir_all(&home).unwrap();
        let store = Arc::new(LocalFileSystem::new_with_prefix(&home).unwrap());
        let cache = |max_capacity| {
            Some(Arc::new(FoyerCache::new_with_opts(FoyerCacheOptions { max_capacity, shards: 64 }))
                as Arc<dyn slatedb::db_cache::DbCache>)
        };
        let split = SplitCache::new().with_block_cache(cache(cache_bytes)).with_meta_cache(cache(256 << 20));
        let settings = Settings {
            compression_codec: Some(CompressionCodec::Lz4),
            l0_sst_size_bytes: 256 << 20,
            ..Settings::default()
        };
        let db = Db::builder("db", store)
            .with_settings(settings)
            .with_sst_block_size(SstBlockSize::Block16Kib)
            .with_db_cache(Arc::new(split), 1)
            .build()
            .await
            .unwrap();
        for layer in layers {
            let mut batch = WriteBatch::new();
            let mut held = 0;
            for (key, value) in layer.rows() {
                batch.put(key, value);
                held += 1;
                if held == 1_000 {
                    db.write(std::mem::take(&mut batch)).await.unwrap();
                    held = 0;
                }
            }
            if held > 0 {
                db.write(batch).await.unwrap();
            }
            if !layer.stays_in_tail {
                db.flush_with_options(FlushOptions { flush_type: FlushType::MemTable }).await.unwrap();
            }
        }
        Self(db)
    }
}

impl Peer for Slate {
    async fn get_all(&self, keys: &[[u8; 16]]) -> (u64, u64) {
        let (mut found, mut bytes) = (0, 0);
        for key in keys {
            if let Some(value) = self.0.get(key).await.unwrap() {
                found += 1;
                bytes += value.len() as u64;
            }
        }
        (found, bytes)
    }

    async fn scan_all(&self, starts: &[[u8; 16]], rows: usize) -> (u64, u64) {
        let (mut count, mut bytes) = (0, 0);
        for start in starts {
            let mut iterator = self.0.scan(Bytes::copy_from_slice(start)..).await.unwrap();
            let mut left = rows;
            while left > 0
                && let Some(row) = iterator.next().await.unwrap()
            {
                count += 1;
                bytes += (row.key.len() + row.value.len()) as u64;
                left -= 1;
            }
        }
        (count, bytes)
    }
}
