//! Random numbers: ids that are never minted twice, and jitter.

use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// A source of random numbers.
pub trait Ids: Send + Sync + fmt::Debug {
    /// 128 random bits: an id.
    fn random_u128(&self) -> u128;

    /// 64 random bits.
    fn random_u64(&self) -> u64;
}

/// The operating system's randomness, drawn a page at a time: an id costs no system call.
pub struct SystemIds(Mutex<Pool>);

struct Pool {
    bytes: [u8; Self::SIZE],
    used: usize,
}

impl Pool {
    const SIZE: usize = 2048;

    fn take<const N: usize>(&mut self) -> [u8; N] {
        if self.used + N > Self::SIZE {
            fill(&mut self.bytes);
            self.used = 0;
        }
        let mut out = [0; N];
        let taken = &mut self.bytes[self.used..self.used + N];
        out.copy_from_slice(taken);
        // What was given out does not stay in memory: some of it becomes secrets.
        taken.fill(0);
        self.used += N;
        out
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that asks the operating system")]
#[expect(clippy::panic, reason = "without randomness no id can be minted, and a guessable one loses data")]
fn fill(bytes: &mut [u8]) {
    if let Err(error) = getrandom::fill(bytes) {
        panic!("the operating system gives no random bytes: {error}");
    }
}

impl SystemIds {
    /// An empty pool; it is filled by the first draw.
    pub fn new() -> Self {
        Self(Mutex::new(Pool { bytes: [0; Pool::SIZE], used: Pool::SIZE }))
    }
}

impl Default for SystemIds {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SystemIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemIds")
    }
}

impl Ids for SystemIds {
    fn random_u128(&self) -> u128 {
        u128::from_ne_bytes(self.0.lock().take())
    }

    fn random_u64(&self) -> u64 {
        u64::from_ne_bytes(self.0.lock().take())
    }
}

/// Numbers that repeat with their seed (SplitMix64, Steele, Lea and Flood 2014). For tests and the simulator; nothing
/// secret may come from it.
#[derive(Debug)]
pub struct SeededIds(AtomicU64);

impl SeededIds {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(mix(seed ^ 0x6E61_6372_655F_6964)))
    }
}

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Ids for SeededIds {
    fn random_u128(&self) -> u128 {
        (u128::from(self.random_u64()) << 64) | u128::from(self.random_u64())
    }

    fn random_u64(&self) -> u64 {
        mix(self.0.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn seeded_ids_repeat_with_the_seed_and_differ_between_seeds() {
        let draw = |seed| {
            let ids = SeededIds::new(seed);
            (0..100).map(|_| ids.random_u128()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        let all: HashSet<u128> = (0..100).flat_map(draw).collect();
        assert_eq!(all.len(), 10_000);
    }

    #[test]
    fn system_ids_do_not_repeat_across_the_pool_and_across_sources() {
        let (a, b) = (SystemIds::new(), SystemIds::new());
        let mut seen = HashSet::new();
        for _ in 0..1_000 {
            assert!(seen.insert(a.random_u128()) && seen.insert(b.random_u128()));
            assert!(seen.insert(u128::from(a.random_u64())));
        }
        assert!(!seen.contains(&0));
    }
}
