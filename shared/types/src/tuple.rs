//! FoundationDB tuple encoding of typed keys.
