//! The conformance suite of catalogs.
