//! Query strings: strict percent-decoding, every parameter known and given once.

use nacre_types::{Error, Result};
use std::borrow::Cow;

/// The parameters of a request. Each must be taken by [`Query::take`] or a sibling; [`Query::finish`] refuses the rest,
/// so that a misspelt one is not silently ignored.
#[derive(Debug, Default)]
pub struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, [u8]>)>,
    /// What was asked for, to say what would be right.
    known: Vec<&'static str>,
}

impl<'a> Query<'a> {
    /// Takes the raw query apart. A `+` is a space, as every form encoder writes it; a plus sign is `%2B`.
    ///
    /// # Errors
    /// `Invalid` (`query-invalid`): malformed percent-encoding, a parameter that stands twice.
    pub fn parse(raw: Option<&'a str>) -> Result<Self> {
        let mut pairs: Vec<(Cow<'a, str>, Cow<'a, [u8]>)> = Vec::new();
        for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = match percent_decode(name, true)? {
                Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
                Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
            }
            .ok_or_else(|| invalid("the name of a query parameter is not UTF-8"))?;
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(invalid(&format!("the query parameter {name:?} stands twice")));
            }
            if pairs.len() == MOST_PARAMETERS {
                return Err(invalid("the query has more than 32 parameters"));
            }
            pairs.push((name, percent_decode(value, true)?));
        }
        Ok(Self { pairs, known: Vec::new() })
    }

    /// The bytes of a parameter.
    pub fn take(&mut self, name: &'static str) -> Option<Cow<'a, [u8]>> {
        if self.pairs.is_empty() {
            return None;
        }
        self.known.push(name);
        let at = self.pairs.iter().position(|(other, _)| other == name)?;
        Some(self.pairs.swap_remove(at).1)
    }

    /// A parameter that is text.
    ///
    /// # Errors
    /// `Invalid` (`query-invalid`) where it is not UTF-8.
    pub fn take_text(&mut self, name: &'static str) -> Result<Option<String>> {
        self.take(name)
            .map(|bytes| {
                String::from_utf8(bytes.into_owned())
                    .map_err(|_| invalid(&format!("the query parameter {name} is not UTF-8")))
            })
            .transpose()
    }

    /// A parameter that is an integer.
    ///
    /// # Errors
    /// `Invalid` (`query-invalid`).
    pub fn take_i64(&mut self, name: &'static str) -> Result<Option<i64>> {
        self.take_with(name, "an integer from -2^63 to 2^63 - 1", |text| text.parse().ok())
    }

    /// A parameter that is a count.
    ///
    /// # Errors
    /// `Invalid` (`query-invalid`).
    pub fn take_u64(&mut self, name: &'static str) -> Result<Option<u64>> {
        let count = |text: &str| u64::try_from(text.parse::<i64>().ok()?).ok();
        self.take_with(name, "an integer from 0 to 2^63 - 1", count)
    }

    /// A parameter that is `true` or `false`; alone, without a value, it is true.
    ///
    /// # Errors
    /// `Invalid` (`query-invalid`).
    pub fn take_bool(&mut self, name: &'static str) -> Result<bool> {
        let parsed = self.take_with(name, "true or false", |text| match text {
            "true" | "1" | "" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        })?;
        Ok(parsed.unwrap_or(false))
    }

    /// A parameter that `parse` understands; `expected` says what that is.
    ///
    /// # Errors
    /// `Invalid` (`query-invalid`) naming the parameter and `expected`.
    pub fn take_with<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(bytes) = self.take(name) else { return Ok(None) };
        match std::str::from_utf8(&bytes).ok().and_then(parse) {
            Some(value) => Ok(Some(value)),
            None => Err(invalid(&format!(
                "the query parameter {name}={:?} is not {expected}",
                bytes.get(..bytes.len().min(80)).unwrap_or_default().escape_ascii().to_string()
            ))),
        }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Whether any of these is there and was not taken.
    pub fn has_any(&self, names: &[&str]) -> bool {
        self.pairs.iter().any(|(name, _)| names.contains(&&**name))
    }

    /// Refuses what nobody took.
    ///
    /// # Errors
    /// `Invalid` (`query-invalid`) naming one, and those that would be known.
    pub fn finish(self) -> Result<()> {
        let Some((name, _)) = self.pairs.first() else { return Ok(()) };
        let shown: String = name.chars().take(80).collect();
        Err(invalid(&format!(
            "the query parameter {shown:?} is not known here; known are {}",
            if self.known.is_empty() { "none".to_owned() } else { self.known.join(", ") }
        )))
    }
}

const MOST_PARAMETERS: usize = 32;

fn invalid(detail: &str) -> Error {
    Error::invalid(detail).with_code("query-invalid")
}

/// Decodes `%XX`, and `+` to a space if `plus`. What has neither is borrowed.
///
/// # Errors
/// `Invalid` (`percent-encoding`) for a `%` without two hex digits.
pub fn percent_decode(text: &str, plus: bool) -> Result<Cow<'_, [u8]>> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|&b| b == b'%' || (plus && b == b'+')) {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' if plus => out.push(b' '),
            b'%' => {
                let digit = |at: usize| after.get(at).and_then(|&b| char::from(b).to_digit(16));
                let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                    return Err(Error::invalid(
                        "a % is not followed by two hex digits; a literal percent sign is %25",
                    )
                    .with_code("percent-encoding"));
                };
                out.push((high << 4 | low) as u8);
                rest = after.get(2..).unwrap_or_default();
            }
            other => out.push(other),
        }
    }
    Ok(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_are_typed_and_the_unknown_is_named() {
        let mut query = Query::parse(Some("a=1&b=x%20y+z&c&d=%FF&page_sze=3")).unwrap();
        assert_eq!(query.take_i64("a").unwrap(), Some(1));
        assert_eq!(query.take_text("b").unwrap().unwrap(), "x y z");
        assert!(query.take_bool("c").unwrap() && !query.take_bool("absent").unwrap());
        assert_eq!(&*query.take("d").unwrap(), b"\xFF");
        assert_eq!(query.take_u64("page_size").unwrap(), None);
        let error = query.finish().unwrap_err();
        assert!(error.detail().contains("page_sze") && error.detail().contains("page_size"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_a_parameter_is_said() {
        for raw in ["a=%", "a=%4", "a=%zz", "a=1&a=2", "%FF=1"] {
            assert!(Query::parse(Some(raw)).is_err(), "{raw}");
        }
        let error = Query::parse(Some("a=x")).unwrap().take_i64("a").unwrap_err();
        assert!(error.detail().contains('a') && error.detail().contains("integer"));
        assert!(Query::parse(None).unwrap().finish().is_ok());
    }

    proptest! {
        #[test]
        fn no_query_panics(raw in "[a-c=&%+0-9é]{0,60}") {
            if let Ok(mut query) = Query::parse(Some(&raw)) {
                let _ = (query.take_i64("a"), query.take_bool("b"), query.take_text("c"));
                let _ = query.finish();
            }
        }
    }
}
