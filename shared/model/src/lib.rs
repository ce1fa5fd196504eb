//! What a table means, in the plainest code possible: the oracle that tests hold every other part against.
//!
//! It keeps every row that was ever given to it, and every read walks all of them. It drops nothing, caches nothing and
//! shares no code with the rest: nothing but `std`. Where it and the engine differ, one of them is wrong.
//!
//! Places in the log, versions of unversioned rows, the moment `now` and the numbers of edits come from the caller, who
//! has them from the system under test; [`Clock`] computes the versions that a partition's log gives.
//!
//! ```
//! use nacre_model::{Model, Position, Read, Settings};
//! let mut model = Model::new(Settings::default());
//! model.put(b"k", 5, Position { generation: 0, offset: 0, index: 0 }, b"v", None);
//! assert_eq!(model.get(b"k", &Read::at(0)).unwrap().value, b"v");
//! ```

#![allow(clippy::panic, reason = "tests alone use it, and a misuse should end them")]

mod clock;
mod model;
mod read;

pub use clock::{Clock, LateRule};
pub use model::{LoadMode, LoadRow, LoadState, Model, Position, Settings};
pub use read::{Found, Read};

#[cfg(test)]
mod tests;
