//! Integers in JSON: numbers up to 2^53, which every reader holds exactly, strings beyond; both are read.

use serde::de::{Error as _, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, SchemaFormat, Type};
use utoipa::openapi::{KnownFormat, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Largest magnitude that is written as a number.
pub(crate) const EXACT: u64 = 1 << 53;

/// A 64-bit integer of the API: a version, a moment in microseconds, an edition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct I64(pub i64);

impl I64 {
    /// From a count that never comes near 2^63.
    pub fn from_u64(number: u64) -> Self {
        Self(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl Serialize for I64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.unsigned_abs() <= EXACT {
            serializer.serialize_i64(self.0)
        } else {
            serializer.serialize_str(itoa::Buffer::new().format(self.0))
        }
    }
}

impl<'de> Deserialize<'de> for I64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Integer;
        impl Visitor<'_> for Integer {
            type Value = I64;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer from -2^63 to 2^63 - 1, as a number or as a string")
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<I64, E> {
                Ok(I64(number))
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<I64, E> {
                i64::try_from(number)
                    .map(I64)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<I64, E> {
                text.parse().map(I64).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Integer).map_err(D::Error::custom)
    }
}

/// A count: what signed 64-bit integers hold of the unsigned ones, so that every language reads it back.
#[derive(Deserialize)]
#[serde(try_from = "u64")]
struct Count(u64);

impl TryFrom<u64> for Count {
    type Error = &'static str;
    fn try_from(number: u64) -> Result<Self, Self::Error> {
        if i64::try_from(number).is_ok() { Ok(Self(number)) } else { Err("a count is at most 2^63 - 1") }
    }
}

/// For `#[serde(deserialize_with)]` of a field that is a count.
pub(crate) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Count::deserialize(deserializer).map(|count| count.0)
}

/// For `#[serde(deserialize_with)]` of a field that is a count, or null.
pub(crate) fn count_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<Count>::deserialize(deserializer)?.map(|count| count.0))
}

/// For `#[serde(deserialize_with)]` of a field that is counts by name.
pub(crate) fn counts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, u64>, D::Error> {
    let counts = BTreeMap::<String, Count>::deserialize(deserializer)?;
    Ok(counts.into_iter().map(|(name, count)| (name, count.0)).collect())
}

impl PartialSchema for I64 {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .item(
                ObjectBuilder::new()
                    .schema_type(Type::Integer)
                    .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64))),
            )
            .item(ObjectBuilder::new().schema_type(Type::String).pattern(Some("^-?[0-9]+$")))
            .description(Some("An integer; beyond 2^53 a string. Both forms are accepted."))
            .into()
    }
}

impl ToSchema for I64 {
    fn name() -> std::borrow::Cow<'static, str> {
        "Int64".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_2_53_integers_are_strings_and_both_forms_are_read() {
        for (number, text) in [
            (0, "0"),
            (-5, "-5"),
            (1 << 53, "9007199254740992"),
            ((1 << 53) + 1, "\"9007199254740993\""),
            (i64::MIN, "\"-9223372036854775808\""),
            (i64::MAX, "\"9223372036854775807\""),
        ] {
            assert_eq!(serde_json::to_string(&I64(number)).unwrap(), text);
            assert_eq!(serde_json::from_str::<I64>(text).unwrap(), I64(number));
            let other = if text.starts_with('"') { text.replace('"', "") } else { format!("\"{text}\"") };
            assert_eq!(serde_json::from_str::<I64>(&other).unwrap(), I64(number));
        }
        for bad in ["1.5", "1e3", "true", "null", "\"\"", "\"a\"", "9223372036854775808", "[]"] {
            assert!(serde_json::from_str::<I64>(bad).is_err(), "{bad}");
        }
    }
}
