//! Keys of which a few are asked for most: the n-th most wanted with a probability of 1 / n^exponent.

use crate::bench::clients::Random;

/// Coprime to every number of keys below it: a step of so many visits all of them, hot ones far from one another.
const STEP: u64 = 2_654_435_761;

/// Draws keys.
pub(super) struct Zipf {
    /// How much of all requests the keys up to this rank draw.
    up_to: Vec<f64>,
    are_neighbours: bool,
}

impl Zipf {
    /// `are_neighbours`: the hottest keys are the first ones, side by side; else they lie anywhere.
    pub(super) fn new(keys: u64, exponent: f64, are_neighbours: bool) -> Self {
        let mut sum = 0.0;
        let mut up_to: Vec<f64> = (1..=keys)
            .map(|rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            })
            .collect();
        up_to.iter_mut().for_each(|share| *share /= sum);
        Self { up_to, are_neighbours }
    }

    /// The number of a key.
    pub(super) fn draw(&self, random: &mut Random) -> u64 {
        let share = random.below(1 << 53) as f64 / (1_u64 << 53) as f64;
        let keys = self.up_to.len() as u64;
        let rank = (self.up_to.partition_point(|up_to| *up_to <= share) as u64).min(keys.saturating_sub(1));
        if self.are_neighbours { rank } else { rank.wrapping_mul(STEP) % keys.max(1) }
    }

    /// The share of the requests that the `count` hottest keys draw.
    pub(super) fn share_of(&self, count: u64) -> f64 {
        let at = usize::try_from(count).unwrap_or(usize::MAX).min(self.up_to.len());
        at.checked_sub(1).and_then(|at| self.up_to.get(at)).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hottest_keys_draw_what_the_law_says_and_every_key_has_one_rank() {
        let zipf = Zipf::new(1_000, 1.0, true);
        let harmonic = |count: u64| (1..=count).map(|n| 1.0 / n as f64).sum::<f64>();
        assert!((zipf.share_of(10) - harmonic(10) / harmonic(1_000)).abs() < 1e-9);
        assert_eq!((zipf.share_of(0), zipf.share_of(5_000)), (0.0, 1.0));
        let mut random = Random::new(3);
        let draws = 100_000;
        let hot = (0..draws).filter(|_| zipf.draw(&mut random) < 10).count() as f64 / f64::from(draws);
        assert!((hot - zipf.share_of(10)).abs() < 0.01, "{hot}");

        let apart: std::collections::BTreeSet<u64> = (0..1_000_u64).map(|rank| rank * STEP % 1_000).collect();
        assert_eq!(apart.len(), 1_000);
        let apart = Zipf::new(1_000, 1.0, false);
        assert!((0..1_000).all(|_| apart.draw(&mut random) < 1_000));
    }
}
