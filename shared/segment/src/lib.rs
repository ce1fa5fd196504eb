//! nacre-segment.
