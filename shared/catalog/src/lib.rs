//! nacre-catalog.
