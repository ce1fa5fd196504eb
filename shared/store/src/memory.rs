//! A store in memory: gone with the process.

use crate::{
    GetOptions, Object, ObjectMeta, ObjectPath, ObjectStore, ObjectTag, PutMode, PutOutcome, Upload,
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use nacre_runtime::{Clock, Context};
use nacre_types::{Error, Result};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// Objects in memory, for `--ephemeral`, tests and the simulator.
///
/// Tags are a hash of the bytes, as S3's are: an object that gets its old bytes again has its old tag again. Whoever
/// replaces records must not rely on more (see the record envelope of the catalog).
#[derive(Debug, Clone)]
pub struct MemoryStore {
    objects: Arc<RwLock<BTreeMap<ObjectPath, Entry>>>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Clone)]
struct Entry {
    bytes: Bytes,
    tag: ObjectTag,
    modified_micros: i64,
}

impl Entry {
    fn meta(&self, path: &ObjectPath) -> ObjectMeta {
        ObjectMeta {
            path: path.clone(),
            size: self.bytes.len() as u64,
            tag: self.tag.clone(),
            modified_micros: self.modified_micros,
        }
    }
}

impl MemoryStore {
    /// An empty store. Clones are the same store.
    pub fn new(ctx: &Context) -> Self {
        Self { objects: Arc::default(), clock: ctx.clock.clone() }
    }

    fn put_now(&self, path: &ObjectPath, bytes: Bytes, mode: &PutMode) -> PutOutcome {
        let tag = ObjectTag { etag: format!("{:032x}", xxh3_128(&bytes)), version_id: None };
        let mut objects = self.objects.write();
        match (mode, objects.get(path)) {
            (PutMode::Create, Some(_)) => return PutOutcome::AlreadyExists,
            (PutMode::Replace(expected), Some(entry)) if entry.tag == *expected => {}
            (PutMode::Replace(_), _) => return PutOutcome::Mismatch,
            (PutMode::Create, None) => {}
        }
        let entry = Entry { bytes, tag: tag.clone(), modified_micros: self.clock.now_micros() };
        objects.insert(path.clone(), entry);
        PutOutcome::Stored(tag)
    }
}

/// The bounds of `range` within an object of `size` bytes.
pub(crate) fn check_range(path: &ObjectPath, range: &std::ops::Range<u64>, size: u64) -> Result<()> {
    if range.start <= range.end && range.end <= size {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "bytes {}..{} of object {path}: it has {size} bytes; the range must lie within",
        range.start, range.end
    ))
    .with_code("range-out-of-bounds"))
}

/// The object has another tag than the reader's: `found`, where the store tells it.
pub(crate) fn changed(path: &ObjectPath, expected: &ObjectTag, found: Option<&ObjectTag>) -> Error {
    let found = found.map_or("another tag", |tag| tag.etag.as_str());
    Error::corrupt(format!(
        "object {path} was changed: it has {found} where tag {} was recorded; objects must not be written again",
        expected.etag
    ))
    .with_code("object-changed")
}

pub(crate) fn not_found(path: &ObjectPath) -> Error {
    Error::not_found(format!("object {path} does not exist")).with_code("object-not-found")
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn put(&self, path: &ObjectPath, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        Ok(self.put_now(path, body, &mode))
    }

    async fn get(&self, path: &ObjectPath, options: GetOptions) -> Result<Object> {
        let objects = self.objects.read();
        let entry = objects.get(path).ok_or_else(|| not_found(path))?;
        if let Some(expected) = &options.if_tag
            && *expected != entry.tag
        {
            return Err(changed(path, expected, Some(&entry.tag)));
        }
        let bytes = match options.range {
            None => entry.bytes.clone(),
            Some(range) => {
                check_range(path, &range, entry.bytes.len() as u64)?;
                entry.bytes.slice(range.start as usize..range.end as usize)
            }
        };
        Ok(Object { bytes, meta: entry.meta(path) })
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        self.objects.read().get(path).map(|entry| entry.meta(path)).ok_or_else(|| not_found(path))
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectPath>, limit: usize) -> Result<Vec<ObjectMeta>> {
        let objects = self.objects.read();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let matching =
            objects.range((from, Bound::Unbounded)).filter(|(path, _)| path.as_str().starts_with(prefix));
        Ok(matching.take(limit).map(|(path, entry)| entry.meta(path)).collect())
    }

    async fn delete(&self, path: &ObjectPath) -> Result<()> {
        self.objects.write().remove(path);
        Ok(())
    }

    async fn copy(&self, from: &ObjectPath, to: &ObjectPath, if_tag: &ObjectTag) -> Result<PutOutcome> {
        let bytes = match self.objects.read().get(from) {
            Some(entry) if entry.tag == *if_tag => entry.bytes.clone(),
            _ => return Ok(PutOutcome::Mismatch),
        };
        Ok(self.put_now(to, bytes, &PutMode::Create))
    }

    async fn upload(&self, path: &ObjectPath) -> Result<Box<dyn Upload>> {
        Ok(Box::new(MemoryUpload { store: self.clone(), path: path.clone(), bytes: BytesMut::new() }))
    }

    async fn date_micros(&self) -> Result<i64> {
        Ok(self.clock.now_micros())
    }

    fn local_path(&self, _path: &ObjectPath) -> Option<PathBuf> {
        None
    }
}

struct MemoryUpload {
    store: MemoryStore,
    path: ObjectPath,
    bytes: BytesMut,
}

#[async_trait]
impl Upload for MemoryUpload {
    async fn write(&mut self, part: Bytes) -> Result<()> {
        self.bytes.extend_from_slice(&part);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<PutOutcome> {
        Ok(self.store.put_now(&self.path, self.bytes.freeze(), &PutMode::Create))
    }

    async fn abort(self: Box<Self>) {}
}
