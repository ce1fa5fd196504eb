//! HAProxy in front of the dispatchers: asks them whether they are ready, and sends a request twice only if it reads.

use crate::Outcome;
use crate::services::free_port;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(10);
/// The configuration that the operations guide shows, with holes for what differs.
const CONFIGURATION: &str = include_str!("../../../deploy/haproxy.cfg");

/// A balancer that runs; stopped when dropped.
pub(crate) struct Balancer {
    child: Child,
    pub(crate) port: u16,
}

impl Balancer {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts it in front of dispatchers at these ports.
pub(crate) fn start(folder: &Path, dispatchers: &[(String, u16)]) -> Outcome<Balancer> {
    let port = free_port()?;
    let servers: String = dispatchers
        .iter()
        .map(|(name, port)| format!("    server {name} 127.0.0.1:{port} check inter 500ms fall 2 rise 1\n"))
        .collect();
    let text = CONFIGURATION
        .replace("    maxconn 20000\n", "    maxconn 4000\n")
        .replace("    bind :80\n", &format!("    bind 127.0.0.1:{port}\n"))
        .replace("    server dispatcher-1 10.0.0.11:8790 check inter 500ms fall 2 rise 1\n", &servers)
        .replace("    server dispatcher-2 10.0.0.12:8790 check inter 500ms fall 2 rise 1\n", "");
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    let child = Command::new("haproxy")
        .arg("-db")
        .arg("-f")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| format!("haproxy: {error}; Debian's package haproxy has it"))?;
    let mut balancer = Balancer { child, port };
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if let Ok(Some(status)) = balancer.child.try_wait() {
            return Err(format!("haproxy ended at its start: {status}"));
        }
        if begun.elapsed() > START {
            return Err("haproxy does not listen".into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(balancer)
}
