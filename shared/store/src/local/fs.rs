//! What the local store needs of a file system: a seam, so that a test can take the power away.

use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// What is known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) size: u64,
    /// Time of the last change of the bytes, as the writer or whoever set it says; nanoseconds since the epoch.
    pub(crate) modified_nanos: i128,
    /// Time of the last change of anything, which only the kernel sets; microseconds since the epoch.
    pub(crate) changed_micros: i64,
    /// How many names the file has.
    pub(crate) links: u64,
    /// Device and inode: the same file under another name.
    pub(crate) inode: (u64, u64),
    pub(crate) is_file: bool,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) is_dir: bool,
}

/// The calls of a file system, each as the kernel gives it: nothing is durable before a `sync`.
pub(crate) trait Fs: fmt::Debug + Send + Sync + 'static {
    /// Makes a new file, read-only for everybody who opens it later.
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;
    /// Opens a file for reading; a symbolic link is not followed.
    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// Fails if `to` exists.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes the place of `to` if that exists.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn unlink(&self, path: &Path) -> io::Result<()>;
    fn make_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Files and directories; symbolic links and whatever else there is are left out.
    fn entries(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// Waits for the exclusive lock of a file, which is made if need be; dropping the guard lets it go.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send>>;
}

/// An open file.
pub(crate) trait FsFile: Send + Sync {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes bytes and times durable.
    fn sync(&self) -> io::Result<()>;
    fn stat(&self) -> io::Result<Stat>;
    /// Exactly `len` bytes.
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>>;
    /// Exactly `len` bytes, if they can be had without waiting for the disk.
    fn read_cached(&self, offset: u64, len: usize) -> Option<Vec<u8>>;
    fn set_modified(&self, nanos: i128) -> io::Result<()>;
    fn make_read_only(&self) -> io::Result<()>;
}

/// The machine's file system.
#[derive(Debug)]
pub(crate) struct RealFs;

impl Fs for RealFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let flags = rustix::fs::OFlags::NOFOLLOW.bits();
        let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        Ok(Stat::of(&std::fs::symlink_metadata(path)?))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn entries(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() || kind.is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                entries.push(Entry { name, is_dir: kind.is_dir() });
            }
        }
        Ok(entries)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(path)?;
        loop {
            match rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Box::new(file)),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Stat {
    fn of(meta: &std::fs::Metadata) -> Self {
        Self {
            size: meta.len(),
            modified_nanos: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
            changed_micros: meta.ctime().saturating_mul(1_000_000).saturating_add(meta.ctime_nsec() / 1_000),
            links: meta.nlink(),
            inode: (meta.dev(), meta.ino()),
            is_file: meta.is_file(),
        }
    }
}

#[derive(Debug)]
struct RealFile(File);

impl FsFile for RealFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        // Not sync_data: the tag rests on the time of modification, which that call may leave behind.
        self.0.sync_all()
    }

    fn stat(&self) -> io::Result<Stat> {
        Ok(Stat::of(&self.0.metadata()?))
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = offset + bytes.len() as u64;
            // Read into the room that is there, without clearing it first. The allocator may give more than was asked
            // for, so what is read beyond the end is cut.
            match rustix::io::pread(&self.0, rustix::buffer::spare_capacity(&mut bytes), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        bytes.truncate(len);
        Ok(bytes)
    }

    #[cfg(target_os = "linux")]
    fn read_cached(&self, offset: u64, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        let read = rustix::io::preadv2(
            &self.0,
            &mut [io::IoSliceMut::new(&mut bytes)],
            offset,
            rustix::io::ReadWriteFlags::NOWAIT,
        );
        (read == Ok(len)).then_some(bytes)
    }

    #[cfg(not(target_os = "linux"))]
    fn read_cached(&self, _offset: u64, _len: usize) -> Option<Vec<u8>> {
        None
    }

    fn set_modified(&self, nanos: i128) -> io::Result<()> {
        let nanos = u64::try_from(nanos).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.0.set_modified(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos))
    }

    fn make_read_only(&self) -> io::Result<()> {
        self.0.set_permissions(Permissions::from_mode(0o444))
    }
}
