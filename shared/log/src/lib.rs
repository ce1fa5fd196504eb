//! nacre-log.
