//! Where a server listens, and who may reach it.

use nacre_types::{Error, Result};
use std::net::{SocketAddr, ToSocketAddrs};

/// The address that `listen` names.
///
/// A server that asks nobody for a token is for this machine alone: an address beyond loopback is refused unless that is
/// said to be `meant`. (The dispatcher refuses too; here it is told before anything is made.)
///
/// # Errors
/// `Invalid` (`listen-invalid`, `listen-not-loopback`).
pub(super) fn address(listen: &str, meant: bool) -> Result<SocketAddr> {
    let wrong = |why: &str| {
        Error::invalid(format!("listen {listen:?}: {why}; expected host:port")).with_code("listen-invalid")
    };
    let addresses: Vec<SocketAddr> =
        listen.to_socket_addrs().map_err(|error| wrong(&error.to_string()))?.collect();
    // A name may have several, as localhost has. One socket is opened: the first of IPv4, which every client tries.
    let address = addresses.iter().find(|address| address.is_ipv4()).or_else(|| addresses.first());
    let address = *address.ok_or_else(|| wrong("the host has no address"))?;
    if meant || address.ip().is_loopback() {
        return Ok(address);
    }
    Err(Error::invalid(format!(
        "listen {listen}: {address} can be reached from other machines, and everybody there could read, write and drop \
         everything. Add --auth tokens; or, if that is meant, --anonymous"
    ))
    .with_code("listen-not-loopback"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_beyond_this_machine_must_be_meant() {
        for loopback in ["127.0.0.1:0", "[::1]:0", "127.9.9.9:1", "localhost:1"] {
            assert!(address(loopback, false).is_ok(), "{loopback}");
        }
        for beyond in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
            assert_eq!(address(beyond, false).unwrap_err().code(), "listen-not-loopback", "{beyond}");
            assert!(address(beyond, true).is_ok());
        }
        for bad in ["", "8790", "127.0.0.1", "127.0.0.1:99999"] {
            assert_eq!(address(bad, true).unwrap_err().code(), "listen-invalid", "{bad}");
        }
    }
}
