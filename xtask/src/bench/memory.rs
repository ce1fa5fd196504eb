//! A hard bound on the memory of a process and its children, by a control group, where this machine lets us make one.
//!
//! `ulimit -v` would bound addresses, of which threads and allocators reserve far more than they use, and `ulimit -m` is
//! not heeded by Linux at all. A group counts what is used, the page cache too; its peak without that is told beside.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

static GROUPS: AtomicU64 = AtomicU64::new(0);

/// The memory of everything that is run in it.
pub(crate) struct Group {
    folder: PathBuf,
    used: &'static str,
}

impl Group {
    /// A group of at most `bytes`; `None` where none can be made (not root, or a container that hides them).
    pub(crate) fn new(bytes: Option<u64>) -> Option<Self> {
        let name = format!("nacre-bench-{}-{}", std::process::id(), GROUPS.fetch_add(1, Ordering::Relaxed));
        // Both versions of control groups.
        for (base, limit, used) in [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "total_rss "),
            ("/sys/fs/cgroup", "memory.max", "anon "),
        ] {
            let folder = Path::new(base).join(&name);
            if std::fs::create_dir(&folder).is_err() {
                continue;
            }
            let group = Self { folder, used };
            let limit = group.folder.join(limit);
            let bounded = bytes.is_none_or(|bytes| std::fs::write(limit, bytes.to_string()).is_ok());
            if bounded && used_bytes(&group.folder, used).is_some() {
                return Some(group);
            }
        }
        None
    }

    /// A command that runs `program` inside.
    pub(crate) fn command(&self, program: &Path) -> Command {
        // The shell joins the group and becomes the program, so that nothing of it is counted elsewhere.
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
        command.arg(self.folder.join("cgroup.procs")).arg(program);
        command
    }

    /// Watches the use until it is asked for.
    pub(crate) fn watch(&self) -> Peak {
        let peak = Peak::default();
        let (bytes, stop) = (peak.bytes.clone(), peak.stop.clone());
        let (folder, used) = (self.folder.clone(), self.used);
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                bytes.fetch_max(used_bytes(&folder, used).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        peak
    }
}

/// Bytes in use, the page cache left out.
fn used_bytes(folder: &Path, used: &str) -> Option<u64> {
    let text = std::fs::read_to_string(folder.join("memory.stat")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(used))?.trim().parse().ok()
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last process may still be on its way out.
        for _ in 0..50 {
            if std::fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The most that was in use.
#[derive(Default)]
pub(crate) struct Peak {
    bytes: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Peak {
    /// In MiB.
    pub(crate) fn mib(&self) -> f64 {
        self.bytes.load(Ordering::Relaxed) as f64 / f64::from(1 << 20)
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
