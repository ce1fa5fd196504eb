//! A store in a directory of this machine: durable, and for any number of processes at once.
//!
//! ```text
//! <root>/tables/.../x.parquet     objects, read-only files under their own names
//! <root>/.tmp/<random>            objects on their way; nobody reads them
//! <root>/.locks/<00..3f>          lock files of replace and delete, striped by a hash of the path
//! ```
//!
//! # What is promised
//! What was answered *stored*, and what any reader was shown, survives a loss of power; an object is there whole or not
//! at all; of several creators of one name, or replacers of one tag, one wins, in whatever process they run.
//!
//! # Create
//! 1. write a temporary file, sync it: the bytes are durable before they have a name
//! 2. hard-link it to the name: the kernel lets one link win, the others see that the name exists
//! 3. sync the directory, and, once per process and directory, the directories above it
//! 4. unlink the temporary name
//!
//! The link is the commit point, two flushes are the cost. A crash before 2 leaves a file in `.tmp` that is swept when
//! it is a day old (a writer that slept longer finds its file gone, and its link fails: certainly not stored). An error
//! before 2 is *certainly not*; at 3 it is *unknown*: the name can be seen, and nobody knows how long it lasts.
//!
//! # A name is seen before it is durable
//! Between 2 and 3 a reader can see an object that a loss of power would take back, and act on it: trim the log because
//! the edit is there, append the next edit behind it. Journals of most file systems would save it, for the reader's own
//! sync comes later in one order with the writer's; those of others (btrfs) sync files apart. So **a file with more than
//! one name is not known to be durable**: its temporary name goes at step 4, after the sync. Whoever meets two names,
//! reader or loser of a race, syncs the directories itself before it answers. The link count comes with the `fstat` that
//! every read needs anyway. Adopted files have two names for ever (their producer's), so a process remembers which files
//! it has synced.
//!
//! A directory made by one process and not yet synced into its parent is the same trap, one level up: a second process
//! finds it there, puts a file into it, syncs it, and a loss of power takes the whole directory. So nobody trusts a
//! directory that he found: every process syncs the chain of parents once for every directory that it uses. Directories
//! are never removed, or that memory would be a lie.
//!
//! # Replace
//! Under the lock of the path: compare the tag, write and sync a temporary file, give it a second name, rename it over
//! the object, sync the directory, unlink the second name. The lock is `flock` on a file of its own, which the kernel
//! lets go when a process dies; a lock on the object itself would be on an inode that the rename has replaced. Delete
//! takes the same lock, else a replace that had compared already would bring the object back.
//!
//! A create takes no lock: a replace never makes a name, and a delete makes one free, so both orders are fine.
//!
//! # Tags
//! Size and time of modification in nanoseconds. Not a hash, because a `head` of a gigabyte must not read it. The kernel's
//! time ticks every few milliseconds, so two replaces within a tick could give the same tag to different bytes: a replace
//! sets its file's time after that of the file it replaces, under the lock, so that the tags of a name never repeat. Not
//! the inode, because then a data directory could not be restored from a copy that keeps times (`cp -a`, `rsync -a`), for
//! manifests name the tags of adopted files. A stranger who changes an adopted file without changing its size and sets
//! the old time is not noticed by the tag; block checksums are there for that.
//!
//! [`ObjectMeta::modified_micros`] is the file's *change* time, which only the kernel sets: a producer's old file that is
//! adopted now is new, and the grace of garbage counts from now.
//!
//! # Copy
//! A hard link, made read-only (`chmod 0444`, which is the inode's and so the producer's name's too) and synced, since a
//! producer rarely does. The tag is compared after the link has pinned the inode and again after the sync. A producer
//! that still holds the file open can write to it; the tag tells (reads carry it). Where links are not possible (another
//! device, a file of another user, a limit of links) the bytes are copied.
//!
//! # Delete
//! Is not synced: an object that comes back after a loss of power is garbage again, and whatever must not believe in
//! trimmed names reads a durable boundary, not their absence.

mod copy;
mod files;
pub(crate) mod fs;
mod list;
#[cfg(test)]
mod tests;

use crate::{
    GetOptions, Object, ObjectMeta, ObjectPath, ObjectStore, ObjectTag, PutMode, PutOutcome, Upload,
};
use async_trait::async_trait;
use bytes::Bytes;
use files::{Directory, Draft};
use fs::{Fs, RealFs};
use nacre_runtime::Context;
use nacre_types::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Objects as files of one directory; the module's head argues why they are safe there.
#[derive(Debug, Clone)]
pub struct LocalStore {
    directory: Arc<Directory>,
    ctx: Context,
    /// One per lock file: those who wait in this process wait here, and not each on a thread that blocks.
    stripes: Arc<[Arc<Mutex<()>>]>,
}

/// How many lock files there are.
const STRIPES: usize = 64;
/// Longest read that is tried on the caller's thread. Only what lies in the page cache is read there (`RWF_NOWAIT`), so
/// the bound is on copying: at some 10 GB/s this is 25 µs, what the way to another thread and back costs.
const INLINE_BYTES: u64 = 256 << 10;

impl LocalStore {
    /// Opens the directory, making it if it is not there, and sweeps what crashed writers left a day ago.
    ///
    /// # Errors
    /// `Unavailable` if it cannot be made or written.
    pub fn open(root: &Path, ctx: &Context) -> Result<Self> {
        let root = std::path::absolute(root)
            .map_err(|error| Error::unavailable(format!("data directory {}: {error}", root.display())))?;
        Self::on(Arc::new(RealFs), &root, ctx)
    }

    /// Opens `root` on some file system.
    pub(crate) fn on(fs: Arc<dyn Fs>, root: &Path, ctx: &Context) -> Result<Self> {
        let directory = Arc::new(Directory::open(fs, root, ctx)?);
        let stripes = (0..STRIPES).map(|_| Arc::new(Mutex::new(()))).collect();
        Ok(Self { directory, ctx: ctx.clone(), stripes })
    }

    /// Runs `work` where it may block. Whatever becomes of the caller's future, work that began ends.
    async fn blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&Directory) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let directory = self.directory.clone();
        self.ctx.tasks.spawn_blocking(name, move || work(&directory)).await?
    }

    /// The same under the lock of a path.
    async fn locked<T: Send + 'static>(
        &self,
        name: &'static str,
        path: &ObjectPath,
        work: impl FnOnce(&Directory) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let stripe = stripe_of(path);
        // In range: stripe_of answers less than STRIPES.
        let turn = match self.stripes.get(stripe) {
            Some(turn) => turn.clone().lock_owned().await,
            None => return Err(Error::internal("a stripe out of range")),
        };
        self.blocking(name, move |directory| {
            let _turn = turn;
            let _lock = directory.lock(stripe)?;
            work(directory)
        })
        .await
    }
}

fn stripe_of(path: &ObjectPath) -> usize {
    (xxhash_rust::xxh3::xxh3_64(path.as_str().as_bytes()) % STRIPES as u64) as usize
}

/// A thread that panicked in the midst of a write leaves its outcome unknown.
fn unknown_if_internal(error: Error) -> Error {
    if error.kind() == ErrorKind::Internal { error.with_kind(ErrorKind::Unknown) } else { error }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put(&self, path: &ObjectPath, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        let name = path.clone();
        match mode {
            PutMode::Create => self.blocking("store-create", move |dir| dir.create(&name, &body)).await,
            PutMode::Replace(expected) => {
                self.locked("store-replace", path, move |dir| dir.replace(&name, &body, &expected)).await
            }
        }
        .map_err(unknown_if_internal)
    }

    async fn get(&self, path: &ObjectPath, options: GetOptions) -> Result<Object> {
        // Measured: 6 µs for 16 KiB from the page cache; the way to another thread and back costs 25 µs more.
        if let Some(result) = self.directory.get_cached(path, &options, INLINE_BYTES) {
            return result;
        }
        let name = path.clone();
        self.blocking("store-get", move |dir| dir.get(&name, &options)).await
    }

    async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        let name = path.clone();
        self.blocking("store-head", move |dir| dir.head(&name)).await
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectPath>, limit: usize) -> Result<Vec<ObjectMeta>> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.blocking("store-list", move |dir| dir.list(&prefix, after.as_ref(), limit)).await
    }

    async fn delete(&self, path: &ObjectPath) -> Result<()> {
        let name = path.clone();
        self.locked("store-delete", path, move |dir| dir.delete(&name)).await.map_err(unknown_if_internal)
    }

    async fn copy(&self, from: &ObjectPath, to: &ObjectPath, if_tag: &ObjectTag) -> Result<PutOutcome> {
        let (from, to, tag) = (from.clone(), to.clone(), if_tag.clone());
        self.blocking("store-copy", move |dir| dir.copy(&from, &to, &tag)).await.map_err(unknown_if_internal)
    }

    async fn upload(&self, path: &ObjectPath) -> Result<Box<dyn Upload>> {
        let draft = self.blocking("store-upload", Directory::draft).await?;
        Ok(Box::new(LocalUpload { store: self.clone(), path: path.clone(), draft: Some(draft) }))
    }

    async fn date_micros(&self) -> Result<i64> {
        self.blocking("store-date", Directory::date_micros).await
    }

    fn local_path(&self, path: &ObjectPath) -> Option<PathBuf> {
        self.directory.local_path(path)
    }
}

/// A file on its way. Dropped, it goes with its temporary name.
struct LocalUpload {
    store: LocalStore,
    path: ObjectPath,
    /// `None` after an error, or while a part is being written by a future that was dropped.
    draft: Option<Draft>,
}

fn broken() -> Error {
    Error::unavailable("an earlier part of the upload failed; begin it again")
}

#[async_trait]
impl Upload for LocalUpload {
    async fn write(&mut self, part: Bytes) -> Result<()> {
        let mut draft = self.draft.take().ok_or_else(broken)?;
        let work = move |_: &Directory| draft.write_all(&part).map(|()| draft);
        self.draft = Some(self.store.blocking("store-upload-part", work).await?);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<PutOutcome> {
        let draft = self.draft.take().ok_or_else(broken)?;
        let path = self.path.clone();
        let work = move |dir: &Directory| dir.publish(draft, &path);
        self.store.blocking("store-upload-finish", work).await.map_err(unknown_if_internal)
    }

    async fn abort(self: Box<Self>) {}
}
