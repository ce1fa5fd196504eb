//! The filter over a segment's keys: binary fuse filters with fingerprints of 8 bits, one per shard of about 64 Ki keys.
//!
//! **Why not a blocked bloom filter.** At 12 to 13 bits a key a bloom filter of 64-byte blocks lets 0.6 to 1 % of absent
//! keys through and costs one cache miss to ask. A binary fuse filter (Graf and Lemire, *Binary Fuse Filters: Fast and
//! Smaller Than Xor Filters*, 2022) needs 9.0 to 9.6 bits for 0.39 %. Filters are four fifths of an index, indexes are
//! what a node keeps in memory for every segment, and what passes by mistake is a block fetched and decoded for
//! nothing, in the worst case a GET. So a quarter less memory and half the needless reads are worth three loads instead of
//! one; the three do not depend on each other, so a core waits for them together.
//!
//! **Why shards.** A fuse filter is built over all keys at once and its tables take 12 times the bytes of the result.
//! Cut by the leading bits of the hash into shards of 64 Ki keys, a build needs 2 MB besides the hashes themselves
//! (8 bytes a key), which stay in the second-level cache; a shard that fails starts again alone; and an answer touches
//! one stretch of 75 KB.
//!
//! **Safety.** A filter may err only towards "maybe": a shard that cannot be built (64 seeds failed, which nobody has
//! seen) or that cannot be read says "maybe" to everything.
//!
//! Stored: per shard a descriptor of 12 bytes (offset of its fingerprints u32, segment count u32, log2 of the segment
//! length u8, kind u8, seed number u16), then all fingerprints.

use nacre_types::{Error, Result};

const SHARD_KEYS: usize = 1 << 16;
const SEEDS: u16 = 64;
pub(crate) const DESCRIPTOR: usize = 12;

const KIND_EMPTY: u8 = 0;
const KIND_FUSE: u8 = 1;
const KIND_MAYBE: u8 = 2;

/// The shape of one shard's table: `count` overlapping windows of three segments of `1 << log2` slots.
#[derive(Clone, Copy)]
struct Shape {
    count: u32,
    log2: u8,
}

impl Shape {
    fn for_keys(keys: usize) -> Self {
        // The constants are the paper's, found by experiment.
        let n = keys.max(2) as f64;
        let log2 = (n.ln() / 3.33_f64.ln() + 2.25).floor().clamp(2.0, 18.0) as u8;
        let factor = (0.875 + 0.25 * 1_000_000_f64.ln() / n.ln()).max(1.125);
        let slots = (n * factor).round() as u32;
        Self { count: slots.div_ceil(1 << log2).saturating_sub(2).max(1), log2 }
    }

    fn slots(self) -> usize {
        (self.count as usize + 2) << self.log2
    }

    /// The three slots of a mixed hash.
    #[inline]
    fn places(self, mixed: u64) -> [usize; 3] {
        let length = 1_usize << self.log2;
        let span = u64::from(self.count) << self.log2;
        let first = ((u128::from(mixed) * u128::from(span)) >> 64) as usize;
        let mask = length - 1;
        [
            first,
            (first + length) ^ ((mixed >> 18) as usize & mask),
            (first + 2 * length) ^ (mixed as usize & mask),
        ]
    }
}

/// Murmur's finalizer over hash and seed.
#[inline]
fn mix(hash: u64, seed: u16) -> u64 {
    let mut h = hash.wrapping_add(u64::from(seed).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    h = (h ^ (h >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    h = (h ^ (h >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    h ^ (h >> 33)
}

#[inline]
fn fingerprint(mixed: u64) -> u8 {
    (mixed ^ (mixed >> 32)) as u8
}

#[inline]
fn shard_of(hash: u64, shards: u32) -> usize {
    ((u128::from(hash) * u128::from(shards)) >> 64) as usize
}

/// A built filter: descriptors, then fingerprints.
pub(crate) struct Built {
    pub(crate) shards: u32,
    pub(crate) descriptors: Vec<u8>,
    pub(crate) fingerprints: Vec<u8>,
}

/// Builds the filter over these hashes.
pub(crate) fn build(mut hashes: Vec<u64>) -> Result<Built> {
    // Sorted, each shard is a stretch of them, and equal hashes (which a fuse filter cannot take) are neighbours.
    hashes.sort_unstable();
    hashes.dedup();
    let shards = u32::try_from(hashes.len().div_ceil(SHARD_KEYS).max(1))
        .map_err(|_| Error::invalid("too many keys for one segment").with_code("segment-too-big"))?;
    let mut built = Built { shards, descriptors: Vec::new(), fingerprints: Vec::new() };
    let mut scratch = Scratch::default();
    let mut rest = &hashes[..];
    for shard in 0..shards as usize {
        let (mine, others) = rest.split_at(rest.partition_point(|h| shard_of(*h, shards) == shard));
        rest = others;
        let offset = u32::try_from(built.fingerprints.len())
            .map_err(|_| Error::invalid("too many keys for one segment").with_code("segment-too-big"))?;
        let shape = Shape::for_keys(mine.len());
        let (kind, seed) = if mine.is_empty() {
            (KIND_EMPTY, 0)
        } else {
            match (0..SEEDS).find(|seed| scratch.peel(mine, shape, *seed)) {
                Some(seed) => {
                    scratch.assign(shape, &mut built.fingerprints);
                    (KIND_FUSE, seed)
                }
                None => (KIND_MAYBE, 0),
            }
        };
        built.descriptors.extend_from_slice(&offset.to_le_bytes());
        built.descriptors.extend_from_slice(&shape.count.to_le_bytes());
        built.descriptors.extend_from_slice(&[shape.log2, kind]);
        built.descriptors.extend_from_slice(&seed.to_le_bytes());
    }
    Ok(built)
}

/// The tables of a build, used again from shard to shard.
#[derive(Default)]
struct Scratch {
    /// Per slot: the XOR of the mixed hashes that use it.
    hashes: Vec<u64>,
    /// Per slot: how many use it, times four, plus the XOR of which of their three slots it is.
    counts: Vec<u8>,
    /// Slots that one hash alone uses.
    alone: Vec<u32>,
    /// Mixed hashes in the order in which they were peeled off, and which slot was theirs alone.
    peeled: Vec<(u64, u8)>,
}

impl Scratch {
    /// Takes hashes off, one that has a slot alone after another, until none is left; `false` if that gets stuck.
    fn peel(&mut self, hashes: &[u64], shape: Shape, seed: u16) -> bool {
        let slots = shape.slots();
        self.hashes.clear();
        self.hashes.resize(slots, 0);
        self.counts.clear();
        self.counts.resize(slots, 0);
        self.alone.clear();
        self.peeled.clear();
        for hash in hashes {
            let mixed = mix(*hash, seed);
            for (which, place) in shape.places(mixed).into_iter().enumerate() {
                let Some(count) = self.counts[place].checked_add(4) else { return false };
                self.counts[place] = count ^ which as u8;
                self.hashes[place] ^= mixed;
            }
        }
        self.alone.extend((0..slots as u32).filter(|slot| self.counts[*slot as usize] >> 2 == 1));
        while let Some(slot) = self.alone.pop() {
            let slot = slot as usize;
            if self.counts[slot] >> 2 != 1 {
                continue;
            }
            let mixed = self.hashes[slot];
            self.peeled.push((mixed, self.counts[slot] & 3));
            for (which, place) in shape.places(mixed).into_iter().enumerate() {
                self.counts[place] = (self.counts[place] - 4) ^ which as u8;
                self.hashes[place] ^= mixed;
                if self.counts[place] >> 2 == 1 {
                    self.alone.push(place as u32);
                }
            }
        }
        self.peeled.len() == hashes.len()
    }

    /// Gives fingerprints in the reverse order, so that each hash finds its own slot still free.
    fn assign(&self, shape: Shape, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + shape.slots(), 0);
        let table = &mut out[start..];
        for (mixed, alone) in self.peeled.iter().rev() {
            let places = shape.places(*mixed);
            let others = places.iter().enumerate().filter(|(which, _)| *which != usize::from(*alone));
            let own = others.fold(fingerprint(*mixed), |xor, (_, place)| xor ^ table[*place]);
            table[places[usize::from(*alone)]] = own;
        }
    }
}

/// Whether a key with this hash may be among those that the stored filter was built over.
#[inline]
pub(crate) fn may_contain(descriptors: &[u8], fingerprints: &[u8], shards: u32, hash: u64) -> bool {
    probe(descriptors, fingerprints, shards, hash).unwrap_or(true)
}

#[inline]
fn probe(descriptors: &[u8], fingerprints: &[u8], shards: u32, hash: u64) -> Option<bool> {
    let at = shard_of(hash, shards) * DESCRIPTOR;
    let descriptor: &[u8; DESCRIPTOR] = descriptors.get(at..)?.first_chunk()?;
    let [o0, o1, o2, o3, c0, c1, c2, c3, log2, kind, s0, s1] = *descriptor;
    match kind {
        KIND_FUSE => {}
        KIND_EMPTY => return Some(false),
        _ => return None,
    }
    let shape = Shape { count: u32::from_le_bytes([c0, c1, c2, c3]), log2: log2.min(31) };
    let table = fingerprints.get(u32::from_le_bytes([o0, o1, o2, o3]) as usize..)?;
    let mixed = mix(hash, u16::from_le_bytes([s0, s1]));
    let [a, b, c] = shape.places(mixed);
    Some(fingerprint(mixed) == *table.get(a)? ^ *table.get(b)? ^ *table.get(c)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(n: u64) -> Vec<u64> {
        (0..n).map(|i| xxhash_rust::xxh3::xxh3_64(&i.to_be_bytes())).collect()
    }

    #[test]
    fn every_key_is_found_and_few_others() {
        for n in [0, 1, 2, 3, 7, 100, 128, 5_000, 65_536, 65_537, 300_000] {
            let keys = hashes(n);
            let built = build(keys.clone()).unwrap();
            let ask = |h| may_contain(&built.descriptors, &built.fingerprints, built.shards, h);
            assert!(keys.iter().all(|h| ask(*h)), "{n}");
            let wrong = hashes(n + 100_000)[n as usize..].iter().filter(|h| ask(**h)).count();
            assert!(wrong < 600, "{wrong} of 100,000 absent keys pass the filter of {n}");
            if n >= 65_536 {
                let bits = built.fingerprints.len() as f64 * 8.0 / n as f64;
                assert!(bits < 10.0, "{bits} bits a key for {n}");
            }
        }
    }

    #[test]
    fn equal_hashes_do_no_harm() {
        let built = build([hashes(1_000), hashes(1_000)].concat()).unwrap();
        assert!(hashes(1_000).iter().all(|h| may_contain(
            &built.descriptors,
            &built.fingerprints,
            built.shards,
            *h
        )));
    }

    #[test]
    fn an_unreadable_filter_says_maybe() {
        let built = build(hashes(1_000)).unwrap();
        for hash in hashes(2_000) {
            assert!(may_contain(&[], &built.fingerprints, 1, hash));
            assert!(may_contain(&built.descriptors, &[], 1, hash));
        }
    }
}
