//! Which kinds of things met in a history, two by two.

/// What a history had, beyond its plan: it counts only where it really happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Feature {
    Tie,
    LoadTie,
    RowTwiceInLoad,
    Tombstone,
    OwnExpiry,
    Unversioned,
    Batch,
    LateUnderFloor,
    LateUnderTombstone,
    Merge,
    MergeOwnVersions,
    LoadTombstone,
    Replace,
    RepeatedV,
    BelowFloor,
    RowBelowOwnV,
    Prepared,
    Cancelled,
    Revert,
    Seal,
    FlushAfterSeal,
    OldEdition,
    RevertedPutBack,
    Preview,
    Flush,
    Carried,
    Dropped,
    Compaction,
    Restart,
    Crash,
    CrashMidway,
    TwoNodes,
    Trim,
    Partitions,
    Ttl,
    Expired,
    AllVersions,
    OneVersion,
    ThreeVersions,
    SettingsChanged,
    Collected,
    /// Not one of the pairs: only tables with a lateness have it.
    DroppedLate,
    /// Likewise.
    RefusedLate,
}

use Feature::*;

pub const ALL: [(Feature, &str); 41] = [
    (Tie, "tie of streamed rows"),
    (LoadTie, "tie of a load and something else"),
    (RowTwiceInLoad, "key and version twice in one load"),
    (Tombstone, "streamed tombstone"),
    (OwnExpiry, "own expires_at"),
    (Unversioned, "version from the log"),
    (Batch, "several rows in a write"),
    (LateUnderFloor, "late row under a floor"),
    (LateUnderTombstone, "late row under a tombstone"),
    (Merge, "merge load"),
    (MergeOwnVersions, "merge with versions per row"),
    (LoadTombstone, "tombstone in a load"),
    (Replace, "replace load"),
    (RepeatedV, "replace at a V again"),
    (BelowFloor, "replace below a floor"),
    (RowBelowOwnV, "replace with a row below its V"),
    (Prepared, "load left prepared"),
    (Cancelled, "load cancelled"),
    (Revert, "revert"),
    (Seal, "seal"),
    (FlushAfterSeal, "flush after a seal"),
    (OldEdition, "read at an older edition"),
    (RevertedPutBack, "reverted load put back by a read"),
    (Preview, "preview"),
    (Flush, "flush"),
    (Carried, "carried rows"),
    (Dropped, "rows dropped for good"),
    (Compaction, "compaction"),
    (Restart, "restart in order"),
    (Crash, "crash between operations"),
    (CrashMidway, "crash within an operation"),
    (TwoNodes, "two processes"),
    (Trim, "trimmed log"),
    (Partitions, "two partitions"),
    (Ttl, "ttl"),
    (Expired, "something expired"),
    (AllVersions, "max_versions 0"),
    (OneVersion, "max_versions 1"),
    (ThreeVersions, "max_versions 3"),
    (SettingsChanged, "settings changed"),
    (Collected, "garbage collected"),
];

/// The features of one history.
#[derive(Debug, Clone, Copy, Default)]
pub struct Met(pub u64);

impl Met {
    pub fn add(&mut self, feature: Feature) {
        self.0 |= 1 << feature as usize;
    }
    pub fn has(self, feature: Feature) -> bool {
        self.0 & (1 << feature as usize) != 0
    }
}

/// How many histories had both of two features.
#[derive(Debug, Clone)]
pub struct Pairs {
    counts: Vec<[u32; ALL.len()]>,
}

impl Default for Pairs {
    fn default() -> Self {
        Self { counts: vec![[0; ALL.len()]; ALL.len()] }
    }
}

fn cannot_meet(a: Feature, b: Feature) -> bool {
    let initial = [AllVersions, OneVersion, ThreeVersions];
    a != b && initial.contains(&a) && initial.contains(&b)
}

impl Pairs {
    pub fn count(&mut self, met: Met) {
        for (a, _) in ALL {
            for (b, _) in ALL {
                if met.has(a) && met.has(b) {
                    self.counts[a as usize][b as usize] += 1;
                }
            }
        }
    }

    pub fn add(&mut self, other: &Self) {
        for (row, other) in self.counts.iter_mut().zip(&other.counts) {
            for (count, other) in row.iter_mut().zip(other) {
                *count += other;
            }
        }
    }

    /// The pairs that met less often than `minimum`.
    pub fn below(&self, minimum: u32) -> Vec<String> {
        let mut rare = Vec::new();
        for (at, (a, name_a)) in ALL.into_iter().enumerate() {
            for (b, name_b) in ALL.into_iter().skip(at) {
                let count = self.counts[a as usize][b as usize];
                if !cannot_meet(a, b) && count < minimum {
                    rare.push(format!("{count} × {name_a} / {name_b}"));
                }
            }
        }
        rare
    }

    /// The lower triangle: histories that had both; on the diagonal those that had the one.
    pub fn print(&self) {
        print!("{:>36}", "");
        for at in 0..ALL.len() {
            print!("{at:>5}");
        }
        println!();
        for (at, (a, name)) in ALL.into_iter().enumerate() {
            print!("{at:>2} {name:<33}");
            for (b, _) in ALL.into_iter().take(at + 1) {
                print!("{:>5}", short(self.counts[a as usize][b as usize]));
            }
            println!();
        }
    }
}

fn short(count: u32) -> String {
    match count {
        0..=9_999 => count.to_string(),
        _ => format!("{}k", count / 1_000),
    }
}
