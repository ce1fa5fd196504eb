//! nacre-model.
