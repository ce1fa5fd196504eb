//! The rows that every store holds: 16-byte keys, values of about 200 bytes of which half compress away.

/// A small, fast, repeatable generator (splitmix64, Steele et al. 2014).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        spread(self.0)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }
}

fn spread(n: u64) -> u64 {
    let mut z = n;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Key number `n`: sixteen hexadecimal digits, so that neighbours in number are far apart in order.
pub fn key(n: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mixed = spread(n ^ 0x5851_F42D_4C95_7F2D);
    std::array::from_fn(|i| DIGITS[(mixed >> (60 - 4 * i) & 15) as usize])
}

/// The value of key number `n` as round `round` wrote it.
pub fn value(n: u64, round: u64) -> Vec<u8> {
    let mut random = Random::new(n.wrapping_mul(31) ^ round << 48);
    let length = 180 + random.below(41) as usize;
    let mut value = Vec::with_capacity(length + 8);
    while value.len() < length / 2 {
        value.extend_from_slice(&random.next().to_le_bytes());
    }
    value.resize(length, b'=');
    value
}

/// The numbers below `count`, in the order of their keys.
pub fn in_key_order(numbers: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut keyed: Vec<([u8; 16], u64)> = numbers.map(|n| (key(n), n)).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, n)| n).collect()
}
