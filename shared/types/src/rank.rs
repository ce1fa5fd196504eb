//! What orders the rows of one key: rank = (version, origin, position).

use crate::{Generation, Offset, Seq};
use std::fmt;

/// Where a row came from, and where there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// From a load, committed by the edit of this sequence number.
    Loaded(Seq),
    /// From the log.
    Streamed(Generation, Offset),
}

/// Origin and position of a row in one ordered number, as the `rank` column of a segment holds it.
///
/// Bit 62 is set for streamed rows, so that they rank above loaded ones of the same version. Below it a loaded row has
/// the commit sequence of its load (62 bits) and a streamed one the generation (13 bits, 48 to 60) and the offset (48
/// bits). Never negative. The index of a row within its record is not part of it: see [`Rank::index`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(i64);

impl Place {
    /// Below every real place.
    pub const MIN: Self = Self(0);
    /// Above every real place.
    pub const MAX: Self = Self(i64::MAX);
    const STREAMED: i64 = 1 << 62;
    const OFFSET_BITS: u32 = 48;

    /// The place of a row of the load committed at `seq`.
    pub fn loaded(seq: Seq) -> Self {
        Self((seq.0 as i64) & (Self::STREAMED - 1))
    }

    /// The place of the streamed rows of the record at `offset`.
    pub fn streamed(generation: Generation, offset: Offset) -> Self {
        let generation = (i64::from(generation.0) & 0x1FFF) << Self::OFFSET_BITS;
        Self(Self::STREAMED | generation | (offset.0 as i64 & ((1 << Self::OFFSET_BITS) - 1)))
    }

    /// Whether the row came from the log.
    pub fn is_streamed(self) -> bool {
        self.0 & Self::STREAMED != 0
    }

    /// Taken apart.
    pub fn origin(self) -> Origin {
        if self.is_streamed() {
            let generation = Generation((self.0 >> Self::OFFSET_BITS & 0x1FFF) as u16);
            Origin::Streamed(generation, Offset((self.0 & ((1 << Self::OFFSET_BITS) - 1)) as u64))
        } else {
            Origin::Loaded(Seq(self.0 as u64))
        }
    }

    /// The number that is stored.
    pub fn to_i64(self) -> i64 {
        self.0
    }

    /// From the stored number; `None` for a negative one.
    pub fn from_i64(number: i64) -> Option<Self> {
        (number >= 0).then_some(Self(number))
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.origin().fmt(f)
    }
}

/// The rank of a row among the rows of its key; a higher one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// i64 microseconds since the epoch (or a number, where the table says so).
    pub version: i64,
    /// Origin and position.
    pub place: Place,
    /// Which row of its record; 0 for loaded rows and for rows of segments, where the order of the file tells.
    pub index: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streamed_ranks_over_loaded_at_equal_versions() {
        assert!(Place::streamed(Generation(0), Offset(0)) > Place::loaded(Seq((1 << 62) - 1)));
        assert!(
            Place::streamed(Generation(1), Offset(0)) > Place::streamed(Generation(0), Offset((1 << 48) - 1))
        );
        assert!(Place::loaded(Seq(2)) > Place::loaded(Seq(1)));
    }

    #[test]
    fn places_round_trip() {
        for origin in [
            Origin::Loaded(Seq(0)),
            Origin::Loaded(Seq((1 << 62) - 1)),
            Origin::Streamed(Generation(0), Offset(0)),
            Origin::Streamed(Generation(0x1FFF), Offset((1 << 48) - 1)),
        ] {
            let place = match origin {
                Origin::Loaded(seq) => Place::loaded(seq),
                Origin::Streamed(generation, offset) => Place::streamed(generation, offset),
            };
            assert_eq!(place.origin(), origin);
            assert_eq!(Place::from_i64(place.to_i64()), Some(place));
        }
        assert_eq!(Place::from_i64(-1), None);
    }
}
