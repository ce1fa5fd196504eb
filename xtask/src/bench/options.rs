//! The few flags of a benchmark: `--name value`, numbers with k, M or G behind them.

use crate::Outcome;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What was said on the command line. Every value must be asked for by the benchmark, so a mistyped flag is told.
pub(crate) struct Options {
    given: BTreeMap<String, String>,
}

impl Options {
    /// Takes `--name value` pairs and `--name` alone, which stands for `yes`.
    pub(crate) fn parse(words: &[&str]) -> Outcome<Self> {
        let mut given = BTreeMap::new();
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or_else(|| format!("{word:?}: expected --flag"))?;
            let value = match words.peek() {
                Some(value) if !value.starts_with("--") => words.next().copied().unwrap_or("yes"),
                _ => "yes",
            };
            given.insert(name.to_owned(), value.to_owned());
        }
        Ok(Self { given })
    }

    /// A text.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.given.remove(name)
    }

    /// A path.
    pub(crate) fn path(&mut self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// Whether `--name` was said.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        self.given.remove(name).is_some()
    }

    /// A whole number.
    pub(crate) fn number(&mut self, name: &str, default: u64) -> Outcome<u64> {
        match self.given.remove(name) {
            None => Ok(default),
            Some(text) => {
                number(&text).ok_or_else(|| format!("--{name} {text}: expected a number, as 5 or 8G"))
            }
        }
    }

    /// A number of seconds.
    pub(crate) fn seconds(&mut self, name: &str, default: u64) -> Outcome<Duration> {
        Ok(Duration::from_secs(self.number(name, default)?))
    }

    /// Refuses what nobody asked for.
    pub(crate) fn finish(self) -> Outcome {
        match self.given.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("--{name} is no flag of this benchmark")),
        }
    }
}

fn number(text: &str) -> Option<u64> {
    let (digits, unit) = match text.char_indices().next_back()? {
        (at, 'k' | 'K') => (text.get(..at)?, 1_000),
        (at, 'M') => (text.get(..at)?, 1_000_000),
        (at, 'G') => (text.get(..at)?, 1_000_000_000),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_values_or_stand_alone_and_unknown_ones_are_told() {
        let mut options = Options::parse(&["--rows", "8M", "--quick", "--dir", "/d"]).unwrap();
        assert_eq!(options.number("rows", 1), Ok(8_000_000));
        assert!(options.flag("quick") && !options.flag("slow"));
        assert!(options.finish().unwrap_err().contains("--dir"));
        assert!(Options::parse(&["rows"]).is_err());
        assert_eq!(number("12k"), Some(12_000));
        assert_eq!((number("G"), number("x")), (None, None));
    }
}
