//! nacre-writer.
