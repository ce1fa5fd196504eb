//! nacre-client.
