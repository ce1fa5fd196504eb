//! Identifiers. Random ids are 128 bits from [`nacre_runtime::Ids`](https://docs.rs) and print as 32 hex digits; they
//! are minted by servers and never reused. Numbers that count are plain newtypes.

use crate::{Error, Result};
use std::fmt;

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl $name {
            /// The 16 bytes, big-endian: their order is the ids' order.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// From its 16 bytes.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }

            /// From its 32 hex digits.
            ///
            /// # Errors
            /// `Invalid` for anything else.
            pub fn parse(text: &str) -> Result<Self> {
                if text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                    if let Ok(number) = u128::from_str_radix(text, 16) {
                        return Ok(Self(number));
                    }
                }
                Err(Error::invalid(format!(
                    concat!(stringify!($name), " {:?}: expected 32 lower-case hex digits"), text
                )))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:032x})"), self.0)
            }
        }
    };
}

random_id!(
    /// A table, for ever: a name that is dropped and created again names another table.
    TableId
);
random_id!(
    /// One bulk load.
    LoadId
);
random_id!(
    /// One segment: its object's name ends in it.
    SegmentId
);
random_id!(
    /// One attempt to append an edit. The same bytes are put again under the same id until the outcome is known.
    CommitId
);
random_id!(
    /// One job that makes objects: a compaction, a load's attempt. Object names carry it.
    JobId
);
random_id!(
    /// One record of the log, so that a repeat can be found.
    WriteId
);
random_id!(
    /// One store: what its identity object says.
    StoreId
);
random_id!(
    /// One running process.
    ProcessId
);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number after this one.
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

number!(
    /// Sequence number of an edit in a table log; the first edit is 1, 0 is the empty table.
    Seq(u64)
);
number!(
    /// Place of a record in a partition of the log; the first record is 0. Less than 2^48.
    Offset(u64)
);
number!(
    /// One ordered stream of the log.
    PartitionId(u32)
);
number!(
    /// Generation of a range's assignment to its partition. Less than 2^13.
    Generation(u16)
);
number!(
    /// One shard of a table; unique within the table, never reused.
    ShardId(u32)
);
number!(
    /// How often a log was replaced by another with loss accepted; positions of another incarnation mean nothing.
    LogIncarnation(u32)
);
