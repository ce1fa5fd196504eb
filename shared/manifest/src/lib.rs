//! nacre-manifest.
