//! Rounds, medians and the table that is printed.
//!
//! Machines drift while a benchmark runs, so peers take turns within one run and ratios are taken between neighbours:
//! the median of the rounds' ratios, not the ratio of two medians.

use std::time::Duration;

/// What one measurement came to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// Of whatever is counted.
    pub(crate) per_second: f64,
    /// Milliseconds.
    pub(crate) p50: f64,
    /// Milliseconds.
    pub(crate) p99: f64,
    /// Processor time of the server for one of them, in microseconds: it says what things cost where the machine is
    /// not idle. Not known everywhere.
    pub(crate) cpu: Option<f64>,
}

impl Sample {
    /// From the times that single calls took.
    pub(crate) fn of(mut took: Vec<Duration>, units_per_call: u64, wall: Duration) -> Self {
        took.sort_unstable();
        let at = |share: f64| {
            let index = (took.len() as f64 * share) as usize;
            took.get(index.min(took.len().saturating_sub(1))).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        let units = took.len() as u64 * units_per_call;
        Self {
            per_second: units as f64 / wall.as_secs_f64().max(1e-9),
            p50: at(0.5),
            p99: at(0.99),
            cpu: None,
        }
    }
}

/// The middle one; of an even number the upper.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// All rounds of several contenders that take turns.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    names: Vec<String>,
    samples: Vec<Vec<Sample>>,
}

impl Rounds {
    /// Adds a sample of the contender `name`.
    pub(crate) fn add(&mut self, name: &str, sample: Sample) {
        println!(
            "  {name:<34} {:>12}/s   p50 {:>8.3} ms   p99 {:>8.3} ms   server {} µs",
            grouped(sample.per_second),
            sample.p50,
            sample.p99,
            micros(sample.cpu),
        );
        match self.names.iter().position(|known| known == name) {
            Some(at) => self.samples[at].push(sample),
            None => {
                self.names.push(name.to_owned());
                self.samples.push(vec![sample]);
            }
        }
    }

    fn of(&self, name: &str) -> &[Sample] {
        self.names.iter().position(|known| known == name).map_or(&[], |at| &self.samples[at])
    }

    /// Prints the medians; each contender beside `peer`, if there is one.
    pub(crate) fn print(&self, title: &str, unit: &str, peer: Option<&str>) {
        println!("\n{title} (medians of {} rounds)\n", self.samples.first().map_or(0, Vec::len));
        let against = peer.map_or_else(String::new, |peer| format!(" of {peer}"));
        println!("| | {unit}/s | ratio{against} | p50 ms | p99 ms | p99 ratio | server µs each |");
        println!("|---|---|---|---|---|---|---|");
        let peers = peer.map_or(&[][..], |peer| self.of(peer));
        for (name, samples) in self.names.iter().zip(&self.samples) {
            let ratio = |of: fn(&Sample) -> f64| {
                if peers.is_empty() || Some(name.as_str()) == peer {
                    return "".to_owned();
                }
                let pairs = samples.iter().zip(peers).map(|(own, other)| of(own) / of(other));
                format!("{:.2}", median(pairs))
            };
            println!(
                "| {name} | {} | {} | {:.3} | {:.3} | {} | {} |",
                grouped(median(samples.iter().map(|s| s.per_second))),
                ratio(|s| s.per_second),
                median(samples.iter().map(|s| s.p50)),
                median(samples.iter().map(|s| s.p99)),
                ratio(|s| s.p99),
                micros(samples.iter().map(|s| s.cpu).collect::<Option<Vec<_>>>().map(median)),
            );
        }
        println!();
    }
}

fn micros(cpu: Option<f64>) -> String {
    cpu.map_or_else(|| "?".to_owned(), |cpu| format!("{cpu:.2}"))
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_medians_are_of_the_sorted_values() {
        let took = (1..=100).rev().map(Duration::from_millis).collect();
        let sample = Sample::of(took, 10, Duration::from_secs(2));
        assert_eq!((sample.per_second, sample.p50, sample.p99), (500.0, 51.0, 100.0));
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(grouped(1_234_567.4), "1,234,567");
        assert_eq!(grouped(12.0), "12");
    }
}
