//! Names of namespaces and tables.

use crate::{Error, Result, limits};
use std::fmt;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $code:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks `[a-z0-9][a-z0-9_-]{0,127}`.
            ///
            /// # Errors
            /// `Invalid`.
            pub fn new(text: &str) -> Result<Self> {
                let mut bytes = text.bytes();
                let first = bytes.next().is_some_and(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9'));
                let rest = bytes.all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
                if first && rest && text.len() <= limits::NAME_BYTES {
                    return Ok(Self(text.into()));
                }
                let shown: String = text.chars().take(140).collect();
                Err(Error::invalid(format!(
                    concat!($what, " name {:?} is not of the form [a-z0-9][a-z0-9_-]{{0,127}}"), shown
                ))
                .with_code($code))
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name!(
    /// The name of a namespace.
    NamespaceName, "namespace", "namespace-name-invalid"
);
name!(
    /// The name of a table within its namespace.
    TableName, "table", "table-name-invalid"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_pattern() {
        for good in ["a", "0", "orders", "a_b-c", &"x".repeat(128)] {
            assert!(TableName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "_a", "-a", "A", "a b", "ä", "a/b", "a.b", &"x".repeat(129)] {
            assert_eq!(TableName::new(bad).unwrap_err().code(), "table-name-invalid", "{bad}");
        }
    }
}
