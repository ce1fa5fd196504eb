//! The trait that every object store implements, and its words.

use crate::{ObjectPath, RequestCounts};
use async_trait::async_trait;
use bytes::Bytes;
use nacre_types::Result;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// Identifies the bytes of an object: while an object has the tag, it has the bytes.
///
/// A tag says nothing about the path, and two objects of the same bytes may have the same tag (as on S3) or not.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct ObjectTag {
    /// The store's entity tag, without quotes.
    pub etag: String,
    /// The version id, on a versioned bucket.
    pub version_id: Option<String>,
}

/// What a store says of an object without its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObjectMeta {
    /// Its name.
    pub path: ObjectPath,
    /// Its length in bytes.
    pub size: u64,
    /// What identifies its bytes.
    pub tag: ObjectTag,
    /// When it came to be, by the store's own date, in microseconds since the epoch. A store may move it forward. It is
    /// never earlier than the object's creation, but for a big object that was uploaded or copied in parts, where it may
    /// be when the upload *began*, hours ago (as on Amazon's S3). So an object may look old at its birth: no garbage is
    /// proven by age alone.
    pub modified_micros: i64,
}

/// Under which condition a put takes effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PutMode {
    /// Only if there is no object of the name.
    Create,
    /// Only if the object of the name has this tag.
    Replace(ObjectTag),
}

/// What became of a conditional put.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PutOutcome {
    /// The object is there, durable, and has this tag.
    Stored(ObjectTag),
    /// There is an object of the name. Mind that it may be the caller's own: a library or a proxy that repeats a
    /// request whose answer was lost sees the first one's effect. Only the object's bytes tell.
    AlreadyExists,
    /// The object has another tag, or is gone. The caveat of [`PutOutcome::AlreadyExists`] holds here too.
    Mismatch,
}

/// What to read of an object.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct GetOptions {
    /// Which bytes; `None` = all. It must lie within the object.
    pub range: Option<Range<u64>>,
    /// Read only if the object has this tag.
    pub if_tag: Option<ObjectTag>,
    /// How many more times a store that answers now soon and now late is asked at once; the first answer counts, and each
    /// is paid for.
    pub copies: u32,
}

impl GetOptions {
    /// The bytes of a range.
    pub fn range(range: Range<u64>) -> Self {
        Self { range: Some(range), ..Self::default() }
    }
}

/// An object that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Object {
    /// The bytes asked for.
    pub bytes: Bytes,
    /// Of the whole object.
    pub meta: ObjectMeta,
}

/// Whole objects under names, with conditional puts that many processes can race for.
///
/// **Outcomes.** `Err(Unknown)` from anything that writes says that it may have happened, or may still happen at any
/// later time. Every other error says that it certainly did not and will not. A future that is dropped is as good as
/// unknown. No method repeats a write by itself.
///
/// **Durability.** What was answered [`PutOutcome::Stored`], and what a `get`, a `head` or an
/// [`PutOutcome::AlreadyExists`] showed, survives a loss of power. A reader may act on what it read.
///
/// **Visibility.** An object is there whole or not at all. After a put was answered, every later read in every process
/// sees it. Listing is for garbage and for the sources of loads, never for the truth.
#[async_trait]
pub trait ObjectStore: fmt::Debug + Send + Sync + 'static {
    /// Writes one object if the condition of `mode` holds; of several racing puts one wins.
    ///
    /// # Errors
    /// `Unknown` (may have happened or may still happen); `Unavailable` (certainly not; code `disk-full` where there is
    /// no room).
    async fn put(&self, path: &ObjectPath, body: Bytes, mode: PutMode) -> Result<PutOutcome>;

    /// Reads an object or a range of it.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` (`object-changed`) when it has another tag than `if_tag` (one that names a version is
    /// answered with that version, where the store still has it); `Invalid`
    /// (`range-out-of-bounds`) when the range does not lie within the object; `Unavailable`.
    async fn get(&self, path: &ObjectPath, options: GetOptions) -> Result<Object>;

    /// What a store says of an object without its bytes.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta>;

    /// The objects whose path begins with `prefix` (a string, not a folder) and sorts after `after`, at most `limit`
    /// of them, sorted by path. Fewer than `limit` = the end. Their tags may lack the version id: S3's listings do not
    /// tell it.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn list(&self, prefix: &str, after: Option<&ObjectPath>, limit: usize) -> Result<Vec<ObjectMeta>>;

    /// Removes an object; one that is gone already is fine. After a loss of power it may be there again.
    ///
    /// # Errors
    /// `Unknown`, `Unavailable`.
    async fn delete(&self, path: &ObjectPath) -> Result<()>;

    /// Makes `to` an object of the bytes of `from`, without moving them through this process where the store can;
    /// create semantics at `to`. `Mismatch` = `from` is gone or has another tag than `if_tag`. The bytes at `to` no
    /// longer depend on the name `from`; see each store for what it does against writers that hold `from` open.
    ///
    /// # Errors
    /// As [`ObjectStore::put`].
    async fn copy(&self, from: &ObjectPath, to: &ObjectPath, if_tag: &ObjectTag) -> Result<PutOutcome>;

    /// Begins a big object that is written in parts: there whole at [`Upload::finish`] or not at all; create semantics.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn upload(&self, path: &ObjectPath) -> Result<Box<dyn Upload>>;

    /// The store's own date now, in microseconds since the epoch: what [`ObjectMeta::modified_micros`] is measured by.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn date_micros(&self) -> Result<i64>;

    /// Where the bytes lie, if the store is a directory of this machine; a child process that decodes them opens it.
    fn local_path(&self, path: &ObjectPath) -> Option<PathBuf>;

    /// What a client of the store itself, who does not go through this process, calls the object: an `s3://` URL.
    /// `None` where nobody else reaches it, or by its file alone ([`ObjectStore::local_path`]).
    fn url(&self, _path: &ObjectPath) -> Option<String> {
        None
    }

    /// Promises that only this kind of store is known to break, tried on `taken`, an object that is there and that
    /// nobody else uses. Part of [`crate::probe`].
    ///
    /// # Errors
    /// `Invalid` (`store-unfit`) naming the promise; what the store says.
    async fn check_promises(&self, _taken: &ObjectPath) -> Result<()> {
        Ok(())
    }

    /// What was asked of the store so far, where somebody counts it ([`crate::Metered`], or the store itself, which
    /// knows of its own repeats).
    fn request_counts(&self) -> Option<RequestCounts> {
        None
    }
}

/// A big object on its way.
#[async_trait]
pub trait Upload: Send {
    /// Appends a part. After an error the upload can only be aborted.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn write(&mut self, part: Bytes) -> Result<()>;

    /// Makes the object visible, durable, whole, if its name is still free.
    ///
    /// # Errors
    /// As [`ObjectStore::put`].
    async fn finish(self: Box<Self>) -> Result<PutOutcome>;

    /// Gives up; nothing stays. Dropping an upload does the same as far as it can.
    async fn abort(self: Box<Self>);
}

#[async_trait]
impl<S: ObjectStore + ?Sized> ObjectStore for Arc<S> {
    async fn put(&self, path: &ObjectPath, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        (**self).put(path, body, mode).await
    }
    async fn get(&self, path: &ObjectPath, options: GetOptions) -> Result<Object> {
        (**self).get(path, options).await
    }
    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        (**self).head(path).await
    }
    async fn list(&self, prefix: &str, after: Option<&ObjectPath>, limit: usize) -> Result<Vec<ObjectMeta>> {
        (**self).list(prefix, after, limit).await
    }
    async fn delete(&self, path: &ObjectPath) -> Result<()> {
        (**self).delete(path).await
    }
    async fn copy(&self, from: &ObjectPath, to: &ObjectPath, if_tag: &ObjectTag) -> Result<PutOutcome> {
        (**self).copy(from, to, if_tag).await
    }
    async fn upload(&self, path: &ObjectPath) -> Result<Box<dyn Upload>> {
        (**self).upload(path).await
    }
    async fn date_micros(&self) -> Result<i64> {
        (**self).date_micros().await
    }
    fn local_path(&self, path: &ObjectPath) -> Option<PathBuf> {
        (**self).local_path(path)
    }
    fn url(&self, path: &ObjectPath) -> Option<String> {
        (**self).url(path)
    }
    async fn check_promises(&self, taken: &ObjectPath) -> Result<()> {
        (**self).check_promises(taken).await
    }
    fn request_counts(&self) -> Option<RequestCounts> {
        (**self).request_counts()
    }
}
