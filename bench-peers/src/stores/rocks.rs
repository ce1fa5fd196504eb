//! RocksDB: LZ4, 16 KiB blocks, bloom filters of 10 bits, everything in its block cache.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, FlushOptions, Options, ReadOptions, WriteBatch,
    WriteOptions,
};

use super::Peer;
use crate::workload::Layer;

pub struct Rocks(DB);

impl Rocks {
    /// `keeps_layers`: every layer stays a file of its own, as nacre has them before housekeeping; else RocksDB
    /// compacts as it likes, and is waited for.
    pub fn filled(dir: &Path, layers: &[Layer], cache_bytes: usize, keeps_layers: bool) -> Self {
        let mut table = BlockBasedOptions::default();
        table.set_block_size(16 << 10);
        table.set_bloom_filter(10.0, false);
        table.set_block_cache(&Cache::new_lru_cache(cache_bytes));
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(1 << 30);
        options.set_disable_auto_compactions(keeps_layers);
        if keeps_layers {
            options.set_level_zero_slowdown_writes_trigger(64);
            options.set_level_zero_stop_writes_trigger(64);
        }
        let db = DB::open(&options, dir.join("rocks")).unwrap();
        let mut writing = WriteOptions::default();
        writing.disable_wal(true);
        for layer in layers {
            let mut batch = WriteBatch::default();
            for (key, value) in layer.rows() {
                batch.put(key, value);
                if batch.len() == 1_000 {
                    db.write_opt(std::mem::take(&mut batch), &writing).unwrap();
                }
            }
            db.write_opt(batch, &writing).unwrap();
            if !layer.stays_in_tail {
                let mut flush = FlushOptions::default();
                flush.set_wait(true);
                db.flush_opt(&flush).unwrap();
            }
        }
        if !keeps_layers {
            // What a level that holds nothing else would look like.
            db.wait_for_compact(&rocksdb::WaitForCompactOptions::default()).unwrap();
        }
        Self(db)
    }
}

impl Peer for Rocks {
    async fn get_all(&self, keys: &[[u8; 16]]) -> (u64, u64) {
        let (mut found, mut bytes) = (0, 0);
        for key in keys {
            if let Some(value) = self.0.get_pinned(key).unwrap() {
                found += 1;
                bytes += value.len() as u64;
            }
        }
        (found, bytes)
    }

    async fn scan_all(&self, starts: &[[u8; 16]], rows: usize) -> (u64, u64) {
        let (mut count, mut bytes) = (0, 0);
        for start in starts {
            let mut options = ReadOptions::default();
            options.set_readahead_size(256 << 10);
            let mut iterator = self.0.raw_iterator_opt(options);
            iterator.seek(start);
            let mut left = rows;
            while left > 0
                && let Some((key, value)) = iterator.item()
            {
                // A server answers with bytes of its own.
                let row = (bytes::Bytes::copy_from_slice(key), bytes::Bytes::copy_from_slice(value));
                count += 1;
                bytes += (row.0.len() + row.1.len()) as u64;
                left -= 1;
                iterator.next();
            }
        }
        (count, bytes)
    }
}
