//! nacre-store.
