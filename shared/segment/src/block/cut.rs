//! A block of some rows of another.

use super::{Block, EXPIRES, PLACES, Parts};
use std::ops::Range;

impl Block {
    /// The rows alone, copied; `None` where there are none, or not so many.
    pub fn cut(&self, rows: Range<usize>) -> Option<Self> {
        if rows.is_empty() || rows.end > self.len() {
            return None;
        }
        let keys: Vec<&[u8]> = rows.clone().map(|i| self.key(i)).collect();
        let versions: Vec<i64> = rows.clone().map(|i| self.version(i)).collect();
        let expires_at: Option<Vec<_>> =
            (self.shape.flags & EXPIRES != 0).then(|| rows.clone().map(|i| self.expires_at(i)).collect());
        let places: Option<Vec<i64>> = (self.shape.flags & PLACES != 0).then(|| {
            self.wide(self.shape.places)[rows.clone()]
                .iter()
                .map(|place| i64::from_le_bytes(*place))
                .collect()
        });
        let values: Vec<_> = rows.map(|i| self.value(i)).collect();
        let parts = Parts {
            keys: &keys,
            versions: &versions,
            expires_at: expires_at.as_deref(),
            places: places.as_deref(),
            values: &values,
        };
        // A part of a block is no larger than the whole, so this is never refused.
        parts.build().ok()
    }
}
