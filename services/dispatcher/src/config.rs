//! Settings of the server: data alone, the parts that it works with are arguments of [`crate::run`].

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Settings of the server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who may do what.
    pub auth: Auth,
    /// Whether anyone who reaches the address may do anything. Needed to listen beyond loopback without tokens.
    pub anonymous: bool,
    /// Whether it answers for tables at all; else only whether it is well, and its metrics.
    pub answers_rows: bool,
    /// Certificates; with them it speaks TLS and nothing else.
    pub tls: Option<nacre_tls::ServerFiles>,
    /// Time for a request that says none. Longer: fewer 504s while the store is slow, and more requests held meanwhile.
    pub default_deadline: Duration,
    /// Longest time that `nacre-deadline-ms` may ask for.
    pub max_deadline: Duration,
    /// Longest time from a connection's or request's first byte to the end of its headers. Checked about once a second.
    pub header_timeout: Duration,
    /// How long a connection may rest between requests. Keep it above the load balancer's own, or it sends requests
    /// into closing connections.
    pub idle_timeout: Duration,
    /// Longest time for the body of a request; of a file, between two parts of it.
    pub body_timeout: Duration,
    /// How long a client may refuse to take any byte of an answer.
    pub write_timeout: Duration,
    /// How long requests in flight may go on once the server is to stop.
    pub drain_timeout: Duration,
    /// Most connections; each costs a file descriptor and about 20 KB.
    pub max_connections: usize,
    /// Most requests in flight; beyond it requests are refused as overloaded, those of low priority earlier.
    pub max_requests: usize,
    /// Most streams of one HTTP/2 connection.
    pub max_streams: u32,
    /// Longest JSON body that is not a batch, in bytes.
    pub body_bytes: usize,
    /// Longest file put through the API, in bytes.
    pub load_file_bytes: usize,
    /// Most files being put at once; each holds a part of 8 MiB in memory.
    pub max_uploads: usize,
    /// Whether every request is logged (target `nacre::access`), its key hashed.
    pub access_log: bool,
    /// What things cost, for `nacre-cost`.
    pub prices: Prices,
}

/// Who may do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Everybody everything.
    None,
    /// What the access token of a request grants.
    Tokens,
}

/// Prices in billionths of a dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prices {
    /// One GET to the object store. 400 = $0.0004 per thousand.
    pub store_get_nano_usd: u64,
    /// One second of a node's core. 11,000 = about $0.04 an hour.
    pub node_second_nano_usd: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8790)),
            auth: Auth::None,
            anonymous: false,
            answers_rows: true,
            tls: None,
            default_deadline: Duration::from_secs(10),
            max_deadline: Duration::from_secs(60),
            header_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(25),
            max_connections: 10_000,
            max_requests: 2_000,
            max_streams: 256,
            body_bytes: 1 << 20,
            load_file_bytes: 5 << 30,
            max_uploads: 16,
            access_log: false,
            prices: Prices { store_get_nano_usd: 400, node_second_nano_usd: 11_000 },
        }
    }
}
