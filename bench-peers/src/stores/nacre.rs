//! nacre: a node on a local directory, asked by the functions that the HTTP handlers call, metrics and receipts on.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use nacre_cache::CacheConfig;
use nacre_catalog::ObjectCatalog;
use nacre_engine::{
    BeginLoad, FlushMode, Guards, LoadMode, LoadReport, LoadVersion, Lookup, Node, NodeConfig, OnDuplicate,
    ReadOptions, ScanRequest, SegmentSink, Table, WriteOptions, WriteRow,
};
use nacre_log::{ObjectLog, ObjectLogConfig};
use nacre_manifest::{Layer as ManifestLayer, Location};
use nacre_runtime::Context;
use nacre_segment::{SegmentRow, WriterSettings};
use nacre_store::{LocalStore, Metered, ObjectPath, ObjectStore};
use nacre_types::{Key, KeyRange, LoadId, NamespaceName, PartitionId, TableName, TableSettings};

use super::Peer;
use crate::workload::Layer;

pub struct Nacre {
    pub node: Arc<Node>,
    pub table: Arc<Table>,
    pub store: Arc<Metered<LocalStore>>,
    ctx: Context,
}

/// How much memory the blocks and the indexes get.
#[derive(Clone, Copy)]
pub struct Memory {
    pub blocks: usize,
    pub indexes: usize,
}

impl Nacre {
    pub async fn filled(dir: &Path, layers: &[Layer], memory: Memory) -> Self {
        let ctx = Context::system();
        let home = dir.join("nacre");
        std::fs::create_dir_all(&home).unwrap();
        let store = Arc::new(Metered::new(LocalStore::open(&home, &ctx).unwrap()));
        let opened: Arc<dyn ObjectStore> = store.clone();
        let catalog = Arc::new(ObjectCatalog::new(opened.clone(), "catalog", &ctx).unwrap());
        let prefix = ObjectPath::new("log").unwrap();
        let log = ObjectLog::open(opened.clone(), &prefix, &ctx, ObjectLogConfig::default()).unwrap();
        let cache = CacheConfig { memory_bytes: memory.blocks, row_bytes: 0, index_bytes: memory.indexes, disk: None };
        // Tails are flushed when the workload says so.
        let node =
            Node::open(&ctx, opened, catalog, Arc::new(log), cache, NodeConfig::default()).await.unwrap();
        node.wait_ready().await.unwrap();
        let namespace = NamespaceName::new("default").unwrap();
        let name = TableName::new("bench").unwrap();
        let table = node
            .create_table(&namespace, &name, TableSettings::default(), Vec::new())
            .await
            .unwrap()
            .into_inner();
        let peer = Self { node, table, store, ctx };
        for layer in layers {
            if layer.is_load {
                peer.load(layer).await;
            } else {
                peer.write(layer).await;
            }
        }
        peer
    }

    /// One load that is one segment.
    async fn load(&self, layer: &Layer) {
        let request = BeginLoad {
            mode: LoadMode::Merge,
            version: Some(LoadVersion::At(layer.round as i64)),
            source: None,
            columns: None,
            guards: Guards::default(),
            on_duplicate: OnDuplicate::default(),
        };
        let begun =
            self.table.begin_load(&request, Bytes::from(format!("{}", layer.round)), None).await.unwrap();
        let id: LoadId = LoadId::parse(&begun.into_inner().id.to_string()).unwrap();
        self.table.put_load_file(id, "rows", Bytes::from_static(b"built below")).await.unwrap();
        self.table.commit_load(id, None, None).await.unwrap();
        let load = self.table.manifest().load(id).unwrap().clone();
        let mut built = Vec::new();
        let mut emit = |segment| {
            built.push(segment);
            Ok(())
        };
        let mut sink = SegmentSink::new(&*self.ctx.ids, WriterSettings::default(), u64::MAX, &mut emit);
        for (key, value) in layer.rows() {
            let row = SegmentRow {
                key: &key,
                version: layer.round as i64,
                place: None,
                expires_at: None,
                value: Some(&value),
            };
            sink.push(&row).unwrap();
        }
        sink.finish().unwrap();
        let mut segments = Vec::new();
        for built in built {
            let segment = built.to_segment(Location::Job(load.job), ManifestLayer::Loaded(id), true);
            self.table.put_load_segment(&segment, &built).await.unwrap();
            segments.push(segment);
        }
        self.table.finish_prepare(&load, segments, 0, &LoadReport::default(), None).await.unwrap();
        self.table.commit_prepared(id).await.unwrap();
    }

    async fn write(&self, layer: &Layer) {
        let rows: Vec<_> = layer.rows().collect();
        for some in rows.chunks(1_000) {
            let rows = some
                .iter()
                .map(|(key, value)| WriteRow {
                    key: Key::new(Bytes::copy_from_slice(key)).unwrap(),
                    value: Some(Bytes::copy_from_slice(value)),
                    version: Some(layer.round as i64),
                    expires_at: None,
                })
                .collect();
            self.table.write(rows, &WriteOptions::default()).await.unwrap();
        }
        if !layer.stays_in_tail {
            self.node.flush(PartitionId(0), FlushMode::All).await.unwrap();
        }
    }

    fn options(&self) -> ReadOptions {
        ReadOptions::at(self.ctx.clock.now_micros())
    }
}

impl Peer for Nacre {
    async fn get_all(&self, keys: &[[u8; 16]]) -> (u64, u64) {
        let (mut found, mut bytes) = (0, 0);
        for key in keys {
            let (lookup, receipt) = self.table.get(key, &self.options()).await.unwrap();
            if let Lookup::Found(row) = lookup {
                found += 1;
                bytes += row.value.len() as u64;
            }
            std::hint::black_box(receipt);
        }
        (found, bytes)
    }

    async fn scan_all(&self, starts: &[[u8; 16]], rows: usize) -> (u64, u64) {
        let (mut count, mut bytes) = (0, 0);
        for start in starts {
            let request = ScanRequest {
                range: KeyRange { start: Bytes::copy_from_slice(start), end: None },
                reverse: false,
                since: None,
                until: None,
                max_rows: rows,
                max_bytes: usize::MAX,
                keys_only: false,
            };
            let (page, _) = self.table.scan(&request, &self.options()).await.unwrap();
            count += page.rows.len() as u64;
            bytes += page.rows.iter().map(|(key, row)| (key.len() + row.value.len()) as u64).sum::<u64>();
        }
        (count, bytes)
    }
}
