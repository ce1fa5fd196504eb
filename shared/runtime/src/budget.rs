//! How many requests may be sent beyond those that were asked for.

/// Repeats are a share of the requests: each request earns a part of a repeat, up to a small stock. So a store in
/// trouble is asked a few percent more, not several times as much.
#[derive(Debug)]
pub struct Budget {
    /// Thousandths of a repeat.
    stock: u32,
    earned: u32,
    most: u32,
}

const ONE: u32 = 1_000;

impl Budget {
    /// Every request earns so many thousandths of a repeat; at most `most` are kept, and the stock begins full.
    pub fn new(per_thousand: u32, most: u32) -> Self {
        let most = most.saturating_mul(ONE);
        Self { stock: most, earned: per_thousand, most }
    }

    /// A request was asked for.
    pub fn earn(&mut self) {
        self.stock = self.stock.saturating_add(self.earned).min(self.most);
    }

    /// Takes one repeat; `false` = there is none.
    pub fn take(&mut self) -> bool {
        match self.stock.checked_sub(ONE) {
            Some(rest) => {
                self.stock = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_a_share_of_the_requests() {
        let mut budget = Budget::new(30, 5);
        let mut taken = 0;
        for _ in 0..10_000 {
            budget.earn();
            taken += u32::from(budget.take());
        }
        assert!((300..=306).contains(&taken), "{taken}");
        for _ in 0..10_000 {
            budget.earn();
        }
        let burst = (0..100).filter(|_| budget.take()).count();
        assert_eq!(burst, 5);
    }
}
