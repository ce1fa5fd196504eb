//! What can happen in a history, and how histories are drawn.

use nacre_types::TableSettings;

pub const MINUTE: i64 = 60 * 1_000_000;
/// The smallest version.
pub const FIRST: i64 = 1_800_000_000_000_000;
/// Between two versions.
pub const STEP: i64 = 10 * MINUTE;
pub const VERSIONS: u8 = 10;
/// Where the clock stands when a history begins.
pub const START: i64 = FIRST + 5 * STEP;
/// Some are prefixes of others; shards split at `b`.
pub const KEYS: [&[u8]; 8] = [b"a", b"a\0", b"aa", b"ab", b"b", b"b\xff", b"ca", b"d"];

pub fn version(number: u8) -> i64 {
    FIRST + i64::from(number) * STEP
}

/// Splitmix64: the same everywhere for ever.
#[derive(Debug, Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// How the table and its processes are set up.
#[derive(Debug, Clone)]
pub struct Setup {
    pub max_versions: u32,
    pub ttl_seconds: Option<u64>,
    pub undo_window_seconds: u64,
    /// Two partitions, one shard in each.
    pub split: bool,
    /// The log is trimmed as soon as it may be.
    pub trims: bool,
    /// A segment per key.
    pub tiny_segments: bool,
    /// How far the second process's clock is off.
    pub skew: i64,
    /// `max_lateness` at first.
    pub lateness_seconds: Option<u64>,
}

impl Setup {
    pub fn settings(&self) -> TableSettings {
        TableSettings {
            max_versions: self.max_versions,
            ttl_seconds: self.ttl_seconds,
            undo_window_seconds: self.undo_window_seconds,
            max_lateness_seconds: self.lateness_seconds,
            ..TableSettings::default()
        }
    }
}

/// A row to write or to load. Its value is given when it is written: no two are equal.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub key: u8,
    pub put: bool,
    /// `None` = given by the log, or the load's.
    pub version: Option<u8>,
    /// Own expiry, like a version.
    pub expires: Option<u8>,
}

#[derive(Debug, Clone)]
pub enum Op {
    Write {
        rows: Vec<Row>,
    },
    Load {
        replace: bool,
        v: u8,
        rows: Vec<Row>,
        segments: u8,
        insist: bool,
        commit: bool,
        pages: u8,
    },
    /// The number picks one of the loads that are in a fitting state.
    Commit {
        which: u8,
    },
    Cancel {
        which: u8,
    },
    Revert {
        which: u8,
    },
    /// Seals what is due.
    Tidy,
    Flush {
        all: bool,
    },
    Compact,
    Restart,
    Crash,
    /// Dies at a write to the store within the next operation.
    Arm {
        writes: u8,
        last_lands: bool,
    },
    Pass {
        micros: i64,
    },
    Settings {
        lower: bool,
        ttl_seconds: Option<u64>,
    },
    Check {
        seed: u64,
    },
    /// Changes `max_lateness`.
    Lateness {
        seconds: Option<u64>,
    },
    /// Deletes what no manifest has named for a minute, and takes the mark for the next time.
    Collect,
    /// Long enough passes that everybody must know the settings, and a changed lateness holds.
    Settle,
}

#[derive(Debug, Clone)]
pub struct Step {
    /// Which process does it.
    pub slot: u8,
    pub op: Op,
}

#[derive(Debug, Clone)]
pub struct History {
    pub setup: Setup,
    pub steps: Vec<Step>,
}

fn row(rng: &mut Rng, keys: u64, unversioned: u64) -> Row {
    Row {
        key: rng.below(keys) as u8,
        put: !rng.chance(20),
        version: (!rng.chance(unversioned)).then(|| rng.below(u64::from(VERSIONS)) as u8),
        expires: rng.chance(18).then(|| rng.below(14) as u8),
    }
}

fn rows(rng: &mut Rng, keys: u64, most: u64, unversioned: u64) -> Vec<Row> {
    let count = 1 + rng.below(most);
    (0..count).map(|_| row(rng, keys, unversioned)).collect()
}

impl History {
    /// The history of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let setup = Setup {
            max_versions: rng.pick(&[0, 1, 1, 3]),
            ttl_seconds: rng.pick(&[None, None, Some(2 * 3_600), Some(1_800), Some(10 * 3_600)]),
            undo_window_seconds: rng.pick(&[0, 900, 3_600, 86_400]),
            split: rng.chance(25),
            trims: rng.chance(40),
            tiny_segments: rng.chance(6),
            skew: rng.pick(&[0, 0, 15_000_000, -15_000_000]),
            lateness_seconds: None,
        };
        let two = rng.chance(45);
        let keys = rng.pick(&[2, 3, 5, 8]);
        let unversioned = rng.pick(&[0, 15, 15, 50]);
        let length = 50 + rng.below(25);
        let mut steps = Vec::new();
        let mut since_check = 0;
        for _ in 0..length {
            let slot = u8::from(two && rng.chance(40));
            let op = op(&mut rng, keys, unversioned);
            // What is armed strikes the next operation: one that writes.
            if matches!(
                op,
                Op::Write { .. } | Op::Load { .. } | Op::Flush { .. } | Op::Compact | Op::Revert { .. }
            ) && rng.chance(5)
            {
                let arm = Op::Arm { writes: rng.below(6) as u8, last_lands: rng.chance(50) };
                steps.push(Step { slot, op: arm });
            }
            steps.push(Step { slot, op });
            since_check += 1;
            if since_check > 2 + rng.below(5) {
                since_check = 0;
                steps.push(Step { slot: 0, op: Op::Check { seed: rng.next() } });
            }
        }
        steps.push(Step { slot: 0, op: Op::Check { seed: rng.next() } });
        let mut history = Self { setup, steps };
        history.collect(&mut Rng(seed ^ 0x6A_09E6_67F3_BCC9));
        history
    }
}

impl History {
    /// In half of the histories garbage is collected now and then, sometimes with something in between.
    fn collect(&mut self, rng: &mut Rng) {
        if rng.chance(50) {
            return;
        }
        for _ in 0..2 + rng.below(4) {
            let at = rng.below(self.steps.len() as u64) as usize;
            let mut ops = vec![Op::Collect, Op::Pass { micros: 2 * MINUTE }];
            if rng.chance(30) {
                ops.push(if rng.chance(50) { Op::Compact } else { Op::Crash });
            }
            if rng.chance(10) {
                ops.push(Op::Arm { writes: rng.below(4) as u8, last_lands: rng.chance(50) });
            }
            ops.extend([Op::Collect, Op::Check { seed: rng.next() }]);
            let slot = self.steps.get(at).map_or(0, |step| step.slot);
            // Another process may take the mark that this one uses.
            let steps = ops.into_iter().map(|op| Step { slot: if rng.chance(80) { slot } else { 0 }, op });
            let steps: Vec<Step> = steps.collect();
            self.steps.splice(at..at, steps);
        }
    }

    /// The history of a seed for a table with `max_lateness`: rows come late now and then, time passes, and what is due
    /// then is flushed and merged.
    pub fn draw_late(seed: u64) -> Self {
        let mut history = Self::draw(seed);
        let mut rng = Rng(!seed);
        history.setup.lateness_seconds = rng.pick(&[Some(600), Some(3_600), Some(3_600), Some(7_200), None]);
        let changes = history.setup.lateness_seconds.is_none() || rng.chance(30);
        let mut insert = |rng: &mut Rng, ops: &[Op]| {
            let at = rng.below(history.steps.len() as u64) as usize;
            let steps = ops.iter().map(|op| Step { slot: 0, op: op.clone() });
            history.steps.splice(at..at, steps);
        };
        for _ in 0..3 + rng.below(4) {
            let pass = Op::Pass { micros: rng.pick(&[12, 25, 75]) * MINUTE };
            let (flush, check) = (Op::Flush { all: true }, Op::Check { seed: rng.next() });
            match rng.chance(70) {
                true => {
                    // Enough runs that a merge is due.
                    let mut ops = Vec::new();
                    for _ in 0..4 {
                        ops.extend([Op::Write { rows: rows(&mut rng, 5, 3, 50) }, flush.clone()]);
                    }
                    // What comes late stays in the tail.
                    let late = Op::Write { rows: rows(&mut rng, 5, 5, 0) };
                    ops.extend([late, pass, Op::Compact, check]);
                    insert(&mut rng, &ops);
                }
                false => insert(&mut rng, &[pass, flush, check]),
            }
        }
        if changes {
            for _ in 0..1 + rng.below(2) {
                let seconds = rng.pick(&[None, Some(600), Some(3_600), Some(7_200)]);
                let settle = if rng.chance(70) { Op::Settle } else { Op::Compact };
                insert(&mut rng, &[Op::Lateness { seconds }, settle]);
            }
        }
        history
    }
}

fn op(rng: &mut Rng, keys: u64, unversioned: u64) -> Op {
    match rng.below(1_000) {
        0..=379 => Op::Write { rows: rows(rng, keys, 4, unversioned) },
        380..=529 => {
            let replace = rng.chance(50);
            let most = if rng.chance(8) { 12 } else { 5 };
            let mut rows = rows(rng, keys, most, if replace { 60 } else { 40 });
            if replace && rng.chance(8) {
                rows.clear();
            }
            if rng.chance(10)
                && let Some(first) = rows.first().copied()
            {
                // The same key and version twice.
                rows.push(Row { put: true, ..first });
            }
            Op::Load {
                replace,
                v: if rng.chance(50) { rng.pick(&[3, 5]) } else { rng.below(u64::from(VERSIONS)) as u8 },
                rows,
                segments: 1 + rng.below(3) as u8,
                insist: rng.chance(70),
                commit: rng.chance(70),
                pages: 1 + rng.below(3) as u8,
            }
        }
        530..=569 => Op::Commit { which: rng.next() as u8 },
        570..=579 => Op::Cancel { which: rng.next() as u8 },
        580..=639 => Op::Revert { which: rng.next() as u8 },
        640..=679 => Op::Tidy,
        680..=809 => Op::Flush { all: rng.chance(70) },
        810..=859 => Op::Compact,
        860..=889 => Op::Restart,
        890..=909 => Op::Crash,
        910..=984 => Op::Pass {
            micros: rng.pick(&[1, 1_000_000, 5 * MINUTE, 10 * MINUTE, 16 * MINUTE, 16 * MINUTE, 70 * MINUTE])
                * if rng.chance(3) { 24 } else { 1 },
        },
        _ => Op::Settings {
            lower: rng.chance(50),
            ttl_seconds: rng.pick(&[None, Some(1_200), Some(7_200), Some(86_400)]),
        },
    }
}
