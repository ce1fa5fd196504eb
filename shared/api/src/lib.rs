//! nacre-api.
