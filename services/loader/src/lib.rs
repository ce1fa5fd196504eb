//! nacre-loader.
