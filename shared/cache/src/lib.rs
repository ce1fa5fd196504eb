//! nacre-cache.
