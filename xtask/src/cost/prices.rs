//! The price file: the few lines of TOML that it is made of.

use crate::Outcome;
use std::collections::BTreeMap;

/// List prices, in dollars.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Prices {
    pub(super) date: String,
    pub(super) region: String,
    pub(super) put: f64,
    pub(super) get: f64,
    /// Per GB and month, by tier.
    pub(super) s3_gb: [f64; 3],
    pub(super) write_unit: f64,
    pub(super) read_unit: f64,
    pub(super) dynamodb_gb: f64,
    pub(super) cross_zone_gb: f64,
    pub(super) ebs_gb: f64,
}

impl Prices {
    pub(super) fn of(text: &str) -> Outcome<Self> {
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        let mut section = String::new();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = format!("{name}.");
            } else if let Some((name, value)) = line.split_once('=') {
                values.insert(format!("{section}{}", name.trim()), value.trim().to_owned());
            }
        }
        let text = |name: &str| values.get(name).cloned().ok_or_else(|| format!("prices.toml has no {name}"));
        let number = |name: &str| -> Outcome<f64> {
            text(name)?.parse().map_err(|error| format!("prices.toml, {name}: {error}"))
        };
        let tiers = text("s3.storage_gb_month")?;
        let tiers: Vec<f64> = tiers
            .trim_matches(['[', ']'])
            .split(',')
            .map(|one| one.trim().parse().map_err(|error| format!("prices.toml, tiers: {error}")))
            .collect::<Outcome<_>>()?;
        let word = |name| text(name).map(|text| text.trim_matches('"').to_owned());
        Ok(Self {
            date: word("date")?,
            region: word("region")?,
            put: number("s3.put_per_1000")? / 1e3,
            get: number("s3.get_per_1000")? / 1e3,
            s3_gb: tiers.try_into().map_err(|_| "prices.toml: S3 has three tiers of storage".to_owned())?,
            write_unit: number("dynamodb.write_units_per_million")? / 1e6,
            read_unit: number("dynamodb.read_units_per_million")? / 1e6,
            dynamodb_gb: number("dynamodb.storage_gb_month")?,
            cross_zone_gb: number("network.cross_zone_gb")?,
            ebs_gb: number("kafka.ebs_gb_month")?,
        })
    }

    /// A month of so many GB in S3.
    pub(super) fn s3_month(&self, gb: f64) -> f64 {
        let first = gb.min(50_000.0);
        let next = (gb - first).clamp(0.0, 450_000.0);
        let rest = (gb - first - next).max(0.0);
        first * self.s3_gb[0] + next * self.s3_gb[1] + rest * self.s3_gb[2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_file_is_read_and_tiers_add_up() {
        let prices = Prices::of(include_str!("prices.toml")).unwrap();
        assert_eq!((prices.put, prices.read_unit), (0.005 / 1e3, 0.125 / 1e6));
        assert!((prices.s3_month(60_000.0) - (50_000.0 * 0.023 + 10_000.0 * 0.022)).abs() < 1e-6);
        assert!(Prices::of("date = 1").unwrap_err().contains("s3.storage_gb_month"));
    }
}
