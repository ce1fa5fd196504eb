//! Values that people write: spans of time, sizes, keys' encodings, names of tables.

use nacre_types::{NamespaceName, TableName};
use std::fmt;
use std::str::FromStr;

/// A span of whole seconds: `45s`, `30m`, `12h`, `30d`, `2w`; a plain number is seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) u64);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match &text[digits.len()..] {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            "w" => 604_800,
            other => return Err(format!("{other}: expected a number with s, m, h, d or w, as in 30d")),
        };
        let number: u64 = digits.parse().map_err(|_| "expected a number with s, m, h, d or w, as in 30d")?;
        number.checked_mul(unit).map(Self).ok_or_else(|| "too long".to_owned())
    }
}

/// A span of time, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpanOrNone {
    /// `none`: the setting is taken away.
    None,
    /// So long.
    Span(Span),
}

impl FromStr for SpanOrNone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self::None) } else { text.parse().map(Self::Span) }
    }
}

impl SpanOrNone {
    /// In seconds.
    pub(crate) fn seconds(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Span(span) => Some(span.0),
        }
    }
}

/// A number of bytes: `512MiB`, `2GiB`, `100MB`; a plain number is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            other => return Err(format!("{other}: expected a number with KiB, MiB, GiB, KB, MB or GB")),
        };
        let number: u64 = digits.parse().map_err(|_| "expected a size, as in 512MiB")?;
        number.checked_mul(unit).map(Self).ok_or_else(|| "too large".to_owned())
    }
}

/// A table, with its namespace: `namespace/table`, or a table of `default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableArgument {
    pub(crate) namespace: NamespaceName,
    pub(crate) table: TableName,
}

impl FromStr for TableArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, table) = text.split_once('/').unwrap_or(("default", text));
        Ok(Self {
            namespace: NamespaceName::new(namespace).map_err(|error| error.detail().to_owned())?,
            table: TableName::new(table).map_err(|error| error.detail().to_owned())?,
        })
    }
}

impl fmt::Display for TableArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.table)
    }
}

/// Bytes for people: three digits and a binary unit.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if number < 1_024 {
        return format!("{number} B");
    }
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut rest = number as f64 / 1_024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().unwrap_or(&"");
    while rest >= 1_000.0 {
        let Some(next) = units.next() else { break };
        rest /= 1_024.0;
        unit = next;
    }
    let digits = if rest < 10.0 { 2 } else { usize::from(rest < 100.0) };
    format!("{rest:.digits$} {unit}")
}

/// A count for people: digits in groups of three.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_have_units() {
        for (text, seconds) in
            [("45", 45), ("45s", 45), ("2m", 120), ("12h", 43_200), ("30d", 2_592_000), ("2w", 1_209_600)]
        {
            assert_eq!(text.parse(), Ok(Span(seconds)), "{text}");
        }
        for bad in ["", "d", "-1s", "1y", "1.5h", "99999999999999999999", "18446744073709551615w"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
        assert_eq!("none".parse(), Ok(SpanOrNone::None));
        for (text, size) in [("7", 7), ("1KiB", 1_024), ("2gib", 2 << 30), ("3MB", 3_000_000)] {
            assert_eq!(text.parse(), Ok(Size(size)), "{text}");
        }
        assert!("1TB".parse::<Size>().is_err());
    }

    #[test]
    fn a_table_without_a_namespace_is_one_of_default() {
        let table: TableArgument = "orders".parse().unwrap();
        assert_eq!(table.to_string(), "default/orders");
        let table: TableArgument = "shop/orders".parse().unwrap();
        assert_eq!((table.namespace.as_str(), table.table.as_str()), ("shop", "orders"));
        for bad in ["", "a/b/c", "/a", "a/", "A", "a b"] {
            assert!(bad.parse::<TableArgument>().is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_shown_for_people() {
        assert_eq!(
            [0, 1_023, 1_024, 1_536, 10 << 20, 999 << 30].map(bytes),
            ["0 B", "1023 B", "1.00 KiB", "1.50 KiB", "10.0 MiB", "999 GiB"]
        );
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }
}
