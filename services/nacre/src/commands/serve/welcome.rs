//! What a server says when it is ready: the first line of stdout names its address.

use crate::output::Out;
use nacre_types::Result;
use serde_json::json;
use std::net::SocketAddr;

pub(super) fn say(address: SocketAddr, tls: bool, store: &str, out: &Out) -> Result<()> {
    let api = format!("{}://{address}", if tls { "https" } else { "http" });
    let json = json!({
        "api": api,
        "store": store,
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
    });
    out.result(&json, |_| text(&api, address.port() == 8790 && !tls, store))
}

/// What to try next. Where the address is not the one that the other commands assume, they are told it.
fn text(api: &str, usual: bool, store: &str) -> String {
    let server = if usual { String::new() } else { format!("export NACRE_SERVER={api}\n  ") };
    format!(
        "nacre {} serves {store} at {api}\n\n\
         Try, in another terminal:\n  \
         {server}nacre table create greetings\n  \
         nacre put greetings en 'hello, world'\n  \
         nacre get greetings en\n  \
         curl {api}/v1/namespaces/default/tables/greetings/rows/en\n\n\
         The API: {api}/docs    Every command: nacre --help    Stop: Ctrl-C\n",
        env!("CARGO_PKG_VERSION"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_names_the_address_and_the_next_ones_what_to_try() {
        let usual = text("http://127.0.0.1:8790", true, "file:./nacre-data");
        assert!(usual.lines().next().unwrap().ends_with("at http://127.0.0.1:8790"));
        assert!(!usual.contains("NACRE_SERVER"));
        assert!(
            text("http://127.0.0.1:1", false, "memory:").contains("export NACRE_SERVER=http://127.0.0.1:1")
        );
    }
}
