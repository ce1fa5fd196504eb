//! nacre-dispatcher.
