//! The bytes of edits, heads and records.
