//! TLS for nacre's servers and clients: rustls over ring, certificates in PEM files, and nothing to configure about
//! ciphers.
//!
//! [`Server`] and [`Client`] are made of files. Files are read again every [`REREAD_EVERY`] by whoever runs
//! `keep_fresh`: what changed holds for connections that come after, and files that make no sense leave what was, and are
//! warned about once. So a certificate is renewed by replacing its files, in any order and at any pace.
//!
//! Both sides offer HTTP/2 and HTTP/1.1 (ALPN) and speak TLS 1.2 or 1.3. Mutual TLS, between the roles of one store, is a
//! server with a `client_ca` and a client with a certificate.

mod client;
mod files;
mod server;

pub use client::{Client, ClientFiles, ClientStream};
pub use server::{Server, ServerFiles, ServerStream, is_http2};

use std::time::Duration;

/// How often files are read again.
pub const REREAD_EVERY: Duration = Duration::from_secs(60);
/// Longest handshake.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// What both sides offer, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Makes ring the provider of whoever asks rustls for one without naming it, as HTTP clients of tests do. Does nothing if
/// there is one.
pub fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn protocols() -> Vec<Vec<u8>> {
    PROTOCOLS.iter().map(|name| name.to_vec()).collect()
}
