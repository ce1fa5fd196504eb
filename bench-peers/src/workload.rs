//! What is written, once, in the same order, to every store.

use crate::data::{Random, in_key_order, key, value};

/// One batch of writes that ends in files of its own.
pub struct Layer {
    /// Numbers of the keys, in key order.
    pub numbers: Vec<u64>,
    /// Tells the values of one layer from another's; later layers have larger versions.
    pub round: u64,
    /// A bulk load, or streamed rows.
    pub is_load: bool,
    /// Stays in memory.
    pub stays_in_tail: bool,
}

impl Layer {
    pub fn rows(&self) -> impl Iterator<Item = ([u8; 16], Vec<u8>)> + '_ {
        self.numbers.iter().map(|n| (key(*n), value(*n, self.round)))
    }
}

/// One bulk load of everything.
pub fn one_segment(keys: u64) -> Vec<Layer> {
    vec![Layer { numbers: in_key_order(0..keys), round: 1, is_load: true, stays_in_tail: false }]
}

/// Three loads (all, a third, a tenth of the keys), eight flushed layers of a fiftieth each, and a tail.
pub fn layered(keys: u64, tail: u64) -> Vec<Layer> {
    let mut random = Random::new(7);
    let mut pick = |count: u64, round, is_load, stays_in_tail| {
        let numbers: std::collections::BTreeSet<u64> = (0..count).map(|_| random.below(keys)).collect();
        Layer { numbers: in_key_order(numbers.into_iter()), round, is_load, stays_in_tail }
    };
    let mut layers = one_segment(keys);
    layers.push(pick(keys / 3, 2, true, false));
    layers.push(pick(keys / 10, 3, true, false));
    for round in 4..12 {
        layers.push(pick(keys / 50, round, false, false));
    }
    layers.push(pick(tail, 12, false, true));
    layers
}
