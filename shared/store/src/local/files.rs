//! The steps of the local store, on a thread that may block. The module's head argues them.

use super::fs::{Fs, FsFile, Stat};
use crate::memory::{changed, check_range, not_found};
use crate::{GetOptions, Object, ObjectMeta, ObjectPath, ObjectTag, PutOutcome};
use nacre_runtime::{Context, Ids};
use nacre_types::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A temporary file this old was left by a crash; microseconds.
const SWEEP_MICROS: i64 = 24 * 3600 * 1_000_000;
/// How many directories and links are remembered as durable; beyond it they are forgotten, at the price of a sync each.
const REMEMBERED: usize = 1 << 16;

/// Mistakes that tests make on purpose, to see that a suite notices.
#[cfg(test)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flaws {
    pub(crate) no_file_sync: bool,
    pub(crate) no_directory_sync: bool,
    pub(crate) no_parent_sync: bool,
    pub(crate) trust_two_names: bool,
    pub(crate) rename_to_create: bool,
    pub(crate) no_lock: bool,
    pub(crate) times_may_repeat: bool,
}

/// Path, inode and time of modification.
type SyncedFile = (PathBuf, (u64, u64), i128);

/// The directory and what this process knows of it.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) root: PathBuf,
    ids: Arc<dyn Ids>,
    /// Directories whose own name, and those above it, this process has synced.
    durable_dirs: Mutex<HashSet<PathBuf>>,
    /// Files with two names that this process has synced. Their time is part of it: inodes are used again.
    durable_files: Mutex<HashSet<SyncedFile>>,
    #[cfg(test)]
    pub(super) flaws: Mutex<Flaws>,
}

macro_rules! flawed {
    ($self:expr, $flaw:ident) => {{
        #[cfg(test)]
        {
            $self.flaws.lock().$flaw
        }
        #[cfg(not(test))]
        {
            false
        }
    }};
}

/// A file that has only a temporary name; dropped, it loses that too.
pub(crate) struct Draft {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    pub(super) file: Box<dyn FsFile>,
    /// The object may be seen and nobody knows for how long: two names say so to its readers.
    in_doubt: bool,
}

impl Draft {
    pub(super) fn new(fs: &Arc<dyn Fs>, path: PathBuf, file: Box<dyn FsFile>) -> Self {
        Self { fs: fs.clone(), path, file, in_doubt: false }
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .map_err(|error| certainly_not("writing a temporary file", &self.path, &error))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.in_doubt {
            // After a rename there is nothing to unlink; after a failure the sweep comes by.
            let _ = self.fs.unlink(&self.path);
        }
    }
}

/// A failure before anything could be seen.
pub(super) fn certainly_not(what: &str, path: &Path, error: &io::Error) -> Error {
    let detail = format!("{what} {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Error::unavailable(format!("{detail}; make room on the disk")).with_code("disk-full")
        }
        _ => Error::unavailable(detail).with_code("store-io"),
    }
}

/// A failure of the call that makes something visible, or after it.
fn in_doubt(what: &str, path: &Path, error: &io::Error) -> Error {
    certainly_not(what, path, error).with_kind(ErrorKind::Unknown)
}

/// Whether a failed link or rename certainly did nothing. A file server may lose the answer to one that it did.
fn refused(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::StorageFull
            | K::QuotaExceeded
            | K::PermissionDenied
            | K::ReadOnlyFilesystem
            | K::NotFound
            | K::NotADirectory
            | K::IsADirectory
            | K::TooManyLinks
            | K::CrossesDevices
            | K::InvalidFilename
            | K::Unsupported
    )
}

fn folder_in_the_way(path: &ObjectPath) -> Error {
    Error::invalid(format!("object {path}: a folder has that name; a name is either an object or a prefix"))
        .with_code("object-path")
}

pub(super) fn tag_of(stat: &Stat) -> ObjectTag {
    ObjectTag { etag: format!("{:x}-{:x}", stat.size, stat.modified_nanos), version_id: None }
}

pub(super) fn meta_of(path: &ObjectPath, stat: &Stat) -> ObjectMeta {
    ObjectMeta {
        path: path.clone(),
        size: stat.size,
        tag: tag_of(stat),
        modified_micros: stat.changed_micros,
    }
}

impl Directory {
    pub(crate) fn open(fs: Arc<dyn Fs>, root: &Path, ctx: &Context) -> Result<Self> {
        let this = Self {
            fs,
            root: root.to_owned(),
            ids: ctx.ids.clone(),
            durable_dirs: Mutex::default(),
            durable_files: Mutex::default(),
            #[cfg(test)]
            flaws: Mutex::default(),
        };
        this.make_root().map_err(|error| certainly_not("making the data directory", root, &error))?;
        if let Ok(now) = this.date_micros() {
            this.sweep(now);
        }
        Ok(this)
    }

    pub(crate) fn local_path(&self, path: &ObjectPath) -> Option<PathBuf> {
        Some(self.root.join(path.as_str()))
    }

    fn make_root(&self) -> io::Result<()> {
        let mut missing: Vec<&Path> = Vec::new();
        for dir in self.root.ancestors() {
            match self.fs.stat(dir) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(dir),
                Err(error) => return Err(error),
            }
        }
        let made = !missing.is_empty();
        for dir in missing.iter().rev() {
            self.make_dir(dir)?;
            if let Some(parent) = dir.parent() {
                self.fs.sync_dir(parent)?;
            }
        }
        if !made && let Some(parent) = self.root.parent() {
            // Another process may have made it a moment ago. A parent that may not be read is an old mount point.
            let _ = self.fs.sync_dir(parent);
        }
        self.make_dir(&self.root.join(".tmp"))?;
        self.make_dir(&self.root.join(".locks"))?;
        self.fs.sync_dir(&self.root)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        match self.fs.make_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// Unlinks temporary files that a crash left. Whatever fails here is swept another time.
    pub(super) fn sweep(&self, now_micros: i64) {
        let temporary = self.root.join(".tmp");
        let Ok(entries) = self.fs.entries(&temporary) else { return };
        for entry in entries {
            let path = temporary.join(&entry.name);
            if let Ok(stat) = self.fs.stat(&path)
                && stat.is_file
                && stat.changed_micros < now_micros.saturating_sub(SWEEP_MICROS)
            {
                let _ = self.fs.unlink(&path);
            }
        }
    }

    pub(crate) fn date_micros(&self) -> Result<i64> {
        let draft = self.draft()?;
        let stat = draft.file.stat();
        Ok(stat.map_err(|error| certainly_not("reading the date from", &draft.path, &error))?.changed_micros)
    }

    pub(crate) fn lock(&self, stripe: usize) -> Result<Box<dyn Send>> {
        if flawed!(self, no_lock) {
            return Ok(Box::new(()));
        }
        let path = self.root.join(".locks").join(format!("{stripe:02x}"));
        self.fs.lock(&path).map_err(|error| certainly_not("locking", &path, &error))
    }

    pub(super) fn temporary_name(&self) -> PathBuf {
        self.root.join(".tmp").join(format!("{:032x}", self.ids.random_u128()))
    }

    /// A new temporary file.
    pub(crate) fn draft(&self) -> Result<Draft> {
        let path = self.temporary_name();
        match self.fs.create(&path) {
            Ok(file) => Ok(Draft::new(&self.fs, path, file)),
            Err(error) => Err(certainly_not("making a temporary file", &path, &error)),
        }
    }

    pub(crate) fn create(&self, path: &ObjectPath, body: &[u8]) -> Result<PutOutcome> {
        // A loser should not pay for a flush. The link below decides all the same.
        if self.fs.stat(&self.file_of(path)).is_ok_and(|stat| stat.is_file) {
            return self.lost_to_another(path);
        }
        let mut draft = self.draft()?;
        draft.write_all(body)?;
        self.publish(draft, path)
    }

    pub(super) fn file_of(&self, path: &ObjectPath) -> PathBuf {
        self.root.join(path.as_str())
    }

    /// Steps 1 (its sync) to 4 of a create.
    pub(crate) fn publish(&self, mut draft: Draft, path: &ObjectPath) -> Result<PutOutcome> {
        let done = self.publish_draft(&draft, path);
        draft.in_doubt = done.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unknown);
        done
    }

    fn publish_draft(&self, draft: &Draft, path: &ObjectPath) -> Result<PutOutcome> {
        self.sync_draft(draft)?;
        let target = self.file_of(path);
        let mut linked = self.name(&draft.path, &target);
        if linked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            self.make_parents(&target)?;
            linked = self.name(&draft.path, &target);
        }
        match linked {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // A file server that repeats a request whose answer was lost says so of one's own link.
                let own = draft.file.stat().map(|stat| stat.inode);
                match self.fs.stat(&target) {
                    Ok(stat) if own.is_ok_and(|own| own == stat.inode) => {}
                    Ok(stat) if !stat.is_file => return Err(folder_in_the_way(path)),
                    _ => return self.lost_to_another(path),
                }
            }
            Err(error) if refused(&error) => return Err(certainly_not("naming", &target, &error)),
            Err(error) => return Err(in_doubt("naming", &target, &error)),
        }
        self.make_durable(&target).map_err(|error| in_doubt("syncing the directory of", &target, &error))?;
        let stat = draft.file.stat().map_err(|error| in_doubt("reading the tag of", &target, &error))?;
        Ok(PutOutcome::Stored(tag_of(&stat)))
    }

    pub(super) fn sync_draft(&self, draft: &Draft) -> Result<()> {
        if flawed!(self, no_file_sync) {
            return Ok(());
        }
        draft.file.sync().map_err(|error| certainly_not("syncing a temporary file", &draft.path, &error))
    }

    fn name(&self, from: &Path, to: &Path) -> io::Result<()> {
        if flawed!(self, rename_to_create) {
            return self.fs.rename(from, to);
        }
        self.fs.link(from, to)
    }

    fn lost_to_another(&self, path: &ObjectPath) -> Result<PutOutcome> {
        match self.head(path) {
            Ok(_) => Ok(PutOutcome::AlreadyExists),
            // Deleted meanwhile: it did exist.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(PutOutcome::AlreadyExists),
            Err(error) => Err(error),
        }
    }

    fn make_parents(&self, target: &Path) -> Result<()> {
        let failed = |dir: &Path, error: &io::Error| certainly_not("making the directory", dir, error);
        let mut dirs: Vec<&Path> = target.ancestors().skip(1).take_while(|dir| *dir != self.root).collect();
        dirs.reverse();
        for dir in dirs {
            self.make_dir(dir).map_err(|error| failed(dir, &error))?;
        }
        Ok(())
    }

    /// Makes the name of `target` durable, and those of the directories above it.
    fn make_durable(&self, target: &Path) -> io::Result<()> {
        let Some(dir) = target.parent() else { return Ok(()) };
        if !flawed!(self, no_parent_sync) {
            self.make_parents_durable(dir)?;
        }
        if flawed!(self, no_directory_sync) { Ok(()) } else { self.fs.sync_dir(dir) }
    }

    fn make_parents_durable(&self, dir: &Path) -> io::Result<()> {
        if self.durable_dirs.lock().contains(dir) {
            return Ok(());
        }
        // From the root down: a directory is remembered once those above it are durable.
        let mut dirs: Vec<&Path> = dir.ancestors().take_while(|dir| *dir != self.root).collect();
        dirs.reverse();
        for dir in dirs {
            if self.durable_dirs.lock().contains(dir) {
                continue;
            }
            if let Some(parent) = dir.parent() {
                self.fs.sync_dir(parent)?;
            }
            remember(&self.durable_dirs, dir.to_owned());
        }
        Ok(())
    }

    /// Before a file is shown: see "A name is seen before it is durable".
    fn settle(&self, file: &Path, stat: &Stat) -> Result<()> {
        if self.is_settled(file, stat) || flawed!(self, trust_two_names) {
            return Ok(());
        }
        self.make_durable(file).map_err(|error| certainly_not("syncing the directory of", file, &error))?;
        remember(&self.durable_files, (file.to_owned(), stat.inode, stat.modified_nanos));
        Ok(())
    }

    fn is_settled(&self, file: &Path, stat: &Stat) -> bool {
        let known =
            || self.durable_files.lock().contains(&(file.to_owned(), stat.inode, stat.modified_nanos));
        stat.links <= 1 || known()
    }

    pub(crate) fn replace(&self, path: &ObjectPath, body: &[u8], expected: &ObjectTag) -> Result<PutOutcome> {
        let target = self.file_of(path);
        let old = match self.fs.stat(&target) {
            Ok(stat) if stat.is_file => stat,
            Ok(_) => return Ok(PutOutcome::Mismatch),
            Err(error) if is_absence(&error) => return Ok(PutOutcome::Mismatch),
            Err(error) => return Err(certainly_not("reading the tag of", &target, &error)),
        };
        if tag_of(&old) != *expected {
            return Ok(PutOutcome::Mismatch);
        }
        let mut draft = self.draft()?;
        draft.write_all(body)?;
        if !flawed!(self, times_may_repeat) {
            set_time_after(&draft, old.modified_nanos)?;
        }
        self.sync_draft(&draft)?;
        // The second name says until the end that the first is not known to be durable.
        let second = self.temporary_name();
        self.fs.link(&draft.path, &second).map_err(|error| certainly_not("naming", &second, &error))?;
        let done = self.put_in_place(&draft, &target);
        if !done.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unknown) {
            let _ = self.fs.unlink(&second);
        }
        done
    }

    fn put_in_place(&self, draft: &Draft, target: &Path) -> Result<PutOutcome> {
        match self.fs.rename(&draft.path, target) {
            Ok(()) => {}
            Err(error) if refused(&error) => return Err(certainly_not("replacing", target, &error)),
            Err(error) => return Err(in_doubt("replacing", target, &error)),
        }
        self.make_durable(target).map_err(|error| in_doubt("syncing the directory of", target, &error))?;
        let stat = draft.file.stat().map_err(|error| in_doubt("reading the tag of", target, &error))?;
        Ok(PutOutcome::Stored(tag_of(&stat)))
    }

    pub(crate) fn delete(&self, path: &ObjectPath) -> Result<()> {
        let target = self.file_of(path);
        match self.fs.unlink(&target) {
            Ok(()) => Ok(()),
            Err(error) if is_absence(&error) || error.kind() == io::ErrorKind::IsADirectory => Ok(()),
            Err(error) if refused(&error) => Err(certainly_not("deleting", &target, &error)),
            Err(error) => Err(in_doubt("deleting", &target, &error)),
        }
    }

    fn open_file(&self, path: &ObjectPath) -> Result<(Box<dyn FsFile>, Stat)> {
        let target = self.file_of(path);
        let opened = self.fs.open(&target).and_then(|file| file.stat().map(|stat| (file, stat)));
        match opened {
            Ok((file, stat)) if stat.is_file => Ok((file, stat)),
            Ok(_) => Err(not_found(path)),
            Err(error) if is_absence(&error) => Err(not_found(path)),
            Err(error) => Err(certainly_not("opening", &target, &error)),
        }
    }

    /// The answer if it can be had without waiting for the disk and is at most `most` bytes long.
    pub(crate) fn get_cached(
        &self,
        path: &ObjectPath,
        options: &GetOptions,
        most: u64,
    ) -> Option<Result<Object>> {
        let (file, stat) = match self.open_file(path) {
            Ok(opened) => opened,
            Err(error) => return Some(Err(error)),
        };
        let range = options.range.clone().unwrap_or(0..stat.size);
        if range.end.saturating_sub(range.start) > most || !self.is_settled(&self.file_of(path), &stat) {
            return None;
        }
        let read = |start, len| Ok(file.read_cached(start, len));
        read_object(path, options, &*file, &stat, read).transpose()
    }

    pub(crate) fn get(&self, path: &ObjectPath, options: &GetOptions) -> Result<Object> {
        let (file, stat) = self.open_file(path)?;
        self.settle(&self.file_of(path), &stat)?;
        let read = |start, len| file.read_at(start, len).map(Some);
        let object = read_object(path, options, &*file, &stat, read)?;
        object.ok_or_else(|| Error::internal("a read that may wait answered nothing"))
    }

    pub(crate) fn head(&self, path: &ObjectPath) -> Result<ObjectMeta> {
        let target = self.file_of(path);
        match self.fs.stat(&target) {
            Ok(stat) if stat.is_file => {
                self.settle(&target, &stat)?;
                Ok(meta_of(path, &stat))
            }
            Ok(_) => Err(not_found(path)),
            Err(error) if is_absence(&error) => Err(not_found(path)),
            Err(error) => Err(certainly_not("reading the tag of", &target, &error)),
        }
    }
}

pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn remember<T: Eq + std::hash::Hash>(known: &Mutex<HashSet<T>>, item: T) {
    let mut known = known.lock();
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(item);
}

/// Sets the file's time after `old` by the least that the file system can tell apart, unless it is later anyway.
fn set_time_after(draft: &Draft, old: i128) -> Result<()> {
    let failed = |error: io::Error| certainly_not("setting the time of", &draft.path, &error);
    for step in [0, 1, 1_000, 1_000_000, 1_000_000_000, 2_000_000_000] {
        if step > 0 {
            draft.file.set_modified(old + step).map_err(failed)?;
        }
        if draft.file.stat().map_err(failed)?.modified_nanos > old {
            return Ok(());
        }
    }
    Err(Error::unavailable(format!(
        "{}: the file system keeps no times of modification",
        draft.path.display()
    ))
    .with_code("store-io"))
}

/// `Ok(None)` where `read` had nothing to give.
fn read_object(
    path: &ObjectPath,
    options: &GetOptions,
    file: &dyn FsFile,
    stat: &Stat,
    read: impl FnOnce(u64, usize) -> io::Result<Option<Vec<u8>>>,
) -> Result<Option<Object>> {
    let verify = |stat: &Stat| match &options.if_tag {
        Some(expected) if *expected != tag_of(stat) => Err(changed(path, expected, Some(&tag_of(stat)))),
        _ => Ok(()),
    };
    verify(stat)?;
    let range = options.range.clone().unwrap_or(0..stat.size);
    check_range(path, &range, stat.size)?;
    let failed = |error: io::Error| {
        let kind = error.kind();
        let error = certainly_not("reading", Path::new(path.as_str()), &error);
        // Shorter than a moment ago: somebody cut it.
        if kind == io::ErrorKind::UnexpectedEof {
            error.with_kind(ErrorKind::Corrupt).with_code("object-changed")
        } else {
            error
        }
    };
    let len = usize::try_from(range.end - range.start)
        .map_err(|_| Error::invalid(format!("object {path}: the range does not fit into memory")))?;
    let Some(bytes) = read(range.start, len).map_err(failed)? else { return Ok(None) };
    if options.if_tag.is_some() {
        // Written to while it was read.
        verify(&file.stat().map_err(failed)?)?;
    }
    Ok(Some(Object { bytes: bytes.into(), meta: meta_of(path, stat) }))
}
