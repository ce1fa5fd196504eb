//! A disk that forgets what was not synced.
//!
//! The model is as unkind as a file system may be. What a process sees is one thing, what a loss of power leaves another:
//! a file's bytes and times are what its last sync left, or, by the seed, all or a part of what came later; each entry of
//! a directory that changed since that directory's sync is there or not, by the seed and independently of all others.
//!
//! Processes have a handle each, and one can die between any two of its calls while the others go on.

use crate::LocalStore;
use crate::local::fs::{Entry, Fs, FsFile, Stat};
use nacre_runtime::{Context, Ids, SeededIds};
use nacre_types::Result;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A kind of sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Of a file's bytes.
    Files,
    /// Of a directory's entries.
    Directories,
}

/// A disk in memory.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    unlocked: Condvar,
}

#[derive(Debug)]
struct State {
    files: BTreeMap<u64, FileState>,
    dirs: BTreeMap<u64, DirState>,
    next: u64,
    /// Ticks with every call, so that times differ; a test may hold it still.
    nanos: i128,
    frozen: bool,
    /// Bytes that may still be written; `None` = any number.
    room: Option<usize>,
    /// Syncs that do nothing.
    skipped: Option<Sync>,
    locked: HashSet<PathBuf>,
}

const ROOT: u64 = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(u64),
    Dir(u64),
}

#[derive(Debug, Default)]
struct DirState {
    seen: BTreeMap<String, Node>,
    synced: BTreeMap<String, Node>,
}

#[derive(Debug, Clone, Default)]
struct FileState {
    seen: (Vec<u8>, i128),
    /// `None` = never synced.
    synced: Option<(Vec<u8>, i128)>,
    changed: i128,
}

impl Default for State {
    fn default() -> Self {
        Self {
            files: BTreeMap::new(),
            dirs: BTreeMap::from([(ROOT, DirState::default())]),
            next: 1,
            nanos: 1_700_000_000_000_000_000,
            frozen: false,
            room: None,
            skipped: None,
            locked: HashSet::new(),
        }
    }
}

fn absent() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn names(path: &Path) -> Vec<String> {
    path.iter().filter(|part| *part != "/").map(|part| part.to_string_lossy().into_owned()).collect()
}

impl State {
    fn tick(&mut self) -> i128 {
        if !self.frozen {
            self.nanos += 1_000;
        }
        self.nanos
    }

    fn node(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Dir(ROOT);
        for name in names(path) {
            let Node::Dir(dir) = node else { return Err(io::ErrorKind::NotADirectory.into()) };
            node = *self.dirs.get(&dir).and_then(|dir| dir.seen.get(&name)).ok_or_else(absent)?;
        }
        Ok(node)
    }

    /// The directory that holds `path`, and the last name.
    fn parent(&mut self, path: &Path) -> io::Result<(&mut DirState, String)> {
        let name = names(path).pop().ok_or_else(absent)?;
        let Node::Dir(dir) = self.node(path.parent().ok_or_else(absent)?)? else {
            return Err(io::ErrorKind::NotADirectory.into());
        };
        Ok((self.dirs.get_mut(&dir).ok_or_else(absent)?, name))
    }

    fn stat(&self, node: Node) -> Stat {
        let (size, modified, changed, links, inode) = match node {
            Node::Dir(dir) => (0, 0, 0, 2, dir),
            Node::File(file) => {
                let links =
                    self.dirs.values().flat_map(|dir| dir.seen.values()).filter(|it| **it == node).count();
                let state = self.files.get(&file).cloned().unwrap_or_default();
                (state.seen.0.len() as u64, state.seen.1, state.changed, links as u64, file)
            }
        };
        Stat {
            size,
            modified_nanos: modified,
            changed_micros: i64::try_from(changed / 1_000).unwrap_or(i64::MAX),
            links,
            inode: (1, inode),
            is_file: matches!(node, Node::File(_)),
        }
    }
}

impl Disk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A process that uses the disk.
    pub fn process(&self) -> PowerLossFs {
        PowerLossFs { disk: self.clone(), left: Arc::new(Mutex::new(None)), calls: Arc::default() }
    }

    /// Takes the power away: what was synced stays, the rest by the seed. Processes must be dropped before.
    pub fn lose_power(&self, seed: u64) {
        let ids = SeededIds::new(seed);
        let coin = || ids.random_u64().is_multiple_of(2);
        let mut state = self.0.state.lock();
        for dir in state.dirs.values_mut() {
            let mut left = dir.synced.clone();
            let changed: HashSet<String> = dir.seen.keys().chain(dir.synced.keys()).cloned().collect();
            let mut changed: Vec<String> = changed.into_iter().collect();
            changed.sort_unstable();
            for name in changed {
                if dir.seen.get(&name) != dir.synced.get(&name) && coin() {
                    match dir.seen.get(&name) {
                        Some(node) => left.insert(name, *node),
                        None => left.remove(&name),
                    };
                }
            }
            dir.seen = left.clone();
            dir.synced = left;
        }
        for file in state.files.values_mut() {
            let mut left = file.synced.clone().unwrap_or_default();
            if file.synced.as_ref() != Some(&file.seen) {
                match ids.random_u64() % 3 {
                    0 => {}
                    1 => left = file.seen.clone(),
                    _ => left = (file.seen.0[..file.seen.0.len() / 2].to_vec(), file.seen.1),
                }
            }
            file.seen = left.clone();
            file.synced = Some(left);
        }
        state.locked.clear();
    }

    /// Lets syncs of one kind say that they are done and do nothing, as where the code forgot them: a test that does not
    /// fail then shows nothing.
    pub fn skip_syncs(&self, of: Sync) {
        self.0.state.lock().skipped = Some(of);
    }

    /// Lets only so many more bytes be written.
    pub fn set_room(&self, bytes: usize) {
        self.0.state.lock().room = Some(bytes);
    }

    /// How many names there are below the folder, among them those of no object.
    pub fn names_in(&self, folder: &str) -> usize {
        let state = self.0.state.lock();
        match state.node(&Path::new("/data").join(folder)) {
            Ok(Node::Dir(dir)) => state.dirs.get(&dir).map_or(0, |dir| dir.seen.len()),
            _ => 0,
        }
    }

    /// Lets times stand still, as the kernel's do between two ticks.
    pub fn freeze_time(&self, frozen: bool) {
        self.0.state.lock().frozen = frozen;
    }
}

/// A process's view of a [`Disk`].
#[derive(Debug, Clone)]
pub struct PowerLossFs {
    disk: Disk,
    /// Calls until the process dies; `None` = it lives.
    left: Arc<Mutex<Option<u64>>>,
    calls: Arc<Mutex<u64>>,
}

impl PowerLossFs {
    /// Opens the local store of this process at `/data`.
    ///
    /// # Errors
    /// `Unavailable` if the process has died.
    pub fn open(&self, ctx: &Context) -> Result<LocalStore> {
        LocalStore::on(Arc::new(self.clone()), Path::new("/data"), ctx)
    }

    /// The process dies after so many more calls: all later ones fail and have no effect.
    pub fn die_after(&self, calls: u64) {
        *self.left.lock() = Some(calls);
    }

    /// Whether it has died.
    pub fn is_dead(&self) -> bool {
        *self.left.lock() == Some(0)
    }

    /// How many calls it made.
    pub fn calls(&self) -> u64 {
        *self.calls.lock()
    }

    fn call<T>(&self, work: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.alive()?;
        work(&mut self.disk.0.state.lock())
    }

    fn alive(&self) -> io::Result<()> {
        if let Some(left) = &mut *self.left.lock() {
            if *left == 0 {
                return Err(io::Error::other("the process has died"));
            }
            *left -= 1;
        }
        *self.calls.lock() += 1;
        Ok(())
    }
}

impl Fs for PowerLossFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let file = self.call(|state| {
            let (file, now) = (state.next, state.tick());
            let (dir, name) = state.parent(path)?;
            if dir.seen.contains_key(&name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            dir.seen.insert(name, Node::File(file));
            state.next += 1;
            state.files.insert(file, FileState { seen: (Vec::new(), now), synced: None, changed: now });
            Ok(file)
        })?;
        Ok(Box::new(PowerLossFile { fs: self.clone(), file }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        match self.call(|state| state.node(path))? {
            Node::File(file) => Ok(Box::new(PowerLossFile { fs: self.clone(), file })),
            Node::Dir(_) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.call(|state| state.node(path).map(|node| state.stat(node)))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|state| {
            let (node, now) = (state.node(from)?, state.tick());
            let (dir, name) = state.parent(to)?;
            if dir.seen.contains_key(&name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            dir.seen.insert(name, node);
            if let Node::File(file) = node
                && let Some(file) = state.files.get_mut(&file)
            {
                file.changed = now;
            }
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|state| {
            let node = state.node(from)?;
            let (dir, name) = state.parent(to)?;
            dir.seen.insert(name, node);
            let (dir, name) = state.parent(from)?;
            dir.seen.remove(&name);
            Ok(())
        })
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.call(|state| {
            let (dir, name) = state.parent(path)?;
            match dir.seen.get(&name) {
                Some(Node::File(_)) => dir.seen.remove(&name),
                Some(Node::Dir(_)) => return Err(io::ErrorKind::IsADirectory.into()),
                None => return Err(absent()),
            };
            Ok(())
        })
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.call(|state| {
            let made = state.next;
            let (dir, name) = state.parent(path)?;
            if dir.seen.contains_key(&name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            dir.seen.insert(name, Node::Dir(made));
            state.next += 1;
            state.dirs.insert(made, DirState::default());
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call(|state| {
            let Node::Dir(dir) = state.node(path)? else { return Err(io::ErrorKind::NotADirectory.into()) };
            let is_skipped = state.skipped == Some(Sync::Directories);
            if let Some(dir) = state.dirs.get_mut(&dir).filter(|_| !is_skipped) {
                dir.synced = dir.seen.clone();
            }
            Ok(())
        })
    }

    fn entries(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.call(|state| {
            let Node::Dir(dir) = state.node(path)? else { return Err(io::ErrorKind::NotADirectory.into()) };
            let entry = |(name, node): (&String, &Node)| Entry {
                name: name.clone(),
                is_dir: matches!(node, Node::Dir(_)),
            };
            Ok(state.dirs.get(&dir).map(|dir| dir.seen.iter().map(entry).collect()).unwrap_or_default())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send>> {
        self.alive()?;
        let mut state = self.disk.0.state.lock();
        while state.locked.contains(path) {
            self.disk.0.unlocked.wait(&mut state);
        }
        state.locked.insert(path.to_owned());
        Ok(Box::new(Guard { disk: self.disk.clone(), path: path.to_owned() }))
    }
}

struct Guard {
    disk: Disk,
    path: PathBuf,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.disk.0.state.lock().locked.remove(&self.path);
        self.disk.0.unlocked.notify_all();
    }
}

struct PowerLossFile {
    fs: PowerLossFs,
    file: u64,
}

impl PowerLossFile {
    fn with<T>(&self, work: impl FnOnce(&mut FileState, i128) -> io::Result<T>) -> io::Result<T> {
        self.fs.call(|state| {
            let now = state.tick();
            work(state.files.get_mut(&self.file).ok_or_else(absent)?, now)
        })
    }
}

impl FsFile for PowerLossFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.fs.call(|state| {
            let now = state.tick();
            let written = state.room.map_or(bytes.len(), |room| room.min(bytes.len()));
            state.room = state.room.map(|room| room - written);
            let file = state.files.get_mut(&self.file).ok_or_else(absent)?;
            file.seen.0.extend_from_slice(&bytes[..written]);
            (file.seen.1, file.changed) = (now, now);
            if written < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.fs.call(|state| {
            let is_skipped = state.skipped == Some(Sync::Files);
            let file = state.files.get_mut(&self.file).ok_or_else(absent)?;
            if !is_skipped {
                file.synced = Some(file.seen.clone());
            }
            state.tick();
            Ok(())
        })
    }

    fn stat(&self) -> io::Result<Stat> {
        self.fs.call(|state| Ok(state.stat(Node::File(self.file))))
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.with(|file, _| {
            let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
            let bytes = file.seen.0.get(start..start.saturating_add(len));
            bytes.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        })
    }

    fn read_cached(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        self.read_at(offset, len).ok()
    }

    fn set_modified(&self, nanos: i128) -> io::Result<()> {
        self.with(|file, _| {
            file.seen.1 = nanos;
            Ok(())
        })
    }

    fn make_read_only(&self) -> io::Result<()> {
        self.with(|_, _| Ok(()))
    }
}
