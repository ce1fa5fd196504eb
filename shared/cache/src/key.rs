//! The keys of the cache and their hash.

use foyer::{Code, Error as FoyerError};
use nacre_types::SegmentId;
use std::hash::{BuildHasher, Hash, Hasher};
use std::io::{Read, Write};

/// One block of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockKey {
    /// The segment.
    pub segment: SegmentId,
    /// Which of its blocks.
    pub block: u32,
}

impl BlockKey {
    /// Spreads the key over 64 bits. Ids are minted by servers, so nobody outside can choose keys that collide. The
    /// disk's index is kept by this hash: changing it makes an old disk cold, not wrong (the key is compared too).
    #[inline]
    pub(crate) fn spread(&self) -> u64 {
        let id = (self.segment.0 as u64) ^ ((self.segment.0 >> 64) as u64).rotate_left(32);
        let mixed = u128::from(id ^ 0x9E37_79B9_7F4A_7C15)
            * u128::from((u64::from(self.block).wrapping_mul(0xD6E8_FEB8_6659_FD93)) ^ 0xA076_1D64_78BD_642F);
        let folded = (mixed as u64) ^ ((mixed >> 64) as u64);
        (folded ^ (folded >> 32)).wrapping_mul(0xE703_7ED1_A0B4_28DB)
    }
}

impl Hash for BlockKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.spread());
    }
}

/// Takes the hash that [`BlockKey`] computes as it is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KeyHasher(u64);

impl BuildHasher for KeyHasher {
    type Hasher = Self;
    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl Hasher for KeyHasher {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

impl Code for BlockKey {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        writer.write_all(&self.segment.to_bytes()).map_err(FoyerError::io_error)?;
        writer.write_all(&self.block.to_le_bytes()).map_err(FoyerError::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let (mut segment, mut block) = ([0; 16], [0; 4]);
        reader.read_exact(&mut segment).map_err(FoyerError::io_error)?;
        reader.read_exact(&mut block).map_err(FoyerError::io_error)?;
        Ok(Self { segment: SegmentId::from_bytes(segment), block: u32::from_le_bytes(block) })
    }

    fn estimated_size(&self) -> usize {
        20
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn blocks_of_one_segment_spread_over_shards_and_buckets() {
        for segment in [0, 1, u128::MAX, 0x1234_5678_9ABC_DEF0_0FED_CBA9_8765_4321] {
            let hashes: Vec<u64> =
                (0..4_096).map(|block| BlockKey { segment: SegmentId(segment), block }.spread()).collect();
            assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), 4_096);
            for shift in [0, 57] {
                let mut counts = [0; 64];
                hashes.iter().for_each(|hash| counts[(hash >> shift & 63) as usize] += 1);
                assert!(counts.iter().all(|&n| (24..=120).contains(&n)), "{segment:x} {shift} {counts:?}");
            }
        }
    }

    #[test]
    fn segments_of_one_block_number_spread() {
        let hashes: HashSet<u64> = (0..10_000u128)
            .map(|n| BlockKey { segment: SegmentId((n << 64) | (n * 7)), block: 3 }.spread())
            .collect();
        assert_eq!(hashes.len(), 10_000);
    }

    #[test]
    fn keys_round_trip() {
        let key = BlockKey { segment: SegmentId(7 << 100), block: 9 };
        let mut bytes = Vec::new();
        key.encode(&mut bytes).unwrap();
        assert_eq!(bytes.len(), key.estimated_size());
        assert_eq!(BlockKey::decode(&mut &bytes[..]).unwrap(), key);
        assert!(BlockKey::decode(&mut &bytes[..19]).is_err());
    }
}
