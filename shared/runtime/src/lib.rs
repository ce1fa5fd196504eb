//! nacre-runtime.
