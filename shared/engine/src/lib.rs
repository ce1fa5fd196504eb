//! nacre-engine.
