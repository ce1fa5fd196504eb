//! Bytes of edits and of snapshots.
//!
//! Both are: version byte, content, CRC-32 of all before it. Numbers are varints, ids 16 bytes, segments packed blocks
//! (`segments/block.rs`), and every kind of change and every state has an ordinal that is never used for anything else.
//! A version or an ordinal that this program does not know is `newer-format`, not corruption: the reader of the table
//! stops, and an operator rolls the program forward.
//!
//! Decoding takes at most a small multiple of the input's length: counts are checked against what is left before
//! anything is allocated, and the words that a block's records share are bounded.

mod changes;
mod edit;
mod parts;
mod settings;
mod snapshot;
pub(crate) mod wire;

use nacre_types::Error;

/// The version of both formats that this program writes.
const VERSION: u8 = 1;
/// The version of a snapshot of a table that has, or had, a source: programs that know no sources stop there.
const WITH_SOURCE: u8 = 2;

/// What was met that a newer program wrote; the detail says what.
fn newer(what: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("{what} is newer than this program knows: update it")).with_code("newer-format")
}
